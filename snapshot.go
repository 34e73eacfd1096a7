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
	// Reserved are the reservations, in the order of taking.
	Reserved []Reservation `json:"reserved"`
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
	// Drain is how long it takes to finish what it has once it is closed, on average.
	// 0: not known.
	Drain time.Duration `json:"-"`
	// CoolingDown is how long it goes on to refuse requests. 0: it does not.
	CoolingDown time.Duration `json:"-"`
}

// Reservation keeps room for a model that has waited for too long.
type Reservation struct {
	Model string `json:"model"`
	// Plan are the models that its swap is planned to stop.
	Plan []string `json:"plan"`
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
	Tenant   string `json:"tenant"`
	Priority int    `json:"priority"`
	// Position is 0 while the model is being loaded for it, else its place in the
	// queue, from 1.
	Position int           `json:"position"`
	Age      time.Duration `json:"-"`
	// Overdue: it has waited for so long that its model may take a reservation, as the
	// last event found it. Never so for a paused model.
	Overdue bool `json:"overdue"`
	// Reason says why it waits, and On for which models, sorted.
	Reason WaitReason `json:"reason"`
	On     []string   `json:"on"`
}

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
	m := r.line.owner
	age := f.step.time().Sub(r.since)
	status := WaitStatus{
		Model:    m.name,
		Tenant:   r.tenant,
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

// MarshalJSON writes the durations in seconds.
func (s ModelStatus) MarshalJSON() ([]byte, error) {
	type plain ModelStatus
	return json.Marshal(struct {
		plain
		Load        float64 `json:"load"`
		Drain       float64 `json:"drain"`
		CoolingDown float64 `json:"cooling_down"`
	}{plain(s), s.Load.Seconds(), s.Drain.Seconds(), s.CoolingDown.Seconds()})
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
