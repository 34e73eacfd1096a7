package main

import (
	"fmt"
	"slices"
	"time"

	"example.com/scheduler"
	"example.com/scheduler/examples/internal/config"
)

// reload makes cfg, which has been checked, the configuration. Requests in flight
// finish, unless their API key has been taken away. What belongs to the scheduler as a
// whole (queue) is taken over at the next start only. It returns the models to load
// again, because they are to be loaded at the start.
func (h *host) reload(cfg *config.Config) (again []string, err error) {
	ok := h.do(func() {
		if err = h.policy.replace(cfg); err != nil {
			return
		}
		again = h.outdated(cfg)
		h.configure(cfg)
		h.sched.OnUnload(nil, 0) // The rules of the policy have changed.
	})
	if !ok {
		return nil, scheduler.ErrShutdown
	}
	return again, err
}

// outdated returns the models that cfg preloads and that are new in its list, or run
// as something else.
func (h *host) outdated(cfg *config.Config) (names []string) {
	for _, name := range cfg.Preload {
		m := h.models[name]
		changed := m != nil && (m.inst != nil || m.swap != nil) && !m.cfg.SameProcess(cfg.Models[name])
		if changed || !slices.Contains(h.config().Preload, name) {
			names = append(names, name)
		}
	}
	return names
}

// configure makes cfg the configuration, and adds, changes and removes models as it says.
func (h *host) configure(cfg *config.Config) {
	h.keys.keep(cfg.Keys) // Before a request can have a key that is new.
	h.cfg.Store(cfg)
	h.metrics.configure(cfg.Models)
	for name, mc := range cfg.Models {
		m := h.models[name]
		if m == nil {
			m = &model{name: name, out: newOutput(), state: scheduler.StateStopped, since: time.Now()}
			h.models[name] = m
		}
		h.replace(m, mc)
	}
	for name, m := range h.models {
		if cfg.Models[name] == nil {
			m.removed = true
			h.yield(m)
		}
	}
}

// replace gives m another configuration. If that means another process, it waits
// until the present one has nothing in flight.
func (h *host) replace(m *model, cfg *config.Model) {
	m.removed = false
	if m.cfg != nil && m.cfg.SameProcess(cfg) && !m.drains {
		m.cfg, m.next = cfg, nil
		if m.inFlight == 0 {
			h.rest(m)
		}
		return
	}
	m.next = cfg
	h.yield(m)
}

// yield lets the present process of m go as soon as nothing is in flight. One that is
// loading goes at once, unless the room for it has been made where m is placed no longer.
func (h *host) yield(m *model) {
	switch {
	case m.inst == nil && m.swap == nil:
		h.adopt(m)
	case m.swap != nil && m.swap.backend != nil && m.removed:
		m.swap.cancel(fmt.Errorf("%w: %q", scheduler.ErrModelNotFound, m.name))
	case m.swap != nil && m.swap.backend != nil:
		if !h.policy.isAstray(m) {
			m.swap.replace(errReplaced)
		}
	case m.inFlight == 0:
		h.rest(m)
	}
}

// adopt takes over what a reload has left for m, now that nothing of its process
// is left or wanted.
func (h *host) adopt(m *model) {
	if m.removed && m.inst == nil && m.swap == nil {
		delete(h.models, m.name)
		return
	}
	if m.next != nil {
		m.cfg, m.next, m.drains = m.next, nil, false
		m.backend = h.newBackend(m.name, m.cfg, m.out, h.log)
	}
}

// limits returns the limits of a model. One that has been replaced grants to
// nobody new until its last request has ended.
func (h *host) limits(id string) scheduler.Limits {
	m := h.models[id]
	if m == nil {
		return scheduler.Limits{}
	}
	l := scheduler.Limits{Concurrency: m.cfg.Concurrency, Capacity: m.cfg.Capacity, Paused: m.paused || h.isFrozen(m) && m.state != scheduler.StateReady}
	if m.next != nil {
		l.Concurrency = 1
	}
	return l
}
