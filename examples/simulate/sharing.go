package main

import (
	"container/heap"
	"time"
)

// sharing is the work of a model that serves any number of requests at a time. Up to its
// number of places each is served at full speed, and beyond it all are equally slow: this
// is processor sharing.
//
// Work is counted in seconds of service per request since the start, so a request ends
// when the work has grown by its own service time, however the speed has changed.
type sharing struct {
	work float64 // at that time
	at   time.Duration
	ends endings
	next uint64 // the event at which the first request ends
}

// ending is a request and the work at which it ends.
type ending struct {
	work   float64
	number uint64 // decides between two at the same work
	caller *caller
}

// endings is a heap, the first one to end first.
type endings []ending

func (e endings) Len() int      { return len(e) }
func (e endings) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e endings) Less(i, j int) bool {
	return e[i].work < e[j].work || e[i].work == e[j].work && e[i].number < e[j].number
}
func (e *endings) Push(x any) { *e = append(*e, x.(ending)) }
func (e *endings) Pop() any {
	last := len(*e) - 1
	x := (*e)[last]
	(*e)[last] = ending{}
	*e = (*e)[:last]
	return x
}

// speed returns how fast each of n requests is served.
func (p *process) speed(n int) float64 { return min(1, float64(p.places)/float64(n)) }

// advance brings the work up to date. Float64 keeps a compiler from joining the product
// and the sum, so that the result is the same on every machine.
func (h *host) advance(p *process) {
	s := &p.sharing
	if n := len(s.ends); n > 0 {
		s.work += float64((h.now - s.at).Seconds() * p.speed(n))
	} else {
		s.work = 0 // It stays small, and exact.
	}
	s.at = h.now
}

// share begins to serve c.
func (h *host) share(p *process, c *caller) {
	h.advance(p)
	s := &p.sharing
	h.made++
	heap.Push(&s.ends, ending{s.work + c.service.Seconds(), h.made, c})
	h.awaitEnd(p)
}

// awaitEnd makes an event of the next end, which takes the place of the one before.
func (h *host) awaitEnd(p *process) {
	s := &p.sharing
	if len(s.ends) == 0 {
		s.next = 0
		return
	}
	left := max(0, (s.ends[0].work-s.work)/p.speed(len(s.ends)))
	s.next = h.after(time.Duration(left*float64(time.Second)), (*shareEnding)(p))
}

// shareEnding is the end of the service that ends first.
type shareEnding process

// happen ends that service, unless the speed has changed since.
func (e *shareEnding) happen(h *host) {
	p := (*process)(e)
	if p.sharing.next != h.number {
		return
	}
	h.advance(p)
	c := heap.Pop(&p.sharing.ends).(ending).caller
	h.awaitEnd(p)
	h.end(c)
}
