package scheduler

import (
	"slices"
	"time"
)

// reservation keeps room for a model that has waited for too long (R8). This is EASY
// backfilling (Lifka, The ANL/IBM SP Scheduling System, 1995): everything that does not
// hinder the reserved swap goes on.
type reservation struct {
	intent            // the reserved swap, which stops the plan
	closed []*closing // models of the plan that it has closed, in order

	suffices stamp // when the plan was last found to suffice
	asked    stamp // when spared was last determined
	lines    uint64
	spared   bool // the plan suffices beside the swaps of all models that requests wait for
}

// closing is one model that a reservation has closed.
type closing struct {
	model   string
	by      *reservation
	arrival uint64    // of the latest request before it was closed
	at      time.Time // when it was closed
	idle    time.Time // when it last became idle, if it is; at first the time of closing
}

// reservations is the book of the reservations that stand. None hinders an earlier one,
// so no two plans have a model in common. The zero value is an empty book.
type reservations struct {
	standing []*reservation // in the order of taking
	holders  map[string]*reservation
	closed   map[string]*closing
}

// of returns the reservation that a model holds, or nil if it holds none.
func (b *reservations) of(model string) *reservation {
	if len(b.standing) == 0 {
		return nil
	}
	return b.holders[model]
}

// closing returns how a model was closed, or nil if it is open.
func (b *reservations) closing(model string) *closing {
	if len(b.closed) == 0 {
		return nil
	}
	return b.closed[model]
}

// take adds a reservation.
func (b *reservations) take(i intent) {
	if b.holders == nil {
		b.holders, b.closed = make(map[string]*reservation), make(map[string]*closing)
	}
	r := &reservation{intent: i}
	b.standing = append(b.standing, r)
	b.holders[r.target] = r
}

// close closes a model in the plan of r to requests whose arrival number is higher.
func (b *reservations) close(r *reservation, model string, arrival uint64, at time.Time) {
	c := &closing{model: model, by: r, arrival: arrival, at: at, idle: at}
	r.closed = append(r.closed, c)
	b.closed[model] = c
}

// end ends r and opens the models that it has closed.
func (b *reservations) end(r *reservation) {
	b.standing = slices.DeleteFunc(b.standing, func(s *reservation) bool { return s == r })
	delete(b.holders, r.target)
	for _, c := range r.closed {
		delete(b.closed, c.model)
	}
}

// overdue says which requests of a model the latest look found to be overdue: those that
// began to wait at since or before. With the zero time there are none.
type overdue struct{ since time.Time }

// look is what R8 does when an event arrives, before the event is handled: it ends
// reservations, takes new ones and closes models. There is no timer, because a model is
// overtaken only when requests arrive. While no model is due, look costs nothing.
func (f *FIFO) look() {
	f.forgetOverdue()
	if f.queue.waiting == 0 || len(f.deadlines.heap) == 0 && len(f.reservations.standing) == 0 {
		return
	}
	f.endReservations() // Their models may become due by that.
	due := f.deadlines.passed(f.step.time(), f.scratch.due[:0])
	f.scratch.due = due
	for _, r := range f.reservations.standing {
		f.checkOverdue(f.models.record(r.target), r.evict)
	}
	if len(due) > 0 {
		f.takeReservations(due)
	}
	f.closeModels()
}

// forgetOverdue forgets what the previous look found overdue.
func (f *FIFO) forgetOverdue() {
	for _, m := range f.scratch.overdue {
		m.overdue = overdue{}
	}
	f.scratch.overdue = f.scratch.overdue[:0]
}

// setDeadline sets when m is due. That is when its oldest request has waited long enough
// for m to be overdue, if nothing had to drain. A model that cannot become overdue has no
// deadline.
func (f *FIFO) setDeadline(m *model) {
	if m.line.n == 0 || f.opts.Patience < 0 || f.swaps.of(m.name) != nil || f.reservations.of(m.name) != nil {
		f.deadlines.remove(&m.deadline)
		return
	}
	r := m.line.oldest()
	at := r.since.Add(f.prices.overdueAfter(f.prices.load(&m.history), 0))
	if d := &m.deadline; d.arrival == r.arrival && d.notBefore.After(at) {
		at = d.notBefore
	}
	f.deadlines.set(&m.deadline, at)
}

// checkOverdue reports whether m is overdue, given what has to be evicted for it. If it
// is not, its deadline becomes the time when it will be.
func (f *FIFO) checkOverdue(m *model, evict []string) bool {
	now, r := f.step.time(), m.line.oldest()
	after := f.prices.overdueAfter(f.prices.load(&m.history), f.longestDrain(evict))
	if now.Sub(r.since) < after {
		if f.reservations.of(m.name) == nil {
			m.deadline.arrival, m.deadline.notBefore = r.arrival, r.since.Add(after)
			f.setDeadline(m)
		}
		return false
	}
	m.overdue = overdue{now.Add(-after)}
	f.scratch.overdue = append(f.scratch.overdue, m)
	return true
}

// endReservations ends the reservations that have lost their reason: no request waits,
// the model is paused, it needs no swap, or the plan no longer suffices.
func (f *FIFO) endReservations() {
	for i := 0; i < len(f.reservations.standing); {
		if r := f.reservations.standing[i]; f.stands(r) {
			i++
		} else {
			f.endReservation(r)
		}
	}
}

// stands reports whether r still has its reason.
func (f *FIFO) stands(r *reservation) bool {
	m := f.models.record(r.target)
	if f.oldest(m) == nil {
		return false
	}
	if limits, err := f.limits(m); err != nil || limits.Paused {
		return false
	}
	if !f.needsSwap(m) {
		return false
	}
	if now := f.policy.stamp(); r.suffices != now {
		if !f.policy.suffices(&m.answers, r.evict, nil) {
			return false
		}
		r.suffices = now
	}
	return true
}

// needsSwap reports whether m needs a swap to serve: it is not ready, or something has to
// be evicted for it. A model that can never serve needs none.
func (f *FIFO) needsSwap(m *model) bool {
	s := f.see(m.name)
	if !s.known {
		return false
	}
	evict, err := f.policy.evictionFor(&m.answers)
	return err == nil && (!s.ready || len(evict) > 0)
}

// endReservation ends r. What it had closed may serve again.
func (f *FIFO) endReservation(r *reservation) {
	f.debug("reservation ended", r.target, nil)
	for _, c := range r.closed {
		f.models.find(c.model) // So that its record is swept if it holds nothing else.
	}
	f.reservations.end(r)
	f.setDeadline(f.models.record(r.target))
	f.step.unblock()
}

// takeReservations takes reservations for the due models that are overdue and need a
// swap, in the order of their oldest requests.
func (f *FIFO) takeReservations(due []*model) {
	due = slices.DeleteFunc(due, func(m *model) bool { return !f.isDue(m) })
	slices.SortFunc(due, func(a, b *model) int { return byArrival(a.line.oldest(), b.line.oldest()) })
	without := f.scratch.without[:0] // the swaps of older models that had to go without a reservation
	for _, m := range due {
		evict, _ := f.policy.evictionFor(&m.answers) // It holds until the step ends.
		if !f.checkOverdue(m, evict) || !f.needsSwap(m) {
			continue
		}
		want := intent{m.name, evict}
		if f.hindersAny(&want, without) {
			without = append(without, want)
		} else if f.policy.suffices(&m.answers, evict, nil) {
			f.takeReservation(m, intent{m.name, slices.Clone(evict)})
		}
	}
	f.scratch.without = without
}

// isDue reports whether m is still due now that its deadline has passed. Its oldest
// request may have been dropped, and it may be paused.
func (f *FIFO) isDue(m *model) bool {
	if f.oldest(m) == nil || m.deadline.index == 0 || m.deadline.at.After(f.step.time()) {
		return false
	}
	limits, err := f.limits(m)
	return err == nil && !limits.Paused
}

// takeReservation takes a reservation for a swap of m. It moves the queue, because the
// plan may be idle already: a Planner may name other models than when the queue last
// moved. If the models that it named then never become idle, nothing else would start the
// swap.
func (f *FIFO) takeReservation(m *model, i intent) {
	f.reservations.take(i)
	f.setDeadline(m)
	f.step.unblock()
	f.debug("reservation taken", m.name, nil)
}

// hindersAny reports whether a swap would hinder a reservation that stands, or the swap
// of an older model that had to go without one. Without the second check, a model that
// needs several groups might never find all of them free of reservations.
func (f *FIFO) hindersAny(want *intent, without []intent) bool {
	for _, r := range f.reservations.standing {
		if f.hinders(want, r) {
			return true
		}
	}
	for i := range without {
		if want.collides(&without[i]) || f.spoils(want, &without[i]) {
			return true
		}
	}
	return false
}

// closeModels closes the models that the reservations plan to evict and that have
// been ready for long enough.
func (f *FIFO) closeModels() {
	for _, r := range f.reservations.standing {
		for _, name := range r.evict {
			if f.reservations.closing(name) == nil && f.mayClose(r, name) {
				f.reservations.close(r, name, f.queue.arrivals, f.step.time())
				f.debug("model closed", name, nil)
			}
		}
	}
}

// mayClose reports whether a model has been ready for long enough to be closed for r. A
// model that a swap stops, or whose load has not reported, does not count as ready,
// whatever the host says.
func (f *FIFO) mayClose(r *reservation, name string) bool {
	if !f.see(name).ready || f.swaps.stopping(name) != nil {
		return false
	}
	if s := f.swaps.of(name); s != nil && s.loads {
		return false
	}
	m := f.models.record(name)
	after := f.prices.closedAfter(&f.models.record(r.target).history, &m.history, f.longestDrain(r.evict))
	return f.step.time().Sub(m.history.readySince) >= after
}

// longestDrain returns the longest of the drains of models.
func (f *FIFO) longestDrain(models []string) (drain time.Duration) {
	for _, name := range models {
		if m := f.models.find(name); m != nil {
			drain = max(drain, m.history.drain)
		}
	}
	return drain
}

// idle notes that m is idle, if a reservation has closed it.
func (f *FIFO) idle(m *model) {
	if c := f.reservations.closing(m.name); c != nil {
		c.idle = f.step.time()
	}
}

// learnDrains is called when the swap of r starts. It learns how long each model that r
// has closed took to finish. A model that is still busy, because the swap stops others,
// is no sample.
func (f *FIFO) learnDrains(r *reservation) {
	for _, c := range r.closed {
		if m := f.models.record(c.model); m.account.inFlight == 0 {
			m.history.learnDrain(c.idle.Sub(c.at))
		}
	}
}

// hinders reports whether a swap would collide with the reserved swap of r, or make the
// plan of r insufficient.
func (f *FIFO) hinders(i *intent, r *reservation) bool {
	if i.collides(&r.intent) {
		return true
	}
	if f.models.record(i.target).line.n > 0 && f.spares(r) {
		return false
	}
	return f.spoils(i, &r.intent)
}

// spoils reports whether the plan of another swap would not suffice beside a swap.
func (f *FIFO) spoils(i, other *intent) bool {
	return !f.policy.suffices(&f.models.record(other.target).answers, other.evict, i)
}

// spares reports whether the plan of r suffices beside the swaps of all models that
// requests wait for, and so beside each of them. If many independent groups are overdue
// at once, this is one question instead of one for each pair.
func (f *FIFO) spares(r *reservation) bool {
	if now := f.policy.stamp(); r.asked != now || r.lines != f.queue.begun {
		r.asked, r.lines = now, f.queue.begun
		r.spared = f.policy.sufficesBesideAll(&f.models.record(r.target).answers, r.evict, f.waitedForNames())
	}
	return r.spared
}

// waitedForNames returns the names of the models that requests wait for, sorted.
func (f *FIFO) waitedForNames() []string {
	if f.scratch.begun != f.queue.begun {
		f.scratch.begun = f.queue.begun
		f.scratch.names = f.scratch.names[:0]
		for _, l := range f.queue.lines {
			f.scratch.names = append(f.scratch.names, l.owner.name)
		}
		slices.Sort(f.scratch.names)
	}
	return f.scratch.names
}

// hindered appends to on the holders of the reservations that a swap would hinder, and
// sorts on. Only reservations taken before the swap's own count.
func (f *FIFO) hindered(i *intent, on []string) []string {
	for _, r := range f.reservations.standing {
		if r.target == i.target {
			break
		}
		if f.hinders(i, r) {
			on = append(on, r.target)
		}
	}
	slices.Sort(on)
	return on
}
