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
}

// request handles an arrival: the refusals of R2, then the decision, which is the
// same as for a request that waits.
func (f *FIFO) request(req *HandlerReq) {
	n := newcomer{req: req, arrival: f.queue.arrive()}
	if f.step.unblocked { // The look has ended what held others back.
		f.settle()
	}
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
	v := f.decide(m, n.arrival, s)
	if v.action != serves && v.action != refuses && f.full() {
		v = verdict{action: refuses, err: overloaded(req.Model)}
	}
	switch {
	case v.action == refuses:
		f.counters.Refused++
		f.refuse(req, v.err)
	case v.action == serves && m.line.n == 0:
		f.arrived()
		f.grant(m, req)
	default:
		f.join(m, &n, v)
	}
}

// admit returns the model that n names and how the host sees it, or the reason of
// R2 that refuses n before any decision. It asks for the priority of n.
func (f *FIFO) admit(n *newcomer) (*model, sight, error) {
	name := n.req.Model
	s := f.see(name)
	if !s.known {
		return nil, s, notFound(name)
	}
	var err error
	if n.priority, err = f.priority(n.req); err != nil {
		return nil, s, err
	}
	m := f.models.record(name)
	if m.cooldown.active() && !s.ready {
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
			return nil, s, overloaded(name)
		}
	}
	return m, s, nil
}

// priority asks for the priority of a request.
func (f *FIFO) priority(req *HandlerReq) (priority int, err error) {
	if f.opts.Priority == nil {
		return 0, nil
	}
	defer refuse(f.log, "Priority", req.Model, &err)
	return f.opts.Priority(*req), nil
}

// full reports whether no further request may wait.
func (f *FIFO) full() bool {
	if f.opts.MaxQueue <= 0 || f.queue.waiting < f.opts.MaxQueue {
		return false
	}
	f.meetAll()
	return f.queue.waiting >= f.opts.MaxQueue
}

// join lets n wait for m and carries out the verdict on it. Where others wait and m
// can serve, all of them are served in their order, which may leave n waiting after
// all.
func (f *FIFO) join(m *model, n *newcomer, v verdict) {
	r := f.enqueue(m, n)
	f.act(m, v)
	if v.action == serves && r.line != nil && f.opts.MaxQueue > 0 && f.queue.waiting > f.opts.MaxQueue {
		f.take(r)
		f.counters.Refused++
		f.eff.GrantError(r.req, overloaded(m.name))
	}
}

// enqueue makes n wait for m.
func (f *FIFO) enqueue(m *model, n *newcomer) *request {
	r := &request{req: *n.req, priority: n.priority, arrival: n.arrival, since: f.step.time()}
	f.arrived()
	f.queue.add(&m.line, r)
	f.positions.join(r)
	return r
}

// refuse answers the newcomer with err. It is counted before by the caller.
func (f *FIFO) refuse(req *HandlerReq, err error) {
	f.arrived()
	f.debug("request refused", req.Model, err)
	f.eff.GrantError(*req, err)
}

// arrived notes that the newcomer has its answer, or its place in the queue. Only
// now it counts, so that at any moment the counters add up.
func (f *FIFO) arrived() {
	f.step.settled()
	f.counters.Requests++
}

// overloaded is the error for a limit that is reached.
func overloaded(name string) error { return &RetryError{Model: name, Err: ErrOverloaded} }

// notFound is the error for a model that the host does not know.
func notFound(name string) error { return fmt.Errorf("%w: %q", ErrModelNotFound, name) }
