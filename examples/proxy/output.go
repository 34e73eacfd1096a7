package main

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"log/slog"
	"strings"
	"sync"
)

// What an output keeps.
const (
	ringLines = 1000
	ringBytes = 256 << 10
	maxLine   = 8 << 10 // Of a longer line the end is cut off.
)

const (
	tailLines = 5       // how many lines of output an error tells
	tailBytes = 1 << 10 // and how much of them
)

// levelOutput is the level at which the log has what models print: a chatty one would
// drown everything else.
const levelOutput = slog.LevelDebug + 2

// output is what the processes of a model print: a ring of the last lines, which
// goes on from one process to the next. Each line goes to the log as well. It is
// made by newOutput, and may be used by several goroutines at once.
type output struct {
	watch watch // of ring

	mu    sync.Mutex
	log   *slog.Logger // nil: nobody
	ring  [ringLines]string
	first int // number of the oldest line in ring
	next  int // number of the line that comes next; line n is ring[n%ringLines]
	bytes int // of the lines in ring
	begun int // number of the first line of the present process

	partial  []byte // the line that has begun, without its end
	cut      bool   // partial is full, and more has come
	returned bool   // a carriage return has come after partial
}

// newOutput makes an empty one.
func newOutput() *output { return new(output) }

// begin marks the start of a process, whose lines go to log.
func (o *output) begin(log *slog.Logger, mark string) {
	o.mark(mark)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.begun = o.next
	o.log = log
}

// mark adds a line that does not come from a process.
func (o *output) mark(line string) {
	o.mu.Lock()
	o.add(line)
	o.mu.Unlock()
	o.watch.change()
}

// Write adds the lines in p. What follows the last end of a line waits for the
// rest of its line. It never fails.
//
// A carriage return begins the line again, as on a terminal, so that a progress
// bar ends up as the one line that is left to be seen.
func (o *output) Write(p []byte) (int, error) {
	var whole []string
	o.mu.Lock()
	for rest := p; len(rest) > 0; {
		line, after, ended := bytes.Cut(rest, []byte("\n"))
		o.extend(line)
		if ended {
			whole = append(whole, o.complete())
		}
		rest = after
	}
	o.mu.Unlock()
	o.tell(whole)
	return len(p), nil
}

// flush adds what waits for the rest of its line: the process has ended.
func (o *output) flush() {
	o.mu.Lock()
	waits := len(o.partial) > 0
	o.mu.Unlock()
	if waits {
		o.Write([]byte("\n"))
	}
}

// lines returns what is in the ring, the oldest line first.
func (o *output) lines() []string {
	lines, _, _ := o.since(0)
	return lines
}

// tail returns the last n lines of the present process, or fewer if it has not
// printed as many.
func (o *output) tail(n int) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.Join(o.from(max(o.begun, o.next-n)), "\n")
}

// said returns the last lines of output, as the end of an error.
func (o *output) said() string {
	tail := strings.TrimSpace(o.tail(tailLines))
	if tail == "" {
		return ""
	}
	if excess := len(tail) - tailBytes; excess > 0 {
		tail = "…" + strings.ToValidUTF8(tail[excess:], "")
	}
	return ": last output: " + strings.ReplaceAll(tail, "\n", " | ")
}

// follow yields the lines that are in the ring and then those that come, until ctx
// ends. Nobody waits for a slow reader: if lines are gone before they were read, a
// line in brackets says how many.
func (o *output) follow(ctx context.Context) iter.Seq[string] {
	return func(yield func(string) bool) {
		_, at, _ := o.since(0)
		for ctx.Err() == nil {
			more := o.watch.changed()
			lines, first, next := o.since(at)
			if missed := first - at; missed > 0 && !yield(fmt.Sprintf("[%d lines missed]", missed)) {
				return
			}
			for _, line := range lines {
				if ctx.Err() != nil || !yield(line) {
					return
				}
			}
			if at = next; len(lines) > 0 {
				continue // Others may have come meanwhile.
			}
			select {
			case <-more:
			case <-ctx.Done():
			}
		}
	}
}

// since returns the lines that are left of those from number at on, with the
// number of the first of them and the number after the last.
func (o *output) since(at int) (lines []string, first, next int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	first = max(at, o.first)
	return o.from(first), first, o.next
}

// from returns the lines that are left of those from number at on.
func (o *output) from(at int) []string {
	at = max(at, o.first)
	lines := make([]string, 0, o.next-at)
	for ; at < o.next; at++ {
		lines = append(lines, o.ring[at%ringLines])
	}
	return lines
}

// extend adds text, which has no end of a line, to the line that has begun.
func (o *output) extend(text []byte) {
	visible := bytes.TrimRight(text, "\r")
	if len(visible) == 0 {
		o.returned = o.returned || len(text) > 0
		return
	}
	again := bytes.LastIndexByte(visible, '\r') + 1
	if o.returned || again > 0 {
		o.partial, o.cut = o.partial[:0], false
	}
	o.returned = len(visible) < len(text)
	visible = visible[again:]
	if room := maxLine - len(o.partial); len(visible) > room {
		visible, o.cut = visible[:room], true
	}
	o.partial = append(o.partial, visible...)
}

// complete ends the line that has begun and returns it.
func (o *output) complete() string {
	line := strings.ToValidUTF8(string(o.partial), "\uFFFD")
	if o.cut {
		line += "…"
	}
	o.partial, o.cut, o.returned = o.partial[:0], false, false
	o.add(line)
	return line
}

// add puts a line into the ring. The oldest ones make room for it.
func (o *output) add(line string) {
	for o.next-o.first == ringLines || o.first < o.next && o.bytes+len(line) > ringBytes {
		oldest := &o.ring[o.first%ringLines]
		o.bytes -= len(*oldest)
		*oldest = ""
		o.first++
	}
	o.ring[o.next%ringLines] = line
	o.next++
	o.bytes += len(line)
}

// tell tells those who follow, and the log.
func (o *output) tell(whole []string) {
	o.watch.change()
	o.mu.Lock()
	log := o.log
	o.mu.Unlock()
	for _, line := range whole {
		if log != nil && line != "" {
			log.Log(context.Background(), levelOutput, "output", "line", line)
		}
	}
}
