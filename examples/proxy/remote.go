package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"time"

	"example.com/scheduler/examples/internal/config"
)

// newBackend is the [backendFactory] of the proxy.
func newBackend(name string, cfg *config.Model, out *output, log *slog.Logger) backend {
	if cfg.Remote() {
		return &remote{name: name, cfg: cfg}
	}
	return newProcess(name, cfg, out, log)
}

// remote is a model that somebody else runs: on another machine, or in a cloud. To load
// it is to wait until it is healthy, and to stop it is to send it no more requests. It
// implements [backend].
type remote struct {
	name string
	cfg  *config.Model
}

// start implements [backend].
func (r *remote) start(context.Context) (instance, error) {
	u, err := r.cfg.Address(r.cfg.Vars(r.name))
	if err != nil {
		return nil, fmt.Errorf("model %q: %w", r.name, err)
	}
	return &link{remote: r, addr: u, cut: make(chan struct{})}, nil
}

// link is one start of a remote. It implements [instance].
type link struct {
	*remote
	addr *url.URL
	once sync.Once
	cut  chan struct{} // closed by stop
}

func (l *link) url() *url.URL           { return l.addr }
func (l *link) exited() <-chan struct{} { return l.cut }

// ready implements [instance].
func (l *link) ready(ctx context.Context) error {
	err := endpoint{l.cfg, l.addr}.poll(ctx, time.Now(), l.cut)
	if err == nil || l.err() != nil {
		return l.err()
	}
	return fmt.Errorf("model %q: %w", l.name, err)
}

// stop implements [instance].
func (l *link) stop(time.Duration) error {
	l.once.Do(func() { close(l.cut) })
	return nil
}

// err implements [instance].
func (l *link) err() error {
	select {
	case <-l.cut:
		return fmt.Errorf("model %q: stopped", l.name)
	default:
		return nil
	}
}
