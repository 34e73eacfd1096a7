package main

import (
	"bufio"
	"net"
	"net/http"
	"time"
)

// reply is where the answer to a request is written. It sees to two things.
//
// The connection is closed after an answer that begins before the end of the request's
// body has come. Otherwise what is left of the body would be read as the next request,
// which the sender of the body could make up, and a front that shares its connection to
// the proxy among its callers would pass the answer on to another one. Net/http reads
// to the end of a body before it answers, but not without bound, and believes a read
// that timed out to be the end.
//
// A client that does not read is cut off once it has taken nothing for as long as
// stalled. That goes for streams too, whose length nothing bounds; a connection that
// was taken over, as for a websocket, is its new owner's to watch.
type reply struct {
	http.ResponseWriter
	body    *body
	stalled time.Duration
	begun   bool      // the header has been written
	since   time.Time // of the deadline
}

// extend lets the client have time for what is written next. The deadline is moved on
// no more than once a second, or each event of a stream would pay for it.
func (p *reply) extend() {
	if now := time.Now(); now.Sub(p.since) > min(time.Second, p.stalled/10) {
		p.since = now
		_ = http.NewResponseController(p.ResponseWriter).SetWriteDeadline(now.Add(p.stalled)) // As far as it is supported.
	}
}

// begin prepares for the header to be written.
func (p *reply) begin() {
	p.extend()
	if !p.begun && !p.body.isComplete() {
		p.Header().Set("Connection", "close")
	}
	p.begun = true
}

// end ends the answer, and the request's body with it.
func (p *reply) end() {
	p.begin() // Net/http answers for a handler that has written nothing.
	p.body.finish()
}

func (p *reply) WriteHeader(status int) {
	if status >= http.StatusOK {
		p.begin()
	}
	p.ResponseWriter.WriteHeader(status)
}

// Write writes in pieces, so that a slow client makes progress with each.
func (p *reply) Write(text []byte) (written int, err error) {
	const piece = 32 << 10
	for {
		p.begin()
		n, err := p.ResponseWriter.Write(text[:min(len(text), piece)])
		written += n
		if text = text[n:]; err != nil || len(text) == 0 {
			return written, err
		}
	}
}

// FlushError lets no flush write the header before begin.
func (p *reply) FlushError() error {
	p.begin()
	return http.NewResponseController(p.ResponseWriter).Flush()
}

// Hijack leaves the connection to its new owner, without a deadline.
func (p *reply) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	control := http.NewResponseController(p.ResponseWriter)
	_ = control.SetWriteDeadline(time.Time{})
	return control.Hijack()
}

// Unwrap lets an http.ResponseController find the rest.
func (p *reply) Unwrap() http.ResponseWriter { return p.ResponseWriter }
