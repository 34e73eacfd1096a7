package scheduler

import (
	"cmp"
	"slices"
	"time"
)

// The figures of R8. They come from simulation; anything near them does about as
// well.
const (
	defaultLoad   = 10 * time.Second // until a load is known
	leastPrice    = time.Second
	overduePrices = 5 // a model is overdue after so many prices
	closingPrices = 2 // a model may stay ready for so many of the holder's
)

// reservation keeps room for a model that has waited for too long. This is EASY
// backfilling (Lifka, The ANL/IBM SP Scheduling System, 1995): what does not
// hinder the reserved swap goes on.
type reservation struct {
	model  *model
	plan   []string  // what its swap stops if the Swapper's present answer is busy
	closed []*model  // models of the plan that it has closed
	latest time.Time // when it closed the last of them
}

// intent is a swap that might start.
type intent struct {
	model *model
	evict []string
}

// stops reports whether the swap would stop the model. A nil intent stops none.
func (i *intent) stops(name string) bool {
	return i != nil && slices.Contains(i.evict, name)
}

// look is what R8 does when an event arrives, before the event is handled: it
// ends reservations, takes new ones, and closes models. There is no timer because
// it is arrivals that overtake.
func (f *FIFO) look() {
	if f.queued == 0 && len(f.reservations) == 0 {
		return
	}
	f.meet()
	if f.opts.Patience < 0 {
		return
	}
	f.endReservations()
	f.takeReservations()
	f.closeModels()
}

// loadOf is how long a load of m is expected to take.
func (f *FIFO) loadOf(m *model) time.Duration {
	switch {
	case m.loadKnown:
		return m.load
	case f.loadKnown:
		return f.latestLoad
	}
	return defaultLoad
}

// patience is Patience or some prices of m, whichever is less. The price is what
// it takes to get m loaded.
func (f *FIFO) patience(m *model, prices time.Duration) time.Duration {
	longest := f.opts.Patience / prices
	price := max(leastPrice, min(f.loadOf(m), longest)+min(f.drain, longest))
	if price > longest {
		return f.opts.Patience
	}
	return prices * price
}

// overdue reports whether r has waited for so long that its model is overdue.
func (f *FIFO) overdue(r *request) bool {
	return f.opts.Patience >= 0 && f.now().Sub(r.since) >= f.patience(r.model, overduePrices)
}

// sampleDrain learns how long models take to finish what they have, from the
// closing of the last one to the start of the swap.
func (f *FIFO) sampleDrain(d time.Duration) {
	if !f.drainKnown {
		f.drainKnown = true
		f.drain = d
		return
	}
	f.drain += (d - f.drain) / 4
}

// endReservations ends those that have lost their reason: nobody waits, no swap
// is needed, or the plan suffices no more.
func (f *FIFO) endReservations() {
	for i := 0; i < len(f.reservations); {
		r := f.reservations[i]
		if f.stands(r) {
			i++
		} else {
			f.end(r)
		}
	}
}

// stands reports whether r has its reason still.
func (f *FIFO) stands(r *reservation) bool {
	if f.oldest(r.model) == nil || !f.needsSwap(r.model) {
		return false
	}
	return f.suffices(r.model, r.plan, nil)
}

// needsSwap looks at m and reports whether it needs a swap to serve: it is not
// ready, or something has to be evicted for it. One that can never serve needs
// none.
func (f *FIFO) needsSwap(m *model) bool {
	f.observe(m)
	evict, err := f.needs(m)
	return err == nil && (m.state != StateReady || len(evict) > 0)
}

// end ends r and opens what it had closed.
func (f *FIFO) end(r *reservation) {
	f.debug("reservation ended", r.model.name, nil)
	f.reservations = slices.DeleteFunc(f.reservations, func(s *reservation) bool { return s == r })
	f.moving = true
	for _, m := range r.closed {
		m.closedBy = nil
		f.release(m)
	}
	r.model.reservation = nil
	f.release(r.model)
}

// takeReservations lets the overdue models that need a swap take reservations, in
// the order of their oldest requests.
func (f *FIFO) takeReservations() {
	f.order = f.order[:0]
	early := f.now().Add(-min(f.opts.Patience, overduePrices*leastPrice))
	for _, m := range f.waiting {
		r := m.queue.oldest()
		if !r.since.After(early) && m.reservation == nil && m.swap == nil && f.overdue(r) {
			f.order = append(f.order, m)
		}
	}
	if len(f.order) == 0 {
		return
	}
	slices.SortFunc(f.order, func(a, b *model) int {
		return cmp.Compare(a.queue.oldest().arrival, b.queue.oldest().arrival)
	})
	f.without = f.without[:0]
	for _, m := range f.order {
		if f.needsSwap(m) {
			f.takeReservation(m)
		}
	}
}

// takeReservation lets m take a reservation, unless its swap would hinder one that
// stands, or the swap of an older model that had to go without one: that model,
// which needs several groups, might otherwise never find none standing.
func (f *FIFO) takeReservation(m *model) {
	want := intent{m, m.evict}
	for _, r := range f.reservations {
		if f.hinders(&want, intent{r.model, r.plan}) {
			f.without = append(f.without, want)
			return
		}
	}
	for _, older := range f.without {
		if f.hinders(&want, older) {
			f.without = append(f.without, want)
			return
		}
	}
	if !f.suffices(m, want.evict, nil) {
		return
	}
	m.reservation = &reservation{model: m, plan: slices.Clone(want.evict)}
	f.reservations = append(f.reservations, m.reservation)
	f.debug("reservation taken", m.name, nil)
}

// closeModels closes the models that the reservations plan to evict and that have
// been ready for long enough.
func (f *FIFO) closeModels() {
	for _, r := range f.reservations {
		for _, name := range r.plan {
			if m := f.record(name); m.closedBy == nil && f.readyFor(m, f.patience(r.model, closingPrices)) {
				m.closedBy, m.closedAt = r, f.arrivals
				r.closed, r.latest = append(r.closed, m), f.now()
				f.debug("model closed", name, nil)
			}
		}
	}
}

// readyFor reports whether m has been ready for as long as d: since the SwapDone of
// the load that made it so, or since ever. One that a swap is stopping is not ready
// whatever the host says of it.
func (f *FIFO) readyFor(m *model, d time.Duration) bool {
	f.observe(m)
	loading := m.swap != nil && m.swap.loads
	return m.state == StateReady && !loading && m.leaving == nil && f.now().Sub(m.readySince) >= d
}

// hinders reports whether a swap would collide with a reserved one, or leave its
// plan insufficient.
func (f *FIFO) hinders(swap *intent, reserved intent) bool {
	return swap.stops(reserved.model.name) || reserved.stops(swap.model.name) ||
		slices.ContainsFunc(swap.evict, reserved.stops) ||
		!f.suffices(reserved.model, reserved.evict, swap)
}

// hindered appends to on the holders of the reservations that a swap of m would
// hinder: of those that were taken before its own.
func (f *FIFO) hindered(m *model, evict []string, on []string) []string {
	want := intent{m, evict}
	for _, r := range f.reservations {
		if r.model == m {
			break
		}
		if f.hinders(&want, intent{r.model, r.plan}) {
			on = append(on, r.model.name)
		}
	}
	slices.Sort(on)
	return on
}
