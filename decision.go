package scheduler

import "slices"

// WaitReason says why a request waits. If several reasons apply it is the first in the
// order of the constants. A [Snapshot] shows what the scheduler found when it last
// considered the model.
type WaitReason string

// The reasons to wait. After the colon are the models in WaitStatus.On. For the holder of
// a reservation they stand in the way of what the Swapper answers now, not of the plan.
const (
	WaitLoading  WaitReason = "loading"  // its model is being loaded for it: that model
	WaitPaused   WaitReason = "paused"   // its model is paused: that model
	WaitClosed   WaitReason = "closed"   // it arrived after its model was closed: the holder of that reservation
	WaitSlots    WaitReason = "slots"    // Concurrency is reached: its model
	WaitBusy     WaitReason = "busy"     // models that have to be evicted are busy: those models
	WaitSwap     WaitReason = "swap"     // outstanding swaps collide with its own: their targets; or an abandoned swap of its model is outstanding: that model
	WaitReserved WaitReason = "reserved" // its swap would hinder reservations: their holders
)

// action is what is to be done for the requests of a model.
type action int

const (
	waits   action = iota // nothing now
	serves                // grant them
	starts                // start a swap
	cancels               // cancel the one swap in the way, which no request waits for
	refuses               // answer them with an error
)

// verdict is the answer of decide.
type verdict struct {
	action action
	loads  bool       // starts: the model is not ready
	reason WaitReason // waits, cancels: why
	models []string   // waits, cancels: on which; starts: what the swap stops; valid until the next decision
	limits Limits     // serves: of the model
	swap   *swap      // cancels
	err    error      // refuses
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

// block is why the requests of a model wait, and on which models, sorted. It is what the
// latest decision about the model found.
type block struct {
	reason WaitReason
	on     []string
}

// note sets the reason and the models. It copies on.
func (b *block) note(reason WaitReason, on ...string) {
	b.reason = reason
	if len(b.on) == 1 && len(on) == 1 {
		b.on[0] = on[0] // The usual case, without the cost of copying any number of pointers.
		return
	}
	b.on = append(b.on[:0], on...)
}

// wait makes v say that the requests wait on one model.
func (v *verdict) wait(f *FIFO, reason WaitReason, model string) {
	v.action = waits
	v.because(f, reason, model)
}

// because notes in v why the requests wait, and a copy of the models that they wait on.
func (v *verdict) because(f *FIFO, reason WaitReason, on ...string) {
	f.scratch.on = append(f.scratch.on[:0], on...)
	v.reason, v.models = reason, f.scratch.on
}

// refuse makes v say that the requests get an error.
func (v *verdict) refuse(err error) { v.action, v.err = refuses, err }

// start makes v say that a swap starts and stops evict.
func (v *verdict) start(evict []string, loads bool) {
	v.action, v.models, v.loads = starts, evict, loads
}

// decide says what can be done now for a request for m with that arrival number. It
// treats a newcomer and a waiting request alike. It changes nothing, except that it drops
// requests whose callers have left. S is how the host sees m at this moment.
//
// The answer goes to v, which is a zero value before. A verdict is large, and every model
// that requests wait for is decided on again and again: copying verdicts would be a fifth
// of the cost of a drain.
func (f *FIFO) decide(m *model, arrival uint64, s sight, v *verdict) {
	if f.swaps.of(m.name) != nil {
		v.wait(f, WaitLoading, m.name) // One swap per model (R4).
		return
	}
	if !s.known {
		v.refuse(notFound(m.name))
		return
	}
	limits, err := f.limits(m)
	if err != nil {
		v.refuse(err)
		return
	}
	if limits.Paused { // R9
		v.wait(f, WaitPaused, m.name)
		return
	}
	evict, err := f.policy.evictionFor(&m.answers)
	if err != nil {
		v.refuse(err)
		return
	}
	// Slots bound what a process serves, so they do not matter while the model is not
	// ready. A ready model without a free slot cannot serve, but it may still start a
	// swap that it needs: a slot may be free by the time the swap has reported (R7).
	slot := !s.ready || limits.slot(m.account.inFlight)
	if !f.servable(m, s, evict) {
		f.decideSwap(m, evict, s, v)
		if !slot && v.action != starts {
			v.because(f, WaitSlots, m.name)
		}
		return
	}
	limit := f.limit(m)
	switch {
	case !slot:
		v.wait(f, WaitSlots, m.name)
	case arrival > limit && f.first(m, limit) == nil:
		v.wait(f, WaitClosed, f.reservations.closing(m.name).by.target)
	default:
		// A closed model still serves the requests that came before its closing,
		// even if this one has to wait.
		v.action, v.limits = serves, limits
	}
}

// decideSwap says whether a swap of m that stops evict can start. The holder of a
// reservation may use its plan instead: by the time the plan is idle, the Swapper may
// prefer models that are busy, and may go on doing so for as long as requests come for
// them (R8). The plan has to suffice beside the models that outstanding swaps have yet to
// stop. If m has to wait, the reason is what stands in the way of evict.
func (f *FIFO) decideSwap(m *model, evict []string, s sight, v *verdict) {
	i := intent{m.name, evict}
	reason, on := f.obstacle(&i)
	if reason == "" {
		v.start(evict, !s.ready)
		return
	}
	v.reason, v.models = reason, on
	if reason == WaitSwap {
		v.cancel(f.unwanted(&i, on))
	}
	if r := f.reservations.of(m.name); r != nil {
		v.because(f, reason, on...)
		f.scratch.plan = f.present(r.evict, f.scratch.plan[:0])
		i.evict = f.scratch.plan
		switch reason, on := f.obstacle(&i); {
		case reason == "" && f.policy.sufficesYet(&m.answers, i.evict):
			v.start(i.evict, !s.ready)
		case reason == WaitSwap:
			v.cancel(f.unwanted(&i, on))
		}
	}
}

// cancel makes v say that s is cancelled, unless s is nil or v cancels a swap already.
func (v *verdict) cancel(s *swap) {
	if s != nil && v.swap == nil {
		v.action, v.swap = cancels, s
	}
}

// servable reports whether m needs no swap and is not being stopped by one (R3). Evict is
// what has to stop for m.
func (f *FIFO) servable(m *model, s sight, evict []string) bool {
	return s.ready && len(evict) == 0 && f.swaps.stopping(m.name) == nil
}

// limits returns the limits of m.
func (f *FIFO) limits(m *model) (Limits, error) {
	if f.opts.Limits == nil {
		return Limits{}, nil
	}
	return f.askLimits(m)
}

// askLimits asks for the limits of m.
func (f *FIFO) askLimits(m *model) (l Limits, err error) {
	defer refuse(f.log, "Limits", m.name, &err)
	return f.opts.Limits(m.name), nil
}

// slot reports whether one more request may be in flight (R9).
func (l Limits) slot(inFlight int) bool { return l.Concurrency <= 0 || inFlight < l.Concurrency }

// limit returns the latest arrival number that m grants to: a closed model grants only to
// requests that arrived before it was closed (R8).
func (f *FIFO) limit(m *model) uint64 {
	if c := f.reservations.closing(m.name); c != nil {
		return c.arrival
	}
	return everybody
}

// obstacle returns the first reason why a swap cannot start (R5), or "" if there is none,
// and the models that stand in the way. The models are valid until the next call.
func (f *FIFO) obstacle(i *intent) (WaitReason, []string) {
	room := f.room(i.evict)
	if len(room.busy) > 0 {
		return WaitBusy, room.busy
	}
	if on := f.colliding(i, room); len(on) > 0 {
		return WaitSwap, on
	}
	if room.on = f.hindered(i, room.on[:0]); len(room.on) > 0 {
		return WaitReserved, room.on
	}
	return "", nil
}

// colliding returns the targets of the swaps that i would collide with, sorted.
func (f *FIFO) colliding(i *intent, room *room) []string {
	if f.swaps.stopping(i.target) == nil {
		return room.swaps
	}
	room.on = f.swaps.colliding(i, room.on[:0])
	return room.on
}

// room is what keeps some models from being stopped. It is remembered, because models
// that wait for the same room have the same models to evict.
type room struct {
	leaseChanges, swapChanges uint64   // at that time
	evict                     []string // the models
	busy                      []string // those that have something in flight, sorted
	swaps                     []string // the targets of the swaps that load or stop one of them, sorted
	on                        []string // memory that is used again
}

// room returns what keeps the models from being stopped.
func (f *FIFO) room(models []string) *room {
	r := &f.scratch.room
	if r.leaseChanges == f.leases.changes && r.swapChanges == f.swaps.changes && slices.Equal(r.evict, models) {
		return r
	}
	r.leaseChanges, r.swapChanges = f.leases.changes, f.swaps.changes
	r.evict, r.busy = append(r.evict[:0], models...), r.busy[:0]
	for _, name := range models {
		if m := f.models.find(name); m != nil && m.account.inFlight > 0 {
			r.busy = append(r.busy, name)
		}
	}
	slices.Sort(r.busy)
	r.swaps = f.swaps.touching(models, r.swaps[:0])
	return r
}

// unwanted returns the one swap on whose target i waits, if it may be cancelled for i
// (R14), and nil otherwise. No request may wait for that swap, it must be less than half
// done, and i must be able to start without it. The swaps cancelled so far must allow it
// too, so that impatient callers keep neither loads from ending nor a model from being
// loaded.
func (f *FIFO) unwanted(i *intent, on []string) *swap {
	if f.canceler == nil || len(on) != 1 {
		return nil
	}
	s := f.swaps.of(on[0])
	if !f.swaps.mayCancel(s) || f.wanted(s.target) {
		return nil
	}
	load := f.prices.load(&f.models.record(s.target).history)
	if f.step.time().Sub(s.started) >= (load+1)/2 {
		return nil
	}
	if len(f.hindered(i, nil)) > 0 {
		return nil
	}
	return s
}

// wanted reports whether a request waits for the model, or is about to.
func (f *FIFO) wanted(name string) bool {
	return f.oldest(f.models.record(name)) != nil || f.step.arriving(name)
}

// present appends the models of plan that are running to evict.
func (f *FIFO) present(plan, evict []string) []string {
	for _, name := range plan {
		if f.running.has(name) {
			evict = append(evict, name)
		}
	}
	return evict
}
