package scheduler

import (
	"cmp"
	"container/heap"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// sim is a host in virtual time, with its models and their callers: a loop over a
// heap of events. A seed gives the same run every time.
type sim struct {
	t        *testing.T
	rng      *rand.Rand
	fifo     *FIFO
	now      time.Duration // since the start
	until    time.Duration // the last moment at which a caller comes
	events   simEvents
	created  int // events so far
	models   []*simModel
	running  map[string]ProcessState
	byTenant map[string]*simWaits
}

// simModel is a model and its process.
type simModel struct {
	name     string
	load     time.Duration
	service  time.Duration // on average: one takes 0.5 to 1.5 times as long
	servers  int           // its Concurrency
	capacity int           // its Capacity

	state    ProcessState
	changed  time.Duration // when it came to be in that state
	ready    time.Duration // how long it was ready, while callers came
	swap     *simEvent     // the end of the outstanding swap for it
	inFlight int
	waiting  []*simCaller  // in order of arrival
	granted  time.Duration // when a request was last granted
	unserved time.Duration // the longest time without a grant while one request waited
	waits    simWaits
}

// simSource is where requests come from. In an open loop they come at random, with a
// rate. In a closed loop there is a number of callers, and each comes back after it
// was served or refused, or has left.
type simSource struct {
	model, tenant string
	rate          float64       // of an open loop, per second
	callers       int           // of a closed loop
	back          time.Duration // how long they stay away
	timeout       time.Duration // how long a caller waits before it leaves; 0: forever
	jitter        float64       // how far a time-out is off at most, as a part of it
}

// simCaller is one request.
type simCaller struct {
	source  *simSource
	model   *simModel
	req     HandlerReq
	arrived time.Duration
	done    bool // it was answered, or the caller has left
}

// simWaits are the waits of granted requests.
type simWaits struct {
	n              int
	total, longest time.Duration
}

// mean returns the mean wait.
func (w *simWaits) mean() time.Duration { return w.total / time.Duration(max(1, w.n)) }

// add counts one wait.
func (w *simWaits) add(d time.Duration) {
	w.n++
	w.total += d
	w.longest = max(w.longest, d)
}

func (w *simWaits) String() string {
	return fmt.Sprintf("served %d, wait %.1f s, longest %.1f s", w.n, w.mean().Seconds(), w.longest.Seconds())
}

// simKind is what happens in an event.
type simKind int

const (
	simComes simKind = iota
	simLeaves
	simSwapEnds
	simServeEnds
)

// simEvent is what happens at one moment.
type simEvent struct {
	at     time.Duration
	number int // decides between two events at the same moment
	kind   simKind
	source *simSource // simComes
	caller *simCaller // simLeaves, simServeEnds
	lease  uint64     // simServeEnds
	model  *simModel  // simSwapEnds
	err    error      // simSwapEnds
}

// simEvents is a heap of future events, the next one first.
type simEvents []*simEvent

func (h simEvents) Len() int      { return len(h) }
func (h simEvents) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h simEvents) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(h[i].at, h[j].at), cmp.Compare(h[i].number, h[j].number)) < 0
}
func (h *simEvents) Push(x any) { *h = append(*h, x.(*simEvent)) }
func (h *simEvents) Pop() any {
	last := len(*h) - 1
	ev := (*h)[last]
	*h = (*h)[:last]
	return ev
}

const (
	simStop  = 100 * time.Millisecond // what it takes to stop models only, or to abort a load
	simRetry = time.Second            // how long a refused caller stays away at least
)

var errSimCancelled = errors.New("load cancelled")

var (
	_ Effects      = (*sim)(nil)
	_ SwapCanceler = (*sim)(nil)
)

// newSim makes a host with these models, all of them stopped.
func newSim(t *testing.T, seed uint64, swapper Swapper, opts FIFOOptions, models ...simModel) *sim {
	s := &sim{
		t:        t,
		rng:      rand.New(rand.NewPCG(seed, 0)),
		running:  make(map[string]ProcessState),
		byTenant: make(map[string]*simWaits),
	}
	for _, m := range models {
		m.state = StateStopped
		s.models = append(s.models, &m)
	}
	opts.Now = func() time.Time { return time.Unix(0, 0).Add(s.now) }
	opts.Limits = func(id string) Limits {
		m := s.model(id)
		return Limits{Concurrency: m.servers, Capacity: m.capacity}
	}
	s.fifo = NewFIFO("sim", nil, swapper, s, opts)
	return s
}

// model returns the model of that name.
func (s *sim) model(id string) *simModel {
	for _, m := range s.models {
		if m.name == id {
			return m
		}
	}
	s.t.Fatalf("no model %q", id)
	return nil
}

// add adds a source of requests. The callers of a closed loop come at once.
func (s *sim) add(src simSource) {
	if src.rate > 0 {
		s.nextOf(&src)
	}
	for range src.callers {
		s.after(0, simEvent{kind: simComes, source: &src})
	}
}

// nextOf schedules the next request of an open loop.
func (s *sim) nextOf(src *simSource) {
	s.after(time.Duration(s.rng.ExpFloat64()/src.rate*float64(time.Second)), simEvent{kind: simComes, source: src})
}

// after schedules ev in d from now.
func (s *sim) after(d time.Duration, ev simEvent) *simEvent {
	s.created++
	ev.at, ev.number = s.now+d, s.created
	heap.Push(&s.events, &ev)
	return &ev
}

// about returns a random duration that is off from d by at most that part of it.
func (s *sim) about(d time.Duration, part float64) time.Duration {
	return time.Duration(float64(d) * (1 + part*(2*s.rng.Float64()-1)))
}

// run lets callers come for that long, waits until nothing happens any more, and checks
// that no request is still waiting.
func (s *sim) run(d time.Duration) {
	s.until = d
	for len(s.events) > 0 {
		ev := heap.Pop(&s.events).(*simEvent)
		s.now = ev.at
		switch ev.kind {
		case simComes:
			s.comes(ev.source)
		case simLeaves:
			s.leaves(ev.caller)
		case simSwapEnds:
			s.swapEnds(ev)
		case simServeEnds:
			ev.caller.model.inFlight--
			s.fifo.OnServeDone(ServeDoneEvent{ModelID: ev.caller.model.name, Lease: ev.lease})
			s.again(ev.caller.source, ev.caller.source.back)
		}
	}
	s.checkDrained()
}

// comes lets a request of src arrive, unless callers have stopped coming.
func (s *sim) comes(src *simSource) {
	if s.now > s.until {
		return
	}
	if src.rate > 0 {
		s.nextOf(src)
	}
	c := &simCaller{source: src, model: s.model(src.model), arrived: s.now}
	c.req = HandlerReq{Model: src.model, Host: c}
	if src.timeout > 0 {
		c.req.Respond = make(chan HandlerResp)
	}
	c.model.waiting = append(c.model.waiting, c)
	s.fifo.OnRequest(c.req)
	if src.timeout > 0 && !c.done {
		s.after(s.about(src.timeout, src.jitter), simEvent{kind: simLeaves, caller: c})
	}
}

// again lets a caller of a closed loop come back.
func (s *sim) again(src *simSource, away time.Duration) {
	if src.rate == 0 {
		s.after(away, simEvent{kind: simComes, source: src})
	}
}

// leaves lets a caller leave if its request is still waiting.
func (s *sim) leaves(c *simCaller) {
	if c.done {
		return
	}
	s.answered(c)
	s.fifo.OnCancel(c.req)
	s.again(c.source, c.source.back)
}

// answered takes c from the waiting requests of its model.
func (s *sim) answered(c *simCaller) {
	if c.done {
		s.t.Errorf("%v: a second answer for a request for %s", s.now, c.model.name)
		return
	}
	c.done = true
	m := c.model
	m.unserved = max(m.unserved, s.now-max(m.granted, m.waiting[0].arrived))
	i := slices.Index(m.waiting, c)
	m.waiting = slices.Delete(m.waiting, i, i+1)
}

// swapEnds reports the end of a swap. If the swap was cancelled meanwhile, ev is not
// its end.
func (s *sim) swapEnds(ev *simEvent) {
	m := ev.model
	if m.swap != ev {
		return
	}
	m.swap = nil
	if ev.err == nil {
		s.set(m, StateReady)
	} else if m.state == StateStarting {
		s.set(m, StateStopped)
	}
	s.fifo.OnSwapDone(SwapDone{ModelID: m.name, Err: ev.err})
}

// set sets the state of m and counts how long it was ready.
func (s *sim) set(m *simModel, state ProcessState) {
	if m.state == StateReady {
		m.ready += max(0, min(s.now, s.until)-m.changed)
	}
	m.state, m.changed, s.running[m.name] = state, s.now, state
	if state == StateStopped {
		delete(s.running, m.name)
	}
}

// checkDrained checks that every request was answered and everything has ended.
func (s *sim) checkDrained() {
	for _, m := range s.models {
		if len(m.waiting) > 0 || m.inFlight > 0 || m.swap != nil {
			s.t.Errorf("%s: %d wait, %d in flight, swap outstanding: %t",
				m.name, len(m.waiting), m.inFlight, m.swap != nil)
		}
		s.set(m, m.state)
	}
	snap := s.fifo.Snapshot()
	if len(snap.Waiting)+len(snap.Swaps)+len(snap.Reserved) > 0 {
		s.t.Errorf("at the end: %+v", snap)
	}
}

// ModelState implements [Effects].
func (s *sim) ModelState(id string) (ProcessState, bool) { return s.model(id).state, true }

// RunningModels implements [Effects].
func (s *sim) RunningModels() map[string]ProcessState { return s.running }

// StartSwap implements [Effects]. The load includes the time to stop other models,
// so they are stopped at once.
func (s *sim) StartSwap(id string, evict []string) {
	for _, name := range evict {
		if e := s.model(name); e.inFlight > 0 || e.swap != nil {
			s.t.Errorf("%v: a swap for %s stops %s, which is busy", s.now, id, name)
		}
		s.set(s.model(name), StateStopped)
	}
	m, takes := s.model(id), simStop
	if m.state != StateReady {
		takes = m.load
		s.set(m, StateStarting)
	}
	m.swap = s.after(takes, simEvent{kind: simSwapEnds, model: m})
}

// CancelSwap implements [SwapCanceler].
func (s *sim) CancelSwap(id string) {
	m := s.model(id)
	m.swap = s.after(simStop, simEvent{kind: simSwapEnds, model: m, err: errSimCancelled})
}

// GrantServe implements [Effects].
func (s *sim) GrantServe(req HandlerReq, id string) bool {
	c := req.Host.(*simCaller)
	m := c.model
	if m.name != id || m.state != StateReady || m.inFlight >= m.servers {
		s.t.Errorf("%v: %s granted while %s, %d in flight", s.now, id, m.state, m.inFlight)
	}
	s.answered(c)
	m.granted = s.now
	m.inFlight++
	tenant := s.byTenant[c.source.tenant]
	if tenant == nil {
		tenant = &simWaits{}
		s.byTenant[c.source.tenant] = tenant
	}
	m.waits.add(s.now - c.arrived)
	tenant.add(s.now - c.arrived)
	s.after(s.about(m.service, 0.5), simEvent{kind: simServeEnds, caller: c, lease: req.Lease})
	return true
}

// GrantError implements [Effects].
func (s *sim) GrantError(req HandlerReq, err error) {
	c := req.Host.(*simCaller)
	s.answered(c)
	s.again(c.source, max(c.source.back, simRetry))
}

// StopProcesses implements [Effects]. No test unloads a model.
func (s *sim) StopProcesses(time.Duration, []string) {}
