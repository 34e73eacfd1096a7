package scheduler

import (
	"context"
	"fmt"
)

// newcomer is a request that has just arrived.
type newcomer struct {
	req      *HandlerReq
	arrival  uint64
	priority int
	tenant   string
}

// request handles an arrival: first the refusals of R2, then the same decision as for a
// request that waits.
func (f *FIFO) request(req *HandlerReq) {
	n := newcomer{req: req, arrival: f.queue.arrive()}
	if isDone(req) {
		f.counters.Cancelled++
		f.refuse(req, context.Cause(req.Ctx))
		return
	}
	m, s, err := f.admit(&n)
	if err != nil {
		f.counters.Refused++
		f.refuse(req, err)
		return
	}
	news := f.newsForOthers() // Before the decision, which may drop requests.
	var v verdict
	f.decide(m, n.arrival, s, &v)
	if v.action == serves && m.line.n == 0 {
		f.arrived()
		f.grant(m, req)
		return
	}
	if v.action != refuses && !f.servesFirst(m, &n, &v) && news {
		// Waiting requests may be served, or get their swap, before n. So the queue
		// moves in order, and n joins it first if there is room (R19).
		f.step.unblock()
		if !f.full() {
			f.enqueue(m, &n)
			return // The step ends with that move.
		}
		f.settle()
		v = verdict{}
		f.decide(m, n.arrival, f.see(m.name), &v)
	}
	if v.action != serves && v.action != refuses && f.full() {
		v = verdict{action: refuses, err: f.overloaded(m)}
	}
	if v.action == refuses {
		f.counters.Refused++
		f.refuse(req, v.err)
		return
	}
	f.join(m, &n, &v)
}

// admit returns the model that n names and how the host sees it, or the error with which
// R2 refuses n before any decision. It also asks for the priority and the tenant of n.
func (f *FIFO) admit(n *newcomer) (*model, sight, error) {
	name := n.req.Model
	s := f.see(name)
	if !s.known {
		return nil, s, notFound(name)
	}
	m := f.models.record(name)
	if m.cooldown.active() && !s.ready { // R13
		if left := m.cooldown.left(f.step.time()); left > 0 {
			err := fmt.Errorf("%w: %w", ErrCoolingDown, m.cooldown.failure)
			return nil, s, &RetryError{Model: name, After: left, Err: err}
		}
	}
	limits, err := f.limits(m)
	if err != nil {
		return nil, s, err
	}
	if k := limits.Capacity; k > 0 && m.account.inFlight+m.line.n >= k {
		f.oldest(m) // Callers that have left do not count.
		if m.account.inFlight+m.line.n >= k {
			return nil, s, f.overloaded(m)
		}
	}
	if f.opts.Priority != nil {
		if n.priority, err = f.priority(n.req); err != nil {
			return nil, s, err
		}
	}
	if f.opts.Tenant != nil {
		if n.tenant, err = f.tenant(n.req); err != nil {
			return nil, s, err
		}
	}
	if f.swaps.of(name) == nil {
		_, err = f.policy.evictionFor(&m.answers)
	}
	return m, s, err
}

// priority asks for the priority of a request.
func (f *FIFO) priority(req *HandlerReq) (priority int, err error) {
	defer refuse(f.log, "Priority", req.Model, &err)
	return f.opts.Priority(*req), nil
}

// tenant asks for the tenant of a request.
func (f *FIFO) tenant(req *HandlerReq) (tenant string, err error) {
	defer refuse(f.log, "Tenant", req.Model, &err)
	return f.opts.Tenant(*req), nil
}

// servesFirst reports whether m can serve n at once (R3), before any request that waits.
func (f *FIFO) servesFirst(m *model, n *newcomer, v *verdict) bool {
	if v.action != serves || n.arrival > f.limit(m) {
		return false
	}
	r := f.first(m, everybody)
	return r == nil || r.priority < n.priority
}

// newsForOthers reports whether waiting requests may be able to go before a newcomer
// (R19): the look has unblocked something, or the running models have changed since the
// queue last moved.
func (f *FIFO) newsForOthers() bool {
	return f.queue.waiting > 0 && (f.step.unblocked || f.running.changed())
}

// full reports whether no further request may wait (R9).
func (f *FIFO) full() bool {
	if f.opts.MaxQueue <= 0 || f.queue.waiting < f.opts.MaxQueue {
		return false
	}
	f.prune()
	return f.queue.waiting >= f.opts.MaxQueue
}

// join lets n wait for m and carries out the verdict on it. If m can serve, its requests
// are served in order, and n may still be waiting after that.
func (f *FIFO) join(m *model, n *newcomer, v *verdict) {
	r := f.enqueue(m, n)
	f.act(m, v)
	if v.action == serves && r.waits() && f.opts.MaxQueue > 0 && f.queue.waiting > f.opts.MaxQueue {
		f.dequeue(r)
		f.counters.Refused++
		f.eff.GrantError(r.req, f.overloaded(m))
	}
}

// enqueue makes n wait for m.
func (f *FIFO) enqueue(m *model, n *newcomer) *request {
	r := &request{req: *n.req, priority: n.priority, arrival: n.arrival, since: f.step.time()}
	if f.queue.waiting == 0 {
		f.running.setMark() // Nothing waited for earlier changes.
	}
	f.arrived()
	f.queue.add(&m.line, r, n.tenant)
	f.positions.add(r)
	f.oldest(m) // Older requests whose callers have left are dropped.
	if m.line.n == 1 {
		f.setDeadline(m)
	}
	return r
}

// refuse answers the newcomer with err. The caller of refuse counts it.
func (f *FIFO) refuse(req *HandlerReq, err error) {
	f.arrived()
	f.eff.GrantError(*req, err)
	f.debug("request refused", req.Model, err) // Last, so that a logger that panics costs no request its answer.
}

// arrived notes that the newcomer has its one answer (R1), or its place in the queue. It
// is counted only now, so that the counters always add up.
func (f *FIFO) arrived() {
	f.step.settled()
	f.counters.Requests++
}

// overloaded is the error for a limit that is reached. It says when m will be loaded, if
// that is known.
func (f *FIFO) overloaded(m *model) error {
	err := &RetryError{Model: m.name, Err: ErrOverloaded}
	if s := f.swaps.of(m.name); s != nil && s.loads && !s.abandoned && m.history.loadKnown {
		err.After = max(0, m.history.load-f.step.time().Sub(s.started))
	}
	return err
}

// notFound is the error for a model that the host does not know.
func notFound(name string) error { return fmt.Errorf("%w: %q", ErrModelNotFound, name) }
