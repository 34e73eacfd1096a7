package scheduler

import (
	"slices"
	"time"
)

// refReservation is a reservation (R8).
type refReservation struct {
	model  string
	plan   []string
	closed []refClosed
}

// refClosed is a model that a reservation has closed.
type refClosed struct {
	model   string
	arrival uint64 // whoever arrived from this number on is not granted
	at      time.Time
}

// look takes reservations and closes models, before an event is handled (R8).
func (r *reference) look() {
	for _, model := range r.waitingModels() {
		r.oldest(model)
	}
	if len(r.requests) == 0 || r.opts.Patience < 0 {
		return
	}
	clear(r.answers)
	r.endReservations()
	r.takeReservations()
	for _, s := range r.reservations {
		for _, model := range s.plan {
			r.closeFor(s, model)
		}
	}
}

// takeReservations goes through the overdue models that need a swap, in the order
// of their oldest requests. One that has to go without keeps what it would need
// from those that are less old.
func (r *reference) takeReservations() {
	var without []*refReservation
	for _, model := range r.waitingModels() {
		q := r.oldest(model)
		if q == nil || !r.overdue(q) || r.commits == faultNeverReserves {
			continue
		}
		if r.reservationOf(model) != nil || r.outstanding(model) != nil || !r.needsSwap(model) {
			continue
		}
		plan, _ := r.ask(model)
		s := &refReservation{model: model, plan: plan}
		if r.hindersAny(s, r.reservations) || r.hindersAny(s, without) {
			without = append(without, s)
			continue
		}
		if r.suffices(s, "", nil) {
			r.reservations = append(r.reservations, s)
		}
	}
}

// hindersAny reports whether the swap of s hinders one of reservations.
func (r *reference) hindersAny(s *refReservation, reservations []*refReservation) bool {
	return slices.ContainsFunc(reservations, func(o *refReservation) bool {
		return r.hinders(s.model, s.plan, o)
	})
}

// hindered returns the holders of the reservations that a swap for model would
// hinder, sorted: all of them, or those taken before the model's own.
func (r *reference) hindered(model string, evict []string) []string {
	var holders []string
	for _, s := range r.reservations {
		if s.model == model {
			break
		}
		if r.hinders(model, evict, s) {
			holders = append(holders, s.model)
		}
	}
	slices.Sort(holders)
	return holders
}

// hinders reports whether a swap for model hinders s.
func (r *reference) hinders(model string, evict []string, s *refReservation) bool {
	return refCollide(model, evict, s.model, s.plan) || !r.suffices(s, model, evict)
}

// suffices reports whether the plan of s is enough beside a further swap, which
// loads model and stops evict. Model "" is no swap.
func (r *reference) suffices(s *refReservation, model string, evict []string) bool {
	running := r.running(s.model)
	running = slices.DeleteFunc(running, func(m string) bool {
		return slices.Contains(s.plan, m) || slices.Contains(evict, m) || r.stoppedBy(m) != nil
	})
	if model != "" && !slices.Contains(running, model) {
		running = append(running, model)
		slices.Sort(running)
	}
	residents := r.residents(running)
	for i := range residents {
		if residents[i].Model == model {
			residents[i].Loading, residents[i].Leaving = true, false
		}
	}
	more, err := r.askAbout(s.model, residents, model)
	return len(more) == 0 && err == nil
}

// endReservations ends the reservations whose reason has ended.
func (r *reference) endReservations() {
	for _, s := range slices.Clone(r.reservations) {
		if r.oldest(s.model) == nil || !r.needsSwap(s.model) || !r.suffices(s, "", nil) {
			r.endReservation(s)
		}
	}
}

// endReservation ends a reservation. What it had closed opens.
func (r *reference) endReservation(s *refReservation) {
	r.reservations = slices.DeleteFunc(r.reservations, func(o *refReservation) bool { return o == s })
	r.unblocked = true
}

// needsSwap reports whether model has to be loaded or something evicted for it. It
// is false for a model that cannot be loaded at all.
func (r *reference) needsSwap(model string) bool {
	if _, known := r.eff.ModelState(model); !known {
		return false
	}
	evict, err := r.ask(model)
	return err == nil && (!r.ready(model) || len(evict) > 0)
}

// closeFor closes model, of the plan of s, if it has been ready for long enough.
func (r *reference) closeFor(s *refReservation, model string) {
	isClosed := func(c refClosed) bool { return c.model == model }
	if slices.ContainsFunc(s.closed, isClosed) || !r.ready(model) || r.commits == faultNeverCloses {
		return
	}
	if swap := r.outstanding(model); swap != nil && swap.load || r.stoppedBy(model) != nil {
		return
	}
	m := r.models[model]
	open := m != nil && r.now().Sub(m.readySince) < r.patience(2, s.model)
	if open && r.commits != faultClosesAtOnce {
		return
	}
	s.closed = append(s.closed, refClosed{model: model, arrival: r.arrivals, at: r.now()})
}

// closedTo returns the holders of the reservations that closed the model of q
// before q arrived, sorted.
func (r *reference) closedTo(q *refRequest) []string {
	var holders []string
	for _, s := range r.reservations {
		for _, c := range s.closed {
			if c.model == q.Model && q.arrival >= c.arrival {
				holders = append(holders, s.model)
			}
		}
	}
	slices.Sort(holders)
	return holders
}

// closed reports whether a reservation has closed model.
func (r *reference) closed(model string) bool {
	for _, s := range r.reservations {
		for _, c := range s.closed {
			if c.model == model {
				return true
			}
		}
	}
	return false
}

// reservationOf returns the reservation of model, or nil.
func (r *reference) reservationOf(model string) *refReservation {
	for _, s := range r.reservations {
		if s.model == model {
			return s
		}
	}
	return nil
}

// sampleDrain learns from a reservation whose swap starts how long the models that
// it closed took to finish.
func (r *reference) sampleDrain(s *refReservation) {
	if len(s.closed) == 0 {
		return
	}
	sample := r.now().Sub(s.closed[len(s.closed)-1].at)
	if r.drained && r.commits != faultDrainLatest {
		sample = r.drain + (sample-r.drain)/4
	}
	r.drained, r.drain = true, sample
}

// overdue reports whether q has waited for so long that its model may reserve.
func (r *reference) overdue(q *refRequest) bool {
	return r.opts.Patience >= 0 && r.now().Sub(q.since) >= r.patience(5, q.Model)
}

// patience returns some prices of model, bounded by Patience.
func (r *reference) patience(prices time.Duration, model string) time.Duration {
	price := max(r.loadOf(model)+r.drain, time.Second)
	if price > r.opts.Patience/prices {
		return r.opts.Patience
	}
	return prices * price
}
