package scheduler

import (
	"cmp"
	"slices"
	"time"
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

// waitingByRank returns the requests that wait for model, in order of rank.
func (r *reference) waitingByRank(model string) []*refRequest {
	requests := r.waitingFor(model)
	slices.SortFunc(requests, r.rank)
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

// rank compares two requests: priority, then arrival.
func (r *reference) rank(a, b *refRequest) int {
	switch r.commits {
	case faultNoPriority:
		return cmp.Compare(a.arrival, b.arrival)
	case faultLIFO:
		return cmp.Compare(b.arrival, a.arrival)
	}
	return cmp.Or(cmp.Compare(b.priority, a.priority), cmp.Compare(a.arrival, b.arrival))
}

// first returns the request for model that ranks first, or nil. Those before it
// whose callers have left are met, and taken out.
func (r *reference) first(model string) *refRequest {
	return r.meet(r.waitingByRank(model))
}

// oldest returns the oldest request for model, or nil. Those before it whose
// callers have left are met, and taken out.
func (r *reference) oldest(model string) *refRequest {
	return r.meet(r.waitingFor(model))
}

// meet returns the first of requests that lives, and takes out those before it.
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
		if r.outstanding(model) != nil {
			continue
		}
		if q != nil {
			firsts = append(firsts, q)
		} else if requests := r.waitingByRank(model); len(requests) > 0 {
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

// tellPositions tells the waiting requests their places (R16).
func (r *reference) tellPositions() {
	for i, q := range r.places() {
		place := r.place(i, q)
		near := place <= r.exact || q.told <= 0
		if q.told == place || !near || r.commits == faultNoZero && place == 0 {
			continue
		}
		if q.told < 0 && place > r.exact { // How many wait is an upper bound.
			place = 0
			for _, o := range r.requests {
				if !r.loadingFor(o) {
					place++
				}
			}
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
// then the queue, each by rank.
func (r *reference) places() []*refRequest {
	var loading, queue []*refRequest
	for _, q := range r.requests {
		if r.loadingFor(q) {
			loading = append(loading, q)
		} else {
			queue = append(queue, q)
		}
	}
	slices.SortFunc(loading, r.rank)
	slices.SortFunc(queue, r.rank)
	return append(loading, queue...)
}

// place returns the place of q, the i-th of places.
func (r *reference) place(i int, q *refRequest) int {
	if r.loadingFor(q) {
		return 0
	}
	for _, o := range r.requests {
		if r.loadingFor(o) {
			i--
		}
	}
	return i + 1
}

// loadingFor reports whether the model of q is being loaded for it.
func (r *reference) loadingFor(q *refRequest) bool {
	swap := r.outstanding(q.Model)
	return swap != nil && !swap.abandoned
}

// Snapshot is what the reference knows.
func (r *reference) Snapshot() Snapshot {
	s := Snapshot{Drain: r.drain, Counters: r.counters}
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
		s.Reserved = append(s.Reserved, Reservation{reservation.model, slices.Clone(reservation.plan)})
	}
	return s
}

// knownModels returns every model that there is something to tell of, sorted.
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
		status.Load, loaded = m.load, m.loaded
		status.CoolingDown = r.coolingDown(model)
	}
	return status, status.InFlight > 0 || status.Waiting > 0 || status.CoolingDown > 0 || loaded
}

// waitStatus returns the status of q, the i-th of places.
func (r *reference) waitStatus(i int, q *refRequest) WaitStatus {
	status := WaitStatus{
		Model:    q.Model,
		Priority: q.priority,
		Position: r.place(i, q),
		Age:      r.now().Sub(q.since),
		Overdue:  r.overdue(q),
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
// beyond one entry per model that was ever loaded or granted.
func (r *reference) leftovers() int {
	n := len(r.requests) + len(r.swaps) + len(r.reservations) + len(r.leases) + len(r.inbox) + len(r.answers)
	for _, m := range r.models {
		if !m.touched {
			n++
		}
	}
	return n
}

// loadOf returns the load that the price of model counts with.
func (r *reference) loadOf(model string) time.Duration {
	if m := r.models[model]; m != nil && m.loaded {
		return m.load
	}
	if r.loaded {
		return r.lastLoad
	}
	return 10 * time.Second
}
