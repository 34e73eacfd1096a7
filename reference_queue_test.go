package scheduler

import (
	"cmp"
	"slices"
)

// waitingFor returns the requests that wait for model, in order of arrival.
func (r *reference) waitingFor(model string) []*refRequest {
	var requests []*refRequest
	for _, q := range r.requests {
		if q.Model == model {
			requests = append(requests, q)
		}
	}
	return requests
}

// waitingModels returns the models that requests wait for, in the order of their
// oldest.
func (r *reference) waitingModels() []string {
	var models []string
	for _, q := range r.requests {
		if !slices.Contains(models, q.Model) {
			models = append(models, q.Model)
		}
	}
	return models
}

// first returns the request for model whose turn it is, or nil. Those before it
// whose callers have left are met, and taken out.
func (r *reference) first(model string) *refRequest {
	for _, q := range r.inTurn(model) {
		if !refGone(q.HandlerReq) {
			return q
		}
		if r.commits != faultDeadCaller {
			r.drop(q)
			return r.first(model) // Its tenant keeps its turn.
		}
	}
	return nil
}

// oldest returns the oldest request for model, or nil. Those before it whose
// callers have left are met, and taken out.
func (r *reference) oldest(model string) *refRequest {
	return r.meet(r.waitingFor(model))
}

// meet returns the first of requests whose caller is still there, and takes out those
// before it.
func (r *reference) meet(requests []*refRequest) *refRequest {
	for _, q := range requests {
		if !refGone(q.HandlerReq) {
			return q
		}
		if r.commits != faultDeadCaller {
			r.drop(q)
		}
	}
	return nil
}

// byRank returns the models that requests wait for, without those that a swap is
// outstanding for, in the order of their first requests.
func (r *reference) byRank() []string {
	var firsts []*refRequest
	for _, model := range r.waitingModels() {
		q := r.first(model)
		if r.loading(model) {
			continue
		}
		if q != nil {
			firsts = append(firsts, q)
		} else if requests := r.inTurn(model); len(requests) > 0 {
			firsts = append(firsts, requests[0])
		}
	}
	slices.SortFunc(firsts, r.rank)
	var models []string
	for _, q := range firsts {
		models = append(models, q.Model)
	}
	return models
}

// tellPositions tells the waiting requests their places (R16). Requests behind the first
// few are told how many are queued, and only when they begin to wait and when a load
// ends.
func (r *reference) tellPositions() {
	queued := 0
	for _, q := range r.requests {
		if !r.loading(q.Model) {
			queued++
		}
	}
	for i, q := range r.places() {
		place := r.place(i, q)
		if place > r.exact {
			if q.told > 0 {
				continue
			}
			place = queued
		}
		if q.told == place || r.commits == faultNoZero && place == 0 {
			continue
		}
		q.told = place
		r.tell(q.PositionCh, place)
	}
}

// tell replaces what is unread on ch.
func (r *reference) tell(ch chan int, place int) {
	if ch == nil {
		return
	}
	select {
	case ch <- place:
		return
	default:
	}
	select {
	case <-ch:
	default:
	}
	select {
	case ch <- place:
	default:
	}
}

// places returns the waiting requests in the order of R16: those being loaded for,
// then the queue.
func (r *reference) places() []*refRequest {
	var loading, queue []string
	for _, model := range r.waitingModels() {
		if r.loading(model) {
			loading = append(loading, model)
		} else {
			queue = append(queue, model)
		}
	}
	return append(r.merged(loading), r.merged(queue)...)
}

// place returns the place of q, the i-th of places.
func (r *reference) place(i int, q *refRequest) int {
	if r.loading(q.Model) {
		return 0
	}
	for _, o := range r.requests {
		if r.loading(o.Model) {
			i--
		}
	}
	return i + 1
}

// loading reports whether model is being loaded for the requests that wait for it.
func (r *reference) loading(model string) bool {
	swap := r.outstanding(model)
	return swap != nil && !swap.abandoned
}

// Snapshot is what the reference knows.
func (r *reference) Snapshot() Snapshot {
	s := Snapshot{Counters: r.counters}
	for _, model := range r.knownModels() {
		if status, ok := r.modelStatus(model); ok {
			s.Models = append(s.Models, status)
		}
	}
	for _, swap := range r.swaps {
		s.Swaps = append(s.Swaps, SwapStatus{
			Model:     swap.model,
			Evict:     slices.Clone(swap.evict),
			Age:       r.now().Sub(swap.start),
			Expected:  r.loadOf(swap.model),
			Waiting:   len(r.waitingFor(swap.model)),
			Abandoned: swap.abandoned,
		})
	}
	slices.SortFunc(s.Swaps, func(a, b SwapStatus) int { return cmp.Compare(a.Model, b.Model) })
	for i, q := range r.places() {
		s.Waiting = append(s.Waiting, r.waitStatus(i, q))
	}
	for _, reservation := range r.reservations {
		s.Reserved = append(s.Reserved, Reservation{Model: reservation.model, Plan: slices.Clone(reservation.plan)})
	}
	return s
}

// knownModels returns every model that the Snapshot has something to say about, sorted.
func (r *reference) knownModels() []string {
	models := r.waitingModels()
	for _, lease := range r.leases {
		models = append(models, lease.model)
	}
	for model := range r.models {
		models = append(models, model)
	}
	slices.Sort(models)
	return slices.Compact(models)
}

// modelStatus returns the status of model, and whether there is one.
func (r *reference) modelStatus(model string) (ModelStatus, bool) {
	status := ModelStatus{
		Model:    model,
		InFlight: r.inFlight(model),
		Waiting:  len(r.waitingFor(model)),
		Closed:   r.closed(model),
	}
	loaded := false
	if m := r.models[model]; m != nil {
		status.Load, status.Drain, loaded = m.load, m.drain, m.loaded
		status.CoolingDown = r.coolingDown(model)
	}
	return status, status.InFlight > 0 || status.Waiting > 0 || status.CoolingDown > 0 || loaded
}

// waitStatus returns the status of q, the i-th of places.
func (r *reference) waitStatus(i int, q *refRequest) WaitStatus {
	status := WaitStatus{
		Model:    q.Model,
		Tenant:   q.tenant,
		Priority: q.priority,
		Position: r.place(i, q),
		Age:      r.now().Sub(q.since),
		Overdue:  q.overdue,
		Reason:   q.reason,
		On:       slices.Clone(q.on),
	}
	if swap := r.outstanding(q.Model); swap != nil {
		status.Reason, status.On = WaitLoading, []string{q.Model}
		if swap.abandoned {
			status.Reason = WaitSwap
		}
	}
	return status
}

// leftovers counts what is left when nothing waits, is in flight or outstanding,
// beyond one entry per model that was ever loaded, granted or closed.
func (r *reference) leftovers() int {
	n := len(r.requests) + len(r.turns) + len(r.swaps) + len(r.reservations) + len(r.leases) + len(r.inbox) + len(r.answers)
	for _, m := range r.models {
		if !m.touched {
			n++
		}
	}
	return n
}
