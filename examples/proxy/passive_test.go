package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"example.com/scheduler"
	"example.com/scheduler/examples/internal/config"
)

func TestIsPassive(t *testing.T) {
	m := &config.Model{Passive: []string{"/metrics", "/slots/*", "/static/"}}
	for _, c := range []struct {
		method, path string
		want         bool
	}{
		{"GET", "/metrics", true},
		{"HEAD", "/metrics", true},
		{"POST", "/metrics", false},
		{"GET", "/metrics/", false},
		{"GET", "/Metrics", false},
		{"GET", "/slots/1", true},
		{"GET", "/slots/", true},
		{"GET", "/slots/1/2", false},
		{"GET", "/slots", false},
		{"GET", "/static/js/a.js", true},
		{"GET", "/static", false},
		{"GET", "/v1/static/", false},
		{"GET", "/", false},
	} {
		if got := isPassive(m, &http.Request{Method: c.method, URL: &url.URL{Path: c.path}}); got != c.want {
			t.Errorf("%s %s: %v", c.method, c.path, got)
		}
	}
}

// TestPassivePaths: they are answered while the model is ready, and neither load it, nor
// take its slot, nor count as a use of it.
func TestPassivePaths(t *testing.T) {
	release := make(chan struct{})
	f := newFrontTest(t, oneModel(func(c *config.Config, m *config.Model) {
		m.Passive, m.Concurrency = []string{"/metrics"}, 1
	}), func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == chatPath {
			<-release
		}
		io.WriteString(w, r.URL.Path+r.Header.Get(leaseHeader))
	}, false)
	resp, code, message := f.refusal("GET", "/upstream/m/metrics", "")
	if resp.StatusCode != 503 || code != "not_loaded" || !strings.Contains(message, `"m"`) {
		t.Errorf("before: %d %s %s", resp.StatusCode, code, message)
	}
	f.until(func(s scheduler.Snapshot) bool { return s.Counters.Requests == 0 })
	served := make(chan int, 1)
	go func() {
		resp, _ := f.do("POST", chatPath, `{"model":"m"}`)
		served <- resp.StatusCode
	}()
	f.until(func(s scheduler.Snapshot) bool { return len(s.Models) == 1 && s.Models[0].InFlight == 1 })
	if resp, text := f.do("GET", "/upstream/m/metrics", "", leaseHeader, "forged"); resp.StatusCode != 200 || text != "/metrics" {
		t.Errorf("beside another: %d %q", resp.StatusCode, text)
	}
	close(release)
	if status := <-served; status != 200 || f.host.status().Models[0].Grants != 1 {
		t.Errorf("%d, %+v", status, f.host.status().Models[0])
	}
	f.do("POST", "/unload", "")
	if resp, _ := f.do("GET", "/upstream/m/metrics", ""); resp.StatusCode != 503 {
		t.Errorf("after: %d", resp.StatusCode)
	}
}

// TestPassiveDoesNotDelayAStop: one that would go on is cut off when the model is told to
// stop.
func TestPassiveDoesNotDelayAStop(t *testing.T) {
	ended := make(chan struct{})
	f := newFrontTest(t, oneModel(func(c *config.Config, m *config.Model) { m.Passive = []string{"/events"} }), func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
		close(ended)
	}, false)
	f.do("POST", "/load?model=m", "")
	resp, err := f.server.Client().Get(f.server.URL + "/upstream/m/events")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	f.do("POST", "/unload?model=m", "")
	<-ended
	if text, err := io.ReadAll(resp.Body); err == nil || !strings.Contains(string(text), `"code":"unloaded"`) {
		t.Errorf("%q, %v", text, err)
	}
}

func TestSays(t *testing.T) {
	for text, want := range map[string]bool{
		`{"busy":true}`:                      true,
		`{"busy":false}`:                     false,
		`{"busy":1}`:                         true,
		`{"busy":0}`:                         false,
		`{"busy":"no"}`:                      true,
		`{"busy":""}`:                        false,
		`{"busy":null}`:                      false,
		`{"busy":[]}`:                        false,
		`{"busy":[[0,"id",{}]]}`:             true,
		`{"busy":{"a":0}}`:                   false,
		`{"busy":{"a":0,"b":2}}`:             true,
		`{"idle":true}`:                      false,
		`[{"busy":false},{"x":{"busy":1}}]`:  true,
		`[{"n":4096,"busy":false,"id":"x"}]`: false,
		`true`:                               false,
	} {
		var v any
		if err := json.Unmarshal([]byte(text), &v); err != nil {
			t.Fatal(err)
		}
		if says(v, "busy", false) != want {
			t.Errorf("%s: %v", text, !want)
		}
	}
}

// TestBusyModel: a model that works on after its answer is not evicted until it says that
// it is done, or cannot say anything, or has been busy for too long.
func TestBusyModel(t *testing.T) {
	t.Parallel()           // It mostly waits.
	var works atomic.Value // what the model says
	works.Store(`{"running": 0}`)
	var asked atomic.Int64
	model := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/queue" {
			asked.Add(1)
			io.WriteString(w, works.Load().(string))
		}
	}
	f := newFrontTest(t, oneModel(func(c *config.Config, m *config.Model) {
		m.Busy = "/queue#running"
		c.Models["lies"] = &config.Model{Command: []string{"lies"}, Busy: "/queue#running", Timeouts: config.Timeouts{Busy: config.Duration(time.Millisecond)}}
		c.Models["n"] = &config.Model{Command: []string{"n"}}
	}), model, false)
	idle := func(s scheduler.Snapshot) bool {
		for _, m := range s.Models {
			if m.InFlight > 0 {
				return false
			}
		}
		return true
	}
	f.do("POST", chatPath, `{"model":"m"}`)
	f.until(idle)
	for _, end := range []string{`{"running": 0}`, `nonsense`, `{"running": 1}`} {
		works.Store(`{"running": 1}`)
		before := asked.Load()
		f.do("POST", chatPath, `{"model":"m"}`)
		f.do("POST", chatPath, `{"model":"m"}`) // Its lease takes the place of the first one's.
		f.until(func(s scheduler.Snapshot) bool { return s.Models[0].InFlight == 1 && asked.Load() >= before+2 })
		ctx, cancel := context.WithCancel(t.Context())
		other := make(chan error, 1)
		go func() { other <- f.host.load(ctx, "n") }()
		f.until(func(s scheduler.Snapshot) bool { return len(s.Waiting) == 1 })
		f.until(func(s scheduler.Snapshot) bool { return asked.Load() >= before+3 })
		select {
		case err := <-other:
			t.Errorf("n is loaded while m works: %v", err)
		default:
		}
		if works.Store(end); strings.Contains(end, "1") { // An unload does not wait.
			cancel()
			<-other
			f.do("POST", "/unload?model=m", "")
			f.until(idle)
		} else if err := <-other; err != nil {
			t.Error(err)
		}
		cancel()
	}
	works.Store(`{"running": 1}`)
	f.do("POST", chatPath, `{"model":"lies"}`)
	f.until(idle)
	if s := f.host.status().Scheduler.Counters; s.Ignored != 0 {
		t.Errorf("%+v", s)
	}
}
