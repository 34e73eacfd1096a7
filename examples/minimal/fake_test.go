package main

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"example.com/scheduler"
)

// fake is a host without processes, for copying: it writes down what the scheduler
// tells it to do, and a test says what happens next. It serves to test one's own
// groups and options, which the tests below do.
type fake struct {
	sched   *scheduler.FIFO
	states  map[string]scheduler.ProcessState
	effects []string
}

func newFake(t *testing.T) *fake {
	policy, err := scheduler.NewGroupSwapper(groups...)
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{states: make(map[string]scheduler.ProcessState)}
	for id := range models {
		f.states[id] = scheduler.StateStopped
	}
	start := time.Now()
	opts := options
	opts.Now = func() time.Time { return start } // No time passes, however slow the machine is.
	f.sched = scheduler.NewFIFO("fake", nil, policy, f, opts)
	return f
}

func (f *fake) note(format string, args ...any) {
	f.effects = append(f.effects, fmt.Sprintf(format, args...))
}

func (f *fake) ModelState(id string) (scheduler.ProcessState, bool) {
	state, known := f.states[id]
	return state, known
}

func (f *fake) RunningModels() map[string]scheduler.ProcessState { return f.states }

func (f *fake) StartSwap(id string, evict []string) {
	f.note("load %s, evict %v", id, evict)
	for _, e := range evict {
		f.states[e] = scheduler.StateStopped
	}
}

func (f *fake) GrantError(req scheduler.HandlerReq, err error) { f.note("error: %v", err) }

func (f *fake) GrantServe(req scheduler.HandlerReq, id string) bool {
	f.note("serve %s", id)
	return true
}

func (f *fake) StopProcesses(timeout time.Duration, ids []string) { f.note("stop %v", ids) }

// loaded reports the end of a load.
func (f *fake) loaded(id string, err error) {
	if err == nil {
		f.states[id] = scheduler.StateReady
	}
	f.sched.OnSwapDone(scheduler.SwapDone{ModelID: id, Err: err})
}

// expect checks the effects since the last time.
func (f *fake) expect(t *testing.T, want ...string) {
	t.Helper()
	if !slices.Equal(f.effects, want) {
		t.Errorf("effects:\n%q\nwant:\n%q", f.effects, want)
	}
	f.effects = nil
}

// The groups: alpha and beta take turns, embed is loaded beside them and stays.
func TestGroups(t *testing.T) {
	f := newFake(t)
	f.sched.OnRequest(scheduler.HandlerReq{Model: "alpha"})
	f.sched.OnRequest(scheduler.HandlerReq{Model: "embed"})
	f.expect(t, "load alpha, evict []", "load embed, evict []")
	f.loaded("embed", nil)
	f.loaded("alpha", nil)
	f.expect(t, "serve embed", "serve alpha")

	f.sched.OnRequest(scheduler.HandlerReq{Model: "beta"})
	f.expect(t) // It waits while alpha is busy.
	f.sched.OnServeDone(scheduler.ServeDoneEvent{ModelID: "alpha"})
	f.expect(t, "load beta, evict [alpha]")
}

// The cool-down: a model that does not load takes a good one down only once.
func TestCooldown(t *testing.T) {
	f := newFake(t)
	f.states["alpha"] = scheduler.StateReady
	f.sched.OnRequest(scheduler.HandlerReq{Model: "beta"})
	f.loaded("beta", errors.New("no such file"))
	f.expect(t, "load beta, evict [alpha]", "error: no such file")
	f.sched.OnRequest(scheduler.HandlerReq{Model: "alpha"})
	f.loaded("alpha", nil)
	f.expect(t, "load alpha, evict []", "serve alpha")

	f.sched.OnRequest(scheduler.HandlerReq{Model: "beta"})
	f.expect(t, `error: scheduler: model cooling down: no such file: "beta": try again in 5s`)
}
