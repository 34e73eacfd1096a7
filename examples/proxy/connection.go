package main

import (
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

// requestBody is the body of a request as it comes from the connection. It notices
// its end.
type requestBody struct {
	io.ReadCloser
	ended atomic.Bool
}

func (b *requestBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		b.ended.Store(true)
	}
	return n, err
}

// answerWriter closes the connection after an answer that begins before the end of
// the request's body has been seen: `Connection: close` goes out with its header.
//
// Net/http decides that for itself, but not for a body that is open for both
// directions; see body.release. Then what remains of the body would be read as the
// next request, which the sender of the body could make up. A front that shares its
// connection to the proxy among its callers would pass the answer on to another one.
type answerWriter struct {
	http.ResponseWriter
	body  *requestBody // nil: the request has none
	begun bool         // the header has been written
}

// watchConnection returns w and r such that the connection is closed if it has to
// be. The caller must call end once r has been served.
func watchConnection(w http.ResponseWriter, r *http.Request) *answerWriter {
	a := &answerWriter{ResponseWriter: w}
	if r.Body != nil && r.Body != http.NoBody {
		a.body = &requestBody{ReadCloser: r.Body}
		r.Body = a.body
	}
	return a
}

// unread reports whether there may be more of the body.
func (a *answerWriter) unread() bool { return a.body != nil && !a.body.ended.Load() }

// begin prepares the header before it is written.
func (a *answerWriter) begin() {
	if !a.begun && a.unread() {
		a.Header().Set("Connection", "close")
	}
	a.begun = true
}

// end ends the answer. Net/http reads on for the end of a body before it closes the
// connection; a client that has stalled gets no more than a moment for that.
func (a *answerWriter) end() {
	a.begin() // Net/http answers for a handler that has written nothing.
	if a.unread() {
		_ = http.NewResponseController(a.ResponseWriter).SetReadDeadline(time.Now().Add(discardTime))
	}
}

func (a *answerWriter) WriteHeader(status int) {
	if status >= 200 {
		a.begin()
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *answerWriter) Write(p []byte) (int, error) {
	a.begin()
	return a.ResponseWriter.Write(p)
}

// FlushError lets no flush write the header before begin.
func (a *answerWriter) FlushError() error {
	a.begin()
	return http.NewResponseController(a.ResponseWriter).Flush()
}

// Unwrap lets an http.ResponseController find the rest.
func (a *answerWriter) Unwrap() http.ResponseWriter { return a.ResponseWriter }
