package scheduler

import "slices"

// settle moves the queue until nothing in it can move any more. Models that are ready
// serve what they can before any swap starts (R7). After each start, and whenever
// something is unblocked, every model is considered again.
func (f *FIFO) settle() {
	moved := false
	for f.endReservations(); f.step.moves() && f.queue.waiting > 0; f.endReservations() {
		f.rank()
		f.serveReady()
		f.startNext()
		moved = true
	}
	if moved {
		f.running.setMark()
	}
}

// serveReady lets the models that are ready serve what they can, in the order of R6.
// Requests that can never be served learn why (R19).
func (f *FIFO) serveReady() {
	for _, m := range f.waitedFor() {
		if f.swaps.of(m.name) != nil {
			continue
		}
		if err := f.serveIfReady(m); err != nil {
			f.fail(m, err)
		}
	}
}

// serveIfReady serves the requests of m if it is ready. It returns an error if m can
// never serve. The Swapper is not asked yet about a model that cannot serve now: a
// Planner should see first what has been granted on the others.
func (f *FIFO) serveIfReady(m *model) error {
	s := f.see(m.name)
	if !s.known {
		return notFound(m.name)
	}
	limits, err := f.limits(m)
	if err != nil || limits.Paused || !s.ready || f.swaps.stopping(m.name) != nil {
		return err
	}
	evict, err := f.policy.evictionFor(&m.answers)
	if err == nil && f.servable(m, s, evict) {
		f.serve(m, limits)
	}
	return err
}

// rank puts the models that requests wait for in the order of R6. It drops requests whose
// callers have left.
func (f *FIFO) rank() {
	lines := append(f.scratch.lines[:0], f.queue.lines...)
	f.scratch.lines = lines
	for _, l := range lines {
		for l.head != nil && !l.head.alive() {
			f.drop(l.head)
		}
	}
	order := f.scratch.order[:0]
	for _, l := range f.queue.lines {
		f.models.touch(l.owner)
		order = append(order, l.owner)
	}
	f.scratch.order = order
}

// waitedFor returns the running models that requests wait for, in the order of rank. No
// other model can be ready. It goes through the shorter of the two lists.
func (f *FIFO) waitedFor() []*model {
	running, order := f.running.list(), f.scratch.order
	models := f.scratch.serving[:0]
	if len(order) <= len(running) {
		for _, m := range order {
			if f.running.has(m.name) {
				models = append(models, m)
			}
		}
	} else {
		for _, name := range running {
			if m := f.models.find(name); m != nil && m.line.n > 0 {
				models = append(models, m)
			}
		}
		slices.SortFunc(models, func(a, b *model) int { return byRank(a.line.head, b.line.head) })
	}
	f.scratch.serving = models
	return models
}

// serve grants the requests that wait for m in order, as far as there are slots. A tenant
// keeps its turn if the caller of its request has left.
func (f *FIFO) serve(m *model, limits Limits) {
	for limits.slot(m.account.inFlight) {
		r := f.first(m, f.limit(m))
		if r == nil {
			if c := f.reservations.closing(m.name); c != nil {
				m.block.note(WaitClosed, c.by.target) // The others arrived after the closing.
			}
			return
		}
		turn := r.turn
		f.dequeue(r)
		if f.grant(m, &r.req) {
			f.queue.pass(&m.line, turn)
		}
	}
	m.block.note(WaitSlots, m.name)
}

// grant answers a request for m with a lease, and reports whether its caller took it.
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

// startNext starts the first swap that can start. Holders of reservations come first, in
// the order in which they took them, and then the other models by rank. It starts only
// one swap: models that can run beside that swap may serve before the next one starts.
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
	if m.line.loading {
		return false
	}
	r := f.oldest(m)
	if r == nil {
		return false
	}
	var v verdict
	f.decide(m, r.arrival, f.see(m.name), &v)
	return f.act(m, &v)
}

// act carries out a verdict on the requests that wait for m, and reports whether it
// has started a swap.
func (f *FIFO) act(m *model, v *verdict) bool {
	switch v.action {
	case waits:
		m.block.note(v.reason, v.models...)
	case serves:
		f.serve(m, v.limits)
	case starts:
		return f.start(m, v)
	case cancels:
		m.block.note(v.reason, v.models...)
		f.swaps.cancel(v.swap)
		f.abandon(v.swap)
	case refuses:
		f.fail(m, v.err)
	}
	return false
}

// start starts the swap of m, unless OnSwapStart panics. Leases of a model that is not
// ready are written off: their process is gone. The models that are evicted have none,
// because they are idle.
func (f *FIFO) start(m *model, v *verdict) bool {
	i := intent{m.name, slices.Clone(v.models)}
	if err := f.policy.startSwap(m.name, i.evict); err != nil {
		f.fail(m, err)
		return false
	}
	f.swaps.add(i, f.step.time(), v.loads)
	if v.loads {
		f.writeOff(m)
	}
	if r := f.reservations.of(m.name); r != nil {
		f.learnDrains(r)
		f.endReservation(r)
	}
	f.setDeadline(m)
	f.queue.setLoading(&m.line, true)
	f.positions.load(&m.line)
	f.counters.Swaps++
	f.counters.Evictions += uint64(len(i.evict))
	f.debug("swap started", m.name, nil)
	f.changed()
	f.step.unblock() // What it stops may have kept others waiting.
	f.eff.StartSwap(m.name, slices.Clone(i.evict))
	return true
}

// changed notes that the running models may have changed.
func (f *FIFO) changed() {
	f.running.expire()
	f.policy.begin()
}

// writeOff stops counting the leases of m. A closed model is idle now.
func (f *FIFO) writeOff(m *model) {
	wasBusy := m.account.inFlight > 0
	f.leases.writeOff(&m.account)
	if wasBusy {
		f.idle(m)
	}
}
