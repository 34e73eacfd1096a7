package scheduler

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// refAnswer is what the Swapper said to one question.
type refAnswer struct {
	evict []string
	err   error
}

// moveQueue lets everybody move on who can: reservations end, models that are
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
}

// lookAt lets one model move on, because a request has come for it.
func (r *reference) lookAt(model string) {
	if len(r.waitingFor(model)) == 0 {
		return
	}
	if servable, _ := r.servable(model); servable {
		r.serve(model)
		r.explainReady(model)
		return
	}
	r.serve(model)
	r.start(model)
}

// serve grants what a ready model can serve. Requests for a model that cannot be
// served at all get the error (R19).
func (r *reference) serve(model string) {
	if r.outstanding(model) != nil {
		return
	}
	if _, known := r.eff.ModelState(model); !known {
		r.failAll(model, refNamed(ErrModelNotFound, model))
		return
	}
	servable, err := r.servable(model)
	if err != nil {
		r.failAll(model, err)
	} else if servable {
		r.grantInOrder(model)
	}
}

// servable reports whether model may serve, but for slots and closing. It does
// not ask about models that are not ready, or are being loaded or stopped.
func (r *reference) servable(model string) (bool, error) {
	if !r.ready(model) || r.outstanding(model) != nil {
		return false, nil
	}
	if r.stoppedBy(model) != nil && r.commits != faultEvicted {
		return false, nil
	}
	evict, err := r.ask(model)
	return len(evict) == 0 && err == nil, err
}

// grantInOrder grants the waiting requests of a model by rank as long as there are
// slots. Who came after the model was closed is passed over. It returns how many
// callers took it.
func (r *reference) grantInOrder(model string) int {
	granted := 0
	for _, q := range r.waitingByRank(model) {
		if !r.slotFree(model) {
			q.reason, q.on = WaitSlots, []string{model}
			continue
		}
		if holders := r.closedTo(q); holders != nil {
			q.reason, q.on = WaitClosed, holders
		} else if refGone(q.HandlerReq) {
			r.drop(q)
		} else if r.grant(q) {
			granted++
		}
	}
	return granted
}

// failAll gives err to everybody who waits for model.
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
// way, that nobody waits for, it is cancelled (R14).
func (r *reference) start(model string) bool {
	if r.oldest(model) == nil && (r.commits != faultDeadCaller || len(r.waitingFor(model)) == 0) {
		return false
	}
	if _, known := r.eff.ModelState(model); !known {
		return false
	}
	if r.outstanding(model) != nil && (r.commits != faultSecondSwap || len(r.swaps) > 1) {
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
	for _, evict := range choices {
		if reason, _ := r.obstacle(model, evict); reason == "" {
			r.startSwap(model, evict)
			return true
		}
	}
	for _, evict := range choices {
		r.cancelInTheWay(model, evict)
	}
	r.explain(model, evict)
	return false
}

// obstacle returns why the swap for model may not start, and who is in its way.
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

// startSwap starts a swap. A reservation of the model ends with it.
func (r *reference) startSwap(model string, evict []string) {
	running := r.running(model)
	swap := &refSwap{model: model, evict: evict, start: r.now(), load: !r.ready(model)}
	if swap.load && r.commits != faultNoWriteOff {
		r.writeOff(model)
	}
	if s := r.reservationOf(model); s != nil {
		r.sampleDrain(s)
		r.endReservation(s)
	}
	r.swaps = append(r.swaps, swap)
	r.modelOf(model).touched = true
	r.counters.Swaps++
	r.counters.Evictions += uint64(len(evict))
	clear(r.answers)
	r.unblocked = true
	r.swapper.OnSwapStart(model, running)
	r.eff.StartSwap(model, slices.Clone(evict))
}

// cancelInTheWay cancels the one swap that keeps the swap for model from starting,
// if nobody waits for it and it has a good part of its way to go (R14).
func (r *reference) cancelInTheWay(model string, evict []string) {
	if r.canceler == nil || r.spent && r.commits != faultCancelsOn || r.commits == faultNeverCancelsSwap {
		return
	}
	swaps := r.colliding(model, evict)
	if len(swaps) != 1 || len(r.busy(evict)) > 0 || len(r.hindered(model, evict)) > 0 {
		return
	}
	swap := swaps[0]
	if swap.abandoned || r.oldest(swap.model) != nil || r.arriving == swap.model {
		return
	}
	if 2*r.now().Sub(swap.start) < r.loadOf(swap.model) {
		r.spent = true
		r.abandon(swap)
	}
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

// explainAnew notes why the requests of model wait, after a look at it that changes
// nothing.
func (r *reference) explainAnew(model string) {
	evict, err := r.ask(model)
	if err != nil || r.outstanding(model) != nil {
		return
	}
	if r.ready(model) && len(evict) == 0 && r.stoppedBy(model) == nil {
		r.explainReady(model)
	} else if reason, _ := r.obstacle(model, evict); reason != "" {
		r.explain(model, evict)
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

// ask asks the Swapper what has to be evicted for target as things are.
func (r *reference) ask(target string) ([]string, error) {
	return r.askAbout(target, r.residents(r.running(target)), "")
}

// askAbout asks the Swapper once for the same target and the same running set (of
// which one may count as loading for the sake of the question), as long as no swap
// starts and the step goes on.
func (r *reference) askAbout(target string, running []Resident, loading string) ([]string, error) {
	var names []string
	for _, m := range running {
		names = append(names, m.Model)
	}
	if _, planner := r.swapper.(Planner); !planner || r.outstanding(loading) != nil {
		loading = ""
	}
	key := fmt.Sprintf("%q %q %q", target, names, loading)
	answer, asked := r.answers[key]
	if !asked {
		if planner, ok := r.swapper.(Planner); ok {
			answer.evict, answer.err = planner.Plan(target, running)
		} else {
			answer.evict = r.swapper.EvictionFor(target, names)
		}
		answer.evict = r.clean(answer.evict, names)
		r.answers[key] = answer
	}
	return answer.evict, answer.err
}

// clean returns the models of an answer that run, each once.
func (r *reference) clean(evict, running []string) []string {
	var clean []string
	for _, model := range evict {
		if slices.Contains(running, model) && !slices.Contains(clean, model) {
			clean = append(clean, model)
		}
	}
	return clean
}

// running returns the running models without target, sorted.
func (r *reference) running(target string) []string {
	set := make(map[string]bool)
	for model, state := range r.eff.RunningModels() {
		set[model] = state != StateStopped && state != StateShutdown
	}
	for _, swap := range r.swaps {
		set[swap.model] = true
	}
	set[target] = false
	maps.DeleteFunc(set, func(_ string, in bool) bool { return !in })
	return slices.Sorted(maps.Keys(set))
}

// residents returns the running models as a Planner sees them.
func (r *reference) residents(running []string) []Resident {
	var residents []Resident
	for _, model := range running {
		m := Resident{
			Model:    model,
			Loading:  r.outstanding(model) != nil,
			Leaving:  r.stoppedBy(model) != nil,
			InFlight: r.inFlight(model),
			Waiting:  len(r.waitingFor(model)),
		}
		if r.models[model] != nil {
			m.LastUsed = r.models[model].lastUsed
		}
		residents = append(residents, m)
	}
	return residents
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

// busy returns the models of evict that have something in flight, sorted.
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

// notReady notes that a model is being stopped: if it is ready again without a load
// it has been so since ever.
func (r *reference) notReady(model string) {
	if m := r.models[model]; m != nil {
		m.readySince = time.Time{}
	}
}

// writeOff writes off the leases of model.
func (r *reference) writeOff(model string) {
	for _, lease := range r.leases {
		if lease.model == model {
			lease.writtenOff = true
		}
	}
}

// slotFree reports whether Concurrency lets model serve one more.
func (r *reference) slotFree(model string) bool {
	c := r.limits(model).Concurrency
	return c <= 0 || r.inFlight(model) < c || r.commits == faultNoConcurrency
}

func (r *reference) limits(model string) Limits {
	if r.opts.Limits == nil {
		return Limits{}
	}
	return r.opts.Limits(model)
}

// coolingDown returns what is left of the cool-down of model.
func (r *reference) coolingDown(model string) time.Duration {
	m := r.models[model]
	if m == nil || m.failures == 0 || r.opts.Cooldown <= 0 {
		return 0
	}
	return max(0, m.cooling.Sub(r.now()))
}

// modelOf returns the entry of model, which it makes if there is none.
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
