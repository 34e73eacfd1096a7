package scheduler

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// naiveLease is what the obvious ledger, a map, keeps for an open lease.
type naiveLease struct {
	account    *account
	writtenOff bool
}

// TestLedgerAgainstMap compares the ledger with a map, whatever happens.
func TestLedgerAgainstMap(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 0))
		var l ledger
		accounts := []*account{{}, {}, {}}
		open := make(map[uint64]naiveLease)
		end := func(number uint64) {
			want := open[number]
			got, wasInFlight := l.end(number)
			if got != want.account || wasInFlight != (got != nil && !want.writtenOff) {
				t.Fatalf("seed %d: the end of %d is for account %p, want %p; it was in flight: %v", seed, number, got, want.account, wasInFlight)
			}
			delete(open, number)
		}
		for i := range 600 {
			a := accounts[r.IntN(len(accounts))]
			switch n := r.IntN(20); {
			case n < 9 && i%200 < 120 || n == 0:
				last := l.last
				number := l.issue(a)
				if number <= last {
					t.Fatalf("seed %d: lease %d was issued after %d", seed, number, last)
				}
				open[number] = naiveLease{account: a}
				checkLedgerSize(t, &l, a)
			case n == 1:
				l.writeOff(a)
				for number, lease := range open {
					if lease.account == a {
						open[number] = naiveLease{a, true}
					}
				}
			case n < 4:
				end(r.Uint64N(l.last + 3)) // It may have ended, or may never have been issued.
			case n < 8:
				end(l.oldest(a))
			case len(open) > 0:
				numbers := slices.Sorted(maps.Keys(open))
				end(numbers[r.IntN(len(numbers))])
			}
			checkLedger(t, &l, accounts, open)
		}
	}
}

// checkLedger compares a ledger with a map.
func checkLedger(t *testing.T, l *ledger, accounts []*account, open map[uint64]naiveLease) {
	t.Helper()
	if l.live != len(open) {
		t.Fatalf("%d leases are open, want %d", l.live, len(open))
	}
	for i, a := range accounts {
		var all, inFlight int
		var oldest uint64
		for number, lease := range open {
			if lease.account != a {
				continue
			}
			all++
			if !lease.writtenOff {
				inFlight++
			}
			if oldest == 0 || number < oldest {
				oldest = number
			}
		}
		if a.live != all || a.inFlight != inFlight {
			t.Fatalf("account %d has %d open leases, %d in flight; want %d, %d", i, a.live, a.inFlight, all, inFlight)
		}
		if got := l.oldest(a); got != oldest {
			t.Fatalf("the oldest lease of account %d is %d, want %d", i, got, oldest)
		}
	}
	for _, a := range l.accounts[len(l.accounts):cap(l.accounts)] {
		if a != nil {
			t.Fatal("the free memory holds an account")
		}
	}
}

// checkLedgerSize checks that most of what is kept right after an issue is open.
func checkLedgerSize(t *testing.T, l *ledger, a *account) {
	t.Helper()
	if n := len(l.numbers); n != len(l.accounts) || n > 2*l.live+8 {
		t.Fatalf("%d numbers and %d accounts are kept for %d open leases", n, len(l.accounts), l.live)
	}
	if n := len(a.unended); n > 2*a.live+8 {
		t.Fatalf("%d numbers are kept for %d open leases of an account", n, a.live)
	}
}

// TestWrittenOff: a lease that is written off no longer counts, and its end does not
// count against newer ones (R11).
func TestWrittenOff(t *testing.T) {
	var l ledger
	var a, other account
	stale, others := l.issue(&a), l.issue(&other)
	l.writeOff(&a)
	fresh := l.issue(&a)
	for _, step := range []struct {
		ends           uint64
		inFlight, open int
		oldest         uint64
	}{
		{0, 1, 2, stale}, // Lease 0 does not exist.
		{stale, 1, 1, fresh},
		{stale, 1, 1, fresh},
		{others, 1, 1, fresh},
		{fresh, 0, 0, 0},
		{fresh, 0, 0, 0},
	} {
		l.end(step.ends)
		if got := l.oldest(&a); a.inFlight != step.inFlight || a.live != step.open || got != step.oldest {
			t.Errorf("after the end of %d: %d in flight, %d open, the oldest is %d; want %d, %d, %d",
				step.ends, a.inFlight, a.live, got, step.inFlight, step.open, step.oldest)
		}
	}
}

// TestLedgerCountsChanges: changes grows whenever something in flight may have changed,
// and not for an end that changes nothing.
func TestLedgerCountsChanges(t *testing.T) {
	var l ledger
	var a account
	for i, step := range []struct {
		does func()
		news bool
	}{
		{func() { l.issue(&a) }, true},
		{func() { l.oldest(&a) }, false},
		{func() { l.end(2) }, false},
		{func() { l.end(1) }, true},
		{func() { l.end(1) }, false},
		{func() { l.issue(&a) }, true},
		{func() { l.writeOff(&a) }, true},
	} {
		before := l.changes
		if step.does(); (l.changes > before) != step.news {
			t.Errorf("step %d: %d changes after %d", i, l.changes, before)
		}
	}
}

// TestLedgerStaysSmall: a lease that never ends does not keep later leases in memory, in
// its own account or in another.
func TestLedgerStaysSmall(t *testing.T) {
	var l ledger
	var hung, busy account
	first := l.issue(&hung)
	for i := range 100_000 {
		a := &busy
		if i%2 == 0 {
			a = &hung
		}
		number := l.issue(a)
		checkLedgerSize(t, &l, a)
		l.end(number)
	}
	if n := cap(l.numbers) + cap(l.accounts) + cap(hung.unended) + cap(busy.unended); n > 200 {
		t.Errorf("there is room for %d entries", n)
	}
	if a, _ := l.end(first); a != &hung {
		t.Errorf("the first lease was lost")
	}
}

// TestLedgerGivesMemoryBack: when all leases have ended, the memory of many leases is
// given back, and that of a few is reused.
func TestLedgerGivesMemoryBack(t *testing.T) {
	var l ledger
	var a account
	fill := func(n int) {
		for range n {
			l.issue(&a)
		}
		for l.live > 0 {
			l.end(l.oldest(&a))
		}
	}
	fill(roomy * 4)
	if cap(l.numbers) > 0 || cap(l.accounts) > 0 || cap(a.unended) > 0 {
		t.Errorf("there is room for %d numbers, %d accounts, %d of the account", cap(l.numbers), cap(l.accounts), cap(a.unended))
	}
	if n := testing.AllocsPerRun(100, func() { l.end(l.issue(&a)) }); n != 0 {
		t.Errorf("a lease takes %v allocations", n)
	}
}

// TestEmpty: a slice loses its elements, and its memory if that is a lot.
func TestEmpty(t *testing.T) {
	for _, test := range []struct{ had, keeps int }{{0, 0}, {1, 1}, {roomy, roomy}, {roomy + 1, 0}} {
		if got := empty(make([]int, test.had)); len(got) != 0 || cap(got) != test.keeps {
			t.Errorf("of %d: length %d and room for %d, want 0 and %d", test.had, len(got), cap(got), test.keeps)
		}
	}
}
