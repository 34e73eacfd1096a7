package config

import (
	"slices"
	"strings"
)

// checkFromNodes checks what says which pools come from nodes.
func (k *checker) checkFromNodes(at place) {
	for _, entry := range sortedKeys(k.Budget.FromNodes) {
		here, p := at.in(entry), k.Budget.FromNodes[entry]
		if entry == "" || slices.Contains([]string{"env", "slots", "loads"}, entry) || strings.Contains(entry, "/") {
			k.fault(here, `pools of nodes cannot be called so, nor have a "/" in their name`)
		}
		if _, twice := k.Budget.Capacity[entry]; twice {
			k.fault(here, "is a pool of capacity too")
		}
		if !isKey(p.Resource) {
			k.fault(here.in("resource"), `must be a resource such as "nvidia.com/gpu" or "memory"`)
		}
		if p.Label != "" && !isKey(p.Label) {
			k.fault(here.in("label"), `must be a label such as "kubernetes.io/hostname"`)
		}
		if slices.ContainsFunc(p.requirements(), func(r requirement) bool { return r.broken }) {
			k.fault(here.in("selector"), `must be labels and their values, such as "pool=gpu,zone!=b"`)
		}
	}
	for _, pool := range sortedKeys(k.Budget.Capacity) {
		if entry, _, _ := strings.Cut(pool, "/"); entry != pool && k.Budget.FromNodes[entry] != nil {
			k.fault(place{"budget", "capacity", pool}, "would be mistaken for a pool that comes from nodes; leave out the %q", "/")
		}
	}
	if len(k.Budget.FromNodes) > 0 && k.Kubernetes == nil {
		k.fault(at, `needs "kubernetes", which says where the cluster is`)
	}
}

// checkPlaced checks what a placement takes of pools that come from nodes.
func (k *checker) checkPlaced(at place, p Placement) {
	entries := k.Budget.entries(p)
	for _, entry := range entries {
		if p.Takes[entry] == 0 {
			k.fault(at.in(entry), "must not be 0")
		}
		if first := entries[0]; k.Budget.FromNodes[entry].Label != k.Budget.FromNodes[first].Label {
			k.fault(at.in(entry), "has another label than %s, so that they cannot be at the same place", first)
		}
	}
}

// checkUser checks that model, whose placements are those of f, can be placed so.
func (k *checker) checkUser(at place, model string, f *Footprint) {
	m := k.Models[model]
	if m == nil {
		return
	}
	for i, p := range f.Placements {
		here := at.in("placements").in(i)
		switch entries := k.Budget.entries(p); {
		case m.IsPod() && len(p.Env) > 0:
			k.fault(here.in("env"), "is for a process, and %q has a pod; use ${PLACEMENT} there, and give it placements of its own if others need this", Shorten(model))
		case !m.IsPod() && len(entries) > 0:
			k.fault(here.in(entries[0]), "is on nodes, where only pods run, and %q has none; give it placements of its own", Shorten(model))
		}
	}
}
