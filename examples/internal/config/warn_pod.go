package config

import (
	"fmt"
	"strings"
)

// warnPod tells what is doubtful about a model with a pod.
func (c *Config) warnPod(at place, name string, m *Model, warn func(at place, format string, args ...any)) {
	if c.Budget == nil {
		return
	}
	b := c.Budget.declaration()
	f := (&Config{Models: c.Models, Budget: b}).footprintOf(name)
	if f == nil {
		return
	}
	asked, told := m.asks(), m.tellsPlacement()
	for _, p := range f.Placements {
		for _, entry := range b.entries(p) {
			if !told {
				warn(at.in("pod"), "does not have ${PLACEMENT}: the pod may run on another node than the one that the budget counts it on")
				told = true
			}
			resource := b.FromNodes[entry].Resource
			if n := asked[resource]; n > int64(p.Takes[entry]) {
				warn(at.in("pod"), "asks for %v of %s, but a placement takes only %v of %s", Size(n), resource, p.Takes[entry], entry)
				delete(asked, resource)
			}
		}
	}
}

// tellsPlacement reports whether m's pod depends on its placement.
func (m *Model) tellsPlacement() (tells bool) {
	copied(nil, map[string]any(m.Pod), func(_ place, word string) string {
		tells = tells || strings.Contains(word, "${PLACEMENT}")
		return word
	})
	return tells
}

// asks returns what the containers of m's pod ask for together, by resource, in whole
// units.
func (m *Model) asks() map[string]int64 {
	all := make(map[string]int64)
	spec, _ := m.Pod["spec"].(map[string]any)
	containers, _ := spec["containers"].([]any)
	for _, c := range containers {
		container, _ := c.(map[string]any)
		for resource, n := range asks(container) {
			all[resource] += n
		}
	}
	return all
}

// asks returns what a container asks for. A limit is a request too where there is none.
func asks(container map[string]any) map[string]int64 {
	all := make(map[string]int64)
	resources, _ := container["resources"].(map[string]any)
	for _, field := range []string{"limits", "requests"} {
		amounts, _ := resources[field].(map[string]any)
		for resource, amount := range amounts {
			if n, err := ParseQuantity(fmt.Sprint(amount)); err == nil {
				all[resource] = min(n, largestPool) // A sum of many does not overflow.
			}
		}
	}
	return all
}
