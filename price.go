package scheduler

import "time"

// The figures of R8. They come from simulation; anything near them does about as
// well.
const (
	defaultLoad   = 10 * time.Second // until a load is known
	leastPrice    = time.Second
	overduePrices = 5 // a model is overdue after so many prices
	closingPrices = 2 // a model may stay ready for so many of the holder's
)

// prices knows what it takes to get a model loaded, and how long to be patient
// accordingly (R8). It learns from the loads and drains that it is told.
type prices struct {
	patience   time.Duration // the upper bound; negative: nothing is ever overdue
	latest     time.Duration // the latest load of any model
	anyLoad    bool          // there was one
	drain      time.Duration // how long models take to finish what they have
	drainKnown bool
}

// history is what prices has learned of one model. The zero value knows nothing.
type history struct {
	load       time.Duration // how long its latest load took
	loadKnown  bool
	readySince time.Time // the end of the load that made it ready; zero: from the start
}

// stopped notes that the model was stopped: if it is ready again without a load, it
// has been so from the start for all that is known.
func (h *history) stopped() { h.readySince = time.Time{} }

// learnLoad takes over how long a load took.
func (p *prices) learnLoad(h *history, d time.Duration) {
	h.load, h.loadKnown = d, true
	p.latest, p.anyLoad = d, true
}

// learnDrain takes over how long models took to finish what they had.
func (p *prices) learnDrain(d time.Duration) {
	if !p.drainKnown {
		p.drain, p.drainKnown = d, true
		return
	}
	p.drain += (d - p.drain) / 4
}

// load returns how long a load is expected to take.
func (p *prices) load(h *history) time.Duration {
	switch {
	case h.loadKnown:
		return h.load
	case p.anyLoad:
		return p.latest
	}
	return defaultLoad
}

// wait returns so many prices of a model, or Patience if that is less. Either may
// be so long that a sum or product would overflow.
func (p *prices) wait(h *history, times time.Duration) time.Duration {
	longest := p.patience / times
	price := max(leastPrice, min(p.load(h), longest)+min(p.drain, longest))
	if price > longest {
		return p.patience
	}
	return times * price
}

// overdue reports whether a request for a model has waited for too long.
func (p *prices) overdue(h *history, waited time.Duration) bool {
	return p.patience >= 0 && waited >= p.wait(h, overduePrices)
}

// mayBeOverdue reports whether any model could be overdue after so long, whatever
// its price is.
func (p *prices) mayBeOverdue(waited time.Duration) bool {
	return p.patience >= 0 && waited >= min(p.patience, overduePrices*leastPrice)
}

// mayClose reports whether a model that has been ready since then may be closed for
// the holder of a reservation.
func (p *prices) mayClose(holder, h *history, now time.Time) bool {
	return now.Sub(h.readySince) >= p.wait(holder, closingPrices)
}
