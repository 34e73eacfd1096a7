package scheduler

import (
	"errors"
	"fmt"
	"math"
	"testing"
	"time"
)

// TestCooldownDoubles with each failure in a row, to at most 32 times (R13).
func TestCooldownDoubles(t *testing.T) {
	now := epochOfTests
	var c cooldown
	for i, times := range []time.Duration{1, 2, 4, 8, 16, 32, 32, 32} {
		err := fmt.Errorf("failure %d", i)
		c.fail(now, time.Second, err)
		if got := c.left(now); got != times*time.Second || !c.active() || c.failure != err {
			t.Errorf("failure %d: %v are left, the error is %v, active: %v", i, got, c.failure, c.active())
		}
		now = now.Add(time.Minute)
	}
}

// TestCooldownPasses: the time that is left goes down to 0, but the failures count until
// they are cleared.
func TestCooldownPasses(t *testing.T) {
	var c cooldown
	check := func(after, want time.Duration, active bool) {
		t.Helper()
		if got := c.left(epochOfTests.Add(after)); got != want || c.active() != active {
			t.Errorf("after %v: %v are left, active: %v; want %v, %v", after, got, c.active(), want, active)
		}
	}
	check(0, 0, false)
	c.fail(epochOfTests, 10*time.Second, errors.New("no memory"))
	check(0, 10*time.Second, true)
	check(3*time.Second, 7*time.Second, true)
	check(10*time.Second, 0, true)
	check(time.Hour, 0, true)
	c.fail(epochOfTests.Add(time.Hour), 10*time.Second, errors.New("no memory"))
	check(time.Hour, 20*time.Second, true) // Time alone does not clear the failures.
	c.clear()
	check(time.Hour, 0, false)
	if c.failure != nil {
		t.Error("the error is still there")
	}
	c.fail(epochOfTests, 10*time.Second, errors.New("no memory"))
	check(0, 10*time.Second, true)
}

// TestLongCooldown does not overflow.
func TestLongCooldown(t *testing.T) {
	var c cooldown
	for i := range 100 {
		c.fail(epochOfTests, math.MaxInt64, errors.New("no memory"))
		if left := c.left(epochOfTests); left < longestCooldown {
			t.Fatalf("failure %d: %v are left", i, left)
		}
	}
}
