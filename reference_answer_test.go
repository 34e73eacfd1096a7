package scheduler

import "slices"

// grant gives a request the next lease, waiting or not. It reports whether the
// caller was there.
func (r *reference) grant(q *refRequest) bool {
	r.remove(q)
	r.lastLease++
	lease := &refLease{number: r.lastLease, model: q.Model}
	r.leases = append(r.leases, lease)
	r.counters.Granted++
	req := q.HandlerReq
	req.Lease = lease.number
	if !r.eff.GrantServe(req, q.Model) {
		r.leases = slices.DeleteFunc(r.leases, func(l *refLease) bool { return l == lease })
		r.counters.Granted--
		r.counters.Cancelled++
		return false
	}
	r.takeTurn(q)
	m := r.modelOf(q.Model)
	m.touched, m.lastUsed = true, lease.number
	return true
}

// refuse answers a request that has just arrived.
func (r *reference) refuse(req HandlerReq, err error) {
	r.counters.Refused++
	r.eff.GrantError(req, err)
}

// fail answers a request that waits, unless its caller has left.
func (r *reference) fail(q *refRequest, err error) {
	if refGone(q.HandlerReq) {
		r.drop(q)
		return
	}
	r.remove(q)
	r.counters.Failed++
	r.eff.GrantError(q.HandlerReq, err)
}

// drop takes out a request whose caller has left.
func (r *reference) drop(q *refRequest) {
	r.counters.Cancelled++
	r.remove(q)
}

// remove takes a request out of the queue. With the last one of its model, what a
// reservation or a swap for that model held back may move on.
func (r *reference) remove(q *refRequest) {
	r.requests = slices.DeleteFunc(r.requests, func(o *refRequest) bool { return o == q })
	r.leaveTurn(q)
	if len(r.waitingFor(q.Model)) > 0 {
		return
	}
	swap := r.outstanding(q.Model)
	if r.reservationOf(q.Model) != nil || swap != nil && !swap.abandoned {
		r.unblocked = true
	}
}
