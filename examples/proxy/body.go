package main

import (
	"bytes"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// budget bounds the bytes of the bodies that are held for waiting requests, over
// all of them.
type budget struct{ held atomic.Int64 }

// take takes n bytes, and reports whether there was room for them.
func (b *budget) take(n, limit int64) bool {
	if b.held.Add(n) > limit {
		b.held.Add(-n)
		return false
	}
	return true
}

// stalled is how long a body may pause.
const stalled = time.Minute

// body is the body of a request whose beginning has been read. It is streamed from
// the connection, unless its request has to wait: hold then reads it into memory,
// so that the client is not kept from sending it, and its leaving is noticed, which
// net/http does only once a body has been read.
type body struct {
	prefix []byte // still to be read
	from   io.ReadCloser
	conn   *http.ResponseController
	budget *budget
	limit  int64 // of budget

	mu      sync.Mutex
	more    sync.Cond    // something of what follows has changed
	held    bytes.Buffer // read ahead
	taken   int64        // from budget
	holding bool         // a goroutine reads ahead
	enough  bool         // it has to end
	end     error        // how from ended, as far as it was read ahead
	passed  bool         // it goes to a model

	sawEnd atomic.Bool // of from

	reads sync.Mutex // guards last
	last  bool       // no further deadline but the last
}

// newBody makes the body of r, of at most limit bytes.
func newBody(w http.ResponseWriter, r *http.Request, budget *budget, cfg *config) *body {
	b := &body{
		from:   http.MaxBytesReader(w, r.Body, int64(cfg.MaxBody)),
		conn:   http.NewResponseController(w),
		budget: budget,
		limit:  int64(cfg.MaxHeld),
	}
	b.more.L = &b.mu
	return b
}

// deadline bounds the next reads from the connection; zero: not at all. Once one is
// last, others that come late, from a goroutine that was reading, change nothing.
func (b *body) deadline(t time.Time, last bool) {
	b.reads.Lock()
	defer b.reads.Unlock()
	if b.last && !last {
		return
	}
	b.last = last
	_ = b.conn.SetReadDeadline(t) // As far as it is supported.
}

// direct reads from the connection. A client that stalls is cut off.
func (b *body) direct(p []byte) (int, error) {
	b.deadline(time.Now().Add(stalled), false)
	defer b.deadline(time.Time{}, false) // net/http reads the connection too once the body has ended.
	n, err := b.from.Read(p)
	if err == io.EOF {
		b.sawEnd.Store(true)
	}
	return n, err
}

// hold begins to read the body into memory. The channel gets an error if that
// fails: the body is too large or broken, or there is no room to hold it.
func (b *body) hold() <-chan error {
	failed := make(chan error, 1)
	if !b.reserve(int64(len(b.prefix))) {
		failed <- errHeld
		return failed
	}
	b.holding = true
	go b.readAhead(failed)
	return failed
}

// readAhead reads the body until it ends or enough has been read.
func (b *body) readAhead(failed chan<- error) {
	chunk := make([]byte, 32<<10)
	for {
		n, err := b.direct(chunk)
		if !b.reserve(int64(n)) {
			err = errHeld
		}
		if err != nil && err != io.EOF {
			failed <- err
		}
		b.mu.Lock()
		b.held.Write(chunk[:n])
		b.end = err
		done := err != nil || b.enough
		b.holding = !done
		b.more.Broadcast()
		b.mu.Unlock()
		if done {
			return
		}
	}
}

// reserve takes n bytes from the budget.
func (b *body) reserve(n int64) bool {
	if !b.budget.take(n, b.limit) {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.taken += n
	return true
}

// all waits until the whole body is held and returns it, nil if ended is closed
// first or the body failed. The body can still be read.
func (b *body) all(ended <-chan struct{}) []byte {
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-ended:
			b.mu.Lock()
			b.more.Broadcast()
			b.mu.Unlock()
		case <-stop:
		}
	}()
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.holding {
		select {
		case <-ended:
			return nil
		default:
			b.more.Wait()
		}
	}
	if b.end != io.EOF {
		return nil
	}
	return append(bytes.Clone(b.prefix), b.held.Bytes()...)
}

// release ends the reading ahead: what is held comes first, and then the rest from
// the connection.
//
// A model may answer before it has seen the end of the body. Unless told otherwise
// the server would then close the body, and that break the connection to the model.
func (b *body) release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.enough = true
	b.passed = b.conn.EnableFullDuplex() == nil
}

// pass is release, and makes b the body of r if that has one.
func (b *body) pass(r *http.Request) {
	b.release()
	if r.Body != http.NoBody {
		r.Body = b
	}
}

// Read implements io.Reader, after release. Memory is given back as it is read.
func (b *body) Read(p []byte) (int, error) {
	if len(b.prefix) > 0 {
		n := copy(p, b.prefix)
		b.prefix = b.prefix[n:]
		b.giveBack(int64(n))
		return n, nil
	}
	b.mu.Lock()
	for b.holding && b.held.Len() == 0 {
		b.more.Wait()
	}
	if b.held.Len() > 0 {
		n, _ := b.held.Read(p)
		b.mu.Unlock()
		b.giveBack(int64(n))
		return n, nil
	}
	end := b.end
	b.mu.Unlock()
	if end != nil {
		return 0, end
	}
	return b.direct(p)
}

// giveBack gives n bytes back to the budget, if they were taken.
func (b *body) giveBack(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n = min(n, b.taken)
	b.taken -= n
	b.budget.held.Add(-n)
}

// Close implements io.Closer for the transport, which may close a body before its
// handler has ended. Finish does the work.
func (b *body) Close() error { return nil }

// finish ends the body with its request. It does not wait for a client that has
// stalled: net/http would, for the lock that a reader of the body holds.
func (b *body) finish() {
	b.mu.Lock()
	b.enough = true
	if b.holding {
		b.deadline(time.Unix(1, 0), true)
	}
	for b.holding {
		b.more.Wait()
	}
	b.held = bytes.Buffer{}
	taken := b.taken
	b.taken = 0
	b.mu.Unlock()
	b.budget.held.Add(-taken)
	if !b.sawEnd.Load() {
		b.discard()
	}
}

// discard ends what nobody has read. Net/http reads some of it before it answers, for
// which a client that has stalled gets no more than a moment. If the body was open
// for both directions it has to have ended, or the connection cannot be used again.
func (b *body) discard() {
	b.deadline(time.Now().Add(discardTime), true)
	if !b.passed {
		return
	}
	if _, err := io.CopyN(io.Discard, b.from, discardSize); err == io.EOF {
		b.deadline(time.Time{}, true)
		return
	}
	b.deadline(time.Unix(1, 0), true)
}

// What discard spends on a body that nobody wants.
const (
	discardTime = 100 * time.Millisecond
	discardSize = 256 << 10
)
