package config

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"example.com/scheduler"
)

// largestPool is the most that [scheduler.Budget] lets a pool have.
const largestPool = 1 << 53

// NodePools are the pools that come from the nodes of a cluster: one for each node or, if
// there is a label, one for each of its values, with what all nodes of that value have
// together.
type NodePools struct {
	Resource string `json:"resource"` // whose allocatable amount counts, such as "nvidia.com/gpu"
	Label    string `json:"label"`    // none: each node is a place of its own
	Selector string `json:"selector"` // only nodes with these labels, such as "pool=gpu,zone!=b"; none: all
}

// Place returns the place to which a node belongs: its name, or the value of the label.
// It is false if a pod cannot be placed there by p.
func (p *NodePools) Place(node string, labels map[string]string) (place string, ok bool) {
	for _, r := range p.requirements() {
		if !r.fits(labels) {
			return "", false
		}
	}
	if p.Label == "" {
		return node, node != ""
	}
	return labels[p.Label], labels[p.Label] != ""
}

// requirement is one part of a selector.
type requirement struct {
	key, value string
	equal      bool
	broken     bool
}

// requirements takes the selector of p apart.
func (p *NodePools) requirements() (all []requirement) {
	if strings.TrimSpace(p.Selector) == "" {
		return nil
	}
	for part := range strings.SplitSeq(p.Selector, ",") {
		key, value, found := strings.Cut(part, "=")
		key, unequal := strings.CutSuffix(key, "!")
		if !unequal {
			value = strings.TrimPrefix(value, "=")
		}
		r := requirement{key: strings.TrimSpace(key), value: strings.TrimSpace(value), equal: !unequal}
		r.broken = !found || !isKey(r.key) || !isLabelValue(r.value)
		all = append(all, r)
	}
	return all
}

// fits reports whether a node with these labels meets r. As in Kubernetes, one without
// the label meets key!=value.
func (r requirement) fits(labels map[string]string) bool {
	value, has := labels[r.key]
	return (has && value == r.value) == r.equal
}

// WithNodes returns a copy of c for a cluster in which there is so much: by the names of
// fromNodes, and by place, see [NodePools.Place]. The copy's budget has a pool such as
// "gpu/node-a" for each place that has anything, and each model that is placed by nodes
// has a placement for each place that is large enough. What c itself may have been made
// of by WithNodes does not matter. A configuration without fromNodes is returned as it is.
func (c *Config) WithNodes(amounts map[string]map[string]int64) *Config {
	if c.Budget == nil || len(c.Budget.FromNodes) == 0 {
		return c
	}
	changed := *c
	changed.Budget = c.Budget.declaration().withNodes(amounts, len(c.Models))
	changed.Models = make(Models, len(c.Models))
	for name, m := range c.Models {
		own := *m
		changed.Models[name] = &own
	}
	for name, m := range changed.Models {
		m.placements = changed.placements(name)
	}
	return &changed
}

// Nowhere says why there is no place for a model at the moment, such as "needs 4 of gpu,
// and no node has more than 2". It is "" if there is one.
func (c *Config) Nowhere(model string) string {
	if c.Budget == nil || len(c.Budget.FromNodes) == 0 {
		return ""
	}
	if c.Budget.declared == nil {
		c = c.WithNodes(nil)
	}
	if f := c.footprintOf(model); f != nil {
		return f.nowhere
	}
	return ""
}

// IsGone reports whether a pool that came from nodes, as then said, is there no more
// although b says the same: the nodes of its place are gone, and not what asked for them.
func (b *Budget) IsGone(pool string, then map[string]*NodePools) bool {
	entry, _, placed := strings.Cut(pool, "/")
	_, there := b.Capacity[pool]
	now := b.FromNodes[entry]
	return placed && !there && now != nil && then[entry] != nil && *now == *then[entry]
}

// declaration returns the budget as the file has it.
func (b *Budget) declaration() *Budget {
	if b.declared != nil {
		return b.declared
	}
	return b
}

// withNodes returns b as it is with the nodes.
func (b *Budget) withNodes(amounts map[string]map[string]int64, models int) *Budget {
	n := &Budget{Capacity: make(map[string]Size), Models: make(map[string]*Footprint), FromNodes: b.FromNodes, declared: b}
	maps.Copy(n.Capacity, b.Capacity)
	for entry := range b.FromNodes {
		for place, amount := range amounts[entry] {
			if amount > 0 && place != "" {
				n.Capacity[poolOf(entry, place)] = Size(min(amount, largestPool))
			}
		}
	}
	for name, f := range b.Models {
		n.Models[name] = n.expanded(f, amounts)
	}
	if b.Default != nil {
		n.Default = n.expanded(b.Default, amounts)
	}
	if len(n.Capacity) == 0 { // The scheduler asks for a pool. This one lets all run.
		n.Capacity[scheduler.PoolSlots] = Size(max(1, models))
	}
	return n
}

// poolOf returns the name of the pool of a place.
func poolOf(entry, place string) string { return entry + "/" + place }

// expanded returns f with the placements that there are in b. If there are none, it has
// one that takes nothing, and says why.
func (b *Budget) expanded(f *Footprint, amounts map[string]map[string]int64) *Footprint {
	if !slices.ContainsFunc(f.Placements, func(p Placement) bool { return b.entries(p) != nil }) {
		return f // The same, so that no process that is placed by it seems to be another one.
	}
	own := &Footprint{Reload: f.Reload, Pinned: f.Pinned}
	var missing []string
	for i, p := range f.Placements {
		entries := b.entries(p)
		if len(entries) == 0 {
			p.Name = strconv.Itoa(i)
			own.Placements = append(own.Placements, p)
			continue
		}
		ways := b.places(p, entries, amounts)
		if len(ways) == 0 {
			missing = append(missing, b.missing(p, entries, amounts))
		}
		own.Placements = append(own.Placements, ways...)
	}
	if len(own.Placements) == 0 && len(missing) > 0 {
		own.Placements, own.nowhere = []Placement{{}}, "needs "+strings.Join(missing, "; or ")
	}
	return own
}

// entries returns what p takes of what comes from nodes, in order.
func (b *Budget) entries(p Placement) (entries []string) {
	for _, pool := range sortedKeys(p.Takes) {
		if b.FromNodes[pool] != nil {
			entries = append(entries, pool)
		}
	}
	return entries
}

// places returns the ways to place p: one for each place that is large enough, in the
// order of their names.
func (b *Budget) places(p Placement, entries []string, amounts map[string]map[string]int64) (ways []Placement) {
	for _, place := range sortedKeys(amounts[entries[0]]) {
		takes := maps.Clone(p.Takes)
		for _, entry := range entries {
			pool := poolOf(entry, place)
			if needs := takes[entry]; needs <= b.Capacity[pool] {
				takes[pool] = needs
				delete(takes, entry)
			}
		}
		if !slices.ContainsFunc(entries, func(entry string) bool { _, left := takes[entry]; return left }) {
			ways = append(ways, Placement{Takes: takes, Name: place})
		}
	}
	return ways
}

// missing says why there is no place for p.
func (b *Budget) missing(p Placement, entries []string, amounts map[string]map[string]int64) string {
	var needs []string
	place := "node"
	if label := b.FromNodes[entries[0]].Label; label != "" {
		place = "value of " + label
	}
	for _, entry := range entries {
		needs = append(needs, fmt.Sprintf("%v of %s", p.Takes[entry], entry))
	}
	need := strings.Join(needs, " and ")
	for _, entry := range entries {
		var most Size
		for place := range amounts[entry] {
			most = max(most, b.Capacity[poolOf(entry, place)])
		}
		switch {
		case most == 0:
			return fmt.Sprintf("%s, and no %s has any %s", need, place, entry)
		case most < p.Takes[entry] && len(entries) == 1:
			return fmt.Sprintf("%s, and no %s has more than %v", need, place, most)
		case most < p.Takes[entry]:
			return fmt.Sprintf("%s, and no %s has more than %v of %s", need, place, most, entry)
		}
	}
	return fmt.Sprintf("%s, and no %s has all of that", need, place)
}
