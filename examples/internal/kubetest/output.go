package kubetest

import (
	"slices"
	"sync"
	"time"
)

// keptLines is how much of its output a container keeps.
const keptLines = 10_000

// line is a line of output.
type line struct {
	at   time.Time
	text string
}

// output is what a container prints. It may be used concurrently.
type output struct {
	mu    sync.Mutex
	lines []line
	first int           // how many lines have been dropped
	more  chan struct{} // closed by the next change
	ended bool
}

// newOutput returns an empty output.
func newOutput() *output { return &output{more: make(chan struct{})} }

// add adds a line.
func (o *output) add(text string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.lines = append(o.lines, line{time.Now(), text})
	if len(o.lines) > keptLines {
		o.lines = slices.Delete(o.lines, 0, keptLines/2)
		o.first += keptLines / 2
	}
	o.tell()
}

// end says that no line will follow.
func (o *output) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.ended {
		o.ended = true
		o.tell()
	}
}

// tell wakes those who wait for more. o.mu is held.
func (o *output) tell() {
	close(o.more)
	o.more = make(chan struct{})
}

// from returns the lines from number n on, the number of the next one, and a channel
// that is closed when there is more. The channel is nil if there will be none.
func (o *output) from(n int) (lines []line, next int, more <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	lines = slices.Clone(o.lines[min(max(n-o.first, 0), len(o.lines)):])
	if o.ended {
		return lines, o.first + len(o.lines), nil
	}
	return lines, o.first + len(o.lines), o.more
}
