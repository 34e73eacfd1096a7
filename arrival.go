package scheduler

import (
	"context"
	"fmt"
)

// request handles an arrival: the refusals of R2, then the decision.
func (f *FIFO) request(req *HandlerReq) {
	f.arrivals++
	f.counters.Requests++
	f.priority, f.arriving = 0, true
	if f.moving { // The look has let something go that held others back.
		f.move()
	}
	if req.Ctx != nil && req.Ctx.Err() != nil {
		f.counters.Cancelled++
		f.refuse(req, context.Cause(req.Ctx))
		return
	}
	m, err := f.admit(req)
	if err != nil {
		f.counters.Refused++
		f.refuse(req, err)
		return
	}
	v := f.decide(m, f.arrivals)
	if v.action != serves && v.action != refuses && f.full() {
		v = verdict{action: refuses, err: overloaded(req.Model)}
	}
	switch {
	case v.action == refuses:
		f.counters.Refused++
		f.refuse(req, v.err)
	case v.action == serves && m.queue.n == 0:
		f.arriving = false
		f.grant(m, req)
	default:
		f.join(m, v)
	}
}

// admit returns the model that req names, or the reason of R2 that refuses req
// before any decision.
func (f *FIFO) admit(req *HandlerReq) (*model, error) {
	m := f.record(req.Model)
	if f.observe(m); !m.known {
		return nil, notFound(req.Model)
	}
	if f.opts.Priority != nil {
		f.priority = f.opts.Priority(*req)
	}
	if left := f.coolingDown(m); left > 0 {
		err := fmt.Errorf("%w: %w", ErrCoolingDown, m.failure)
		return nil, &RetryError{Model: req.Model, After: left, Err: err}
	}
	if k := f.limits(m).Capacity; k > 0 && m.inFlight+m.queue.n >= k {
		if f.oldest(m); m.inFlight+m.queue.n >= k {
			return nil, overloaded(req.Model)
		}
	}
	return m, nil
}

// full reports whether nobody more may wait.
func (f *FIFO) full() bool {
	if f.opts.MaxQueue <= 0 || f.queued < f.opts.MaxQueue {
		return false
	}
	f.meet()
	return f.queued >= f.opts.MaxQueue
}

// join lets the newcomer wait for m and carries out the verdict on it. Where
// others wait and m can serve, all of them are served in their order, which may
// leave the newcomer waiting after all.
func (f *FIFO) join(m *model, v verdict) {
	r := f.enqueue(m)
	f.arriving = false
	f.act(m, v)
	if v.action == serves && r.model != nil && f.opts.MaxQueue > 0 && f.queued > f.opts.MaxQueue {
		f.take(r)
		f.counters.Refused++
		f.refuse(&r.req, overloaded(m.name))
	}
}

// refuse answers the newcomer with err.
func (f *FIFO) refuse(req *HandlerReq, err error) {
	f.arriving = false
	f.debug("request refused", req.Model, err)
	f.eff.GrantError(*req, err)
}

// refuseAfterShutdown handles an event that comes after the shutdown: a request
// learns of it, and anything else is ignored (R15).
func (f *FIFO) refuseAfterShutdown() {
	if ev := &f.event; ev.kind == requested {
		f.counters.Requests++
		f.counters.Refused++
		f.eff.GrantError(ev.req, f.down)
	}
}

// overloaded is the error for a limit that is reached.
func overloaded(name string) error { return &RetryError{Model: name, Err: ErrOverloaded} }

// notFound is the error for a model that the host does not know.
func notFound(name string) error { return fmt.Errorf("%w: %q", ErrModelNotFound, name) }
