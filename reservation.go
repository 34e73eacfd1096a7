package scheduler

import (
	"slices"
	"time"
)

// reservation keeps room for a model that has waited for too long (R8). This is
// EASY backfilling (Lifka, The ANL/IBM SP Scheduling System, 1995): what does not
// hinder the reserved swap goes on.
type reservation struct {
	intent            // the reserved swap, which stops the plan
	closed []*closing // models of the plan that it has closed, in order
}

// closing is one model that a reservation has closed.
type closing struct {
	model   string
	by      *reservation
	arrival uint64 // the latest one before it was closed
	at      time.Time
}

// reservations is the book of the reservations that stand. None hinders one before
// it, so that no two plans have a model in common. The zero value is an empty book.
type reservations struct {
	standing []*reservation // in the order of taking
	holders  map[string]*reservation
	closed   map[string]*closing
}

// of returns the reservation that a model holds, nil if it has none.
func (b *reservations) of(model string) *reservation {
	if len(b.standing) == 0 {
		return nil
	}
	return b.holders[model]
}

// closing returns how a model was closed, nil if it is open.
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

// close closes a model of the plan of r, to requests that arrive after that number.
func (b *reservations) close(r *reservation, model string, arrival uint64, at time.Time) {
	c := &closing{model, r, arrival, at}
	r.closed = append(r.closed, c)
	b.closed[model] = c
}

// end ends r and opens what it has closed.
func (b *reservations) end(r *reservation) {
	b.standing = slices.DeleteFunc(b.standing, func(s *reservation) bool { return s == r })
	delete(b.holders, r.target)
	for _, c := range r.closed {
		delete(b.closed, c.model)
	}
}

// look is what R8 does when an event arrives, before the event is handled: it ends
// reservations, takes new ones, and closes models. There is no timer because it is
// arrivals that overtake.
func (f *FIFO) look() {
	if f.queue.waiting == 0 && len(f.reservations.standing) == 0 {
		return
	}
	f.meetAll()
	if f.opts.Patience < 0 {
		return
	}
	f.endReservations()
	if f.queue.waiting > 0 {
		f.takeReservations()
		f.closeModels()
	}
}

// endReservations ends those that have lost their reason: no request waits, no swap
// is needed, or the plan no longer suffices.
func (f *FIFO) endReservations() {
	for i := 0; i < len(f.reservations.standing); {
		if r := f.reservations.standing[i]; f.stands(r) {
			i++
		} else {
			f.endReservation(r)
		}
	}
}

// stands reports whether r has its reason still.
func (f *FIFO) stands(r *reservation) bool {
	m := f.models.record(r.target)
	return f.oldest(m) != nil && f.needsSwap(m) && f.policy.suffices(&m.answers, r.evict, nil)
}

// needsSwap reports whether m needs a swap to serve: it is not ready, or something
// has to be evicted for it. A model that can never serve needs none.
func (f *FIFO) needsSwap(m *model) bool {
	s := f.see(m.name)
	evict, err := f.needs(m, s)
	return err == nil && (!s.ready || len(evict) > 0)
}

// endReservation ends r. What it had closed may serve again.
func (f *FIFO) endReservation(r *reservation) {
	f.debug("reservation ended", r.target, nil)
	for _, c := range r.closed {
		f.models.find(c.model)
	}
	f.reservations.end(r)
	f.step.unblock()
}

// takeReservations lets the overdue models that need a swap take reservations, in
// the order of their oldest requests.
func (f *FIFO) takeReservations() {
	now := f.step.time()
	var overdue []*model
	for _, l := range f.queue.lines {
		waited := now.Sub(l.oldest().since)
		m := l.owner
		if !f.prices.mayBeOverdue(waited) || f.reservations.of(m.name) != nil || f.swaps.of(m.name) != nil {
			continue
		}
		if f.prices.overdue(&m.history, waited) {
			overdue = append(overdue, m)
		}
	}
	slices.SortFunc(overdue, func(a, b *model) int { return byArrival(a.line.oldest(), b.line.oldest()) })
	var without []intent // the swaps of older models that had to go without a reservation
	for _, m := range overdue {
		if !f.needsSwap(m) {
			continue
		}
		evict, _ := f.policy.evictionFor(&m.answers)
		want := intent{m.name, evict}
		if f.hindersAny(&want, without) {
			without = append(without, want)
		} else if f.policy.suffices(&m.answers, evict, nil) {
			f.reservations.take(intent{m.name, slices.Clone(evict)})
			f.debug("reservation taken", m.name, nil)
		}
	}
}

// hindersAny reports whether a swap would hinder a reservation that stands, or the
// swap of an older model that had to go without one. Otherwise that model, which
// needs several groups, might never find none of them reserved.
func (f *FIFO) hindersAny(want *intent, without []intent) bool {
	for _, r := range f.reservations.standing {
		if f.hinders(want, &r.intent) {
			return true
		}
	}
	for i := range without {
		if f.hinders(want, &without[i]) {
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

// mayClose reports whether a model has been ready for long enough to be closed for
// r. One that a swap stops, or whose load has not reported, is not ready whatever
// the host says of it.
func (f *FIFO) mayClose(r *reservation, name string) bool {
	if !f.see(name).ready || f.swaps.stopping(name) != nil {
		return false
	}
	if s := f.swaps.of(name); s != nil && s.loads {
		return false
	}
	holder, m := f.models.record(r.target), f.models.record(name)
	return f.prices.mayClose(&holder.history, &m.history, f.step.time())
}

// hinders reports whether a swap would collide with a reserved one, or leave its
// plan insufficient.
func (f *FIFO) hinders(i, reserved *intent) bool {
	return i.collides(reserved) ||
		!f.policy.suffices(&f.models.record(reserved.target).answers, reserved.evict, i)
}

// hindered appends the holders of the reservations that a swap would hinder to on,
// of those that were taken before its own. On is sorted then.
func (f *FIFO) hindered(i *intent, on []string) []string {
	for _, r := range f.reservations.standing {
		if r.target == i.target {
			break
		}
		if f.hinders(i, &r.intent) {
			on = append(on, r.target)
		}
	}
	slices.Sort(on)
	return on
}
