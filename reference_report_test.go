package scheduler

import (
	"slices"
	"time"
)

// swapDone is OnSwapDone. After a shutdown it still keeps the books (R15).
func (r *reference) swapDone(ev SwapDone) {
	if r.shut != nil && r.commits == faultDeafAfterwards {
		return
	}
	swap := r.outstanding(ev.ModelID)
	if swap == nil {
		r.counters.Ignored++
		return
	}
	r.swaps = slices.DeleteFunc(r.swaps, func(s *refSwap) bool { return s == swap })
	r.said = nil
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
	if ev.Err != nil || !swap.unloaded || r.shut != nil || r.oldest(swap.model) != nil || r.commits == faultUnloadFades {
		return
	}
	if _, known := r.eff.ModelState(swap.model); known {
		r.stop(swap.timeout, []string{swap.model})
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

// swapSucceeded is R4: the requests that waited for the swap are served, and the Swapper
// is not asked again.
func (r *reference) swapSucceeded(swap *refSwap) {
	m := r.modelOf(swap.model)
	m.failures = 0
	if swap.load {
		m.loaded, m.load = true, r.now().Sub(swap.start)
		r.loaded, r.lastLoad = true, m.load
	}
	if r.oldest(swap.model) == nil {
		return
	}
	r.spent, m.spent = false, false
	if r.commits == faultAsksAgain {
		return
	}
	limits, err := r.limits(swap.model)
	switch {
	case err != nil:
		r.failAll(swap.model, err)
	case limits.Paused && r.commits != faultGrantsPaused:
		r.explainPaused(swap.model)
	default:
		r.grantInOrder(swap.model)
	}
}

// serveDone is OnServeDone: R11. The queue moves if the model is idle now or a slot
// is free that was not (R19).
func (r *reference) serveDone(ev ServeDoneEvent) {
	if r.shut != nil && r.commits == faultDeafAfterwards {
		return
	}
	i := slices.IndexFunc(r.leases, func(lease *refLease) bool {
		if ev.Lease == 0 {
			return lease.model == ev.ModelID
		}
		return lease.number == ev.Lease
	})
	if i < 0 {
		r.counters.Ignored++
		return
	}
	lease := r.leases[i]
	waits := len(r.waitingFor(lease.model)) > 0
	before := waits && r.slotFree(lease.model)
	if r.commits != faultLeaks {
		r.leases = slices.Delete(r.leases, i, i+1)
	}
	idle := r.inFlight(lease.model) == 0
	if idle && !lease.writtenOff {
		r.noteIdle(lease.model)
	}
	freed := waits && !before && r.slotFree(lease.model)
	if idle || freed || r.commits == faultAlwaysMoves {
		r.unblocked = true
	}
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
		r.stop(timeout, known)
	}
	r.unblocked = true
}

// stop stops the processes of models.
func (r *reference) stop(timeout time.Duration, models []string) {
	r.said = nil
	r.eff.StopProcesses(timeout, models)
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

// abandon gives up on a swap, which stays on the books.
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

// cancelInTheWay cancels the one swap that keeps the swap for model from starting, if no
// request waits for it and it is less than half done (R14).
func (r *reference) cancelInTheWay(model string, evict []string) {
	if r.canceler == nil || r.commits == faultNeverCancelsSwap {
		return
	}
	swaps := r.colliding(model, evict)
	if len(swaps) != 1 || len(r.busy(evict)) > 0 {
		return
	}
	swap := swaps[0]
	if r.spent && r.commits != faultCancelsOn && r.commits != faultForgetsThat {
		return
	}
	if r.modelOf(swap.model).spent && r.commits != faultCancelsOn && r.commits != faultForgetsWhose {
		return
	}
	if swap.abandoned || r.oldest(swap.model) != nil || r.arriving == swap.model {
		return
	}
	if 2*r.now().Sub(swap.start) >= r.loadOf(swap.model) || len(r.hindered(model, evict)) > 0 {
		return
	}
	r.spent, r.modelOf(swap.model).spent = true, true
	r.abandon(swap)
}

// notReady notes that a model is being stopped. If it is ready again without a load, it
// counts as ready from the start.
func (r *reference) notReady(model string) {
	if m := r.models[model]; m != nil {
		m.readySince = time.Time{}
	}
}

// writeOff writes off the leases of model.
func (r *reference) writeOff(model string) {
	busy := r.inFlight(model) > 0
	for _, lease := range r.leases {
		if lease.model == model {
			lease.writtenOff = true
		}
	}
	if busy {
		r.noteIdle(model)
	}
}
