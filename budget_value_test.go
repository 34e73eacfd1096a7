package scheduler

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// rationing is a BudgetSwapper with one pool and one request at a time.
type rationing struct {
	*testing.T
	policy  *BudgetSwapper
	budget  Budget
	running map[string]uint64 // the latest lease by model
	leases  uint64
	cost    float64 // of all loads
}

func newRationing(t *testing.T, b Budget) *rationing {
	policy, err := NewBudgetSwapper(b)
	if err != nil {
		t.Fatal(err)
	}
	return &rationing{T: t, policy: policy, budget: b, running: make(map[string]uint64)}
}

// serve serves a request, and returns which models were evicted for it, sorted.
func (s *rationing) serve(model string) (evict []string) {
	if _, runs := s.running[model]; !runs {
		var residents []Resident
		for _, r := range sortedKeys(s.running) {
			residents = append(residents, Resident{Model: r, LastUsed: s.running[r]})
		}
		var err error
		if evict, err = s.policy.Plan(model, residents); err != nil {
			s.Fatal(err)
		}
		s.policy.OnPlanStart(model, residents, evict)
		for _, e := range evict {
			delete(s.running, e)
		}
		s.cost += reloadOf(s.budget, model)
	}
	s.leases++
	s.running[model] = s.leases
	return evict
}

func reloadOf(b Budget, model string) float64 {
	if c := b.Models[model].Reload; c > 0 {
		return c
	}
	return 1
}

// sizeOf returns what a model takes of pool x.
func sizeOf(b Budget, model string) int64 { return b.Models[model].Placements[0]["x"] }

// sortedKeys returns the keys of m, sorted.
func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// TestLRUSwapperIsLRU: of models that are alike the least recently used one goes.
func TestLRUSwapperIsLRU(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 3))
		n := 1 + r.IntN(5)
		s := newRationing(t, Budget{Capacity: map[string]int64{PoolSlots: int64(n)}, Default: &Footprint{}})
		var order []string // the least recently used first
		for range 300 {
			model := string(rune('a' + r.IntN(8)))
			var want []string
			if i := slices.Index(order, model); i >= 0 {
				order = slices.Delete(order, i, i+1)
			} else if len(order) == n {
				want, order = order[:1:1], order[1:]
			}
			order = append(order, model)
			if got := s.serve(model); !slices.Equal(got, want) {
				t.Fatalf("seed %d: %s takes the place of %q, want %q", seed, model, got, want)
			}
		}
	}
}

// TestGreedyDualSize: in one pool the victims are those of the textbook, but for those
// that would go in vain.
func TestGreedyDualSize(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 4))
		b := poolOf(r, 8)
		capacity := b.Capacity["x"]
		s := newRationing(t, b)
		level, values, used := 0.0, make(map[string]float64), make(map[string]int)
		for i := range 300 {
			model := string(rune('a' + r.IntN(8)))
			var want []string
			if _, runs := values[model]; !runs {
				free := capacity - sizeOf(b, model)
				order := sortedKeys(values)
				slices.SortFunc(order, func(m, o string) int {
					switch {
					case values[m] != values[o]:
						return int(math.Copysign(1, values[m]-values[o]))
					case sizeOf(b, m) != sizeOf(b, o):
						return int(sizeOf(b, o) - sizeOf(b, m))
					}
					return used[m] - used[o]
				})
				for _, m := range order {
					free -= sizeOf(b, m)
				}
				for _, m := range order { // Enough of them go, the cheapest first …
					if free < 0 {
						want = append(want, m)
						free += sizeOf(b, m)
					}
				}
				for _, m := range slices.Backward(slices.Clone(want)) { // … but none in vain.
					if free >= sizeOf(b, m) {
						free -= sizeOf(b, m)
						want = slices.DeleteFunc(want, func(o string) bool { return o == m })
					}
				}
				for _, m := range want {
					level = max(level, values[m])
					delete(values, m)
				}
				slices.Sort(want)
			}
			values[model] = level + reloadOf(b, model)/(float64(sizeOf(b, model))/float64(capacity))
			used[model] = i
			if got := s.serve(model); !slices.Equal(got, want) {
				t.Fatalf("seed %d, request %d: %s takes the place of %q, want %q", seed, i, model, got, want)
			}
		}
	}
}

// poolOf returns a budget of one pool and n models of different sizes and costs.
func poolOf(r *rand.Rand, n int) Budget {
	b := Budget{Capacity: map[string]int64{"x": 4 + r.Int64N(5)}, Models: make(map[string]Footprint)}
	for i := range n {
		b.Models[string(rune('a'+i))] = Footprint{
			Placements: []Placement{{"x": 1 + r.Int64N(4)}},
			Reload:     []float64{1, 1, 2, 5}[r.IntN(4)],
		}
	}
	return b
}

// TestCompetitiveRatio: the loads cost at most K/(K-k+1) times what they cost at best in
// a pool of k.
func TestCompetitiveRatio(t *testing.T) {
	worst := 0.0
	for seed := range uint64(150) {
		r := rand.New(rand.NewPCG(seed, 5))
		b := poolOf(r, 6)
		capacity := b.Capacity["x"]
		s := newRationing(t, b)
		var sequence []string
		for range 40 {
			sequence = append(sequence, string(rune('a'+r.IntN(6))))
			s.serve(sequence[len(sequence)-1])
		}
		for k := int64(4); k <= capacity; k++ {
			best := cheapest(b, k, sequence)
			bound := float64(capacity) / float64(capacity-k+1)
			if s.cost > bound*best {
				t.Errorf("seed %d: %v in %d, more than %v times the %v in %d", seed, s.cost, capacity, bound, best, k)
			}
			if k == capacity {
				worst = max(worst, s.cost/best)
			}
		}
	}
	t.Logf("at most %.2f times the best in the same pool", worst)
}

// cheapest returns what the loads for a sequence cost at least in a pool of k: it tries
// every set of models that may run after each request.
func cheapest(b Budget, k int64, sequence []string) float64 {
	models := sortedKeys(b.Models)
	size := make([]int64, 1<<len(models))
	for set := range size {
		for i, m := range models {
			if set&(1<<i) != 0 {
				size[set] += sizeOf(b, m)
			}
		}
	}
	costs := map[int]float64{0: 0}
	for _, model := range sequence {
		bit := 1 << slices.Index(models, model)
		next := make(map[int]float64)
		for set, cost := range costs {
			if set&bit == 0 {
				cost += reloadOf(b, model)
			}
			for sub := set &^ bit; ; sub = (sub - 1) & (set &^ bit) { // What stays of it.
				if to := sub | bit; size[to] <= k {
					if old, ok := next[to]; !ok || cost < old {
						next[to] = cost
					}
				}
				if sub == 0 {
					break
				}
			}
		}
		costs = next
	}
	best := math.Inf(1)
	for _, cost := range costs {
		best = min(best, cost)
	}
	return best
}

// TestNoWorseThanLRU: on workloads of several kinds the loads cost at most 5 % more than
// with plain LRU.
func TestNoWorseThanLRU(t *testing.T) {
	for _, alike := range []bool{true, false} {
		for _, skew := range []float64{1.05, 1.3, 2} {
			var own, lru float64
			for seed := range uint64(10) {
				r := rand.New(rand.NewPCG(seed, 6))
				b := poolOf(r, 12)
				if alike { // What takes more memory costs more to load.
					for model, f := range b.Models {
						f.Reload = float64(sizeOf(b, model))
						b.Models[model] = f
					}
				}
				zipf := rand.NewZipf(r, skew, 1, 11)
				s := newRationing(t, b)
				var order []string
				for i := range 2000 {
					model := string(rune('a' + (int(zipf.Uint64())+i/500)%12)) // The favourites change.
					s.serve(model)
					lru += plainLRU(b, &order, model)
				}
				own += s.cost
			}
			name := fmt.Sprintf("alike %v, skew %v", alike, skew)
			t.Logf("%s: %.3f of LRU", name, own/lru)
			if own > 1.05*lru {
				t.Errorf("%s: %v, with LRU %v", name, own, lru)
			}
		}
	}
}

// plainLRU serves a request with LRU and returns what it costs. Order begins with the
// model that was used least recently.
func plainLRU(b Budget, order *[]string, model string) (cost float64) {
	if i := slices.Index(*order, model); i >= 0 {
		*order = slices.Delete(*order, i, i+1)
	} else {
		cost = reloadOf(b, model)
		free := b.Capacity["x"] - sizeOf(b, model)
		for _, m := range *order {
			free -= sizeOf(b, m)
		}
		for ; free < 0; *order = (*order)[1:] {
			free += sizeOf(b, (*order)[0])
		}
	}
	*order = append(*order, model)
	return cost
}
