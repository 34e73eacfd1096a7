package scheduler

import (
	"container/heap"
	"time"
)

// deadlines knows the earliest time at which each model that requests wait for may be
// overdue. Before that time the look need not consider the model (R8). It is a heap by
// time. The zero value has no deadlines.
type deadlines struct{ heap []*deadline }

// deadline is what deadlines keeps of one model. The zero value is not in the heap.
type deadline struct {
	owner *model // whose deadline it is; deadlines does not look into it
	at    time.Time
	index int // in the heap, from 1; 0: it is not in there

	// The request with that arrival number does not make the model overdue before
	// notBefore, because of its price (R8).
	arrival   uint64
	notBefore time.Time
}

// set makes at the deadline of d.
func (h *deadlines) set(d *deadline, at time.Time) {
	switch {
	case d.index == 0:
		d.at = at
		heap.Push(h, d)
	case !d.at.Equal(at):
		d.at = at
		heap.Fix(h, d.index-1)
	}
}

// remove takes d out, if it is in there.
func (h *deadlines) remove(d *deadline) {
	if d.index > 0 {
		heap.Remove(h, d.index-1)
	}
}

// passed appends to due the owners of the deadlines that have passed by now, in no
// particular order. They stay.
func (h *deadlines) passed(now time.Time, due []*model) []*model {
	return h.below(0, now, due)
}

// below does the work of passed for the part of the heap that begins at i.
func (h *deadlines) below(i int, now time.Time, due []*model) []*model {
	if i >= len(h.heap) || h.heap[i].at.After(now) {
		return due
	}
	due = append(due, h.heap[i].owner)
	due = h.below(2*i+1, now, due)
	return h.below(2*i+2, now, due)
}

// Len, Less, Swap, Push and Pop implement [heap.Interface].

func (h *deadlines) Len() int           { return len(h.heap) }
func (h *deadlines) Less(i, j int) bool { return h.heap[i].at.Before(h.heap[j].at) }

func (h *deadlines) Swap(i, j int) {
	h.heap[i], h.heap[j] = h.heap[j], h.heap[i]
	h.heap[i].index, h.heap[j].index = i+1, j+1
}

func (h *deadlines) Push(x any) {
	d := x.(*deadline)
	h.heap = append(h.heap, d)
	d.index = len(h.heap)
}

func (h *deadlines) Pop() any {
	last := len(h.heap) - 1
	d := h.heap[last]
	h.heap[last] = nil
	h.heap = h.heap[:last]
	d.index = 0
	return d
}
