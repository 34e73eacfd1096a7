package scheduler

// class holds the waiting requests of one model and one priority (R6). Tenants take
// turns in it (round robin: Nagle, On Packet Switches with Infinite Storage,
// 1987).
//
// The classes of a line are a treap (Seidel and Aragon, Randomized Search Trees, 1996): a
// search tree by priority and a heap by weight. So the tree is balanced whatever the
// priorities are. Each node knows the oldest request of its subtree.
type class struct {
	line        *line
	priority    int
	weight      uint64
	left, right *class   // higher and lower priorities
	oldest      *request // of this class and those below it in the tree

	head, tail *request // by arrival
	turn       *turn    // whose turn it is; the others follow in a ring
	turns      map[string]*turn
	only       turn // of the first tenant, which is usually the only one
}

// turn holds the requests of one tenant in a class.
type turn struct {
	class      *class
	tenant     string
	head, tail *request // by arrival; nil once the tenant has none
	prev, next *turn    // in the ring
}

// weights makes the weights of a treap: a fixed sequence, so that the same events
// build the same trees (R18). It is SplitMix64 (Steele, Lea and Flood, 2014).
type weights uint64

// next returns the next weight.
func (w *weights) next() uint64 {
	*w += 0x9e3779b97f4a7c15
	z := uint64(*w)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// spare makes classes. It keeps one that is not in use, because most lines have one class
// and come and go.
type spare struct {
	class   *class
	weights weights
}

// newClass returns an empty class of l.
func (s *spare) newClass(l *line, priority int) *class {
	c := s.class
	if s.class = nil; c == nil {
		c = new(class)
	}
	*c = class{line: l, priority: priority, weight: s.weights.next()}
	return c
}

// push adds r to its class in l. It makes the class if there is none.
func (l *line) push(r *request, tenant string, s *spare) {
	c := l.classes.find(r.priority)
	if c == nil {
		c = s.newClass(l, r.priority)
		c.append(r, tenant)
		l.insert(c)
		return
	}
	c.append(r, tenant) // It is younger than c.oldest, which stays.
}

// pull takes r out of l. The turn of r stays as it is until the next push.
func (l *line) pull(r *request, s *spare) {
	c := r.turn.class
	oldest := c.head == r
	c.delete(r)
	switch {
	case c.head == nil:
		l.remove(c, r)
		c.line, c.left, c.right, c.oldest, c.turns = nil, nil, nil, nil, nil // The spare must keep nothing in memory.
		s.class = c
	case oldest:
		l.classes.refresh(c.priority)
	}
}

// append adds r at the end of a tenant's requests.
func (c *class) append(r *request, tenant string) {
	t := c.turnOf(tenant)
	if t == nil {
		t = c.join(tenant)
	}
	r.turn = t
	if r.prev = t.tail; r.prev == nil {
		t.head = r
	} else {
		r.prev.next = r
	}
	t.tail = r
	if r.older = c.tail; r.older == nil {
		c.head = r
	} else {
		r.older.newer = r
	}
	c.tail = r
}

// delete takes r out of its tenant's requests. A tenant without requests leaves the
// ring.
func (c *class) delete(r *request) {
	t := r.turn
	if r.prev == nil {
		t.head = r.next
	} else {
		r.prev.next = r.next
	}
	if r.next == nil {
		t.tail = r.prev
	} else {
		r.next.prev = r.prev
	}
	if r.older == nil {
		c.head = r.newer
	} else {
		r.older.newer = r.newer
	}
	if r.newer == nil {
		c.tail = r.older
	} else {
		r.newer.older = r.older
	}
	r.turn, r.prev, r.next, r.older, r.newer = nil, nil, nil, nil, nil
	if t.head == nil {
		c.unlink(t)
		delete(c.turns, t.tenant)
	}
}

// turnOf returns the turn of a tenant, or nil if the tenant has no request in c.
func (c *class) turnOf(tenant string) *turn {
	if t := c.turn; t == nil || t.tenant == tenant {
		return t
	}
	return c.turns[tenant]
}

// join puts a tenant that begins to wait behind the others, and returns its turn.
func (c *class) join(tenant string) *turn {
	t := &c.only
	if c.turn != nil {
		t = new(turn)
		if c.turns == nil {
			c.turns = map[string]*turn{c.turn.tenant: c.turn}
		}
		c.turns[tenant] = t
	}
	t.class, t.tenant = c, tenant
	c.link(t)
	return t
}

// link puts t behind the others in the ring.
func (c *class) link(t *turn) {
	if c.turn == nil {
		t.prev, t.next, c.turn = t, t, t
		return
	}
	t.prev, t.next = c.turn.prev, c.turn
	t.prev.next, t.next.prev = t, t
}

// unlink takes t out of the ring.
func (c *class) unlink(t *turn) {
	if c.turn == t {
		c.turn = t.next
	}
	if c.turn == t {
		c.turn = nil
	}
	t.prev.next, t.next.prev = t.next, t.prev
	t.prev, t.next = nil, nil
}

// pass puts t behind the other tenants. If it has no request left, it is no longer in the
// ring.
func (c *class) pass(t *turn) {
	if t.head == nil {
		return
	}
	c.unlink(t)
	c.link(t)
}

// next returns the request of c whose turn it is among those that arrived up to limit.
// There must be one.
func (c *class) next(limit uint64) *request {
	t := c.turn
	for t.head.arrival > limit {
		t = t.next
	}
	return t.head
}

// first returns the request of the tree that ranks first among those that arrived up to
// limit, or nil if there is none.
func (c *class) first(limit uint64) *request {
	if c == nil || c.oldest.arrival > limit {
		return nil
	}
	if r := c.left.first(limit); r != nil {
		return r
	}
	if c.head.arrival <= limit {
		return c.next(limit)
	}
	return c.right.first(limit)
}

// each yields the requests of the tree by priority, then arrival, and reports
// whether to go on.
func (c *class) each(yield func(*request) bool) bool {
	if c == nil {
		return true
	}
	if !c.left.each(yield) {
		return false
	}
	for r := c.head; r != nil; r = r.newer {
		if !yield(r) {
			return false
		}
	}
	return c.right.each(yield)
}

// find returns the class of a priority, or nil if the tree has none.
func (c *class) find(priority int) *class {
	for c != nil && c.priority != priority {
		c = *c.child(priority)
	}
	return c
}

// child returns the side of c on which a priority belongs.
func (c *class) child(priority int) **class {
	if priority > c.priority {
		return &c.left
	}
	return &c.right
}

// insert puts a class into the tree. Its only request is younger than all others, so the
// nodes above it do not change.
func (l *line) insert(added *class) {
	at := &l.classes
	for *at != nil && (*at).weight >= added.weight {
		at = (*at).child(added.priority)
	}
	added.left, added.right = (*at).split(added.priority)
	added.update()
	*at = added
}

// remove takes a class, whose last request was r, out of the tree.
func (l *line) remove(removed *class, r *request) {
	at, wasOldest := &l.classes, false
	for *at != removed {
		wasOldest = wasOldest || (*at).oldest == r
		at = (*at).child(removed.priority)
	}
	*at = merge(removed.left, removed.right)
	if wasOldest {
		l.classes.refresh(removed.priority)
	}
}

// refresh updates the nodes from the root to a priority, or to where it belongs.
func (c *class) refresh(priority int) {
	if c == nil {
		return
	}
	if c.priority != priority {
		(*c.child(priority)).refresh(priority)
	}
	c.update()
}

// split divides the tree into the classes above and below a priority that has none.
func (c *class) split(priority int) (above, below *class) {
	if c == nil {
		return nil, nil
	}
	if c.priority > priority {
		c.right, below = c.right.split(priority)
		c.update()
		return c, below
	}
	above, c.left = c.left.split(priority)
	c.update()
	return above, c
}

// merge joins two trees. All priorities of a are above those of b.
func merge(a, b *class) *class {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	case a.weight > b.weight:
		a.right = merge(a.right, b)
		a.update()
		return a
	}
	b.left = merge(a, b.left)
	b.update()
	return b
}

// update finds the oldest request of c and its children. It writes only if that has
// changed, which is rare, because writing a pointer is expensive while the garbage
// collector runs.
func (c *class) update() {
	oldest := c.head
	if c.left != nil && c.left.oldest.arrival < oldest.arrival {
		oldest = c.left.oldest
	}
	if c.right != nil && c.right.oldest.arrival < oldest.arrival {
		oldest = c.right.oldest
	}
	if c.oldest != oldest {
		c.oldest = oldest
	}
}
