package scheduler

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// BudgetSwapper is a [Planner] that keeps models within a [Budget], and stops as little
// for that as it can. Of all the ways to make room it takes the one that keeps the most
// valuable running model; if several do, the one that keeps the next, and so on.
// Without any one of its victims the target would not fit. From the least to the most
// valuable there are
//
//   - models that are leaving: stopping them costs nothing more, but their room is
//     taken until they have gone,
//   - idle models that no request waits for,
//   - models that are busy, or that requests wait for,
//   - models that are loading.
//
// Pinned models are never stopped. Within a class the value is that of GreedyDual-Size
// (Cao and Irani, Cost-Aware WWW Proxy Caching Algorithms, 1997):
//
//	H(m) = L(m) + Reload(m) / share(m)
//
// Share is the largest part of any pool that the model takes, between 0 and 1. L begins
// at 0, and rises to the highest H among the models that a swap stops. L(m) is what L was
// when m was last used or loaded. A model is thus worth more if it is dear to load,
// small, or recently used. If H is equal, the larger model is worth less; then the one
// that was used less recently; then the one whose name comes first.
//
// In one pool, and as long as no victim has to be waited for, this is Landlord (Young,
// On-Line File Caching, 1998), except that it keeps what Landlord would evict without
// need. The reloads therefore cost at most K/(K-k+1) times as much as with the best
// possible schedule in a pool of size k, where K is the size of the pool, both in units
// of the smallest model. For models of one size and one cost it is exactly LRU.
//
// The answer is exact however many models and pools there are. It takes time in
// proportion to running models × pools × placements.
//
// An answer may replace one victim by another when a further model runs, so it does not
// only grow. The queue is then still served to the last request, but a request may wait
// for the next event although it could have been served at this one.
//
// NewBudgetSwapper makes a BudgetSwapper; the zero value is not usable. It has a memory:
// each scheduler needs one of its own, and calls it on its run loop, where the host calls
// Observe and Placement too.
type BudgetSwapper struct {
	pools   pools
	models  map[string]*footprint
	others  *footprint // of models that are not in models; nil: they are refused
	ready   func(model string) bool
	records map[string]*record // of models that run, as far as a swap has shown
	level   float64            // L
	search  search             // memory that is used again
	options []int              // likewise
}

// record is what a BudgetSwapper remembers of one model.
type record struct {
	placement int
	placed    bool    // by a swap or by Observe, and not by default
	previous  amounts // of the placement before, which it may not have left while it loads
	evicted   bool    // the latest swap that concerned it stops it
	used      uint64  // the lease of its latest use as far as known; a load counts as one
	level     float64 // L at that time
}

// NewBudgetSwapper returns a BudgetSwapper for b, which it copies. It returns an error
// if a pool has no valid size, if a footprint names an unknown pool or has a negative
// amount or cost, if there is [PoolLoads] but not Ready, and, wrapping [ErrNeverFits],
// if a placement needs more than there is. The error names the pool or the model.
func NewBudgetSwapper(b Budget) (*BudgetSwapper, error) {
	pools, err := newPools(b.Capacity)
	if err != nil {
		return nil, err
	}
	if b.Ready == nil && pools.has(PoolLoads) {
		return nil, fmt.Errorf("scheduler: budget: pool %q needs Ready", PoolLoads)
	}
	s := &BudgetSwapper{pools: pools, ready: b.Ready, models: make(map[string]*footprint), records: make(map[string]*record)}
	for _, model := range slices.Sorted(maps.Keys(b.Models)) {
		if s.models[model], err = pools.footprint(b.Models[model]); err != nil {
			return nil, fmt.Errorf("scheduler: budget: model %q: %w", model, err)
		}
	}
	if b.Default != nil {
		if s.others, err = pools.footprint(*b.Default); err != nil {
			return nil, fmt.Errorf("scheduler: budget: default: %w", err)
		}
	}
	return s, nil
}

// NewLRUSwapper returns a BudgetSwapper that lets n models run. The one that was used
// least recently makes room, except that idle models go before busy ones, and those
// before models that load. It returns an error if n is less than 1.
func NewLRUSwapper(n int) (*BudgetSwapper, error) {
	if n < 1 {
		return nil, fmt.Errorf("scheduler: LRU of %d models, want at least 1", n)
	}
	return NewBudgetSwapper(Budget{Capacity: map[string]int64{PoolSlots: int64(n)}, Default: &Footprint{}})
}

// Plan implements [Planner]. Its error wraps [ErrNeverFits] or [ErrPinned].
func (s *BudgetSwapper) Plan(target string, running []Resident) ([]string, error) {
	f := s.footprintOf(target)
	if f == nil {
		return nil, fmt.Errorf("%w: %q: it has no footprint, and there is no default", ErrNeverFits, target)
	}
	s.see(running)
	for _, i := range s.choices(target, f) {
		s.search.try(s.needs(target, f, i))
	}
	if !s.search.found {
		if s.isReady(target) {
			return nil, nil // It is there, whatever there was room for.
		}
		return nil, fmt.Errorf("%w: %q: %s", ErrPinned, target, strings.Join(s.pinned(running), ", "))
	}
	return s.search.evict(), nil
}

// EvictionFor implements [Swapper], for code that does not know about Planners: it
// answers as if all models were idle.
func (s *BudgetSwapper) EvictionFor(target string, running []string) []string {
	return PlannerFunc(s.Plan).EvictionFor(target, running)
}

// OnPlanStart implements [PlanObserver]. It places the target.
func (s *BudgetSwapper) OnPlanStart(target string, running []Resident, evict []string) {
	s.see(running)
	latest := s.takeDown(target, running, evict)
	f := s.footprintOf(target)
	if f == nil {
		return // Plan has refused it.
	}
	before, runs := s.present(target)
	placed := &record{placement: s.place(target, f, evict), placed: true}
	if runs && before != placed.placement {
		placed.previous = f.placements[before]
	}
	for _, c := range s.search.candidates {
		if c.share > 0 && slices.Contains(evict, c.model) {
			s.level = max(s.level, c.value)
		}
	}
	placed.used, placed.level = latest, s.level
	s.records[target] = placed
}

// takeDown brings the records up to date before a swap starts, and drops those of models
// that have gone. It returns the latest lease that any model was used with.
func (s *BudgetSwapper) takeDown(target string, running []Resident, evict []string) (latest uint64) {
	runs := map[string]bool{target: true}
	for i := range running {
		r := &running[i]
		runs[r.Model] = true
		used, level := s.lastUse(r, s.records[r.Model])
		known := s.remember(r.Model)
		known.used, known.level = used, level
		known.evicted = r.Leaving || slices.Contains(evict, r.Model)
		latest = max(latest, used)
	}
	maps.DeleteFunc(s.records, func(model string, _ *record) bool { return !runs[model] })
	return latest
}

// OnSwapStart implements [Swapper], for code that does not know about [PlanObserver]: it
// takes it that what EvictionFor answers is stopped.
func (s *BudgetSwapper) OnSwapStart(target string, running []string) {
	residents := make([]Resident, len(running))
	for i, model := range running {
		residents[i].Model = model
	}
	s.OnPlanStart(target, residents, s.EvictionFor(target, running))
}

// Placement returns the index of the placement of a model that runs, and whether it was
// placed: by a swap, from its StartSwap on, or by Observe. Once the model has gone the
// answer may stay the same until the next swap starts.
func (s *BudgetSwapper) Placement(model string) (index int, ok bool) {
	if r := s.records[model]; r != nil && r.placed {
		return r.placement, true
	}
	return 0, false
}

// Observe says in which placement a model runs that no swap has placed, for example
// after a restart of the host. Without it the model counts with its first placement.
// Observe returns an error if the model has no such placement. The host then calls
// OnUnload without targets, since the answers may be others.
func (s *BudgetSwapper) Observe(model string, placement int) error {
	f := s.footprintOf(model)
	if f == nil || placement < 0 || placement >= len(f.placements) {
		return fmt.Errorf("scheduler: budget: model %q has no placement %d", model, placement)
	}
	r := s.remember(model)
	r.placement, r.placed = placement, true
	return nil
}

// footprintOf returns the footprint of a model, nil if it has none.
func (s *BudgetSwapper) footprintOf(model string) *footprint {
	if f, ok := s.models[model]; ok {
		return f
	}
	return s.others
}

// remember returns the record of a model, which it makes if there is none.
func (s *BudgetSwapper) remember(model string) *record {
	r := s.records[model]
	if r == nil {
		r = new(record)
		s.records[model] = r
	}
	return r
}

// lastUse returns the lease of the latest use of a running model, and what L was then.
// L changes only when a swap starts, and then every use so far is taken down.
func (s *BudgetSwapper) lastUse(r *Resident, known *record) (uint64, float64) {
	switch {
	case known == nil && r.LastUsed == 0:
		return 0, 0
	case known == nil || r.LastUsed > known.used:
		return r.LastUsed, s.level
	}
	return known.used, known.level
}

// see notes what is free beside the running models, and those of them that may be
// stopped.
func (s *BudgetSwapper) see(running []Resident) {
	s.search.begin(s.pools)
	for i := range running {
		r := &running[i]
		f := s.footprintOf(r.Model)
		if f == nil {
			continue // Nobody knows what it takes.
		}
		known := s.records[r.Model]
		takes, share := takes(r, f, known)
		s.search.occupy(takes)
		if f.pinned && !r.Leaving {
			continue
		}
		used, level := s.lastUse(r, known)
		s.search.add(candidate{
			model: r.Model,
			tier:  tierOf(r),
			value: level + f.reload/share,
			share: share,
			used:  used,
			takes: takes,
		})
	}
	s.search.rank()
}

// takes returns what a running model takes, and its share.
func takes(r *Resident, f *footprint, known *record) (takes []int64, share float64) {
	now := &f.placements[0]
	if known != nil {
		now = &f.placements[known.placement]
	}
	if !r.Loading {
		return now.loaded, now.share
	}
	takes = now.loading
	if known != nil && known.previous.loaded != nil {
		takes = slices.Clone(takes)
		for i, n := range known.previous.loaded {
			takes[i] += n
		}
	}
	return takes, now.share
}

// placementOf returns the index of the placement that a model counts with.
func (s *BudgetSwapper) placementOf(model string) int {
	if r := s.records[model]; r != nil {
		return r.placement
	}
	return 0
}

// isReady reports whether a model is ready, as far as the host tells.
func (s *BudgetSwapper) isReady(model string) bool { return s.ready != nil && s.ready(model) }

// present returns the placement of the target, and whether it may be there still. What
// runs is not known of the target: its process may be coming to an end.
func (s *BudgetSwapper) present(target string) (placement int, runs bool) {
	if s.isReady(target) {
		return s.placementOf(target), true
	}
	r := s.records[target]
	if r == nil || r.evicted {
		return 0, false
	}
	return r.placement, true
}

// choices returns the placements that the target may get, the best one first. A model
// that is ready stays where it is.
func (s *BudgetSwapper) choices(target string, f *footprint) []int {
	choices := s.options[:0]
	present, runs := s.present(target)
	if runs {
		choices = append(choices, present)
	}
	for i := range f.placements {
		if !s.isReady(target) && !slices.Contains(choices, i) {
			choices = append(choices, i)
		}
	}
	s.options = choices
	return choices
}

// needs returns what the target takes in a placement.
func (s *BudgetSwapper) needs(target string, f *footprint, placement int) []int64 {
	if s.isReady(target) {
		return f.placements[placement].loaded
	}
	return f.placements[placement].loading
}

// place returns the best placement of the target that has room once evict has gone.
func (s *BudgetSwapper) place(target string, f *footprint, evict []string) int {
	free := s.search.freeWithout(evict)
	choices := s.choices(target, f)
	for _, i := range choices {
		if needs := s.needs(target, f, i); fit(needs, free, needs) {
			return i
		}
	}
	return choices[0]
}

// pinned returns the models that are running and pinned.
func (s *BudgetSwapper) pinned(running []Resident) (models []string) {
	for _, r := range running {
		if f := s.footprintOf(r.Model); f != nil && f.pinned {
			models = append(models, r.Model)
		}
	}
	return models
}
