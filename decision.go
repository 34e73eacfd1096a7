package scheduler

import "slices"

// action is what is to be done for the requests of a model.
type action int

const (
	waits   action = iota // nothing now
	serves                // grant them
	starts                // start a swap
	cancels               // cancel the one swap in the way, which nobody waits for
	refuses               // answer them with an error
)

// verdict is the answer of decide.
type verdict struct {
	action action
	evict  []string // starts: what the swap stops
	loads  bool     // starts: the model is not ready
	swap   *swap    // cancels
	err    error    // refuses
}

// sight is how the host sees a model.
type sight struct {
	known bool
	ready bool // never so if it is not known
}

// see asks the host about a model.
func (f *FIFO) see(name string) sight {
	state, known := f.eff.ModelState(name)
	return sight{known, known && state == StateReady}
}

// block is why the requests of a model wait, as the last look at it has found.
type block struct {
	reason WaitReason
	on     []string
}

// note notes why requests wait, and on which models.
func (b *block) note(reason WaitReason, on ...string) {
	b.reason, b.on = reason, append(b.on[:0], on...)
}

// decide says what can be done now for a request for m that has that arrival
// number. A newcomer and those that wait are decided on alike. S is how the host
// sees m at this moment. Why the requests of m have to wait is noted in m.
func (f *FIFO) decide(m *model, arrival uint64, s sight) verdict {
	if f.swaps.of(m.name) != nil {
		return verdict{} // They wait for its report: one swap per model (R4).
	}
	evict, err := f.needs(m, s)
	if err != nil {
		return verdict{action: refuses, err: err}
	}
	limits, err := f.limits(m)
	if err != nil {
		return verdict{action: refuses, err: err}
	}
	// Slots bound what a process serves, so that a model that is not ready has as many
	// as it likes. Without a slot a ready model cannot serve, but it may still start a
	// swap that it needs: by the time the swap has reported a slot may be free (R7).
	slot := !s.ready || limits.slot(m.account.inFlight)
	if !slot {
		m.block.note(WaitSlots, m.name)
	}
	if f.servable(m, s, evict) {
		// What a newcomer to a closed model may not have, those that came before it may.
		limit := f.limit(m)
		if slot && (arrival <= limit || f.first(m, limit) != nil) {
			return verdict{action: serves}
		}
		return verdict{}
	}
	return f.decideSwap(m, evict, s, slot)
}

// decideSwap says whether a swap of m can start, which stops evict or, for the
// holder of a reservation, its plan: by the time that one of the two is idle the
// Swapper may prefer models that are busy, and without the plan it would go on to
// do so for as long as there are requests for them (R8).
func (f *FIFO) decideSwap(m *model, evict []string, s sight, slot bool) verdict {
	choices, n := [2]intent{{m.name, evict}}, 1
	if r := f.reservations.of(m.name); r != nil {
		f.scratch.plan = f.present(r.evict, f.scratch.plan[:0])
		choices[1], n = intent{m.name, f.scratch.plan}, 2
	}
	var unwanted *swap
	for i := range choices[:n] {
		reason, on := f.obstacle(&choices[i], f.scratch.on[:0])
		f.scratch.on = on
		if reason == "" {
			return verdict{action: starts, evict: choices[i].evict, loads: !s.ready}
		}
		if i == 0 && slot {
			m.block.note(reason, on...)
		}
		if reason == WaitSwap && len(on) == 1 && unwanted == nil {
			unwanted = f.unwanted(&choices[i], f.swaps.of(on[0]))
		}
	}
	if unwanted != nil {
		return verdict{action: cancels, swap: unwanted}
	}
	return verdict{}
}

// needs returns what has to be evicted for m to serve, or why it never will.
func (f *FIFO) needs(m *model, s sight) ([]string, error) {
	if !s.known {
		return nil, notFound(m.name)
	}
	return f.policy.evictionFor(&m.answers)
}

// servable reports whether m, for which evict has to go, needs no swap and is not
// being stopped by one (R3).
func (f *FIFO) servable(m *model, s sight, evict []string) bool {
	return s.ready && len(evict) == 0 && f.swaps.stopping(m.name) == nil
}

// limits asks for the limits of m.
func (f *FIFO) limits(m *model) (l Limits, err error) {
	if f.opts.Limits == nil {
		return Limits{}, nil
	}
	defer refuse(f.log, "Limits", m.name, &err)
	return f.opts.Limits(m.name), nil
}

// slot reports whether one more request may be in flight (R9).
func (l Limits) slot(inFlight int) bool { return l.Concurrency <= 0 || inFlight < l.Concurrency }

// limit is the latest arrival that m grants to: a closed model grants only to
// requests that arrived before it was closed (R8).
func (f *FIFO) limit(m *model) uint64 {
	if c := f.reservations.closing(m.name); c != nil {
		return c.arrival
	}
	return everybody
}

// obstacle returns the first reason why a swap cannot start (R5), "" if there is
// none. It appends the models that stand in the way to on.
func (f *FIFO) obstacle(i *intent, on []string) (WaitReason, []string) {
	for _, name := range i.evict {
		if e := f.models.find(name); e != nil && e.account.inFlight > 0 {
			on = append(on, name)
		}
	}
	if len(on) > 0 {
		slices.Sort(on)
		return WaitBusy, on
	}
	if on = f.swaps.colliding(i, on); len(on) > 0 {
		return WaitSwap, on
	}
	if on = f.hindered(i, on); len(on) > 0 {
		return WaitReserved, on
	}
	return "", on
}

// unwanted returns s, the only swap that i collides with, if it may be cancelled for
// i: nobody waits for it, it is less than half done, i could start without it, and
// a load has served somebody since the last such call, so that callers who leave too
// early cannot keep every load from ending (R14). Otherwise it returns nil.
func (f *FIFO) unwanted(i *intent, s *swap) *swap {
	if f.canceler == nil || f.swaps.cancelled || s.abandoned || f.wanted(s.target) {
		return nil
	}
	load := f.prices.load(&f.models.record(s.target).history)
	if f.step.time().Sub(s.started) >= (load+1)/2 {
		return nil
	}
	if f.scratch.on = f.hindered(i, f.scratch.on[:0]); len(f.scratch.on) > 0 {
		return nil
	}
	return s
}

// wanted reports whether a request waits for the model, or is about to.
func (f *FIFO) wanted(name string) bool {
	return f.oldest(f.models.record(name)) != nil || f.step.arriving(name)
}

// present appends to evict the models of plan that run.
func (f *FIFO) present(plan, evict []string) []string {
	for _, name := range plan {
		if f.running.has(name) {
			evict = append(evict, name)
		}
	}
	return evict
}

// settle lets the queue move until nothing in it can: models that are ready serve
// what they can before any swap starts (R7), and after a start, or when something no
// longer holds others back, every model is looked at again.
func (f *FIFO) settle() {
	for f.endReservations(); f.step.moves() && f.queue.waiting > 0; f.endReservations() {
		f.serveReady()
		f.startNext()
	}
}

// serveReady looks at every model that requests wait for, in the order of R6: those
// that are ready serve what they can, and requests that can never be served learn
// why (R19). For a model that cannot serve now the Swapper is not asked before every
// model has been looked at, so that a Planner sees what has been granted.
func (f *FIFO) serveReady() {
	for _, m := range f.rank() {
		if f.swaps.of(m.name) != nil {
			continue
		}
		s := f.see(m.name)
		if s.known && (!s.ready || f.swaps.stopping(m.name) != nil) {
			continue
		}
		if evict, err := f.needs(m, s); err != nil {
			f.fail(m, err)
		} else if f.servable(m, s, evict) {
			f.serve(m)
		}
	}
}

// rank returns the models that requests wait for in the order of R6. Callers that
// have left do not count.
func (f *FIFO) rank() []*model {
	f.scratch.lines = append(f.scratch.lines[:0], f.queue.lines...)
	for _, l := range f.scratch.lines {
		f.first(l.owner, everybody)
	}
	f.scratch.lines = f.queue.ranked(f.scratch.lines[:0])
	f.scratch.order = f.scratch.order[:0]
	for _, l := range f.scratch.lines {
		f.models.touch(l.owner)
		f.scratch.order = append(f.scratch.order, l.owner)
	}
	return f.scratch.order
}

// serve grants the requests that wait for m in order, as far as there are slots,
// and returns how many.
func (f *FIFO) serve(m *model) (granted int) {
	limits, err := f.limits(m)
	if err != nil {
		f.fail(m, err)
		return 0
	}
	for limits.slot(m.account.inFlight) {
		r := f.first(m, f.limit(m))
		if r == nil {
			return granted
		}
		f.take(r)
		if f.grant(m, &r.req) {
			granted++
			r.class.pass(r.turn)
		}
	}
	m.block.note(WaitSlots, m.name)
	return granted
}

// grant answers a request of m with a lease, and reports whether its caller took
// it.
func (f *FIFO) grant(m *model, req *HandlerReq) bool {
	req.Lease = f.leases.issue(&m.account)
	f.counters.Granted++
	if f.eff.GrantServe(*req, m.name) {
		m.account.lastUsed = req.Lease
		return true
	}
	f.counters.Granted--
	f.counters.Cancelled++
	f.leases.end(req.Lease)
	return false
}

// startNext starts the first swap that can start: the holders of reservations come
// first, in the order of taking, then the others by rank. Only one is started, since
// others may serve beside it before a further one is.
func (f *FIFO) startNext() {
	for _, r := range f.reservations.standing {
		if f.tryStart(f.models.record(r.target)) {
			return
		}
	}
	for _, m := range f.scratch.order {
		if f.reservations.of(m.name) == nil && f.tryStart(m) {
			return
		}
	}
}

// tryStart starts a swap of m for the requests that wait, if it can.
func (f *FIFO) tryStart(m *model) bool {
	r := f.oldest(m)
	if r == nil {
		return false
	}
	v := f.decide(m, r.arrival, f.see(m.name))
	f.act(m, v)
	return v.action == starts
}

// act carries out a verdict on the requests that wait for m.
func (f *FIFO) act(m *model, v verdict) {
	switch v.action {
	case serves:
		f.serve(m)
	case starts:
		f.start(m, v)
	case cancels:
		f.swaps.cancelled = true
		f.abandon(v.swap)
	case refuses:
		f.fail(m, v.err)
	}
}

// start starts the swap of m. A model that is not ready has lost the requests that
// it served, and what is evicted is idle.
func (f *FIFO) start(m *model, v verdict) {
	i := intent{m.name, slices.Clone(v.evict)}
	if err := f.policy.startSwap(m.name); err != nil {
		f.fail(m, err)
		return
	}
	f.swaps.add(i, f.step.time(), v.loads)
	if v.loads {
		f.leases.writeOff(&m.account)
	}
	if r := f.reservations.of(m.name); r != nil {
		if n := len(r.closed); n > 0 {
			f.prices.learnDrain(f.step.time().Sub(r.closed[n-1].at))
		}
		f.endReservation(r)
	}
	f.queue.setLoading(&m.line, true)
	f.positions.load(&m.line)
	f.counters.Swaps++
	f.counters.Evictions += uint64(len(i.evict))
	f.debug("swap started", m.name, nil)
	f.changed()
	f.step.unblock() // It may have made way for others too.
	f.eff.StartSwap(m.name, slices.Clone(i.evict))
}

// changed notes that an effect changes what runs, or that it already has.
func (f *FIFO) changed() {
	f.running.expire()
	f.policy.expireUse()
}
