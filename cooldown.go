package scheduler

import (
	"math"
	"time"
)

// cooldown counts the failures in a row of one model, and says for how long the model
// refuses requests after them (R13). The zero value is a model that has not failed.
type cooldown struct {
	failures int
	failure  error     // the latest
	until    time.Time // zero: it has not failed
}

const (
	// doublings is how often a cool-down doubles: to 32 times.
	doublings = 5
	// longestCooldown is the longest time that can double so often.
	longestCooldown = time.Duration(math.MaxInt64 >> doublings)
)

// fail notes a failure. The model then cools down for base, doubled for each earlier
// failure in a row.
func (c *cooldown) fail(now time.Time, base time.Duration, err error) {
	c.failure = err
	c.until = now.Add(min(base, longestCooldown) << min(c.failures, doublings))
	c.failures++
}

// clear forgets the failures.
func (c *cooldown) clear() { *c = cooldown{} }

// active reports whether the model has failed, so that left has something to say.
func (c *cooldown) active() bool { return c.failures > 0 }

// left returns how long the model goes on to refuse requests.
func (c *cooldown) left(now time.Time) time.Duration { return max(0, c.until.Sub(now)) }
