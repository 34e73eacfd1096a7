package scheduler

import (
	"math"
	"time"
)

// model is the one record of a model. It exists while the scheduler holds
// anything of the model, and from its first load or grant on.
type model struct {
	name  string
	queue queue // waiting
	index int   // in FIFO.waiting, while somebody waits

	state ProcessState // as the last look at the model found it
	known bool         // likewise: the host knows it

	swap        *swap        // outstanding, of which it is the target
	leaving     *swap        // outstanding, that stops it
	reservation *reservation // that it holds
	closedBy    *reservation // whose plan it is in; nil: it is open
	closedAt    uint64       // the latest arrival before it was closed

	open       int      // leases that have not ended, those written off included
	unended    []uint64 // these leases in order, and some that have ended
	writtenOff uint64   // leases up to this one are written off
	inFlight   int      // leases that have not ended and are not written off
	lastUsed   uint64   // the lease of the latest grant

	loadKnown  bool
	load       time.Duration // how long its latest load took
	readySince time.Time     // when its latest load ended; zero: since ever
	failures   int           // in a row, with a Cooldown
	failure    error         // the latest
	coolUntil  time.Time     // zero: it is not cooling down

	epoch   uint64   // of the answers
	answers []answer // of the Swapper, to different questions
	asOf    uint64   // the epoch of what follows: the answer as things are
	evict   []string
	err     error
	reason  WaitReason // why its requests wait, as the last look found it
	on      []string   // the models that they wait on
}

// swap is an outstanding swap.
type swap struct {
	model   *model
	evict   []*model
	started time.Time
	loads   bool // its target was not ready when it started

	abandoned bool          // nobody is served by its SwapDone
	unloaded  bool          // its target is stopped again if it succeeds
	timeout   time.Duration // of that unload
}

// loading reports whether the requests of m are being loaded for.
func (m *model) loading() bool { return m.swap != nil && !m.swap.abandoned }

const (
	// everybody is later than any arrival.
	everybody = math.MaxUint64
	// doublings is how often a cool-down doubles: to 32 times.
	doublings = 5
	// longestCooldown can double so often.
	longestCooldown = time.Duration(math.MaxInt64 >> doublings)
	// roomy is how many entries an empty map or slice may have room for.
	roomy = 1024
)

// limit is the latest arrival that m grants to: a closed one grants only to those
// who arrived before it was closed (R8).
func (m *model) limit() uint64 {
	if m.closedBy != nil {
		return m.closedAt
	}
	return everybody
}

// writeOff stops counting the leases of m as in flight (R11).
func (m *model) writeOff(latest uint64) {
	m.writtenOff = latest
	m.inFlight = 0
}

// note notes why the requests of m wait, and on which models.
func (m *model) note(reason WaitReason, on ...string) {
	m.reason, m.on = reason, append(m.on[:0], on...)
}

// forget lets go of the answers to all questions but the common one.
func (m *model) forget() {
	if cap(m.answers) > 1 {
		m.epoch, m.asOf, m.answers = 0, 0, nil
	}
}

// record returns the record of a model, and makes it if there is none.
func (f *FIFO) record(name string) *model {
	m := f.models[name]
	if m == nil {
		m = &model{name: name}
		f.models[name] = m
		f.release(m)
	}
	return m
}

// observe looks at m. What the host does not know cannot be ready.
func (f *FIFO) observe(m *model) {
	if m.state, m.known = f.eff.ModelState(m.name); !m.known {
		m.state = StateStopped
	}
}

// release notes that m may have nothing left to hold.
func (f *FIFO) release(m *model) {
	if !m.remembered() {
		f.loose = append(f.loose, m)
	}
}

// sweep drops the records that have nothing to hold and nothing to remember.
func (f *FIFO) sweep() {
	for _, m := range f.loose {
		if !m.remembered() && !m.holds() {
			delete(f.models, m.name)
		}
	}
	clear(f.loose)
	f.loose = empty(f.loose)
}

// remembered reports whether m was ever loaded or granted.
func (m *model) remembered() bool {
	return m.loadKnown || !m.readySince.IsZero() || m.failures > 0 || m.lastUsed > 0
}

// holds reports whether the scheduler holds anything of m.
func (m *model) holds() bool {
	return m.queue.n > 0 || m.open > 0 || m.swap != nil || m.leaving != nil ||
		m.reservation != nil || m.closedBy != nil
}

// hasSlot reports whether one more request may be in flight for m (R9).
func (f *FIFO) hasSlot(m *model) bool {
	c := f.limits(m).Concurrency
	return c <= 0 || m.inFlight < c
}

// limits asks for the limits of m.
func (f *FIFO) limits(m *model) Limits {
	if f.opts.Limits == nil {
		return Limits{}
	}
	return f.opts.Limits(m.name)
}

// cooldown records a failed swap of m: it refuses requests for a time that
// doubles with each failure in a row (R13).
func (f *FIFO) cooldown(m *model, err error) {
	if f.opts.Cooldown <= 0 {
		return
	}
	m.failure = err
	m.coolUntil = f.now().Add(min(f.opts.Cooldown, longestCooldown) << min(m.failures, doublings))
	m.failures++
}

// cooled clears the failures of m.
func (m *model) cooled() {
	m.failures, m.failure, m.coolUntil = 0, nil, time.Time{}
}

// coolingDown returns what is left of m's cool-down, 0 if it has none. A model
// that is ready has none, however it came to be.
func (f *FIFO) coolingDown(m *model) time.Duration {
	if m.coolUntil.IsZero() || m.state == StateReady {
		return 0
	}
	return max(0, m.coolUntil.Sub(f.now()))
}

// shrink gives back what the map took at a peak once it is empty, because a map
// that has grown stays as large.
func (f *FIFO) shrink() {
	if f.peak = max(f.peak, f.queued); f.peak > roomy && f.queued == 0 {
		f.peak = 0
		f.byRespond = make(map[chan HandlerResp]*request)
	}
}

// empty returns s without its elements, which hold nothing any more, and keeps its
// memory unless that is a lot.
func empty[T any](s []T) []T {
	if cap(s) > roomy {
		return nil
	}
	return s[:0]
}
