package main

import (
	"maps"
	"slices"
	"sync"
	"time"

	"example.com/scheduler"
)

// status is what the host knows at one moment.
type status struct {
	Time      time.Time          `json:"time"`
	Models    []modelStatus      `json:"models"`          // configured, or with a process left, by name
	Pools     []poolStatus       `json:"pools,omitempty"` // of the budget
	Scheduler scheduler.Snapshot `json:"scheduler"`
}

// modelStatus is one model.
type modelStatus struct {
	Model       string                 `json:"model"`
	Description string                 `json:"description,omitempty"`
	State       scheduler.ProcessState `json:"state"`
	Since       time.Time              `json:"since"`         // of State
	URL         string                 `json:"url,omitempty"` // of its process, if it has one
	InFlight    int                    `json:"in_flight"`     // handlers that have not returned
	Grants      uint64                 `json:"grants"`        // since the start of the proxy
	LastError   string                 `json:"last_error,omitempty"`
	Outdated    bool                   `json:"outdated,omitempty"` // a reload or a drain waits for its requests in flight
	Paused      bool                   `json:"paused,omitempty"`
	Placement   *int                   `json:"placement,omitempty"` // of its process, if a budget has placed it
}

// status asks the run loop. It is empty once that has ended.
func (h *host) status() (s status) {
	h.ask(func() {
		s = status{Time: time.Now(), Models: []modelStatus{}, Pools: h.pools(), Scheduler: h.sched.Snapshot()}
		for _, name := range slices.Sorted(maps.Keys(h.models)) {
			s.Models = append(s.Models, h.models[name].status())
		}
	})
	return s
}

// status describes m.
func (m *model) status() modelStatus {
	s := modelStatus{
		Model:       m.name,
		Description: m.cfg.Description,
		State:       m.state,
		Since:       m.since,
		InFlight:    m.inFlight,
		Grants:      m.uses,
		LastError:   m.lastError,
		Outdated:    m.next != nil || m.removed,
		Paused:      m.paused,
	}
	if m.inst != nil {
		s.URL = shownURL(m.inst.url())
		if placement := m.spot.index; len(m.spot.takes) > 0 {
			s.Placement = &placement
		}
	}
	return s
}

// waiting returns how many requests wait for a model.
func (h *host) waiting(name string) int {
	for _, m := range h.sched.Snapshot().Models {
		if m.Model == name {
			return m.Waiting
		}
	}
	return 0
}

// output returns what the processes of a model have printed, nil if there is no
// such model.
func (h *host) output(name string) (out *output) {
	h.ask(func() {
		if m := h.models[name]; m != nil {
			out = m.out
		}
	})
	return out
}

// watch wakes those who wait for the next change.
type watch struct {
	mu   sync.Mutex
	next chan struct{} // nil: nobody waits
}

// changed returns a channel that is closed at the next change.
func (w *watch) changed() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.next == nil {
		w.next = make(chan struct{})
	}
	return w.next
}

// change wakes everybody who waits.
func (w *watch) change() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.next != nil {
		close(w.next)
		w.next = nil
	}
}
