package scheduler

import (
	"cmp"
	"iter"
	"math"
	"slices"
	"time"
)

// queue holds the requests that wait (R6). It has a line for each model, a line has a
// class for each priority, and a class has a turn for each tenant. It finds a request by
// its Respond channel, and the oldest request of a line, without a search. Finding the
// first request of a line takes the logarithm of the number of its priorities.
//
// The zero value is an empty queue.
type queue struct {
	waiting   int     // requests in all
	loading   int     // of them, those whose model is being loaded for them
	arrivals  uint64  // the number of the latest arrival
	changes   uint64  // grows whenever a request is added or removed
	begun     uint64  // grows whenever a line begins or ends
	lines     []*line // those that are not empty, by the rank of their heads
	byRespond map[chan HandlerResp]*request
	shared    bool // since waiting was 0, two requests have had the same Respond channel
	peak      int  // the highest waiting since it was 0
	spare     spare
}

// request is one waiting request.
type request struct {
	req      HandlerReq
	priority int
	arrival  uint64    // unique, and higher for later ones
	since    time.Time // when it began to wait
	place    place     // that its caller was told; belongs to positions

	turn         *turn    // nil once it no longer waits
	prev, next   *request // of its tenant, by arrival
	older, newer *request // in its class, by arrival
}

// line holds the waiting requests of one model. The zero value is an empty line.
type line struct {
	owner   *model // whose line it is; the queue does not look into it
	n       int
	classes *class   // the root of a tree
	head    *request // the request that ranks first; nil: the line is empty
	loading bool     // a swap is outstanding for these requests
}

// everybody is a limit that no arrival exceeds.
const everybody = math.MaxUint64

// roomy is how many entries an empty map or slice may have room for. Larger ones are
// dropped.
const roomy = 1024

// alive reports whether the caller is still there, as far as Ctx can tell.
func (r *request) alive() bool { return !isDone(&r.req) }

// waits reports whether r is in the queue.
func (r *request) waits() bool { return r.turn != nil }

// line returns the line that r waits in.
func (r *request) line() *line { return r.turn.class.line }

// isDone reports whether the Ctx of a request has ended.
func isDone(req *HandlerReq) bool { return req.Ctx != nil && req.Ctx.Err() != nil }

// arrive returns the number of a request that has just arrived.
func (q *queue) arrive() uint64 {
	q.arrivals++
	return q.arrivals
}

// add makes r wait in l for a tenant. R must have arrived after all the others.
func (q *queue) add(l *line, r *request, tenant string) {
	l.n++
	q.changes++
	q.waiting++
	q.peak = max(q.peak, q.waiting)
	if l.loading {
		q.loading++
	}
	l.push(r, tenant, &q.spare)
	if l.head == nil || r.priority > l.head.priority {
		q.place(l, r) // A tenant that begins to wait joins behind the others.
	}
	if r.req.Respond != nil {
		if q.byRespond == nil {
			q.byRespond = make(map[chan HandlerResp]*request)
		}
		n := len(q.byRespond)
		q.byRespond[r.req.Respond] = r
		q.shared = q.shared || len(q.byRespond) == n
	}
}

// remove takes r out of the queue.
func (q *queue) remove(r *request) {
	l := r.line()
	l.pull(r, &q.spare)
	l.n--
	q.changes++
	q.waiting--
	if l.loading {
		q.loading--
	}
	if l.head == r {
		q.place(l, l.first(everybody))
	}
	// If two requests have the same Respond channel, its entry belongs to the later
	// one. As long as no channel is shared, there is no need to look at the entry,
	// which would be an expensive memory access.
	if r.req.Respond != nil && (!q.shared || q.byRespond[r.req.Respond] == r) {
		delete(q.byRespond, r.req.Respond)
	}
	if q.waiting == 0 {
		q.shared = false
		// Maps and slices do not shrink by themselves.
		if q.peak > roomy {
			q.byRespond, q.lines = nil, nil
		}
		q.peak = 0
	}
}

// pass puts a tenant of l behind the other tenants of its class, because its request was
// granted.
func (q *queue) pass(l *line, t *turn) {
	t.class.pass(t)
	q.place(l, l.first(everybody))
}

// place makes head the first request of l, and puts l where it belongs among the lines.
func (q *queue) place(l *line, head *request) {
	if head == l.head {
		return
	}
	if l.head != nil {
		i, _ := q.search(l.head)
		q.lines = slices.Delete(q.lines, i, i+1)
	}
	if (l.head == nil) != (head == nil) {
		q.begun++
	}
	if l.head = head; head != nil {
		i, _ := q.search(head)
		q.lines = slices.Insert(q.lines, i, l)
	}
}

// search returns the index of the line with that head, or where it belongs.
func (q *queue) search(head *request) (int, bool) {
	return slices.BinarySearchFunc(q.lines, head, func(l *line, r *request) int { return byRank(l.head, r) })
}

// find returns the request that waits with that Respond channel, or nil if there is none.
func (q *queue) find(respond chan HandlerResp) *request {
	if respond == nil {
		return nil
	}
	return q.byRespond[respond]
}

// setLoading notes whether a swap is outstanding for the requests of l.
func (q *queue) setLoading(l *line, loading bool) {
	if l.loading == loading {
		return
	}
	l.loading = loading
	if loading {
		q.loading += l.n
	} else {
		q.loading -= l.n
	}
}

// queued counts the requests whose model is not being loaded for them.
func (q *queue) queued() int { return q.waiting - q.loading }

// first returns the request of l that ranks first among those that arrived up to limit,
// or nil if there is none.
func (l *line) first(limit uint64) *request { return l.classes.first(limit) }

// oldest returns the request of l that arrived first, or nil if there is none.
func (l *line) oldest() *request {
	if l.classes == nil {
		return nil
	}
	return l.classes.oldest
}

// requests yields the requests of l, highest priority first. None may be taken out
// meanwhile.
func (l *line) requests() iter.Seq[*request] {
	return func(yield func(*request) bool) { l.classes.each(yield) }
}

// byRank compares the first requests of two lines: the higher priority comes
// first, then the earlier arrival.
func byRank(a, b *request) int {
	if a.priority != b.priority {
		return cmp.Compare(b.priority, a.priority)
	}
	return byArrival(a, b)
}

// byArrival compares two requests: the earlier one comes first.
func byArrival(a, b *request) int { return cmp.Compare(a.arrival, b.arrival) }
