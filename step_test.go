package scheduler

import (
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// stepTest is a step whose events are reports about a model. It writes down what it
// carries out.
type stepTest struct {
	step
	does  map[string]func() // what else an event or "fail" does
	done  []string
	reads int // of the clock
	err   error
}

func newStepTest() *stepTest {
	s := &stepTest{does: make(map[string]func())}
	s.handle = func(ev *event) {
		if ev.kind == requested {
			s.do(ev.req.Model)
		} else {
			s.do(ev.model)
		}
	}
	s.fail = func(err error) {
		s.err = err
		s.do("fail")
	}
	s.clock = func() time.Time {
		s.reads++
		return epochOfTests.Add(time.Duration(s.reads) * time.Second)
	}
	return s
}

func (s *stepTest) do(what string) {
	s.done = append(s.done, what)
	if does := s.does[what]; does != nil {
		does()
	}
	if what != "fail" {
		s.done = append(s.done, "/"+what)
	}
}

// report makes an event happen.
func (s *stepTest) report(model string) {
	s.receive(swapDone).model = model
	s.run()
}

// request makes a request happen.
func (s *stepTest) request(model string) {
	s.receive(requested).req = HandlerReq{Model: model}
	s.run()
}

// panics returns the value that the function panics with, or nil if it does not panic.
func panics(do func()) (value any) {
	defer func() { value = recover() }()
	do()
	return nil
}

// check compares what was carried out since the last check.
func (s *stepTest) check(t *testing.T, want string) {
	t.Helper()
	if got := strings.Join(s.done, " "); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	s.done = nil
}

// TestReentry: events that come from within a call are handled one after another,
// in order, after the present one (R17).
func TestReentry(t *testing.T) {
	s := newStepTest()
	s.does["a"] = func() { s.report("b"); s.request("c") }
	s.does["b"] = func() { s.report("d") }
	s.report("a")
	s.check(t, "a /a b /b c /c d /d")
	s.report("e")
	s.check(t, "e /e")
	if s.inbox != nil || s.active || s.pending {
		t.Errorf("something is left: %d events, active %v, pending %v", len(s.inbox), s.active, s.pending)
	}
}

// TestEventsAreApart: an event from within a call does not touch the present one.
func TestEventsAreApart(t *testing.T) {
	var s step
	var leases []uint64
	s.handle = func(ev *event) {
		if ev.lease < 3 {
			for range 2 {
				s.receive(serveDone).lease = ev.lease + 1
				s.run()
			}
		}
		leases = append(leases, ev.lease)
	}
	s.receive(serveDone).lease = 1
	s.run()
	if want := []uint64{1, 2, 2, 3, 3, 3, 3}; !slices.Equal(leases, want) {
		t.Errorf("the leases are %v, want %v", leases, want)
	}
}

// TestPanicIsFailStop: the panic passes through as it is, and the next event begins
// with the fail-stop, which comes once.
func TestPanicIsFailStop(t *testing.T) {
	s := newStepTest()
	s.does["a"] = func() { panic(errHook) }
	if value := panics(func() { s.report("a") }); value != any(errHook) {
		t.Errorf("out comes %v, not %v", value, errHook)
	}
	s.check(t, "a")
	s.report("b")
	s.check(t, "fail b /b")
	if !errors.Is(s.err, ErrShutdown) || !errors.Is(s.err, errHook) {
		t.Errorf("the error is %v", s.err)
	}
	s.report("c")
	s.check(t, "c /c")
}

// TestPanicKeepsTheInbox: events that were waiting for their turn are handled after
// the fail-stop, and before the next one.
func TestPanicKeepsTheInbox(t *testing.T) {
	s := newStepTest()
	s.does["a"] = func() { s.report("b"); s.report("c"); panic(errHook) }
	panics(func() { s.report("a") })
	s.check(t, "a")
	s.report("d")
	s.check(t, "fail b /b c /c d /d")
}

// TestFailStopMayPanic: if the fail-stop panics, it goes on at the next event.
func TestFailStopMayPanic(t *testing.T) {
	s := newStepTest()
	again := errors.New("again")
	s.does["a"] = func() { s.report("b"); panic(errHook) }
	s.does["fail"] = func() { s.report("c"); panic(again) }
	panics(func() { s.report("a") })
	if value := panics(func() { s.report("d") }); value != any(again) {
		t.Errorf("out comes %v, not %v", value, again)
	}
	s.check(t, "a fail")
	s.does["fail"] = nil
	s.report("e")
	s.check(t, "fail b /b d /d c /c e /e")
	if !errors.Is(s.err, again) {
		t.Errorf("the error is %v", s.err)
	}
}

// TestOrphan: a panic leaves behind the request of its step, if that has neither an
// answer nor a place in the queue.
func TestOrphan(t *testing.T) {
	for _, settled := range []bool{false, true} {
		s := newStepTest()
		s.does["a"] = func() {
			if settled {
				s.settled()
			}
			panic(errHook)
		}
		var orphan *HandlerReq
		s.does["fail"] = func() { orphan = s.popOrphan() }
		panics(func() { s.request("a") })
		s.request("b")
		if (orphan == nil) != settled || orphan != nil && orphan.Model != "a" {
			t.Errorf("settled: %v, and the orphan is %v", settled, orphan)
		}
		if s.popOrphan() != nil {
			t.Error("the orphan was left")
		}
	}
}

// TestOnlyRequestsAreOrphans: a report is never an orphan, not even after a request that
// was not settled. An orphan survives a fail-stop that panics.
func TestOnlyRequestsAreOrphans(t *testing.T) {
	s := newStepTest()
	s.does["a"] = func() { panic(errHook) }
	s.request("b")
	panics(func() { s.report("a") })
	if orphan := s.popOrphan(); orphan != nil {
		t.Errorf("the orphan of a report is %v", orphan)
	}
	s.report("b")
	panics(func() { s.request("a") })
	s.does["fail"] = func() { panic(errHook) }
	panics(func() { s.request("b") }) // It is yet to be handled, and no orphan.
	if orphan := s.popOrphan(); orphan == nil || orphan.Model != "a" {
		t.Errorf("after two panics the orphan is %v", orphan)
	}
}

// TestGoexit: runtime.Goexit within a step is fail-stop too. That happens when a fake
// host calls t.FailNow.
func TestGoexit(t *testing.T) {
	s := newStepTest()
	s.does["a"] = func() { s.report("b"); runtime.Goexit() }
	exited := make(chan bool)
	go func() {
		returned := false
		defer func() { exited <- !returned && recover() == nil }()
		s.request("a")
		returned = true
	}()
	if !<-exited {
		t.Error("the goroutine goes on, or it panics")
	}
	s.report("c")
	s.check(t, "a fail b /b c /c")
	if orphan := s.popOrphan(); !errors.Is(s.err, ErrShutdown) || orphan == nil || orphan.Model != "a" {
		t.Errorf("the error is %v, and the orphan is %v", s.err, orphan)
	}
}

// TestStepKnowsWhatHappened: a step knows what happened in it, and forgets it when the
// next one begins.
func TestStepKnowsWhatHappened(t *testing.T) {
	s := newStepTest()
	s.does["a"] = func() {
		if !s.arriving("a") || s.arriving("b") {
			t.Error("the request of the step does not arrive")
		}
		if s.settled(); s.arriving("a") {
			t.Error("a settled request still arrives")
		}
		if s.moves() {
			t.Error("the queue moves without a reason")
		}
		s.unblock()
		s.unblock()
		if !s.moves() || s.moves() {
			t.Error("the queue does not move once")
		}
		s.unblock()
	}
	s.does["b"] = func() {
		if s.moves() {
			t.Error("the queue moves for the step before")
		}
		if s.arriving("") || s.arriving("b") {
			t.Error("a report is taken for a request")
		}
	}
	s.request("a")
	s.report("b")
}

// TestClockIsReadOncePerStep: once if it is needed, and otherwise not at all.
func TestClockIsReadOncePerStep(t *testing.T) {
	s := newStepTest()
	twice := func() {
		if one, two := s.time(), s.time(); !one.Equal(two) {
			t.Errorf("in one step it is %v and %v", one, two)
		}
	}
	s.does["asks"] = twice
	s.does["takes time"] = func() { twice(); s.passTime(); twice() }
	s.does["panics"] = func() { twice(); panic(errHook) }
	s.does["fail"] = twice
	for _, test := range []struct {
		event string
		reads int
	}{
		{"asks not", 0},
		{"asks", 1},
		{"asks", 1},
		{"takes time", 2},
		{"panics", 1},
		{"asks", 2}, // the fail-stop has its own time
		{"asks not", 0},
	} {
		s.reads = 0
		panics(func() { s.report(test.event) })
		if s.reads != test.reads {
			t.Errorf("an event that %s reads the clock %d times, want %d", test.event, s.reads, test.reads)
		}
	}
}

// TestStepAllocatesNothing, except for events from within a call.
func TestStepAllocatesNothing(t *testing.T) {
	s := step{handle: func(*event) {}}
	if n := testing.AllocsPerRun(100, func() { s.receive(serveDone); s.run() }); n != 0 {
		t.Errorf("%v allocations per event", n)
	}
}
