package scheduler

import "container/heap"

// positions tells waiting requests their place in the queue (R16). The first
// places are told exactly after every event. Further back a request is told where
// it is only when something happens to it, so that a long queue does not make every
// event dear.
type positions struct {
	queue     *queue
	exact     int      // how many places are told exactly
	listeners int      // waiting requests with a PositionCh
	owed      int      // of them, those that have to be told wherever they are
	shifted   bool     // the exact places may have changed
	newest    *request // that began to wait in this step
	full      bool     // as many requests as there are exact places were queued at the last walk
	lowest    int      // if so: the priority of the last of them
	cursors   cursors
}

// exactPlaces is positions.exact outside tests.
const exactPlaces = 64

// place is what positions keeps of one request. The zero value is a request that
// was told nothing.
type place struct {
	told bool
	n    int  // the place that it was told
	owed bool // it has to be told its place wherever it is
}

// near reports whether the request may be in the exact places. One that was told a
// place further back comes among them only with a sync, which tells it.
func (p *positions) near(r *request) bool { return !r.place.told || r.place.n <= p.exact }

// join begins to tell r, which has just begun to wait.
func (p *positions) join(r *request) {
	p.newest = r
	if r.req.PositionCh != nil {
		p.shifted = p.shifted || p.listeners == 0 // Nobody has kept the places meanwhile.
		p.listeners++
	}
	if r.line.loading {
		p.tell(r, 0)
	}
}

// leave ends it. Those behind one of the exact places move up.
func (p *positions) leave(r *request) {
	p.shifted = p.shifted || !r.line.loading && p.near(r)
	if r.req.PositionCh != nil {
		p.listeners--
	}
	p.settle(r)
}

// load tells the requests of l that their model is being loaded for them.
func (p *positions) load(l *line) {
	p.shifted = true
	for r := range l.requests() {
		p.tell(r, 0)
	}
}

// requeue puts the requests of l, whose load has ended without serving them, back
// into the queue. Each has to be told its place once.
func (p *positions) requeue(l *line) {
	p.shifted = p.shifted || l.n > 0
	for r := range l.requests() {
		if r.req.PositionCh != nil && !r.place.owed {
			r.place.owed = true
			p.owed++
		}
	}
}

// settle notes that r has been told, or need not be.
func (p *positions) settle(r *request) {
	if r.place.owed {
		r.place.owed = false
		p.owed--
	}
}

// sync brings what was told up to date: the first places, those that have to be
// told further back, and the newest.
func (p *positions) sync() {
	newest := p.newest
	p.newest = nil
	if newest != nil && (newest.line == nil || newest.line.loading) {
		newest = nil
	}
	if p.listeners == 0 {
		p.shifted = false
		return
	}
	if newest != nil && p.mayBeExact(newest) {
		p.shifted = true
	}
	if p.shifted || p.owed > 0 {
		p.walk()
	}
	p.shifted = false
	if newest != nil && !newest.place.told {
		// Where exactly it is would have to be searched for. How many wait is an
		// upper bound.
		p.tell(newest, p.queue.queued())
	}
}

// mayBeExact reports whether r, the newest request, may be in the exact places. It
// ranks behind every other request of its priority, whatever the model, but for the
// later requests of other tenants in its own class.
func (p *positions) mayBeExact(r *request) bool {
	if p.queue.queued() <= p.exact || !p.full || r.priority > p.lowest {
		return true
	}
	return r.priority == p.lowest && r.class.turns != nil && (r.prev == nil || p.near(r.prev))
}

// walk goes through the queue as far as somebody has to be told.
func (p *positions) walk() {
	p.full = false
	p.cursors.begin(p.queue.lines, false)
	for n := 1; p.cursors.Len() > 0 && (n <= p.exact || p.owed > 0); n++ {
		r := p.cursors.next()
		if n <= p.exact || r.place.owed {
			p.tell(r, n)
		}
		if n == p.exact {
			p.full, p.lowest = true, r.priority
		}
	}
	p.cursors.end()
}

// tell sends r its place if that is news to it.
func (p *positions) tell(r *request, n int) {
	p.settle(r)
	if r.place.told && r.place.n == n {
		return
	}
	r.place.told, r.place.n = true, n
	if r.req.PositionCh != nil {
		send(r.req.PositionCh, n)
	}
}

// send replaces what is unread in ch by n. It never blocks, and a channel that its
// owner has closed does not take the run loop down.
func send(ch chan int, n int) {
	defer func() { _ = recover() }()
	for range len(ch) {
		select {
		case <-ch:
		default:
		}
	}
	select {
	case ch <- n:
	default:
	}
}

// cursors merges the lines of models into the queue: again and again it takes the
// request that ranks first among the next ones of all lines.
type cursors struct {
	heap []*cursor
	free []*cursor // whose memory is used again
}

// cursor goes through one line in the order in which its requests would be granted.
type cursor struct {
	next  *request
	path  []*class   // classes yet to come: the last one, and those right of each
	ring  *class     // the class of next
	turn  *turn      // whose first request next is; nil: the first round is over
	later []*request // of the rounds that follow, in order
	at    int        // in later
}

// begin starts at the front of those of lines that are being loaded for, or of those
// that are not.
func (c *cursors) begin(lines []*line, loading bool) {
	for _, l := range lines {
		if l.loading != loading {
			continue
		}
		var cur *cursor
		if n := len(c.free); n > 0 {
			cur, c.free = c.free[n-1], c.free[:n-1]
		} else {
			cur = new(cursor)
		}
		cur.descend(l.classes)
		cur.enter()
		c.heap = append(c.heap, cur)
	}
	heap.Init(c)
}

// next returns the request whose place it is and moves on. There is one.
func (c *cursors) next() *request {
	top := c.heap[0]
	r := top.next
	if top.advance() {
		heap.Fix(c, 0)
	} else {
		c.free = append(c.free, heap.Pop(c).(*cursor))
	}
	return r
}

// end lets go of the requests.
func (c *cursors) end() {
	c.free = append(c.free, c.heap...)
	clear(c.heap)
	c.heap = c.heap[:0]
	for _, cur := range c.free {
		clear(cur.path[:cap(cur.path)])
		clear(cur.later[:cap(cur.later)])
		*cur = cursor{path: empty(cur.path), later: empty(cur.later)}
	}
}

// descend puts the highest class of a tree on the path, above those it has passed.
func (c *cursor) descend(n *class) {
	for ; n != nil; n = n.left {
		c.path = append(c.path, n)
	}
}

// enter goes to the first request of the next class, and reports whether there is
// one.
func (c *cursor) enter() bool {
	last := len(c.path) - 1
	if last < 0 {
		return false
	}
	n := c.path[last]
	c.path = c.path[:last]
	c.descend(n.right)
	c.ring, c.turn, c.next = n, n.turn, n.turn.head
	return true
}

// advance goes to the next request, and reports whether there is one. In the first
// round each tenant has its turn; those who have more requests follow in the same
// order, round by round.
func (c *cursor) advance() bool {
	if c.at == len(c.later) { // As always with one tenant.
		c.later, c.at = c.later[:0], 0
	}
	if c.next.next != nil {
		c.later = append(c.later, c.next.next)
	}
	if c.turn != nil {
		if c.turn = c.turn.next; c.turn != c.ring.turn {
			c.next = c.turn.head
			return true
		}
		c.turn = nil
	}
	if c.at < len(c.later) {
		c.next = c.later[c.at]
		c.at++
		return true
	}
	c.later, c.at = c.later[:0], 0
	return c.enter()
}

func (c *cursors) Len() int           { return len(c.heap) }
func (c *cursors) Less(i, j int) bool { return byRank(c.heap[i].next, c.heap[j].next) < 0 }
func (c *cursors) Swap(i, j int)      { c.heap[i], c.heap[j] = c.heap[j], c.heap[i] }
func (c *cursors) Push(any)           {} // heap.Init, Fix and Pop do not push.
func (c *cursors) Pop() any {
	last := len(c.heap) - 1
	cur := c.heap[last]
	c.heap[last] = nil
	c.heap = c.heap[:last]
	return cur
}
