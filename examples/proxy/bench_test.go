package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/scheduler/examples/internal/config"
)

// remoteBackend is a model that somebody else runs.
type remoteBackend struct{ at *url.URL }

func (b remoteBackend) start(context.Context) (instance, error) {
	return &remoteInstance{at: b.at, gone: make(chan struct{})}, nil
}

type remoteInstance struct {
	at   *url.URL
	once sync.Once
	gone chan struct{}
	why  error // of its end
}

func (i *remoteInstance) url() *url.URL               { return i.at }
func (i *remoteInstance) ready(context.Context) error { return nil }
func (i *remoteInstance) exited() <-chan struct{}     { return i.gone }
func (i *remoteInstance) err() error                  { return i.why }

func (i *remoteInstance) stop(time.Duration) error {
	i.once.Do(func() { close(i.gone) })
	return nil
}

// benchModel answers at once with a small body, or with a stream of 1,000 events
// if the request asks for one.
func benchModel(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	if !strings.Contains(string(body), `"stream":true`) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"choices":[{"message":{"role":"assistant","content":"Hello"}}]}`)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	control := http.NewResponseController(w)
	for range 1000 {
		io.WriteString(w, "data: {\"choices\":[{\"delta\":{\"content\":\"Hello\"}}]}\n\n")
		control.Flush()
	}
}

// BenchmarkProxy sends requests to a model that is loaded, through the proxy and,
// for comparison in the same run, through httputil.ReverseProxy alone.
func BenchmarkProxy(b *testing.B) {
	model := httptest.NewServer(http.HandlerFunc(benchModel))
	defer model.Close()
	at, err := url.Parse(model.URL)
	if err != nil {
		b.Fatal(err)
	}
	transport := newTransport()
	defer transport.CloseIdleConnections()
	reverse := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(at); r.SetXForwarded() },
		Transport:     transport,
		FlushInterval: -1,
		BufferPool:    &buffers,
	}
	alone := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Or net/http closes the body while the transport still looks for its end.
		_ = http.NewResponseController(w).EnableFullDuplex()
		reverse.ServeHTTP(w, r)
	}))
	defer alone.Close()

	cfg := &config.Config{Models: config.Models{"bench": {Command: []string{"bench"}}}}
	if err := cfg.Complete(); err != nil {
		b.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	h, err := newHost(cfg, log, func(string, *config.Model, *output, *slog.Logger) backend { return remoteBackend{at} })
	if err != nil {
		b.Fatal(err)
	}
	go h.run()
	defer h.shutdown(context.Background())
	ours := httptest.NewServer(newFront(h, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, log))
	defer ours.Close()

	for _, answer := range []string{"small", "stream"} {
		for _, clients := range []int{1, 64} {
			for _, through := range []struct{ name, url string }{{"alone", alone.URL}, {"proxy", ours.URL}} {
				b.Run(fmt.Sprintf("%s/clients=%d/%s", answer, clients, through.name), func(b *testing.B) {
					benchRequests(b, through.url, clients, answer == "stream")
				})
			}
		}
	}
}

// benchRequests sends requests from so many clients.
func benchRequests(b *testing.B, at string, clients int, stream bool) {
	transport := &http.Transport{MaxIdleConnsPerHost: clients}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	text := fmt.Sprintf(`{"model":"bench","stream":%v,"messages":[{"role":"user","content":"Hello"}]}`, stream)
	b.ReportAllocs()
	b.SetParallelism(max(1, clients/2)) // On two cores, as many clients as that.
	b.ResetTimer()
	send := func() {
		resp, err := client.Post(at+"/v1/chat/completions", "application/json", strings.NewReader(text))
		if err != nil {
			b.Error(err)
			return
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
			b.Error(resp.Status, err)
		}
		resp.Body.Close()
	}
	if clients == 1 {
		for range b.N {
			send()
		}
		return
	}
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			send()
		}
	})
}
