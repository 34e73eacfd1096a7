package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"example.com/scheduler"
	"example.com/scheduler/examples/internal/config"
	"example.com/scheduler/examples/internal/pods"
)

var (
	errLoadCancelled = errors.New("load cancelled")
	errReplaced      = errors.New("load cancelled: the model has been changed")
	errStopped       = errors.New("the proxy is stopping")
)

// model is what the run loop knows of a model. Nobody else touches it, except for
// name.
type model struct {
	name    string
	cfg     *config.Model
	backend backend
	out     *output
	next    *config.Model // replaces cfg once nothing of the present one is left; nil: none
	drains  bool          // next is cfg or later, and even the same process has to go
	removed bool          // likewise, the whole model goes
	paused  bool          // by an operator

	state     scheduler.ProcessState
	since     time.Time   // of state
	inst      instance    // nil: nothing of it is left
	spot      *spot       // where inst is, while that is there
	stuck     instance    // inst, if it could not be stopped: others make room if they can
	upstream  *upstream   // passes requests on to inst, while that is there
	swap      *swap       // outstanding, of which it is the target
	inFlight  int         // handlers that have not returned
	uses      uint64      // grants so far
	lastError string      // of a load or a crash
	expiry    *time.Timer // of its TTL; nil: none is running

	held       uint64             // lease of a request that has ended, while m may work on; 0: none
	stopAsking context.CancelFunc // whether it does
}

// set changes the state of m.
func (h *host) set(m *model, state scheduler.ProcessState) {
	if m.state == state {
		return
	}
	h.log.Debug("state", "model", m.name, "from", m.state, "to", state)
	m.state, m.since = state, time.Now()
	if state == scheduler.StateStopping && m.upstream != nil {
		m.upstream.unload()
	}
	if state == scheduler.StateStopped {
		delete(h.running, m.name)
	} else {
		h.running[m.name] = state
	}
}

// swap is one StartSwap. Its goroutine runs it and reads what newSwap has put
// down; the run loop settles it.
type swap struct {
	host    *host
	model   *model
	evict   []*model
	stops   []func() error // everything that has to be gone before the load
	backend backend        // nil: the target is ready already
	spot    *spot          // where backend is to load it
	inst    instance       // that backend has started
	resumed instance       // to be taken instead of starting one; nil: none
	grace   time.Duration  // to stop what has been started in vain
	cancel  context.CancelCauseFunc
	ctx     context.Context
	replace context.CancelCauseFunc // ends the present try to load
	try     context.Context
	started time.Time
	done    chan struct{} // closed when it has been settled
	err     error
}

// newSwap prepares the swap of m on the run loop. From here on the evicted models
// are stopping; they are stopped even if the load is cancelled. A target that is
// stopping itself, or whose process will not go, has to be gone too.
func (h *host) newSwap(m *model, evict []string) *swap {
	s := &swap{host: h, model: m, started: time.Now(), done: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	m.swap = s
	for _, id := range evict {
		e := h.models[id]
		s.evict = append(s.evict, e)
		s.stopFirst(e)
		h.set(e, scheduler.StateStopping)
	}
	if m.state != scheduler.StateReady {
		if h.isResumable(m) {
			s.resumed = m.inst
		} else {
			s.stopFirst(m)
		}
		h.prepare(s)
		h.set(m, scheduler.StateStarting)
	}
	if h.closing {
		s.cancel(errStopped)
	}
	return s
}

// prepare puts down what a try to load the target of s needs.
func (h *host) prepare(s *swap) {
	m := s.model
	h.adopt(m)
	s.backend, s.grace, s.inst, s.spot = m.backend, time.Duration(m.cfg.StopTimeout), nil, h.policy.spot(m)
	if placed := m.cfg.Placed(s.spot.index); placed != m.cfg {
		s.backend = h.newBackend(m.name, placed, m.out, h.log)
	}
	s.try, s.replace = context.WithCancelCause(s.ctx)
}

// stopFirst makes the swap stop what runs of m before it loads.
func (s *swap) stopFirst(m *model) {
	inst, grace := m.inst, time.Duration(m.cfg.StopTimeout)
	if inst == nil {
		return
	}
	s.stops = append(s.stops, func() error { return stopped(m.name, inst, grace) })
}

// stopped stops inst and says whose it is if that fails.
func stopped(model string, inst instance, grace time.Duration) error {
	if err := inst.stop(grace); err != nil {
		return fmt.Errorf("model %q does not stop: %w", model, err)
	}
	return nil
}

// run carries the swap out.
func (s *swap) run() {
	s.err = inParallel(s.stops)
	for again := s.err == nil && s.backend != nil; again; {
		again = s.load()
	}
}

// load tries to load the target, and reports whether another try is needed because the
// target has been replaced meanwhile. What it has started in vain it stops again, so
// that a failed load leaves its memory free.
func (s *swap) load() (again bool) {
	s.err = guarded(s.start)
	if s.err != nil && s.inst != nil {
		s.err = errors.Join(s.err, s.inst.stop(s.grace))
	}
	if s.err != nil && context.Cause(s.try) == errReplaced {
		s.host.do(func() { again = s.host.loadAgain(s) })
	}
	return again
}

// start starts the target and waits until it is ready.
func (s *swap) start() (err error) {
	if s.try.Err() != nil {
		return context.Cause(s.try)
	}
	if s.inst, s.resumed = s.resumed, nil; s.inst == nil {
		if s.inst, err = s.backend.start(s.try); err != nil {
			s.inst = nil
			return err
		}
	}
	s.host.do(func() { s.host.watchInstance(s.model, s.inst, s.spot) })
	return s.inst.ready(s.try)
}

// loadAgain prepares another try to load the target of s, which has been replaced, and
// reports whether it makes sense. If nobody waits, the swap is written off: to the
// scheduler, a load that just ended would be one that failed.
func (h *host) loadAgain(s *swap) bool {
	m := s.model
	h.noteExit(m, m.inst)
	if m.inst != nil || s.ctx.Err() != nil || h.policy.isAstray(m) { // Astray: the room that was made for it is gone.
		return false
	}
	if h.waiting(m.name) == 0 {
		h.sched.OnUnload([]string{m.name}, 0)
		return false
	}
	h.log.Info("load begins anew", "model", m.name)
	h.prepare(s)
	return true
}

// guarded calls fn and turns a panic into an error.
func guarded(fn func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return fn()
}

// inParallel calls all of fns at once and joins their errors.
func inParallel(fns []func() error) error {
	errs := make([]error, len(fns))
	var all sync.WaitGroup
	for i, fn := range fns {
		all.Go(func() { errs[i] = guarded(fn) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// swapDone handles the end of a swap: the books first, then the scheduler.
func (h *host) swapDone(s *swap) {
	h.swaps--
	h.settle(s)
	h.sched.OnSwapDone(scheduler.SwapDone{ModelID: s.model.name, Err: s.err})
	if s.model.inFlight == 0 {
		h.rest(s.model)
	}
}

// settle takes s off the host's books. The scheduler is told next, so what the
// swap has stopped must be known to have stopped by then.
func (h *host) settle(s *swap) {
	m := s.model
	m.swap = nil
	cancelled := s.ctx.Err() != nil
	s.cancel(nil)
	close(s.done)
	for _, e := range s.evict {
		h.noteExit(e, e.inst)
		e.stuck = e.inst // nil, as a rule.
	}
	h.noteExit(m, m.inst)
	if s.backend == nil {
		return
	}
	took := time.Since(s.started)
	switch {
	case s.err == nil && m.inst != nil && m.state == scheduler.StateStarting:
		h.metrics.loaded(m.name, loadReady, took)
		m.lastError = ""
		m.upstream = h.newUpstream(m.name, m.cfg, m.inst)
		h.set(m, scheduler.StateReady)
		h.log.Info("model ready", "model", m.name, "url", shownURL(m.inst.url()), "load", took)
		return
	case cancelled && m.inst == nil:
		h.metrics.loaded(m.name, loadCancelled, took)
		m.lastError = ""
		h.log.Info("load cancelled", "model", m.name, "after", took)
	default:
		h.metrics.loaded(m.name, loadFailed, took)
		m.lastError = fmt.Sprint(cmp.Or(s.err, scheduler.ErrNotReady))
		h.log.Warn("load failed", "model", m.name, "err", m.lastError)
	}
	if m.inst == nil {
		h.set(m, scheduler.StateStopped)
		h.adopt(m)
	} else {
		m.stuck = m.inst
		h.set(m, scheduler.StateStopping)
	}
}

// watchInstance makes inst, which is at spot, the instance of m, and notices its end. An
// instance that is resumed is watched already.
func (h *host) watchInstance(m *model, inst instance, spot *spot) {
	resumed := m.inst == inst
	m.inst, m.spot = inst, spot
	if resumed {
		return
	}
	go func() {
		if l, ok := inst.(leaver); ok {
			<-l.leaving()
			h.post(func() { h.noteLeaving(m, inst) })
		}
		<-inst.exited()
		h.post(func() { h.noteExit(m, inst) })
	}()
}

// noteLeaving handles that inst can serve no more.
func (h *host) noteLeaving(m *model, inst instance) {
	if m.inst != inst || m.state != scheduler.StateReady {
		return
	}
	if err := inst.err(); !errors.Is(err, pods.ErrReleased) {
		m.lastError = fmt.Sprint(err)
		h.log.Error("model crashed", "model", m.name, "err", err)
	}
	m.upstream = nil // What is in flight has crashed with it: it has not been unloaded.
	m.stopExpiry()
	h.set(m, scheduler.StateStopping)
}

// noteExit handles the end of inst, if it has ended and is m's still. It may come
// a second time.
func (h *host) noteExit(m *model, inst instance) {
	if inst == nil || m.inst != inst {
		return
	}
	select {
	case <-inst.exited():
	default:
		return
	}
	h.noteLeaving(m, inst)
	m.inst, m.spot, m.upstream = nil, nil, nil
	m.stopExpiry()
	if m.swap == nil || m.swap.backend == nil {
		h.set(m, scheduler.StateStopped)
		h.adopt(m)
	}
}

// stop stops what runs of m in the background. 0 or less: with its own time-out.
func (h *host) stop(m *model, grace time.Duration) {
	if m.inst == nil {
		return
	}
	if grace <= 0 {
		grace = time.Duration(m.cfg.StopTimeout)
	}
	m.stopExpiry()
	h.set(m, scheduler.StateStopping)
	go h.report(m, m.inst, grace)
}

// report stops inst and says so if that fails: its memory is taken still, and
// every swap that needs it will say so too.
func (h *host) report(m *model, inst instance, grace time.Duration) {
	if err := stopped(m.name, inst, grace); err != nil {
		h.log.Error(err.Error())
		h.post(func() {
			m.stuck = inst
			h.sched.OnUnload(nil, 0) // The answers of the policy are others.
		})
	}
}

// isStuck reports whether m is there although it was to be stopped.
func (m *model) isStuck() bool { return m != nil && m.inst != nil && m.stuck == m.inst }

// rest handles that nothing is in flight for m: one that has been replaced or
// removed stops, and the TTL of any other begins.
func (h *host) rest(m *model) {
	if m.state != scheduler.StateReady || m.swap != nil {
		return // If room is being made for it, it serves first.
	}
	if m.next != nil || m.removed {
		h.stop(m, 0)
		return
	}
	m.stopExpiry()
	if ttl := time.Duration(m.cfg.TTL); ttl > 0 {
		uses := m.uses
		m.expiry = time.AfterFunc(ttl, func() {
			h.post(func() { h.expire(m, uses) })
		})
	}
}

// expire unloads m if nobody has used it since the TTL began. This is decided on
// the run loop, so a request comes either before it and is served, or after it
// and waits for a new load.
func (h *host) expire(m *model, uses uint64) {
	if m.uses != uses || m.state != scheduler.StateReady || h.closing {
		return
	}
	if h.waiting(m.name) > 0 || h.isFrozen(m) {
		h.rest(m)
		return
	}
	h.log.Info("model idle", "model", m.name, "ttl", time.Duration(m.cfg.TTL))
	h.sched.OnUnload([]string{m.name}, 0)
}

// stopExpiry ends the TTL of m, if it has begun.
func (m *model) stopExpiry() {
	if m.expiry != nil {
		m.expiry.Stop()
		m.expiry = nil
	}
}
