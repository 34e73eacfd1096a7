package scheduler

import (
	"cmp"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// FIFOOptions are the options of a [FIFO]. The zero value is a good default: no
// limits, equal priorities, no cool-down, patience bounded by ten minutes.
//
// Its functions are called on the run-loop goroutine and must not block.
type FIFOOptions struct {
	// Priority returns the priority of a request: higher is served first. It is
	// asked once, when the request arrives. Priorities are meant as a few classes;
	// costs grow with the number of different ones that wait. Nil: all equal.
	Priority func(req HandlerReq) int
	// Limits returns the limits of a model. It is asked whenever they are needed,
	// so they may change. Nil: none.
	Limits func(model string) Limits
	// MaxQueue is how many requests may wait in all, those being loaded for
	// included. The next one that would have to wait is refused with
	// [ErrOverloaded]. 0 or less: no bound.
	MaxQueue int
	// Patience is the upper bound of the time after which a waiting request makes
	// the scheduler reserve for its model, and of the time for which a loaded model
	// is left open to newcomers then. Below it, both follow from how long loads
	// take. 0: ten minutes. Negative: nothing is ever reserved, and a loaded model
	// may keep others waiting for as long as requests come for it.
	Patience time.Duration
	// Cooldown is how long a model whose swap has failed refuses requests with
	// [ErrCoolingDown]. It doubles at each failure in a row, to at most 32 times. 0
	// or less: off.
	Cooldown time.Duration
	// Now is the clock. Nil: time.Now. It must not run backwards.
	Now func() time.Time
}

// Limits bound what one model holds. They are c and K of an M/M/c/K queue.
type Limits struct {
	// Concurrency is how many requests may be in flight; the rest wait. 0 or less:
	// no limit.
	Concurrency int
	// Capacity is how many requests may be in flight and waiting together; the next
	// is refused with [ErrOverloaded]. 0 or less: no limit.
	Capacity int
}

// FIFO is the [Scheduler] of this package. Requests of one model are served by
// priority, then arrival; among models that need a swap the one whose first
// request ranks first is loaded next. A loaded model serves whoever comes for it,
// so that A B C A B C becomes A A B B C C, until another has waited for a few
// times what its load costs: then room is reserved for that one, and the models
// that are in its way are closed to newcomers and drain.
//
// Get one with [NewFIFO]. All methods are for the one run-loop goroutine. It reads
// the clock only while a request waits, a swap is outstanding or a model cools
// down.
type FIFO struct {
	log      *slog.Logger
	swapper  Swapper
	planner  Planner // the swapper, if it is one
	eff      Effects
	canceler SwapCanceler // the effects, if they are one
	opts     FIFOOptions

	models    map[string]*model
	waiting   []*model // that somebody waits for
	queued    int      // requests that wait, in all
	byRespond map[chan HandlerResp]*request
	arrivals  uint64 // requests so far: the latest arrival number
	leases    ledger
	lastLease uint64
	peak      int     // of queued, since it was 0
	swaps     []*swap // outstanding, in the order of their start
	impatient bool    // a swap was cancelled, and no load has served anybody since

	reservations []*reservation // in the order of taking
	without      []intent       // swaps of overdue models that went without one, in this look
	drain        time.Duration
	drainKnown   bool
	latestLoad   time.Duration // of any model
	loadKnown    bool

	listeners int      // waiting requests with a PositionCh
	owed      int      // of these, the ones that have to be told wherever they are
	shifted   bool     // the exact positions may have changed
	newest    *request // that began to wait in this step
	counters  Counters
	down      error // the error of the shutdown

	event    event    // that is handled or, while pending, comes next
	pending  bool     // event is to be handled
	inbox    []event  // that came after it, in order
	outbox   []effect // that are decided and not carried out
	handling bool     // a step is under way
	looked   bool     // the step has had its look
	moving   bool     // the queue has to move before the step ends
	arriving bool     // the request of event is neither answered nor waiting
	priority int      // of that request
	clocked  bool
	clock    time.Time // in this step, if clocked
	loose    []*model  // whose records may have nothing to hold, at the end of the step

	fresh          bool     // running is up to date
	targetsChanged bool     // a swap has started or ended since running was read
	running        []string // every running model, sorted
	seen           []seen   // what RunningModels had
	epoch          uint64   // of the answers that are not stale

	// Memory that is used again.
	was, scratch, plan, inTheWay []string
	order                        []*model
	residents                    []Resident
	cursors                      cursors
}

// NewFIFO makes a FIFO that asks swapper and acts through eff. Name is what it
// calls itself in log lines, and a nil logger discards; ignored events are logged
// at Warn, the rest at Debug. A nil swapper or eff panics: there is no scheduler
// without them.
func NewFIFO(name string, logger *slog.Logger, swapper Swapper, eff Effects, opts FIFOOptions) *FIFO {
	if swapper == nil || eff == nil {
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
	f := &FIFO{
		log:       logger.With("scheduler", name),
		swapper:   swapper,
		eff:       eff,
		opts:      opts,
		models:    make(map[string]*model),
		byRespond: make(map[chan HandlerResp]*request),
		epoch:     1,
	}
	f.planner, _ = swapper.(Planner)
	f.canceler, _ = eff.(SwapCanceler)
	return f
}

// FIFOFactory returns a [Factory] of FIFOs that share swapper and opts. It panics
// if swapper is nil.
func FIFOFactory(swapper Swapper, opts FIFOOptions) Factory {
	if swapper == nil {
		panic("scheduler: FIFOFactory needs a Swapper")
	}
	return func(name string, logger *slog.Logger, eff Effects) Scheduler {
		return NewFIFO(name, logger, swapper, eff, opts)
	}
}

// OnRequest implements [Scheduler].
func (f *FIFO) OnRequest(req HandlerReq) {
	f.receive(requested).req = req
	f.run()
}

// OnCancel implements [Canceler].
func (f *FIFO) OnCancel(req HandlerReq) {
	f.receive(cancelled).req = req
	f.run()
}

// OnSwapDone implements [Scheduler].
func (f *FIFO) OnSwapDone(done SwapDone) {
	ev := f.receive(swapDone)
	ev.req.Model, ev.err = done.ModelID, done.Err
	f.run()
}

// OnServeDone implements [Scheduler].
func (f *FIFO) OnServeDone(done ServeDoneEvent) {
	ev := f.receive(serveDone)
	ev.req.Model, ev.req.Lease = done.ModelID, done.Lease
	f.run()
}

// OnUnload implements [Scheduler].
func (f *FIFO) OnUnload(targets []string, timeout time.Duration) {
	ev := f.receive(unloaded)
	ev.targets, ev.timeout = slices.Compact(slices.Sorted(slices.Values(targets))), timeout
	f.run()
}

// OnShutdown implements [Scheduler].
func (f *FIFO) OnShutdown(err error) {
	if err == nil {
		err = ErrShutdown
	}
	f.receive(shutDown).err = err
	f.run()
}

// cancel handles a caller who has left.
func (f *FIFO) cancel(respond chan HandlerResp) {
	if r := f.byRespond[respond]; r != nil {
		m := r.model
		f.drop(r)
		f.oldest(m) // Nobody may be left but callers who have left too.
	}
}

// swapDone handles the report of a swap. A load that succeeds serves those it was
// made for without another question (R4), and one that fails is their answer (R10).
func (f *FIFO) swapDone(name string, err error) {
	m := f.models[name]
	if m == nil || m.swap == nil {
		f.ignore("swap done", name)
		return
	}
	s := m.swap
	f.pending = true // A question that panics leaves the report to be handled anew.
	f.observe(m)
	for _, e := range s.evict {
		f.observe(e)
	}
	f.now()
	f.pending = false
	f.close(s)
	f.debug("swap done", name, err)
	if err == nil && s.loads && m.state == StateReady {
		m.readySince = f.now()
	}
	if s.abandoned {
		f.abandonedDone(s, err)
		return
	}
	if err == nil && m.state != StateReady {
		err = fmt.Errorf("%w: %q", ErrNotReady, name)
	}
	if err != nil {
		f.counters.SwapsFailed++
		f.cooldown(m, err)
		f.fail(m, err)
		return
	}
	f.loaded(s)
}

// close takes s off the books.
func (f *FIFO) close(s *swap) {
	s.model.swap = nil
	f.release(s.model)
	for _, e := range s.evict { // One that it has not stopped was ready all the while.
		e.leaving = nil
		if e.state != StateReady {
			e.readySince = time.Time{}
		}
		f.release(e)
	}
	f.swaps = slices.DeleteFunc(f.swaps, func(t *swap) bool { return s == t })
	f.changed()
	f.moving = true
}

// loaded handles the success of s.
func (f *FIFO) loaded(s *swap) {
	m := s.model
	m.cooled()
	if s.loads {
		m.load, m.loadKnown = f.now().Sub(s.started), true
		f.latestLoad, f.loadKnown = m.load, true
	}
	if f.serve(m) > 0 {
		f.impatient = false
	}
	f.loadEnded(m)
}

// abandonedDone handles the report of a swap that was abandoned: nothing changes
// but the books, except that an unload sticks (R12).
func (f *FIFO) abandonedDone(s *swap, err error) {
	if err == nil && s.unloaded && f.oldest(s.model) == nil {
		f.owe(effect{kind: stopProcesses, ids: []string{s.model.name}, timeout: s.timeout})
		f.flush()
	}
}

// serveDone handles the end of a lease.
func (f *FIFO) serveDone(name string, lease uint64) {
	if lease == 0 {
		lease = f.oldestLease(name)
	}
	if !f.endLease(lease) {
		f.ignore("serve done", name)
		return
	}
	f.moving = true
}

// unload handles an unload: the answers, the loads, the processes, then the queue
// (R12).
func (f *FIFO) unload(targets []string, timeout time.Duration) {
	f.epoch++
	f.moving = true
	var left []*request
	for _, name := range targets {
		if m := f.models[name]; m != nil {
			left = f.takeAll(m, left)
			m.writeOff(f.lastLease)
			m.cooled()
			m.readySince = time.Time{}
			f.release(m)
		}
	}
	f.failAll(left, func(r *request) error { return fmt.Errorf("%w: %q", ErrModelUnloaded, r.req.Model) })
	for _, name := range targets {
		if m := f.models[name]; m != nil && m.swap != nil {
			m.swap.unloaded, m.swap.timeout = true, timeout
			f.abandon(m.swap)
		}
	}
	f.owe(effect{kind: stopProcesses, ids: targets, timeout: timeout})
	f.flush()
}

// shutdown handles the end: everybody who waits learns it.
func (f *FIFO) shutdown(err error) {
	f.down = err
	var left []*request
	for len(f.waiting) > 0 {
		left = f.takeAll(f.waiting[0], left)
	}
	f.failAll(left, func(*request) error { return err })
	f.flush()
}

// takeAll takes out everybody who waits for m and appends them to left.
func (f *FIFO) takeAll(m *model, left []*request) []*request {
	m.queue.each(func(r *request) {
		f.take(r)
		left = append(left, r)
	})
	return left
}

// failAll owes an error to each of left whose caller is there, in order of arrival.
func (f *FIFO) failAll(left []*request, reason func(*request) error) {
	slices.SortFunc(left, func(a, b *request) int { return cmp.Compare(a.arrival, b.arrival) })
	for _, r := range left {
		if !r.alive() {
			f.counters.Cancelled++
			continue
		}
		f.counters.Failed++
		f.owe(effect{kind: grantError, req: r.req, err: reason(r)})
	}
}

// ignore counts a report that cannot be true.
func (f *FIFO) ignore(what, model string) {
	f.counters.Ignored++
	f.log.Warn("ignored: no such "+what, "model", model)
}
