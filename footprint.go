package scheduler

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
)

// Why a [BudgetSwapper] refuses a model for good, for errors.Is.
var (
	// ErrNeverFits: the model does not fit even with nothing beside it, or the budget
	// says nothing about it.
	ErrNeverFits = errors.New("scheduler: model does not fit the budget")
	// ErrPinned: the model does not fit beside the pinned models that are running. The
	// message names them.
	ErrPinned = errors.New("scheduler: model does not fit beside pinned models")
)

// Two pools of a [Budget] count models.
const (
	// PoolSlots counts running models. Each takes one, unless its placement says
	// otherwise.
	PoolSlots = "slots"
	// PoolLoads counts models that are being loaded. Each takes one while it loads,
	// unless its placement says otherwise, and nothing afterwards. With a capacity of 1
	// loads do not overlap.
	PoolLoads = "loads"
)

// Budget says how much there is of everything that models take, and how much each model
// takes of it.
type Budget struct {
	// Capacity is what there is, by pool: for example "gpu0", "gpu1" and "ram" in bytes,
	// or any other thing that can be counted. [PoolSlots] and [PoolLoads] count models.
	// There is at least one pool, and each has between 1 and 2⁵³.
	Capacity map[string]int64
	// Models are the footprints by model.
	Models map[string]Footprint
	// Default is the footprint of every model that Models does not name. Nil: such a
	// model is refused with [ErrNeverFits].
	Default *Footprint
	// Ready reports whether a model is ready, as Effects.ModelState says. Such a model
	// stays where it is, and does not load again. Ready is called on the run loop, from
	// within Plan and OnPlanStart. It may be nil if Capacity has no [PoolLoads]; then a
	// model that was placed before is placed there again if it fits.
	Ready func(model string) bool
}

// Footprint is what one model takes.
type Footprint struct {
	// Placements are the ways to place the model, the best one first: on one card, on
	// another, or a part on each. None: the model takes only what [PoolSlots] and
	// [PoolLoads] count.
	Placements []Placement
	// Reload is what it costs to load the model once more, in a unit that is the same
	// for all models: seconds, say, or bytes. 0: 1.
	Reload float64
	// Pinned: the model is never evicted.
	Pinned bool
}

// Placement is what a model takes in one of the ways to place it, by pool. It takes
// nothing of a pool that is not named, except for [PoolSlots] and [PoolLoads].
type Placement map[string]int64

// pool is a pool of a Budget.
type pool struct {
	name     string
	capacity int64
	loading  bool // it counts models only while they load
}

// pools are the pools of a Budget, by name.
type pools []pool

// footprint is a Footprint with its pools in order.
type footprint struct {
	placements []amounts // at least one
	reload     float64
	pinned     bool
}

// amounts is what a placement takes, by the index of the pool.
type amounts struct {
	loading, loaded []int64
	share           float64 // the largest part of a pool, once it is loaded
}

// largest bounds the size of a pool, so that no sum overflows.
const largest = 1 << 53

// newPools brings the pools into order.
func newPools(capacity map[string]int64) (p pools, err error) {
	if len(capacity) == 0 {
		return nil, errors.New("scheduler: budget without a pool")
	}
	for _, name := range slices.Sorted(maps.Keys(capacity)) {
		n := capacity[name]
		if n < 1 || n > largest {
			return nil, fmt.Errorf("scheduler: budget: pool %q has %d, want 1 to %d", name, n, int64(largest))
		}
		p = append(p, pool{name, n, name == PoolLoads})
	}
	return p, nil
}

// has reports whether there is such a pool.
func (p pools) has(name string) bool {
	return slices.ContainsFunc(p, func(pool pool) bool { return pool.name == name })
}

// footprint brings the pools of f into order.
func (p pools) footprint(f Footprint) (*footprint, error) {
	switch {
	case f.Reload == 0:
		f.Reload = 1
	case !(f.Reload > 0) || math.IsInf(f.Reload, 0):
		return nil, fmt.Errorf("reload cost %v, want a positive number", f.Reload)
	}
	if len(f.Placements) == 0 {
		f.Placements = []Placement{nil}
	}
	own := &footprint{reload: f.Reload, pinned: f.Pinned}
	for i, placement := range f.Placements {
		a, err := p.amounts(placement)
		if err != nil {
			return nil, fmt.Errorf("placement %d: %w", i, err)
		}
		own.placements = append(own.placements, a)
	}
	return own, nil
}

// amounts brings the pools of a placement into order.
func (p pools) amounts(placement Placement) (a amounts, err error) {
	for _, name := range slices.Sorted(maps.Keys(placement)) {
		if !p.has(name) {
			return a, fmt.Errorf("there is no pool %q", name)
		}
	}
	for _, pool := range p {
		amount, named := placement[pool.name]
		switch {
		case !named && (pool.loading || pool.name == PoolSlots):
			amount = 1
		case amount < 0:
			return a, fmt.Errorf("%d of pool %q", amount, pool.name)
		case amount > pool.capacity:
			return a, fmt.Errorf("%w: %d of pool %q, which has %d", ErrNeverFits, amount, pool.name, pool.capacity)
		}
		a.loading = append(a.loading, amount)
		if pool.loading {
			amount = 0
		}
		a.loaded = append(a.loaded, amount)
		a.share = max(a.share, float64(amount)/float64(pool.capacity))
	}
	return a, nil
}
