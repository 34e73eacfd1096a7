package scheduler

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"
)

// panicking is a host, a Swapper and the options of a FIFO, and panics at the n-th call
// of any of them.
type panicking struct {
	*world
	counts bool // calls count now: they are the scheduler's and not those of the checks
	left   int  // calls until the panic; below 0: none
	at     string
}

// counting counts the calls that do makes, or does not.
func (p *panicking) counting(counts bool, do func()) {
	defer func(was bool) { p.counts = was }(p.counts)
	p.counts = counts
	do()
}

// call counts a call, and panics if it is the n-th.
func (p *panicking) call(what string) {
	if !p.counts {
		return
	}
	p.left--
	if p.left == 0 {
		p.at = what
		panic(errHook)
	}
}

func (p *panicking) ModelState(id string) (ProcessState, bool) {
	p.call("ModelState")
	return p.world.ModelState(id)
}

func (p *panicking) RunningModels() map[string]ProcessState {
	p.call("RunningModels")
	return p.world.RunningModels()
}

// The effects take place before they panic: an effect that panicked counts as done.

func (p *panicking) StartSwap(id string, evict []string) {
	p.counting(false, func() { p.world.StartSwap(id, evict) })
	p.call("StartSwap")
}

func (p *panicking) GrantServe(req HandlerReq, id string) (took bool) {
	p.counting(false, func() { took = p.world.GrantServe(req, id) })
	p.call("GrantServe")
	return took
}

func (p *panicking) GrantError(req HandlerReq, err error) {
	p.counting(false, func() { p.world.GrantError(req, err) })
	p.call("GrantError")
}

func (p *panicking) CancelSwap(id string) {
	p.counting(false, func() { p.world.CancelSwap(id) })
	p.call("CancelSwap")
}

func (p *panicking) StopProcesses(timeout time.Duration, ids []string) {
	p.counting(false, func() { p.world.StopProcesses(timeout, ids) })
	p.call("StopProcesses")
}

func (p *panicking) EvictionFor(target string, running []string) []string {
	p.call("EvictionFor")
	return p.world.plain(target, running)
}

func (p *panicking) OnSwapStart(string, []string) { p.call("OnSwapStart") }

// newPanicking makes a world whose n-th call panics.
func newPanicking(n int) (*panicking, *world) {
	p := &panicking{left: n}
	s := hostOf("host a b c; options cooldown=1s; limits a concurrency=1 capacity=3")
	w := newWorld(s, func(sw Swapper, eff Effects, opts FIFOOptions, exact int) sut {
		w := eff.(*world)
		p.world = w
		wrapped := opts
		wrapped.Now = func() time.Time { p.call("Now"); return opts.Now() }
		wrapped.Priority = func(req HandlerReq) int { p.call("Priority"); return opts.Priority(req) }
		wrapped.Tenant = func(req HandlerReq) string { p.call("Tenant"); return opts.Tenant(req) }
		wrapped.Limits = func(model string) Limits { p.call("Limits"); return opts.Limits(model) }
		return newFIFOUnderTest(p, p, wrapped, exact)
	})
	return p, w
}

// scenario has every kind of effect in it.
const scenario = `
request r1 a
request r2 a
request r3 b priority=1
request r4 c
request r5 nobody
swap-done a
request r6 a
serve-done r1
cancel r6
leave r4
advance 1m
request r7 b
serve-done r2
swap-done b
serve-done r3
request r8 c
serve-done r7
swap-done c fail
request r9 c
unload a b c
request r10 a
request r11 b
cancel r10
swap-done a
advance 1m
unload b
request r12 b
swap-done b
serve-done r12
request r13 c
swap-done c
serve-done r13
`

// questions are the calls in which a panic is a refusal. In any other call it is
// fail-stop.
var questions = []string{"EvictionFor", "OnSwapStart", "Priority", "Tenant", "Limits"}

// TestPanicAnywhere lets every single call that the FIFO makes panic in turn (R17). A
// panic in a question is a refusal: it does not come out, and everything else goes on.
// Any other panic comes out, and the next event gives an error to every request that has
// no answer yet. Either way each request has one answer, and nothing is left in memory.
func TestPanicAnywhere(t *testing.T) {
	seen := make(map[string]int)
	for n := 1; ; n++ {
		p, w := newPanicking(n)
		var told []string
		for line := range strings.Lines(scenario) {
			line = strings.TrimSpace(line)
			if line == "" {
				continue
			}
			told = append(told, line)
			fresh := p.at == ""
			lines := w.step(func() { p.counting(true, func() { _ = w.do(line) }) })
			if out := slices.Contains(lines, "panic"); out == slices.Contains(questions, p.at) && fresh && p.at != "" {
				w.breaks("a panic in %s comes out: %v", p.at, out)
			}
			if fresh && w.down { // The host notices the panic and hands in the next event.
				w.step(func() { w.sut.OnServeDone(ServeDoneEvent{}) })
				if stuck := w.stuck(); len(stuck) > 0 {
					w.breaks("after the fail-stop these have no answer: %v", stuck)
				}
			}
		}
		w.unseen = false
		w.finish(func(what string) { told = append(told, what) })
		for _, b := range w.broken {
			t.Errorf("panic in call %d, %s: %s\n%s", n, p.at, b, strings.Join(told, "\n"))
		}
		if t.Failed() {
			return
		}
		if p.at == "" {
			break // There are no more calls.
		}
		seen[p.at]++
	}
	for _, what := range []string{"ModelState", "RunningModels", "StartSwap", "GrantServe", "GrantError", "CancelSwap", "StopProcesses", "EvictionFor", "OnSwapStart", "Now", "Priority", "Tenant", "Limits"} {
		if seen[what] == 0 {
			t.Errorf("%s never panicked", what)
		}
	}
	t.Log(fmt.Sprint(seen))
}

// panickingLog is a log handler that panics.
type panickingLog struct{ slog.Handler }

func (panickingLog) Enabled(context.Context, slog.Level) bool  { return true }
func (panickingLog) Handle(context.Context, slog.Record) error { panic(errHook) }
func (h panickingLog) WithAttrs([]slog.Attr) slog.Handler      { return h }

// TestRefusedAlthoughTheLogPanics: a request that is refused gets its answer, and the
// counters add up.
func TestRefusedAlthoughTheLogPanics(t *testing.T) {
	w := newWorld(hostOf("host a"), func(s Swapper, eff Effects, opts FIFOOptions, _ int) sut {
		return NewFIFO("test", slog.New(panickingLog{}), s, eff, opts)
	})
	got := w.tell("request r1 stranger")
	if want := []string{`error r1: scheduler: model not found: "stranger"`, "panic"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if c := w.sut.Snapshot().Counters; c != (Counters{Requests: 1, Refused: 1}) {
		t.Errorf("%+v", c)
	}
}
