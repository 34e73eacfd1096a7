package scheduler

import (
	"fmt"
	"slices"
	"time"
)

// cancel handles a caller that has left (R14).
func (f *FIFO) cancel(req *HandlerReq) {
	if r := f.queue.find(req.Respond); r != nil {
		m := r.line().owner
		f.drop(r)
		f.oldest(m) // The callers of others may have left too, which only their Ctx says.
	}
}

// unload handles an unload: first the answers, then the loads, then the processes (R12).
// After that the queue moves.
func (f *FIFO) unload(targets []string, timeout time.Duration) {
	f.policy.expire()
	f.step.unblock()
	var left []*request
	for _, name := range targets {
		if m := f.models.find(name); m != nil {
			left = slices.AppendSeq(left, m.line.requests())
		}
	}
	f.failAll(left, func(r *request) error { return fmt.Errorf("%w: %q", ErrModelUnloaded, r.req.Model) })
	for _, name := range targets {
		if m := f.models.find(name); m != nil {
			f.writeOff(m)
			m.cooldown.clear()
			m.history.stopped()
		}
		if s := f.swaps.of(name); s != nil {
			s.unloaded, s.timeout = true, timeout
			f.abandon(s)
		}
	}
	f.stop(targets, timeout)
}

// abandon gives up on a swap. It stays on the books until its report, which will serve no
// request. If the host can cancel swaps, it is told once.
func (f *FIFO) abandon(s *swap) {
	if !f.swaps.abandon(s) {
		return
	}
	f.queue.setLoading(&f.models.record(s.target).line, false)
	f.counters.SwapsAbandoned++
	if f.canceler != nil {
		f.canceler.CancelSwap(s.target)
	}
}

// stop stops the processes of models, except of those that the host does not know.
func (f *FIFO) stop(models []string, timeout time.Duration) {
	var known []string
	for _, name := range models {
		if f.see(name).known {
			known = append(known, name)
		}
	}
	if len(known) == 0 {
		return
	}
	f.changed()
	f.eff.StopProcesses(timeout, known)
	f.step.passTime() // It blocks, and that time must not count as part of a load that follows.
}

// shutdown handles a shutdown: every request that waits gets the error (R15). At a second
// one there are none.
func (f *FIFO) shutdown(err error) {
	if f.down == nil {
		f.down = err
	}
	var left []*request
	for _, l := range f.queue.lines {
		left = slices.AppendSeq(left, l.requests())
	}
	f.failAll(left, func(*request) error { return err })
	f.endReservations()
}

// failStop handles a panic that has passed through to the run loop (R17).
func (f *FIFO) failStop(err error) {
	f.shutdown(err)
	if orphan := f.step.popOrphan(); orphan != nil {
		f.counters.Requests++
		f.counters.Failed++
		f.eff.GrantError(*orphan, err)
	}
	f.log.Error("a panic has shut the scheduler down", "err", err) // Last, because it may panic too.
}

// afterShutdown handles an event that comes after a shutdown: a request gets the
// error at once, reports keep the books, and anything else changes nothing.
func (f *FIFO) afterShutdown(ev *event) {
	switch ev.kind {
	case requested:
		f.counters.Refused++
		f.refuse(&ev.req, f.down)
	case swapDone, serveDone:
		f.dispatch(ev)
	}
}

// fail answers every request that waits for m with err.
func (f *FIFO) fail(m *model, err error) {
	f.failAll(slices.Collect(m.line.requests()), func(*request) error { return err })
}

// failAll takes requests out and answers them with an error, in order of arrival.
// Requests whose callers have left get none. Each is taken out right before its answer,
// so that a panic loses no request.
func (f *FIFO) failAll(requests []*request, reason func(*request) error) {
	slices.SortFunc(requests, byArrival)
	for _, r := range requests {
		if !r.alive() {
			f.drop(r)
			continue
		}
		f.dequeue(r)
		f.counters.Failed++
		f.eff.GrantError(r.req, reason(r))
	}
}

// dequeue takes r out of the queue. The caller of dequeue answers it.
func (f *FIFO) dequeue(r *request) {
	m := r.line().owner
	wasOldest := m.line.oldest() == r
	f.positions.remove(r)
	f.queue.remove(r)
	if wasOldest {
		f.setDeadline(m)
	}
	if m.line.n == 0 {
		f.models.touch(m)
		m.answers.forget()
	}
}

// drop takes r out because its caller has left. If r was the last to wait for a load,
// that load may be in the way of others, so the queue moves. A reservation for which no
// request waits any more is found by endReservations. Nothing else that r held keeps
// others waiting (R14).
func (f *FIFO) drop(r *request) {
	l := r.line()
	f.dequeue(r)
	f.counters.Cancelled++
	if l.n == 0 && l.loading {
		f.step.unblock()
	}
}

// oldest returns the request that has waited longest for m, or nil if there is none. It
// drops older requests whose callers have left.
func (f *FIFO) oldest(m *model) *request {
	for {
		r := m.line.oldest()
		if r == nil || r.alive() {
			return r
		}
		f.drop(r)
	}
}

// first returns the request that ranks first for m among those that arrived up to limit,
// or nil if there is none. It drops requests before it whose callers have left.
func (f *FIFO) first(m *model, limit uint64) *request {
	for {
		r := m.line.first(limit)
		if r == nil || r.alive() {
			return r
		}
		f.drop(r)
	}
}

// prune drops the oldest requests of every model, until it comes to one whose caller is
// still there.
func (f *FIFO) prune() {
	f.scratch.lines = append(f.scratch.lines[:0], f.queue.lines...)
	for _, l := range f.scratch.lines {
		f.oldest(l.owner)
	}
}
