package main

import (
	"maps"
	"slices"

	"example.com/scheduler"
	"example.com/scheduler/examples/internal/exposition"
)

// poolStatus is a pool of the budget and what fills it.
type poolStatus struct {
	Pool     string    `json:"pool"`
	Capacity int64     `json:"capacity"`
	Used     int64     `json:"used"`
	Models   []poolUse `json:"models"` // by name
}

// poolUse is what one model takes of a pool, until nothing is left of its process.
type poolUse struct {
	Model string `json:"model"`
	Takes int64  `json:"takes"`
}

// pools returns the pools of the budget by name, none if there is no budget.
func (h *host) pools() (all []poolStatus) {
	if h.policy.budget == nil {
		return nil
	}
	capacity := h.policy.of.Budget.Capacity
	for _, pool := range slices.Sorted(maps.Keys(capacity)) {
		s := poolStatus{Pool: pool, Capacity: capacity[pool], Models: []poolUse{}}
		for _, name := range slices.Sorted(maps.Keys(h.models)) {
			if n := h.models[name].takes(pool); n > 0 {
				s.Used += n
				s.Models = append(s.Models, poolUse{name, n})
			}
		}
		all = append(all, s)
	}
	return all
}

// takes returns what the process of m takes of a pool.
func (m *model) takes(pool string) int64 {
	if m.inst == nil {
		return 0
	}
	n, named := m.spot.takes[pool]
	switch {
	case pool == scheduler.PoolLoads && (m.swap == nil || m.swap.spot != m.spot): // It has loaded.
		return 0
	case !named && (pool == scheduler.PoolLoads || pool == scheduler.PoolSlots):
		return 1
	}
	return n
}

// writePools writes how full the pools are.
func writePools(e *exposition.Text, pools []poolStatus) {
	e.Begin("gauge", "modelproxy_pool_capacity", "How much there is of a pool of the budget.")
	for _, p := range pools {
		e.Sample(float64(p.Capacity), "pool", p.Pool)
	}
	e.Begin("gauge", "modelproxy_pool_used", "How much a model takes of a pool.")
	for _, p := range pools {
		for _, m := range p.Models {
			e.Sample(float64(m.Takes), "pool", p.Pool, "model", m.Model)
		}
	}
}
