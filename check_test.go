package scheduler

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// checkSwap checks invariants 1 and 2 of RULES.md, and R4 and R14, on a
// StartSwap.
func (w *world) checkSwap(id string, evict []string) {
	if w.swaps[id] != nil {
		w.breaks("a second swap for %s", id)
	}
	if target := w.evictedBy(id); target != "" {
		w.breaks("a swap for %s, which the swap for %s stops", id, target)
	}
	for _, e := range evict {
		if n := w.inFlight(e); n > 0 {
			w.breaks("%s is evicted with %d in flight", e, n)
		}
		if w.swaps[e] != nil {
			w.breaks("%s is evicted while it loads", e)
		}
		if target := w.evictedBy(e); target != "" {
			w.breaks("%s is evicted for %s and for %s", e, target, id)
		}
		if !slices.Contains(w.running(id), e) {
			w.breaks("%s is evicted but does not run", e)
		}
	}
	waits := func(c *caller) bool { return c.waiting && !c.left && c.req.Model == id }
	if !slices.ContainsFunc(w.callers, waits) && !w.inline { // A caller that leaves within a step leaves at its end.
		w.breaks("a swap for %s, for which no request waits", id)
	}
	if more := w.asksForMore(id, evict); len(more) > 0 {
		w.breaks("the swap for %s stops %v, but not %v", id, evict, more)
	}
	if _, known := w.ModelState(id); !known {
		w.breaks("a swap for %s, which is unknown", id)
	}
	if w.down {
		w.breaks("a swap for %s after the shutdown", id)
	}
	if w.limits[id].Paused {
		w.breaks("a swap for %s, which is paused", id)
	}
}

// checkGrant checks invariants 3, 4, 5 and 8 on a GrantServe.
func (w *world) checkGrant(c *caller, req HandlerReq, id string) {
	if w.states[id] != StateReady {
		w.breaks("%s is granted on %s, which is %s", c.name, id, w.states[id])
	}
	if target := w.evictedBy(id); target != "" {
		w.breaks("%s is granted on %s, which the swap for %s stops", c.name, id, target)
	}
	if id != c.req.Model {
		w.breaks("%s wants %s and is granted on %s", c.name, c.req.Model, id)
	}
	if req.Lease != uint64(len(w.leases))+1 {
		w.breaks("%s gets lease %d after %d others", c.name, req.Lease, len(w.leases))
	}
	if limit := w.limits[id].Concurrency; limit > 0 && w.inFlight(id) >= limit {
		w.breaks("%s is granted beyond the concurrency of %s", c.name, id)
	}
	now := w.sut.Snapshot()
	closed := slices.ContainsFunc(now.Models, func(m ModelStatus) bool { return m.Model == id && m.Closed })
	if limit, known := w.closed[id]; closed && known && c.arrival > limit && w.sameReservations(now) {
		w.breaks("%s is granted on %s, which was closed before it came", c.name, id)
	}
	if w.limits[id].Paused {
		w.breaks("%s is granted on %s, which is paused", c.name, id)
	}
	w.checkTurn(c, closed)
	for _, o := range w.callers {
		before := o.priority > c.priority || o.priority == c.priority && o.tenant == c.tenant && o.arrival < c.arrival
		if o.waiting && !o.left && !o.vanished && !o.arriving && o != c && o.req.Model == id && before {
			if !closed || o.arrival < c.arrival {
				w.breaks("%s is granted before %s", c.name, o.name)
			}
		}
	}
}

// checkHost checks that an answer brings back what the request carried for the host.
func (w *world) checkHost(c *caller, req HandlerReq) {
	if req.Host != c.req.Host {
		w.breaks("%s brought %v and gets back %v", c.name, c.req.Host, req.Host)
	}
}

// check checks what holds after every step.
func (w *world) check(s Snapshot) {
	w.checkBooks(s)
	for _, broken := range slices.Concat(relations(w.before, s), internalRelations(w.sut)) {
		w.breaks("%s", broken)
	}
	w.checkPauses(s)
	w.checkClosings(s)
	if !w.impure && !w.down {
		w.checkWork(s)
	}
	w.before = s
}

// checkBooks compares the scheduler's books with the host's (R9).
func (w *world) checkBooks(s Snapshot) {
	perModel := make(map[string]int)
	for _, m := range s.Models {
		perModel[m.Model] = m.InFlight
	}
	held := make(map[string]int)
	living, waiting := 0, 0
	for _, c := range w.callers {
		if c.waiting {
			waiting++
		}
		if c.waiting && !c.left {
			living++
			held[c.req.Model]++
		}
	}
	for id := range w.states {
		if n := w.inFlight(id); n != perModel[id] && !w.failed {
			w.breaks("%d in flight for %s, not %d", n, id, perModel[id])
		}
	}
	for _, c := range w.callers {
		id := c.req.Model
		admitted := c.arriving && (c.waiting || c.serving)
		if k := w.limits[id].Capacity; k > 0 && admitted && held[id]+w.inFlight(id) > k {
			w.breaks("%s holds %d of %d", id, held[id]+w.inFlight(id), k)
		}
	}
	if len(s.Waiting) > waiting || len(s.Waiting) < living {
		w.breaks("%d wait, of whom %d live, but the snapshot has %d", waiting, living, len(s.Waiting))
	}
	if q := w.opts.MaxQueue; q > 0 && len(s.Waiting) > q {
		w.breaks("%d wait, of %d", len(s.Waiting), q)
	}
	targets := slices.Sorted(maps.Keys(w.swaps))
	if !w.failed && !slices.EqualFunc(s.Swaps, targets, func(a SwapStatus, b string) bool {
		return a.Model == b && slices.Equal(a.Evict, w.swaps[b].evict)
	}) {
		w.breaks("outstanding are %v, not %+v", targets, s.Swaps)
	}
}

// checkPauses checks that no paused model is overdue or holds a reservation (R8), once
// the scheduler knows that it is paused.
func (w *world) checkPauses(s Snapshot) {
	if w.unseen {
		return
	}
	for _, r := range s.Reserved {
		if w.limits[r.Model].Paused {
			w.breaks("%s is paused and holds a reservation", r.Model)
		}
	}
	for _, r := range s.Waiting {
		if w.limits[r.Model].Paused && r.Overdue {
			w.breaks("%s is paused and overdue", r.Model)
		}
	}
}

// checkClosings notes when models were closed, for invariant 8. Models are closed
// only by the look at the start of a step, before its event is handled. A look that
// finds another running set may end a reservation and take it again.
func (w *world) checkClosings(s Snapshot) {
	was := make(map[string]bool)
	for _, m := range w.before.Models {
		was[m.Model] = m.Closed
	}
	arrived := int(w.before.Counters.Requests)
	same := w.sameReservations(s)
	w.ran = w.running("")
	for _, m := range s.Models {
		if !m.Closed {
			delete(w.closed, m.Model)
		} else if !was[m.Model] || !same {
			w.closed[m.Model] = arrived
		}
	}
}

// sameReservations reports whether the reservations of s are certainly those that stood
// before this step. If it is true, none was ended and taken again.
func (w *world) sameReservations(s Snapshot) bool {
	return w.plan == nil && slices.EqualFunc(s.Reserved, w.before.Reserved, sameReservation) && slices.Equal(w.running(""), w.ran)
}

// sameReservation reports whether two reservations have the same model and plan.
func sameReservation(a, b Reservation) bool {
	return a.Model == b.Model && slices.Equal(a.Plan, b.Plan)
}

// checkWork checks invariant 7: no request waits that could be served, or whose swap
// could start, unless for a reservation. It holds after a step that let the queue
// move, for what the scheduler has been told.
func (w *world) checkWork(s Snapshot) {
	if slices.ContainsFunc(w.callers, func(c *caller) bool { return c.arriving && c.waiting }) && !w.inline {
		w.silent = false // A request that has to wait notices it (R19).
	}
	if w.unseen || w.silent || !w.conserves {
		return
	}
	closed := make(map[string]bool)
	for _, m := range s.Models {
		closed[m.Model] = m.Closed
	}
	for _, c := range w.callers {
		id := c.req.Model
		if !c.waiting || c.left || w.limits[id].Paused || w.swaps[id] != nil || w.evictedBy(id) != "" || closed[id] {
			continue
		}
		evict := w.cleaned(id)
		limit := w.limits[id].Concurrency
		switch {
		case len(evict) == 0 && w.states[id] == StateReady:
			if limit <= 0 || w.inFlight(id) < limit {
				w.breaks("%s waits although %s is ready", c.name, id)
			}
		case len(s.Reserved) == 0 && !slices.ContainsFunc(evict, w.inTheWay):
			w.breaks("%s waits although nothing is in the way of a swap for %s", c.name, id)
		}
	}
}

// inTheWay reports whether a model cannot be evicted.
func (w *world) inTheWay(id string) bool {
	return w.inFlight(id) > 0 || w.swaps[id] != nil || w.evictedBy(id) != ""
}

// cleaned returns the Swapper's answer for a target without models that do not run.
func (w *world) cleaned(target string) []string {
	running := w.running(target)
	evict := w.plain(target, running)
	if w.plan != nil {
		evict, _ = w.plan(target, w.residents(running))
	}
	return slices.DeleteFunc(slices.Clone(evict), func(id string) bool { return !slices.Contains(running, id) })
}

// residents returns running as a Planner sees them, but not when they were last used.
func (w *world) residents(running []string) (all []Resident) {
	for _, id := range running {
		r := Resident{Model: id, Loading: w.swaps[id] != nil, Leaving: w.evictedBy(id) != "", InFlight: w.inFlight(id)}
		for _, c := range w.callers {
			if c.waiting && !c.left && c.req.Model == id {
				r.Waiting++
			}
		}
		all = append(all, r)
	}
	return all
}

// leftBehind names what a scheduler with nothing to do still has in memory, beyond a
// small entry per model that was loaded or granted (invariant 9).
func leftBehind(s sut) []string {
	switch s := s.(type) {
	case *FIFO:
		return leftovers(s)
	case *reference:
		if n := s.leftovers(); n > 0 {
			return []string{fmt.Sprintf("reference: %d", n)}
		}
	}
	return nil
}

// leftovers is leftBehind of a FIFO.
func leftovers(f *FIFO) (left []string) {
	note := func(what string, n int) {
		if n > 0 {
			left = append(left, fmt.Sprintf("%s: %d", what, n))
		}
	}
	note("lines", len(f.queue.lines))
	note("waiting", f.queue.waiting)
	note("loading", f.queue.loading)
	note("byRespond", len(f.queue.byRespond))
	note("leases", f.leases.live)
	note("lease numbers", len(f.leases.numbers))
	note("swaps", len(f.swaps.byTarget)+len(f.swaps.leaving))
	note("reservations", len(f.reservations.standing)+len(f.reservations.holders)+len(f.reservations.closed))
	note("listeners", f.positions.listeners)
	note("inbox", len(f.step.inbox))
	note("touched", len(f.models.touched))
	for name, m := range f.models.byName {
		if f.holds(m) || !m.remembered() || len(m.account.unended) > 0 || len(m.answers.list) > 1 || m.line.classes != nil {
			left = append(left, fmt.Sprintf("model %s: %+v", name, *m))
		}
	}
	return left
}

// finish drains w and checks liveness (invariant 6) and that nothing is left
// behind (invariant 9).
func (w *world) finish(log func(string)) {
	each := func(what string, do func()) {
		log(what)
		for _, line := range w.step(do) {
			log("  " + line)
		}
	}
	for line := w.openLine(); line != ""; line = w.openLine() {
		each(line, func() { must(w.do(line)) })
	}
	w.drain(each)
	if stuck := w.stuck(); len(stuck) > 0 {
		w.breaks("they wait for ever: %s", strings.Join(stuck, " "))
	}
	for _, c := range w.callers {
		if c.waiting {
			w.step(func() { w.cancel(c) })
		}
		if c.answers == 0 && !c.left {
			w.breaks("%s was never answered", c.name)
		}
	}
	if w.failed {
		return
	}
	for _, l := range leftBehind(w.sut) {
		w.breaks("left behind: %s", l)
	}
}

// asksForMore returns which models the policy of a world would still evict for target,
// once evict and everything that outstanding swaps stop is gone.
func (w *world) asksForMore(target string, evict []string) []string {
	if !w.conserves || w.inline {
		return nil
	}
	left := slices.DeleteFunc(w.running(target), func(id string) bool {
		return slices.Contains(evict, id) || w.evictedBy(id) != ""
	})
	return w.plain(target, left)
}
