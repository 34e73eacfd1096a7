package config

import (
	"maps"
	"slices"
	"strings"

	"example.com/scheduler"
)

// checkPolicy checks what says which models run together.
func (k *checker) checkPolicy() {
	before, first := len(k.faults), ""
	for _, way := range []struct {
		name string
		set  bool
	}{
		{"groups", len(k.Groups) > 0},
		{"sets", k.Sets != nil},
		{"budget", k.Budget != nil},
		{"maxRunning", k.MaxRunning != 0},
	} {
		switch {
		case way.set && first != "":
			k.fault(place{way.name}, "cannot be there beside %s: only one of groups, sets, budget and maxRunning says which models run together", first)
		case way.set:
			first = way.name
		}
	}
	k.checkGroups()
	if k.Sets != nil {
		k.checkSets(place{"sets"})
	}
	if k.Budget != nil {
		k.checkBudget(place{"budget"})
	}
	notNegative(k, nil, "maxRunning", k.MaxRunning)
	if len(k.faults) > before {
		return
	}
	if _, err := k.Policy().Planner(func(string) bool { return false }); err != nil {
		k.fault(place{first}, "%s", plain(err))
	}
}

// plain returns what an error of the scheduler says, without where it comes from.
func plain(err error) string {
	return strings.TrimPrefix(strings.TrimPrefix(err.Error(), "scheduler: "), "sets: ")
}

func (k *checker) checkGroups() {
	names, groups := make(map[string]int), make(map[string]int)
	for i, g := range k.Groups {
		at := place{"groups", i}
		if first, twice := names[g.Name]; twice {
			k.fault(at.in("name"), "is the name of groups[%d] too", first)
		} else if g.Name == "" {
			k.fault(at.in("name"), "must not be empty")
		} else {
			names[g.Name] = i
		}
		if len(g.Members) == 0 {
			k.fault(at.in("members"), "must name at least one model")
		}
		for j, model := range g.Members {
			if first, twice := groups[model]; twice {
				k.fault(at.in("members").in(j), "is a member of groups[%d] already", first)
				continue
			}
			groups[model] = i
			k.checkIsModel(at.in("members").in(j), model)
		}
	}
}

func (k *checker) checkSets(at place) {
	for _, short := range slices.Sorted(maps.Keys(k.Sets.Names)) {
		model, here := k.Sets.Names[short], at.in("names").in(short)
		if k.Models[short] != nil && short != model {
			k.fault(here, "is the name of a model")
		}
		k.checkIsModel(here, model)
	}
	if len(k.Sets.Expressions) == 0 {
		k.fault(at.in("expressions"), "there is no expression")
	}
	for _, name := range slices.Sorted(maps.Keys(k.Sets.Expressions)) {
		k.checkExpression(at.in("expressions").in(name), name)
	}
	for _, name := range slices.Sorted(maps.Keys(k.Sets.EvictCosts)) {
		here := at.in("evictCosts").in(name)
		notNegative(k, at.in("evictCosts"), name, k.Sets.EvictCosts[name])
		model, short := k.Sets.Names[name]
		if !short {
			k.checkIsModel(here, name)
		} else if _, twice := k.Sets.EvictCosts[model]; twice && model != name {
			k.fault(here, "is a short name of %q, which is there too", Shorten(model))
		}
	}
}

// checkExpression checks an expression of sets, which is called name.
func (k *checker) checkExpression(at place, name string) {
	if _, short := k.Sets.Names[name]; short || k.Models[name] != nil {
		k.fault(at, "is the name of a model")
	}
	sets, err := scheduler.ParseSets(k.vocabulary(), k.Sets.Expressions[name])
	if err != nil {
		k.fault(at, "%s", plain(err))
	}
	for _, model := range slices.Concat(sets...) {
		if k.Models[model] != nil {
			continue
		}
		if other, is := keyOf(k.Sets.Expressions, model); is {
			k.fault(at, "has an expression without a + in front of it: +%s", Shorten(other))
			return
		}
	}
}

// keyOf returns the first key of m that has a value.
func keyOf(m map[string]string, value string) (key string, has bool) {
	for _, key := range slices.Sorted(maps.Keys(m)) {
		if m[key] == value {
			return key, true
		}
	}
	return "", false
}

func (k *checker) checkBudget(at place) {
	if len(k.Budget.Capacity)+len(k.Budget.FromNodes) == 0 {
		k.fault(at.in("capacity"), "there is no pool")
	}
	for _, pool := range slices.Sorted(maps.Keys(k.Budget.Capacity)) {
		if pool == "" || pool == "env" {
			k.fault(at.in("capacity").in(pool), "a pool cannot be called so")
		}
		if k.Budget.Capacity[pool] == 0 {
			k.fault(at.in("capacity").in(pool), "must not be 0")
		}
	}
	k.checkFromNodes(at.in("fromNodes"))
	for _, name := range slices.Sorted(maps.Keys(k.Budget.Models)) {
		here := at.in("models").in(name)
		k.checkIsModel(here, name)
		k.checkFootprint(here, name, k.Budget.Models[name])
		k.checkUser(here, name, k.Budget.Models[name])
	}
	if k.Budget.Default != nil {
		k.checkFootprint(at.in("default"), "", k.Budget.Default)
	}
	for _, name := range slices.Sorted(maps.Keys(k.Models)) {
		switch {
		case k.Budget.Models[name] != nil || k.Models[name].Remote():
		case k.Budget.Default == nil:
			k.fault(at.in("models"), "there is nothing about %q, and no default", Shorten(name))
		default:
			k.checkUser(at.in("default"), name, k.Budget.Default)
		}
	}
}

func (k *checker) checkFootprint(at place, model string, f *Footprint) {
	notNegative(k, at, "reload", f.Reload)
	for i, p := range f.Placements {
		here := at.in("placements").in(i)
		k.checkPlaced(here, p)
		for _, pool := range slices.Sorted(maps.Keys(p.Takes)) {
			if k.Budget.FromNodes[pool] != nil {
				continue
			}
			if has, ok := k.Budget.Capacity[pool]; !ok {
				k.fault(here.in(pool), "there is no such pool%s", didYouMean(pool, k.Budget.pools()))
			} else if p.Takes[pool] > has {
				k.fault(here.in(pool), "is %v, but the pool has only %v", p.Takes[pool], has)
			}
		}
		k.checkEnv(here.in("env"), p.Env, map[string]string{"PORT": "1", "MODEL": model, "PLACEMENT": "0"})
	}
}

// pools returns what placements may name.
func (b *Budget) pools() map[string]bool {
	all := make(map[string]bool)
	for pool := range b.Capacity {
		all[pool] = true
	}
	for entry := range b.FromNodes {
		all[entry] = true
	}
	return all
}
