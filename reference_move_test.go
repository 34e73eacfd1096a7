package scheduler

import (
	"slices"
	"time"
)

// moveQueue lets everything move that can: reservations end, models that are
// ready serve, and one swap starts, until nothing happens any more (R6, R7).
func (r *reference) moveQueue() {
	for again := true; again; {
		r.unblocked = false
		r.endReservations()
		ranked := r.byRank()
		if r.commits == faultSwapsFirst && r.startOne(ranked) {
			continue
		}
		for _, model := range ranked {
			r.serve(model)
		}
		again = r.startOne(ranked) || r.unblocked
	}
	r.seen = r.host()
}

// lookAt moves one model on, because a request has come for it.
func (r *reference) lookAt(model string) {
	if len(r.waitingFor(model)) == 0 {
		return
	}
	servable, _ := r.servable(model)
	r.serve(model)
	if !servable {
		r.start(model)
	}
}

// serve grants what a ready model can serve. Requests for a model that cannot be
// served at all get the error (R17, R19).
func (r *reference) serve(model string) {
	if r.outstanding(model) != nil || !slices.Contains(r.running(""), model) {
		return
	}
	if err := r.unable(model); err != nil {
		r.failAll(model, err)
		return
	}
	servable, err := r.servable(model)
	if err != nil {
		r.failAll(model, err)
	} else if servable {
		r.grantInOrder(model)
	}
}

// canServe reports whether model may serve one more request, whichever it is.
func (r *reference) canServe(model string) bool {
	servable, err := r.servable(model)
	return servable && err == nil && r.slotFree(model)
}

// servable reports whether model may serve, apart from slots and closing. It does not ask
// about models that are not ready, paused, being loaded or being stopped.
func (r *reference) servable(model string) (bool, error) {
	if !r.ready(model) || r.outstanding(model) != nil {
		return false, nil
	}
	if r.paused(model) && r.commits != faultGrantsPaused {
		return false, nil
	}
	if r.stoppedBy(model) != nil && r.commits != faultEvicted {
		return false, nil
	}
	evict, err := r.ask(model)
	return len(evict) == 0 && err == nil, err
}

// grantInOrder grants the waiting requests of a model in turn as long as there are
// slots. Requests that came after the model was closed are passed over.
func (r *reference) grantInOrder(model string) {
	for r.slotFree(model) {
		q := r.next(model)
		if q == nil {
			break
		}
		r.grant(q)
	}
	r.explainReady(model)
}

// next returns the request for model whose turn it is among those that it is not
// closed to, or nil. Those before it whose callers have left are taken out.
func (r *reference) next(model string) *refRequest {
	for _, q := range r.inTurn(model) {
		if r.closedTo(q) != nil {
			continue
		}
		if !refGone(q.HandlerReq) {
			return q
		}
		r.drop(q)
		return r.next(model) // Its tenant keeps its turn.
	}
	return nil
}

// failAll gives err to every request that waits for model.
func (r *reference) failAll(model string, err error) {
	for _, q := range r.waitingFor(model) {
		r.fail(q, err)
	}
}

// startOne starts the first swap that can start, in the order of R6.
func (r *reference) startOne(ranked []string) bool {
	var order []string
	for _, s := range r.reservations {
		order = append(order, s.model)
	}
	for _, model := range ranked {
		if r.reservationOf(model) == nil {
			order = append(order, model)
		}
	}
	for _, model := range order {
		if r.start(model) {
			return true
		}
		if r.commits == faultBlockedBlocks {
			return false
		}
	}
	return false
}

// start starts the swap for model if R5 allows it: with what the Swapper answers,
// or else with the plan of the model's reservation. If only one swap is in the
// way, that no request waits for, it is cancelled (R14).
func (r *reference) start(model string) bool {
	if r.loading(model) && r.commits != faultSecondSwap {
		return false
	}
	if r.oldest(model) == nil && (r.commits != faultDeadCaller || len(r.waitingFor(model)) == 0) {
		return false
	}
	if r.outstanding(model) != nil && (r.commits != faultSecondSwap || len(r.swaps) > 1) {
		return false
	}
	if err := r.unable(model); err != nil {
		r.failAll(model, err)
		return false
	}
	if r.paused(model) && r.commits != faultSwapsPaused {
		r.explainPaused(model)
		return false
	}
	evict, err := r.ask(model)
	if err != nil {
		r.failAll(model, err)
		return false
	}
	if r.ready(model) && len(evict) == 0 && r.stoppedBy(model) == nil {
		r.explainReady(model)
		return false
	}
	choices := [][]string{evict}
	if s := r.reservationOf(model); s != nil {
		choices = append(choices, r.clean(s.plan, r.running(model)))
	}
	for i, evict := range choices {
		if reason, _ := r.obstacle(model, evict); reason == "" && (i == 0 || r.sufficesYet(model, evict)) {
			return r.startSwap(model, evict)
		}
	}
	for _, evict := range choices {
		r.cancelInTheWay(model, evict)
	}
	r.explain(model, evict)
	return false
}

// obstacle returns why the swap for model may not start, and which models are in its way.
func (r *reference) obstacle(model string, evict []string) (WaitReason, []string) {
	if busy := r.busy(evict); len(busy) > 0 && r.commits != faultEvictsBusy {
		return WaitBusy, busy
	}
	if swaps := r.colliding(model, evict); len(swaps) > 0 && r.commits != faultCollides {
		return WaitSwap, refTargets(swaps)
	}
	if holders := r.hindered(model, evict); len(holders) > 0 && r.commits != faultHinders {
		return WaitReserved, holders
	}
	return "", nil
}

// startSwap starts a swap, unless OnSwapStart panics. A reservation of the model ends.
func (r *reference) startSwap(model string, evict []string) bool {
	running := r.running(model)
	name, tell := "OnSwapStart", func() { r.swapper.OnSwapStart(model, running) }
	if observer, ok := r.swapper.(PlanObserver); ok {
		name, tell = "OnPlanStart", func() { observer.OnPlanStart(model, r.residents(running), slices.Clone(evict)) }
	}
	if err := refQuestion(name, model, tell); err != nil {
		r.failAll(model, err)
		return false
	}
	swap := &refSwap{model: model, evict: evict, start: r.now(), load: !r.ready(model)}
	if swap.load && r.commits != faultNoWriteOff {
		r.writeOff(model)
	}
	if s := r.reservationOf(model); s != nil {
		r.sampleDrains(s)
		r.endReservation(s)
	}
	r.swaps = append(r.swaps, swap)
	r.modelOf(model).touched = true
	r.counters.Swaps++
	r.counters.Evictions += uint64(len(evict))
	clear(r.answers)
	r.said = nil
	r.unblocked = true
	r.eff.StartSwap(model, slices.Clone(evict))
	return true
}

// explain notes why the requests of model wait, whose swap cannot start.
func (r *reference) explain(model string, evict []string) {
	reason, on := r.obstacle(model, evict)
	if r.ready(model) && !r.slotFree(model) {
		reason, on = WaitSlots, []string{model}
	}
	for _, q := range r.waitingFor(model) {
		q.reason, q.on = reason, on
		if holders := r.closedTo(q); holders != nil {
			q.reason, q.on = WaitClosed, holders
		}
	}
}

// explainPaused notes that the requests of model wait because it is paused.
func (r *reference) explainPaused(model string) {
	for _, q := range r.waitingFor(model) {
		q.reason, q.on = WaitPaused, []string{model}
	}
}

// explainReady notes why the requests of a ready model wait.
func (r *reference) explainReady(model string) {
	for _, q := range r.waitingFor(model) {
		switch swap, holders := r.stoppedBy(model), r.closedTo(q); {
		case holders != nil:
			q.reason, q.on = WaitClosed, holders
		case !r.slotFree(model):
			q.reason, q.on = WaitSlots, []string{model}
		case swap != nil:
			q.reason, q.on = WaitSwap, []string{swap.model}
		}
	}
}

// colliding returns the outstanding swaps that a swap for model collides with.
func (r *reference) colliding(model string, evict []string) []*refSwap {
	var swaps []*refSwap
	for _, swap := range r.swaps {
		if refCollide(model, evict, swap.model, swap.evict) {
			swaps = append(swaps, swap)
		}
	}
	return swaps
}

// busy returns the models of evict that have requests in flight, sorted.
func (r *reference) busy(evict []string) []string {
	var busy []string
	for _, model := range evict {
		if r.inFlight(model) > 0 {
			busy = append(busy, model)
		}
	}
	slices.Sort(busy)
	return busy
}

// outstanding returns the outstanding swap for model, abandoned or not, or nil.
func (r *reference) outstanding(model string) *refSwap {
	for _, swap := range r.swaps {
		if swap.model == model {
			return swap
		}
	}
	return nil
}

// stoppedBy returns the outstanding swap that stops model, or nil.
func (r *reference) stoppedBy(model string) *refSwap {
	for _, swap := range r.swaps {
		if slices.Contains(swap.evict, model) {
			return swap
		}
	}
	return nil
}

// ready reports whether the host calls model ready.
func (r *reference) ready(model string) bool {
	state, known := r.eff.ModelState(model)
	return known && state == StateReady
}

// inFlight counts the leases of model that are not written off.
func (r *reference) inFlight(model string) int {
	n := 0
	for _, lease := range r.leases {
		if lease.model == model && !lease.writtenOff {
			n++
		}
	}
	return n
}

// coolingDown returns what is left of the cool-down of model.
func (r *reference) coolingDown(model string) time.Duration {
	m := r.models[model]
	if m == nil || m.failures == 0 || r.opts.Cooldown <= 0 {
		return 0
	}
	return max(0, m.cooling.Sub(r.now()))
}

// modelOf returns the entry of model. It makes one if there is none.
func (r *reference) modelOf(model string) *refModel {
	if r.models[model] == nil {
		r.models[model] = &refModel{}
	}
	return r.models[model]
}

func (r *reference) now() time.Time {
	if r.opts.Now == nil {
		return time.Now()
	}
	return r.opts.Now()
}

// refCollide reports whether two swaps collide.
func refCollide(model string, evict []string, otherModel string, otherEvict []string) bool {
	if slices.Contains(evict, otherModel) || slices.Contains(otherEvict, model) {
		return true
	}
	return slices.ContainsFunc(evict, func(m string) bool { return slices.Contains(otherEvict, m) })
}

// refTargets returns the targets of swaps, sorted.
func refTargets(swaps []*refSwap) []string {
	var targets []string
	for _, swap := range swaps {
		targets = append(targets, swap.model)
	}
	slices.Sort(targets)
	return targets
}
