package kube

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	minPause = 100 * time.Millisecond
	maxPause = 5 * time.Second
)

// pauses are the waits between tries: 100 ms after the first, and twice as long after
// each further one up to 5 s. Each is cut by up to a half at random, so that clients that
// failed together do not come back together. The zero value is ready for use.
type pauses struct{ last time.Duration }

// wait waits before the next try, as long as the server asks for if that is longer. It
// reports whether there should be one: whether ctx goes on.
func (p *pauses) wait(ctx context.Context, asked time.Duration) bool {
	return sleep(ctx, max(p.next(), asked))
}

// next returns the next pause.
func (p *pauses) next() time.Duration {
	p.last = min(max(2*p.last, minPause), maxPause)
	return p.last/2 + rand.N(p.last/2+1)
}

// reset is told of a success.
func (p *pauses) reset() { p.last = 0 }

// sleep waits for d and reports whether ctx goes on.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}
