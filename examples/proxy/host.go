package main

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"example.com/scheduler"
	"example.com/scheduler/examples/internal/config"
)

// host is the server as its scheduler sees it. One goroutine, the run loop, calls
// the scheduler and is called by it, and owns all that follows the line below. A
// model's process is started, watched and stopped by goroutines that do the
// waiting and then tell the run loop what became of it.
//
// This file is the part that every host needs, whatever its models are made of:
// the run loop, the request's way through it, and the Effects.
type host struct {
	log        *slog.Logger
	newBackend backendFactory
	metrics    *metrics
	cfg        atomic.Pointer[config.Config] // replaced by a reload, never changed
	keys       openKeys
	transport  *http.Transport // to the models

	events    chan func()   // what happens
	questions chan func()   // what changes nothing
	quit      chan struct{} // ends the run loop
	quitOnce  sync.Once
	ended     chan struct{}   // closed when the run loop has ended
	watch     watch           // for changes of what is in status
	open      context.Context // ends when shutdown begins
	shut      context.CancelFunc

	// ---- The run loop's own.

	sched    *scheduler.FIFO
	policy   policy
	models   map[string]*model // configured, or with a process left
	running  map[string]scheduler.ProcessState
	leases   leases
	inFlight int
	swaps    int           // outstanding
	frozen   bool          // pods can be neither made nor deleted
	closing  bool          // shutdown has begun
	idle     chan struct{} // closed when nothing is in flight, while closing
	gone     chan struct{} // closed when nothing is left, while closing
}

// newHost makes a host of the models in cfg. Somebody has to call run.
func newHost(cfg *config.Config, log *slog.Logger, newBackend backendFactory) (*host, error) {
	h := &host{
		log:        log,
		newBackend: newBackend,
		metrics:    newMetrics(),
		transport:  newTransport(),
		events:     make(chan func()),
		questions:  make(chan func()),
		quit:       make(chan struct{}),
		ended:      make(chan struct{}),
		models:     make(map[string]*model),
		leases:     newLeases(),
		running:    make(map[string]scheduler.ProcessState),
		idle:       make(chan struct{}),
		gone:       make(chan struct{}),
	}
	h.policy.host = h
	if err := h.policy.replace(cfg); err != nil {
		return nil, err
	}
	h.open, h.shut = context.WithCancel(context.Background())
	h.sched = scheduler.NewFIFO("proxy", log, &h.policy, h, scheduler.FIFOOptions{
		Priority: priorityOf,
		Limits:   h.limits,
		MaxQueue: cfg.Queue.MaxQueue,
		Patience: time.Duration(cfg.Queue.Patience),
		Cooldown: time.Duration(cfg.Queue.Cooldown),
	})
	h.configure(cfg)
	return h, nil
}

// config returns the present configuration.
func (h *host) config() *config.Config { return h.cfg.Load() }

// run is the run loop. It returns after shutdown.
//
// Duty 1: one goroutine calls the scheduler. Whoever has something to tell it
// sends a function that tells it.
func (h *host) run() {
	defer close(h.ended)
	for {
		select {
		case event := <-h.events:
			event()
			h.watch.change()
			h.checkEnd()
		case question := <-h.questions:
			question()
		case <-h.quit:
			return
		}
	}
}

// post hands event to the run loop and does not wait until it has happened. It
// reports false when the loop has ended. It must not be called on the loop.
func (h *host) post(event func()) bool {
	select {
	case h.events <- event:
		return true
	case <-h.ended:
		return false
	}
}

// do is post, and waits until event has happened.
func (h *host) do(event func()) bool { return await(h.post, event) }

// ask is do for a question, which changes nothing and wakes nobody who watches.
func (h *host) ask(question func()) bool {
	return await(func(f func()) bool {
		select {
		case h.questions <- f:
			return true
		case <-h.ended:
			return false
		}
	}, question)
}

// await sends f through send and waits until it has run.
func await(send func(func()) bool, f func()) bool {
	done := make(chan struct{})
	if !send(func() { defer close(done); f() }) {
		return false
	}
	<-done
	return true
}

// ticket is a caller's place in the scheduler.
type ticket struct {
	req    scheduler.HandlerReq
	queued chan struct{} // closed once it is known that it has to wait
}

// request asks the scheduler for a model. The answer comes on t.req.Respond, and
// places in the queue on t.req.PositionCh. The caller must from then on either
// receive the answer or, once ctx has ended, call leave: the run loop waits for
// one of the two. Ctx bounds the waiting only, not the serving.
//
// An answer without an error has a HandleFunc, which has to be called exactly
// once. It passes a request on to the model and then gives the model back; with
// a nil request it only gives it back.
func (h *host) request(ctx context.Context, model string, priority int) *ticket {
	t := &ticket{
		req: scheduler.HandlerReq{
			Model:      model,
			Ctx:        context.WithValue(ctx, priorityKey{}, priority),
			Respond:    make(chan scheduler.HandlerResp), // Duty 6: one request's, and unbuffered.
			PositionCh: make(chan int, 1),
		},
		queued: make(chan struct{}),
	}
	asked := func() {
		h.onRequest(&t.req)
		close(t.queued)
	}
	if !h.post(asked) {
		go func() { // As an answer of the scheduler would come.
			select {
			case t.req.Respond <- scheduler.HandlerResp{Err: scheduler.ErrShutdown}:
			case <-ctx.Done():
			}
		}()
	}
	return t
}

// leave takes back a request whose ctx has ended before its answer was received.
//
// Duty 5: OnCancel comes after the request was delivered; request has seen to it.
func (h *host) leave(t *ticket) { h.post(func() { scheduler.Cancel(h.sched, t.req) }) }

// ModelState implements scheduler.Effects.
func (h *host) ModelState(id string) (scheduler.ProcessState, bool) {
	m := h.models[id]
	if m == nil {
		return scheduler.StateStopped, false
	}
	return m.state, !m.removed
}

// RunningModels implements scheduler.Effects.
func (h *host) RunningModels() map[string]scheduler.ProcessState { return h.running }

// GrantServe implements scheduler.Effects.
//
// Duty 4: it returns true only if the caller has taken the handler, and waits
// only for a caller who is there or whose Ctx ends.
// Duty 3: a handler that was taken reports its end exactly once, also when it
// panics or its connection is hijacked, and with its lease.
func (h *host) GrantServe(req scheduler.HandlerReq, id string) bool {
	m := h.models[id]
	e := h.grant(m, req)
	var once sync.Once
	serve := func(w http.ResponseWriter, r *http.Request) {
		defer once.Do(func() {
			h.post(func() { h.served(m, req.Lease) })
		})
		if r != nil {
			e.serve(w, r)
		}
	}
	select {
	case req.Respond <- scheduler.HandlerResp{HandleFunc: serve}:
		m.inFlight++
		m.uses++
		h.inFlight++
		return true
	case <-req.Ctx.Done():
		h.leases.end(req.Lease)
		return false
	}
}

// served handles that the handler of a request has returned.
func (h *host) served(m *model, lease uint64) {
	if !h.hold(m, lease) {
		h.giveBack(m, lease)
	}
}

// giveBack handles the end of a request. A model that has been replaced stops once
// its last one has ended, before the scheduler could grant the next.
func (h *host) giveBack(m *model, lease uint64) {
	h.leases.end(lease)
	m.inFlight--
	h.inFlight--
	if m.inFlight == 0 {
		h.rest(m)
	}
	h.sched.OnServeDone(scheduler.ServeDoneEvent{ModelID: m.name, Lease: lease})
}

// GrantError implements scheduler.Effects.
func (h *host) GrantError(req scheduler.HandlerReq, err error) {
	delete(h.leases.nested, req.Respond)
	select {
	case req.Respond <- scheduler.HandlerResp{Err: err}:
	case <-req.Ctx.Done():
	}
}

// StartSwap implements scheduler.Effects.
//
// Duty 2: every swap ends with exactly one OnSwapDone; see swap.run.
func (h *host) StartSwap(id string, evict []string) {
	s := h.newSwap(h.models[id], evict)
	h.swaps++
	go func() {
		s.run()
		h.post(func() { h.swapDone(s) })
	}()
}

// CancelSwap implements scheduler.SwapCanceler.
func (h *host) CancelSwap(id string) {
	if s := h.models[id].swap; s != nil {
		s.cancel(errLoadCancelled)
	}
}

// StopProcesses implements scheduler.Effects.
//
// Duty 8: it returns before the processes have stopped, so that the run loop is
// never held up. Until then their state is stopping, and a swap that needs their
// room waits for them; see swap.run.
func (h *host) StopProcesses(timeout time.Duration, ids []string) {
	for _, id := range ids {
		h.CancelSwap(id)
		h.stop(h.models[id], timeout)
	}
}
