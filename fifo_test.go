package scheduler

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestServedAtOnceAllocatesNothing checks what RULES.md says about costs.
func TestServedAtOnceAllocatesNothing(t *testing.T) {
	for _, running := range []int{1, 8, 64} {
		t.Run(fmt.Sprint(running), func(t *testing.T) {
			h := newBenchHost(running, running)
			h.granted = make([]ServeDoneEvent, 0, 1)
			f := newFIFOUnderTest(apart(running), h, FIFOOptions{}, 0)
			req := HandlerReq{Model: benchModel(0), Respond: make(chan HandlerResp)}
			served := func() {
				f.OnRequest(req)
				f.OnServeDone(h.granted[0])
				h.granted = h.granted[:0]
			}
			if n := testing.AllocsPerRun(1000, served); n != 0 {
				t.Errorf("%v allocations per request", n)
			}
		})
	}
}

// TestReportsAllocateNothing checks that neither cancels nor reports that serve no
// waiting request allocate.
func TestReportsAllocateNothing(t *testing.T) {
	h, f := busyScheduler(3, newFIFOUnderTest)
	h.granted = nil
	f.OnRequest(HandlerReq{Model: benchModel(0)})
	for range 10 {
		f.OnRequest(HandlerReq{Model: benchModel(1), Respond: make(chan HandlerResp), PositionCh: make(chan int, 1)})
	}
	busy := HandlerReq{Model: benchModel(0)}
	served := func() {
		f.OnServeDone(h.granted[0])
		h.granted = h.granted[:0]
		f.OnRequest(busy)
	}
	if n := testing.AllocsPerRun(100, served); n != 0 {
		t.Errorf("%v allocations per report", n)
	}
	gone := HandlerReq{Respond: make(chan HandlerResp)}
	if n := testing.AllocsPerRun(100, func() { f.OnCancel(gone) }); n != 0 {
		t.Errorf("%v allocations per cancel of an unknown request", n)
	}
}

// countedSwapper counts the questions that it is asked.
type countedSwapper struct {
	Swapper
	asked int
}

func (s *countedSwapper) EvictionFor(target string, running []string) []string {
	s.asked++
	return s.Swapper.EvictionFor(target, running)
}

// TestSwapperIsAskedSeldom checks that the questions per event stay within the costs in
// RULES.md. For m waiting models, these are O(m + reservations) questions for a report,
// as many again for each swap that starts, and one for a request.
func TestSwapperIsAskedSeldom(t *testing.T) {
	for _, m := range []int{1, 10, 100} {
		t.Run(fmt.Sprint(m), func(t *testing.T) {
			h := newBenchHost(m+1, 1)
			s := &countedSwapper{Swapper: &GroupSwapper{}}
			now := epochOfTests
			f := newFIFOUnderTest(s, h, FIFOOptions{Now: func() time.Time { return now }}, 0)
			most := func(what string, n int, event func()) {
				t.Helper()
				s.asked = 0
				if event(); s.asked > n {
					t.Errorf("%d questions for %s with %d models waiting, not %d", s.asked, what, m, n)
				}
			}
			most("a request", 1, func() { f.OnRequest(HandlerReq{Model: benchModel(0)}) })
			for i := range m {
				for range 3 {
					most("a request", 1, func() { f.OnRequest(HandlerReq{Model: benchModel(1 + i)}) })
				}
			}
			for len(h.granted) > 0 || len(h.swaps) > 0 {
				now = now.Add(time.Minute) // Everybody is overdue.
				each := 4 * (m + 2)
				if len(h.swaps) > 0 {
					id := h.swaps[0]
					h.swaps = h.swaps[1:]
					h.set(id, StateReady)
					most("a swap done", each, func() { f.OnSwapDone(SwapDone{ModelID: id}) })
				} else {
					done := h.granted[0]
					h.granted = h.granted[1:]
					most("a serve done", each, func() { f.OnServeDone(done) })
				}
			}
			allServed(t, f, 3*m+1)
		})
	}
}

// TestMemoryComesBack sends a million requests over fifty models, a hundred thousand of
// them at once, and unknown names. After that there is one small entry per model
// (invariant 9 of RULES.md), and the heap is as it was.
func TestMemoryComesBack(t *testing.T) {
	if testing.Short() {
		t.Skip("a million requests")
	}
	const models = 50
	h := newBenchHost(models, models)
	f := newFIFOUnderTest(apart(models), h, FIFOOptions{Limits: func(string) Limits { return Limits{Concurrency: 4} }}, 0)
	rounds := func(n int) {
		for i := range n {
			f.OnRequest(HandlerReq{Model: benchModel(i % models), Respond: make(chan HandlerResp)})
			if len(h.granted) >= 150 {
				h.serveAll(f)
			}
		}
		h.serveAll(f)
	}
	rounds(10_000)
	h.granted = nil
	before := heapInUse()
	total := 1_000_000
	if testing.Short() {
		total = 100_000
	}
	rounds(total)
	for i := range 100_000 {
		f.OnRequest(HandlerReq{Model: benchModel(i % models), Respond: make(chan HandlerResp), PositionCh: make(chan int, 1)})
		f.OnRequest(HandlerReq{Model: fmt.Sprint("unknown ", i)})
	}
	h.serveAll(f)
	h.granted = nil
	if left := leftBehind(f); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if after := heapInUse(); after > before+1<<20 {
		t.Errorf("the heap has grown from %d to %d bytes", before, after)
	}
	runtime.KeepAlive(f)
}

// TestModelsComeBack is like TestMemoryComesBack, for many requests that each wait for a
// different model as a different tenant, and whose callers leave before any model is
// loaded. Nothing keeps them in memory.
func TestModelsComeBack(t *testing.T) {
	const models = 20_000
	h := newBenchHost(models+1, 1)
	f := newFIFOUnderTest(&GroupSwapper{}, h, FIFOOptions{Tenant: func(req HandlerReq) string { return req.Host.(string) }}, 0)
	f.OnRequest(HandlerReq{Model: benchModel(0), Host: "x"})
	before := heapInUse()
	crowd := make([]HandlerReq, 2*models)
	for i := range crowd {
		crowd[i] = HandlerReq{Model: benchModel(min(i, models)), Host: fmt.Sprint(i), Respond: make(chan HandlerResp)}
	}
	for _, req := range crowd[1:] {
		f.OnRequest(req)
	}
	f.OnUnload(nil, 0) // The queue moves.
	for _, req := range crowd {
		f.OnCancel(req)
	}
	crowd = nil
	if after := heapInUse(); after > before+4<<20 {
		t.Errorf("the heap has grown from %d to %d bytes", before, after)
	}
	runtime.KeepAlive(f)
}

// TestPlanWaitsForRoom: a plan may rely on the room of a model that another swap stops.
// The reserved swap does not start until that model is gone (R8).
func TestPlanWaitsForRoom(t *testing.T) {
	w := newWorld(hostOf("host a b h x z; ready a b"), func(_ Swapper, eff Effects, opts FIFOOptions, exact int) sut {
		return newFIFOUnderTest(SwapperFunc(func(target string, running []string) (evict []string) {
			runs := func(model string) bool { return slices.Contains(running, model) }
			if target == "h" && runs("a") {
				evict = append(evict, "a")
			}
			if runs("b") && (target == "x" || target == "h" && runs("z")) {
				evict = append(evict, "b")
			}
			return evict
		}), eff, opts, exact)
	})
	w.conserves = false // It is not the policy of the world.
	for _, do := range []struct{ line, want string }{
		{"request r1 a", "grant r1 a"},
		{"request r2 h", "position r2 1"}, // a is busy
		{"advance 1h", ""},
		{"request r3 x", "start-swap x evict=[b], reserved h plan=[a], closed a, position r3 0"},
		{"request r4 z", "start-swap z evict=[], position r4 0"}, // it may run beside h, but not beside b and h
		{"serve-done r1", ""},
		{"swap-done x", "grant r3 x, start-swap h evict=[a], unreserved h, opened a, position r2 0"},
	} {
		if got := strings.Join(w.tell(do.line), ", "); got != do.want {
			t.Errorf("%s: %s, want %s", do.line, got, do.want)
		}
	}
}

// heapInUse returns how many bytes are in use.
func heapInUse() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestConstructorsRefuseNil: the constructors panic without a Swapper or Effects.
func TestConstructorsRefuseNil(t *testing.T) {
	h := newBenchHost(1, 0)
	for what, construct := range map[string]func(){
		"NewFIFO without a Swapper":       func() { NewFIFO("test", nil, nil, h, FIFOOptions{}) },
		"NewFIFO with a nil GroupSwapper": func() { NewFIFO("test", nil, (*GroupSwapper)(nil), h, FIFOOptions{}) },
		"NewFIFO with a nil SwapperFunc":  func() { NewFIFO("test", nil, SwapperFunc(nil), h, FIFOOptions{}) },
		"NewFIFO with a nil PlannerFunc":  func() { NewFIFO("test", nil, PlannerFunc(nil), h, FIFOOptions{}) },
		"NewFIFO with a nil host":         func() { NewFIFO("test", nil, &GroupSwapper{}, (*benchHost)(nil), FIFOOptions{}) },
		"FIFOFactory with a nil function": func() { FIFOFactory(SwapperFunc(nil), FIFOOptions{}) },
		"NewFIFO without Effects":         func() { NewFIFO("test", nil, &GroupSwapper{}, nil, FIFOOptions{}) },
		"FIFOFactory without a Swapper":   func() { FIFOFactory(nil, FIFOOptions{}) },
		"a Factory without Effects":       func() { FIFOFactory(&GroupSwapper{}, FIFOOptions{})("test", nil, nil) },
	} {
		t.Run(what, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			construct()
		})
	}
}

// TestFactorySharesItsSwapper makes two schedulers with one Factory. They do not affect
// each other.
func TestFactorySharesItsSwapper(t *testing.T) {
	factory := FIFOFactory(&GroupSwapper{}, FIFOOptions{})
	one, two := newBenchHost(2, 0), newBenchHost(2, 0)
	a, b := factory("one", nil, one), factory("two", nil, two)
	a.OnRequest(HandlerReq{Model: benchModel(0)})
	b.OnRequest(HandlerReq{Model: benchModel(1)})
	if fmt.Sprint(one.swaps, two.swaps) != "[model-00] [model-01]" {
		t.Errorf("swaps %v and %v", one.swaps, two.swaps)
	}
}

// TestCancelNeedsACanceler: Cancel says whether the scheduler can cancel.
func TestCancelNeedsACanceler(t *testing.T) {
	h, f := busyScheduler(2, newFIFOUnderTest)
	req := HandlerReq{Model: benchModel(1), Respond: make(chan HandlerResp)}
	f.OnRequest(req)
	if waiting := f.Snapshot().Waiting; len(waiting) != 1 {
		t.Fatalf("%d wait", len(waiting))
	}
	if !Cancel(f, req) || len(f.Snapshot().Waiting) != 0 {
		t.Errorf("not cancelled: %+v", f.Snapshot().Waiting)
	}
	if Cancel(struct{ Scheduler }{f}, req) {
		t.Error("cancelled by a Scheduler that cannot")
	}
	h.serveAll(f)
}

// TestIgnoredReportsAreLogged: at Warn, with the name of the scheduler, and counted.
func TestIgnoredReportsAreLogged(t *testing.T) {
	var out strings.Builder
	f := NewFIFO("gpu0", slog.New(slog.NewTextHandler(&out, nil)), &GroupSwapper{}, newBenchHost(1, 0), FIFOOptions{})
	f.OnServeDone(ServeDoneEvent{ModelID: "x", Lease: 7})
	f.OnSwapDone(SwapDone{ModelID: "y", Err: errors.New("late")})
	if n := f.Snapshot().Counters.Ignored; n != 2 {
		t.Errorf("%d counted", n)
	}
	for _, want := range []string{"level=WARN", "scheduler=gpu0", "model=x", "model=y"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %s in\n%s", want, out.String())
		}
	}
}

// TestErrorsSayWhatAndWhere: the text names the model, and errors.Is finds the
// sentinel.
func TestErrorsSayWhatAndWhere(t *testing.T) {
	load := errors.New("no such file")
	for _, c := range []struct {
		err  error
		is   error
		text string
	}{
		{notFound("m"), ErrModelNotFound, `scheduler: model not found: "m"`},
		{&RetryError{Model: "m", Err: ErrOverloaded}, ErrOverloaded, `scheduler: overloaded: "m"`},
		{&RetryError{Model: "m", After: 3 * time.Second, Err: fmt.Errorf("%w: %w", ErrCoolingDown, load)}, load,
			`scheduler: model cooling down: no such file: "m": try again in 3s`},
	} {
		if c.err.Error() != c.text || !errors.Is(c.err, c.is) {
			t.Errorf("%q, not %q, is %v: %v", c.err, c.text, c.is, errors.Is(c.err, c.is))
		}
	}
}

// TestHugeDurations: times that are absurdly long do not overflow.
func TestHugeDurations(t *testing.T) {
	const century = 100 * 365 * 24 * time.Hour
	for _, d := range []time.Duration{century, math.MaxInt64} {
		s := hostOf("host a b")
		s.opts.Patience, s.opts.Cooldown = d, d
		t.Run(fmt.Sprint("cool-down ", d), func(t *testing.T) {
			w := newWorld(s, newFIFOUnderTest)
			for i := range 40 { // More than there are doublings in a Duration.
				w.tell(fmt.Sprintf("request r%d a", i))
				w.tell("swap-done a fail")
				left := w.before.Models[0].CoolingDown
				if left < min(d, math.MaxInt64/64) { // That are four years.
					t.Fatalf("cooling down for %v after %d failures", left, i+1)
				}
				w.now = w.now.Add(left)
			}
			w.mustHold(t)
		})
		t.Run(fmt.Sprint("load ", d), func(t *testing.T) {
			w := newWorld(s, newFIFOUnderTest)
			w.tell("request r1 b")
			w.now = w.now.Add(d)
			w.tell("swap-done b")
			w.tell("request r2 a")
			w.now = w.now.Add(time.Second)
			w.tell("request r3 a")
			if now := w.before; len(now.Waiting) != 2 || now.Waiting[0].Overdue || len(now.Reserved) > 0 {
				t.Errorf("overdue after a second:\n%s", strings.Join(show(now), "\n"))
			}
			w.mustHold(t)
		})
	}
}
