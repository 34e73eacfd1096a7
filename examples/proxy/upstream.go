package main

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"sync"
	"time"
)

// newTransport makes the transport to the models. They are few and near, so that
// idle connections are kept for as many callers as there may be.
func newTransport() *http.Transport {
	return &http.Transport{
		MaxIdleConnsPerHost: 256,
		IdleConnTimeout:     time.Minute,
		DisableCompression:  true, // Bodies pass through as they are.
	}
}

// newUpstream makes the handler that passes requests on to inst, the instance of
// a model. Streams are flushed at every write.
func (h *host) newUpstream(model string, inst instance) http.Handler {
	url := inst.url()
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(url)
			r.SetXForwarded()
		},
		Transport:     h.transport,
		FlushInterval: -1,
		BufferPool:    &buffers,
		ErrorLog:      slog.NewLogLogger(h.log.Handler(), slog.LevelDebug),
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() != nil {
				return // The caller has left.
			}
			writeError(w, r, fmt.Errorf("model %q: %w", model, causeOf(inst, err)))
		},
	}
}

// causeOf returns why a request to inst has failed. A crash breaks the connection
// a moment before the end of the process is known.
func causeOf(inst instance, err error) error {
	select {
	case <-inst.exited():
		return inst.err()
	case <-time.After(time.Second):
		return err
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
