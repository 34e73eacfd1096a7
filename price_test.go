package scheduler

import (
	"math"
	"testing"
	"time"
)

// TestLoadIsOnesOwnThenTheLatest: the load of a model is its own latest one, or else the
// latest of any model, or else ten seconds.
func TestLoadIsOnesOwnThenTheLatest(t *testing.T) {
	p := prices{patience: 10 * time.Minute}
	var a, b history
	for _, step := range []struct {
		what  string
		learn func()
		want  [3]time.Duration // of a, of b, of a model that was never loaded
	}{
		{"nothing is known", func() {}, [3]time.Duration{10 * time.Second, 10 * time.Second, 10 * time.Second}},
		{"a took 3 s", func() { p.learnLoad(&a, 3*time.Second) }, [3]time.Duration{3 * time.Second, 3 * time.Second, 3 * time.Second}},
		{"b took 7 s", func() { p.learnLoad(&b, 7*time.Second) }, [3]time.Duration{3 * time.Second, 7 * time.Second, 7 * time.Second}},
		{"a took no time", func() { p.learnLoad(&a, 0) }, [3]time.Duration{0, 7 * time.Second, 0}},
	} {
		step.learn()
		if got := [3]time.Duration{p.load(&a), p.load(&b), p.load(&history{})}; got != step.want {
			t.Errorf("%s: %v, not %v", step.what, got, step.want)
		}
	}
}

// TestDrainIsAMean: the first sample is the drain, and each later one moves the mean by a
// quarter.
func TestDrainIsAMean(t *testing.T) {
	var h history
	for _, step := range []struct{ sample, want time.Duration }{
		{8 * time.Second, 8 * time.Second},
		{16 * time.Second, 10 * time.Second},
		{0, 7500 * time.Millisecond},
	} {
		if h.learnDrain(step.sample); h.drain != step.want {
			t.Errorf("after a drain of %v: %v, not %v", step.sample, h.drain, step.want)
		}
	}
	var idle history
	idle.learnDrain(0)
	if idle.learnDrain(4 * time.Second); idle.drain != time.Second {
		t.Errorf("a drain of 0 was the first sample, so that 4 s make %v, not 1 s", idle.drain)
	}
}

// TestPrices checks when a model is overdue, and for how long a model may stay ready.
func TestPrices(t *testing.T) {
	const century = 100 * 365 * 24 * time.Hour
	for _, c := range []struct {
		patience, load, drain, overdue, closed time.Duration
	}{
		{10 * time.Minute, 10 * time.Second, 0, 50 * time.Second, 20 * time.Second},
		{10 * time.Minute, 10 * time.Second, 2 * time.Second, time.Minute, 24 * time.Second},
		{10 * time.Minute, 0, 0, 5 * time.Second, 2 * time.Second},                           // at least a second
		{10 * time.Minute, 400 * time.Millisecond, 0, 5 * time.Second, 2 * time.Second},      // likewise
		{time.Minute, 30 * time.Second, 0, time.Minute, time.Minute},                         // Patience bounds both
		{time.Minute, 20 * time.Second, 0, time.Minute, 40 * time.Second},                    // or one
		{3 * time.Second, 0, 0, 3 * time.Second, 2 * time.Second},                            // also below a second's price
		{math.MaxInt64, century, century, math.MaxInt64, math.MaxInt64},                      // no sum or product overflows
		{math.MaxInt64, math.MaxInt64, math.MaxInt64, math.MaxInt64, math.MaxInt64},          // likewise
		{10 * time.Minute, math.MaxInt64, math.MaxInt64, 10 * time.Minute, 10 * time.Minute}, // likewise
	} {
		p := prices{patience: c.patience}
		var h history
		p.learnLoad(&h, c.load)
		if got := p.overdueAfter(c.load, c.drain); got != c.overdue {
			t.Errorf("%+v: overdue after %v", c, got)
		}
		if got := p.closedAfter(&h, &h, c.drain); got != c.closed {
			t.Errorf("%+v: closed after %v", c, got)
		}
	}
}

// TestClosingCountsTheLongerLoad: the load in the price of a closing is the longer one of
// the two models.
func TestClosingCountsTheLongerLoad(t *testing.T) {
	p := prices{patience: 10 * time.Minute}
	var cheap, dear history
	p.learnLoad(&cheap, 3*time.Second)
	p.learnLoad(&dear, 120*time.Second)
	for what, pair := range map[string][2]*history{"for the dear one": {&dear, &cheap}, "for the cheap one": {&cheap, &dear}} {
		if got := p.closedAfter(pair[0], pair[1], time.Second); got != 242*time.Second {
			t.Errorf("%s: closed after %v, not 242 s", what, got)
		}
	}
}
