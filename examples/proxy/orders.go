package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"example.com/scheduler"
)

// load waits until model is ready, and brings that about.
func (h *host) load(ctx context.Context, model string) error {
	t := h.request(ctx, model, 0)
	select {
	case resp := <-t.req.Respond:
		if resp.Err == nil {
			resp.HandleFunc(nil, nil)
		}
		return resp.Err
	case <-ctx.Done():
		h.leave(t)
		return context.Cause(ctx)
	}
}

// unload unloads models, all of them if none is named, and waits until their
// processes are gone or ctx ends. It returns an error, and does nothing, if one of
// them is unknown.
func (h *host) unload(ctx context.Context, models ...string) error {
	var gone []<-chan struct{}
	err := h.order(models, func(names []string) {
		models = names
		for _, name := range models {
			gone = h.models[name].pending(gone)
		}
		h.sched.OnUnload(models, 0)
	})
	return cmp.Or(err, h.awaitExits(ctx, models, gone))
}

// drain is unload for the patient: what is in flight finishes first, and those who wait
// stay and have their model loaded again. It is as if a reload had changed the models.
func (h *host) drain(ctx context.Context, models ...string) error {
	var gone []<-chan struct{}
	err := h.order(models, func(names []string) {
		models = names
		for _, name := range models {
			m := h.models[name]
			if m.inst != nil {
				gone = append(gone, m.inst.exited())
			}
			m.next, m.drains = cmp.Or(m.next, m.cfg), true
			h.yield(m)
		}
		h.sched.OnUnload(nil, 0) // Duty 9: their limits have changed.
	})
	return cmp.Or(err, h.awaitExits(ctx, models, gone))
}

// pause makes models grant nothing and start no load, or ends that. Requests wait.
func (h *host) pause(paused bool, models ...string) error {
	return h.order(models, func(names []string) {
		for _, name := range names {
			h.models[name].paused = paused
		}
		h.sched.OnUnload(nil, 0) // Duty 9: their limits have changed.
	})
}

// freeze makes pods wait that are not ready, and keeps those that are, or ends that: as long
// as the cluster cannot be changed, a load would only take away what is ready.
func (h *host) freeze(frozen bool) {
	h.do(func() {
		h.frozen = frozen
		h.sched.OnUnload(nil, 0) // Duty 9: their limits have changed.
	})
}

// isFrozen reports whether m can be neither loaded nor stopped at the moment. A process
// could, but its load may stop a pod.
func (h *host) isFrozen(m *model) bool { return h.frozen && !m.cfg.Remote() }

// order carries out an order for models, all of them if none is named, on the run loop.
// It returns an error instead if one of them is unknown.
func (h *host) order(models []string, carryOut func(models []string)) (err error) {
	ok := h.do(func() {
		if len(models) == 0 {
			models = slices.Collect(maps.Keys(h.models))
		}
		for _, name := range models {
			if m := h.models[name]; m == nil || m.removed {
				err = fmt.Errorf("%w: %q", scheduler.ErrModelNotFound, name)
				return
			}
		}
		carryOut(models)
	})
	if !ok {
		return scheduler.ErrShutdown
	}
	return err
}

// awaitExits waits until all of gone are closed, the ends of processes of models, or
// ctx ends.
func (h *host) awaitExits(ctx context.Context, models []string, gone []<-chan struct{}) error {
	for _, ch := range gone {
		select {
		case <-ch:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	h.do(func() { h.noteExits(models) }) // They may not have been noticed yet.
	return nil
}

// noteExits notices the ends of the processes of models.
func (h *host) noteExits(models []string) {
	for _, name := range models {
		if m := h.models[name]; m != nil {
			h.noteExit(m, m.inst)
		}
	}
}

// pending appends what has to end before nothing of m is left.
func (m *model) pending(gone []<-chan struct{}) []<-chan struct{} {
	if m.swap != nil {
		gone = append(gone, m.swap.done)
	}
	if m.inst != nil {
		gone = append(gone, m.inst.exited())
	}
	return gone
}

// shutdown ends the host. Whoever waits is refused, and so is whoever comes later;
// loads are cancelled. What is in flight may finish until ctx ends. Then every
// process is stopped, all of them at once, and the run loop ends. An error says
// what is left all the same.
func (h *host) shutdown(ctx context.Context) error {
	h.do(h.close)
	select {
	case <-h.idle:
	case <-ctx.Done():
	}
	var stops []func() error
	h.do(func() { stops = h.stopAll() })
	err := inParallel(stops)
	if err == nil {
		select {
		case <-h.gone:
		case <-time.After(lastWait):
			err = errors.New("handlers have not returned")
		}
	}
	h.quitOnce.Do(func() { close(h.quit) })
	<-h.ended
	h.transport.CloseIdleConnections()
	return err
}

// lastWait is how long handlers may take to return once their model is gone.
const lastWait = 5 * time.Second

// close begins the shutdown.
func (h *host) close() {
	h.closing = true
	h.shut()
	h.sched.OnShutdown(nil)
	for _, m := range h.models {
		m.stopExpiry()
		if m.swap != nil {
			m.swap.cancel(errStopped)
		}
	}
}

// stopAll returns what stops each process that is left, and waits for each swap.
func (h *host) stopAll() (stops []func() error) {
	for _, m := range h.models {
		if s := m.swap; s != nil {
			stops = append(stops, func() error { <-s.done; return nil })
		}
		if inst, grace := m.inst, time.Duration(m.cfg.StopTimeout); inst != nil {
			h.set(m, scheduler.StateStopping)
			stops = append(stops, func() error { return stopped(m.name, inst, grace) })
		}
	}
	return stops
}

// kill ends every process by force, and whatever is in flight with it.
func (h *host) kill() {
	h.do(func() {
		for _, m := range h.models {
			if m.swap != nil {
				m.swap.cancel(errStopped)
			}
			if m.inst != nil {
				h.set(m, scheduler.StateStopping)
				go h.report(m, m.inst, 0)
			}
		}
	})
}

// checkEnd tells shutdown how far it is.
func (h *host) checkEnd() {
	if !h.closing {
		return
	}
	if h.inFlight == 0 {
		closeOnce(h.idle)
	}
	if h.inFlight == 0 && h.swaps == 0 && !h.anyInstance() {
		closeOnce(h.gone)
	}
}

// anyInstance reports whether a process is left.
func (h *host) anyInstance() bool {
	for _, m := range h.models {
		if m.inst != nil {
			return true
		}
	}
	return false
}

// closeOnce closes ch unless it is closed. Only the run loop closes it.
func closeOnce(ch chan struct{}) {
	select {
	case <-ch:
	default:
		close(ch)
	}
}

// loadAll loads models one after another.
func (h *host) loadAll(ctx context.Context, models []string) {
	for _, model := range models {
		if err := h.load(ctx, model); err != nil && ctx.Err() == nil {
			h.log.Warn("preload failed", "model", model, "err", err)
		}
	}
}
