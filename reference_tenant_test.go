package scheduler

import (
	"cmp"
	"slices"
)

// refTurn is the place of a tenant among those that wait for a model with the same
// priority. The turns of all of them are in one slice; one that is granted goes to
// its end (R6).
type refTurn struct {
	model    string
	priority int
	tenant   string
}

// turnOf returns the turn that q belongs to.
func (r *reference) turnOf(q *refRequest) refTurn {
	t := refTurn{q.Model, q.priority, q.tenant}
	if r.commits == faultNoPriority {
		t.priority = 0
	}
	if r.commits == faultNoTenants {
		t.tenant = ""
	}
	return t
}

// join lets q wait. A tenant that begins to wait joins behind the others.
func (r *reference) join(q *refRequest) {
	r.arrivals++
	q.since = r.now()
	r.requests = append(r.requests, q)
	t := r.turnOf(q)
	switch {
	case slices.Contains(r.turns, t):
	case r.commits == faultTenantFirst:
		r.turns = slices.Insert(r.turns, 0, t)
	default:
		r.turns = append(r.turns, t)
	}
	r.oldest(q.Model) // Callers that have left make room.
}

// leaveTurn takes the tenant of q, which no longer waits, out of the turns, unless the
// tenant has another request there.
func (r *reference) leaveTurn(q *refRequest) {
	t := r.turnOf(q)
	if !slices.ContainsFunc(r.requests, func(o *refRequest) bool { return r.turnOf(o) == t }) {
		r.turns = slices.DeleteFunc(r.turns, func(o refTurn) bool { return o == t })
	}
}

// takeTurn puts the tenant of q, which was granted, behind the others.
func (r *reference) takeTurn(q *refRequest) {
	t := r.turnOf(q)
	if i := slices.Index(r.turns, t); i >= 0 && r.commits != faultKeepsTurn {
		r.turns = append(slices.Delete(r.turns, i, i+1), t)
	}
}

// inTurn returns the requests that wait for model in the order of R6: by priority, and
// within a priority the tenants take turns, each with its oldest request.
func (r *reference) inTurn(model string) []*refRequest {
	waiting := r.waitingFor(model)
	if r.commits == faultLIFO {
		slices.Reverse(waiting)
		return waiting
	}
	var order []*refRequest
	for len(waiting) > 0 {
		priority := r.turnOf(waiting[0]).priority
		for _, q := range waiting {
			priority = max(priority, r.turnOf(q).priority)
		}
		for _, t := range r.turns { // One round.
			i := slices.IndexFunc(waiting, func(q *refRequest) bool { return r.turnOf(q) == t })
			if t.model == model && t.priority == priority && i >= 0 {
				order = append(order, waiting[i])
				waiting = slices.Delete(waiting, i, i+1)
			}
		}
	}
	return order
}

// merged returns the requests that wait for models in the order of the queue, which
// merges the orders of the models by the first request of each.
func (r *reference) merged(models []string) []*refRequest {
	orders := make(map[string][]*refRequest)
	for _, model := range models {
		orders[model] = r.inTurn(model)
	}
	var queue []*refRequest
	for {
		var first *refRequest
		for _, order := range orders {
			if len(order) > 0 && (first == nil || r.rank(order[0], first) < 0) {
				first = order[0]
			}
		}
		if first == nil {
			return queue
		}
		queue = append(queue, first)
		orders[first.Model] = orders[first.Model][1:]
	}
}

// rank compares the first requests of two models: priority, then arrival.
func (r *reference) rank(a, b *refRequest) int {
	switch r.commits {
	case faultNoPriority:
		return cmp.Compare(a.arrival, b.arrival)
	case faultLIFO:
		return cmp.Compare(b.arrival, a.arrival)
	}
	return cmp.Or(cmp.Compare(b.priority, a.priority), cmp.Compare(a.arrival, b.arrival))
}
