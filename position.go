package scheduler

import (
	"container/heap"
	"math"
)

// positions tells waiting requests their place in the queue (R16). The first places are
// told exactly after every event. A request further back is only told how many are
// queued, and only when it begins to wait or is queued again, so that a long queue does
// not make every event expensive.
type positions struct {
	queue     *queue
	exact     int      // how many places are told exactly
	listeners int      // waiting requests with a PositionCh
	shifted   bool     // the exact places may have changed
	newest    *request // that began to wait in this step
	requeued  *line    // its load has ended in this step without serving all of it
	full      bool     // at the last walk every exact place was taken
	lowest    int      // if full: the priority of the request in the last exact place
	cursors   cursors
}

// exactPlaces is positions.exact outside tests.
const exactPlaces = 64

// place is what positions keeps for one request. The zero value is a request that was
// told nothing.
type place struct {
	told bool
	n    int32 // the place that it was told; a queue has fewer than two thousand million
}

// near reports whether r may be in one of the exact places. A request that was told a
// place further back comes among them only in a sync, which tells it.
func (p *positions) near(r *request) bool { return !r.place.told || int(r.place.n) <= p.exact }

// add begins to tell r, which has just begun to wait.
func (p *positions) add(r *request) {
	p.newest = r
	if r.req.PositionCh != nil {
		p.shifted = p.shifted || p.listeners == 0 // The places were not kept without listeners.
		p.listeners++
	}
	if r.line().loading {
		p.tell(r, 0)
	}
}

// remove stops telling r. If r is in an exact place, the requests behind it move up. A
// request that r kept out of the exact places may move up too.
func (p *positions) remove(r *request) {
	p.shifted = p.shifted || !r.line().loading && (p.near(r) || p.hides(r))
	if r.req.PositionCh != nil {
		p.listeners--
	}
}

// hides reports whether r, although it is further back itself, may keep an older request
// of another tenant out of the exact places, because that tenant's turn comes after r's.
// Say X1, Y4 and X2 wait for one model, in this order, and 3 for another. The queue is X1
// 3 Y4 X2, and once Y4 has left it is X1 X2 3.
func (p *positions) hides(r *request) bool {
	return r.turn.class.turns != nil && (!p.full || r.priority >= p.lowest)
}

// load tells the requests of l that their model is being loaded for them.
func (p *positions) load(l *line) {
	p.shifted = true
	for r := range l.requests() {
		p.tell(r, 0)
	}
}

// requeue puts the requests of l back into the queue: the load has ended without serving
// them.
func (p *positions) requeue(l *line) {
	if l.n > 0 {
		p.shifted, p.requeued = true, l
	}
}

// sync tells what has changed: the exact places, the newest request, and the requests
// that were queued again.
func (p *positions) sync() {
	newest, requeued := p.newest, p.requeued
	p.newest, p.requeued = nil, nil
	if p.listeners == 0 {
		p.shifted = false
		return
	}
	if newest != nil && (!newest.waits() || newest.line().loading) {
		newest = nil
	}
	if p.shifted || newest != nil && p.mayBeExact(newest) {
		p.walk()
		p.shifted = false
	}
	// Finding the exact place of the others would take a search. How many are queued
	// is an upper bound.
	if newest != nil && !newest.place.told {
		p.tell(newest, p.queue.queued())
	}
	if requeued != nil && !requeued.loading {
		for r := range requeued.requests() {
			if !r.place.told || r.place.n == 0 {
				p.tell(r, p.queue.queued())
			}
		}
	}
}

// mayBeExact reports whether r, the newest request, may be in one of the exact places. It
// ranks behind every other request of its priority in any model, except for later
// requests of other tenants in its own class.
func (p *positions) mayBeExact(r *request) bool {
	if p.queue.queued() <= p.exact || !p.full || r.priority > p.lowest {
		return true
	}
	return r.priority == p.lowest && r.turn.class.turns != nil && (r.prev == nil || p.near(r.prev))
}

// walk tells the exact places.
func (p *positions) walk() {
	p.full = false
	p.cursors.begin(p.queue.lines, false)
	for n := 1; n <= p.exact; n++ {
		r := p.cursors.next()
		if r == nil {
			break
		}
		p.tell(r, n)
		if n == p.exact {
			p.full, p.lowest = true, r.priority
		}
	}
	p.cursors.end()
}

// tell sends r its place if that is news to it.
func (p *positions) tell(r *request, n int) {
	if r.place.told && int(r.place.n) == n {
		return
	}
	r.place.told, r.place.n = true, int32(min(n, math.MaxInt32))
	if r.req.PositionCh != nil {
		send(r.req.PositionCh, n)
	}
}

// send replaces what is unread in ch with n. It never blocks, and it survives a channel
// that its owner has closed.
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

// cursors merges the lines of the models into the queue: it repeatedly takes the request
// that ranks first among the next requests of all lines. The lines that it has not begun
// are in order, so it only has to compare the first of them with those that it has begun.
type cursors struct {
	lines   []*line // those that are to come
	loading bool    // of them only those that are loading; false: only the others
	begun   []*cursor
	free    []*cursor // their memory is reused
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

// begin starts at the front of the lines that are loading, or of those that are not.
// Lines are in order.
func (c *cursors) begin(lines []*line, loading bool) {
	c.lines, c.loading = lines, loading
}

// next returns the next request of the queue, or nil at the end.
func (c *cursors) next() *request {
	for len(c.lines) > 0 && c.lines[0].loading != c.loading {
		c.lines = c.lines[1:]
	}
	if len(c.lines) > 0 && (len(c.begun) == 0 || byRank(c.lines[0].head, c.begun[0].next) < 0) {
		l := c.lines[0]
		c.lines = c.lines[1:]
		if l.n > 1 {
			c.start(l)
		}
		return l.head
	}
	if len(c.begun) == 0 {
		return nil
	}
	top := c.begun[0]
	r := top.next
	if top.advance() {
		heap.Fix(c, 0)
	} else {
		c.free = append(c.free, heap.Pop(c).(*cursor))
	}
	return r
}

// start begins l, which has more than one request, after its head.
func (c *cursors) start(l *line) {
	var cur *cursor
	if n := len(c.free); n > 0 {
		cur, c.free = c.free[n-1], c.free[:n-1]
	} else {
		cur = new(cursor)
	}
	cur.descend(l.classes)
	cur.enter()
	cur.advance()
	heap.Push(c, cur)
}

// end drops all references to requests.
func (c *cursors) end() {
	c.lines = nil
	c.free = append(c.free, c.begun...)
	clear(c.begun)
	c.begun = c.begun[:0]
	for _, cur := range c.free {
		clear(cur.path[:cap(cur.path)])
		clear(cur.later[:cap(cur.later)])
		*cur = cursor{path: empty(cur.path), later: empty(cur.later)}
	}
}

// descend puts the highest class of a tree on the path, on top of those passed on the
// way.
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

// advance goes to the next request, and reports whether there is one. In the first round
// each tenant has its turn. Tenants with more requests follow in the same order, round by
// round.
func (c *cursor) advance() bool {
	if c.at == len(c.later) { // Always so with one tenant.
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

// Len, Less, Swap, Push and Pop implement [heap.Interface] for the cursors that have
// begun.

func (c *cursors) Len() int           { return len(c.begun) }
func (c *cursors) Less(i, j int) bool { return byRank(c.begun[i].next, c.begun[j].next) < 0 }
func (c *cursors) Swap(i, j int)      { c.begun[i], c.begun[j] = c.begun[j], c.begun[i] }
func (c *cursors) Push(x any)         { c.begun = append(c.begun, x.(*cursor)) }
func (c *cursors) Pop() any {
	last := len(c.begun) - 1
	cur := c.begun[last]
	c.begun[last] = nil
	c.begun = c.begun[:last]
	return cur
}
