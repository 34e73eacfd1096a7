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

// receive returns the place for an event that has come: it is the present event,
// or waits in the inbox if the call comes from within a step (R17).
func (f *FIFO) receive(k kind) *event {
	ev := &f.event
	if f.handling || f.pending {
		f.inbox = append(f.inbox, event{})
		ev = &f.inbox[len(f.inbox)-1]
	} else {
		f.pending = true
	}
	ev.kind = k
	return ev
}

// run handles what has come, unless a step is under way that will.
func (f *FIFO) run() {
	if f.handling {
		return
	}
	f.handling = true
	defer f.leave()
	for f.pending {
		f.step()
		f.next()
	}
	f.handling = false
}

// next makes the next event of the inbox the present one.
func (f *FIFO) next() {
	if len(f.inbox) == 0 {
		return
	}
	f.event, f.pending = f.inbox[0], true
	f.inbox[0] = event{}
	if f.inbox = f.inbox[1:]; len(f.inbox) == 0 {
		f.inbox = nil
	}
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
		f.clocked = true // The clock, too, is somebody's code that may panic: its last time will do.
		f.enqueue(f.record(f.event.req.Model))
	}
	if !f.pending {
		f.next()
	}
}

// step handles the present event. One that completes a step has no look of its
// own, so that a Swapper that always panics does not keep it from being handled.
func (f *FIFO) step() {
	f.fresh, f.clocked = false, false
	f.renew()
	if len(f.outbox) > 0 {
		f.flush()
	}
	if !f.looked && f.down == nil && f.event.kind != shutDown {
		f.looked = true
		f.look()
		f.renew()
	}
	f.pending = false
	if f.down != nil {
		f.refuseAfterShutdown()
	} else {
		f.handle()
		f.settle()
		f.tellAll()
	}
	if len(f.loose) > 0 {
		f.sweep()
	}
	f.looked = false
}

// handle hands the event to the rule that it is for.
func (f *FIFO) handle() {
	switch ev := &f.event; ev.kind {
	case requested:
		f.request(&ev.req)
	case cancelled:
		f.cancel(ev.req.Respond)
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
		if e.kind == stopProcesses {
			e.ids = f.knownOf(e.ids)
		}
		f.outbox[0] = effect{}
		f.outbox = f.outbox[1:]
		f.carryOut(e)
	}
	f.outbox = nil
}

// knownOf returns those of ids that the host knows.
func (f *FIFO) knownOf(ids []string) (known []string) {
	for _, id := range ids {
		if _, ok := f.eff.ModelState(id); ok {
			known = append(known, id)
		}
	}
	return known
}

// carryOut carries out an effect.
func (f *FIFO) carryOut(e effect) {
	switch e.kind {
	case grantError:
		f.eff.GrantError(e.req, e.err)
	case cancelSwap:
		f.canceler.CancelSwap(e.ids[0])
	case stopProcesses:
		if len(e.ids) > 0 {
			f.changed()
			f.eff.StopProcesses(e.timeout, e.ids)
			f.clocked = false // It may have taken its time, which belongs to no load.
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
