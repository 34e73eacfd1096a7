package scheduler

import (
	"fmt"
	"slices"
)

// internalRelations returns what contradicts itself within a scheduler after a step.
func internalRelations(s sut) []string {
	f, ok := s.(*FIFO)
	if !ok {
		return nil
	}
	c := contradictions{f: f}
	c.queue()
	c.ledger()
	c.swaps()
	c.reservations()
	c.records()
	c.check(!f.step.active && !f.step.unsettled, "a step has not ended")
	return c.found
}

// contradictions collects what contradicts itself within f.
type contradictions struct {
	f     *FIFO
	found []string
}

// check notes what is wrong unless holds.
func (c *contradictions) check(holds bool, format string, args ...any) {
	if !holds {
		c.found = append(c.found, "within: "+fmt.Sprintf(format, args...))
	}
}

// queue compares the counts of the queue with its lines, and each request with where
// it is.
func (c *contradictions) queue() {
	q, p := &c.f.queue, &c.f.positions
	waiting, loading, listeners := 0, 0, 0
	for i, l := range q.lines {
		n := 0
		for r := range l.requests() {
			n++
			c.check(r.line() == l && r.turn.class.priority == r.priority, "%v is not where it belongs", r.arrival)
			c.check(r.arrival <= q.arrivals && l.oldest().arrival <= r.arrival, "%v arrived before the oldest", r.arrival)
			c.check(r.place.n == 0 || !l.loading, "%v is being loaded for, and was told %d", r.arrival, r.place.n)
			if r.req.Respond != nil {
				c.check(q.byRespond[r.req.Respond] != nil, "%v is not found by its Respond", r.arrival)
			}
			if r.req.PositionCh != nil {
				listeners++
			}
		}
		c.check(l.n == n && n > 0 && l.head == l.first(everybody), "line %s has %d of %d, and its head is wrong", l.owner.name, n, l.n)
		c.check(i == 0 || byRank(q.lines[i-1].head, l.head) < 0, "line %s is not in order", l.owner.name)
		waiting += n
		if l.loading {
			loading += n
		}
	}
	c.check(q.waiting == waiting && q.loading == loading, "%d and %d wait, not %d and %d", waiting, loading, q.waiting, q.loading)
	c.check(len(q.byRespond) <= waiting, "%d by Respond of %d", len(q.byRespond), waiting)
	c.check(p.listeners == listeners, "%d listen, not %d", listeners, p.listeners)
	c.check(p.newest == nil && p.requeued == nil && !p.shifted, "positions are not up to date")
}

// ledger compares the ledger with the accounts.
func (c *contradictions) ledger() {
	open := 0
	for name, m := range c.f.models.byName {
		a := &m.account
		c.check(0 <= a.inFlight && a.inFlight <= a.live && a.live <= len(a.unended), "%s: %d in flight of %d, %d", name, a.inFlight, a.live, len(a.unended))
		c.check(slices.IsSorted(a.unended) && a.lastUsed <= c.f.leases.last, "%s: leases %v, last used %d", name, a.unended, a.lastUsed)
		open += a.live
	}
	l := &c.f.leases
	c.check(l.live == open && open <= len(l.numbers) && len(l.numbers) == len(l.accounts), "%d open leases, not %d of %d", open, l.live, len(l.numbers))
}

// swaps compares the book of swaps with itself and with the lines.
func (c *contradictions) swaps() {
	leaving := 0
	for target, s := range c.f.swaps.byTarget {
		m := c.f.models.byName[target]
		c.check(m != nil && s.target == target, "the swap for %s is that for %s", target, s.target)
		c.check(m == nil || m.line.loading == !s.abandoned, "%s: abandoned is %v, and so is loading", target, s.abandoned)
		for _, model := range s.evict {
			c.check(c.f.swaps.leaving[model] == s, "%s is not stopped by the swap for %s", model, target)
			leaving++
		}
	}
	c.check(len(c.f.swaps.leaving) == leaving, "%d models leave, not %d", leaving, len(c.f.swaps.leaving))
	for _, l := range c.f.queue.lines {
		c.check(!l.loading || c.f.swaps.of(l.owner.name) != nil, "%s is loading without a swap", l.owner.name)
	}
}

// reservations compares the book of reservations with itself.
func (c *contradictions) reservations() {
	b := &c.f.reservations
	closed := 0
	for i, r := range b.standing {
		c.check(b.holders[r.target] == r && c.f.swaps.of(r.target) == nil, "%s holds no reservation, or has a swap", r.target)
		for _, other := range b.standing[:i] {
			c.check(!r.collides(&other.intent), "the reservations of %s and %s collide", r.target, other.target)
		}
		for _, x := range r.closed {
			c.check(x.by == r && b.closed[x.model] == x && r.stops(x.model), "%s is not closed by %s", x.model, r.target)
			closed++
		}
	}
	c.check(len(b.holders) == len(b.standing) && len(b.closed) == closed, "%d holders of %d, %d closed of %d", len(b.holders), len(b.standing), len(b.closed), closed)
}

// records checks that each record belongs where it is, and that only those are kept
// that hold something or are to be remembered.
func (c *contradictions) records() {
	c.check(len(c.f.models.touched) == 0, "%d records were not swept", len(c.f.models.touched))
	for name, m := range c.f.models.byName {
		c.check(m.name == name && m.line.owner == m && m.account.owner == m && m.answers.model == name, "the record of %s is another's", name)
		c.check(!m.touched && (m.remembered() || c.f.holds(m)), "the record of %s holds nothing", name)
	}
}
