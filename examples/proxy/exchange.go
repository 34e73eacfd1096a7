package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"example.com/scheduler"
	"example.com/scheduler/examples/internal/config"
)

// exchange is a request at a model, until its handler returns. It is cut off when the
// model lets it wait for too long. Only the model's own time counts: not the time that
// the caller takes to send its request, or to receive the answer.
type exchange struct {
	upstream *upstream
	timeouts config.Timeouts
	lease    string          // for leaseHeader; "": none
	opened   func()          // called when it has become a websocket, or the like
	in       *http.Request   // as it came
	ctx      context.Context // of what the model gets
	cut      context.CancelCauseFunc
}

// exchangeKey is the key of an exchange in the context of its request.
type exchangeKey struct{}

func exchangeOf(r *http.Request) *exchange { return r.Context().Value(exchangeKey{}).(*exchange) }

// serve passes r on to the model.
func (e *exchange) serve(w http.ResponseWriter, r *http.Request) {
	e.in = r
	e.ctx, e.cut = context.WithCancelCause(context.WithValue(r.Context(), exchangeKey{}, e))
	defer e.cut(nil)
	if e.lease == "" {
		defer context.AfterFunc(e.upstream.ready, func() {
			e.cut(fmt.Errorf("%w: %q", scheduler.ErrModelUnloaded, e.upstream.model))
		})()
	}
	e.upstream.ServeHTTP(w, r.WithContext(e.ctx))
}

// send sends r. A model may close a connection that has been idle at the moment when it
// is used again: as long as no byte of an answer has come, and the body can be sent
// again, that is tried once more, on another connection.
//
// The context is not that of r, in which the reverse proxy asks for interim answers (1xx).
// It would pass them on with the header that is there for the answer, and then clear it.
func (e *exchange) send(r *http.Request) (*http.Response, error) {
	reused, heard := false, new(atomic.Bool)
	r = r.WithContext(httptrace.WithClientTrace(e.ctx, &httptrace.ClientTrace{
		GotConn:              func(c httptrace.GotConnInfo) { reused = c.Reused },
		GotFirstResponseByte: func() { heard.Store(true) },
	}))
	sent := &sentBody{ReadCloser: r.Body, exchange: e}
	sent.owner, _ = e.in.Body.(*body)
	sent.wait = time.AfterFunc(e.timeouts.FirstByte.Bound(), sent.late)
	defer sent.finish()
	if r.Body != nil {
		r.Body = sent
	}
	transport := e.upstream.transport
	resp, err := transport.RoundTrip(r)
	if err != nil && reused && !heard.Load() && r.Context().Err() == nil && !e.upstream.gone() && sent.rewind() {
		transport.CloseIdleConnections() // What has closed this one may have closed them all.
		if resp, err = transport.RoundTrip(r); err == nil && e.upstream.gone() {
			resp.Body.Close() // It has crashed, and its port may be another model's already.
			resp, err = nil, io.ErrUnexpectedEOF
		}
	}
	return resp, err
}

// maxKept is how much of a body is kept to be sent again.
const maxKept = 64 << 10

// sentBody is the body of a request on its way to a model. Until the answer comes, it
// keeps what has been sent, if that is little, and watches the time.
type sentBody struct {
	io.ReadCloser
	exchange *exchange
	owner    *body        // whose budget counts what is kept; nil: none does
	wait     *time.Timer  // runs while it is the model's turn
	again    bytes.Reader // what is sent again before the rest

	mu       sync.Mutex
	kept     []byte
	tooLong  bool // to be kept, or there is no room
	answered bool
}

func (b *sentBody) Read(p []byte) (n int, err error) {
	b.wait.Stop()
	if b.again.Len() > 0 {
		n, err = b.again.Read(p)
	} else {
		n, err = b.ReadCloser.Read(p)
		b.keep(p[:n])
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.answered {
		b.wait.Reset(b.exchange.timeouts.FirstByte.Bound())
	}
	return n, err
}

// Close implements io.Closer for the transport, which closes what it may get again.
func (b *sentBody) Close() error { return nil }

// keep keeps p, which has been read.
func (b *sentBody) keep(p []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tooLong = b.tooLong || b.answered || len(b.kept)+len(p) > maxKept ||
		b.owner != nil && !b.owner.budget.take(int64(len(p)), b.owner.limit)
	if b.tooLong {
		b.drop()
		return
	}
	b.kept = append(b.kept, p...)
}

// drop lets go of what is kept.
func (b *sentBody) drop() {
	if b.owner != nil {
		b.owner.budget.held.Add(-int64(len(b.kept)))
	}
	b.kept = nil
}

// rewind goes back to the beginning, and reports whether that is possible.
func (b *sentBody) rewind() bool {
	b.again.Reset(b.kept)
	return !b.tooLong
}

// late handles that the model has taken too long.
func (b *sentBody) late() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.answered {
		b.exchange.cutSilent(b.exchange.timeouts.FirstByte)
	}
}

// finish is called when the answer has begun.
func (b *sentBody) finish() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wait.Stop()
	b.answered = true
	b.drop()
}

// cutSilent cuts e off because its model has been silent for d.
func (e *exchange) cutSilent(d config.Duration) {
	e.cut(fmt.Errorf("model %q: %w for %v", e.upstream.model, errSilent, d))
}

// receive takes the answer, which is on its way to the caller.
func (e *exchange) receive(resp *http.Response) {
	resp.Header.Del(leaseHeader)
	if resp.StatusCode == http.StatusSwitchingProtocols {
		// The body is a connection, which the reverse proxy closes only if the caller has
		// asked for one.
		conn := resp.Body
		context.AfterFunc(e.ctx, func() { conn.Close() })
		if e.opened != nil {
			e.opened()
		}
		return
	}
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	a := &answerBody{ReadCloser: resp.Body, exchange: e}
	a.events = kind == "text/event-stream" && resp.ContentLength < 0 && resp.Header.Get("Content-Encoding") == ""
	a.wait = time.AfterFunc(e.timeouts.Idle.Bound(), func() { e.cutSilent(e.timeouts.Idle) })
	a.wait.Stop()
	resp.Body = a
}

// answerBody is the body of an answer on its way to the caller.
type answerBody struct {
	io.ReadCloser
	exchange *exchange
	events   bool        // it is a stream of server-sent events
	wait     *time.Timer // runs while it is the model's turn
	rest     io.Reader   // what follows if the model has broken off
}

// Read implements io.Reader. Nobody looks at the status of a stream that has begun: one
// that breaks off ends with an event that says why, before its connection is cut.
func (a *answerBody) Read(p []byte) (int, error) {
	if a.rest != nil {
		return a.rest.Read(p)
	}
	a.wait.Reset(a.exchange.timeouts.Idle.Bound())
	n, err := a.ReadCloser.Read(p)
	a.wait.Stop()
	if !a.events || err == nil || err == io.EOF {
		return n, err
	}
	a.rest = io.MultiReader(strings.NewReader("\n\n"+errorEvent(a.exchange.in, a.exchange.why(err))),
		readerFunc(func([]byte) (int, error) { return 0, err }))
	return n, nil
}

// why returns why e has ended with err.
func (e *exchange) why(err error) error {
	if own := visitOf(e.in).body.cause(nil); own != nil {
		return own
	}
	if cause := context.Cause(e.ctx); cause != nil {
		return cause
	}
	return e.upstream.brokenOff(err)
}
