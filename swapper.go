package scheduler

import (
	"errors"
	"fmt"
	"slices"
)

// Swapper is the eviction policy: it says which running models must stop before
// another one can start. A [Scheduler] asks it often, and acts on few answers.
//
// Its methods are called on the host's run-loop goroutine.
type Swapper interface {
	// EvictionFor returns the models of running that must stop before target can
	// serve, nil if none. Running is sorted, without duplicates and without
	// target; EvictionFor does not keep or change it. The result is copied.
	//
	// It is a pure decision: same arguments, same answer, no side effect. Once its
	// answer is carried out it asks for nothing more, and a further running model
	// never shortens it. Target, strangers and duplicates in an answer are
	// dropped.
	EvictionFor(target string, running []string) []string

	// OnSwapStart is called once for each swap, right before its StartSwap, with
	// the set that was decided on. It does not keep or change running. If it
	// panics, the swap does not start.
	OnSwapStart(target string, running []string)
}

// Planner is an optional companion of [Swapper], found by type assertion: a
// policy that wants to see how the running models are used, or may refuse. A
// Planner is asked Plan instead of EvictionFor, never both.
type Planner interface {
	Swapper

	// Plan is EvictionFor with more to go by; running is sorted by model and Plan
	// does not keep or change it. An error refuses the request for good, so it is
	// only for what could not run even if everything that may be stopped were
	// stopped. "Not now" is said by naming models that are busy.
	Plan(target string, running []Resident) (evict []string, err error)
}

// Resident is a running model as a [Planner] sees it.
type Resident struct {
	Model string
	// Loading: it is the target of an outstanding swap.
	Loading bool
	// Leaving: an outstanding swap stops it. Its room is spoken for; naming it is a
	// collision with that swap.
	Leaving bool
	// InFlight and Waiting count its requests.
	InFlight, Waiting int
	// LastUsed is the lease of its latest grant: the higher, the later. 0: none yet, as
	// for a model that is being loaded for the first time. The end of a request does not
	// change it, and neither does a grant whose caller had left.
	LastUsed uint64
}

// SwapperFunc is a [Swapper] of one function, which is EvictionFor.
type SwapperFunc func(target string, running []string) []string

// EvictionFor implements [Swapper]. It calls f.
func (f SwapperFunc) EvictionFor(target string, running []string) []string { return f(target, running) }

// OnSwapStart implements [Swapper]. It does nothing: a function has no memory.
func (f SwapperFunc) OnSwapStart(target string, running []string) {}

// PlannerFunc is a [Planner] of one function, which is Plan.
type PlannerFunc func(target string, running []Resident) (evict []string, err error)

// Plan implements [Planner]. It calls f.
func (f PlannerFunc) Plan(target string, running []Resident) (evict []string, err error) {
	return f(target, running)
}

// EvictionFor implements [Swapper], for code that knows no Planner: it calls f with
// idle models that have never been used. It has no way to refuse, so that an error of
// f is answered with all of running: nothing is loaded beside them that cannot run.
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
	// Name is told in errors and must be the group's own.
	Name string
	// Members are the models of the group. A model is in at most one group.
	Members []string
	// Swap: only one member runs at a time.
	Swap bool
	// Exclusive: loading a member stops the models of other groups.
	Exclusive bool
	// Persistent: an exclusive group does not stop the members of this one.
	Persistent bool
}

// GroupSwapper is the policy of exclusive groups. Loading a member stops the
// other members of its group if that group swaps, and the members of other groups
// if its group is exclusive and theirs is not persistent. Loading from a group
// that is not exclusive leaves all other groups alone, exclusive ones too.
//
// Models that no group names form the default group, which swaps and is
// exclusive. The zero value is a GroupSwapper without groups: one model at a time.
// It does not change after [NewGroupSwapper] and may be shared between
// schedulers and goroutines.
type GroupSwapper struct {
	groups map[string]*Group // by member
}

// defaultGroup holds every model that no group names.
var defaultGroup = &Group{Swap: true, Exclusive: true}

// NewGroupSwapper makes a GroupSwapper from groups, which it copies. It returns an
// error, and names the group and the member, for a model in two groups or twice in
// one, two groups of one name, and an empty member.
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

// EvictionFor implements [Swapper]. The result is running itself if all of it goes.
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
