package scheduler

import "time"

// The figures of R8. They come from simulation; anything near them does about as
// well.
const (
	defaultLoad   = 10 * time.Second // until a load is known
	leastPrice    = time.Second
	overduePrices = 5 // a model is overdue after this many prices
	closingPrices = 2 // a model may stay ready for this many of the holder's
)

// prices knows how long it takes to get a model loaded, and derives from that how long to
// be patient (R8). It learns from the loads that it is told of.
type prices struct {
	patience time.Duration // the upper bound; negative: nothing is ever overdue
	latest   time.Duration // the latest load of any model
	known    bool          // there was one
}

// history is what is known about the loads and drains of one model. In the zero value
// nothing is known.
type history struct {
	load       time.Duration // how long its latest load took
	loadKnown  bool
	drain      time.Duration // how long it takes to finish what it has, once it is closed
	drainKnown bool
	readySince time.Time // the end of the load that made it ready; zero: from the start
}

// stopped notes that the model was stopped. If it is ready again later without a load,
// nothing is known about when it became so, which counts as from the start.
func (h *history) stopped() { h.readySince = time.Time{} }

// learnDrain adds a sample of how long the model took to finish what it had. One sample
// says little, so each moves the mean by a quarter.
func (h *history) learnDrain(d time.Duration) {
	if h.drainKnown {
		d = h.drain + (d-h.drain)/4
	}
	h.drain, h.drainKnown = d, true
}

// learnLoad notes how long a load took.
func (p *prices) learnLoad(h *history, d time.Duration) {
	h.load, h.loadKnown = d, true
	p.latest, p.known = d, true
}

// load returns how long a load is expected to take.
func (p *prices) load(h *history) time.Duration {
	switch {
	case h.loadKnown:
		return h.load
	case p.known:
		return p.latest
	}
	return defaultLoad
}

// overdueAfter returns after how long a model with that load is overdue, if it has to
// wait for that drain.
func (p *prices) overdueAfter(load, drain time.Duration) time.Duration {
	return p.bounded(overduePrices, load, drain)
}

// closedAfter returns for how long a model in a plan may be ready before it is closed. It
// will have to be loaded again, so the longer of the two loads counts: with the holder's
// load alone, a model that loads fast would take nearly all the time from one that loads
// slowly.
func (p *prices) closedAfter(holder, h *history, drain time.Duration) time.Duration {
	return p.bounded(closingPrices, max(p.load(holder), p.load(h)), drain)
}

// bounded returns times prices, or Patience if that is less. A price is load plus drain,
// and at least a second. Both may be so long that a sum or product would overflow.
func (p *prices) bounded(times, load, drain time.Duration) time.Duration {
	longest := p.patience / times
	price := max(leastPrice, min(load, longest)+min(drain, longest))
	if price > longest {
		return p.patience
	}
	return times * price
}
