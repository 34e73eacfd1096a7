package main

import (
	"math/rand/v2"
	"time"

	"example.com/scheduler"
)

// stream is a source that is in use. It draws everything that is random about a request
// when the request arrives. So the same requests arrive whatever the scheduler does,
// unless callers come back.
type stream struct {
	*source
	rng   *rand.Rand
	chain []*process
	next  int // index in arrivals
	tally *tally
}

// caller is somebody who sends requests, one at a time.
type caller struct {
	from    *stream
	process *process
	step    int // in the chain
	req     scheduler.HandlerReq
	arrived time.Duration
	service time.Duration // of its request
	phase   phase
	leaves  uint64 // the event at which it leaves; 0: it does not
}

// phase is where the request of a caller is.
type phase int

const (
	away phase = iota
	waits
	inFlight
)

// retry is how long a refused caller stays away at least.
const retry = time.Second

// least is the shortest service in a closed loop: without it virtual time might stand
// still.
const least = time.Millisecond

// draw returns a random time.
func (l law) draw(mean time.Duration, rng *rand.Rand) time.Duration {
	if l == exponential && mean > 0 {
		return time.Duration(rng.ExpFloat64() * float64(mean))
	}
	return mean
}

// begin lets the requests of a source come.
func (h *host) begin(from *source, rng *rand.Rand) {
	s := &stream{source: from, rng: rng, tally: h.result.tenant(from.tenant)}
	for _, name := range from.chain {
		s.chain = append(s.chain, h.byName[name])
	}
	switch {
	case len(s.arrivals) > 0:
		h.after(s.arrivals[0].at, s)
	case s.open():
		h.after(s.gap(), s)
	}
	for range s.callers {
		h.after(exponential.draw(s.think, rng), (*coming)(h.caller(s)))
	}
	for range s.batch {
		h.after(s.at, (*coming)(h.caller(s)))
	}
}

// gap returns the time until the next requests of an open loop.
func (s *stream) gap() time.Duration {
	seconds := s.rng.ExpFloat64() / s.rate * float64(max(1, s.burst))
	return time.Duration(min(seconds, 2*maxTime.Seconds()) * float64(time.Second))
}

// happen lets the next requests arrive.
func (s *stream) happen(h *host) {
	if h.now > h.until {
		return
	}
	if len(s.arrivals) > 0 {
		a := &s.arrivals[s.next]
		if s.next++; s.next < len(s.arrivals) {
			h.after(s.arrivals[s.next].at-h.now, s)
		}
		h.arrive(h.caller(s), h.models[a.model], a.service)
		return
	}
	h.after(s.gap(), s)
	for range s.burst - 1 {
		h.after(time.Duration(s.rng.Float64()*float64(s.within)), (*coming)(h.caller(s)))
	}
	h.come(h.caller(s))
}

// caller returns a caller of s, which is away.
func (h *host) caller(s *stream) *caller {
	var c *caller
	if n := len(h.idle); n > 0 {
		c, h.idle = h.idle[n-1], h.idle[:n-1]
	} else {
		c = new(caller)
	}
	c.from, c.step = s, 0
	if s.timeout > 0 && c.req.Respond == nil {
		c.req.Respond = make(chan scheduler.HandlerResp)
	}
	return c
}

// coming is a caller that comes, for the first time or again.
type coming caller

func (c *coming) happen(h *host) { h.come((*caller)(c)) }

// come lets c send the next request of its chain, unless callers have stopped coming.
func (h *host) come(c *caller) {
	if h.now > h.until {
		return
	}
	p := c.from.chain[c.step]
	service := p.law.draw(p.service, c.from.rng)
	if c.from.callers > 0 {
		service = max(service, least)
	}
	h.arrive(c, p, service)
}

// arrive lets a request of c arrive.
func (h *host) arrive(c *caller, p *process, service time.Duration) {
	c.process, c.service, c.arrived, c.phase = p, service, h.now, waits
	c.req.Model, c.req.Host = p.name, c
	p.waiting++
	h.waiting++
	h.result.requests++
	if c.from.timeout > 0 {
		c.leaves = h.after(exponential.draw(c.from.timeout, c.from.rng), (*leaving)(c))
	}
	h.sched.OnRequest(c.req)
}

// leaving is a caller that leaves because it has waited for so long.
type leaving caller

// happen lets the caller leave, unless its request has been answered.
func (l *leaving) happen(h *host) {
	c := (*caller)(l)
	if c.leaves != h.number {
		return
	}
	h.answered(c, left)
	h.sched.OnCancel(c.req)
	h.again(c, c.from.back, c.from.back > 0)
}

// answered notes what became of the request of c.
func (h *host) answered(c *caller, o end) {
	if c.phase != waits {
		h.fail("a second answer for a request for %s", c.process.name)
		return
	}
	c.phase, c.leaves = away, 0
	c.process.waiting--
	h.waiting--
	h.result.count(h, c, o)
	for _, r := range h.watching {
		r.answer(h, c, o)
	}
}

// again lets c come back later. In an open loop it does so only if it returns.
func (h *host) again(c *caller, away time.Duration, returns bool) {
	if returns || c.from.callers > 0 {
		c.step = 0
		h.after(max(away, least), (*coming)(c))
	} else {
		h.idle = append(h.idle, c)
	}
}

// GrantError implements [scheduler.Effects].
func (h *host) GrantError(req scheduler.HandlerReq, err error) {
	c := req.Host.(*caller)
	h.answered(c, refused)
	h.again(c, max(retry, exponential.draw(c.from.think, c.from.rng)), false)
}

// GrantServe implements [scheduler.Effects].
func (h *host) GrantServe(req scheduler.HandlerReq, name string) bool {
	c := req.Host.(*caller)
	p := c.process
	h.answered(c, served)
	if p.name != name || p.state != scheduler.StateReady {
		h.fail("a request for %s is granted on %s, which is %s", p.name, name, p.state)
	}
	if p.inFlight++; p.inFlight > p.places && !p.shared {
		h.fail("%d requests are in flight for %s, which has %d places", p.inFlight, name, p.places)
	}
	c.phase, c.req.Lease = inFlight, req.Lease
	if p.shared {
		h.share(p, c)
	} else {
		h.after(c.service, (*serving)(c))
	}
	return true
}

// serving is the end of the service of a caller.
type serving caller

func (s *serving) happen(h *host) { h.end((*caller)(s)) }

// end ends the service of c, which goes on to the next model of its chain.
func (h *host) end(c *caller) {
	p := c.process
	if c.phase != inFlight {
		h.fail("a request for %s ends that is not in flight", p.name)
		return
	}
	p.inFlight--
	c.phase = away
	lease := c.req.Lease
	c.req.Lease = 0
	h.sched.OnServeDone(scheduler.ServeDoneEvent{ModelID: p.name, Lease: lease})
	if c.step++; c.step < len(c.from.chain) {
		h.come(c)
		return
	}
	h.again(c, exponential.draw(c.from.think, c.from.rng), false)
}
