package main

import (
	"math/bits"
	"time"
)

// tally is the distribution of some waits. It counts them in intervals that are less than
// one per cent wide, so that it stays small however many there are. Mean and longest are
// exact.
type tally struct {
	n       int
	seconds float64 // in all
	longest time.Duration
	counts  []uint32 // by interval
}

const (
	tallyUnit = 20 // waits are counted in units of 2²⁰ ns, about a millisecond
	tallyBits = 7  // that are told apart
)

// add counts a wait.
func (t *tally) add(d time.Duration) {
	t.n++
	t.seconds += d.Seconds()
	t.longest = max(t.longest, d)
	i := interval(d)
	for len(t.counts) <= i {
		t.counts = append(t.counts, 0)
	}
	t.counts[i]++
}

// interval returns the index of the interval of d.
func interval(d time.Duration) int {
	units := uint64(d) >> tallyUnit
	shift := max(0, bits.Len64(units)-tallyBits-1)
	return shift<<tallyBits + int(units>>shift)
}

// middle returns the middle of an interval. That of the first is 0: no wait.
func middle(i int) time.Duration {
	if i == 0 {
		return 0
	}
	shift := max(0, i>>tallyBits-1)
	units := uint64(i - shift<<tallyBits)
	return time.Duration((2*units + 1) << shift << (tallyUnit - 1))
}

// mean returns the mean wait, in seconds.
func (t *tally) mean() float64 { return t.seconds / float64(max(1, t.n)) }

// quantile returns the wait that a part of all waits does not exceed.
func (t *tally) quantile(part float64) time.Duration {
	left := int(part * float64(t.n))
	for i, n := range t.counts {
		if left -= int(n); left < 0 {
			return min(middle(i), t.longest)
		}
	}
	return t.longest
}
