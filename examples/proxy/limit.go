package main

import (
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// maxConnections returns how many connections of callers the limit of open files
// allows. Each may need another one to a model, and half as many connections to models
// may be idle. A quarter of the limit is left for what must not fail: the processes of
// models and their output, health probes, and the configuration.
func maxConnections() int {
	const enough = 1 << 20
	return max(1, int(min(fileLimit(), enough)*3/10))
}

// limitedListener accepts a connection only when there is room for it. Until then it
// waits in the kernel, as it would for a program that is slow. It is made by
// newLimitedListener.
type limitedListener struct {
	net.Listener
	server *http.Server
	log    *slog.Logger
	slots  chan struct{} // one for each connection
	closed chan struct{}
	once   sync.Once
	said   time.Time // of the last warning
}

// newLimitedListener makes one for server.
func newLimitedListener(l net.Listener, server *http.Server, log *slog.Logger) *limitedListener {
	return &limitedListener{
		Listener: l,
		server:   server,
		log:      log,
		slots:    make(chan struct{}, maxConnections()),
		closed:   make(chan struct{}),
	}
}

// Accept implements net.Listener. One goroutine calls it, which tries again after an
// error.
func (l *limitedListener) Accept() (net.Conn, error) {
	if !l.take() {
		return nil, net.ErrClosed
	}
	conn, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		if !errors.Is(err, net.ErrClosed) {
			l.warn("cannot accept connections", "err", err)
		}
		return nil, err
	}
	return &limitedConn{TCPConn: conn.(*net.TCPConn), slots: l.slots}, nil
}

// take waits for room for a connection. It is false when the listener has been closed.
func (l *limitedListener) take() bool {
	select {
	case l.slots <- struct{}{}:
		return true
	default:
	}
	l.warn("no more connections until others end: the limit of open files is too low", "connections", cap(l.slots), "limit", fileLimit())
	l.server.SetKeepAlivesEnabled(false) // Those that are idle end now, others after their answer.
	defer l.server.SetKeepAlivesEnabled(true)
	select {
	case l.slots <- struct{}{}:
		return true
	case <-l.closed:
		return false
	}
}

// warn logs what is wrong, once a minute.
func (l *limitedListener) warn(what string, args ...any) {
	if time.Since(l.said) > time.Minute {
		l.said = time.Now()
		l.log.Warn(what, args...)
	}
}

// Close implements net.Listener.
func (l *limitedListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// limitedConn is a connection that gives its room back.
type limitedConn struct {
	*net.TCPConn // Not only a net.Conn: net/http looks for more.
	slots        chan struct{}
	once         sync.Once
}

func (c *limitedConn) Close() error {
	err := c.TCPConn.Close()
	c.once.Do(func() { <-c.slots })
	return err
}
