package scheduler

import (
	"slices"
)

// action is what is to be done for a request, or for those who wait for a model.
type action int

const (
	waits   action = iota // nothing now
	serves                // grant
	starts                // start a swap
	cancels               // cancel the one swap in the way, which nobody waits for
	refuses               // answer with an error
)

// verdict is the answer of decide.
type verdict struct {
	action action
	evict  []string // starts: what the swap stops
	swap   *swap    // cancels
	err    error    // refuses
}

// decide says what can be done now for a request for m with that arrival number;
// a newcomer and those who wait are decided on alike. M has just been looked at.
// Why they have to wait is noted in m.
func (f *FIFO) decide(m *model, arrival uint64) verdict {
	if m.swap != nil {
		return verdict{} // WaitLoading, or WaitSwap for one that is abandoned
	}
	evict, err := f.needs(m)
	if err != nil {
		return verdict{action: refuses, err: err}
	}
	slot := m.state != StateReady || f.hasSlot(m)
	if !slot {
		m.note(WaitSlots, m.name)
	}
	if m.servable() {
		if slot && (arrival <= m.limit() || f.first(m, m.limit()) != nil) {
			return verdict{action: serves} // Those whom m is not closed to.
		}
		return verdict{}
	}
	choices, plans := [2][]string{evict}, 1
	if r := m.reservation; r != nil {
		f.plan = f.present(r.plan, f.plan[:0])
		choices[1], plans = f.plan, 2
	}
	var unwanted *swap
	for i, evict := range choices[:plans] {
		reason, on := f.obstacle(m, evict, f.inTheWay[:0])
		f.inTheWay = on
		if reason == "" {
			return verdict{action: starts, evict: evict}
		}
		if i == 0 && slot {
			m.note(reason, on...)
		}
		if reason == WaitSwap && len(on) == 1 && unwanted == nil {
			unwanted = f.unwanted(m, evict, f.models[on[0]].swap)
		}
	}
	if unwanted != nil {
		return verdict{action: cancels, swap: unwanted}
	}
	return verdict{}
}

// needs returns what has to be evicted for m to serve, or why it never will.
func (f *FIFO) needs(m *model) ([]string, error) {
	if !m.known {
		return nil, notFound(m.name)
	}
	return f.evictionFor(m)
}

// servable reports whether m, whose needs are known, needs no swap and is not
// being stopped by one (R3).
func (m *model) servable() bool {
	return m.state == StateReady && len(m.evict) == 0 && m.leaving == nil
}

// obstacle returns the first reason why a swap of m cannot start (R5), "" if
// there is none, and appends to on the models that stand in the way.
func (f *FIFO) obstacle(m *model, evict, on []string) (WaitReason, []string) {
	for _, name := range evict {
		if e := f.models[name]; e != nil && e.inFlight > 0 {
			on = append(on, name)
		}
	}
	if len(on) > 0 {
		slices.Sort(on)
		return WaitBusy, on
	}
	if on = f.colliding(m, evict, on); len(on) > 0 {
		return WaitSwap, on
	}
	if on = f.hindered(m, evict, on); len(on) > 0 {
		return WaitReserved, on
	}
	return "", on
}

// colliding appends to on the targets of the outstanding swaps that a swap of m
// would collide with: it stops their target, they stop its target, or both stop
// the same model.
func (f *FIFO) colliding(m *model, evict, on []string) []string {
	if len(f.swaps) == 0 {
		return on
	}
	if m.leaving != nil {
		on = append(on, m.leaving.model.name)
	}
	for _, name := range evict {
		e := f.models[name]
		if e != nil && e.swap != nil {
			on = append(on, name)
		}
		if e != nil && e.leaving != nil {
			on = append(on, e.leaving.model.name)
		}
	}
	slices.Sort(on)
	return slices.Compact(on)
}

// unwanted returns s, which alone collides with a swap of m, if it may be cancelled
// for that (R14): nobody waits for it, it is less than half done, and a load has
// served somebody since the last such call. If not, it returns nil.
func (f *FIFO) unwanted(m *model, evict []string, s *swap) *swap {
	if f.canceler == nil || f.impatient || s.abandoned || f.wanted(s.model) ||
		f.now().Sub(s.started) >= (f.loadOf(s.model)+1)/2 {
		return nil
	}
	if f.inTheWay = f.hindered(m, evict, f.inTheWay[:0]); len(f.inTheWay) > 0 {
		return nil
	}
	return s
}

// wanted reports whether somebody waits for m, or is about to.
func (f *FIFO) wanted(m *model) bool {
	return f.oldest(m) != nil || f.arriving && f.event.req.Model == m.name
}

// present appends to evict the models of plan that run.
func (f *FIFO) present(plan, evict []string) []string {
	f.refresh()
	for _, name := range plan {
		if _, found := slices.BinarySearch(f.running, name); found {
			evict = append(evict, name)
		}
	}
	return evict
}

// move lets the queue move until nothing can: what is ready serves what it can
// before any swap starts, and after a start, or when something has stopped holding
// others back, everything is looked at again.
func (f *FIFO) move() {
	for again := true; again; {
		f.moving = false
		f.endReservations()
		f.serveReady()
		again = f.startNext() || f.moving
	}
}

// settle lets the queue move if something has happened that may let it.
func (f *FIFO) settle() {
	if len(f.reservations) > 0 {
		f.endReservations()
	}
	if f.moving && f.queued > 0 {
		f.move()
	}
	f.moving = false
}

// serveReady looks at every model that somebody waits for, in the order of R6:
// those that are ready serve what they can (R7), and where nobody can ever be
// served everybody learns why (R19). For a model that cannot serve now the Swapper
// is asked only after that, so that a Planner sees what has been granted.
func (f *FIFO) serveReady() {
	f.rank()
	for _, m := range f.order {
		if m.swap != nil {
			continue
		}
		if f.observe(m); m.known && (m.state != StateReady || m.leaving != nil) {
			continue
		}
		if _, err := f.needs(m); err != nil {
			f.fail(m, err)
		} else if m.servable() {
			f.serve(m)
		}
	}
}

// serve grants the requests that wait for m in order, as far as there are slots,
// and returns how many.
func (f *FIFO) serve(m *model) (granted int) {
	for f.hasSlot(m) {
		r := f.first(m, m.limit())
		if r == nil {
			return granted
		}
		f.take(r)
		if f.grant(m, &r.req) {
			granted++
		}
	}
	m.note(WaitSlots, m.name)
	return granted
}

// grant answers a request of m with a lease, and reports whether its caller took
// it.
func (f *FIFO) grant(m *model, req *HandlerReq) bool {
	last := m.lastUsed
	req.Lease = f.lease(m)
	m.lastUsed = req.Lease
	f.counters.Granted++
	if f.eff.GrantServe(*req, m.name) {
		return true
	}
	f.counters.Granted--
	f.counters.Cancelled++
	m.lastUsed = last
	f.endLease(req.Lease)
	return false
}

// startNext starts the first swap that can start, and reports whether there was
// one: the holders of reservations come first, in the order of taking, then the
// others by rank.
func (f *FIFO) startNext() bool {
	for _, r := range f.reservations {
		if f.tryStart(r.model) {
			return true
		}
	}
	for _, m := range f.order {
		if m.reservation == nil && f.tryStart(m) {
			return true
		}
	}
	return false
}

// tryStart starts a swap of m for the requests that wait, if it can.
func (f *FIFO) tryStart(m *model) bool {
	r := f.oldest(m)
	if r == nil {
		return false
	}
	v := f.decide(m, r.arrival)
	f.act(m, v)
	return v.action == starts
}

// act carries out a verdict on the requests that wait for m.
func (f *FIFO) act(m *model, v verdict) {
	switch v.action {
	case serves:
		f.serve(m)
	case starts:
		f.start(m, v.evict)
	case cancels:
		f.impatient = true
		f.abandon(v.swap)
		f.flush()
	case refuses:
		f.fail(m, v.err)
	}
}

// start starts the swap of m. A model that is not ready has lost whom it served,
// and those it evicts are idle.
func (f *FIFO) start(m *model, evict []string) {
	evict = slices.Clone(evict)
	s := &swap{model: m, started: f.now(), loads: m.state != StateReady}
	f.swapper.OnSwapStart(m.name, f.others(m))
	m.swap = s
	m.note(WaitLoading, m.name)
	f.swaps = append(f.swaps, s)
	for _, name := range evict {
		e := f.record(name)
		e.leaving = s
		s.evict = append(s.evict, e)
	}
	if s.loads {
		m.writeOff(f.lastLease)
	}
	if r := m.reservation; r != nil {
		if len(r.closed) > 0 {
			f.sampleDrain(f.now().Sub(r.latest))
		}
		f.end(r)
	}
	f.loadStarted(m)
	f.counters.Swaps++
	f.counters.Evictions += uint64(len(evict))
	f.debug("swap started", m.name, nil)
	f.changed()
	f.moving = true // It may have made way for others too.
	f.eff.StartSwap(m.name, evict)
}

// abandon leaves a swap to itself: it stays on the books until its SwapDone, and
// nobody is served by that. The host is told, once, if it can cancel.
func (f *FIFO) abandon(s *swap) {
	if s.abandoned {
		return
	}
	s.abandoned = true
	f.counters.SwapsAbandoned++
	if f.canceler != nil {
		f.owe(effect{kind: cancelSwap, ids: []string{s.model.name}})
	}
}

// fail answers everybody who waits for m with err.
func (f *FIFO) fail(m *model, err error) {
	f.failAll(f.takeAll(m, nil), func(*request) error { return err })
	f.flush()
}
