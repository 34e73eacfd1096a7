package scheduler

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// runningTest is a running set, and the host that it asks.
type runningTest struct {
	running
	states map[string]ProcessState
	book   swaps
	asked  int
}

func newRunningTest(ready ...string) *runningTest {
	r := &runningTest{states: make(map[string]ProcessState)}
	for _, model := range ready {
		r.states[model] = StateReady
	}
	r.running.swaps = &r.book
	r.host = func() map[string]ProcessState {
		r.asked++
		return r.states
	}
	return r
}

// now returns the set after a possible change.
func (r *runningTest) now() []string {
	r.expire()
	return r.list()
}

// TestRuns: a process runs unless it is stopped or shut down.
func TestRuns(t *testing.T) {
	for state, want := range map[ProcessState]bool{
		StateStopped: false, StateShutdown: false,
		StateStarting: true, StateReady: true, StateStopping: true, "paused": true, "": true,
	} {
		if runs(state) != want {
			t.Errorf("a process that is %q runs: %v", state, !want)
		}
		r := newRunningTest()
		r.states["a"] = state
		if r.has("a") != want || r.has("b") {
			t.Errorf("a model that is %q is in the set: %v", state, r.has("a"))
		}
	}
}

// TestRunningNotices goes through changes of what the host says and of the swaps.
// The version grows with the set, and only then.
func TestRunningNotices(t *testing.T) {
	r := newRunningTest("b", "a")
	var swapped *swap
	var version uint64
	for i, step := range []struct {
		change func()
		want   string
		news   bool
	}{
		{func() {}, "[a b]", true},
		{func() {}, "[a b]", false},
		{func() { r.states["a"] = StateStopping }, "[a b]", false},
		{func() { r.states["c"] = StateStopped }, "[a b]", false},
		{func() { r.states["c"] = StateStarting }, "[a b c]", true},
		{func() { delete(r.states, "a"); r.states["d"] = StateReady }, "[b c d]", true}, // as many as before
		{func() { r.states["b"] = StateShutdown }, "[c d]", true},
		{func() { swapped = r.book.add(intent{"b", []string{"d"}}, epochOfTests, true) }, "[b c d]", true},
		{func() { r.states["b"] = StateStarting }, "[b c d]", false},
		{func() { r.book.remove(swapped) }, "[b c d]", false},
		{func() { swapped = r.book.add(intent{"c", nil}, epochOfTests, false) }, "[b c d]", false},
		{func() { clear(r.states) }, "[c]", true},
		{func() { r.book.remove(swapped) }, "[]", true},
	} {
		step.change()
		if got := fmt.Sprint(r.now()); got != step.want {
			t.Errorf("step %d: %s runs, want %s", i, got, step.want)
		}
		if news := r.version != version; news != step.news || r.version < version {
			t.Errorf("step %d: version %d after %d", i, r.version, version)
		}
		version = r.version
	}
}

// TestRunningAsksWhenExpired: between two events the host is asked once.
func TestRunningAsksWhenExpired(t *testing.T) {
	r := newRunningTest("a")
	for want := 1; want <= 3; want++ {
		r.expire()
		r.states[fmt.Sprint(want)] = StateReady
		first := slices.Clone(r.list())
		r.states["later"] = StateReady
		if second := r.list(); !slices.Equal(first, second) || r.has("later") {
			t.Errorf("the set changes from %v to %v by itself", first, second)
		}
		delete(r.states, "later")
		if r.asked != want {
			t.Errorf("the host was asked %d times, want %d", r.asked, want)
		}
	}
}

// TestRunningAgainstNaive changes states and swaps at random, and compares the set with
// one made from scratch.
func TestRunningAgainstNaive(t *testing.T) {
	models := strings.Fields("a b c d e f")
	states := []ProcessState{StateStopped, StateStarting, StateReady, StateStopping, StateShutdown}
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		r := newRunningTest()
		var before []string
		var version uint64
		for range 200 {
			for range rnd.IntN(3) {
				model := models[rnd.IntN(len(models))]
				switch s := r.book.of(model); rnd.IntN(4) {
				case 0:
					delete(r.states, model)
				case 1:
					if s == nil {
						r.book.add(intent{target: model}, epochOfTests, true)
					} else {
						r.book.remove(s)
					}
				default:
					r.states[model] = states[rnd.IntN(len(states))]
				}
			}
			set := make(map[string]bool)
			for model, state := range r.states {
				if state != StateStopped && state != StateShutdown {
					set[model] = true
				}
			}
			for target := range r.book.byTarget {
				set[target] = true
			}
			want := slices.Sorted(maps.Keys(set))
			if got := r.now(); !slices.Equal(got, want) {
				t.Fatalf("seed %d: %v runs, want %v", seed, got, want)
			}
			if news := r.version != version; news == slices.Equal(before, want) {
				t.Fatalf("seed %d: from %v to %v: version %d after %d", seed, before, want, r.version, version)
			}
			before, version = want, r.version
		}
	}
}

// TestMark: changed reports whether the host says something different from what it said
// at the mark (R19). Swaps do not matter.
func TestMark(t *testing.T) {
	r := newRunningTest("a")
	for i, step := range []struct {
		change func()
		want   bool
	}{
		{func() { r.setMark() }, false},
		{func() {}, false},
		{func() { r.states["b"] = StateReady }, true},
		{func() {}, true}, // The mark has not moved.
		{func() { delete(r.states, "b") }, false},
		{func() { r.states["a"] = StateStopping }, true},
		{func() { r.setMark() }, false},
		{func() { r.states["a"] = StateReady }, true},
		{func() { r.setMark() }, false},
		{func() { r.book.add(intent{"c", nil}, epochOfTests, true) }, false},
		{func() { r.states["c"] = StateStopped }, true}, // It knows one more.
		{func() { r.setMark() }, false},
		{func() { delete(r.states, "c"); r.states["d"] = StateStopped }, true},
	} {
		r.expire()
		step.change()
		if got := r.changed(); got != step.want {
			t.Errorf("step %d: changed: %v", i, got)
		}
	}
}

// TestRunningSortsOnlyNews: if nothing has changed, nothing is sorted or allocated. A set
// that changes back and forth reuses its memory.
func TestRunningSortsOnlyNews(t *testing.T) {
	r := newRunningTest()
	for i := range 64 {
		r.states[fmt.Sprint(i)] = StateReady
	}
	r.book.add(intent{target: "a"}, epochOfTests, true)
	states := []ProcessState{StateStopped, StateReady}
	if n := testing.AllocsPerRun(100, func() {
		states[0], states[1] = states[1], states[0]
		r.states["1"] = states[0]
		if r.now(); r.has("1") != (states[0] == StateReady) {
			t.Error("a change goes unnoticed")
		}
	}); n != 0 {
		t.Errorf("%v allocations for a change", n)
	}
	models := r.now()
	models[0], models[1] = models[1], models[0] // A second sorting would show.
	if n := testing.AllocsPerRun(100, func() { r.now() }); n != 0 {
		t.Errorf("%v allocations where nothing has changed", n)
	}
	if slices.IsSorted(r.now()) {
		t.Error("the set was sorted, although nothing has changed")
	}
}
