package scheduler

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// budgetHost is a host that adds up what its processes take. A swap stops its victims,
// then loads its target, and fails now and then; processes crash, are unloaded, and take
// their time to stop.
type budgetHost struct {
	*testing.T
	budget  Budget
	policy  *BudgetSwapper
	sched   *FIFO
	rand    *rand.Rand
	states  map[string]ProcessState
	memory  map[string]Placement // of every process that has not gone
	swaps   map[string]*budgetSwap
	served  []ServeDoneEvent
	waiting []HandlerReq
	refused map[string]int // by reason

	evictions, needless, loads int
}

// budgetSwap is an outstanding swap.
type budgetSwap struct {
	evict   []string
	place   Placement
	loading bool // the victims have gone
}

func newBudgetHost(t *testing.T, budget Budget, seed uint64) *budgetHost {
	h := &budgetHost{
		T: t, budget: budget, rand: rand.New(rand.NewPCG(seed, 2)),
		states: make(map[string]ProcessState), memory: make(map[string]Placement),
		swaps: make(map[string]*budgetSwap), refused: make(map[string]int),
	}
	h.budget.Ready = func(model string) bool { return h.states[model] == StateReady }
	var err error
	if h.policy, err = NewBudgetSwapper(h.budget); err != nil {
		t.Fatal(err)
	}
	for model := range budget.Models {
		h.states[model] = StateStopped
	}
	now := epochOfTests
	h.sched = NewFIFO("budget", nil, h.policy, h, FIFOOptions{Now: func() time.Time {
		now = now.Add(time.Duration(h.rand.IntN(1000)) * time.Millisecond)
		return now
	}})
	return h
}

func (h *budgetHost) ModelState(model string) (ProcessState, bool) {
	s, ok := h.states[model]
	return s, ok
}

func (h *budgetHost) RunningModels() map[string]ProcessState { return h.states }

func (h *budgetHost) GrantServe(req HandlerReq, model string) bool {
	h.answered(req)
	h.served = append(h.served, ServeDoneEvent{ModelID: model, Lease: req.Lease})
	return true
}

func (h *budgetHost) GrantError(req HandlerReq, err error) {
	h.answered(req)
	for _, reason := range []error{ErrPinned, ErrNeverFits, errBroken, ErrModelUnloaded} {
		if errors.Is(err, reason) {
			h.refused[reason.Error()]++
			return
		}
	}
	h.Fatalf("%s: %v", req.Model, err)
}

func (h *budgetHost) answered(req HandlerReq) {
	h.waiting = slices.DeleteFunc(h.waiting, func(w HandlerReq) bool { return w.Respond == req.Respond })
}

// errBroken is the error of a load that fails.
var errBroken = errors.New("broken")

func (h *budgetHost) StartSwap(model string, evict []string) {
	index, ok := h.policy.Placement(model)
	if !ok {
		h.Fatalf("%s starts without a placement", model)
	}
	s := &budgetSwap{evict: evict, place: Placement{}}
	if all := h.budget.Models[model].Placements; len(all) > 0 {
		s.place = all[index]
	}
	for _, e := range evict {
		if h.budget.Models[e].Pinned {
			h.Fatalf("%s is pinned, and has to go for %s", e, model)
		}
		if h.states[e] == StateReady {
			h.states[e] = StateStopping
		}
		h.evictions++
	}
	for i := range evict {
		if others := slices.Delete(slices.Clone(evict), i, i+1); h.roomFor(s.place, model, others) {
			h.needless++
		}
	}
	h.swaps[model] = s
}

func (h *budgetHost) CancelSwap(model string) {}

func (h *budgetHost) StopProcesses(_ time.Duration, models []string) {
	for _, model := range models {
		if h.states[model] == StateReady {
			h.states[model] = StateStopping
		}
	}
}

// used adds up what the processes take.
func (h *budgetHost) used() usage {
	used := make(usage)
	for _, p := range h.memory {
		used.add(p)
	}
	return used
}

// usage is how much is taken, by pool.
type usage map[string]int64

func (u usage) add(p Placement) {
	for pool, n := range p {
		u[pool] += n
	}
	if _, named := p[PoolSlots]; !named {
		u[PoolSlots]++
	}
}

// roomFor reports whether a placement fits for the model once some others have gone,
// beside what runs and what is about to be loaded.
func (h *budgetHost) roomFor(p Placement, model string, gone []string) bool {
	used := make(usage)
	for other, p := range h.memory {
		if other != model && !slices.Contains(gone, other) {
			used.add(p)
		}
	}
	for target, s := range h.swaps {
		if !s.loading && h.states[target] != StateReady {
			used.add(s.place)
		}
	}
	for pool, capacity := range h.budget.Capacity {
		n, named := p[pool]
		if !named && pool == PoolSlots {
			n = 1
		}
		if n > 0 && pool != PoolLoads && used[pool]+n > capacity {
			return false
		}
	}
	return true
}

// check adds up.
func (h *budgetHost) check() {
	for pool, n := range h.used() {
		if capacity, limited := h.budget.Capacity[pool]; limited && n > capacity {
			h.Fatalf("%d of pool %s, which has %d: %v", n, pool, capacity, h.memory)
		}
	}
	loading := int64(0)
	for _, s := range h.swaps {
		if s.loading {
			loading++
		}
	}
	if most, limited := h.budget.Capacity[PoolLoads]; limited && loading > most {
		h.Fatalf("%d loads at a time, want %d", loading, most)
	}
}

// stop ends the process of a model.
func (h *budgetHost) stop(model string) {
	h.states[model] = StateStopped
	delete(h.memory, model)
}

// advance lets a swap get one step further: its victims go, or its target is loaded.
func (h *budgetHost) advance(model string, s *budgetSwap) {
	if !s.loading {
		for _, e := range s.evict {
			h.stop(e)
		}
		if h.states[model] == StateReady { // Only the evictions were wanted.
			delete(h.swaps, model)
			h.sched.OnSwapDone(SwapDone{ModelID: model})
			return
		}
		h.stop(model)
		s.loading = true
		h.states[model], h.memory[model] = StateStarting, s.place
		return
	}
	delete(h.swaps, model)
	var err error
	if h.states[model] = StateReady; h.rand.IntN(5) == 0 {
		err = errBroken
		h.stop(model)
	}
	h.loads++
	h.sched.OnSwapDone(SwapDone{ModelID: model, Err: err})
}

// random lets something happen.
func (h *budgetHost) random(models []string) {
	model := models[h.rand.IntN(len(models))]
	switch n := h.rand.IntN(20); {
	case n < 8:
		if len(h.waiting) < 20 {
			req := HandlerReq{Model: model, Respond: make(chan HandlerResp)}
			h.waiting = append(h.waiting, req)
			h.sched.OnRequest(req)
		}
	case n < 14:
		if len(h.served) > 0 {
			i := h.rand.IntN(len(h.served))
			ev := h.served[i]
			h.served = slices.Delete(h.served, i, i+1)
			h.sched.OnServeDone(ev)
		}
	case n < 18:
		for _, target := range slices.Sorted(maps.Keys(h.swaps)) {
			if h.rand.IntN(2) == 0 {
				h.advance(target, h.swaps[target])
				break
			}
		}
	case n == 18 && h.rand.IntN(4) == 0:
		if s := h.states[model]; s == StateReady || s == StateStopping { // A crash, or the end of a stop.
			h.stop(model)
		}
	case n == 19 && h.rand.IntN(16) == 0:
		h.sched.OnUnload([]string{model}, 0)
	}
	h.check()
}

// finish lets everything end that is under way, until nothing waits.
func (h *budgetHost) finish() {
	for range 10_000 {
		for _, model := range slices.Sorted(maps.Keys(h.states)) {
			if h.states[model] == StateStopping {
				h.stop(model)
			}
		}
		for _, target := range slices.Sorted(maps.Keys(h.swaps)) {
			if s := h.swaps[target]; s != nil {
				h.advance(target, s)
				h.check()
			}
		}
		served := h.served
		h.served = nil
		for _, ev := range served {
			h.sched.OnServeDone(ev)
			h.check()
		}
		if len(h.waiting)+len(h.swaps)+len(h.served) == 0 {
			return
		}
	}
	h.Fatalf("requests wait for ever: %+v", h.sched.Snapshot())
}

// budgets are what the hosts of TestBudgetIsNeverExceeded have: first two cards, one
// model that needs both, two that need one each, and an embedder that goes anywhere.
var budgets = []string{
	"gpu0:24 gpu1:24 both=gpu0:20+gpu1:20 x=gpu0:20|gpu1:20 y=gpu0:20|gpu1:20 embed=gpu0:4|gpu1:4",
	"slots:3",
	"slots:3 loads:1",
	"x:8 a=x:1 b=x:2 c=x:3@5 d=x:4@2 e=x:5 f=x:8@9 p=x:1!pinned",
	"x:8 y:8 loads:2 a=x:4|y:4 b=x:4|y:4|x:2+y:2 c=x:8|y:8 d=x:3+y:3 e=x:1|y:1!pinned",
}

// TestBudgetIsNeverExceeded: through a million random events, with crashes, unloads and
// loads that fail, no pool is ever over its capacity, and everybody gets an answer.
func TestBudgetIsNeverExceeded(t *testing.T) {
	events := 200_000
	if testing.Short() {
		events = 10_000
	}
	for seed, line := range budgets {
		b := parseBudget(strings.Fields(line), nothingReady)
		models := slices.Sorted(maps.Keys(b.Models))
		for i := len(models); i < 4; i++ {
			models = append(models, fmt.Sprint("m", i))
			b.Models[models[i]] = Footprint{}
		}
		h := newBudgetHost(t, b, uint64(seed))
		for range events {
			h.random(models)
		}
		h.finish()
		t.Logf("%s: %d loads, %d evictions, %d of them needless; errors: %v", line, h.loads, h.evictions, h.needless, h.refused)
		if h.loads < events/200 || h.evictions < events/1000 {
			t.Errorf("%s: only %d loads and %d evictions", line, h.loads, h.evictions)
		}
		// The plan of a reservation may be more than is needed by the time it is idle.
		if h.needless > h.evictions/500 {
			t.Errorf("%s: %d of %d evictions are needless", line, h.needless, h.evictions)
		}
	}
}
