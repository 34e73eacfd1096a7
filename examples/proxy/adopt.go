package main

import (
	"context"
	"maps"
	"time"

	"example.com/scheduler"
	"example.com/scheduler/examples/internal/config"
	"example.com/scheduler/examples/internal/pods"
)

// takeOver makes pods that an earlier proxy has left those of this one: what is ready
// runs, what is being loaded is named in again, so that the load can go on, and what the
// configuration does not have, or has as something else, is stopped. It is called before
// the run loop runs.
func (h *host) takeOver(ctx context.Context, cluster *pods.Cluster, found []pods.Found) (again []string) {
	ctx, cancel := context.WithTimeout(ctx, readyWait)
	defer cancel()
	for _, f := range found {
		m := h.models[f.Model]
		if m == nil {
			m = &model{name: f.Model, cfg: leftover, out: newOutput(), state: scheduler.StateStopped, removed: true}
			h.models[f.Model] = m
		}
		if m.inst != nil {
			continue // A second pod of that model was not made by a proxy.
		}
		b := &podBackend{cluster: cluster, name: m.name, cfg: m.cfg, out: m.out, log: h.log.With("model", m.name)}
		at, same := h.policy.found(m, b, f)
		inst := b.adopt(f)
		h.watchInstance(m, inst, at)
		if !same {
			h.log.Info("pod of an earlier proxy is stopped", "model", m.name, "pod", inst.Name())
			h.stop(m, 0)
			continue
		}
		h.set(m, scheduler.StateStarting)
		if !f.Ready() || inst.Ready(ctx) != nil {
			again = append(again, m.name)
			continue
		}
		m.upstream = h.newUpstream(m.name, m.cfg, inst)
		h.set(m, scheduler.StateReady)
		h.log.Info("model taken over", "model", m.name, "pod", inst.Name())
		h.rest(m)
	}
	return again
}

// readyWait bounds how long a take-over waits to know where pods that are ready answer.
// One that it does not know by then, perhaps because it has ceased to be ready, is loaded
// like one that is not.
const readyWait = 5 * time.Second

// leftover is the configuration of models that there are not.
var leftover = &config.Model{StopTimeout: config.Seconds(10)}

// found returns where a pod of m is that was found, and lets the budget know. If m does
// not have that placement, the pod is astray. Same reports whether m would have such a pod
// today; B is then as it would make it.
func (p *policy) found(m *model, b *podBackend, f pods.Found) (at *spot, same bool) {
	if m.removed || !m.cfg.IsPod() {
		return new(spot), false
	}
	ways := []scheduler.Placement{nil}
	if p.budget != nil {
		ways = p.placements(m.name)
	}
	for i, takes := range ways {
		if !maps.Equal(takes, f.Takes) {
			continue
		}
		at = &spot{budget: p.budget, index: i, takes: takes, nodes: p.fromNodes()}
		if p.budget != nil {
			p.budget.Observe(m.name, i)
		}
		b.cfg = m.cfg.Placed(i)
		s, err := b.spec()
		return at, err == nil && f.Is(s)
	}
	return new(spot), false
}

// isResumable reports whether the load that an earlier proxy has begun of m can go on
// where the present swap has placed it.
func (h *host) isResumable(m *model) bool {
	return m.inst != nil && m.state == scheduler.StateStarting && m.next == nil &&
		maps.Equal(m.spot.takes, h.policy.spot(m).takes)
}
