package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"time"
)

// newBackend is the [backendFactory] of the proxy.
func newBackend(name string, cfg *modelConfig, out *output, log *slog.Logger) backend {
	if cfg.remote() {
		return &remote{name: name, cfg: cfg}
	}
	return newProcess(name, cfg, out, log)
}

// remote is a model that somebody else runs: on another machine, or in a cloud. To load
// it is to wait until it is healthy, and to stop it is to send it no more requests. It
// implements [backend].
type remote struct {
	name string
	cfg  *modelConfig
}

// start implements [backend].
func (r *remote) start(context.Context) (instance, error) {
	text, err := expand(r.cfg.URL, map[string]string{"MODEL": r.name})
	if err != nil {
		return nil, fmt.Errorf("model %q: url: %w", r.name, err)
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("model %q: url: not a URL", r.name) // Its error would tell a password.
	}
	return &link{remote: r, addr: u, started: time.Now(), cut: make(chan struct{})}, nil
}

// link is one start of a remote. It implements [instance].
type link struct {
	*remote
	addr    *url.URL
	started time.Time
	once    sync.Once
	cut     chan struct{} // closed by stop
}

// url implements [instance].
func (l *link) url() *url.URL { return l.addr }

// ready implements [instance].
func (l *link) ready(ctx context.Context) error {
	if timeout := time.Duration(l.cfg.LoadTimeout); timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, timeout, fmt.Errorf("not ready after %v", timeout))
		defer cancel()
	}
	unhealthy := l.cfg.poll(ctx, l.addr, l.started, l.cut)
	switch {
	case unhealthy == nil:
		return nil
	case l.err() != nil:
		return l.err()
	}
	return fmt.Errorf("model %q: %w: %w", l.name, context.Cause(ctx), unhealthy)
}

// stop implements [instance].
func (l *link) stop(time.Duration) error {
	l.once.Do(func() { close(l.cut) })
	return nil
}

// exited implements [instance].
func (l *link) exited() <-chan struct{} { return l.cut }

// err implements [instance].
func (l *link) err() error {
	select {
	case <-l.cut:
		return fmt.Errorf("model %q: stopped", l.name)
	default:
		return nil
	}
}
