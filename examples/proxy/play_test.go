package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	"example.com/scheduler/examples/internal/config"
)

// play is a host with models that become ready when the test says so, and its
// admin on a real address.
type play struct {
	host   *host
	admin  *admin
	server *httptest.Server
	actors map[string]*actor
}

// newPlay makes a play of models of which one can run at a time.
func newPlay(t *testing.T, models ...string) *play {
	p := newQuietPlay(t, models...)
	p.serveAt(t, "127.0.0.1:0")
	t.Cleanup(func() { p.host.shutdown(t.Context()) })
	return p
}

// newQuietPlay makes one without an address, whose host the test shuts down.
func newQuietPlay(t *testing.T, models ...string) *play {
	cfg := &config.Config{Models: make(config.Models)}
	for _, name := range models {
		cfg.Models[name] = &config.Model{Command: []string{"none"}}
	}
	if err := cfg.Complete(); err != nil {
		t.Fatal(err)
	}
	p := &play{actors: make(map[string]*actor)}
	for _, name := range models {
		p.actors[name] = &actor{ready: make(chan error, 100)}
	}
	var err error
	p.host, err = newHost(cfg, slog.New(slog.DiscardHandler), func(name string, _ *config.Model, out *output, _ *slog.Logger) backend {
		p.actors[name].out = out
		return p.actors[name]
	})
	if err != nil {
		t.Fatal(err)
	}
	go p.host.run()
	p.admin = newAdmin(p.host, func() int64 { return 4096 })
	return p
}

// serveAt serves the admin at an address.
func (p *play) serveAt(t *testing.T, address string) {
	mux := http.NewServeMux()
	p.admin.routes(mux)
	p.server = httptest.NewUnstartedServer(mux)
	if address != "127.0.0.1:0" {
		p.server.Listener.Close()
		listener, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		p.server.Listener = listener
	}
	p.server.Start()
	server := p.server
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
}

// ready lets one load of a model succeed.
func (p *play) ready(model string) { p.actors[model].ready <- nil }

// breaks lets one load of a model fail.
func (p *play) breaks(model string) { p.actors[model].ready <- errors.New("it is broken") }

// request asks for a model, waits until it is granted, and returns what ends it.
func (p *play) request(t *testing.T, model string) (served func()) {
	t.Helper()
	ticket := p.host.request(t.Context(), model, 0)
	select {
	case resp := <-ticket.req.Respond:
		if resp.Err != nil {
			t.Fatal(resp.Err)
		}
		return func() { resp.HandleFunc(nil, nil) }
	case <-time.After(patience):
		t.Fatalf("no grant for %s", model)
		return nil
	}
}

// actor plays a model, and its process.
type actor struct {
	out   *output
	ready chan error // its loads end with these
}

func (a *actor) start(context.Context) (instance, error) {
	return &part{actor: a, gone: make(chan struct{})}, nil
}

// part is one start of an actor.
type part struct {
	actor *actor
	once  sync.Once
	gone  chan struct{}
}

func (p *part) url() *url.URL { return &url.URL{Scheme: "http", Host: "127.0.0.1:1"} }

func (p *part) ready(ctx context.Context) error {
	select {
	case err := <-p.actor.ready:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (p *part) stop(time.Duration) error {
	p.once.Do(func() { close(p.gone) })
	return nil
}

func (p *part) exited() <-chan struct{} { return p.gone }

func (p *part) err() error { return errors.New("it has ended") }
