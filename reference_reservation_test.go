package scheduler

import (
	"cmp"
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
	arrival uint64 // requests from this number on are not granted
	at      time.Time
	idle    time.Time // since when it has nothing in flight
}

// look takes reservations and closes models, before an event is handled (R8).
func (r *reference) look() {
	for _, q := range r.requests {
		q.overdue = false
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

// due returns the oldest requests of the models that are due, in order of arrival.
func (r *reference) due() []*refRequest {
	var due []*refRequest
	for _, model := range r.waitingModels() {
		if q := r.dueFor(model); q != nil {
			due = append(due, q)
		}
	}
	slices.SortFunc(due, func(a, b *refRequest) int { return cmp.Compare(a.arrival, b.arrival) })
	return due
}

// dueFor returns the oldest request for model if that is due, or nil.
func (r *reference) dueFor(model string) *refRequest {
	if r.reservationOf(model) != nil {
		return r.oldest(model)
	}
	if r.outstanding(model) != nil || !r.isDue(r.waitingFor(model)[0]) {
		return nil
	}
	q := r.oldest(model)
	if q == nil || !r.isDue(q) || r.paused(model) && r.commits != faultReservesPaused {
		return nil
	}
	return q
}

// isDue reports whether q has waited for so long that its model is due.
func (r *reference) isDue(q *refRequest) bool {
	if r.now().Before(q.askAgain) && r.commits != faultAsksTooOften {
		return false
	}
	return r.now().Sub(q.since) >= r.dueAfter(q.Model)
}

// isOverdue reports whether the model of q, its oldest request, is overdue. If it is not
// yet, it is due again when it will be.
func (r *reference) isOverdue(q *refRequest) bool {
	after := r.overdueAfter(q.Model)
	for _, o := range r.waitingFor(q.Model) {
		o.overdue = r.now().Sub(o.since) >= after
	}
	if !q.overdue && r.reservationOf(q.Model) == nil {
		q.askAgain = q.since.Add(after)
	}
	return q.overdue
}

// takeReservations goes through the overdue models that need a swap, in the order of
// their oldest requests. A model that has to go without a reservation keeps younger ones
// from taking what it needs.
func (r *reference) takeReservations() {
	var without []*refReservation
	for _, q := range r.due() {
		if !r.isOverdue(q) || r.commits == faultNeverReserves {
			continue
		}
		if r.reservationOf(q.Model) != nil || !r.needsSwap(q.Model) {
			continue
		}
		plan, _ := r.ask(q.Model)
		s := &refReservation{model: q.Model, plan: plan}
		if r.hindersAny(s, r.reservations) || r.hindersAny(s, without) {
			without = append(without, s)
			continue
		}
		if r.suffices(s, nil) {
			r.reservations = append(r.reservations, s)
			r.unblocked = r.unblocked || r.commits != faultReservesStill // Its plan may be idle already.
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
	if refCollide(model, evict, s.model, s.plan) {
		return true
	}
	if slices.Contains(r.reservations, s) && slices.Contains(r.waitingModels(), model) && model != r.joining && r.suffices(s, nil, r.waitingModels()...) {
		return false // It suffices beside all of them, and hence beside this one.
	}
	return !r.suffices(s, evict, model)
}

// suffices reports whether the plan of s is enough beside further swaps, which load
// models and stop evict. A refusal means no.
func (r *reference) suffices(s *refReservation, evict []string, models ...string) bool {
	running := r.running(s.model)
	running = slices.DeleteFunc(running, func(m string) bool {
		return slices.Contains(s.plan, m) || slices.Contains(evict, m) || r.stoppedBy(m) != nil
	})
	for _, model := range models {
		if !slices.Contains(running, model) && model != s.model {
			running = append(running, model)
		}
	}
	slices.Sort(running)
	residents := r.residents(running)
	for i := range residents {
		if slices.Contains(models, residents[i].Model) {
			residents[i].Loading, residents[i].Leaving = true, false
		}
	}
	more, err := r.askAbout(s.model, residents, models...)
	return len(more) == 0 && (err == nil || r.commits == faultSufficesAnyway)
}

// sufficesYet reports whether plan is enough for model while what outstanding swaps stop
// still counts as running.
func (r *reference) sufficesYet(model string, plan []string) bool {
	running := slices.DeleteFunc(r.running(model), func(m string) bool { return slices.Contains(plan, m) })
	more, err := r.askAbout(model, r.residents(running))
	return len(more) == 0 && (err == nil || r.commits == faultSufficesAnyway)
}

// endReservations ends the reservations whose reason has ended.
func (r *reference) endReservations() {
	for _, s := range slices.Clone(r.reservations) {
		paused := r.paused(s.model) && r.commits != faultReservesPaused
		if r.oldest(s.model) == nil || paused || !r.needsSwap(s.model) || !r.suffices(s, nil) {
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
	open := m != nil && r.now().Sub(m.readySince) < r.closesAfter(s, model)
	if open && r.commits != faultClosesAtOnce {
		return
	}
	s.closed = append(s.closed, refClosed{model: model, arrival: r.arrivals, at: r.now(), idle: r.now()})
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
