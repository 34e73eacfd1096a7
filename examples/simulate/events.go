package main

import "time"

// occurrence is what happens in an event.
type occurrence interface{ happen(h *host) }

// event is something that happens at a moment of virtual time.
type event struct {
	at     time.Duration // since the start
	number uint64        // unique; decides between events at the same moment
	what   occurrence
}

func (e *event) before(o *event) bool {
	return e.at < o.at || e.at == o.at && e.number < o.number
}

// events is a heap of future events, the next one first. Each node has four children:
// the heap is half as deep as a binary one, and most of its work is going down. It is not
// made with container/heap, which would allocate memory for each event.
type events []event

// push adds an event.
func (s *events) push(e event) {
	h := append(*s, e)
	*s = h
	i := len(h) - 1
	for i > 0 {
		parent := (i - 1) / 4
		if !e.before(&h[parent]) {
			break
		}
		h[i] = h[parent]
		i = parent
	}
	h[i] = e
}

// pop removes and returns the next event. There has to be one.
func (s *events) pop() event {
	h := *s
	next := h[0]
	last := h[len(h)-1]
	h[len(h)-1] = event{}
	h = h[:len(h)-1]
	*s = h
	if len(h) == 0 {
		return next
	}
	i := 0
	for {
		first := 4*i + 1
		if first >= len(h) {
			break
		}
		least := first
		for c := first + 1; c < min(first+4, len(h)); c++ {
			if h[c].before(&h[least]) {
				least = c
			}
		}
		if !h[least].before(&last) {
			break
		}
		h[i] = h[least]
		i = least
	}
	h[i] = last
	return next
}
