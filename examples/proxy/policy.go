package main

import (
	"fmt"
	"maps"
	"reflect"

	"example.com/scheduler"
	"example.com/scheduler/examples/internal/config"
)

// policy is the eviction policy of the configuration, which a reload may replace by one
// of another kind. The scheduler looks only once for what a policy can do, so this one
// can do everything, and passes it on.
type policy struct {
	scheduler.Planner
	host   *host
	cfg    *config.Config
	of     config.Policy
	budget *scheduler.BudgetSwapper // the Planner, if it is one; else nil
}

var _ scheduler.PlanObserver = (*policy)(nil)

// spot is where a process is, or will be, in terms of the budget that has placed it.
type spot struct {
	budget *scheduler.BudgetSwapper // nil: there was none
	index  int
	takes  scheduler.Placement
	nodes  map[string]*config.NodePools // from which pools came
}

// replace makes p the policy of cfg. What a budget knows of the past is kept as long as
// it stays the same.
func (p *policy) replace(cfg *config.Config) error {
	of := cfg.Policy()
	if p.Planner != nil && reflect.DeepEqual(of, p.of) {
		p.cfg = cfg
		return nil
	}
	planner, err := of.Planner(p.isReady)
	if err != nil {
		return err
	}
	p.cfg, p.of, p.Planner = cfg, of, planner
	if p.budget, _ = planner.(*scheduler.BudgetSwapper); p.budget != nil {
		for _, m := range p.host.models {
			p.carry(m, m.spot)
			if m.swap != nil {
				p.carry(m, m.swap.spot)
			}
		}
	}
	return nil
}

// carry tells a new budget where a process of m is. That is not possible if the same
// amounts are no placement of m any more; then m is astray.
func (p *policy) carry(m *model, s *spot) {
	if s == nil || s.budget == p.budget {
		return
	}
	for i, takes := range p.placements(m.name) {
		if maps.Equal(takes, s.takes) && p.budget.Observe(m.name, i) == nil {
			s.budget, s.index, s.nodes = p.budget, i, p.fromNodes()
			return
		}
	}
}

// fromNodes returns what says which pools come from nodes.
func (p *policy) fromNodes() map[string]*config.NodePools {
	if p.cfg.Budget == nil {
		return nil
	}
	return p.cfg.Budget.FromNodes
}

// placements returns the ways to place a model in the present budget.
func (p *policy) placements(model string) []scheduler.Placement {
	if f, named := p.of.Budget.Models[model]; named {
		return f.Placements
	} else if others := p.of.Budget.Default; others != nil {
		return others.Placements
	}
	return nil
}

// spot returns where the swap that starts has placed m.
func (p *policy) spot(m *model) *spot {
	s := &spot{budget: p.budget, nodes: p.fromNodes()}
	if p.budget != nil {
		s.index, _ = p.budget.Placement(m.name)
		s.takes = p.placements(m.name)[s.index]
	}
	return s
}

// isReady reports whether a model is ready.
func (p *policy) isReady(model string) bool {
	m := p.host.models[model]
	return m != nil && m.state == scheduler.StateReady
}

// isAstray reports whether a process of m is or will be where the budget does not know of
// it: m has been removed, or its placements have changed since it was placed.
func (p *policy) isAstray(m *model) bool {
	if p.budget == nil || m == nil {
		return false
	}
	astray := func(s *spot) bool { return s != nil && s.budget != p.budget }
	return m.inst != nil && astray(m.spot) || m.swap != nil && astray(m.swap.spot)
}

// isAway reports whether m is astray because its place is gone, as that of a pod whose
// node is lost or cordoned. Its pod may be there for long, but takes nothing from others.
func (p *policy) isAway(m *model) bool {
	b := p.cfg.Budget // nil: maxRunning
	if !p.isAstray(m) || m.swap != nil || len(m.spot.takes) == 0 || b == nil || b.Capacity[scheduler.PoolSlots] > 0 {
		return false
	}
	for pool := range m.spot.takes {
		if !b.IsGone(pool, m.spot.nodes) {
			return false
		}
	}
	return true
}

// here returns those of running that take anything of what there is. One that could not be
// stopped takes it as one that is busy does: others make room if they can.
func (p *policy) here(running []scheduler.Resident) []scheduler.Resident {
	here := make([]scheduler.Resident, 0, len(running))
	for _, r := range running {
		m := p.host.models[r.Model]
		if p.isAway(m) {
			continue
		}
		if m.isStuck() {
			r.InFlight++
		}
		here = append(here, r)
	}
	return here
}

// Plan implements [scheduler.Planner]. What a model that is astray takes is not known,
// and it has to start anew anyway. So it goes before any other is loaded or refused, unless
// it is away: nobody may be able to stop it then, and no other would be loaded again.
func (p *policy) Plan(target string, running []scheduler.Resident) (evict []string, err error) {
	if p.isReady(target) && p.isAway(p.host.models[target]) {
		return nil, nil // It serves where it is.
	}
	running = p.here(running)
	evict, err = p.Planner.Plan(target, running)
	if p.isReady(target) {
		return evict, err
	}
	if why := p.cfg.Nowhere(target); why != "" {
		return nil, fmt.Errorf("%w: model %q %s", errNoNode, target, why)
	}
	for _, r := range running {
		if p.isAstray(p.host.models[r.Model]) {
			evict, err = append(evict, r.Model), nil // The scheduler drops duplicates.
		}
	}
	return evict, err
}

// OnPlanStart implements [scheduler.PlanObserver].
func (p *policy) OnPlanStart(target string, running []scheduler.Resident, evict []string) {
	if p.budget != nil {
		p.budget.OnPlanStart(target, p.here(running), evict)
	}
}
