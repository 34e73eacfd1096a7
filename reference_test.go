package scheduler

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"
)

// reference is a slow, obvious second implementation of the rules of FIFO, to compare the
// fast one with. It keeps the waiting requests in one flat slice. It remembers nothing
// that it can compute, and computes everything by going through all of its data. It does
// not survive a panic in an effect.
type reference struct {
	swapper  Swapper
	eff      Effects
	canceler SwapCanceler // eff, where it is one
	opts     FIFOOptions
	commits  fault
	exact    int // how many of the first are told their exact place (R16)

	requests     []*refRequest     // waiting, in order of arrival
	turns        []refTurn         // of the tenants that wait, in order (R6)
	swaps        []*refSwap        // outstanding, in the order of their start
	reservations []*refReservation // standing, in the order of taking
	leases       []*refLease       // not ended, in the order of granting
	models       map[string]*refModel

	arrivals  uint64        // requests that got past the refusals
	lastLease uint64        // its number
	loaded    bool          // some model was loaded
	lastLoad  time.Duration // the latest of any model
	spent     bool          // R14: a swap was cancelled, and none that a request waited for has succeeded since
	counters  Counters
	shut      error                   // what OnShutdown got
	seen      map[string]ProcessState // what ran when the queue last moved (R19)
	said      map[string]ProcessState // by the host, see host; nil: it has to be asked

	answers   map[string]refAnswer // of the Swapper, in this step
	inbox     []func()             // events that are not handled yet
	stepping  bool
	arriving  string // the model of a request that does not wait yet
	joining   string // the model of a request that is the first to wait for it, and has just begun
	unblocked bool   // the queue has to move before the step ends
}

// refRequest is a waiting request.
type refRequest struct {
	HandlerReq
	priority int
	tenant   string
	arrival  uint64
	since    time.Time
	askAgain time.Time // when it is due once more, if a price has put that off
	overdue  bool      // at the last look
	told     int       // position, -1: none
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
	unloaded  bool          // abandoned by an unload, and not only because no request waited
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
	touched    bool // it was loaded, granted or closed
	loaded     bool
	load       time.Duration // its latest, if loaded
	readySince time.Time     // the end of that load
	drained    bool          // there was a sample of its drain
	drain      time.Duration
	spent      bool      // R14: its swap was cancelled, and none that a request waited for has succeeded since
	failures   int       // in a row
	failure    error     // the latest of them
	cooling    time.Time // until when it cools down, if it has failures
	lastUsed   uint64
}

// newReference makes a reference scheduler. Commits is the fault that it commits on
// purpose, or "" for none.
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
	r.said = nil
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
	if refGone(req) {
		r.counters.Cancelled++
		r.eff.GrantError(req, context.Cause(req.Ctx))
		return
	}
	q := &refRequest{HandlerReq: req, arrival: r.arrivals, told: -1}
	if err := r.refusal(q); err != nil {
		r.refuse(req, err)
		return
	}
	if !r.servedAtOnce(q) {
		r.hasToWait(q)
		return
	}
	r.arrivals++
	r.grant(q)
	if r.commits == faultAnswersTwice {
		r.join(q)
	}
	r.lookAt(req.Model)
}

// refusal is the rest of R2, except MaxQueue. It asks for the priority and the tenant of
// q.
func (r *reference) refusal(q *refRequest) error {
	state, known := r.eff.ModelState(q.Model)
	if !known {
		if r.commits == faultKeepsUnknown {
			r.modelOf(q.Model)
		}
		return refNamed(ErrModelNotFound, q.Model)
	}
	if left := r.coolingDown(q.Model); left > 0 && state != StateReady && r.commits != faultNoCooldown {
		return &RetryError{Model: q.Model, After: left, Err: fmt.Errorf("%w: %w", ErrCoolingDown, r.models[q.Model].failure)}
	}
	limits, err := r.limits(q.Model)
	if err != nil {
		return err
	}
	if r.capacityReached(q.Model, limits.Capacity) {
		r.oldest(q.Model)
		if r.capacityReached(q.Model, limits.Capacity) {
			return r.overloaded(q.Model)
		}
	}
	if err := r.askOf(q); err != nil {
		return err
	}
	if r.outstanding(q.Model) == nil {
		_, err := r.ask(q.Model)
		return err
	}
	return nil
}

// capacityReached reports whether a model holds as many requests as it may.
func (r *reference) capacityReached(model string, k int) bool {
	return k > 0 && r.inFlight(model)+len(r.waitingFor(model)) >= k && r.commits != faultNoCapacity
}

// servedAtOnce is R3. A tenant that begins to wait joins behind the others, so that
// every waiting request of the same priority ranks before q.
func (r *reference) servedAtOnce(q *refRequest) bool {
	if !r.canServe(q.Model) {
		return false
	}
	if r.closedTo(q) != nil && r.commits != faultNewcomers {
		return false
	}
	first := r.first(q.Model)
	switch r.commits {
	case faultNoPriority:
		return first == nil
	case faultLIFO:
		return true
	}
	return first == nil || first.priority < q.priority
}

// hasToWait lets q wait, unless MaxQueue is reached. If something has changed for waiting
// requests, because of the look or silently, the queue moves in order. If there is room,
// q joins it first. Otherwise the queue moves before the decision whether to refuse q
// (R19).
func (r *reference) hasToWait(q *refRequest) {
	if len(r.requests) == 0 { // Nothing waited for earlier changes.
		r.seen = r.host()
	}
	changed := len(r.requests) > 0 && (r.unblocked || r.changedSilently() && r.commits != faultOvertakes)
	if changed && !r.queueHolds(r.opts.MaxQueue) {
		r.join(q)
		r.moveQueue()
		return
	}
	if changed && r.commits != faultMaxQueueFirst {
		r.arriving = q.Model
		r.moveQueue()
		r.arriving = ""
		if _, err := r.ask(q.Model); err != nil && r.outstanding(q.Model) == nil {
			r.refuse(q.HandlerReq, err)
			return
		}
		if r.servedAtOnce(q) {
			r.arrivals++
			r.grant(q)
			return
		}
	}
	if r.queueHolds(r.opts.MaxQueue) && !r.canServe(q.Model) {
		r.refuse(q.HandlerReq, r.overloaded(q.Model))
		return
	}
	if len(r.waitingFor(q.Model)) == 0 {
		r.joining = q.Model
	}
	r.join(q)
	r.lookAt(q.Model)
	r.joining = ""
	if slices.Contains(r.requests, q) && r.queueHolds(r.opts.MaxQueue+1) { // Those before it have taken the slots.
		r.remove(q)
		r.refuse(q.HandlerReq, r.overloaded(q.Model))
	}
}

// changedSilently reports whether the models or states that the host names differ from
// those when the queue last moved.
func (r *reference) changedSilently() bool {
	return !maps.Equal(r.host(), r.seen)
}

// queueHolds reports whether at least n requests wait, if there is a MaxQueue.
func (r *reference) queueHolds(n int) bool {
	if r.opts.MaxQueue <= 0 || len(r.requests) < n || r.commits == faultNoMaxQueue {
		return false
	}
	for _, model := range r.waitingModels() {
		r.oldest(model)
	}
	return len(r.requests) >= n
}

// overloaded is the refusal of a limit that is reached. It says when the model will
// be loaded, if that is known.
func (r *reference) overloaded(model string) error {
	err := &RetryError{Model: model, Err: ErrOverloaded}
	swap, m := r.outstanding(model), r.models[model]
	if swap != nil && swap.load && !swap.abandoned && m != nil && m.loaded && r.commits != faultNoAfter {
		err.After = max(0, m.load-r.now().Sub(swap.start))
	}
	return err
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
