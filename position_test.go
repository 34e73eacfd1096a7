package scheduler

import (
	"fmt"
	"slices"
	"testing"
)

// positionTest is a queue whose requests are told their places, and what each of
// them should have been told.
type positionTest struct {
	*queueTest
	positions positions
	told      map[*request]int // what it was told last, by the rules of R16
	newest    *request
	requeued  *line
}

func newPositionTest(t *testing.T, seed uint64, exact int) *positionTest {
	p := &positionTest{queueTest: newQueueTest(t, seed), told: make(map[*request]int)}
	p.positions = positions{queue: &p.queue, exact: exact}
	return p
}

// join makes a request wait. Each step has one at most.
func (p *positionTest) join(listens bool) *request {
	r := p.arrive()
	if listens {
		r.req.PositionCh = make(chan int, 1)
	}
	return p.joined(r)
}

// joined notes that r has begun to wait.
func (p *positionTest) joined(r *request) *request {
	p.positions.add(r)
	p.newest = r
	if r.line().loading {
		p.hears(r, 0)
	}
	return r
}

// leave takes r out, because it was granted or because its caller has left.
func (p *positionTest) leave(r *request, granted bool) {
	p.positions.remove(r)
	if granted {
		p.grant(r)
	} else {
		p.remove(r)
	}
	if len(r.req.PositionCh) > 0 {
		p.Fatalf("request %d was told a place although it left", r.arrival)
	}
}

// load makes a swap for l start.
func (p *positionTest) load(l *line) {
	p.setLoading(l, true)
	p.positions.load(l)
	for _, r := range p.naive.of(l) {
		p.hears(r, 0)
	}
}

// requeue makes a swap for l end without serving what is left of l. Each step has one
// at most.
func (p *positionTest) requeue(l *line) {
	p.setLoading(l, false)
	p.positions.requeue(l)
	p.requeued = l
}

// sync ends the step, and checks what each request is told.
func (p *positionTest) sync() {
	p.Helper()
	p.positions.sync()
	queued := p.naive.merged(p.lines, false)
	for i, r := range queued {
		place := i + 1
		switch told, known := p.told[r]; {
		case place <= p.positions.exact:
			p.hears(r, place)
		case r == p.newest && !known, r.line() == p.requeued && told == 0:
			p.hears(r, len(queued)) // an upper bound
		default:
			p.hears(r, told)
		}
	}
	p.newest, p.requeued = nil, nil
}

// hears checks that r is told its place if that is news, and nothing otherwise.
func (p *positionTest) hears(r *request, place int) {
	p.Helper()
	before, known := p.told[r]
	p.told[r] = place
	if r.req.PositionCh == nil {
		return
	}
	select {
	case got := <-r.req.PositionCh:
		if known && before == place {
			p.Fatalf("request %d is told %d again, want nothing", r.arrival, got)
		}
		if got != place {
			p.Fatalf("request %d is told %d, want %d", r.arrival, got, place)
		}
	default:
		if !known || before != place {
			p.Fatalf("request %d is told nothing, want %d", r.arrival, place)
		}
	}
}

// TestPositionsAgainstNaive lets anything happen, and computes every place from scratch
// after each step.
func TestPositionsAgainstNaive(t *testing.T) {
	for seed := range uint64(48) {
		p := newPositionTest(t, seed, 1+int(seed/12)*2)
		for i := range 300 {
			joined := false
			for range 1 + p.rand.IntN(3) {
				l := p.lines[p.rand.IntN(len(p.lines))]
				switch n := p.rand.IntN(10); {
				case n == 0 && !l.loading:
					p.load(l)
				case n <= 1 && l.loading && p.requeued == nil:
					p.requeue(l)
				case n <= 3 || n <= 5 && i%100 > 60:
					if r := p.any(); r != nil {
						p.leave(r, false)
					}
				case n <= 5:
					if r := p.next(); r != nil {
						p.leave(r, true)
					}
				case !joined:
					joined = true
					p.join(p.rand.IntN(3) > 0 && i%150 > 20) // Sometimes there are no listeners.
				}
			}
			p.sync()
		}
		for r := p.any(); r != nil; r = p.any() {
			p.leave(r, false)
			p.sync()
		}
		if p.positions.listeners != 0 || p.positions.newest != nil {
			t.Fatalf("seed %d: %d listeners are left", seed, p.positions.listeners)
		}
	}
}

// TestPositionsOfALongQueue goes through the cases of R16 in which a request far back
// is told its place. The first two places are exact.
func TestPositionsOfALongQueue(t *testing.T) {
	p := newPositionTest(t, 0, 2) // one priority, one tenant
	p.lines = p.lines[:1]
	var all []*request
	check := func(what string, want ...int) {
		t.Helper()
		p.sync()
		var got []int
		for _, r := range all {
			got = append(got, p.told[r])
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: they were told %v, want %v", what, got, want)
		}
	}
	for range 5 {
		all = append(all, p.join(true))
		p.sync()
	}
	check("five wait", 1, 2, 3, 4, 5)
	p.leave(all[0], true)
	check("one is served", 1, 1, 2, 4, 5)
	p.leave(all[3], false)
	all = append(all, p.join(true))
	check("one far back leaves, and one joins", 1, 1, 2, 4, 5, 4)
	p.load(p.lines[0])
	check("a load starts", 1, 0, 0, 4, 0, 0)
	all = append(all, p.join(true))
	check("one joins meanwhile", 1, 0, 0, 4, 0, 0, 0)
	p.requeue(p.lines[0])
	check("it serves no request", 1, 1, 2, 4, 5, 5, 5)
}

// wait makes a listening request wait, and ends the step.
func (p *positionTest) wait(l *line, tenant string, priority int) *request {
	r := &request{priority: priority, req: HandlerReq{PositionCh: make(chan int, 1)}}
	p.joined(p.add(l, r, tenant))
	p.sync()
	return r
}

// TestFarBackMayMatter: a request behind the exact places may keep an older one of
// another tenant out of them.
func TestFarBackMayMatter(t *testing.T) {
	p := newPositionTest(t, 0, 2)
	a, b := p.lines[0], p.lines[1]
	w1 := p.wait(a, "W", 0)
	p.wait(a, "X", 0)
	x3 := p.wait(a, "X", 0)
	p.wait(b, "X", 0)
	y5 := p.wait(a, "Y", 0)
	p.leave(w1, true)
	p.sync() // The queue is X2 X4 Y5 X3.
	p.leave(y5, false)
	p.sync() // It is X2 X3 X4.
	if got := p.told[x3]; got != 2 {
		t.Errorf("X3 was told %d, want 2", got)
	}
}

// TestFarBackIsCheap: a request far back that joins or leaves does not cause a walk
// through the queue, except where it may matter.
func TestFarBackIsCheap(t *testing.T) {
	p := newPositionTest(t, 0, 2)
	a, b := p.lines[0], p.lines[1]
	var first, far *request
	for _, tenant := range []string{"X", "Y", "X", "Y", "X", "Y"} {
		far = p.wait(a, tenant, 0)
		if first == nil {
			first = far
		}
	}
	for _, test := range []struct {
		what  string
		does  func()
		walks bool
	}{
		{"nothing happens", func() {}, false},
		{"one more of a tenant", func() { p.wait(a, "X", 0) }, false},
		{"another tenant", func() { far = p.wait(a, "Z", 0) }, true},
		{"it leaves", func() { p.leave(far, false) }, true},
		{"one of another model", func() { far = p.wait(b, "X", 0) }, false},
		{"it leaves", func() { p.leave(far, false) }, false},
		{"a low priority", func() { p.wait(a, "X", -1) }, false},
		{"another tenant there", func() { far = p.wait(a, "Y", -1) }, false},
		{"it leaves", func() { p.leave(far, false) }, false},
		{"a high priority", func() { far = p.wait(a, "X", 1) }, true},
		{"it leaves", func() { p.leave(far, false) }, true},
		{"the first is served", func() { p.leave(first, true) }, true},
	} {
		p.positions.cursors = cursors{} // A walk through the queue leaves some cursors there.
		test.does()
		p.sync()
		if walks := p.positions.cursors.free != nil; walks != test.walks {
			t.Errorf("%s: walked through the queue: %v", test.what, walks)
		}
	}
}

// TestSend: send replaces an unread value, and neither blocks nor panics.
func TestSend(t *testing.T) {
	for _, test := range []struct {
		capacity, unread int
		closed           bool
		want             string
	}{
		{0, 0, false, "[]"},
		{1, 0, false, "[7]"},
		{1, 1, false, "[7]"},
		{3, 0, false, "[7]"},
		{3, 2, false, "[7]"},
		{3, 3, false, "[7]"},
		{0, 0, true, "[]"},
		{3, 2, true, "[]"},
	} {
		ch := make(chan int, test.capacity)
		for i := range test.unread {
			ch <- -i
		}
		if test.closed {
			close(ch)
		}
		send(ch, 7)
		if !test.closed {
			close(ch)
		}
		got := []int{}
		for n := range ch {
			got = append(got, n)
		}
		if fmt.Sprint(got) != test.want {
			t.Errorf("%+v: unread is %v", test, got)
		}
	}
}

// TestCursors: the requests come in the order of the queue, from those lines that are
// being loaded for or from the others. Afterwards no request is held.
func TestCursors(t *testing.T) {
	for seed := range uint64(24) {
		q := newQueueTest(t, seed)
		var c cursors
		for i := range 200 {
			q.random(i%100 < 70)
			loading := i%2 == 0
			want := q.naive.merged(q.lines, loading)
			if q.rand.IntN(4) == 0 { // Stop early.
				want = want[:q.rand.IntN(len(want)+1)]
			}
			var got []*request
			for c.begin(q.queue.lines, loading); len(got) < len(want); {
				got = append(got, c.next())
			}
			if i%3 == 0 && len(want) == len(q.naive.merged(q.lines, loading)) && c.next() != nil {
				t.Fatalf("seed %d: there is no end", seed)
			}
			if !slices.Equal(got, want) {
				t.Fatalf("seed %d: the order is %v, want %v", seed, arrivals(got...), arrivals(want...))
			}
			c.end()
			checkCursorsHoldNothing(t, &c)
		}
		if n := len(c.free); n > len(q.lines) {
			t.Errorf("seed %d: %d cursors for %d lines", seed, n, len(q.lines))
		}
	}
}

// checkCursorsHoldNothing checks that the memory of c refers to no request.
func checkCursorsHoldNothing(t *testing.T, c *cursors) {
	t.Helper()
	if c.Len() > 0 || c.lines != nil {
		t.Fatalf("%d cursors and %d lines are in use", c.Len(), len(c.lines))
	}
	for _, cur := range c.begun[:cap(c.begun)] {
		if cur != nil {
			t.Fatal("the heap holds a cursor")
		}
	}
	for _, cur := range c.free {
		held := cur.next != nil || cur.ring != nil || cur.turn != nil
		for _, n := range cur.path[:cap(cur.path)] {
			held = held || n != nil
		}
		for _, r := range cur.later[:cap(cur.later)] {
			held = held || r != nil
		}
		if held {
			t.Fatal("a free cursor holds requests")
		}
	}
}

// TestPositionsAllocateNothing: no allocations if the queue has been that long before.
func TestPositionsAllocateNothing(t *testing.T) {
	p := newPositionTest(t, 3, exactPlaces) // Four tenants take turns.
	for range 100 {
		p.join(true)
		p.sync()
	}
	if n := testing.AllocsPerRun(100, func() {
		p.positions.shifted = true
		p.positions.sync()
	}); n != 0 {
		t.Errorf("%v allocations for a walk", n)
	}
}
