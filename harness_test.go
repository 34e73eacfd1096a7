package scheduler

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// sut is a scheduler under test: the FIFO or the reference.
type sut interface {
	Scheduler
	Canceler
	Snapshot() Snapshot
}

// setup says what a world is made of.
type setup struct {
	models        []string // that the host knows
	ready         []string // of them, at the start
	swapper       string   // see newSwapper
	opts          FIFOOptions
	limits        map[string]bounds
	exact         int  // how many places are told exactly; 0: as many as usual
	uncancellable bool // the host has no CancelSwap
	sluggish      bool // what a swap stops says that it is ready until the end of the swap
}

// bounds is what a host answers when it is asked for the limits of a model: see
// limitWords.
type bounds struct {
	Limits
	panics bool // it panics
	unload bool // it has told of the change, with an unload of nothing
}

// constructor makes a scheduler under test. Exact is how many places it tells exactly
// (R16). 0 means the usual number, which is more than random worlds reach.
type constructor func(s Swapper, eff Effects, opts FIFOOptions, exact int) sut

// world is a fake host. It writes every effect as a line, keeps its own books, and
// notes in broken where an effect contradicts them (see check_test.go).
type world struct {
	setup
	sut sut
	swapperAsked
	now       time.Time
	reads     int // of the clock, in this step
	states    map[string]ProcessState
	swaps     map[string]*worldSwap // outstanding, by target
	callers   []*caller             // in order of arrival
	leases    []*caller             // granted, by lease: index+1
	lines     []string              // of this step
	broken    []string
	hooks     []hook
	forgotten map[string]bool // models that the host knows no more
	closed    map[string]int  // closed models: how many callers had arrived by then
	barred    map[string]bool // models that lines have called closed and not yet opened
	down      bool            // the scheduler was shut down
	failed    bool            // by a panic, so that it may have lost a report
	unseen    bool            // something changed that no event has told
	silent    bool            // a process changed by itself, and no event has told
	untold    bool            // limits changed, and no unload has told
	inline    bool            // an effect of this step called back
	ran       []string        // what ran after the step before
	before    Snapshot        // this step
	impure    bool            // the Swapper's answers cannot be repeated
	conserves bool            // invariant 7 holds for the Swapper
	turns     turns           // of tenants
}

// worldSwap is an outstanding swap.
type worldSwap struct {
	evict []string
	loads bool
	was   map[string]ProcessState // the states before it
}

// caller is one request.
type caller struct {
	manner
	name     string
	req      HandlerReq
	hangUp   context.CancelFunc
	arrival  int
	answers  int
	arriving bool // asked in this step: the look, and what it lets move, comes before it
	waiting  bool // neither answered nor taken out
	left     bool // its Ctx is done, or it was cancelled
	vanished bool // GrantServe finds it gone
	lease    uint64
	serving  bool // granted, its ServeDoneEvent has not arrived
	written  bool // its lease is written off
	position int  // that it was told last
}

// manner is how a caller makes its request: see requestWords.
type manner struct {
	priority  int    // panicInt: asked for it, the host panics
	tenant    string // panicWord: likewise
	host      string // what its request carries for the host
	gone      bool   // its Ctx is done
	anonymous bool   // it has no Respond
	deaf      bool   // it has no PositionCh
	unread    bool   // it reads its position only when it is told to
	again     string // the caller whose Respond it has too
}

// hook does something when an effect whose line begins with prefix happens.
type hook struct {
	prefix string
	do     func()
}

var epochOfTests = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// newWorld makes a world and its scheduler.
func newWorld(s setup, newSUT constructor) *world {
	w := &world{
		setup:     s,
		now:       epochOfTests,
		states:    make(map[string]ProcessState),
		swaps:     make(map[string]*worldSwap),
		closed:    make(map[string]int),
		barred:    make(map[string]bool),
		forgotten: make(map[string]bool),
	}
	for _, m := range s.models {
		w.states[m] = StateStopped
	}
	for _, m := range s.ready {
		w.states[m] = StateReady
	}
	opts := s.opts
	opts.Now = func() time.Time { w.reads++; return w.now }
	opts.Priority, opts.Tenant, opts.Limits = w.priorityOf, w.tenantOf, w.limitsOf
	w.limits = maps.Clone(s.limits) // They may change.
	var eff Effects = w
	if s.uncancellable {
		eff = struct{ Effects }{w}
	}
	w.sut = newSUT(w.newSwapper(s.swapper), eff, opts, s.exact)
	w.before = w.sut.Snapshot()
	return w
}

// newFIFOUnderTest makes the FIFO.
func newFIFOUnderTest(s Swapper, eff Effects, opts FIFOOptions, exact int) sut {
	f := NewFIFO("test", nil, s, eff, opts)
	if exact > 0 {
		f.positions.exact = exact // The one thing that tests set within a FIFO.
	}
	return f
}

// callerKey is the key of the caller in the Ctx of its request.
type callerKey struct{}

// find returns the caller of req.
func (w *world) find(req HandlerReq) *caller {
	for _, c := range w.callers {
		if req.Respond != nil && req.Respond == c.req.Respond {
			return c
		}
	}
	if req.Ctx != nil {
		if c, ok := req.Ctx.Value(callerKey{}).(*caller); ok {
			return c
		}
	}
	w.breaks("an effect for an unknown request: %+v", req)
	return &caller{name: "nobody"}
}

// caller returns the caller of that name.
func (w *world) caller(name string) *caller {
	for _, c := range w.callers {
		if c.name == name {
			return c
		}
	}
	return nil
}

// newCaller makes a caller that has not made its request yet.
func (w *world) newCaller(name, model string, m manner) *caller {
	c := &caller{name: name, manner: m, arrival: len(w.callers) + 1, position: -1}
	var ctx context.Context
	ctx, c.hangUp = context.WithCancel(context.WithValue(context.Background(), callerKey{}, c))
	c.req = HandlerReq{Model: model, Ctx: ctx, Respond: make(chan HandlerResp), PositionCh: make(chan int, 1)}
	if m.host != "" {
		c.req.Host = m.host
	}
	if m.gone {
		c.hangUp()
	}
	if m.anonymous {
		c.req.Respond = nil
	}
	if m.deaf {
		c.req.PositionCh = nil
	}
	if o := w.caller(m.again); o != nil {
		c.req.Respond = o.req.Respond
	}
	w.callers = append(w.callers, c)
	return c
}

// breaks notes that something is not as it always should be.
func (w *world) breaks(format string, args ...any) {
	w.broken = append(w.broken, fmt.Sprintf(format, args...))
}

// effect writes a line and runs the hook for it, which may panic.
func (w *world) effect(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	w.lines = append(w.lines, line)
	w.fire(line)
}

// fire runs the hook for a line, once.
func (w *world) fire(line string) {
	for i, h := range w.hooks {
		if strings.HasPrefix(line+" ", h.prefix+" ") {
			w.hooks = slices.Delete(w.hooks, i, i+1)
			w.mayAskAgain()
			w.inline = true
			h.do()
			return
		}
	}
}

// ModelState implements Effects.
func (w *world) ModelState(id string) (ProcessState, bool) {
	s, ok := w.states[id]
	return s, ok && !w.forgotten[id]
}

// RunningModels implements Effects.
func (w *world) RunningModels() map[string]ProcessState { return maps.Clone(w.states) }

// StartSwap implements Effects. What it evicts is stopping until its end.
func (w *world) StartSwap(id string, evict []string) {
	w.checkSwap(id, evict)
	s := &worldSwap{evict: slices.Clone(evict), loads: w.states[id] != StateReady, was: maps.Clone(w.states)}
	w.swaps[id] = s
	for _, e := range evict {
		if !w.sluggish {
			w.states[e] = StateStopping
		}
	}
	if s.loads {
		w.states[id] = StateStarting
		w.writeOff(id)
	}
	w.mayAskAgain()
	w.effect("start-swap %s evict=%v", id, evict)
}

// GrantServe implements Effects.
func (w *world) GrantServe(req HandlerReq, id string) bool {
	c := w.find(req)
	w.checkGrant(c, req, id)
	w.checkHost(c, req)
	w.answered(c)
	w.leases = append(w.leases, c)
	if c.vanished || c.left {
		c.left = true
		w.effect("grant %s %s gone", c.name, id)
		return false
	}
	c.lease, c.serving = req.Lease, true
	w.turns.granted(c)
	w.effect("grant %s %s%s", c.name, id, c.carries())
	return true
}

// carries shows what the request of c carries for the host.
func (c *caller) carries() string {
	if c.host == "" {
		return ""
	}
	return fmt.Sprintf(" host=%s", c.host)
}

// GrantError implements Effects.
func (w *world) GrantError(req HandlerReq, err error) {
	c := w.find(req)
	w.checkHost(c, req)
	w.answered(c)
	w.effect("error %s: %v%s", c.name, err, c.carries())
}

// CancelSwap implements SwapCanceler.
func (w *world) CancelSwap(id string) {
	if w.swaps[id] == nil && !w.inline {
		w.breaks("CancelSwap for %s, which has no swap", id)
	}
	w.effect("cancel-swap %s", id)
}

// StopProcesses implements Effects.
func (w *world) StopProcesses(timeout time.Duration, ids []string) {
	for _, id := range ids {
		if _, known := w.ModelState(id); !known {
			w.breaks("StopProcesses for %s, which is unknown", id)
		}
		w.states[id] = StateStopped
		w.writeOff(id)
	}
	if len(ids) == 0 || !isSet(ids) {
		w.breaks("StopProcesses of %v", ids)
	}
	w.effect("stop %v timeout=%v", ids, timeout)
}

// isSet reports whether ids are sorted and without duplicates.
func isSet(ids []string) bool {
	return slices.IsSorted(ids) && len(slices.Compact(slices.Clone(ids))) == len(ids)
}

// answered notes the answer of c.
func (w *world) answered(c *caller) {
	if c.answers++; c.answers > 1 {
		w.breaks("%s was answered twice", c.name)
	}
	c.waiting = false
}

// writeOff writes the leases of a model off.
func (w *world) writeOff(id string) {
	for _, c := range w.callers {
		if c.req.Model == id && c.serving {
			c.written = true
		}
	}
}

// inFlight counts the requests in flight for a model.
func (w *world) inFlight(id string) (n int) {
	for _, c := range w.callers {
		if c.req.Model == id && c.serving && !c.written {
			n++
		}
	}
	return n
}

// evictedBy returns the target of the outstanding swap that stops a model, or "" if there
// is none.
func (w *world) evictedBy(id string) string {
	for target, s := range w.swaps {
		if slices.Contains(s.evict, id) {
			return target
		}
	}
	return ""
}

// running returns the running models without one, sorted.
func (w *world) running(without string) []string {
	set := make(map[string]bool)
	for id, s := range w.states {
		set[id] = s != StateStopped && s != StateShutdown
	}
	for id := range w.swaps {
		set[id] = true
	}
	delete(set, without)
	maps.DeleteFunc(set, func(_ string, runs bool) bool { return !runs })
	return slices.Sorted(maps.Keys(set))
}

// tell carries out a line, which has to make sense, and returns the lines of the effects.
func (w *world) tell(line string) []string {
	return w.step(func() { must(w.do(line)) })
}

// step lets one thing happen and returns the lines of the effects.
func (w *world) step(what func()) []string {
	w.lines, w.reads, w.inline = nil, 0, false
	w.newStep()
	for _, c := range w.callers {
		c.arriving = false
	}
	quiet := w.quiet()
	panicked := false
	func() {
		defer func() {
			if p := recover(); p != nil {
				if p != errHook {
					panic(p)
				}
				w.lines = append(w.lines, "panic")
				panicked = true
			}
		}()
		what()
	}()
	if quiet && w.quiet() && !w.inline && w.reads > 0 && !w.joinedInVain() {
		w.breaks("the clock was read although no request waits")
	}
	after := w.sut.Snapshot()
	w.tellReservations(after)
	w.tellPositions()
	if panicked { // The next event shuts the scheduler down.
		w.down, w.failed = true, true
		w.before = after
	} else {
		w.check(after)
	}
	return w.lines
}

// errHook is what hooks panic with.
var errHook = errors.New("panic on purpose")

// quiet reports whether there is no reason to read the clock.
func (w *world) quiet() bool {
	return w.opts.Cooldown == 0 && len(w.swaps) == 0 && !slices.ContainsFunc(w.callers, func(c *caller) bool { return c.waiting })
}

// joinedInVain reports whether a request of this step may have waited for a moment before
// a panic in a question refused it.
func (w *world) joinedInVain() bool {
	return slices.ContainsFunc(w.callers, func(c *caller) bool { return c.arriving && c.answers > 0 && c.lease == 0 })
}

// tellReservations writes how the reservations and closings after a step differ from
// those before it: first what has ended, then what has begun. The Snapshot does not list
// a closed model without requests. Such a model counts as closed for as long as it is in
// a plan.
func (w *world) tellReservations(after Snapshot) {
	after = comparable(after)
	line := func(format string, args ...any) { w.lines = append(w.lines, fmt.Sprintf(format, args...)) }
	for _, r := range w.before.Reserved {
		if !hasReservation(after, r) {
			line("unreserved %s", r.Model)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(w.barred)) {
		i := slices.IndexFunc(after.Models, func(m ModelStatus) bool { return m.Model == id })
		planned := slices.ContainsFunc(after.Reserved, func(r Reservation) bool { return slices.Contains(r.Plan, id) })
		if !planned || i >= 0 && !after.Models[i].Closed {
			delete(w.barred, id)
			line("opened %s", id)
		}
	}
	for _, r := range after.Reserved {
		if !hasReservation(w.before, r) {
			line("reserved %s plan=%v", r.Model, r.Plan)
		}
	}
	for _, m := range after.Models {
		if m.Closed && !w.barred[m.Model] {
			w.barred[m.Model] = true
			line("closed %s", m.Model)
		}
	}
}

// hasReservation reports whether a reservation stands.
func hasReservation(s Snapshot, r Reservation) bool {
	return slices.ContainsFunc(s.Reserved, func(o Reservation) bool { return sameReservation(o, r) })
}

// tellPositions writes the positions that were told in this step.
func (w *world) tellPositions() {
	for _, c := range w.callers {
		if !c.unread {
			w.tellPosition(c)
		}
	}
}

// tellPosition writes the position that c was told, if there is an unread one.
func (w *world) tellPosition(c *caller) {
	select {
	case p := <-c.req.PositionCh:
		if p == c.position && !w.inline {
			w.breaks("%s was told %d again", c.name, p)
		}
		c.position = p
		if c.left {
			return // Nobody reads it; when it is taken out, and no more told, is open.
		}
		w.lines = append(w.lines, fmt.Sprintf("position %s %d", c.name, p))
	default:
	}
}

// request hands in the request of c.
func (w *world) request(c *caller) {
	c.waiting, c.arriving = true, true
	w.turns.join(c, w)
	w.sut.OnRequest(c.req)
	if c.req.Ctx != nil && c.req.Ctx.Err() != nil {
		c.left = true
	}
}

// leave ends the Ctx of c without an event.
func (w *world) leave(c *caller) {
	c.hangUp()
	c.left = true
	w.unseen = true
}

// cancel ends c with an event.
func (w *world) cancel(c *caller) {
	if c.req.Respond != nil {
		c.left, c.waiting = true, false
	}
	w.sut.OnCancel(c.req)
}

// How a swap can end.
const (
	endsWell  = "ok"
	endsIll   = "fail"      // with an error; the target is stopped
	untouched = "untouched" // with an error; nothing was stopped
	endsInLie = "lie"       // without an error; the target is stopped
)

// swapDone ends the swap of a model, if there is one, and reports it.
func (w *world) swapDone(id, how string) {
	ev := SwapDone{ModelID: id}
	if w.inline && w.swaps[id] == nil {
		return // A report ahead of its StartSwap would be taken for that of this one.
	}
	if s := w.swaps[id]; s != nil {
		w.noticed()
		delete(w.swaps, id)
		for _, e := range s.evict {
			if w.states[e] == StateStopping || w.sluggish {
				w.states[e] = StateStopped
			}
			if how == untouched {
				w.states[e] = s.was[e]
			}
		}
		switch {
		case how == endsWell:
			w.states[id] = StateReady
		case how == untouched || !s.loads && how == endsIll:
			w.states[id] = s.was[id]
		default:
			w.states[id] = StateStopped
		}
	}
	if how == endsIll || how == untouched {
		ev.Err = errLoad
	}
	w.sut.OnSwapDone(ev)
}

// errLoad is the error of a failed load.
var errLoad = errors.New("load failed")

// serveDone ends the request of c, even if it has ended already.
func (w *world) serveDone(c *caller) {
	if c.serving {
		w.ended(c)
	}
	w.sut.OnServeDone(ServeDoneEvent{ModelID: c.req.Model, Lease: c.lease})
}

// serveDoneBy ends the request that has the lease, if there is one, and reports any model
// name.
func (w *world) serveDoneBy(id string, lease int) {
	if lease > 0 && lease <= len(w.leases) && w.leases[lease-1].serving {
		w.ended(w.leases[lease-1])
	}
	w.sut.OnServeDone(ServeDoneEvent{ModelID: id, Lease: uint64(lease)})
}

// serveDoneOf ends the oldest request of a model without naming its lease.
func (w *world) serveDoneOf(id string) {
	i := slices.IndexFunc(w.leases, func(c *caller) bool { return c.req.Model == id && c.serving })
	if i >= 0 {
		w.ended(w.leases[i])
	} else if w.inline {
		return // It would be taken for the end of a grant that is yet to come.
	}
	w.sut.OnServeDone(ServeDoneEvent{ModelID: id})
}

// ended notes that the request of c is done. If its model is idle after that, the
// scheduler certainly notices silent changes (R19).
func (w *world) ended(c *caller) {
	c.serving = false
	if w.inFlight(c.req.Model) == 0 {
		w.noticed()
	}
}

// noticed notes that the scheduler has handled an event that makes it consider
// everything.
func (w *world) noticed() { w.unseen, w.silent = false, false }

// unload unloads models. The leases of models that the host knows are written off when it
// stops them, because the event may have to wait for the end of a step.
func (w *world) unload(timeout time.Duration, ids ...string) {
	for _, id := range ids {
		if w.forgotten[id] && !w.down {
			w.writeOff(id)
		}
	}
	w.noticed()
	w.untold = false
	w.sut.OnUnload(ids, timeout)
}

// shutdown shuts the scheduler down.
func (w *world) shutdown(err error) {
	w.down = true
	w.sut.OnShutdown(err)
}

// openLine returns a line that lets models be served again, or "" if nothing keeps them
// from being served. Something does if a model is paused, if the question for its limits
// panics, or if the limits have changed without the scheduler being told.
func (w *world) openLine() string {
	for _, id := range w.models {
		if w.limits[id].Paused || w.limits[id].panics {
			return "limits " + id + " unload"
		}
	}
	if w.untold {
		return "unload"
	}
	return ""
}

// drain finishes everything until nothing is left to finish. No new requests come.
func (w *world) drain(each func(what string, do func())) {
	for range 1000 {
		for _, id := range slices.Sorted(maps.Keys(w.swaps)) {
			each("swap-done "+id, func() { w.swapDone(id, endsWell) })
		}
		for _, c := range slices.Clone(w.leases) {
			if c.serving {
				each("serve-done "+c.name, func() { w.serveDone(c) })
			}
		}
		if len(w.swaps) == 0 && !slices.ContainsFunc(w.leases, func(c *caller) bool { return c.serving }) {
			return
		}
	}
	w.breaks("it never ends")
}

// stuck names the requests that wait although everything has ended.
func (w *world) stuck() (names []string) {
	for _, c := range w.callers {
		if c.waiting && !c.left {
			names = append(names, c.name)
		}
	}
	return names
}

// mustHold fails the test if anything is broken.
func (w *world) mustHold(t testing.TB) {
	t.Helper()
	for _, b := range w.broken {
		t.Error(b)
	}
	w.broken = nil
}
