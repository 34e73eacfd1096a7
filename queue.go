package scheduler

import (
	"cmp"
	"slices"
	"time"
)

// request is one waiting request.
type request struct {
	req      HandlerReq
	model    *model // nil once it waits no more
	priority int
	arrival  uint64    // unique, and higher for later ones
	since    time.Time // when it began to wait
	told     int       // the position it knows; nowhere: none
	owed     bool      // it has to be told its position wherever it is

	prev, next *request // in its class, by arrival
}

// alive reports whether the caller is still there, as far as Ctx can tell.
func (r *request) alive() bool {
	return r.req.Ctx == nil || r.req.Ctx.Err() == nil
}

// compare is the rank of R6: by priority, then arrival.
func compare(a, b *request) int {
	if a.priority != b.priority {
		return cmp.Compare(b.priority, a.priority)
	}
	return cmp.Compare(a.arrival, b.arrival)
}

// class holds the waiting requests of one model and one priority, by arrival.
type class struct {
	priority   int
	n          int
	head, tail *request
}

// queue holds the waiting requests of one model: a linked list per priority, so
// that any request is taken out in constant time.
type queue struct {
	n       int
	classes []class // highest priority first, none of them empty
}

// search returns the index of the class of a priority, or where it belongs.
func (q *queue) search(priority int) (int, bool) {
	return slices.BinarySearchFunc(q.classes, priority, func(c class, p int) int {
		return cmp.Compare(p, c.priority)
	})
}

// push adds r, which arrived after everybody else.
func (q *queue) push(r *request) {
	i, found := q.search(r.priority)
	if !found {
		q.classes = slices.Insert(q.classes, i, class{priority: r.priority})
	}
	c := &q.classes[i]
	r.prev = c.tail
	if c.tail == nil {
		c.head = r
	} else {
		c.tail.next = r
	}
	c.tail = r
	c.n++
	q.n++
}

// remove takes r out.
func (q *queue) remove(r *request) {
	i, _ := q.search(r.priority)
	c := &q.classes[i]
	if r.prev == nil {
		c.head = r.next
	} else {
		r.prev.next = r.next
	}
	if r.next == nil {
		c.tail = r.prev
	} else {
		r.next.prev = r.prev
	}
	r.prev, r.next = nil, nil
	q.n--
	if c.n--; c.n == 0 {
		q.classes = slices.Delete(q.classes, i, i+1)
	}
}

// first returns the request that ranks first among those that arrived up to
// limit, nil if there is none.
func (q *queue) first(limit uint64) *request {
	for i := range q.classes {
		if r := q.classes[i].head; r.arrival <= limit {
			return r
		}
	}
	return nil
}

// oldest returns the request that arrived first, nil if there is none.
func (q *queue) oldest() *request {
	if len(q.classes) == 0 {
		return nil
	}
	oldest := q.classes[0].head
	for i := 1; i < len(q.classes); i++ {
		if r := q.classes[i].head; r.arrival < oldest.arrival {
			oldest = r
		}
	}
	return oldest
}

// each calls fn for every request, by rank. Fn may take the request out.
func (q *queue) each(fn func(r *request)) {
	for _, c := range slices.Clone(q.classes) {
		for r := c.head; r != nil; {
			next := r.next
			fn(r)
			r = next
		}
	}
}

// enqueue makes the request that has just arrived wait for m.
func (f *FIFO) enqueue(m *model) *request {
	r := &request{req: f.event.req, model: m, priority: f.priority, arrival: f.arrivals, since: f.now(), told: nowhere}
	if m.queue.n == 0 {
		m.index = len(f.waiting)
		f.waiting = append(f.waiting, m)
	}
	m.queue.push(r)
	f.queued++
	if r.req.Respond != nil {
		f.byRespond[r.req.Respond] = r
	}
	f.listen(r)
	return r
}

// take makes r wait no more. The caller owes its answer.
func (f *FIFO) take(r *request) {
	m := r.model
	f.unlisten(r)
	m.queue.remove(r)
	r.model = nil
	f.queued--
	// A Respond channel in use twice belongs to the later request.
	if f.byRespond[r.req.Respond] == r {
		delete(f.byRespond, r.req.Respond)
	}
	if m.queue.n == 0 {
		last := len(f.waiting) - 1
		f.waiting[m.index] = f.waiting[last]
		f.waiting[m.index].index = m.index
		f.waiting[last] = nil
		f.waiting = f.waiting[:last]
		f.moving = f.moving || m.reservation != nil
		m.forget()
		f.release(m)
	}
	f.shrink()
}

// drop takes r out because its caller has left. Where nobody is left to wait for
// the model, what the request held back may move on (R14).
func (f *FIFO) drop(r *request) {
	m := r.model
	f.take(r)
	f.counters.Cancelled++
	f.moving = f.moving || m.queue.n == 0
}

// oldest returns the living request that has waited longest for m, nil if there
// is none. The dead ones that it meets are taken out.
func (f *FIFO) oldest(m *model) *request {
	for {
		r := m.queue.oldest()
		if r == nil || r.alive() {
			return r
		}
		f.drop(r)
	}
}

// first returns the living request that ranks first for m among those that
// arrived up to limit, nil if there is none. The dead ones that it meets are
// taken out.
func (f *FIFO) first(m *model, limit uint64) *request {
	for {
		r := m.queue.first(limit)
		if r == nil || r.alive() {
			return r
		}
		f.drop(r)
	}
}

// meet takes the callers who have left from the old end of every queue.
func (f *FIFO) meet() {
	for i := len(f.waiting) - 1; i >= 0; i-- {
		f.oldest(f.waiting[i])
	}
}

// rank sorts the models that somebody waits for by their first requests (R6),
// which hardly changes their order from one time to the next, and puts them into
// f.order, since serving takes models from f.waiting.
func (f *FIFO) rank() {
	for i := len(f.waiting) - 1; i >= 0; i-- {
		f.first(f.waiting[i], everybody)
	}
	slices.SortFunc(f.waiting, func(a, b *model) int {
		return compare(a.queue.classes[0].head, b.queue.classes[0].head)
	})
	for i, m := range f.waiting {
		m.index = i
	}
	f.order = append(f.order[:0], f.waiting...)
}
