package config

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"time"

	"example.com/scheduler"
)

// Sets are sets of models that may run together: see [scheduler.ParseSets].
type Sets struct {
	Names       map[string]string `json:"names"`       // short names for models
	Expressions map[string]string `json:"expressions"` // by name; a model may run with those of any set in any of them
	EvictCosts  map[string]int    `json:"evictCosts"`  // by model or short name; 1
}

// Budget is how much there is, and what models take of it: see [scheduler.Budget].
type Budget struct {
	Capacity  map[string]Size       `json:"capacity"`  // by pool
	FromNodes map[string]*NodePools `json:"fromNodes"` // further pools, of the cluster; see [Config.WithNodes]
	Models    map[string]*Footprint `json:"models"`    // by name
	Default   *Footprint            `json:"default"`   // of all others

	declared *Budget // what this was made of by WithNodes; nil: this is as the file has it
}

// Footprint is what a model takes: see [scheduler.Footprint].
type Footprint struct {
	Placements []Placement `json:"placements"` // the best one first
	Reload     Duration    `json:"reload"`     // what it costs to load it again; 1 s
	Pinned     bool        `json:"pinned"`

	nowhere string // why it has no placement at the moment, set by WithNodes
}

// Placement is what a model takes in one of the ways to place it, and how its process is
// told.
type Placement struct {
	Takes map[string]Size   `json:"*"`   // by pool
	Env   map[string]string `json:"env"` // comes before that of the model
	Name  string            // what ${PLACEMENT} is, set by WithNodes; "": its index
}

// Policy is the part of a configuration that says which models run together. At most one
// field is set, and all of them stand for the models of one configuration.
type Policy struct {
	Groups []scheduler.Group
	Sets   []scheduler.Set
	Costs  map[string]int    // of Sets
	Budget *scheduler.Budget // without Ready
}

// Planner makes the policy. Ready reports whether a model is ready: see
// [scheduler.Budget].
func (p Policy) Planner(ready func(model string) bool) (scheduler.Planner, error) {
	switch {
	case p.Budget != nil:
		b := *p.Budget
		b.Ready = ready
		return scheduler.NewBudgetSwapper(b)
	case p.Sets != nil:
		return scheduler.NewSetSwapper(p.Sets, p.Costs)
	}
	groups, err := scheduler.NewGroupSwapper(p.Groups...)
	return scheduler.PlannerFunc(func(target string, running []scheduler.Resident) ([]string, error) {
		models := make([]string, len(running))
		for i, r := range running {
			models[i] = r.Model
		}
		return groups.EvictionFor(target, models), nil
	}), err
}

// Policy returns the policy of c. Remote models that it does not name take no memory here,
// so they stop nobody and stay. As long as [Config.WithNodes] has not told which nodes
// there are, there are none.
func (c *Config) Policy() Policy {
	if c.Budget != nil && c.Budget.declared == nil {
		c = c.WithNodes(nil)
	}
	named := c.named()
	var apart, alone []string
	for _, name := range slices.Sorted(maps.Keys(c.Models)) {
		if named[name] {
			continue
		}
		if c.Models[name].Remote() {
			apart = append(apart, name)
		} else {
			alone = append(alone, name)
		}
	}
	switch {
	case c.Budget != nil || c.MaxRunning > 0:
		return Policy{Budget: c.budget(apart)}
	case c.Sets != nil:
		sets, costs := c.sets()
		for _, name := range alone {
			sets = append(sets, scheduler.Set{name})
		}
		for i := range sets {
			sets[i] = append(sets[i], apart...)
		}
		return Policy{Sets: sets, Costs: costs}
	}
	var groups []scheduler.Group
	for _, g := range c.Groups {
		groups = append(groups, scheduler.Group(g))
	}
	if len(apart) > 0 {
		groups = append(groups, scheduler.Group{Members: apart, Persistent: true}) // Without a name, which all others have.
	}
	return Policy{Groups: groups}
}

// named returns the models that the policy of c names.
func (c *Config) named() map[string]bool {
	named := make(map[string]bool)
	for _, g := range c.Groups {
		for _, model := range g.Members {
			named[model] = true
		}
	}
	if c.Sets != nil {
		sets, _ := c.sets()
		for _, set := range sets {
			for _, model := range set {
				named[model] = true
			}
		}
	}
	if c.Budget != nil {
		for model := range c.Budget.Models {
			named[model] = true
		}
	}
	return named
}

// vocabulary returns what expressions of sets may name: models, short names, and other
// expressions.
func (c *Config) vocabulary() map[string]string {
	words := make(map[string]string)
	maps.Copy(words, c.Sets.Expressions)
	maps.Copy(words, c.Sets.Names)
	for model := range c.Models {
		words[model] = model
	}
	return words
}

// sets returns all sets of the expressions, in the order of their names, and what it costs
// to stop models.
func (c *Config) sets() (sets []scheduler.Set, costs map[string]int) {
	words := c.vocabulary()
	for _, name := range slices.Sorted(maps.Keys(c.Sets.Expressions)) {
		more, _ := scheduler.ParseSets(words, c.Sets.Expressions[name])
		sets = append(sets, more...)
	}
	costs = make(map[string]int)
	for name, cost := range c.Sets.EvictCosts {
		costs[cmp.Or(c.Sets.Names[name], name)] = cost
	}
	return sets, costs
}

// budget returns the budget of c, in which models that are apart take nothing.
func (c *Config) budget(apart []string) *scheduler.Budget {
	b := &scheduler.Budget{Capacity: make(map[string]int64), Models: make(map[string]scheduler.Footprint)}
	if c.Budget == nil {
		b.Capacity[scheduler.PoolSlots] = int64(c.MaxRunning)
		f := new(Footprint).footprint()
		b.Default = &f
	} else {
		for pool, n := range c.Budget.Capacity {
			b.Capacity[pool] = int64(n)
		}
		for name, f := range c.Budget.Models {
			b.Models[name] = f.footprint()
		}
		if c.Budget.Default != nil {
			f := c.Budget.Default.footprint()
			b.Default = &f
		}
	}
	nothing := make(scheduler.Placement)
	for pool := range b.Capacity {
		nothing[pool] = 0
	}
	for _, name := range apart {
		b.Models[name] = scheduler.Footprint{Placements: []scheduler.Placement{nothing}}
	}
	return b
}

// footprint returns f as the scheduler knows it, with one placement at least.
func (f *Footprint) footprint() scheduler.Footprint {
	own := scheduler.Footprint{Reload: time.Duration(f.Reload).Seconds(), Pinned: f.Pinned}
	for _, p := range f.ways() {
		takes := make(scheduler.Placement)
		for pool, n := range p.Takes {
			takes[pool] = int64(n)
		}
		own.Placements = append(own.Placements, takes)
	}
	return own
}

// placements returns how a model may be placed: in one way at least if there is a budget,
// and else in none.
func (c *Config) placements(model string) []Placement {
	if c.Budget == nil {
		return nil
	}
	return cmp.Or(c.footprintOf(model), new(Footprint)).ways()
}

// footprintOf returns what the budget says of a model, nil if it says nothing.
func (c *Config) footprintOf(model string) *Footprint {
	if f := c.Budget.Models[model]; f != nil || c.Models[model] == nil || c.Models[model].Remote() {
		return f
	}
	return c.Budget.Default
}

// ways returns the placements of f, one that takes nothing if there are none.
func (f *Footprint) ways() []Placement {
	if len(f.Placements) == 0 {
		return []Placement{{}}
	}
	return f.Placements
}

// Placed returns m as its process is started in a placement, which is m itself unless
// there is a budget.
func (m *Model) Placed(placement int) *Model {
	if placement >= len(m.placements) {
		return m
	}
	placed := *m
	placed.placement = placement
	placed.Env = maps.Clone(m.placements[placement].Env)
	if placed.Env == nil {
		placed.Env = make(map[string]string)
	}
	for name, value := range m.Env {
		if _, set := placed.Env[name]; !set {
			placed.Env[name] = value
		}
	}
	return &placed
}

// Takes returns what m takes of each pool in its placement, none unless there is a budget.
func (m *Model) Takes() map[string]int64 {
	if m.placement >= len(m.placements) {
		return nil
	}
	takes := make(map[string]int64)
	for pool, n := range m.placements[m.placement].Takes {
		takes[pool] = int64(n)
	}
	return takes
}

// Vars returns what words of m, which is called name, may name: see [Expand]. The caller
// adds what only a process has.
func (m *Model) Vars(name string) map[string]string {
	vars := map[string]string{"MODEL": name}
	if len(m.placements) > 0 {
		vars["PLACEMENT"] = cmp.Or(m.placements[m.placement].Name, strconv.Itoa(m.placement))
	}
	return vars
}
