// Package lossy has a writer that nobody waits for.
package lossy

import (
	"bytes"
	"fmt"
	"io"
	"sync"
	"time"
)

// maxUnwritten is how much a Writer keeps for a reader who is slow.
const maxUnwritten = 1 << 20

// Writer writes in the background, so that nobody who logs ever waits: the pipe
// behind stderr may be full, and its reader may have stopped or gone. Lines that find
// no room are lost, and once others can be written the writer says how many. It is
// made by New, and may be used by several goroutines at once.
type Writer struct {
	w io.Writer

	mu      sync.Mutex
	report  func(w io.Writer, lost int)
	waiting []byte
	lost    int           // lines that come after waiting
	writing chan struct{} // closed when all is written; nil: nothing is left to write
}

// New returns a Writer that writes to w. It reports losses as plain text.
func New(w io.Writer) *Writer {
	return &Writer{w: w, report: func(w io.Writer, lost int) { fmt.Fprintf(w, "%d lines lost\n", lost) }}
}

// ReportBy makes report what writes down how many lines were lost.
func (l *Writer) ReportBy(report func(w io.Writer, lost int)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.report = report
}

// Write takes p, which is whole lines, and never fails.
func (l *Writer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	full := len(l.waiting)+len(p) > maxUnwritten
	if full || l.lost > 0 && l.writing != nil { // The loss is told where it was.
		l.lost += bytes.Count(p, []byte("\n"))
		return len(p), nil
	}
	l.waiting = append(l.waiting, p...)
	if l.writing == nil {
		l.writing = make(chan struct{})
		go l.write()
	}
	return len(p), nil
}

// Flush waits until all is written, but no longer than d, and reports whether it is.
func (l *Writer) Flush(d time.Duration) bool {
	l.mu.Lock()
	writing := l.writing
	l.mu.Unlock()
	if writing == nil {
		return true
	}
	select {
	case <-writing:
		return true
	case <-time.After(d):
		return false
	}
}

// write writes until nothing is left. What cannot be written is lost, and is reported
// once something else has been written.
func (l *Writer) write() {
	failed := false
	for text, lines := l.next(failed); len(text) > 0; text, lines = l.next(failed) {
		n, err := l.w.Write(text)
		if failed = err != nil; failed {
			l.mu.Lock()
			l.lost += max(lines, bytes.Count(text[n:], []byte("\n")))
			l.mu.Unlock()
		}
	}
}

// next takes what is to be written: what waits, or else a report of so many lost lines,
// for which there is no point right after a failure. If there is nothing, the writing
// is over.
func (l *Writer) next(failed bool) (text []byte, lines int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case len(l.waiting) > 0:
		text, l.waiting = l.waiting, nil
	case l.lost > 0 && !failed:
		var b bytes.Buffer
		l.report(&b, l.lost)
		text, lines, l.lost = b.Bytes(), l.lost, 0
	default:
		close(l.writing)
		l.writing = nil
	}
	return text, lines
}
