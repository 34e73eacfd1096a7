package scheduler

import (
	"context"
	"log/slog"
	"reflect"
	"slices"
	"time"
)

// FIFOOptions are the options of a [FIFO]. The zero value is a good default: no limits,
// equal priorities, no cool-down, and a Patience of ten minutes.
//
// The functions are called on the run-loop goroutine and must not block. If Priority,
// Tenant or Limits panics, the requests that it was asked about are refused with
// [ErrPolicy], and the scheduler goes on. A panic in Now is fail-stop, like a panic in an
// effect (R17).
type FIFOOptions struct {
	// Priority returns the priority of a request. Among the requests for a model, the
	// highest priority is served first. Priority also decides which model is loaded
	// next, but it does not stop a model that is serving others (R6). It is asked once,
	// when the request arrives. Any number of different priorities is normal: one may
	// stand for a deadline. Nil: all are equal.
	Priority func(req HandlerReq) int
	// Tenant returns whose request it is. Tenants take turns within a model and a
	// priority, so that one with many requests does not make the others wait for all
	// of them. It is asked once, when the request arrives. Any number of tenants is
	// normal: each user may be one. Nil: all requests belong to one tenant.
	Tenant func(req HandlerReq) string
	// Limits returns the limits of a model. It is asked whenever they are needed, so
	// it has to be fast. A host whose limits have changed calls OnUnload without
	// targets, so that the change takes effect at once. Nil: no limits.
	Limits func(model string) Limits
	// MaxQueue is how many requests may wait for all models together, including those
	// that wait for a load. The next one that would have to wait is refused with
	// [ErrOverloaded]. 0 or less: no bound. Under overload, waits then grow without
	// bound unless Capacity bounds them.
	MaxQueue int
	// Patience is an upper bound on two times: how long a request waits before its
	// model takes a reservation, and how long a model in the way of a reservation has
	// to have been ready before it is closed to newcomers. Below that bound, both
	// times follow from how long the models take to load (R8). 0: ten minutes.
	// Negative: there are no reservations, and a loaded model may keep others waiting
	// for as long as requests come for it.
	Patience time.Duration
	// Cooldown is how long a model refuses requests with [ErrCoolingDown] after its
	// swap has failed, unless it is ready. It doubles with each failure in a row, to at
	// most 32 times. A success or an unload clears it. 0 or less: off.
	Cooldown time.Duration
	// Now returns the time, which must not go backwards. Nil: time.Now.
	Now func() time.Time
}

// Limits are the limits of one model. Concurrency and Capacity are c and K of an M/M/c/K
// queue. The zero value is no limits.
type Limits struct {
	// Concurrency is how many requests may be in flight for the model. The rest wait.
	// 0 or less: no limit.
	Concurrency int
	// Capacity is how many requests the scheduler holds for the model, in flight and
	// waiting together. The next one is refused with [ErrOverloaded]. 0 or less: no
	// limit.
	Capacity int
	// Paused: requests for the model wait. None is granted, and no swap starts for
	// the model. Requests in flight go on, and a load that is outstanding goes on too.
	// Other models may still evict this one.
	Paused bool
}

// FIFO is the [Scheduler] of this package. It follows the rules of RULES.md. In short:
// requests for one model are served by priority, then tenants take turns, then by
// arrival. Among the models that need a swap, the one whose first request ranks first is
// loaded next. A loaded model serves every request that comes for it, so A B C A B C
// becomes A A B B C C. When another model has waited for a few times what it costs to
// load, it reserves its place: the models in its way are closed to newcomers, finish
// what they have, and make room.
//
// NewFIFO makes a FIFO; the zero value is not usable. All methods are called on one
// goroutine, the run loop. A FIFO reads the clock only while a request waits, a swap is
// outstanding or a model cools down.
type FIFO struct {
	log      *slog.Logger
	opts     FIFOOptions
	eff      Effects
	canceler SwapCanceler // the effects, if they are one

	models       models
	queue        queue
	positions    positions
	leases       ledger
	swaps        swaps
	running      running
	policy       policy
	prices       prices
	reservations reservations
	deadlines    deadlines
	step         step

	counters Counters
	down     error // of the shutdown; nil: there was none
	scratch  scratch
}

// scratch is memory that is reused. Nothing in it outlives the function that fills it,
// except order and overdue.
type scratch struct {
	lines    []*line
	order    []*model // of rank, for serveReady and startNext
	serving  []*model
	due      []*model
	overdue  []*model // what the latest look found overdue
	without  []intent // of takeReservations
	plan, on []string
	room     room
	names    []string // of waitedForNames, as of begun
	begun    uint64
}

// NewFIFO returns a FIFO that asks swapper and acts through eff. If swapper is a
// [Planner] or eff a [SwapCanceler], it uses that.
//
// The logger may be nil, and name appears in its lines. What happens is logged at Debug,
// ignored reports at Warn, and panics at Error. NewFIFO panics if swapper or eff is nil,
// or holds a nil pointer, function or map.
func NewFIFO(name string, logger *slog.Logger, swapper Swapper, eff Effects, opts FIFOOptions) *FIFO {
	if isNil(swapper) || isNil(eff) {
		panic("scheduler: NewFIFO needs a Swapper and Effects")
	}
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Patience == 0 {
		opts.Patience = 10 * time.Minute
	}
	f := &FIFO{log: logger.With("scheduler", name), opts: opts, eff: eff, models: newModels()}
	f.canceler, _ = eff.(SwapCanceler)
	f.positions = positions{queue: &f.queue, exact: exactPlaces}
	f.running = running{host: eff.RunningModels, swaps: &f.swaps}
	f.policy = policy{swapper: swapper, log: f.log, running: &f.running, swaps: &f.swaps, usage: f.usage, changes: f.usageChanges, epoch: 1}
	f.policy.planner, _ = swapper.(Planner)
	f.policy.observer, _ = swapper.(PlanObserver)
	f.prices = prices{patience: opts.Patience}
	f.step = step{handle: f.handle, fail: f.failStop, clock: opts.Now}
	return f
}

// isNil reports whether v is nil, or a nil pointer or function in an interface.
func isNil(v any) bool {
	if v == nil {
		return true
	}
	switch r := reflect.ValueOf(v); r.Kind() {
	case reflect.Pointer, reflect.Func, reflect.Map:
		return r.IsNil()
	}
	return false
}

// FIFOFactory returns a [Factory] that calls [NewFIFO] with swapper and opts. The FIFOs
// that it makes share swapper. FIFOFactory panics if swapper is nil, as NewFIFO does.
func FIFOFactory(swapper Swapper, opts FIFOOptions) Factory {
	if isNil(swapper) {
		panic("scheduler: FIFOFactory needs a Swapper")
	}
	return func(name string, logger *slog.Logger, eff Effects) Scheduler {
		return NewFIFO(name, logger, swapper, eff, opts)
	}
}

// OnRequest implements [Scheduler].
func (f *FIFO) OnRequest(req HandlerReq) {
	f.step.receive(requested).req = req
	f.step.run()
}

// OnCancel implements [Canceler].
func (f *FIFO) OnCancel(req HandlerReq) {
	f.step.receive(cancelled).req = req
	f.step.run()
}

// OnSwapDone implements [Scheduler].
func (f *FIFO) OnSwapDone(done SwapDone) {
	ev := f.step.receive(swapDone)
	ev.model, ev.err = done.ModelID, done.Err
	f.step.run()
}

// OnServeDone implements [Scheduler].
func (f *FIFO) OnServeDone(done ServeDoneEvent) {
	ev := f.step.receive(serveDone)
	ev.model, ev.lease = done.ModelID, done.Lease
	f.step.run()
}

// OnUnload implements [Scheduler].
func (f *FIFO) OnUnload(targets []string, timeout time.Duration) {
	ev := f.step.receive(unloaded)
	ev.targets, ev.timeout = slices.Compact(slices.Sorted(slices.Values(targets))), timeout
	f.step.run()
}

// OnShutdown implements [Scheduler].
func (f *FIFO) OnShutdown(err error) {
	if err == nil {
		err = ErrShutdown
	}
	f.step.receive(shutDown).err = err
	f.step.run()
}

// handle carries out one event: the look, what the event itself causes, the moves that it
// makes possible, and the places of the requests that go on waiting.
func (f *FIFO) handle(ev *event) {
	f.changed() // The host may have changed something since the last step.
	switch {
	case f.down != nil:
		f.afterShutdown(ev)
	case ev.kind == shutDown:
		f.shutdown(ev.err)
	default:
		f.look()
		f.policy.begin()
		f.dispatch(ev)
		f.settle()
	}
	f.positions.sync()
	f.models.sweep(f.holds)
	if f.queue.waiting == 0 && cap(f.scratch.lines) > roomy { // A long queue has filled it.
		f.forgetOverdue()
		f.scratch = scratch{begun: f.queue.begun}
	}
}

// dispatch hands an event to its rule.
func (f *FIFO) dispatch(ev *event) {
	switch ev.kind {
	case requested:
		f.request(&ev.req)
	case cancelled:
		f.cancel(&ev.req)
	case swapDone:
		f.swapDone(ev.model, ev.err)
	case serveDone:
		f.serveDone(ev.model, ev.lease)
	case unloaded:
		f.unload(ev.targets, ev.timeout)
	}
}

// holds reports whether the scheduler holds anything for m.
func (f *FIFO) holds(m *model) bool {
	return m.line.n > 0 || m.account.live > 0 ||
		f.swaps.of(m.name) != nil || f.swaps.stopping(m.name) != nil ||
		f.reservations.of(m.name) != nil || f.reservations.closing(m.name) != nil
}

// usage says how a running model is used, for a [Planner].
func (f *FIFO) usage(name string) (r Resident) {
	if m := f.models.find(name); m != nil {
		r.InFlight, r.Waiting, r.LastUsed = m.account.inFlight, m.line.n, m.account.lastUsed
	}
	return r
}

// usageChanges grows whenever something changes that usage says.
func (f *FIFO) usageChanges() uint64 { return f.queue.changes + f.leases.changes }

// debug writes a log line, which costs nothing while Debug is off.
func (f *FIFO) debug(msg string, model string, err error) {
	if f.log.Enabled(context.Background(), slog.LevelDebug) {
		f.log.Debug(msg, "model", model, "err", err)
	}
}
