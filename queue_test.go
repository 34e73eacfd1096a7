package scheduler

import (
	"cmp"
	"context"
	"math/rand/v2"
	"slices"
	"testing"
)

// naiveQueue is the obvious queue: a list of requests, and for each model and
// priority the tenants in the order of their turns.
type naiveQueue struct {
	requests []*request // by arrival
	tickets  map[*request]naiveTicket
	turns    map[naiveClass][]string
	loading  map[*line]bool
}

// naiveTicket says where a request waits, or has waited.
type naiveTicket struct {
	class  naiveClass
	tenant string
}

type naiveClass struct {
	line     *line
	priority int
}

// newNaiveQueue returns an empty queue.
func newNaiveQueue() naiveQueue {
	return naiveQueue{
		tickets: make(map[*request]naiveTicket),
		turns:   make(map[naiveClass][]string),
		loading: make(map[*line]bool),
	}
}

// add makes r of a tenant wait in l.
func (n *naiveQueue) add(l *line, r *request, tenant string) {
	n.requests = append(n.requests, r)
	t := naiveTicket{naiveClass{l, r.priority}, tenant}
	n.tickets[r] = t
	if !slices.Contains(n.turns[t.class], tenant) {
		n.turns[t.class] = append(n.turns[t.class], tenant)
	}
}

// remove takes r out. Its tenant leaves the turns if this was its last request.
func (n *naiveQueue) remove(r *request) {
	n.requests = slices.DeleteFunc(n.requests, func(o *request) bool { return o == r })
	if !slices.ContainsFunc(n.requests, func(o *request) bool { return n.tickets[o] == n.tickets[r] }) {
		n.leave(r)
	}
}

// grant takes r out, and puts its tenant behind the others.
func (n *naiveQueue) grant(r *request) {
	n.remove(r)
	if t := n.tickets[r]; slices.Contains(n.turns[t.class], t.tenant) {
		n.leave(r)
		n.turns[t.class] = append(n.turns[t.class], t.tenant)
	}
}

// leave takes the tenant of r out of the turns.
func (n *naiveQueue) leave(r *request) {
	t := n.tickets[r]
	n.turns[t.class] = slices.DeleteFunc(n.turns[t.class], func(tenant string) bool { return tenant == t.tenant })
}

// of returns the requests of l by arrival.
func (n *naiveQueue) of(l *line) (requests []*request) {
	for _, r := range n.requests {
		if n.tickets[r].class.line == l {
			requests = append(requests, r)
		}
	}
	return requests
}

// first returns the request of l that is next among those up to limit.
func (n *naiveQueue) first(l *line, limit uint64) (first *request) {
	for _, r := range n.of(l) {
		if r.arrival <= limit && (first == nil || n.before(r, first)) {
			first = r
		}
	}
	return first
}

// before reports whether a ranks before b, a request of the same line.
func (n *naiveQueue) before(a, b *request) bool {
	at, bt := n.tickets[a], n.tickets[b]
	switch {
	case a.priority != b.priority:
		return a.priority > b.priority
	case at.tenant != bt.tenant:
		turns := n.turns[at.class]
		return slices.Index(turns, at.tenant) < slices.Index(turns, bt.tenant)
	}
	return a.arrival < b.arrival
}

// order returns the requests of l in the order in which they would be granted if no
// more arrived.
func (n *naiveQueue) order(l *line) (order []*request) {
	left := naiveQueue{requests: n.of(l), tickets: n.tickets, turns: make(map[naiveClass][]string)}
	for class, turns := range n.turns {
		left.turns[class] = slices.Clone(turns)
	}
	for len(left.requests) > 0 {
		r := left.first(l, everybody)
		order = append(order, r)
		left.grant(r)
	}
	return order
}

// merged returns the requests of all lines that are being loaded for, or of those
// that are not, in the order of the queue.
func (n *naiveQueue) merged(lines []*line, loading bool) (merged []*request) {
	var orders [][]*request
	for _, l := range lines {
		if n.loading[l] == loading {
			orders = append(orders, n.order(l))
		}
	}
	for {
		var best *[]*request
		for i := range orders {
			if o := &orders[i]; len(*o) > 0 && (best == nil || ranksBefore((*o)[0], (*best)[0])) {
				best = o
			}
		}
		if best == nil {
			return merged
		}
		merged = append(merged, (*best)[0])
		*best = (*best)[1:]
	}
}

// ranksBefore compares requests of different lines.
func ranksBefore(a, b *request) bool {
	return a.priority > b.priority || a.priority == b.priority && a.arrival < b.arrival
}

// queueTest is a queue and the obvious one. Both get the same requests.
type queueTest struct {
	*testing.T
	rand       *rand.Rand
	queue      queue
	naive      naiveQueue
	lines      []*line
	priorities int
	tenants    int
}

// newQueueTest returns two empty queues. The seed also decides how many different
// priorities and tenants there are.
func newQueueTest(t *testing.T, seed uint64) *queueTest {
	q := &queueTest{
		T:          t,
		rand:       rand.New(rand.NewPCG(seed, 0)),
		naive:      newNaiveQueue(),
		lines:      []*line{{}, {}, {}, {}},
		priorities: []int{1, 3, 5000}[seed%3],
		tenants:    1 + int(seed%4),
	}
	return q
}

// arrive makes a request wait in one of the lines.
func (q *queueTest) arrive() *request {
	r := &request{priority: q.rand.IntN(q.priorities) - q.priorities/2}
	tenant := string(rune('A' + q.rand.IntN(q.tenants)))
	if q.rand.IntN(4) > 0 {
		r.req.Respond = make(chan HandlerResp)
	}
	return q.add(q.lines[q.rand.IntN(len(q.lines))], r, tenant)
}

// add makes r of a tenant wait in l.
func (q *queueTest) add(l *line, r *request, tenant string) *request {
	r.arrival = q.queue.arrive()
	q.queue.add(l, r, tenant)
	q.naive.add(l, r, tenant)
	return r
}

// any returns one of the requests, nil if there is none.
func (q *queueTest) any() *request {
	if len(q.naive.requests) == 0 {
		return nil
	}
	return q.naive.requests[q.rand.IntN(len(q.naive.requests))]
}

// next returns a request that may be granted, nil if there is none.
func (q *queueTest) next() *request {
	limit := q.limit()
	return q.naive.first(q.lines[q.rand.IntN(len(q.lines))], limit)
}

// limit returns a limit for arrivals.
func (q *queueTest) limit() uint64 {
	if q.rand.IntN(2) == 0 {
		return everybody
	}
	return q.rand.Uint64N(q.queue.arrivals + 1)
}

// remove takes r out: its caller has left.
func (q *queueTest) remove(r *request) {
	q.naive.remove(r)
	q.queue.remove(r)
}

// grant takes r out: its caller has taken the grant.
func (q *queueTest) grant(r *request) {
	l, turn := r.line(), r.turn
	q.naive.grant(r)
	q.queue.remove(r)
	q.queue.pass(l, turn)
}

// setLoading changes whether l is being loaded for.
func (q *queueTest) setLoading(l *line, loading bool) {
	q.naive.loading[l] = loading
	q.queue.setLoading(l, loading)
}

// random does one thing to both queues. They grow for a while, and then shrink.
func (q *queueTest) random(growing bool) {
	n := q.rand.IntN(10)
	switch r := q.any(); {
	case n == 0:
		q.setLoading(q.lines[q.rand.IntN(len(q.lines))], q.rand.IntN(2) == 0)
	case n <= 2 && r != nil:
		q.remove(r)
	case n <= 4 || n <= 8 && !growing:
		if r := q.next(); r != nil {
			q.grant(r)
		}
	default:
		q.arrive()
	}
}

// check compares the two queues.
func (q *queueTest) check() {
	q.Helper()
	loading := 0
	for i, l := range q.lines {
		want := q.naive.of(l)
		if q.naive.loading[l] {
			loading += len(want)
		}
		if l.n != len(want) {
			q.Fatalf("line %d has %d requests, want %d", i, l.n, len(want))
		}
		for _, limit := range []uint64{everybody, q.limit()} {
			if got, want := l.first(limit), q.naive.first(l, limit); got != want {
				q.Fatalf("line %d: first(%d) is %v, want %v", i, limit, arrivals(got), arrivals(want))
			}
		}
		if got := l.oldest(); len(want) == 0 && got != nil || len(want) > 0 && got != want[0] {
			q.Fatalf("line %d: the oldest is %v, want the first of %v", i, arrivals(got), arrivals(want...))
		}
		slices.SortStableFunc(want, func(a, b *request) int { return cmp.Compare(b.priority, a.priority) })
		if got := slices.Collect(l.requests()); !slices.Equal(got, want) {
			q.Fatalf("line %d: requests are %v, want %v", i, arrivals(got...), arrivals(want...))
		}
	}
	q.checkLines()
	all := len(q.naive.requests)
	if q.queue.waiting != all || q.queue.loading != loading || q.queue.queued() != all-loading {
		q.Fatalf("%d wait, %d for a load, %d are queued; want %d, %d, %d",
			q.queue.waiting, q.queue.loading, q.queue.queued(), all, loading, all-loading)
	}
	if r := q.any(); r != nil && r.req.Respond != nil && q.queue.find(r.req.Respond) != r {
		q.Fatalf("request %d is not found", r.arrival)
	}
}

// checkLines checks that the lines that are not empty are listed by rank.
func (q *queueTest) checkLines() {
	q.Helper()
	var want, got []*request
	for _, l := range q.lines {
		if r := q.naive.first(l, everybody); r != nil {
			want = append(want, r)
		}
	}
	slices.SortFunc(want, func(a, b *request) int {
		if ranksBefore(a, b) {
			return -1
		}
		return 1
	})
	for _, l := range q.queue.lines {
		got = append(got, l.head)
	}
	if !slices.Equal(got, want) {
		q.Fatalf("the lines begin with %v, want %v", arrivals(got...), arrivals(want...))
	}
}

// arrivals returns the numbers of requests, 0 for none.
func arrivals(requests ...*request) (numbers []uint64) {
	for _, r := range requests {
		if r == nil {
			numbers = append(numbers, 0)
		} else {
			numbers = append(numbers, r.arrival)
		}
	}
	return numbers
}

// TestQueueAgainstNaive compares the queue with the obvious one, whatever happens.
func TestQueueAgainstNaive(t *testing.T) {
	for seed := range uint64(24) {
		q := newQueueTest(t, seed)
		for i := range 400 {
			changes, begun, listed := q.queue.changes, q.queue.begun, len(q.queue.lines)
			all := slices.Clone(q.naive.requests)
			q.random(i%200 < 120)
			q.check()
			if news := q.queue.changes > changes; news == slices.Equal(q.naive.requests, all) {
				t.Fatalf("seed %d: %d changes after %d", seed, q.queue.changes, changes)
			}
			if news := q.queue.begun > begun; news != (len(q.queue.lines) != listed) {
				t.Fatalf("seed %d: %d lines, and %d before, have begun or ended %d times", seed, len(q.queue.lines), listed, q.queue.begun)
			}
		}
		for r := q.any(); r != nil; r = q.any() {
			q.remove(r)
			q.check()
		}
		if n := len(q.queue.byRespond); n > 0 {
			t.Fatalf("seed %d: %d unused Respond channels are left", seed, n)
		}
	}
}

// TestFind: a Respond channel finds the request that waits with it, and the later
// one if there are two.
func TestFind(t *testing.T) {
	var q queue
	var l line
	respond := make(chan HandlerResp)
	add := func(respond chan HandlerResp) *request {
		r := &request{arrival: q.arrive(), req: HandlerReq{Respond: respond}}
		q.add(&l, r, "")
		return r
	}
	check := func(when string, respond chan HandlerResp, want *request) {
		t.Helper()
		if got := q.find(respond); got != want {
			t.Errorf("%s: found %v, want %v", when, arrivals(got), arrivals(want))
		}
	}
	check("in an empty queue", respond, nil)
	unnamed := add(nil)
	check("without a channel", nil, nil)
	one, two := add(respond), add(respond)
	check("in use twice", respond, two)
	q.remove(one)
	check("after the earlier one was removed", respond, two)
	q.remove(two)
	check("after both were removed", respond, nil)
	q.remove(unnamed)
	check("at the end", nil, nil)
}

// TestArrivalsAreNumbered from 1, also those that never wait.
func TestArrivalsAreNumbered(t *testing.T) {
	var q queue
	for want := uint64(1); want <= 3; want++ {
		if got := q.arrive(); got != want {
			t.Errorf("arrival %d, want %d", got, want)
		}
	}
}

// TestSetLoadingTwice: only a change counts.
func TestSetLoadingTwice(t *testing.T) {
	var q queue
	var l line
	q.add(&l, &request{arrival: 1}, "")
	for _, loading := range []bool{true, true, false, false} {
		q.setLoading(&l, loading)
		want := 0
		if loading {
			want = 1
		}
		if q.loading != want || q.queued() != 1-want {
			t.Errorf("loading %v: %d of 1, and %d queued", loading, q.loading, q.queued())
		}
	}
}

// TestQueueGivesMemoryBack: once it is empty, a queue that was long lets go of its
// map and list. One that was short keeps them.
func TestQueueGivesMemoryBack(t *testing.T) {
	for _, n := range []int{roomy, roomy + 1} {
		var q queue
		lines := make([]line, n)
		for round := range 2 {
			var all []*request
			for i := range lines {
				r := &request{arrival: q.arrive(), req: HandlerReq{Respond: make(chan HandlerResp)}}
				q.add(&lines[i], r, "")
				all = append(all, r)
			}
			for _, r := range all {
				q.remove(r)
			}
			if kept := q.lines != nil && q.byRespond != nil; kept != (n <= roomy) {
				t.Errorf("round %d: after %d requests the memory is kept: %v", round, n, kept)
			}
			for _, l := range q.lines[:cap(q.lines)] {
				if l != nil {
					t.Fatalf("an empty line is held")
				}
			}
		}
	}
}

// TestAlive: a request is alive until its Ctx is done, and always without one.
func TestAlive(t *testing.T) {
	ctx, leave := context.WithCancel(context.Background())
	for _, r := range []*request{{}, {req: HandlerReq{Ctx: ctx}}} {
		if !r.alive() {
			t.Errorf("%v is not alive", r.req.Ctx)
		}
	}
	leave()
	if r := (&request{req: HandlerReq{Ctx: ctx}}); r.alive() {
		t.Error("alive, although its Ctx is done")
	}
}
