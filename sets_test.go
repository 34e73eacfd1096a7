package scheduler

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
)

// residentsOf returns the residents that words describe: a model and what is true of it,
// such as "x", "x:busy", "x:loading", "x:leaving" or "x:busy:wanted".
func residentsOf(t testing.TB, words string) (all []Resident) {
	for _, word := range strings.Fields(words) {
		parts := strings.Split(word, ":")
		r := Resident{Model: parts[0]}
		for _, is := range parts[1:] {
			switch is {
			case "busy":
				r.InFlight = 1
			case "wanted":
				r.Waiting = 1
			case "crowded":
				r.InFlight, r.Waiting = 5, 5
			case "loading":
				r.Loading = true
			case "leaving":
				r.Leaving = true
			default:
				t.Fatalf("%q describes no resident", word)
			}
		}
		all = append(all, r)
	}
	return all
}

// TestSetSwapperChooses is the rules of the choice. The target is t, and what stops is
// wanted.
func TestSetSwapperChooses(t *testing.T) {
	for _, c := range []struct{ rule, sets, running, want string }{
		{"nothing runs", "t,a", "", ""},
		{"the set allows what runs", "t,a,b", "a b:busy", ""},
		{"part of a set may run", "t,a,b", "b", ""},
		{"what is in no set with it stops", "t,a b,c", "a b", "b"},
		{"what is in no set at all stops", "t,a", "a z", "z"},
		{"a model in no set runs alone", "a,b", "a b z", "a b z"},
		{"a set of one runs alone", "t a,b", "a b", "a b"},

		{"the lower cost", "t,a t,b a=3 b=2", "a b", "b"},
		{"the lower cost, in the other order", "t,b t,a a=3 b=2", "a b", "b"},
		{"a cost is 1 by default", "t,b t,a a=2", "a b", "b"},
		{"a cost of 0", "t,a t,b a=0", "a b", "a"},
		{"two cheap ones rather than a dear one", "t,b,c t,a a=5 b=2 c=2", "a b c", "b c"},
		{"a dear one rather than two that are dearer", "t,a t,b,c a=5 b=3 c=3", "a b c", "a"},

		{"idle rather than busy", "t,b t,a", "a:busy b", "b"},
		{"idle rather than loading", "t,b t,a", "a:loading b", "b"},
		{"idle below twice the cost", "t,b t,a a=4 b=7", "a:busy b", "b"},
		{"idle below twice the cost of a load", "t,b t,a a=4 b=7", "a:loading b", "b"},
		{"busy at twice the cost", "t,a t,b a=4 b=8", "a:busy b", "a"},
		{"busy at twice the cost, in the other order", "t,b t,a a=4 b=8", "a:busy b", "a"},
		{"loading at twice the cost", "t,a t,b a=4 b=8", "a:loading b", "a"},
		{"a model in no set costs 1", "t,a t,b a=4 b=8", "a:busy b z", "b z"},
		{"a busy model makes all that stops count twice", "t,a t,b,c a=7 b=2 c=2", "a b c:busy", "a"},
		{"two busy ones do not count three times", "t,a t,b,c a=9 b=2 c=2", "a b:busy c:busy", "b c"},
		{"both count twice", "t,a t,b a=4 b=5", "a:busy b:busy", "a"},
		{"free and busy rather than idle", "t,a t,b a=0", "a:busy b", "a"},
		{"free and idle rather than free and busy", "t,b t,a a=0 b=0", "a:busy b", "b"},
		{"wanted is not busy", "t,a t,b a=4 b=5", "a:wanted b", "a"},

		{"fewer that are busy", "t,a,b t,c,d", "a:busy b c:busy d:busy", "a b"},
		{"fewer that load", "t,a,b t,c,d", "a:busy b c:busy d:loading", "a b"},
		{"fewer that are busy rather than fewer that are wanted", "t,a,b t,c,d", "a:busy b:wanted c:busy d:busy", "a b"},
		{"fewer that are busy rather than fewer", "t,a,b,e t,c,d c=2", "a:busy b c:busy d:busy e", "a b e"},
		{"fewer that are wanted", "t,b t,a", "a:wanted b", "b"},
		{"fewer that are wanted rather than fewer", "t,b,c t,a a=2", "a:wanted b c", "b c"},
		{"fewer", "t,a t,b,c a=2", "a b c", "a"},
		{"fewer, in the other order", "t,b,c t,a a=2", "a b c", "a"},
		{"the first set", "t,a t,b", "a b", "b"},
		{"the first set, in the other order", "t,b t,a", "a b", "a"},
		{"how many requests does not matter", "t,b t,a", "a:crowded b:busy:wanted", "a"},

		{"leaving, and named all the same", "t,a", "a b:leaving", "b"},
		{"leaving, and allowed", "t,a,b", "a:leaving b", ""},
		{"leaving costs nothing", "t,a t,b a=9", "a:leaving b", "a"},
		{"leaving is waited for like a busy model", "t,b,c t,a b=0 c=0", "a:leaving b c", "b c"},
		{"what stops with it counts twice", "t,b t,a,c b=3 c=2", "a:leaving b c", "b"},
		{"what stops with it at half the cost", "t,a,c t,b b=4 c=2", "a:leaving b c", "a c"},
		{"leaving is not wanted", "t,b t,a", "a:leaving:wanted b:leaving", "a"},
		{"alone, and one is leaving", "a,b", "a b:leaving", "a b"},
	} {
		s := setsOf(strings.Fields(c.sets))
		got, err := s.Plan("t", residentsOf(t, c.running))
		if strings.Join(got, " ") != c.want || err != nil {
			t.Errorf("%s: sets %s; %s run: %v, %v, not %s", c.rule, c.sets, c.running, got, err, c.want)
		}
	}
}

// randomSets is a SetSwapper of some models, with what it was made of.
type randomSets struct {
	*SetSwapper
	sets  []Set
	costs map[string]int
}

// newRandomSets makes one. Some of models are in no set, and there are sometimes more
// sets than a word has bits.
func newRandomSets(t *testing.T, r *rand.Rand, models []string) randomSets {
	s := randomSets{costs: make(map[string]int)}
	for range []int{0, 1, 3, 6, 130}[r.IntN(5)] {
		size := 1 + r.IntN(min(len(models)-1, 20))
		var set Set
		for _, i := range r.Perm(len(models) - 1)[:size] {
			set = append(set, models[i])
		}
		for _, model := range set {
			if cost := r.IntN(8); cost < 4 {
				s.costs[model] = cost
			}
		}
		s.sets = append(s.sets, set)
	}
	var err error
	if s.SetSwapper, err = NewSetSwapper(s.sets, s.costs); err != nil {
		t.Fatal(err)
	}
	return s
}

// randomResidents returns some of models but not target, sorted, at random.
func randomResidents(r *rand.Rand, models []string, target string) (all []Resident) {
	for _, model := range models {
		if model != target && r.IntN(3) > 0 {
			res := Resident{Model: model, LastUsed: r.Uint64N(9)}
			switch r.IntN(6) {
			case 0, 1:
				res.InFlight = 1 + r.IntN(2)
			case 2:
				res.Loading = true
			case 3:
				res.Leaving = true
			}
			res.Waiting = max(0, r.IntN(4)-1)
			all = append(all, res)
		}
	}
	return all
}

// best is the choice by its definition: what has to stop for each set, in the words of
// the rules.
func (s randomSets) best(target string, running []Resident) []string {
	var best, least []string
	var leastOf [5]int
	found := false
	for _, set := range s.sets {
		if !slices.Contains(set, target) {
			continue
		}
		var stop []string
		cost, held, wanted := 0, 0, 0
		for _, r := range running {
			if slices.Contains(set, r.Model) {
				continue
			}
			stop = append(stop, r.Model)
			if r.Leaving {
				held++
				continue
			}
			if c, given := s.costs[r.Model]; given {
				cost += c
			} else {
				cost++
			}
			if r.InFlight > 0 || r.Loading {
				held++
			}
			if r.Waiting > 0 {
				wanted++
			}
		}
		loss := [5]int{cost, cost, held, wanted, len(stop)}
		if held > 0 {
			loss[0] = 2 * cost
		}
		if !found || slices.Compare(loss[:], leastOf[:]) < 0 {
			found, leastOf, best = true, loss, stop
		}
	}
	if found {
		return best
	}
	for _, r := range running {
		least = append(least, r.Model)
	}
	return least
}

// TestSetSwapperChoosesTheBest: it chooses what a search through all sets does.
func TestSetSwapperChoosesTheBest(t *testing.T) {
	eachRandomSets(t, func(r *rand.Rand, s randomSets, target string, running []Resident) {
		want := s.best(target, running)
		got, err := s.Plan(target, running)
		if !slices.Equal(got, want) || err != nil {
			t.Fatalf("sets %v, costs %v: for %s beside %+v: %v, %v, not %v", s.sets, s.costs, target, running, got, err, want)
		}
	})
}

// eachRandomSets calls try with random sets, targets and running models.
func eachRandomSets(t *testing.T, try func(r *rand.Rand, s randomSets, target string, running []Resident)) {
	few := strings.Fields("a b c d e f g h i j")
	many := make([]string, 60) // of which more run than are remembered on the way
	for i := range many {
		many[i] = fmt.Sprintf("m%02d", i)
	}
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 7))
		models := few
		if seed%4 == 0 {
			models = many
		}
		s := newRandomSets(t, r, models)
		for range 20 {
			target := models[r.IntN(len(models))]
			try(r, s, target, randomResidents(r, models, target))
		}
	}
}

// TestSetSwapperKeepsItsWord: "What a Swapper owes" in RULES.md. The answer is part of
// what runs, in the same order, and the same for the same arguments, which it leaves
// alone. Once it is carried out it is empty, and an empty answer stays so when fewer run,
// however they are used.
func TestSetSwapperKeepsItsWord(t *testing.T) {
	eachRandomSets(t, func(r *rand.Rand, s randomSets, target string, running []Resident) {
		plan := func(running []Resident) []string {
			evict, err := s.Plan(target, running)
			if err != nil {
				t.Fatal(err)
			}
			return evict
		}
		before := slices.Clone(running)
		evict := plan(running)
		s.OnSwapStart(target, namesOf(running))
		if again := plan(running); !slices.Equal(evict, again) || !slices.Equal(before, running) {
			t.Fatalf("%v and then %v, for %v and then %v", evict, again, before, running)
		}
		rest := slices.DeleteFunc(slices.Clone(running), func(r Resident) bool { return slices.Contains(evict, r.Model) })
		if len(rest)+len(evict) != len(running) || !slices.IsSorted(evict) {
			t.Fatalf("%v is no part of %v", evict, running)
		}
		for len(rest) > 0 {
			if more := plan(rest); more != nil {
				t.Fatalf("sets %v: for %s beside %v: %v, and then %v", s.sets, target, running, evict, more)
			}
			i := r.IntN(len(rest))
			rest[i].Leaving, rest[i].InFlight = !rest[i].Leaving, 1
			rest = slices.Delete(rest, i/2, i/2+1)
		}
		asNames := make([]Resident, len(running))
		for i, r := range running {
			asNames[i].Model = r.Model
		}
		if got, want := s.EvictionFor(target, namesOf(running)), plan(asNames); !slices.Equal(got, want) {
			t.Fatalf("EvictionFor %v, Plan %v", got, want)
		}
	})
}

// namesOf returns the names of residents.
func namesOf(running []Resident) (names []string) {
	for _, r := range running {
		names = append(names, r.Model)
	}
	return names
}

// TestSetSwapperDoesNotOnlyGrow is the example in its doc.
func TestSetSwapperDoesNotOnlyGrow(t *testing.T) {
	s := setsOf(strings.Fields("t,v t,x,y"))
	for running, want := range map[string]string{"v x": "[x]", "v x y": "[v]"} {
		if got := fmt.Sprint(s.EvictionFor("t", strings.Fields(running))); got != want {
			t.Errorf("beside %s: %s, not %s", running, got, want)
		}
	}
}

// TestNewSetSwapperRefuses: each error names the set or the model.
func TestNewSetSwapperRefuses(t *testing.T) {
	many := slices.Repeat([]Set{{"a"}}, maxSets+1)
	for want, c := range map[string]struct {
		sets  []Set
		costs map[string]int
	}{
		"scheduler: set 2: it has no models":                            {sets: []Set{{"a"}, {}}},
		"scheduler: set 1: it has no models":                            {sets: []Set{nil}},
		"scheduler: set 2: the name of a model is empty":                {sets: []Set{{"a"}, {"a", ""}}},
		`scheduler: set 3: "b\"" is in it twice`:                        {sets: []Set{{"a"}, {`b"`}, {"a", `b"`, "c", `b"`}}},
		"scheduler: 4097 sets, but at most 4096 are possible":           {sets: many},
		`scheduler: the cost of "b": -1 is negative`:                    {[]Set{{"a", "b"}}, map[string]int{"a": 0, "b": -1}},
		`scheduler: the cost of "c": the model is in no set`:            {[]Set{{"a"}, {"b"}}, map[string]int{"c": 1, "d": -1}},
		`scheduler: the cost of "": the model is in no set`:             {nil, map[string]int{"": 1}},
		"scheduler: all costs add up to more than 4611686018427387903 ": {[]Set{{"a"}, {"b"}}, map[string]int{"b": math.MaxInt}},
		"scheduler: all costs add up to more than 4611686018427387903":  {[]Set{{"a"}, {"b"}, {"c"}}, map[string]int{"a": math.MaxInt, "b": math.MaxInt, "c": math.MaxInt}},
	} {
		if s, err := NewSetSwapper(c.sets, c.costs); err == nil || s != nil || err.Error() != strings.TrimSpace(want) {
			t.Errorf("%v, %v, not %s", s, err, want)
		}
	}
}

// TestNewSetSwapperTakes what is odd but no error.
func TestNewSetSwapperTakes(t *testing.T) {
	most := slices.Repeat([]Set{{"t", "a"}}, maxSets)
	most[maxSets-1] = Set{"t", "b"}
	for _, c := range []struct {
		sets  []Set
		costs map[string]int
		want  string
	}{
		{nil, nil, "[a b]"},
		{[]Set{{"t", "a"}, {"a", "t"}, {"t"}}, nil, "[b]"},
		{most, map[string]int{"b": 2}, "[a]"},
		{[]Set{{"t", "a"}, {"t", "b"}}, map[string]int{"a": maxCost - 2, "b": 1}, "[b]"},
		{[]Set{{"t", "a"}, {"t", "b"}}, map[string]int{"a": maxCost - 1, "b": 0, "t": 0}, "[b]"},
	} {
		s, err := NewSetSwapper(c.sets, c.costs)
		if err != nil {
			t.Error(err)
			continue
		}
		running := residentsOf(t, "a:busy b:busy")
		if got, _ := s.Plan("t", running); fmt.Sprint(got) != c.want {
			t.Errorf("%v, %v: %v, not %s", c.sets[:min(3, len(c.sets))], c.costs, got, c.want)
		}
	}
}

// TestSetSwapperCopiesItsArguments: the caller may change them afterwards.
func TestSetSwapperCopiesItsArguments(t *testing.T) {
	sets, costs := []Set{{"t", "a"}, {"t", "b"}}, map[string]int{"a": 2}
	s, err := NewSetSwapper(sets, costs)
	if err != nil {
		t.Fatal(err)
	}
	sets[0][1], sets[1], costs["b"] = "b", Set{"c"}, 3
	if got := fmt.Sprint(s.EvictionFor("t", []string{"a", "b"})); got != "[b]" {
		t.Errorf("for t: %s", got)
	}
}

// TestZeroSetSwapper lets one model run at a time.
func TestZeroSetSwapper(t *testing.T) {
	s := &SetSwapper{}
	if got := fmt.Sprint(s.EvictionFor("a", []string{"b", "c"})); got != "[b c]" {
		t.Errorf("for a: %s", got)
	}
	// It owes nothing to a caller that asks about the target too, but may not fall over it.
	for _, s := range []*SetSwapper{s, setsOf([]string{"a,b"})} {
		if got := fmt.Sprint(s.EvictionFor("a", []string{"a", "c"})); got != "[c]" {
			t.Errorf("for a beside itself: %s", got)
		}
	}
}

// TestSetSwapperIsShared: schedulers on several goroutines may ask the same one.
func TestSetSwapperIsShared(t *testing.T) {
	s := setsOf(strings.Fields("a,b b,c"))
	running := residentsOf(t, "b c")
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 1000 {
				if evict, err := s.Plan("a", running); len(evict) != 1 || err != nil {
					panic(errors.New("it has changed its mind"))
				}
				s.OnSwapStart("a", nil)
			}
		})
	}
	all.Wait()
}

// TestSetSwapperAllocates nothing beyond its answer, and nothing for an empty one, no
// matter how many sets there are and how many models run.
func TestSetSwapperAllocates(t *testing.T) {
	for _, running := range []int{20, 200} {
		s, target, residents := benchSets(4000, running, 300, true)
		evict, err := s.Plan(target, residents)
		if err != nil {
			t.Fatal(err)
		}
		if n := testing.AllocsPerRun(100, func() { s.Plan(target, residents) }); n != 1 {
			t.Errorf("%d running: %v allocations for one answer", running, n)
		}
		residents = slices.DeleteFunc(residents, func(r Resident) bool { return slices.Contains(evict, r.Model) })
		if n := testing.AllocsPerRun(100, func() { s.Plan(target, residents) }); n != 0 || len(residents) == 0 {
			t.Errorf("%d running: %v allocations for an empty answer", len(residents), n)
		}
	}
}
