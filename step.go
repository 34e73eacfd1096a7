package scheduler

import (
	"context"
	"log/slog"
	"time"
)

// kind says which method brought an event, or which effect is owed.
type kind int

const (
	requested kind = iota
	cancelled
	swapDone
	serveDone
	unloaded
	shutDown

	grantError
	cancelSwap
	stopProcesses
)

// event is what one of the On… methods was told.
type event struct {
	kind    kind
	req     HandlerReq // Model and Lease of the reports too
	err     error
	targets []string
	timeout time.Duration
}

// effect is an effect that is decided and not carried out.
type effect struct {
	kind    kind
	req     HandlerReq
	err     error
	ids     []string
	timeout time.Duration
}

// on handles an event, or leaves it to the step under way if the call came from
// within one (R17).
func (f *FIFO) on(ev event) {
	f.inbox = append(f.inbox, ev)
	if f.handling {
		return
	}
	f.handling = true
	defer f.leave()
	for f.handled < len(f.inbox) {
		f.step()
	}
	f.inbox, f.handled = reuse(f.inbox), 0
	f.handling = false
}

// leave ends the handling of events that a panic cuts short. What the step has
// decided stays, and the next event completes it: the newcomer waits, the effects
// that are owed are carried out, the queue moves.
func (f *FIFO) leave() {
	if !f.handling {
		return
	}
	f.handling = false
	f.moving = true
	if f.arriving {
		f.arriving = false
		f.enqueue(f.record(f.newcomer.Model), f.newcomer)
	}
}

// step handles the next event. One that completes a step has no look of its own,
// so that a Swapper that always panics does not keep it from being handled.
func (f *FIFO) step() {
	f.fresh, f.clocked = false, false
	f.renew()
	f.flush()
	if !f.looked && f.down == nil && f.inbox[f.handled].kind != shutDown {
		f.looked = true
		f.look()
		f.renew()
	}
	ev := f.inbox[f.handled]
	f.inbox[f.handled] = event{}
	f.handled++
	if f.down == nil {
		f.handle(ev)
		f.settle()
		f.tellAll()
	} else if ev.kind == requested {
		f.counters.Requests++
		f.counters.Refused++
		f.eff.GrantError(ev.req, f.down)
	}
	f.sweep()
	f.newcomer = HandlerReq{}
	f.looked = false
}

// handle hands ev to the rule that it is for.
func (f *FIFO) handle(ev event) {
	switch ev.kind {
	case requested:
		f.request(ev.req)
	case cancelled:
		f.cancel(ev.req)
	case swapDone:
		f.swapDone(ev.req.Model, ev.err)
	case serveDone:
		f.serveDone(ev.req.Model, ev.req.Lease)
	case unloaded:
		f.unload(ev.targets, ev.timeout)
	case shutDown:
		f.shutdown(ev.err)
	}
}

// now reads the clock, once per step.
func (f *FIFO) now() time.Time {
	if !f.clocked {
		f.clock, f.clocked = f.opts.Now(), true
	}
	return f.clock
}

// owe notes an effect for flush. What several callers are owed is decided as one,
// so that a panic in one answer does not lose the others.
func (f *FIFO) owe(e effect) { f.outbox = append(f.outbox, e) }

// flush carries out the effects that are owed, in order.
func (f *FIFO) flush() {
	for len(f.outbox) > 0 {
		e := f.outbox[0]
		f.outbox[0] = effect{}
		f.outbox = f.outbox[1:]
		f.carryOut(e)
	}
	f.outbox = nil
}

// carryOut carries out an effect. Only models that the host knows are stopped.
func (f *FIFO) carryOut(e effect) {
	switch e.kind {
	case grantError:
		f.eff.GrantError(e.req, e.err)
	case cancelSwap:
		f.canceler.CancelSwap(e.ids[0])
	case stopProcesses:
		var ids []string
		for _, id := range e.ids {
			if _, known := f.eff.ModelState(id); known {
				ids = append(ids, id)
			}
		}
		if len(ids) > 0 {
			f.changed()
			f.eff.StopProcesses(e.timeout, ids)
		}
	}
}

// debug writes a log line, which costs nothing while Debug is off.
func (f *FIFO) debug(msg string, model string, err error) {
	if !f.log.Enabled(context.Background(), slog.LevelDebug) {
		return
	}
	f.log.Debug(msg, "model", model, "err", err)
}
