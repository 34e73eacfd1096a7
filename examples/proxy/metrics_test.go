package main

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/scheduler"
	"example.com/scheduler/examples/internal/config"
)

// sampleMetrics has counted something of every kind.
func sampleMetrics() (*metrics, status) {
	m := newMetrics()
	m.started = time.UnixMilli(1_700_000_000_250)
	m.configure(config.Models{"alpha": {}, "a \"quoted\\\n\" name": {}})
	for _, v := range []visit{
		{model: "alpha", status: 200, granted: true, waited: 500 * time.Microsecond, first: time.Second, took: 2 * time.Second},
		{model: "alpha", status: 200, granted: true, waited: time.Millisecond, first: 2 * time.Second, took: 3 * time.Second},
		{model: "alpha", status: 499, reason: "left", granted: true, waited: 42 * time.Second, took: time.Minute},
		{model: "alpha", status: 502, reason: "model_failed", granted: true, waited: time.Hour, first: time.Hour, took: 2 * time.Hour},
		{model: "alpha", status: 502, reason: "load_failed", waited: time.Minute},
		{model: "alpha", status: 999},
		{status: 400, reason: "bad_request"},
		{model: "who knows", status: 404, reason: "not_found"},
	} {
		m.count(&v)
	}
	m.loaded("alpha", loadReady, 1500*time.Millisecond)
	m.loaded("alpha", loadFailed, time.Second)
	m.loaded("alpha", loadCancelled, time.Second)
	m.loaded("alpha", loadCancelled, time.Second)
	return m, status{
		Models: []modelStatus{
			{Model: "a \"quoted\\\n\" name", State: scheduler.StateStopped},
			{Model: "alpha", State: scheduler.StateReady},
		},
		Pools: []poolStatus{{Pool: "gpu0", Capacity: 48 << 30, Used: 40 << 30, Models: []poolUse{{"alpha", 40 << 30}}}},
		Scheduler: scheduler.Snapshot{
			Models: []scheduler.ModelStatus{
				{Model: "alpha", InFlight: 3, Waiting: 2, Closed: true, Drain: 1500 * time.Millisecond, CoolingDown: 1250 * time.Millisecond},
			},
			Swaps:    []scheduler.SwapStatus{{Model: "alpha"}},
			Waiting:  []scheduler.WaitStatus{{Model: "alpha", Age: time.Second}, {Model: "alpha", Age: 3 * time.Second}},
			Reserved: []scheduler.Reservation{{Model: "alpha"}},
			Counters: scheduler.Counters{
				Requests: 12_345_678_901, Granted: 12_345_678_894, Failed: 1, Refused: 2, Cancelled: 4,
				Swaps: 5, SwapsFailed: 6, SwapsAbandoned: 7, Evictions: 8, Ignored: 9,
			},
		},
	}
}

var updateGolden = flag.Bool("update", false, "rewrite the golden files")

func TestMetricsText(t *testing.T) {
	m, s := sampleMetrics()
	text := string(m.text(s, 4096))
	info := regexp.MustCompile(`build_info{version="[^"]*",revision="[^"]*",go="go[^"]+"} 1`)
	if !info.MatchString(text) {
		t.Errorf("no build in\n%s", text)
	}
	text = info.ReplaceAllString(text, `build_info{version="v1",revision="",go="go1"} 1`)
	if *updateGolden {
		if err := os.WriteFile("testdata/metrics.txt", []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/metrics.txt")
	if err != nil || text != string(want) {
		t.Errorf("%v, got:\n%swant:\n%s", err, text, want)
	}
}

// Callers choose the names of models, so they must not be able to make series.
func TestMetricsAreBounded(t *testing.T) {
	m := newMetrics()
	m.configure(config.Models{"alpha": {}})
	size := func() int { return bytes.Count(m.text(status{}, 0), []byte("\n")) }
	count := func(name string) {
		m.count(&visit{model: name, status: 200, granted: true})
		m.loaded(name, loadReady, time.Second)
	}
	count("alpha")
	count("")
	before := size()
	for i := range 1000 {
		count(strings.Repeat("x", i))
		m.count(&visit{model: "alpha", status: 600 + i})
	}
	m.count(&visit{model: "alpha", status: -1})
	if after := size(); after != before+1 {
		t.Errorf("%d lines became %d", before, after)
	}
	for i := range 1000 {
		m.configure(config.Models{strings.Repeat("x", i+1): {}})
	}
	m.configure(config.Models{"alpha": {}})
	if after := size(); after >= before {
		t.Errorf("after another configuration %d lines, before %d", after, before)
	}
}

func TestConfigureKeepsWhatWasCounted(t *testing.T) {
	m := newMetrics()
	m.configure(config.Models{"alpha": {}, "beta": {}})
	m.count(&visit{model: "alpha", status: 200})
	m.configure(config.Models{"alpha": {}, "gamma": {}})
	m.count(&visit{model: "alpha", status: 200})
	want := `modelproxy_answers_total{model="alpha",code="200",reason=""} 2` + "\n"
	if text := m.text(status{}, 0); !bytes.Contains(text, []byte(want)) {
		t.Errorf("%s is not in\n%s", want, text)
	}
}

func TestMetricsFromManyGoroutines(t *testing.T) {
	m := newMetrics()
	m.configure(config.Models{"alpha": {}})
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 100 {
				m.count(&visit{model: "alpha", status: 200, granted: true, waited: time.Second})
				m.count(&visit{model: "alpha", status: 429, reason: "held"})
				m.text(status{}, 0)
			}
		})
	}
	all.Wait()
	for _, want := range []string{
		`modelproxy_answers_total{model="alpha",code="200",reason=""} 800`,
		`modelproxy_answers_total{model="alpha",code="429",reason="held"} 800`,
		`modelproxy_wait_seconds_sum{model="alpha"} 800`,
	} {
		if text := m.text(status{}, 0); !bytes.Contains(text, []byte(want+"\n")) {
			t.Errorf("%s is not in\n%s", want, text)
		}
	}
}

// TestCancelledLoadsAreNoFailures: an unload during a load is what somebody wanted.
func TestCancelledLoadsAreNoFailures(t *testing.T) {
	f := newFrontTest(t, oneModel(nil), echo, true)
	load := func(end func()) {
		done := make(chan struct{})
		go func() { defer close(done); f.do("POST", "/load?model=m", "") }()
		f.until(func(s scheduler.Snapshot) bool { return len(s.Waiting) == 1 })
		end()
		<-done
		f.until(func(s scheduler.Snapshot) bool { return len(s.Swaps) == 0 })
	}
	load(func() { f.gate <- errors.New("out of memory") })
	if got := f.host.status().Models[0].LastError; got != "out of memory" {
		t.Errorf("the last error is %q", got)
	}
	load(func() { f.do("POST", "/unload?model=m", "") })
	if got := f.host.status().Models[0].LastError; got != "" {
		t.Errorf("the last error is %q", got)
	}
	load(func() { f.gate <- nil })
	text := string(f.host.metrics.text(f.host.status(), 0))
	for _, outcome := range []string{loadReady, loadFailed, loadCancelled} {
		if want := `modelproxy_loads_total{model="m",outcome="` + outcome + `"} 1` + "\n"; !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	if strings.Count(f.log.String(), "load failed") != 1 {
		t.Error(f.log)
	}
}

func TestCountingDoesNotAllocate(t *testing.T) {
	m := newMetrics()
	m.configure(config.Models{"alpha": {}})
	v := visit{model: "alpha", status: 200, granted: true, first: 1}
	m.count(&v)
	n := testing.AllocsPerRun(100, func() { m.count(&v) })
	if n != 0 {
		t.Errorf("%v allocations per request", n)
	}
}
