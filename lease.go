package scheduler

import "slices"

// ledger numbers the grants (R11). It knows which of them have not ended, and for
// each model how many are in flight.
//
// The numbers only grow, so a binary search finds a lease and nothing has to be sorted.
// The zero value is an empty ledger.
type ledger struct {
	last     uint64     // the number of the latest lease
	live     int        // leases that have not ended
	changes  uint64     // grows whenever something in flight changes
	numbers  []uint64   // of the live leases and some that have ended
	accounts []*account // by the same index: whose lease it is; nil if it has ended
}

// account is what the ledger keeps of one model. The zero value is an account
// without leases.
type account struct {
	owner      *model   // whose account it is; the ledger does not look into it
	live       int      // leases that have not ended, those written off included
	inFlight   int      // leases that have not ended and are not written off
	writtenOff uint64   // leases up to this one are written off
	unended    []uint64 // the live leases in order, among some that have ended
	lastUsed   uint64   // the latest lease that a caller took
}

// issue adds a lease to a and returns its number.
func (l *ledger) issue(a *account) uint64 {
	l.last++
	if len(l.numbers) > 2*l.live+8 {
		l.compact()
	}
	l.numbers = append(l.numbers, l.last)
	l.accounts = append(l.accounts, a)
	l.live++
	if len(a.unended) > 2*a.live+8 {
		a.unended = slices.DeleteFunc(a.unended, l.ended)
	}
	a.unended = append(a.unended, l.last)
	a.live++
	a.inFlight++
	l.changes++
	return l.last
}

// compact drops the leases that have ended. It drops at least as many as it keeps, so it
// costs a constant per lease.
func (l *ledger) compact() {
	kept := 0
	for i, a := range l.accounts {
		if a != nil {
			l.numbers[kept], l.accounts[kept] = l.numbers[i], a
			kept++
		}
	}
	clear(l.accounts[kept:])
	l.numbers, l.accounts = l.numbers[:kept], l.accounts[:kept]
}

// find returns the index of a lease and its account, which is nil if the lease was never
// issued or has ended.
func (l *ledger) find(number uint64) (int, *account) {
	if i, found := slices.BinarySearch(l.numbers, number); found {
		return i, l.accounts[i]
	}
	return 0, nil
}

// ended reports whether a lease has ended.
func (l *ledger) ended(number uint64) bool {
	_, a := l.find(number)
	return a == nil
}

// end ends a lease. It returns the account of the lease, or nil if there was none to end,
// and whether the lease was in flight. A lease that was written off was not.
func (l *ledger) end(number uint64) (a *account, wasInFlight bool) {
	i, a := l.find(number)
	if a == nil {
		return nil, false
	}
	if number > a.writtenOff {
		wasInFlight = true
		a.inFlight--
	}
	if a.live--; a.live == 0 {
		a.unended = empty(a.unended)
	}
	l.accounts[i] = nil
	if l.live--; l.live == 0 {
		l.numbers, l.accounts = empty(l.numbers), empty(l.accounts)
	}
	l.changes++
	return a, wasInFlight
}

// oldest returns the number of the live lease of a that was issued first, or 0 if there
// is none.
func (l *ledger) oldest(a *account) uint64 {
	if a.live == 0 {
		return 0
	}
	for l.ended(a.unended[0]) {
		a.unended = a.unended[1:]
	}
	return a.unended[0]
}

// writeOff stops counting the leases of a as in flight.
func (l *ledger) writeOff(a *account) {
	a.writtenOff = l.last
	a.inFlight = 0
	l.changes++
}

// empty returns s without its elements, which must not hold pointers any more. It keeps
// the memory of s unless that is a lot.
func empty[T any](s []T) []T {
	if cap(s) > roomy {
		return nil
	}
	return s[:0]
}
