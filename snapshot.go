package scheduler

import (
	"encoding/json"
	"maps"
	"slices"
	"time"
)

// Snapshot is what a [FIFO] knows at one moment, for status pages, metrics and
// tests. It is a copy and belongs to the caller. As JSON its keys are
// lower_snake_case and its durations are seconds.
type Snapshot struct {
	// Models are those with requests in flight or waiting, those that are cooling
	// down, and those whose load is known, by name.
	Models []ModelStatus `json:"models"`
	// Swaps are the outstanding ones, by model.
	Swaps []SwapStatus `json:"swaps"`
	// Waiting are the waiting requests: those being loaded for, then the queue, each
	// by priority and arrival.
	Waiting []WaitStatus `json:"waiting"`
	// Reserved are the models that hold a reservation, in the order of taking.
	Reserved []string `json:"reserved"`
	// Drain is how long models take to finish what they have once they are closed.
	Drain time.Duration `json:"-"`
	// Counters count since the scheduler was made.
	Counters Counters `json:"counters"`
}

// ModelStatus is one model in a [Snapshot].
type ModelStatus struct {
	Model    string `json:"model"`
	InFlight int    `json:"in_flight"`
	Waiting  int    `json:"waiting"`
	// Closed: a reservation has closed it to those who came later.
	Closed bool `json:"closed"`
	// Load is how long its latest load took. 0: not known.
	Load time.Duration `json:"-"`
	// CoolingDown is how long it goes on to refuse requests. 0: it does not.
	CoolingDown time.Duration `json:"-"`
}

// SwapStatus is one outstanding swap in a [Snapshot].
type SwapStatus struct {
	Model string   `json:"model"`
	Evict []string `json:"evict"`
	// Age is the time since its StartSwap; Expected is how long it is expected to
	// take in all.
	Age      time.Duration `json:"-"`
	Expected time.Duration `json:"-"`
	// Waiting counts the requests of its model.
	Waiting int `json:"waiting"`
	// Abandoned: nobody is served by its SwapDone.
	Abandoned bool `json:"abandoned"`
}

// WaitStatus is one waiting request in a [Snapshot].
type WaitStatus struct {
	Model    string `json:"model"`
	Priority int    `json:"priority"`
	// Position is 0 while the model is being loaded for it, else its place in the
	// queue, from 1.
	Position int           `json:"position"`
	Age      time.Duration `json:"-"`
	// Overdue: it has waited for so long that its model may take a reservation.
	Overdue bool `json:"overdue"`
	// Reason says why it waits, and On for which models, sorted.
	Reason WaitReason `json:"reason"`
	On     []string   `json:"on"`
}

// WaitReason says why a request waits: the first of the constants, in their
// order, that holds, as the last look at its model found it.
type WaitReason string

// The reasons to wait. After the colon: the models that WaitStatus.On names.
const (
	WaitLoading  WaitReason = "loading"  // a swap for its model is outstanding: that model
	WaitClosed   WaitReason = "closed"   // it came after its model was closed: the holder of the reservation that closed it
	WaitSlots    WaitReason = "slots"    // Concurrency is reached: its own model
	WaitBusy     WaitReason = "busy"     // models that have to be evicted are busy: those models
	WaitSwap     WaitReason = "swap"     // outstanding swaps collide with its own: their targets; its own model if that swap is abandoned
	WaitReserved WaitReason = "reserved" // its swap would hinder reservations: their holders
)

// Counters count what has happened to requests and swaps. At any moment Requests
// is Granted + Failed + Refused + Cancelled + those waiting.
type Counters struct {
	Requests  uint64 `json:"requests"`  // that OnRequest got
	Granted   uint64 `json:"granted"`   // GrantServe returned true
	Failed    uint64 `json:"failed"`    // had waited and got an error
	Refused   uint64 `json:"refused"`   // got an error at once
	Cancelled uint64 `json:"cancelled"` // the caller left first

	Swaps          uint64 `json:"swaps"`           // started
	SwapsFailed    uint64 `json:"swaps_failed"`    // reported an error, or left a model that is not ready
	SwapsAbandoned uint64 `json:"swaps_abandoned"` // by an unload, or because nobody waited
	Evictions      uint64 `json:"evictions"`       // models that swaps stopped
	Ignored        uint64 `json:"ignored"`         // reports of a lease or swap never issued or already ended
}

// Snapshot returns what f knows at this moment. It is called on the run loop, also
// from within an effect, asks nobody, and costs O(n log n) for n waiting requests.
func (f *FIFO) Snapshot() Snapshot {
	if !f.handling {
		f.clocked = false
	}
	s := Snapshot{
		Models:   []ModelStatus{},
		Swaps:    []SwapStatus{},
		Waiting:  make([]WaitStatus, 0, f.queued),
		Reserved: make([]string, 0, len(f.reservations)),
		Drain:    f.drain,
		Counters: f.counters,
	}
	if f.arriving { // It is neither answered nor waiting.
		s.Counters.Requests--
	}
	for _, name := range slices.Sorted(maps.Keys(f.models)) {
		m := f.models[name]
		if status := f.modelStatus(m); m.inFlight > 0 || m.queue.n > 0 || m.loadKnown || status.CoolingDown > 0 {
			s.Models = append(s.Models, status)
		}
		if m.swap != nil {
			s.Swaps = append(s.Swaps, f.swapStatus(m.swap))
		}
	}
	for _, r := range f.reservations {
		s.Reserved = append(s.Reserved, r.model.name)
	}
	place := 0
	for _, r := range f.inOrder() {
		if !r.model.loading() {
			place++
		}
		s.Waiting = append(s.Waiting, f.waitStatus(r, place))
	}
	return s
}

// modelStatus describes m. A model whose state the host has changed by itself
// cools down until the next look at it.
func (f *FIFO) modelStatus(m *model) ModelStatus {
	return ModelStatus{
		Model:       m.name,
		InFlight:    m.inFlight,
		Waiting:     m.queue.n,
		Closed:      m.closedBy != nil,
		Load:        m.load,
		CoolingDown: f.coolingDown(m),
	}
}

// swapStatus describes s.
func (f *FIFO) swapStatus(s *swap) SwapStatus {
	status := SwapStatus{
		Model:     s.model.name,
		Evict:     make([]string, 0, len(s.evict)),
		Age:       f.now().Sub(s.started),
		Expected:  f.loadOf(s.model),
		Waiting:   s.model.queue.n,
		Abandoned: s.abandoned,
	}
	for _, e := range s.evict {
		status.Evict = append(status.Evict, e.name)
	}
	return status
}

// inOrder returns the waiting requests in the order of R16: those being loaded
// for, then the queue.
func (f *FIFO) inOrder() []*request {
	order := make([]*request, 0, f.queued)
	for _, m := range f.waiting {
		m.queue.each(func(r *request) { order = append(order, r) })
	}
	slices.SortFunc(order, func(a, b *request) int {
		if x, y := a.model.loading(), b.model.loading(); x != y {
			if x {
				return -1
			}
			return 1
		}
		return compare(a, b)
	})
	return order
}

// waitStatus describes r and its place in the queue.
func (f *FIFO) waitStatus(r *request, place int) WaitStatus {
	m := r.model
	status := WaitStatus{
		Model:    m.name,
		Priority: r.priority,
		Position: place,
		Age:      f.now().Sub(r.since),
		Overdue:  f.overdue(r),
	}
	switch {
	case m.loading():
		status.Reason, status.On = WaitLoading, []string{m.name}
	case m.swap != nil:
		status.Reason, status.On = WaitSwap, []string{m.name}
	case r.arrival > m.limit():
		status.Reason, status.On = WaitClosed, []string{m.closedBy.model.name}
	default:
		status.Reason, status.On = m.reason, append([]string{}, m.on...)
	}
	return status
}

// MarshalJSON writes the durations in seconds.
func (s Snapshot) MarshalJSON() ([]byte, error) {
	type plain Snapshot
	return json.Marshal(struct {
		plain
		Drain float64 `json:"drain"`
	}{plain(s), s.Drain.Seconds()})
}

// MarshalJSON writes the durations in seconds.
func (s ModelStatus) MarshalJSON() ([]byte, error) {
	type plain ModelStatus
	return json.Marshal(struct {
		plain
		Load        float64 `json:"load"`
		CoolingDown float64 `json:"cooling_down"`
	}{plain(s), s.Load.Seconds(), s.CoolingDown.Seconds()})
}

// MarshalJSON writes the durations in seconds.
func (s SwapStatus) MarshalJSON() ([]byte, error) {
	type plain SwapStatus
	return json.Marshal(struct {
		plain
		Age      float64 `json:"age"`
		Expected float64 `json:"expected"`
	}{plain(s), s.Age.Seconds(), s.Expected.Seconds()})
}

// MarshalJSON writes the durations in seconds.
func (s WaitStatus) MarshalJSON() ([]byte, error) {
	type plain WaitStatus
	return json.Marshal(struct {
		plain
		Age float64 `json:"age"`
	}{plain(s), s.Age.Seconds()})
}
