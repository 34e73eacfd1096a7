package lossy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

// patience is how long a test waits before something counts as hung.
const patience = 2 * time.Minute

// gatedWriter is a writer that waits for the gate.
type gatedWriter struct {
	gate  chan error
	asked chan struct{} // one for each Write
	bytes.Buffer
}

func (w *gatedWriter) Write(p []byte) (int, error) {
	w.asked <- struct{}{}
	if err := <-w.gate; err != nil {
		return 0, err
	}
	return w.Buffer.Write(p)
}

func TestWriter(t *testing.T) {
	w := &gatedWriter{gate: make(chan error, 100), asked: make(chan struct{}, 100)}
	l := New(w)
	fmt.Fprint(l, "first\n")
	<-w.asked // The goroutine has it, and waits for the gate.
	long := strings.Repeat("x", maxUnwritten-1) + "\n"
	for _, text := range []string{long, "lost\n", "lost\nand lost\n"} {
		if n, err := io.WriteString(l, text); n != len(text) || err != nil {
			t.Errorf("Write of %d bytes = %d, %v", len(text), n, err)
		}
	}
	if l.Flush(time.Millisecond) {
		t.Error("flush says that everything is written")
	}
	for range 100 {
		w.gate <- nil
	}
	if !l.Flush(patience) {
		t.Error("flush says that something is left")
	}
	if got, want := w.String(), "first\n"+long+"3 lines lost\n"; got != want {
		t.Errorf("written: %.100q…, want %.100q…", got, want)
	}
}

// What could not be written counts as lost.
func TestWriterErrors(t *testing.T) {
	w := &gatedWriter{gate: make(chan error), asked: make(chan struct{}, 100)}
	l := New(w)
	fmt.Fprint(l, "one\ntwo\n")
	w.gate <- errors.New("no space left")
	l.Flush(patience)
	fmt.Fprint(l, "three\n")
	close(w.gate)
	if !l.Flush(patience) {
		t.Error("something is left")
	}
	if got, want := w.String(), "three\n2 lines lost\n"; got != want {
		t.Errorf("written: %q, want %q", got, want)
	}
}
