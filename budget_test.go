package scheduler

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// parseResidents returns the residents that words describe: a model, the lease of its
// latest use, and how it is: * busy, ? wanted, + loading, - leaving.
func parseResidents(words string) (all []Resident) {
	for _, word := range strings.Fields(words) {
		var r Resident
		name := strings.TrimRight(word, "*?+-")
		for _, mark := range word[len(name):] {
			switch mark {
			case '*':
				r.InFlight = 1
			case '?':
				r.Waiting = 1
			case '+':
				r.Loading = true
			case '-':
				r.Leaving = true
			}
		}
		r.Model = strings.TrimRight(name, "0123456789")
		r.LastUsed, _ = strconv.ParseUint(name[len(r.Model):], 10, 64)
		all = append(all, r)
	}
	return all
}

// nothingReady is a Budget.Ready.
func nothingReady(string) bool { return false }

// newBudget returns the BudgetSwapper of a line of newSwapper.
func newBudget(line string, ready func(string) bool) *BudgetSwapper {
	return budgetSwapper("pools", strings.Fields(line), ready)
}

// TestBudgetPlan: what has to go for t.
func TestBudgetPlan(t *testing.T) {
	for _, test := range []struct{ name, budget, running, want string }{
		{"it fits", "x:3 t=x:1 a=x:2", "a1", ""},
		{"it fills the pool", "x:3 t=x:3 a=x:2", "a1", "a"},
		{"another pool", "x:1 y:1 t=x:1 a=y:1", "a1", ""},
		{"nothing useless", "x:4 t=x:2 a=x:1 b=x:2 c=x:1", "a1 b3 c2", "b"},
		{"the least recently used", "x:2 t=x:1 a=x:1 b=x:1", "a2 b1", "b"},
		{"dear to load", "x:2 t=x:1 a=x:1 b=x:1@9", "a2 b1", "a"},
		{"the larger one", "x:3 t=x:1 a=x:1 b=x:2", "a1 b2", "b"},
		{"several small ones are worth less than one dear one", "x:4 t=x:2 a=x:1 b=x:1 c=x:2@9", "a2 b3 c1", "a b"},
		{"one is worth less than several", "x:4 t=x:2 a=x:1 b=x:1 c=x:2", "a2 b3 c4", "c"},
		{"idle before busy", "x:2 t=x:1 a=x:1 b=x:1", "a1* b2", "b"},
		{"idle before wanted", "x:2 t=x:1 a=x:1 b=x:1", "a1? b2", "b"},
		{"two idle ones before a busy one", "x:4 t=x:2 a=x:2 b=x:1 c=x:1", "a1* b2 c3", "b c"},
		{"busy if nothing idle helps", "x:4 t=x:3 a=x:2 b=x:1 c=x:1", "a1* b2 c3", "a b"},
		{"busy before loading", "x:2 t=x:1 a=x:1 b=x:1", "a1+ b2*", "b"},
		{"loading if nothing else helps", "x:3 t=x:2 a=x:2 b=x:1", "a1+ b2*", "a"},
		{"leaving before idle", "x:2 t=x:1 a=x:1 b=x:1", "a9- b1", "a"},
		{"leaving counts until it has gone", "x:2 t=x:1 a=x:1", "a1-", ""},
		{"leaving and more", "x:2 t=x:2 a=x:1 b=x:1", "a1- b1", "a b"},
		{"pinned never", "x:3 t=x:1 a=x:1!pinned b=x:1 c=x:1", "a1 b3 c2", "c"},
		{"pinned but leaving", "x:1 t=x:1 a=x:1!pinned", "a1-", "a"},
		{"beside pinned it cannot fit", "x:3 t=x:2 a=x:2!pinned b=x:1 p=!pinned", "a1 b2 p3", "error: scheduler: model does not fit beside pinned models: \"t\": a, p"},
		{"the first placement", "x:1 y:1 t=x:1|y:1", "", ""},
		{"the free placement", "x:1 y:1 t=x:1|y:1 a=x:1", "a1", ""},
		{"the placement whose victim is worth less", "x:1 y:1 t=x:1|y:1 a=x:1 b=y:1", "a2 b1", "b"},
		{"both pools", "x:1 y:1 t=x:1+y:1 a=x:1 b=y:1", "a2 b1", "a b"},
		{"a card for one, or half of both", "x:2 y:2 t=x:2|x:1+y:1 a=x:1 b=y:1", "a1 b1", ""},
		{"what it does not need may be overdrawn", "x:1 y:1 t=y:1 a=x:1 b=x:1", "a1 b1", ""},
		{"slots", "slots:2", "a1 b2", "a"},
		{"a slot but no memory", "slots:3 x:4 a=x:3 b=x:1 t=x:1", "a1 b2", "a"},
		{"memory but no slot", "slots:2 x:9 a=x:3 b=x:1 t=x:1", "a2 b1", "b"},
		{"more than one slot", "slots:3 t=slots:2", "a1 b2", "a"},
		{"loads do not overlap", "loads:1", "a1+ b2", "a"},
		{"what has loaded is no load", "loads:1", "a1 b2", ""},
		{"extra while it loads", "x:3 loads:3 t=x:1+loads:1 a=loads:2 b=loads:1", "a1+ b2+", "a"},
		{"no footprint takes nothing", "x:1 t=x:1", "a1", ""},
	} {
		s := newBudget(test.budget, nothingReady)
		evict, err := s.Plan("t", parseResidents(test.running))
		got := strings.Join(evict, " ")
		if err != nil {
			got = "error: " + err.Error()
		}
		if got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
		if again, _ := s.Plan("t", parseResidents(test.running)); !slices.Equal(again, evict) {
			t.Errorf("%s: the same question again: %q", test.name, again)
		}
	}
}

// TestBudgetPlanReady: a model that is ready stays where it is and does not load.
func TestBudgetPlanReady(t *testing.T) {
	ready := ""
	isReady := func(model string) bool { return model == ready }
	s := newBudget("x:1 y:1 loads:1 t=x:1|y:1 a=x:1|y:1 p=x:1!pinned", isReady)
	place := func(model, running, evict string, want int) {
		t.Helper()
		s.OnPlanStart(model, parseResidents(running), strings.Fields(evict))
		if got, ok := s.Placement(model); got != want || !ok {
			t.Fatalf("%s is in %d, %v, want %d", model, got, ok, want)
		}
	}
	plan := func(running, want string) {
		t.Helper()
		evict, err := s.Plan("t", parseResidents(running))
		if got := strings.Join(evict, " "); got != want || err != nil {
			t.Fatalf("for t beside %s: %q, %v, want %q", running, got, err, want)
		}
	}
	place("a", "", "", 0)
	place("t", "a1", "", 1)
	ready = "t"
	plan("a1", "")
	plan("a1 q+", "") // Another one loads.
	if err := s.Observe("a", 1); err != nil {
		t.Fatal(err)
	}
	plan("a1", "a") // In its place, whatever is free elsewhere.
	place("t", "a1", "a", 1)
	ready = ""
	plan("a1 q+", "q")
	ready = "t"
	if err := s.Observe("t", 0); err != nil {
		t.Fatal(err)
	}
	plan("p1", "") // It runs where there is no room for it, and goes on.
}

// TestBudgetWithoutReady: a model that was placed is placed there again if it fits.
func TestBudgetWithoutReady(t *testing.T) {
	s := newBudget("x:1 y:1 t=x:1|y:1 a=x:1", nil)
	s.OnPlanStart("a", nil, nil)
	s.OnPlanStart("t", parseResidents("a1"), nil)
	if evict, _ := s.Plan("t", nil); len(evict) > 0 {
		t.Errorf("an empty host is in the way: %q", evict)
	}
	s.OnPlanStart("t", parseResidents("a1"), []string{"a"})
	if got, _ := s.Placement("t"); got != 1 {
		t.Errorf("t moves to %d although it may run", got)
	}
}

// TestBudgetPlacement: the placement is that with room once the victims have gone, which
// need not be those of the latest answer. It holds until the model has gone.
func TestBudgetPlacement(t *testing.T) {
	s := newBudget("x:2 y:2 t=x:2|y:2|x:1+y:1 a=x:2|y:2 b=x:2|y:2", nothingReady)
	for _, test := range []struct{ target, running, evict, want string }{
		{"a", "", "", "a0"},
		{"b", "a1", "", "a0 b1"},
		{"t", "a1 b2", "b", "a0 b1 t1"},
		{"b", "a1 t3", "a", "a0 b0 t1"},
		{"t", "b4", "", "b0 t1"},
		{"a", "", "", "a0"},
	} {
		s.OnPlanStart(test.target, parseResidents(test.running), strings.Fields(test.evict))
		var got []string
		for _, model := range []string{"a", "b", "t"} {
			if i, ok := s.Placement(model); ok {
				got = append(got, fmt.Sprint(model, i))
			}
		}
		if got := strings.Join(got, " "); got != test.want {
			t.Fatalf("%s beside %s without %s: %s, want %s", test.target, test.running, test.evict, got, test.want)
		}
	}
	if err := s.Observe("t", 3); err == nil {
		t.Error("a placement that there is not")
	}
	if err := s.Observe("b", 1); err != nil {
		t.Error(err)
	}
	if i, ok := s.Placement("b"); i != 1 || !ok {
		t.Errorf("b is in %d, %v", i, ok)
	}
	if _, ok := s.Placement("c"); ok {
		t.Error("a model that was never placed")
	}
}

// TestBudgetCountsTwoPlaces: a process that is coming to an end may take its old place
// while its model is placed anew, for as long as that takes.
func TestBudgetCountsTwoPlaces(t *testing.T) {
	s := newBudget("x:1 y:1 a=x:1|y:1 b=x:1 z=x:1!pinned", nothingReady)
	s.OnPlanStart("a", nil, nil)
	s.OnPlanStart("a", parseResidents("z1"), nil) // It was unloaded, and z came up by itself.
	if i, _ := s.Placement("a"); i != 1 {
		t.Fatalf("a is in %d", i)
	}
	for _, test := range []struct{ running, want string }{{"a+", "[a]"}, {"a1", "[]"}} {
		if evict, err := s.Plan("b", parseResidents(test.running)); fmt.Sprint(evict) != test.want || err != nil {
			t.Errorf("for b beside %s: %q, %v, want %s", test.running, evict, err, test.want)
		}
	}
	s.OnPlanStart("b", parseResidents("a1"), []string{"a"})
	s.OnPlanStart("a", nil, nil) // It was evicted, and had gone.
	if evict, err := s.Plan("b", parseResidents("a+")); fmt.Sprint(evict) != "[a]" || err != nil {
		t.Errorf("for b beside a, which loads in the best place: %q, %v", evict, err)
	}
	if evict, err := s.Plan("c", parseResidents("a+")); len(evict) > 0 || err != nil {
		t.Errorf("for c: %q, %v", evict, err)
	}
}

// TestBudgetForgetsWhatHasGone: the memory is bounded by what runs.
func TestBudgetForgetsWhatHasGone(t *testing.T) {
	s, err := NewLRUSwapper(3)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 1000 {
		s.OnPlanStart(fmt.Sprint("m", i), parseResidents("a1 b2"), nil)
	}
	if n := len(s.records); n != 3 {
		t.Errorf("%d records of 3 models", n)
	}
}

// TestBudgetErrors: what a budget must not say.
func TestBudgetErrors(t *testing.T) {
	one := map[string]int64{"x": 1}
	model := func(f Footprint) Budget {
		return Budget{Capacity: one, Models: map[string]Footprint{"m": f}}
	}
	for _, test := range []struct {
		budget Budget
		want   string
	}{
		{Budget{}, "scheduler: budget without a pool"},
		{Budget{Capacity: map[string]int64{"x": 0}}, `scheduler: budget: pool "x" has 0, want 1 to 9007199254740992`},
		{Budget{Capacity: map[string]int64{"x": 1, "y": -1}}, `scheduler: budget: pool "y" has -1, want 1 to 9007199254740992`},
		{Budget{Capacity: map[string]int64{"x": 1 << 60}}, `scheduler: budget: pool "x" has 1152921504606846976, want 1 to 9007199254740992`},
		{Budget{Capacity: map[string]int64{PoolLoads: 1}}, `scheduler: budget: pool "loads" needs Ready`},
		{model(Footprint{Placements: []Placement{{"x": 1}, {"z": 1}}}), `scheduler: budget: model "m": placement 1: there is no pool "z"`},
		{model(Footprint{Placements: []Placement{{"x": -1}}}), `scheduler: budget: model "m": placement 0: -1 of pool "x"`},
		{model(Footprint{Placements: []Placement{{"x": 2}}}), `scheduler: budget: model "m": placement 0: scheduler: model does not fit the budget: 2 of pool "x", which has 1`},
		{model(Footprint{Reload: -1}), `scheduler: budget: model "m": reload cost -1, want a positive number`},
		{Budget{Capacity: one, Default: &Footprint{Reload: -1}}, `scheduler: budget: default: reload cost -1, want a positive number`},
	} {
		_, err := NewBudgetSwapper(test.budget)
		if err == nil || err.Error() != test.want {
			t.Errorf("error %v, want %s", err, test.want)
		}
	}
	if _, err := NewBudgetSwapper(model(Footprint{Placements: []Placement{{"x": 2}}})); !errors.Is(err, ErrNeverFits) {
		t.Errorf("%v is not ErrNeverFits", err)
	}
	if _, err := NewLRUSwapper(0); err == nil {
		t.Error("LRU of nothing")
	}
}

// TestBudgetRefusals can be told apart.
func TestBudgetRefusals(t *testing.T) {
	b := parseBudget(strings.Fields("x:1 t=x:1 p=x:1!pinned"), nil)
	b.Default = nil
	s, err := NewBudgetSwapper(b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Plan("stranger", nil); !errors.Is(err, ErrNeverFits) || errors.Is(err, ErrPinned) {
		t.Errorf("no footprint: %v", err)
	}
	if _, err := s.Plan("t", parseResidents("p1 stranger2")); !errors.Is(err, ErrPinned) || errors.Is(err, ErrNeverFits) {
		t.Errorf("beside a pinned model: %v", err)
	}
	if evict := s.EvictionFor("t", []string{"p"}); !slices.Equal(evict, []string{"p"}) {
		t.Errorf("EvictionFor cannot refuse, and answers %q", evict)
	}
}

// randomBudget returns a budget of a few pools and models a, b, c, …
func randomBudget(r *rand.Rand, models int) Budget {
	b := Budget{Capacity: make(map[string]int64), Models: make(map[string]Footprint), Ready: nothingReady}
	pools := []string{"x", "y", PoolSlots, PoolLoads}[:1+r.IntN(4)]
	for _, p := range pools {
		b.Capacity[p] = 1 + r.Int64N(8)
	}
	for i := range models {
		f := Footprint{Reload: []float64{0, 1, 3, 0.5}[r.IntN(4)], Pinned: r.IntN(10) == 0}
		for range r.IntN(4) {
			p := make(Placement)
			for _, pool := range pools {
				if r.IntN(2) == 0 {
					p[pool] = r.Int64N(b.Capacity[pool] + 1)
				}
			}
			f.Placements = append(f.Placements, p)
		}
		b.Models[string(rune('a'+i))] = f
	}
	return b
}

// residentsOfBudget returns some of the models of b but not target.
func residentsOfBudget(r *rand.Rand, b Budget, target string) (all []Resident) {
	for _, model := range slices.Sorted(maps.Keys(b.Models)) {
		if model != target && r.IntN(3) > 0 {
			all = append(all, Resident{
				Model: model, LastUsed: r.Uint64N(6),
				InFlight: r.IntN(4) / 3, Waiting: r.IntN(4) / 3, Loading: r.IntN(6) == 0, Leaving: r.IntN(6) == 0,
			})
		}
	}
	return all
}

// room reports whether the target fits into one of its placements beside running once
// evict has gone, by the words of [Budget] alone.
func (b Budget) room(s *BudgetSwapper, target string, running []Resident, evict []string) bool {
	takes := func(model string, placement int, loading bool, pool string) int64 {
		f, p := b.Models[model], Placement(nil)
		if len(f.Placements) > 0 {
			p = f.Placements[placement]
		}
		n, named := p[pool]
		if !named && (pool == PoolSlots || pool == PoolLoads) {
			n = 1
		}
		if pool == PoolLoads && !loading {
			n = 0
		}
		return n
	}
	fits := func(placement int) bool {
		for index, p := range s.pools {
			pool, capacity := p.name, b.Capacity[p.name]
			need := takes(target, placement, true, pool)
			sum := need
			for _, r := range running {
				if !slices.Contains(evict, r.Model) {
					i, _ := s.Placement(r.Model)
					sum += takes(r.Model, i, r.Loading, pool)
					if known := s.records[r.Model]; r.Loading && known != nil && known.previous.loaded != nil {
						sum += known.previous.loaded[index]
					}
				}
			}
			if need > 0 && sum > capacity {
				return false
			}
		}
		return true
	}
	for i := range max(1, len(b.Models[target].Placements)) {
		if fits(i) {
			return true
		}
	}
	return false
}

// TestBudgetEqualsBruteForce: of all sets of victims that make room the answer is the one
// that keeps the most valuable model, and so on. It is minimal, holds no pinned model and
// no stranger, and once it is carried out nothing more is asked for.
func TestBudgetEqualsBruteForce(t *testing.T) {
	refused := 0
	for seed := range uint64(6000) {
		r := rand.New(rand.NewPCG(seed, 1))
		b := randomBudget(r, 2+r.IntN(9))
		s, err := NewBudgetSwapper(b)
		if err != nil {
			t.Fatal(err)
		}
		for range r.IntN(4) { // A memory.
			model := string(rune('a' + r.IntN(len(b.Models))))
			running := residentsOfBudget(r, b, model)
			if evict, err := s.Plan(model, running); err == nil {
				s.OnPlanStart(model, running, evict)
			}
		}
		target := string(rune('a' + r.IntN(len(b.Models))))
		running := residentsOfBudget(r, b, target)
		evict, err := s.Plan(target, running)
		want, found := bruteForce(b, s, target, running)
		switch {
		case err != nil && found, err == nil && !found:
			t.Fatalf("seed %d: %s beside %v: %v, but there is room: %v", seed, target, running, err, found)
		case err != nil:
			refused++
			continue
		case !slices.Equal(evict, want):
			t.Fatalf("seed %d: %s beside %v: %q, want %q", seed, target, running, evict, want)
		}
		left := slices.DeleteFunc(slices.Clone(running), func(r Resident) bool { return slices.Contains(evict, r.Model) })
		if more, err := s.Plan(target, left); err != nil || len(more) > 0 {
			t.Fatalf("seed %d: once %q have gone: %q, %v", seed, evict, more, err)
		}
		for i := range evict {
			if less := slices.Delete(slices.Clone(evict), i, i+1); b.room(s, target, running, less) {
				t.Fatalf("seed %d: %q would do instead of %q", seed, less, evict)
			}
		}
		s.OnPlanStart(target, running, evict)
		if p, ok := s.Placement(target); !ok || p < 0 || p >= max(1, len(b.Models[target].Placements)) {
			t.Fatalf("seed %d: %s is in %d, %v", seed, target, p, ok)
		}
	}
	t.Logf("%d of them refused", refused)
}

// bruteForce tries all sets of victims.
func bruteForce(b Budget, s *BudgetSwapper, target string, running []Resident) (best []string, found bool) {
	s.see(running)
	order := slices.Clone(s.search.candidates) // The most valuable first.
	n := len(order)
	for set := range 1 << n { // Whoever is more valuable stands for a higher bit.
		var evict []string
		for i, c := range order {
			if set&(1<<(n-1-i)) != 0 {
				evict = append(evict, c.model)
			}
		}
		slices.Sort(evict)
		if b.room(s, target, running, evict) {
			return evict, true
		}
	}
	return nil, false
}
