package main

import (
	"bytes"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/scheduler"
)

// sampleMetrics has counted something of every kind.
func sampleMetrics() (*metrics, status) {
	m := newMetrics()
	m.started = time.UnixMilli(1_700_000_000_250)
	m.configure(modelConfigs{"alpha": {}, "a \"quoted\\\n\" name": {}})
	m.answered("alpha", 200)
	m.answered("alpha", 200)
	m.answered("alpha", 502)
	m.answered("", 400)
	m.answered("who knows", 404)
	m.answered("alpha", 999)
	m.refused("overloaded")
	m.refused("not_found")
	m.waited("alpha", 500*time.Microsecond)
	m.waited("alpha", time.Millisecond)
	m.waited("alpha", 42*time.Second)
	m.waited("alpha", time.Hour)
	m.loaded("alpha", 1500*time.Millisecond, nil)
	m.loaded("alpha", time.Second, errors.New("no"))
	return m, status{
		Models: []modelStatus{
			{Model: "a \"quoted\\\n\" name", State: scheduler.StateStopped},
			{Model: "alpha", State: scheduler.StateReady},
		},
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

func TestMetricsText(t *testing.T) {
	m, s := sampleMetrics()
	text := string(m.text(s, 4096))
	before, build, found := strings.Cut(text, "proxy_build_info{")
	if !found || !strings.HasSuffix(build, "} 1\n") {
		t.Errorf("no build in\n%s", text)
	}
	compareGolden(t, filepath.Join("testdata", "metrics.txt"), before+"proxy_build_info{go=\"go1\",revision=\"\"} 1")
}

// Callers choose the names of models, so they must not be able to make series.
func TestMetricsAreBounded(t *testing.T) {
	m := newMetrics()
	m.configure(modelConfigs{"alpha": {}})
	size := func() int { return bytes.Count(m.text(status{}, 0), []byte("\n")) }
	count := func(name string) {
		m.answered(name, 200)
		m.waited(name, time.Second)
		m.loaded(name, time.Second, nil)
	}
	count("alpha")
	count("")
	before := size()
	for i := range 1000 {
		count(strings.Repeat("x", i))
		m.answered("alpha", 600+i)
	}
	m.answered("alpha", -1)
	if after := size(); after != before+1 {
		t.Errorf("%d lines became %d", before, after)
	}
	for i := range 1000 {
		m.configure(modelConfigs{strings.Repeat("x", i+1): {}})
	}
	m.configure(modelConfigs{"alpha": {}})
	if after := size(); after >= before {
		t.Errorf("after another configuration %d lines, before %d", after, before)
	}
}

func TestConfigureKeepsWhatWasCounted(t *testing.T) {
	m := newMetrics()
	m.configure(modelConfigs{"alpha": {}, "beta": {}})
	m.answered("alpha", 200)
	m.configure(modelConfigs{"alpha": {}, "gamma": {}})
	m.answered("alpha", 200)
	want := `proxy_http_responses_total{code="200",model="alpha"} 2` + "\n"
	if text := m.text(status{}, 0); !bytes.Contains(text, []byte(want)) {
		t.Errorf("%s is not in\n%s", want, text)
	}
}

func TestMetricsFromManyGoroutines(t *testing.T) {
	m := newMetrics()
	m.configure(modelConfigs{"alpha": {}})
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 100 {
				m.answered("alpha", 200)
				m.refused("held")
				m.waited("alpha", time.Second)
				m.text(status{}, 0)
			}
		})
	}
	all.Wait()
	for _, want := range []string{
		`proxy_http_responses_total{code="200",model="alpha"} 800`,
		`proxy_refusals_total{reason="held"} 800`,
		`proxy_wait_seconds_sum{model="alpha"} 800`,
	} {
		if text := m.text(status{}, 0); !bytes.Contains(text, []byte(want+"\n")) {
			t.Errorf("%s is not in\n%s", want, text)
		}
	}
}

func TestHistogramBounds(t *testing.T) {
	h := newHistogram([]float64{1, 2})
	for _, v := range []float64{-1, 0, 1, 1.5, 2, 2.5, 1e9} {
		h.observe(v)
	}
	for i, want := range []uint64{3, 2, 2} {
		if h.counts[i] != want {
			t.Errorf("bucket %d has %d, want %d", i, h.counts[i], want)
		}
	}
}

func TestCountingDoesNotAllocate(t *testing.T) {
	m := newMetrics()
	m.configure(modelConfigs{"alpha": {}})
	m.answered("alpha", 200)
	n := testing.AllocsPerRun(100, func() {
		m.answered("alpha", 200)
		m.waited("alpha", time.Second)
	})
	if n != 0 {
		t.Errorf("%v allocations per request", n)
	}
}
