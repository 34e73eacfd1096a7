package scheduler

import "container/heap"

const (
	// exact is how many places of the queue are told exactly after every event.
	exact = 64
	// nowhere is the position of a request that was told none.
	nowhere = -1
)

// listen begins to tell r its positions.
func (f *FIFO) listen(r *request) {
	f.newest = r
	if r.req.PositionCh != nil {
		f.shifted = f.shifted || f.listeners == 0 // Nobody has kept the places meanwhile.
		f.listeners++
	}
	f.owePosition(r)
	if r.model.loading() {
		f.tell(r, 0)
	}
}

// owePosition notes that r has to be told its position wherever it is.
func (f *FIFO) owePosition(r *request) {
	if r.req.PositionCh != nil {
		r.owed = true
		f.owed++
	}
}

// unlisten ends it. Who is behind one of the exact places moves up.
func (f *FIFO) unlisten(r *request) {
	f.shifted = f.shifted || !r.model.loading() && r.told <= exact
	if r.req.PositionCh != nil {
		f.listeners--
	}
	f.paidPosition(r)
}

// paidPosition notes that r has been told, or need not be any more.
func (f *FIFO) paidPosition(r *request) {
	if r.owed {
		r.owed = false
		f.owed--
	}
}

// loadStarted tells the requests that m is being loaded for.
func (f *FIFO) loadStarted(m *model) {
	f.shifted = true
	m.queue.each(func(r *request) { f.tell(r, 0) })
}

// loadEnded puts the requests that m's load has not served into the queue.
func (f *FIFO) loadEnded(m *model) {
	f.shifted = f.shifted || m.queue.n > 0
	m.queue.each(f.owePosition)
}

// tellAll brings the positions up to date (R16): the first places, whoever has to
// be told further back, and the newest, whose place is counted and not searched.
func (f *FIFO) tellAll() {
	if r := f.newest; r != nil {
		f.newest = nil
		if r.model != nil && !r.model.loading() {
			f.place(r)
		}
	}
	if f.listeners > 0 && (f.shifted || f.owed > 0) {
		cursors := f.cursors.begin(f.waiting)
		for place := 1; len(*cursors) > 0 && (place <= exact || f.owed > 0); place++ {
			if r := cursors.next(); place <= exact || r.owed {
				f.tell(r, place)
			}
		}
		f.cursors.end()
	}
	f.shifted = false
}

// place tells r, the newest request, its place. One among the exact places that is
// not the last moves others, and they are told together.
func (f *FIFO) place(r *request) {
	if f.listeners == 0 {
		return
	}
	place, behind := 0, 0
	for _, m := range f.waiting {
		if m.loading() {
			continue
		}
		for i := range m.queue.classes {
			if c := &m.queue.classes[i]; c.priority >= r.priority {
				place += c.n
			} else {
				behind += c.n
			}
		}
	}
	if place <= exact && behind > 0 {
		f.shifted = true
	} else {
		f.tell(r, place)
	}
}

// tell sends r its place if that is news to it.
func (f *FIFO) tell(r *request, place int) {
	f.paidPosition(r)
	if r.told == place {
		return
	}
	r.told = place
	if r.req.PositionCh != nil {
		send(r.req.PositionCh, place)
	}
}

// send replaces what is unread in ch by place. It never blocks, and a channel
// that its owner has closed does not take the run loop down.
func send(ch chan int, place int) {
	defer func() { _ = recover() }()
	for range len(ch) {
		select {
		case <-ch:
		default:
		}
	}
	select {
	case ch <- place:
	default:
	}
}

// cursor points at the next request of one model's queue.
type cursor struct {
	next  *request
	queue *queue
	class int
}

// cursors merges the queues of models into one, by rank. It is a heap.
type cursors []cursor

// begin starts at the front of the queue: the requests of models, without those
// that are being loaded for.
func (c *cursors) begin(models []*model) *cursors {
	*c = (*c)[:0]
	for _, m := range models {
		if !m.loading() {
			*c = append(*c, cursor{m.queue.classes[0].head, &m.queue, 0})
		}
	}
	heap.Init(c)
	return c
}

// next returns the request whose turn it is and moves on. C is not empty.
func (c *cursors) next() *request {
	top := &(*c)[0]
	r := top.next
	top.next = r.next
	if top.next == nil {
		if top.class++; top.class < len(top.queue.classes) {
			top.next = top.queue.classes[top.class].head
		} else {
			last := len(*c) - 1
			(*c)[0] = (*c)[last]
			*c = (*c)[:last]
		}
	}
	if len(*c) > 0 {
		heap.Fix(c, 0)
	}
	return r
}

// end lets go of the requests.
func (c *cursors) end() { clear((*c)[:cap(*c)]) }

func (c cursors) Len() int           { return len(c) }
func (c cursors) Less(i, j int) bool { return compare(c[i].next, c[j].next) < 0 }
func (c cursors) Swap(i, j int)      { c[i], c[j] = c[j], c[i] }

// Push and Pop complete heap.Interface. Cursors are only begun and used up.
func (c *cursors) Push(any) {}
func (c *cursors) Pop() any { return nil }
