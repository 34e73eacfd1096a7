package scheduler

import (
	"encoding/json"
	"maps"
	"slices"
	"time"
)

// Snapshot is what a [FIFO] knows at one moment, for status pages, metrics and tests.
// It is a copy and belongs to the caller. In JSON the keys are in lower_snake_case, the
// durations are seconds, and the slices are never null.
type Snapshot struct {
	// Models has every model that has requests in flight or waiting, is cooling down,
	// or has been loaded. It is sorted by name.
	Models []ModelStatus `json:"models"`
	// Swaps has the outstanding swaps, sorted by model. A swap whose Age is far beyond
	// Expected, and which the host no longer works on, has lost its OnSwapDone.
	Swaps []SwapStatus `json:"swaps"`
	// Waiting has the waiting requests in the order of their rank (R6). Those whose
	// model is being loaded for them come first.
	Waiting []WaitStatus `json:"waiting"`
	// Reserved has the reservations, in the order in which they were taken (R8).
	Reserved []Reservation `json:"reserved"`
	// Counters has what has happened since the FIFO was made.
	Counters Counters `json:"counters"`
}

// ModelStatus is one model in a [Snapshot].
type ModelStatus struct {
	Model    string `json:"model"`
	InFlight int    `json:"in_flight"`
	Waiting  int    `json:"waiting"`
	// Closed: a reservation has closed the model, and requests that arrive now wait.
	Closed bool `json:"closed"`
	// Load is how long the latest load took. 0: not known.
	Load time.Duration `json:"-"`
	// Drain is how long the model takes, on average, to finish what it has once it is
	// closed. 0: not known.
	Drain time.Duration `json:"-"`
	// CoolingDown is what is left of the cool-down (R13). 0: the model is not cooling
	// down.
	CoolingDown time.Duration `json:"-"`
}

// Reservation keeps a place for a model that has waited for too long.
type Reservation struct {
	Model string `json:"model"`
	// Plan has the models that its swap is to stop.
	Plan []string `json:"plan"`
}

// SwapStatus is one outstanding swap in a [Snapshot].
type SwapStatus struct {
	Model string   `json:"model"`
	Evict []string `json:"evict"`
	// Age is the time since StartSwap. Expected is how long the swap is expected to take
	// in all: as long as the latest load of the model, or else of any model, or else 10
	// seconds.
	Age      time.Duration `json:"-"`
	Expected time.Duration `json:"-"`
	// Waiting is how many requests wait for the model.
	Waiting int `json:"waiting"`
	// Abandoned: the result is no longer wanted, because of an unload or because no
	// request waits for it. The swap stays on the books until its OnSwapDone.
	Abandoned bool `json:"abandoned"`
}

// WaitStatus is one waiting request in a [Snapshot].
type WaitStatus struct {
	Model    string `json:"model"`
	Tenant   string `json:"tenant"`
	Priority int    `json:"priority"`
	// Position is 0 if the model is being loaded for the request. Otherwise it is the
	// place in the queue, from 1.
	Position int           `json:"position"`
	Age      time.Duration `json:"-"`
	// Overdue: the request has waited for so long that its model may take a
	// reservation, as of the latest event (R8). Never set for a paused model.
	Overdue bool `json:"overdue"`
	// Reason says why the request waits, and On on which models. On is sorted.
	Reason WaitReason `json:"reason"`
	On     []string   `json:"on"`
}

// Counters say how many requests and swaps there were, and what became of them. Requests
// is always the sum of Granted, Failed, Refused, Cancelled and the number of requests
// that wait.
type Counters struct {
	Requests  uint64 `json:"requests"`  // passed to OnRequest
	Granted   uint64 `json:"granted"`   // GrantServe returned true
	Failed    uint64 `json:"failed"`    // waited, and then got an error
	Refused   uint64 `json:"refused"`   // got an error at once
	Cancelled uint64 `json:"cancelled"` // the caller left before the answer

	Swaps          uint64 `json:"swaps"`           // started
	SwapsFailed    uint64 `json:"swaps_failed"`    // reported an error, or left the model not ready
	SwapsAbandoned uint64 `json:"swaps_abandoned"` // because of an unload, or because no request waited
	Evictions      uint64 `json:"evictions"`       // models in the evict lists of swaps
	Ignored        uint64 `json:"ignored"`         // reports of a lease or swap that does not exist, or has ended
}

// Snapshot returns what f knows at this moment. It is called on the run loop, and may be
// called from within an effect. It reads the clock, and asks neither the host nor the
// Swapper anything. It costs O(n log n) for n waiting requests.
func (f *FIFO) Snapshot() Snapshot {
	if !f.step.active {
		f.step.passTime()
	}
	s := Snapshot{
		Models:   []ModelStatus{},
		Swaps:    []SwapStatus{},
		Waiting:  make([]WaitStatus, 0, f.queue.waiting),
		Reserved: make([]Reservation, 0, len(f.reservations.standing)),
		Counters: f.counters,
	}
	for _, name := range slices.Sorted(maps.Keys(f.models.byName)) {
		m := f.models.byName[name]
		status := f.modelStatus(m)
		if m.account.inFlight > 0 || m.line.n > 0 || m.history.loadKnown || status.CoolingDown > 0 {
			s.Models = append(s.Models, status)
		}
	}
	for _, target := range f.swaps.targets() {
		s.Swaps = append(s.Swaps, f.swapStatus(f.models.byName[target], f.swaps.of(target)))
	}
	for _, r := range f.reservations.standing {
		s.Reserved = append(s.Reserved, Reservation{r.target, append([]string{}, r.evict...)})
	}
	var all cursors
	all.begin(f.queue.lines, true)
	for r := all.next(); r != nil; r = all.next() {
		s.Waiting = append(s.Waiting, f.waitStatus(r, 0))
	}
	all.begin(f.queue.lines, false)
	for r := all.next(); r != nil; r = all.next() {
		s.Waiting = append(s.Waiting, f.waitStatus(r, len(s.Waiting)-f.queue.loading+1))
	}
	return s
}

// modelStatus describes m.
func (f *FIFO) modelStatus(m *model) ModelStatus {
	status := ModelStatus{
		Model:    m.name,
		InFlight: m.account.inFlight,
		Waiting:  m.line.n,
		Closed:   f.reservations.closing(m.name) != nil,
		Load:     m.history.load,
		Drain:    m.history.drain,
	}
	if m.cooldown.active() {
		status.CoolingDown = m.cooldown.left(f.step.time())
	}
	return status
}

// swapStatus describes s, a swap of m.
func (f *FIFO) swapStatus(m *model, s *swap) SwapStatus {
	return SwapStatus{
		Model:     s.target,
		Evict:     append([]string{}, s.evict...),
		Age:       f.step.time().Sub(s.started),
		Expected:  f.prices.load(&m.history),
		Waiting:   m.line.n,
		Abandoned: s.abandoned,
	}
}

// waitStatus describes r and its place in the queue.
func (f *FIFO) waitStatus(r *request, place int) WaitStatus {
	m := r.line().owner
	age := f.step.time().Sub(r.since)
	status := WaitStatus{
		Model:    m.name,
		Tenant:   r.turn.tenant,
		Priority: r.priority,
		Position: place,
		Age:      age,
		Overdue:  !r.since.After(m.overdue.since),
	}
	closing := f.reservations.closing(m.name)
	switch {
	case m.line.loading:
		status.Reason, status.On = WaitLoading, []string{m.name}
	case f.swaps.of(m.name) != nil:
		status.Reason, status.On = WaitSwap, []string{m.name}
	case closing != nil && m.block.reason != WaitPaused && r.arrival > closing.arrival:
		status.Reason, status.On = WaitClosed, []string{closing.by.target}
	default:
		status.Reason, status.On = m.block.reason, append([]string{}, m.block.on...)
	}
	return status
}

// MarshalJSON implements [json.Marshaler]. It writes the durations in seconds.
func (s ModelStatus) MarshalJSON() ([]byte, error) {
	type plain ModelStatus
	return json.Marshal(struct {
		plain
		Load        float64 `json:"load"`
		Drain       float64 `json:"drain"`
		CoolingDown float64 `json:"cooling_down"`
	}{plain(s), s.Load.Seconds(), s.Drain.Seconds(), s.CoolingDown.Seconds()})
}

// MarshalJSON implements [json.Marshaler]. It writes the durations in seconds.
func (s SwapStatus) MarshalJSON() ([]byte, error) {
	type plain SwapStatus
	return json.Marshal(struct {
		plain
		Age      float64 `json:"age"`
		Expected float64 `json:"expected"`
	}{plain(s), s.Age.Seconds(), s.Expected.Seconds()})
}

// MarshalJSON implements [json.Marshaler]. It writes the durations in seconds.
func (s WaitStatus) MarshalJSON() ([]byte, error) {
	type plain WaitStatus
	return json.Marshal(struct {
		plain
		Age float64 `json:"age"`
	}{plain(s), s.Age.Seconds()})
}
