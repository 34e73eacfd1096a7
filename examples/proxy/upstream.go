package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"strings"
	"sync"
	"time"

	"example.com/scheduler"
	"example.com/scheduler/examples/internal/config"
)

// newTransport makes the transport to the models. They are few and near, so that
// idle connections are kept for as many callers as there may be.
func newTransport() *http.Transport {
	return &http.Transport{
		MaxIdleConnsPerHost: 256,
		MaxIdleConns:        max(1, maxConnections()/2),
		IdleConnTimeout:     4 * time.Second, // llama-server, uvicorn and Node close after 5.
		DisableCompression:  true,            // Bodies pass through as they are.
	}
}

// upstream passes requests on to one instance of a model. Streams are flushed at every
// write.
type upstream struct {
	http.Handler
	model     string
	inst      instance
	transport *http.Transport
	ready     context.Context // ends when the instance is told to stop
	unload    context.CancelFunc
}

// newUpstream makes the upstream of inst, the instance of a model.
func (h *host) newUpstream(model string, cfg *config.Model, inst instance) *upstream {
	url := inst.url()
	u := &upstream{model: model, inst: inst, transport: h.transport}
	u.ready, u.unload = context.WithCancel(context.Background())
	u.Handler = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(url)
			r.Out.URL.RawQuery = r.In.URL.RawQuery // As it came, even if it is broken.
			r.SetXForwarded()
			if !strings.EqualFold(r.In.Header.Get("Upgrade"), "websocket") {
				// Another protocol, such as h2c, could name paths outside the base of url.
				r.Out.Header.Del("Upgrade")
				r.Out.Header.Del("Connection")
			}
			endpoint{cfg, url}.authorize(r.Out)
			if lease := exchangeOf(r.In).lease; lease != "" {
				r.Out.Header.Set(leaseHeader, lease)
			}
		},
		ModifyResponse: func(r *http.Response) error {
			if r.StatusCode < 100 {
				return fmt.Errorf("it answered with status %d, which is none", r.StatusCode)
			}
			cfg := h.config().Models[model] // Of now: a reload may have changed it.
			confine(r.Header, cfg != nil && cfg.TrustPages)
			r.Header.Del("X-Request-Id") // The proxy's own is there.
			return nil
		},
		Transport:     u,
		FlushInterval: -1,
		BufferPool:    &buffers,
		ErrorLog:      slog.NewLogLogger(h.log.Handler(), slog.LevelDebug),
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			e := exchangeOf(r)
			writeError(w, e.in, e.why(err))
		},
	}
	return u
}

// RoundTrip implements http.RoundTripper for the reverse proxy.
func (u *upstream) RoundTrip(r *http.Request) (*http.Response, error) {
	e := exchangeOf(r)
	resp, err := e.send(r)
	if err == nil {
		e.receive(resp)
	}
	return resp, err
}

// ServeHTTP implements http.Handler. An answer that breaks off in its middle is cut short
// by a panic, and too late to be an error.
func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	returned := false
	defer func() {
		if !returned {
			visitOf(r).reason = answerTo(cmp.Or(context.Cause(r.Context()), u.cause())).reason
		}
	}()
	u.Handler.ServeHTTP(w, r)
	returned = true
}

// cause returns the kind of error that ends a request before its time.
func (u *upstream) cause() error {
	if u.ready.Err() != nil {
		return scheduler.ErrModelUnloaded
	}
	return errModelFailed
}

// gone reports whether nothing is left of the instance.
func (u *upstream) gone() bool {
	select {
	case <-leaving(u.inst):
		return true
	default:
		return false
	}
}

// brokenOff returns why a request has failed: err is what its connection says. A crash
// breaks that a moment before the end of the process is known.
func (u *upstream) brokenOff(err error) error {
	cause := u.cause()
	if cause != errModelFailed {
		return fmt.Errorf("%w: %q", cause, u.model)
	}
	select {
	case <-leaving(u.inst):
		return fmt.Errorf("%w: %w", cause, u.inst.err()) // It names the model.
	case <-time.After(time.Second):
		return fmt.Errorf("%w: model %q: %w", cause, u.model, err)
	}
}

// buffers are what bodies are copied through.
var buffers bufferPool

// bufferPool implements httputil.BufferPool.
type bufferPool struct{ pool sync.Pool }

func (p *bufferPool) Get() []byte {
	if b, ok := p.pool.Get().(*[]byte); ok {
		return *b
	}
	return make([]byte, 32<<10)
}

func (p *bufferPool) Put(b []byte) { p.pool.Put(&b) }
