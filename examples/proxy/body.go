package main

import (
	"cmp"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"example.com/scheduler/examples/internal/config"
)

// budget bounds the bytes of request bodies that are in memory, over all requests.
type budget struct{ held atomic.Int64 }

// take takes n bytes, and reports whether there was room for them.
func (b *budget) take(n, limit int64) bool {
	if b.held.Add(n) > limit {
		b.held.Add(-n)
		return false
	}
	return true
}

// discardTime is how long the rest of a body that nobody wants is waited for, once the
// answer has been sent. The connection is closed after it; a client that is sending
// still is thus more likely to see the answer than a broken connection.
const discardTime = time.Second

// body is the body of a request. It comes from the connection in pieces, and whoever
// needs the next one fetches it: first the search for the model, then, while the
// request waits, hold, and in the end the transport. What is fetched before the
// transport asks for it is held, counted in the budget, and let go of as it is read.
type body struct {
	from    io.Reader // the connection
	conn    *http.ResponseController
	gone    <-chan struct{} // closed when the connection can be read no further
	stalled time.Duration   // how long the body may pause
	budget  *budget
	limit   int64                               // of budget
	left    int64                               // of the length that the header tells; 0: not known
	see     func(piece []byte, last bool) error // sees all that comes, and may refuse it; nil: nobody does

	mu       sync.Mutex
	change   sync.Cond // of what follows
	held     [][]byte  // fetched, and still to be read
	spare    []byte    // room behind what is held
	taken    int64     // from budget: what is held, and the spare room
	fetching bool      // a goroutine reads from the connection
	passed   bool      // it is the transport's to fetch
	finished bool      // nobody may fetch
	complete bool      // all of it has come, and the connection may be used again
	end      error     // after what is held: io.EOF, or what is wrong; nil: there may be more

	edited io.Reader // what the transport reads instead; nil: nothing is changed
}

// newBody makes the body of r, of at most maxBody bytes.
func (f *front) newBody(w http.ResponseWriter, r *http.Request, cfg *config.Config) *body {
	b := &body{
		conn:    http.NewResponseController(w),
		gone:    r.Context().Done(),
		stalled: f.stalled,
		budget:  &f.held,
		limit:   int64(cfg.MaxHeld),
		left:    max(0, r.ContentLength),
	}
	b.change.L = &b.mu
	if r.Body == nil || r.Body == http.NoBody {
		b.complete, b.end = true, io.EOF
		return b
	}
	b.from = http.MaxBytesReader(w, r.Body, int64(cfg.MaxBody))
	r.Body = b
	return b
}

// fetch reads from the connection into p. The lock is held before and after it.
//
// The deadline is set before each read and never after it: at the end of the body
// net/http begins to read for itself, to notice when the client leaves, and a deadline
// that met this read would end the context of the connection, and of all requests
// that come through it.
func (b *body) fetch(p []byte) (int, error) {
	b.fetching = true
	_ = b.conn.SetReadDeadline(time.Now().Add(b.stalled)) // As far as it is supported.
	b.mu.Unlock()
	n, err := b.from.Read(p)
	complete := err == io.EOF
	if b.see != nil {
		if refused := b.see(p[:n], complete); refused != nil {
			n, err = 0, refused // The model must not get all of it.
		}
	}
	b.mu.Lock()
	b.left = max(0, b.left-int64(n))
	b.fetching, b.complete, b.end = false, complete, cmp.Or(b.end, ownFault(err))
	b.change.Broadcast()
	return n, b.end
}

// refuse ends the fetching for a reason that is not the body's. Its reader gets err.
func (b *body) refuse(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.end = cmp.Or(b.end, err)
	if b.fetching {
		_ = b.conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// ownFault tells what is wrong with a body of which net/http says err.
func ownFault(err error) error {
	var timeout interface{ Timeout() bool }
	var tooLarge *http.MaxBytesError
	var refused badRequestError
	switch {
	case err == nil, err == io.EOF, errors.As(err, &tooLarge), errors.As(err, &refused):
		return err
	case errors.As(err, &timeout) && timeout.Timeout():
		return errStalled
	}
	return badRequest("the body is broken: " + err.Error())
}

// ahead fetches a piece of the body and holds it. The lock is held before and after
// it. If it fails because there is no room the body is as good as before.
func (b *body) ahead() error {
	if len(b.spare) == 0 {
		n := b.room()
		if !b.budget.take(n, b.limit) {
			return errHeld
		}
		b.taken += n
		b.spare = make([]byte, n)
	}
	piece := b.spare
	n, err := b.fetch(piece)
	if b.finished {
		return err
	}
	if last := len(b.held) - 1; last >= 0 && cap(b.held[last]) > len(b.held[last]) {
		b.held[last] = b.held[last][:len(b.held[last])+n] // The piece lies behind it.
	} else if n > 0 {
		b.held = append(b.held, piece[:n])
	}
	if b.spare = piece[n:]; err != nil || b.passed {
		b.dropSpare()
	}
	return err
}

// dropSpare gives up the room that nothing will be held in.
func (b *body) dropSpare() {
	b.giveBack(int64(len(b.spare)))
	b.spare = nil
}

// room is how much to take for what comes next: what is known to come, or as much as
// has come.
func (b *body) room() int64 {
	const least, most = 512, 32 << 10
	if b.left > 0 {
		return min(b.left, most)
	}
	return max(least, min(b.taken, most))
}

// hold begins to fetch the body while its request waits, so that the client is not
// kept from sending it, and its leaving is noticed, which net/http does only once a
// body has been read. The channel gets nil once all of it is there, or an error: the
// body is broken, or there is no room for it.
func (b *body) hold() <-chan error {
	done := make(chan error, 1)
	go func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		err := b.end
		for err == nil && !b.passed && !b.finished {
			err = b.ahead()
		}
		switch {
		case err == io.EOF:
			done <- nil
		case err != nil:
			done <- err
		}
	}()
	return done
}

// pass leaves the rest to the transport.
func (b *body) pass() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.passed = true; !b.fetching {
		b.dropSpare()
	}
}

// Read implements io.Reader for the transport.
func (b *body) Read(p []byte) (int, error) {
	if b.edited != nil {
		return b.edited.Read(p)
	}
	return b.read(p)
}

// read reads what has come: what is held, and then from the connection.
func (b *body) read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		switch {
		case b.finished:
			return 0, http.ErrBodyReadAfterClose
		case len(b.held) > 0:
			n := copy(p, b.held[0])
			if b.held[0] = b.held[0][n:]; len(b.held[0]) == 0 {
				b.held[0] = nil // Its memory is not kept by the slice.
				b.held = b.held[1:]
			}
			b.giveBack(int64(n))
			return n, nil
		case b.end != nil:
			return 0, b.end
		case !b.fetching:
			return b.fetch(p)
		}
		b.change.Wait()
	}
}

// giveBack gives n bytes back to the budget.
func (b *body) giveBack(n int64) {
	b.taken -= n
	b.budget.held.Add(-n)
}

// replace makes the transport read text instead of the bytes from at to to.
func (b *body) replace(at, to int64, text string) {
	all, skip := readerFunc(b.read), to-at
	b.edited = io.MultiReader(io.LimitReader(all, at), strings.NewReader(text), readerFunc(func(p []byte) (int, error) {
		n, err := io.CopyN(io.Discard, all, skip)
		if skip -= n; err != nil {
			return 0, err
		}
		return b.read(p)
	}))
}

// Close implements io.Closer for the transport, which may close a body before its
// handler has ended. Finish does the work.
func (b *body) Close() error { return nil }

// isComplete reports whether all of the body has come.
func (b *body) isComplete() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.complete
}

// cause returns why a request has failed of which err is said: because of its own
// body, or because its caller has left, if that is so.
func (b *body) cause(err error) error {
	if b == nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	gone := false
	select {
	case <-b.gone:
		gone = true
		for b.fetching { // It is the one that has noticed.
			b.change.Wait()
		}
	default:
	}
	switch {
	case b.end != nil && b.end != io.EOF:
		return b.end
	case gone:
		return errLeft
	}
	return err
}

// finish ends the body with its request. It does not wait for a client that has
// stalled: net/http would, for the lock that a reader of the body holds, and for the
// rest of the body.
//
// It comes after the answer's header, which has said that the connection is closed if
// the body was not complete by then; see reply.
func (b *body) finish() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.finished = true
	b.giveBack(b.taken)
	b.held, b.spare = nil, nil
	if b.complete {
		return
	}
	for b.fetching {
		_ = b.conn.SetReadDeadline(time.Unix(1, 0))
		b.change.Wait()
	}
	_ = b.conn.SetReadDeadline(time.Now().Add(discardTime))
}
