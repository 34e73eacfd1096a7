package scheduler

import "slices"

// ledger holds the leases that have not ended, among some that have. Their
// numbers only grow, so that a search finds one and nothing has to be sorted.
type ledger struct {
	numbers []uint64
	models  []*model // that the leases are for; nil: it has ended
	open    int      // leases that have not ended
}

// issue adds a lease, whose number is higher than all before.
func (l *ledger) issue(number uint64, m *model) {
	if len(l.numbers) > 2*l.open+8 {
		l.compact()
	}
	l.numbers = append(l.numbers, number)
	l.models = append(l.models, m)
	l.open++
}

// compact removes the leases that have ended.
func (l *ledger) compact() {
	kept := 0
	for i, m := range l.models {
		if m != nil {
			l.numbers[kept], l.models[kept] = l.numbers[i], m
			kept++
		}
	}
	clear(l.models[kept:])
	l.numbers, l.models = l.numbers[:kept], l.models[:kept]
}

// find returns the index of the lease with that number, and its model, nil if it
// was never issued or has ended.
func (l *ledger) find(number uint64) (int, *model) {
	if i, found := slices.BinarySearch(l.numbers, number); found {
		return i, l.models[i]
	}
	return 0, nil
}

// end ends the lease with index i.
func (l *ledger) end(i int) {
	l.models[i] = nil
	if l.open--; l.open == 0 {
		l.numbers, l.models = empty(l.numbers), empty(l.models)
	}
}

// lease issues the number of a grant on m.
func (f *FIFO) lease(m *model) uint64 {
	f.lastLease++
	f.leases.issue(f.lastLease, m)
	if len(m.unended) > 2*m.open+8 {
		m.unended = slices.DeleteFunc(m.unended, f.ended)
	}
	m.unended = append(m.unended, f.lastLease)
	m.open++
	m.inFlight++
	return f.lastLease
}

// ended reports whether a lease has ended.
func (f *FIFO) ended(number uint64) bool {
	_, m := f.leases.find(number)
	return m == nil
}

// endLease ends a lease, and reports whether there was one to end. One that is
// written off does not count (R11).
func (f *FIFO) endLease(number uint64) bool {
	i, m := f.leases.find(number)
	if m == nil {
		return false
	}
	if number > m.writtenOff {
		m.inFlight--
	}
	f.leases.end(i)
	if m.open--; m.open == 0 {
		m.unended = empty(m.unended)
		f.release(m)
	}
	return true
}

// oldestLease returns the number of the lease of a model that was granted first
// among those that have not ended, 0 if there is none.
func (f *FIFO) oldestLease(name string) uint64 {
	m := f.models[name]
	if m == nil || m.open == 0 {
		return 0
	}
	for f.ended(m.unended[0]) {
		m.unended = m.unended[1:]
	}
	return m.unended[0]
}
