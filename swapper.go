package scheduler

import (
	"errors"
	"fmt"
	"slices"
)

// Swapper is the eviction policy. It says which running models have to stop before
// another one can serve. A [Scheduler] asks it often, and acts on few of its answers.
//
// Its methods are called on the run-loop goroutine and must not block. If one of them
// panics, the requests that it was asked about are refused with [ErrPolicy], and the
// scheduler goes on (R17).
type Swapper interface {
	// EvictionFor returns the running models that have to stop before target can
	// serve, or nil if there are none. Models that are loading or being stopped are
	// running too. Running is sorted and contains neither duplicates nor target.
	// EvictionFor must not keep or change it, but may return it. The scheduler copies
	// the result, and drops target, duplicates and models that are not running.
	//
	// EvictionFor is a pure decision: the same arguments give the same answer, and
	// there are no side effects. Once its answer has been carried out it asks for
	// nothing more. One more running model never makes the answer smaller.
	//
	// The scheduler may keep an answer for as long as the running set stays the same and
	// no swap starts. A host that changes the rules calls OnUnload without targets.
	EvictionFor(target string, running []string) []string

	// OnSwapStart is called once for each swap, right before StartSwap, with the
	// running models that the swap was decided on. A policy with a memory updates it
	// here. OnSwapStart must not keep or change running. If it panics the swap does not
	// start.
	OnSwapStart(target string, running []string)
}

// Planner is an optional companion of [Swapper], for a policy that needs to see how the
// running models are used, or that may refuse a request. It is found by type assertion
// when the scheduler is made. A Planner is asked Plan and never EvictionFor.
type Planner interface {
	Swapper

	// Plan is EvictionFor with more information: the same holds for its arguments and
	// its answer. Running is sorted by model.
	//
	// An error refuses a new request for target, and every request that waits for
	// target when the queue moves. GrantError is called with an error that wraps both
	// [ErrPolicy] and the error of Plan; [HTTPStatus] suggests 500. The refusal is
	// final, so Plan returns an error only for a model that could not run even if
	// everything that may be stopped were stopped. To say "not now", Plan names models
	// that are busy.
	Plan(target string, running []Resident) (evict []string, err error)
}

// PlanObserver is an optional companion of [Planner], for a policy with a memory of what
// runs and how. It is found by type assertion when the scheduler is made.
type PlanObserver interface {
	Planner

	// OnPlanStart is called instead of OnSwapStart, with the running models as Plan
	// would see them at this moment, and with those of them that the swap stops. That is
	// what Plan last answered for target, or an earlier answer that will do as well: the
	// plan of a reservation (R8). OnPlanStart must not keep or change running or evict.
	// If it panics the swap does not start.
	OnPlanStart(target string, running []Resident, evict []string)
}

// Resident is a running model as a [Planner] sees it.
type Resident struct {
	Model string
	// Loading: the model is the target of an outstanding swap.
	Loading bool
	// Leaving: an outstanding swap stops the model. Its room is spoken for already, and
	// naming it is a collision with that swap.
	Leaving bool
	// InFlight and Waiting are how many requests for the model are in flight and
	// waiting.
	InFlight, Waiting int
	// LastUsed is the lease of the latest grant: the higher, the later. 0: there was no
	// grant, for example because the model is being loaded for the first time. The end
	// of a request does not change it, and neither does a grant to a caller that had
	// left.
	LastUsed uint64
}

// SwapperFunc is a [Swapper] made of one function, which is EvictionFor.
type SwapperFunc func(target string, running []string) []string

// EvictionFor implements [Swapper]. It calls f.
func (f SwapperFunc) EvictionFor(target string, running []string) []string { return f(target, running) }

// OnSwapStart implements [Swapper]. It does nothing: a function has no memory.
func (f SwapperFunc) OnSwapStart(target string, running []string) {}

// PlannerFunc is a [Planner] made of one function, which is Plan.
type PlannerFunc func(target string, running []Resident) (evict []string, err error)

// Plan implements [Planner]. It calls f.
func (f PlannerFunc) Plan(target string, running []Resident) (evict []string, err error) {
	return f(target, running)
}

// EvictionFor implements [Swapper], for code that does not know about Planners. It calls
// f with models that are idle and were never used. EvictionFor cannot refuse, so if f
// returns an error the answer is a copy of running.
func (f PlannerFunc) EvictionFor(target string, running []string) []string {
	residents := make([]Resident, len(running))
	for i, model := range running {
		residents[i].Model = model
	}
	evict, err := f(target, residents)
	if err != nil {
		return slices.Clone(running)
	}
	return evict
}

// OnSwapStart implements [Swapper]. It does nothing: a function has no memory.
func (f PlannerFunc) OnSwapStart(target string, running []string) {}

// Group is a set of models for a [GroupSwapper].
type Group struct {
	// Name appears in errors and must be unique.
	Name string
	// Members are the models of the group. A model is in at most one group.
	Members []string
	// Swap: loading a member stops the other members, so only one runs at a time.
	Swap bool
	// Exclusive: loading a member stops the members of other groups.
	Exclusive bool
	// Persistent: the members of this group are not stopped by an exclusive group.
	Persistent bool
}

// GroupSwapper is a [Swapper] with groups of models. Loading a model stops the other
// members of its group if the group has Swap. It stops the members of another group if
// its own group is Exclusive and the other one is not Persistent. Loading a model of a
// group that is not exclusive stops nothing in other groups, not even in exclusive ones.
//
// Models that no group names form the default group, which has Swap and Exclusive. The
// zero value is a GroupSwapper without groups: one model runs at a time. A GroupSwapper
// does not change, so schedulers and goroutines may share it.
type GroupSwapper struct {
	groups map[string]*Group // by member
}

// defaultGroup holds every model that no group names.
var defaultGroup = &Group{Swap: true, Exclusive: true}

// NewGroupSwapper returns a GroupSwapper with a copy of groups. It returns an error for a
// model that is in two groups or twice in one, for two groups of the same name, and for
// an empty member. The error names the group.
func NewGroupSwapper(groups ...Group) (*GroupSwapper, error) {
	s := &GroupSwapper{groups: make(map[string]*Group)}
	names := make(map[string]bool)
	for _, g := range groups {
		if names[g.Name] {
			return nil, fmt.Errorf("scheduler: two groups named %q", g.Name)
		}
		names[g.Name] = true
		g.Members = slices.Clone(g.Members)
		if err := s.add(&g); err != nil {
			return nil, fmt.Errorf("scheduler: group %q: %w", g.Name, err)
		}
	}
	return s, nil
}

// EvictionFor implements [Swapper]. If all of running has to stop, the result is running
// itself.
func (s *GroupSwapper) EvictionFor(target string, running []string) []string {
	g := s.groupOf(target)
	stays := func(model string) bool {
		h := s.groupOf(model)
		if g == h {
			return !g.Swap || model == target
		}
		return !g.Exclusive || h.Persistent
	}
	i := slices.IndexFunc(running, stays)
	if i < 0 {
		return running
	}
	evict := slices.Clone(running[:i])
	for _, model := range running[i:] {
		if !stays(model) {
			evict = append(evict, model)
		}
	}
	return evict
}

// OnSwapStart implements [Swapper]. It does nothing: the policy has no state.
func (s *GroupSwapper) OnSwapStart(target string, running []string) {}

// add enters the members of g.
func (s *GroupSwapper) add(g *Group) error {
	for _, model := range g.Members {
		if model == "" {
			return errors.New("a member is empty")
		}
		if other, ok := s.groups[model]; ok && other == g {
			return fmt.Errorf("%q is a member twice", model)
		} else if ok {
			return fmt.Errorf("%q is a member of group %q too", model, other.Name)
		}
		s.groups[model] = g
	}
	return nil
}

// groupOf returns the group of model, which is the default group if none names it.
func (s *GroupSwapper) groupOf(model string) *Group {
	if g, ok := s.groups[model]; ok {
		return g
	}
	return defaultGroup
}
