package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"example.com/scheduler"
	"example.com/scheduler/examples/internal/config"
	"example.com/scheduler/examples/internal/demo"
)

// startRemote starts a remote model of cfg.
func startRemote(t *testing.T, cfg config.Model) instance {
	t.Helper()
	c := &config.Config{Models: config.Models{"a": &cfg}}
	if err := c.Complete(); err != nil {
		t.Fatal(err)
	}
	inst, err := newBackend("a", &cfg, newOutput(), slog.New(slog.DiscardHandler)).start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { inst.stop(0) })
	return inst
}

// TestRemote: it is ready at once or when it is healthy, and ends when it is stopped.
func TestRemote(t *testing.T) {
	t.Setenv("PROXY_TEST_CLOUD", "plugh")
	var probes atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/base/healthz" || r.Header.Get("Authorization") != "Bearer plugh" || probes.Add(1) < 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	inst := startRemote(t, config.Model{URL: server.URL + "/base", Health: "/healthz", APIKeyEnv: "PROXY_TEST_CLOUD"})
	if err := inst.ready(t.Context()); err != nil || probes.Load() != 3 {
		t.Errorf("ready: %v, after %d probes", err, probes.Load())
	}
	if inst.err() != nil || inst.stop(0) != nil || inst.stop(patience) != nil {
		t.Error("it does not stop well")
	}
	<-inst.exited()
	if got := errorText(inst.err()); got != `model "a": stopped` {
		t.Error(got)
	}
	inst = startRemote(t, config.Model{URL: "http://${MODEL}.invalid:1"})
	if err := inst.ready(t.Context()); err != nil || inst.url().Host != "a.invalid:1" {
		t.Errorf("without a health: %v at %v", err, inst.url())
	}
}

// TestRemoteNotReady: time is up, the load is cancelled, or it is stopped meanwhile.
func TestRemoteNotReady(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	cfg := config.Model{URL: server.URL, Health: "/h", LoadTimeout: 1}
	if got := errorText(startRemote(t, cfg).ready(t.Context())); !strings.HasPrefix(got, `model "a": not ready after 1ns: `) {
		t.Error(got)
	}
	cfg.LoadTimeout = 0
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errLoadCancelled)
	if err := startRemote(t, cfg).ready(ctx); !errors.Is(err, errLoadCancelled) {
		t.Error(err)
	}
	inst := startRemote(t, cfg)
	go inst.stop(0)
	if got := errorText(inst.ready(t.Context())); got != `model "a": stopped` {
		t.Error(got)
	}
}

// TestRemoteBesideProcesses: a whole proxy, with one model of its own and one
// elsewhere. Neither stops the other.
func TestRemoteBesideProcesses(t *testing.T) {
	t.Setenv("PROXY_TEST_CLOUD", "plugh")
	cloud := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		io.WriteString(w, r.Host+" "+r.URL.Path+" "+r.Header.Get("Authorization")+" "+string(body))
	}))
	defer cloud.Close()
	p, err := startTestProxy(options{listen: "127.0.0.1:0", file: writeConfig(t, `{
		"keys": [{"name": "k", "key": "sesame"}],
		"defaults": {"command": ["`+self(t)+`", "`+demo.Command+`", "-port", "${PORT}", "-name", "${MODEL}", "-load", "0s", "-delay", "0s"]},
		"models": {"here": {}, "there": {"command": [], "url": "`+cloud.URL+`/api", "apiKeyEnv": "PROXY_TEST_CLOUD", "useModelName": "big"}}
	}`)}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ask := func(model string) string {
		t.Helper()
		req, err := http.NewRequest("POST", p.url()+chatPath, strings.NewReader(`{"model":"`+model+`","messages":[]}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer sesame")
		resp, err := newClient(t).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != 200 {
			t.Errorf("%s: %d %s %v", model, resp.StatusCode, text, err)
		}
		return string(text)
	}
	for range 2 {
		ask("here")
		want := strings.TrimPrefix(cloud.URL, "http://") + ` /api/v1/chat/completions Bearer plugh {"model":"big","messages":[]}`
		if got := ask("there"); got != want {
			t.Errorf("the cloud got %s, not %s", got, want)
		}
	}
	s := p.service.(*standalone).status()
	if c := s.Scheduler.Counters; c.Swaps != 2 || c.Evictions != 0 {
		t.Errorf("%+v", c)
	}
	for _, m := range s.Models {
		if m.State != scheduler.StateReady {
			t.Errorf("%s is %s", m.Model, m.State)
		}
	}
	signals := make(chan os.Signal, 1)
	signals <- syscall.SIGTERM
	if code := p.wait(signals); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
