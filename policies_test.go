package scheduler

import (
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

// swapperAsked is the Swapper of a world, and watches how it is asked.
type swapperAsked struct {
	plain     func(target string, running []string) []string // the answer, unwatched
	plan      func(target string, running []Resident) ([]string, error)
	started   func(target string)
	placed    func(target string, running []Resident, evict []string)
	asked     map[string]int // questions in this step and since the last swap
	questions int            // in this step
	panics    []questionPanic
}

// newStep resets the counts.
func (a *swapperAsked) newStep() { a.asked, a.questions = make(map[string]int), 0 }

// mayAskAgain notes that everything may be asked again, because a swap has started or
// another event follows within the step.
func (a *swapperAsked) mayAskAgain() { clear(a.asked) }

// newSwapper makes the Swapper that a line describes, and watches it:
//
//	conflicts a/b c/d     either cannot run beside the other
//	needs a/b             a needs b gone
//	groups NAME:a,b:swap:exclusive:persistent …
//	fixed a=b,b,x …       always that answer
//	hash SEED             an answer at random, the same for the same question
//	random SEED           an answer at random
//	recent ROOM           with a memory: those whose swap started longest ago go, so
//	                      that ROOM models run; those without a swap go by name
//	budget ROOM a=SIZE …  a Planner: the least recently used go, size 1 if not said;
//	                      a=SIZE+MORE takes MORE besides while it loads
//	lru ROOM              a BudgetSwapper of so many slots
//	pools x:2 y:1 a=x:1|x:1+y:1@RELOAD!pinned …
//	                      a BudgetSwapper: pools, then models with their placements
//	sets a,b b,c a=COST … a SetSwapper: those that are listed together may run together
//
// It may go on with panics=b, panics=b+a, panics=b-a or start-panics=b: see
// questionPanics.
func (w *world) newSwapper(line string) Swapper {
	line, w.panics = questionPanics(line)
	w.started = nil
	kind, args, _ := strings.Cut(line, " ")
	words := strings.Fields(args)
	w.conserves = kind == "conflicts" || kind == "needs" || kind == "groups" || kind == "sets" || kind == ""
	w.newStep()
	switch kind {
	case "":
		w.plain = (&GroupSwapper{}).EvictionFor
	case "conflicts", "needs":
		w.plain = conflicts(words, kind == "conflicts")
	case "groups":
		w.plain = groups(words).EvictionFor
	case "fixed":
		w.plain = func(target string, _ []string) []string { return valueOf(words, target) }
	case "hash":
		w.plain = func(target string, running []string) []string {
			h := fnv.New64a()
			fmt.Fprint(h, args, target, running)
			return atRandom(rand.New(rand.NewPCG(h.Sum64(), 0)), running)
		}
	case "random":
		w.impure = true
		seed, _ := strconv.Atoi(args)
		r := rand.New(rand.NewPCG(uint64(seed), 0))
		w.plain = func(_ string, running []string) []string { return atRandom(r, running) }
	case "recent":
		w.plain, w.started = recent(words)
	case "budget":
		w.plan = budget(words)
		return watchedPlanner{watchedSwapper{w}}
	case "lru", "pools":
		b := budgetSwapper(kind, words, func(model string) bool { return w.states[model] == StateReady })
		w.plan = b.Plan
		w.placed = func(target string, running []Resident, evict []string) {
			b.OnPlanStart(target, running, evict)
			if f := b.footprintOf(target); len(f.placements) > 1 {
				i, _ := b.Placement(target)
				w.effect("place %s %d", target, i)
			}
		}
		return watchedObserver{watchedPlanner{watchedSwapper{w}}}
	case "sets":
		s := setsOf(words)
		w.plan, w.plain = s.Plan, s.EvictionFor
		return watchedPlanner{watchedSwapper{w}}
	default:
		panic("no such swapper: " + line)
	}
	return watchedSwapper{w}
}

// atRandom returns a random part of running.
func atRandom(r *rand.Rand, running []string) (evict []string) {
	for _, id := range running {
		if r.IntN(3) == 0 {
			evict = append(evict, id)
		}
	}
	return evict
}

// recent returns a policy that lets a number of models run and evicts those whose swap
// started longest ago. It also returns the function that tells the policy of a start.
func recent(words []string) (evictionFor func(string, []string) []string, started func(string)) {
	room, _ := strconv.Atoi(words[0])
	swaps, last := 0, make(map[string]int)
	evictionFor = func(_ string, running []string) []string {
		order := slices.SortedStableFunc(slices.Values(running), func(a, b string) int { return last[a] - last[b] })
		return order[:max(0, len(order)+1-room)]
	}
	return evictionFor, func(target string) { swaps++; last[target] = swaps }
}

// conflicts returns the policy of pairs of models that cannot run together.
func conflicts(pairs []string, both bool) func(string, []string) []string {
	set := make(map[string]bool)
	for _, p := range pairs {
		a, b, _ := strings.Cut(p, "/")
		set[a+"/"+b] = true
		if both {
			set[b+"/"+a] = true
		}
	}
	return func(target string, running []string) (evict []string) {
		for _, id := range running {
			if set[target+"/"+id] {
				evict = append(evict, id)
			}
		}
		return evict
	}
}

// groups returns a GroupSwapper.
func groups(words []string) *GroupSwapper {
	var all []Group
	for _, word := range words {
		parts := strings.Split(word, ":")
		all = append(all, Group{
			Name:       parts[0],
			Members:    strings.Split(parts[1], ","),
			Swap:       slices.Contains(parts[2:], "swap"),
			Exclusive:  slices.Contains(parts[2:], "exclusive"),
			Persistent: slices.Contains(parts[2:], "persistent"),
		})
	}
	s, err := NewGroupSwapper(all...)
	if err != nil {
		panic(err)
	}
	return s
}

// setsOf returns a SetSwapper.
func setsOf(words []string) *SetSwapper {
	var sets []Set
	costs := make(map[string]int)
	for _, word := range words {
		model, cost, is := strings.Cut(word, "=")
		if !is {
			sets = append(sets, strings.Split(word, ","))
			continue
		}
		n, err := strconv.Atoi(cost)
		must(err)
		costs[model] = n
	}
	s, err := NewSetSwapper(sets, costs)
	must(err)
	return s
}

// valueOf returns the list that key has among words of the form key=a,b.
func valueOf(words []string, key string) []string {
	for _, word := range words {
		if k, v, _ := strings.Cut(word, "="); k == key && v != "" {
			return strings.Split(v, ",")
		}
	}
	return nil
}

// budget returns the Plan of a policy with a limited amount of room, of which each model
// takes its size. Models that were used least recently go first, whether they are busy or
// not.
func budget(words []string) func(string, []Resident) ([]string, error) {
	room, _ := strconv.Atoi(words[0])
	sizeOf := func(id string, loading bool) int {
		v := valueOf(words[1:], id)
		if v == nil {
			return 1
		}
		size, more, _ := strings.Cut(v[0], "+")
		n, _ := strconv.Atoi(size)
		if loading {
			extra, _ := strconv.Atoi(more)
			n += extra
		}
		return n
	}
	return func(target string, running []Resident) (evict []string, err error) {
		left := room - sizeOf(target, true)
		if left < 0 {
			return nil, fmt.Errorf("%s can never fit", target)
		}
		for _, r := range running {
			if !r.Leaving {
				left -= sizeOf(r.Model, r.Loading)
			}
		}
		order := slices.SortedStableFunc(slices.Values(running), func(a, b Resident) int { return int(a.LastUsed) - int(b.LastUsed) })
		for _, r := range order {
			if left >= 0 {
				break
			}
			if !r.Leaving {
				evict = append(evict, r.Model)
				left += sizeOf(r.Model, r.Loading)
			}
		}
		return evict, nil
	}
}

// budgetSwapper returns a BudgetSwapper.
func budgetSwapper(kind string, words []string, ready func(string) bool) *BudgetSwapper {
	if kind == "lru" {
		n, _ := strconv.Atoi(words[0])
		s, err := NewLRUSwapper(n)
		if err != nil {
			panic(err)
		}
		return s
	}
	s, err := NewBudgetSwapper(parseBudget(words, ready))
	if err != nil {
		panic(err)
	}
	return s
}

// parseBudget returns the budget that words describe; see newSwapper.
func parseBudget(words []string, ready func(string) bool) Budget {
	b := Budget{Capacity: make(map[string]int64), Models: make(map[string]Footprint), Default: &Footprint{}, Ready: ready}
	for _, word := range words {
		model, rest, isModel := strings.Cut(word, "=")
		if !isModel {
			maps.Copy(b.Capacity, parsePlacement(word))
			continue
		}
		var f Footprint
		rest, f.Pinned = strings.CutSuffix(rest, "!pinned")
		rest, reload, _ := strings.Cut(rest, "@")
		f.Reload, _ = strconv.ParseFloat(reload, 64)
		for p := range strings.SplitSeq(rest, "|") {
			f.Placements = append(f.Placements, parsePlacement(p))
		}
		b.Models[model] = f
	}
	return b
}

// parsePlacement returns the placement x:1+y:2.
func parsePlacement(s string) Placement {
	p := make(Placement)
	for part := range strings.SplitSeq(s, "+") {
		if pool, amount, ok := strings.Cut(part, ":"); ok {
			p[pool], _ = strconv.ParseInt(amount, 10, 64)
		}
	}
	return p
}

// watchedSwapper asks the policy of a world and checks the questions (R5).
type watchedSwapper struct{ w *world }

func (s watchedSwapper) EvictionFor(target string, running []string) []string {
	s.w.watch(target, running, nil)
	s.w.mayPanic(target, running)
	return s.w.plain(target, running)
}

func (s watchedSwapper) OnSwapStart(target string, running []string) {
	if !slices.Equal(running, s.w.running(target)) && !s.w.inline {
		s.w.breaks("the swap of %s starts with %v running, not %v", target, running, s.w.running(target))
	}
	s.w.fire("swap-start " + target)
	s.w.mayPanicAtStart(target)
	if s.w.started != nil {
		s.w.started(target)
	}
}

// watchedPlanner is a watchedSwapper that is a Planner.
type watchedPlanner struct{ watchedSwapper }

func (s watchedPlanner) EvictionFor(target string, running []string) []string {
	s.w.breaks("a Planner is asked EvictionFor")
	return nil
}

func (s watchedPlanner) Plan(target string, running []Resident) ([]string, error) {
	var names, loading []string
	for _, r := range running {
		names = append(names, r.Model)
		if r.Loading {
			loading = append(loading, r.Model)
		}
	}
	s.w.watch(target, names, loading)
	s.w.mayPanic(target, names)
	return s.w.plan(target, running)
}

// watchedObserver is a watchedPlanner that is a PlanObserver.
type watchedObserver struct{ watchedPlanner }

func (s watchedObserver) OnSwapStart(target string, running []string) {
	s.w.breaks("a PlanObserver is told OnSwapStart")
}

func (s watchedObserver) OnPlanStart(target string, running []Resident, evict []string) {
	var names []string
	for _, r := range running {
		names = append(names, r.Model)
	}
	for _, model := range evict {
		if !slices.Contains(names, model) {
			s.w.breaks("the swap of %s starts and stops %s, which does not run", target, model)
		}
	}
	s.watchedPlanner.OnSwapStart(target, names)
	s.w.placed(target, running, evict)
}

// watch checks a question to the Swapper. Of what a Planner sees, it checks only what is
// loading, and a question may suppose that more models are.
func (w *world) watch(target string, running, loading []string) {
	if slices.Contains(running, target) || !isSet(running) {
		w.breaks("the Swapper is asked for %s about %v", target, running)
	}
	w.questions++
	key := fmt.Sprint(target, running, loading)
	// Once by the look and once by the event.
	if w.asked[key]++; w.asked[key] > 2 && !w.inline {
		w.breaks("the Swapper is asked for %s about %v %d times", target, running, w.asked[key])
	}
	w.fire("ask " + target)
}
