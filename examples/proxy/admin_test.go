package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"example.com/scheduler"
	"example.com/scheduler/examples/internal/config"
)

// ask asks the admin of p and returns the status and the body of the answer.
func (p *play) ask(method, target string) (code int, body string) {
	mux := http.NewServeMux()
	p.admin.routes(mux)
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(method, target, nil))
	return w.Code, w.Body.String()
}

func TestAdminLoadsAndUnloads(t *testing.T) {
	p := newPlay(t, "alpha", "beta")
	p.ready("alpha")
	p.ready("beta")
	steps := []struct {
		method, target string
		code           int
		body           string // "": any
	}{
		{"GET", "/running", 200, `{"running":[]}`},
		{"POST", "/load?model=alpha", 200, `{"model":"alpha","state":"ready"}`},
		{"POST", "/load?model=alpha", 200, `{"model":"alpha","state":"ready"}`},
		{"GET", "/running", 200, `{"running":[{"model":"alpha","state":"ready","url":"http://127.0.0.1:1"}]}`},
		{"POST", "/load?model=beta", 200, `{"model":"beta","state":"ready"}`},
		{"GET", "/running", 200, `{"running":[{"model":"beta","state":"ready","url":"http://127.0.0.1:1"}]}`},
		{"POST", "/unload?model=alpha&model=beta&model=beta", 200, `{"unloaded":["alpha","beta"]}`},
		{"GET", "/running", 200, `{"running":[]}`},
		{"POST", "/unload", 200, `{"unloaded":"all"}`},
		{"POST", "/unload?model=alpha&drain=1", 200, `{"unloaded":["alpha"]}`},
		{"POST", "/unload?drain=0", 200, `{"unloaded":"all"}`},
		{"POST", "/unload?drain=1", 200, `{"unloaded":"all"}`},
		{"POST", "/pause?model=alpha&model=beta&model=alpha", 200, `{"models":["alpha","beta"],"paused":true}`},
		{"POST", "/pause?model=alpha", 200, `{"models":["alpha"],"paused":true}`},
		{"POST", "/resume?model=beta&model=alpha", 200, `{"models":["beta","alpha"],"paused":false}`},
		{"POST", "/pause?model=alpha&model=nobody", 404, ""},
		{"POST", "/unload?drain=1&model=nobody", 404, ""},
		{"GET", "/unload", 405, ""},
		{"GET", "/pause?model=alpha", 405, ""},
		{"GET", "/load?model=alpha", 405, ""},
	}
	for _, step := range steps {
		code, body := p.ask(step.method, step.target)
		if code != step.code || step.body != "" && compact(body) != step.body {
			t.Errorf("%s %s: %d %s, want %d %s", step.method, step.target, code, body, step.code, step.body)
		}
	}
}

// compact takes the spaces out of JSON.
func compact(text string) string {
	return strings.Join(strings.Fields(text), "")
}

// What is not understood must not be taken for "all models".
func TestAdminIsStrict(t *testing.T) {
	p := newPlay(t, "alpha", "beta")
	for range 20 { // As often as mistakes may load it.
		p.ready("alpha")
	}
	p.request(t, "alpha")()
	for _, target := range []string{
		"/unload?modle=beta", "/unload?model=", "/unload?model=beta&force", "/unload?%zz", "/unload?model=beta;model=alpha",
		"/load", "/load?model=alpha&model=beta", "/load?model=alpha&x=1",
		"/unload?drain", "/unload?drain=yes", "/unload?drain=1&drain=1", "/unload?drain=1&model=", "/load?model=alpha&drain=1",
		"/pause", "/resume", "/pause?model=", "/pause?model=alpha&drain=1",
	} {
		if code, body := p.ask("POST", target); code < 400 || code == 404 {
			t.Errorf("%s: %d %s", target, code, body)
		}
	}
	for _, target := range []string{"/logs", "/logs?model=alpha&model=beta", "/logs?model=alpha&folow=1", "/logs?model=alpha&follow=yes"} {
		if code, body := p.ask("GET", target); code < 400 || code == 404 {
			t.Errorf("%s: %d %s", target, code, body)
		}
	}
	w := httptest.NewRecorder()
	p.admin.unload(w, httptest.NewRequest("POST", "/unload", strings.NewReader(`{"model":"beta"}`)))
	if w.Code < 400 {
		t.Errorf("a body: %d %s", w.Code, w.Body)
	}
	if code, body := p.ask("POST", "/unload?model=alpha&model=nobody"); code < 400 || !strings.Contains(body, "nobody") {
		t.Errorf("an unknown model: %d %s", code, body)
	}
	if _, body := p.ask("GET", "/running"); !strings.Contains(body, "alpha") {
		t.Errorf("one of them has unloaded alpha: %s", body)
	}
}

func TestAdminResolvesAliases(t *testing.T) {
	p := newPlay(t, "alpha")
	cfg := *p.host.config()
	model := *cfg.Models["alpha"]
	model.Aliases = []string{"first"}
	cfg.Models = config.Models{"alpha": &model}
	if err := cfg.Complete(); err != nil {
		t.Fatal(err)
	}
	p.host.cfg.Store(&cfg)
	p.ready("alpha")
	if code, body := p.ask("POST", "/load?model=first"); code != 200 || !strings.Contains(body, `"alpha"`) {
		t.Errorf("%d %s", code, body)
	}
	if _, body := p.ask("POST", "/unload?model=first&model=alpha"); compact(body) != `{"unloaded":["alpha"]}` {
		t.Error(body)
	}
}

func TestAdminStatus(t *testing.T) {
	p := newPlay(t, "alpha", "beta")
	p.ready("alpha")
	defer p.request(t, "alpha")()
	code, body := p.ask("GET", "/status")
	var s struct {
		Models []struct {
			Model, State string
			Grants       int
			InFlight     int `json:"in_flight"`
		}
		Scheduler struct{ Counters struct{ Granted int } }
	}
	if err := json.Unmarshal([]byte(body), &s); err != nil || code != 200 {
		t.Fatalf("%d %v %s", code, err, body)
	}
	if got := fmt.Sprint(s); got != "{[{alpha ready 1 1} {beta stopped 0 0}] {{1}}}" {
		t.Errorf("%s in %s", got, body)
	}
}

func TestAdminMetrics(t *testing.T) {
	p := newPlay(t, "alpha")
	p.ready("alpha")
	p.request(t, "alpha")()
	code, body := p.ask("GET", "/metrics")
	for _, want := range []string{
		`modelproxy_scheduler_requests_total{outcome="granted"} 1`,
		`modelproxy_model_state{model="alpha",state="ready"} 1`,
		`modelproxy_load_seconds_count{model="alpha"} 1`,
		`modelproxy_held_bytes 4096`,
	} {
		if !strings.Contains(body, want+"\n") || code != 200 {
			t.Errorf("%d, and %s is not in\n%s", code, want, body)
		}
	}
}

func TestAdminLogs(t *testing.T) {
	p := newPlay(t, "alpha")
	out := p.host.output("alpha")
	io.WriteString(out, "one\ntwo\n")
	if code, body := p.ask("GET", "/logs?model=alpha"); code != 200 || body != "one\ntwo\n" {
		t.Errorf("%d %q", code, body)
	}
	if code, body := p.ask("GET", "/logs?model=nobody"); code < 400 || !strings.Contains(body, "nobody") {
		t.Errorf("no such model: %d %s", code, body)
	}
	lines, leave := p.listen(t, "/logs?model=alpha&follow=1")
	next(t, lines, "one")
	next(t, lines, "two")
	io.WriteString(out, "three\n")
	next(t, lines, "three")
	leave()
}

// Streams end with the host, so that nobody waits for them at the end.
func TestAdminStreamsEndWithTheHost(t *testing.T) {
	p := newPlay(t, "alpha")
	logs, _ := p.listen(t, "/logs?model=alpha&follow=1")
	events, _ := p.listen(t, "/events")
	next(t, events, "retry: 1000")
	p.host.shutdown(t.Context())
	for range logs {
	}
	for range events {
	}
	for _, target := range []string{"/status", "/running", "/metrics"} {
		if code, body := p.ask("GET", target); code < 500 {
			t.Errorf("%s after the end: %d %s", target, code, body)
		}
	}
	if code, body := p.ask("POST", "/unload"); code < 500 {
		t.Errorf("unload after the end: %d %s", code, body)
	}
}

func TestAdminEvents(t *testing.T) {
	p := newPlay(t, "alpha")
	lines, leave := p.listen(t, "/events")
	defer leave()
	states := make(map[scheduler.ProcessState]bool)
	await := func(state scheduler.ProcessState) {
		t.Helper()
		for !states[state] {
			line, ok := <-lines
			if !ok {
				t.Fatalf("the events end, with %v seen", states)
			}
			if text, ok := strings.CutPrefix(line, "data: "); ok {
				var f frame
				if err := json.Unmarshal([]byte(text), &f); err != nil {
					t.Fatal(err)
				}
				states[f.Status.Models[0].State] = true
			}
		}
	}
	await(scheduler.StateStopped)
	p.ready("alpha")
	p.request(t, "alpha")()
	await(scheduler.StateReady)
}

// A watcher that does not read must not hold up the timeline, nor another watcher.
func TestAdminSlowWatcher(t *testing.T) {
	p := newPlay(t, "alpha")
	slow := &stuckWriter{ResponseRecorder: httptest.NewRecorder(), stuck: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.admin.events(slow, httptest.NewRequest("GET", "/events", nil).WithContext(ctx))
	}()
	lines, leave := p.listen(t, "/events")
	next(t, lines, "retry: 1000")
	p.ready("alpha")
	p.request(t, "alpha")()
	for line := range lines {
		if strings.Contains(line, `"state":"ready"`) {
			break
		}
	}
	leave()
	cancel()
	close(slow.stuck)
	<-done
}

// stuckWriter writes nothing until it is closed.
type stuckWriter struct {
	*httptest.ResponseRecorder
	stuck chan struct{}
}

func (w *stuckWriter) Write(p []byte) (int, error) {
	<-w.stuck
	return len(p), nil
}

// listen opens a stream and returns its lines until it ends or is left.
func (p *play) listen(t *testing.T, target string) (lines <-chan string, leave func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, "GET", p.server.URL+target, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	ch := make(chan string)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(ch)
		defer resp.Body.Close()
		scanner := bufio.NewScanner(resp.Body)
		scanner.Buffer(nil, 1<<20)
		for scanner.Scan() {
			select {
			case ch <- scanner.Text():
			case <-ctx.Done():
				return
			}
		}
	}()
	return ch, func() { cancel(); <-done }
}

// next receives the next line and compares it.
func next(t *testing.T, lines <-chan string, want string) {
	t.Helper()
	select {
	case got, ok := <-lines:
		if got != want || !ok {
			t.Fatalf("the next line is %q, want %q", got, want)
		}
	case <-time.After(patience):
		t.Fatalf("no line, want %q", want)
	}
}
