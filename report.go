package scheduler

import (
	"fmt"
	"time"
)

// swapDone handles the report of a swap. If it succeeded, the requests that it was made
// for are served without asking the Swapper again (R4). If it failed, they get its error
// (R10).
func (f *FIFO) swapDone(name string, err error) {
	s := f.swaps.of(name)
	if s == nil {
		f.ignore("swap done", name)
		return
	}
	f.debug("swap done", name, err)
	m := f.models.record(name)
	ready := f.see(name).ready
	f.endSwap(m, s)
	if err == nil && s.loads && ready {
		m.history.readySince = f.step.time()
	}
	switch {
	case s.abandoned:
		f.abandonedDone(m, s, err)
	case err != nil:
		f.swapFailed(m, err)
	case !ready:
		f.swapFailed(m, fmt.Errorf("%w: %q", ErrNotReady, name))
	default:
		f.swapSucceeded(m, s)
	}
}

// endSwap takes s, the swap of m, off the books.
func (f *FIFO) endSwap(m *model, s *swap) {
	for _, name := range s.evict {
		// A model that the swap stopped has to be loaded again. One that it did not
		// stop has been ready all along, and stays ready since then.
		if e := f.models.record(name); !f.see(name).ready {
			e.history.stopped()
		}
	}
	f.swaps.remove(s)
	f.queue.setLoading(&m.line, false)
	f.setDeadline(m)
	f.changed()
	f.step.unblock()
}

// swapFailed handles the failure of a swap of m: every request that waited for it gets
// the error (R10), and m cools down (R13).
func (f *FIFO) swapFailed(m *model, err error) {
	f.counters.SwapsFailed++
	if f.opts.Cooldown > 0 {
		m.cooldown.fail(f.step.time(), f.opts.Cooldown, err)
	}
	f.fail(m, err)
}

// swapSucceeded handles the success of s, a swap of m.
func (f *FIFO) swapSucceeded(m *model, s *swap) {
	m.cooldown.clear()
	if s.loads {
		f.learnLoad(m, f.step.time().Sub(s.started))
	}
	if f.oldest(m) == nil {
		return
	}
	f.swaps.succeed(m.name)
	switch limits, err := f.limits(m); {
	case err != nil:
		f.fail(m, err)
	case limits.Paused:
		m.block.note(WaitPaused, m.name)
	default:
		f.serve(m, limits)
	}
	f.positions.requeue(&m.line)
}

// learnLoad notes how long a load of m took. That may change when m is due, and when
// models are due whose own load is not known.
func (f *FIFO) learnLoad(m *model, d time.Duration) {
	before := f.prices.overdueAfter(f.prices.load(&history{}), 0)
	f.prices.learnLoad(&m.history, d)
	f.setDeadline(m)
	if f.prices.overdueAfter(d, 0) == before {
		return
	}
	for _, l := range f.queue.lines {
		if !l.owner.history.loadKnown {
			f.setDeadline(l.owner)
		}
	}
}

// abandonedDone handles the report of an abandoned swap. The report changes only the
// books, except that an unload sticks: if the model is ready after all and no request
// waits for it, it is stopped again (R12).
func (f *FIFO) abandonedDone(m *model, s *swap, err error) {
	if err == nil && s.unloaded && f.down == nil && f.oldest(m) == nil {
		f.stop([]string{m.name}, s.timeout)
	}
}

// serveDone handles the end of a lease. Lease 0 stands for the oldest lease of the model
// (R11). The queue moves only if the model is idle now, or if a slot has become free that
// requests wait for. Otherwise no request can have been waiting for this (R19).
func (f *FIFO) serveDone(name string, lease uint64) {
	if lease == 0 {
		lease = f.leases.oldest(&f.models.record(name).account)
	}
	a, wasInFlight := f.leases.end(lease)
	if a == nil {
		f.ignore("serve done", name)
		return
	}
	m := a.owner
	f.models.touch(m)
	if a.inFlight == 0 {
		if wasInFlight {
			f.idle(m)
		}
		f.step.unblock()
		return
	}
	if wasInFlight && m.line.n > 0 {
		if limits, err := f.limits(m); err == nil && limits.Concurrency == a.inFlight+1 {
			f.step.unblock()
		}
	}
}

// ignore counts and logs a report that cannot be true.
func (f *FIFO) ignore(what, model string) {
	f.counters.Ignored++
	f.log.Warn("ignored a report: there is no such "+what, "model", model)
}
