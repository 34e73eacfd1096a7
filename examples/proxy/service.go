package main

import (
	"context"
	"log/slog"
	"net"
	"net/http"

	"example.com/scheduler/examples/internal/config"
)

// service is what stands behind the HTTP server.
type service interface {
	http.Handler
	// config returns the present configuration.
	config() *config.Config
	// reload makes cfg the configuration, and loads what it says should be loaded.
	reload(cfg *config.Config) error
	// shutdown refuses whoever waits or comes. What is in flight may finish until ctx
	// ends. It returns once nothing is left, or says what is.
	shutdown(ctx context.Context) error
	// kill ends everything at once. A shutdown that is under way returns all the sooner.
	kill()
}

// standalone is a host that has its models to itself. It implements [service].
type standalone struct {
	*host
	http.Handler
	preload context.Context // of loading models without being asked
	cancel  context.CancelFunc
}

func newStandalone(cfg *config.Config, address net.Addr, log *slog.Logger) (*standalone, error) {
	h, err := newHost(cfg, log, newBackend)
	if err != nil {
		return nil, err
	}
	return h.serve(address, cfg.Preload), nil
}

// serve begins to run h for callers that reach it at address, and loads models.
func (h *host) serve(address net.Addr, preload []string) *standalone {
	s := &standalone{host: h, Handler: newFront(h, address, h.log)}
	s.preload, s.cancel = context.WithCancel(context.Background())
	go h.run()
	go h.loadAll(s.preload, preload)
	return s
}

// reload implements [service].
func (s *standalone) reload(cfg *config.Config) error {
	again, err := s.host.reload(cfg)
	go s.loadAll(s.preload, again)
	return err
}

// shutdown implements [service].
func (s *standalone) shutdown(ctx context.Context) error {
	s.cancel()
	return s.host.shutdown(ctx)
}
