package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"example.com/scheduler"
)

// host runs a scheduler in virtual time: a loop over a heap of events, with models that
// only pretend to load and to serve. There is no goroutine and no clock, so a seed gives
// the same run every time.
//
// It checks the scheduler while it runs. The first thing that must not happen ends the
// run: see [host.fail].
type host struct {
	sched  *scheduler.FIFO
	until  time.Duration // the last moment at which a caller comes
	now    time.Duration // since the start
	number uint64        // of the present event
	made   uint64        // events so far
	events events
	err    error

	models  []*process
	byName  map[string]*process
	latest  *process // that was found
	running map[string]scheduler.ProcessState
	waiting int // requests in all
	loading int // models
	since   time.Duration

	idle     []*caller // that can be used again
	result   *result
	watching []recorder
	progress func(time.Duration) // called now and then; may be nil
}

// recorder sees what happens.
type recorder interface {
	look(h *host)                     // after each event
	answer(h *host, c *caller, o end) // c has been answered, or has left
}

// end is what became of a request.
type end string

const (
	served  end = "served"
	refused end = "refused"
	left    end = "left"
)

// process is a model and its process.
type process struct {
	model
	state    scheduler.ProcessState
	swap     uint64 // the event that ends the outstanding swap for it; 0: there is none
	failing  bool   // that swap was cancelled
	inFlight int
	waiting  int
	rng      *rand.Rand // for its loads
	waits    tally
	sharing  sharing
}

// run is one run of the simulation: what happens, and the options of the scheduler.
type run struct {
	workload  *workload
	policy    policy
	options   scheduler.FIFOOptions // without functions
	tenants   bool                  // the scheduler knows the tenants
	seed      uint64
	length    time.Duration // the time in which callers come
	recorders []recorder
	progress  func(time.Duration)
}

var (
	_ scheduler.Effects      = (*host)(nil)
	_ scheduler.SwapCanceler = (*host)(nil)
)

// epoch is when virtual time begins.
var epoch = time.Unix(0, 0)

// abort is what it takes to abort a load, or to stop models without a load.
const abort = 100 * time.Millisecond

var errCancelled = errors.New("load cancelled")

// simulate carries out a run. An error means that the scheduler or the host has done
// something that must not happen, or that the policy cannot be made.
func (r *run) simulate() (*result, error) {
	h, err := r.host()
	if err != nil {
		return nil, err
	}
	for i := range r.workload.sources {
		h.begin(&r.workload.sources[i], rand.New(rand.NewPCG(r.seed, uint64(i)<<1)))
	}
	h.run()
	h.finish()
	return h.result, h.err
}

// host returns a host to which no request has come yet.
func (r *run) host() (*host, error) {
	h := &host{
		until:    r.length,
		byName:   make(map[string]*process),
		running:  make(map[string]scheduler.ProcessState),
		result:   newResult(r),
		watching: r.recorders,
		progress: r.progress,
	}
	for i, m := range r.workload.models {
		p := &process{model: m, state: scheduler.StateStopped, rng: rand.New(rand.NewPCG(r.seed, uint64(i)<<1|1))}
		h.models, h.byName[m.name] = append(h.models, p), p
	}
	h.result.models, h.latest = h.models, h.models[0]
	swapper, err := r.policy.make(r.workload.names(), h.ready)
	if err != nil {
		return nil, err
	}
	options := r.options
	options.Now = func() time.Time { return epoch.Add(h.now) }
	options.Limits = h.limits
	options.Priority = func(req scheduler.HandlerReq) int {
		c := req.Host.(*caller)
		return c.process.priority + c.from.priority
	}
	if r.tenants {
		options.Tenant = func(req scheduler.HandlerReq) string { return req.Host.(*caller).from.tenant }
	}
	h.sched = scheduler.NewFIFO("simulate", nil, swapper, h, options)
	return h, nil
}

// run handles events until there are none.
func (h *host) run() {
	const often = 1 << 16
	for len(h.events) > 0 && h.err == nil {
		ev := h.events.pop()
		h.now, h.number = ev.at, ev.number
		ev.what.happen(h)
		for _, r := range h.watching {
			r.look(h)
		}
		if h.number%often == 0 && h.progress != nil {
			h.progress(h.now)
		}
	}
}

// after lets something happen in d from now, and returns the number of that event.
func (h *host) after(d time.Duration, what occurrence) uint64 {
	h.made++
	h.events.push(event{h.now + d, h.made, what})
	return h.made
}

// fail ends the run, because something has happened that must not.
func (h *host) fail(format string, args ...any) {
	if h.err == nil {
		h.err = fmt.Errorf("after %v: %s", h.now, fmt.Sprintf(format, args...))
	}
}

// finish checks that every request was answered and that nothing goes on.
func (h *host) finish() {
	for _, p := range h.models {
		if p.waiting > 0 || p.inFlight > 0 || p.swap != 0 {
			h.fail("%s: at the end %d requests wait, %d are in flight, swap outstanding: %t", p.name, p.waiting, p.inFlight, p.swap != 0)
		}
	}
	snap, r := h.sched.Snapshot(), h.result
	if len(snap.Waiting)+len(snap.Swaps)+len(snap.Reserved) > 0 || snap.Counters.Ignored > 0 {
		h.fail("at the end %d requests wait, %d swaps are outstanding, %d reservations stand, %d reports were ignored",
			len(snap.Waiting), len(snap.Swaps), len(snap.Reserved), snap.Counters.Ignored)
	}
	if r.requests != r.served+r.refused+r.left || uint64(r.requests) != snap.Counters.Requests {
		h.fail("%d requests, the scheduler counts %d, but %d were served, %d refused, and %d callers left",
			r.requests, snap.Counters.Requests, r.served, r.refused, r.left)
	}
	r.ended = h.now
}

// find returns the process of a model, nil if there is none. The scheduler often asks
// several questions about one model.
func (h *host) find(name string) *process {
	if h.latest.name != name {
		p := h.byName[name]
		if p == nil {
			return nil
		}
		h.latest = p
	}
	return h.latest
}

// ready reports whether a model is ready.
func (h *host) ready(name string) bool {
	p := h.find(name)
	return p != nil && p.state == scheduler.StateReady
}

// limits returns the limits of a model. Where requests share places, none waits for one.
func (h *host) limits(name string) scheduler.Limits {
	p := h.find(name)
	l := scheduler.Limits{Capacity: p.capacity}
	if !p.shared {
		l.Concurrency = p.places
	}
	return l
}

// set sets the state of p.
func (h *host) set(p *process, state scheduler.ProcessState) {
	p.state = state
	h.running[p.name] = state
	if state == scheduler.StateStopped {
		delete(h.running, p.name)
	}
}

// countLoads notes that so many more models are being loaded.
func (h *host) countLoads(more int) {
	if h.loading > 0 {
		h.result.loading += max(0, min(h.now, h.until)-h.since)
	}
	h.loading, h.since = h.loading+more, min(h.now, h.until)
}

// ModelState implements [scheduler.Effects].
func (h *host) ModelState(name string) (scheduler.ProcessState, bool) {
	p := h.find(name)
	if p == nil {
		return "", false
	}
	return p.state, true
}

// RunningModels implements [scheduler.Effects].
func (h *host) RunningModels() map[string]scheduler.ProcessState { return h.running }

// StartSwap implements [scheduler.Effects]. A load includes the time to stop other
// models, so they are stopped at once.
func (h *host) StartSwap(name string, evict []string) {
	p := h.byName[name]
	if p == nil || p.swap != 0 {
		h.fail("a swap for %s, which is unknown or has one", name)
		return
	}
	for _, other := range evict {
		e := h.byName[other]
		if e == nil || e == p || e.state != scheduler.StateReady || e.swap != 0 || e.inFlight > 0 {
			h.fail("a swap for %s stops %s, which is busy, loading or stopped", name, other)
			return
		}
		h.set(e, scheduler.StateStopped)
	}
	takes := abort
	if p.state != scheduler.StateReady {
		takes = p.loadLaw.draw(p.load, p.rng)
		h.set(p, scheduler.StateStarting)
	}
	h.result.swaps++
	h.countLoads(1)
	p.swap = h.after(takes, (*swapping)(p))
}

// CancelSwap implements [scheduler.SwapCanceler].
func (h *host) CancelSwap(name string) {
	p := h.byName[name]
	if p == nil || p.swap == 0 || p.failing {
		h.fail("the swap for %s is cancelled, but there is none", name)
		return
	}
	p.failing = true
	p.swap = h.after(abort, (*swapping)(p))
}

// swapping is the end of a swap.
type swapping process

// happen reports the end of the swap. If the swap was cancelled, its first end is void.
func (s *swapping) happen(h *host) {
	p := (*process)(s)
	if p.swap != h.number {
		return
	}
	var err error
	state := scheduler.StateReady
	if p.failing && p.state == scheduler.StateStarting {
		err, state = errCancelled, scheduler.StateStopped
	}
	p.swap, p.failing = 0, false
	h.countLoads(-1)
	h.set(p, state)
	h.sched.OnSwapDone(scheduler.SwapDone{ModelID: p.name, Err: err})
}

// StopProcesses implements [scheduler.Effects]. It is not called, because nothing is
// unloaded.
func (h *host) StopProcesses(_ time.Duration, names []string) { h.fail("%v are stopped", names) }
