package scheduler

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// reference is a slow, obvious second implementation of the rules of FIFO, to
// compare the fast one with. It keeps the waiting requests in one flat slice,
// remembers nothing that it can find out, and finds out everything by going
// through all there is. It does not survive a panic of the host.
type reference struct {
	swapper  Swapper
	eff      Effects
	canceler SwapCanceler // eff, where it is one
	opts     FIFOOptions
	commits  fault
	exact    int // how many places are told exactly (R16)

	requests     []*refRequest     // waiting, in order of arrival
	swaps        []*refSwap        // outstanding, in the order of their start
	reservations []*refReservation // standing, in the order of taking
	leases       []*refLease       // not ended, in the order of granting
	models       map[string]*refModel

	arrivals  uint64        // requests that got past the refusals
	lastLease uint64        // its number
	loaded    bool          // some model was loaded
	lastLoad  time.Duration // the latest of any model
	drained   bool          // there was a sample of the drain
	drain     time.Duration
	spent     bool // R14: a swap was cancelled, and no load has served somebody since
	counters  Counters
	shut      error // what OnShutdown got

	answers   map[string]refAnswer // of the Swapper, in this step
	inbox     []func()             // events that are not handled yet
	stepping  bool
	arriving  string // the model of a request that does not wait yet
	unblocked bool   // the queue has to move before the step ends
}

// refRequest is a waiting request.
type refRequest struct {
	HandlerReq
	priority int
	arrival  uint64
	since    time.Time
	told     int // position, -1: none
	reason   WaitReason
	on       []string
}

// refSwap is an outstanding swap.
type refSwap struct {
	model     string
	evict     []string
	start     time.Time
	load      bool // the model was not ready
	abandoned bool
	unloaded  bool          // abandoned by an unload, and not only because nobody waited
	timeout   time.Duration // of the unload
}

// refLease is a grant that has not ended.
type refLease struct {
	number     uint64
	model      string
	writtenOff bool
}

// refModel is what outlasts the requests of a model.
type refModel struct {
	touched    bool // it was loaded or granted
	loaded     bool
	load       time.Duration // its latest, if loaded
	readySince time.Time     // the end of that load
	failures   int           // in a row
	failure    error         // the latest of them
	cooling    time.Time     // until when it cools down, if it has failures
	lastUsed   uint64
}

// newReference makes a reference scheduler. Commits is the fault that it commits
// on purpose, "" for none.
func newReference(swapper Swapper, eff Effects, opts FIFOOptions, commits fault) *reference {
	r := &reference{swapper: swapper, eff: eff, opts: opts, commits: commits, exact: 64}
	r.canceler, _ = eff.(SwapCanceler)
	r.models = make(map[string]*refModel)
	r.answers = make(map[string]refAnswer)
	if r.opts.Patience == 0 {
		r.opts.Patience = 10 * time.Minute
	}
	return r
}

func (r *reference) OnRequest(req HandlerReq) { r.event(func() { r.request(req) }) }

func (r *reference) OnCancel(req HandlerReq) { r.event(func() { r.cancel(req) }) }

func (r *reference) OnSwapDone(ev SwapDone) { r.event(func() { r.swapDone(ev) }) }

func (r *reference) OnServeDone(ev ServeDoneEvent) { r.event(func() { r.serveDone(ev) }) }

func (r *reference) OnUnload(targets []string, timeout time.Duration) {
	targets = slices.Compact(slices.Sorted(slices.Values(targets)))
	r.event(func() { r.unload(targets, timeout) })
}

func (r *reference) OnShutdown(err error) { r.event(func() { r.shutdown(err) }) }

// event handles an event, or keeps it for the end of the present step.
func (r *reference) event(handle func()) {
	r.inbox = append(r.inbox, handle)
	if r.stepping {
		return
	}
	r.stepping = true
	for len(r.inbox) > 0 {
		handle := r.inbox[0]
		r.inbox = r.inbox[1:]
		r.step(handle)
	}
	r.stepping = false
}

// step is one event from the look to the positions.
func (r *reference) step(handle func()) {
	r.unblocked = false
	if r.shut == nil {
		r.look()
	}
	clear(r.answers)
	handle()
	r.endReservations()
	if r.unblocked && r.shut == nil {
		r.moveQueue()
	}
	r.tellPositions()
	clear(r.answers)
}

// request is OnRequest: R2, R3, and what waits.
func (r *reference) request(req HandlerReq) {
	r.counters.Requests++
	if r.shut != nil {
		r.refuse(req, r.shut)
		return
	}
	if r.unblocked { // The look has let something go that held others back.
		r.arriving = req.Model
		r.moveQueue()
		r.arriving = ""
	}
	if refGone(req) {
		r.counters.Cancelled++
		r.eff.GrantError(req, context.Cause(req.Ctx))
		return
	}
	if err := r.refusal(req.Model); err != nil {
		r.refuse(req, err)
		return
	}
	q := &refRequest{HandlerReq: req, arrival: r.arrivals, told: -1}
	if r.opts.Priority != nil {
		q.priority = r.opts.Priority(req)
	}
	if r.servedAtOnce(q) {
		r.arrivals++
		r.grant(q)
		if r.commits == faultAnswersTwice {
			r.requests = append(r.requests, q)
		}
		r.lookAt(req.Model)
		return
	}
	full := r.queueFull()
	if servable, _ := r.servable(req.Model); full && !(servable && r.slotFree(req.Model)) {
		r.explainAnew(req.Model)
		r.refuse(req, &RetryError{Model: req.Model, Err: ErrOverloaded})
		return
	}
	r.arrivals++
	q.since = r.now()
	r.requests = append(r.requests, q)
	r.lookAt(req.Model)
	if full && len(r.requests) > r.opts.MaxQueue && slices.Contains(r.requests, q) { // Those before it have taken the slots.
		r.remove(q)
		r.refuse(req, &RetryError{Model: req.Model, Err: ErrOverloaded})
	}
}

// refusal is the rest of R2, up to the Planner's.
func (r *reference) refusal(model string) error {
	state, known := r.eff.ModelState(model)
	if !known {
		if r.commits == faultKeepsUnknown {
			r.modelOf(model)
		}
		return refNamed(ErrModelNotFound, model)
	}
	if left := r.coolingDown(model); left > 0 && state != StateReady && r.commits != faultNoCooldown {
		return &RetryError{Model: model, After: left, Err: fmt.Errorf("%w: %w", ErrCoolingDown, r.models[model].failure)}
	}
	if k := r.limits(model).Capacity; k > 0 && r.commits != faultNoCapacity {
		r.oldest(model)
		if r.inFlight(model)+len(r.waitingFor(model)) >= k {
			return &RetryError{Model: model, Err: ErrOverloaded}
		}
	}
	if r.outstanding(model) == nil {
		_, err := r.ask(model)
		return err
	}
	return nil
}

// servedAtOnce is R3.
func (r *reference) servedAtOnce(q *refRequest) bool {
	servable, _ := r.servable(q.Model)
	if !servable || !r.slotFree(q.Model) {
		return false
	}
	if r.closedTo(q) != nil && r.commits != faultNewcomers {
		return false
	}
	first := r.first(q.Model)
	return first == nil || r.rank(first, q) > 0
}

// queueFull reports whether MaxQueue is reached.
func (r *reference) queueFull() bool {
	if r.opts.MaxQueue <= 0 || r.commits == faultNoMaxQueue {
		return false
	}
	for _, model := range r.waitingModels() {
		r.oldest(model)
	}
	return len(r.requests) >= r.opts.MaxQueue
}

// cancel is OnCancel: R14.
func (r *reference) cancel(req HandlerReq) {
	if r.shut != nil || req.Respond == nil || r.commits == faultNoCancel {
		return
	}
	for _, q := range slices.Clone(r.requests) {
		if q.Respond == req.Respond {
			r.drop(q)
			r.oldest(q.Model)
			return
		}
	}
}

// swapDone is OnSwapDone.
func (r *reference) swapDone(ev SwapDone) {
	if r.shut != nil {
		return
	}
	swap := r.outstanding(ev.ModelID)
	if swap == nil {
		r.counters.Ignored++
		return
	}
	r.swaps = slices.DeleteFunc(r.swaps, func(s *refSwap) bool { return s == swap })
	r.unblocked = true
	for _, e := range swap.evict {
		if !r.ready(e) {
			r.notReady(e)
		}
	}
	if swap.load && ev.Err == nil && r.ready(swap.model) {
		r.modelOf(swap.model).readySince = r.now()
	}
	switch {
	case swap.abandoned:
		r.abandonedDone(swap, ev)
	case ev.Err != nil:
		r.swapFailed(swap.model, ev.Err)
	case !r.ready(swap.model) && r.commits != faultNotReady:
		r.swapFailed(swap.model, refNamed(ErrNotReady, swap.model))
	default:
		r.swapSucceeded(swap)
	}
}

// abandonedDone is the end of R12: an unload sticks.
func (r *reference) abandonedDone(swap *refSwap, ev SwapDone) {
	if ev.Err != nil || !swap.unloaded || r.oldest(swap.model) != nil || r.commits == faultUnloadFades {
		return
	}
	if _, known := r.eff.ModelState(swap.model); known {
		r.eff.StopProcesses(swap.timeout, []string{swap.model})
	}
}

// swapFailed is R10 and R13.
func (r *reference) swapFailed(model string, err error) {
	r.counters.SwapsFailed++
	m := r.modelOf(model)
	m.failures, m.failure = m.failures+1, err
	if r.opts.Cooldown > 0 {
		times := 1 << min(m.failures-1, 5)
		if r.commits == faultCooldownFlat {
			times = 1
		}
		m.cooling = r.now().Add(time.Duration(times) * r.opts.Cooldown)
	}
	for i, q := range r.waitingFor(model) {
		if i > 0 && r.commits == faultDrops {
			r.remove(q)
			continue
		}
		r.fail(q, err)
	}
}

// swapSucceeded is R4: those who waited for the swap are served, and the Swapper
// is not asked again.
func (r *reference) swapSucceeded(swap *refSwap) {
	m := r.modelOf(swap.model)
	m.failures = 0
	if swap.load {
		m.loaded, m.load = true, r.now().Sub(swap.start)
		r.loaded, r.lastLoad = true, m.load
	}
	if r.commits != faultAsksAgain && r.grantInOrder(swap.model) > 0 {
		r.spent = false
	}
}

// serveDone is OnServeDone: R11.
func (r *reference) serveDone(ev ServeDoneEvent) {
	if r.shut != nil {
		return
	}
	for i, lease := range r.leases {
		named := lease.number == ev.Lease
		if ev.Lease == 0 {
			named = lease.model == ev.ModelID
		}
		if named {
			if r.commits != faultLeaks {
				r.leases = slices.Delete(r.leases, i, i+1)
			}
			r.unblocked = true
			return
		}
	}
	r.counters.Ignored++
}

// unload is OnUnload: R12.
func (r *reference) unload(targets []string, timeout time.Duration) {
	if r.shut != nil {
		return
	}
	for _, q := range slices.Clone(r.requests) {
		if slices.Contains(targets, q.Model) {
			r.fail(q, refNamed(ErrModelUnloaded, q.Model))
		}
	}
	var known []string
	for _, model := range targets {
		r.unloadOne(model, timeout)
		if _, ok := r.eff.ModelState(model); ok {
			known = append(known, model)
		}
	}
	if len(known) > 0 {
		r.eff.StopProcesses(timeout, known)
	}
	r.unblocked = true
}

// unloadOne is what an unload does to the books of one model, and to its swap.
func (r *reference) unloadOne(model string, timeout time.Duration) {
	r.writeOff(model)
	r.notReady(model)
	if m := r.models[model]; m != nil {
		m.failures = 0
	}
	swap := r.outstanding(model)
	if swap == nil {
		return
	}
	swap.unloaded, swap.timeout = true, timeout
	r.abandon(swap)
	if r.commits == faultForgetsAbandoned {
		r.swaps = slices.DeleteFunc(r.swaps, func(s *refSwap) bool { return s == swap })
	}
}

// abandon takes the purpose from a swap that stays on the books.
func (r *reference) abandon(swap *refSwap) {
	if swap.abandoned {
		return
	}
	swap.abandoned = true
	r.counters.SwapsAbandoned++
	if r.canceler != nil {
		r.canceler.CancelSwap(swap.model)
	}
}

// shutdown is OnShutdown: R15.
func (r *reference) shutdown(err error) {
	if r.shut != nil {
		return
	}
	if err == nil {
		err = ErrShutdown
	}
	r.shut = err
	r.reservations = nil
	for _, q := range slices.Clone(r.requests) {
		r.fail(q, err)
	}
}

// refGone reports whether the caller's Ctx is done.
func refGone(req HandlerReq) bool { return req.Ctx != nil && req.Ctx.Err() != nil }

// refNamed wraps err with the name of a model.
func refNamed(err error, model string) error { return fmt.Errorf("%w: %q", err, model) }
