package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/scheduler"
	"example.com/scheduler/examples/internal/config"
)

// TestLoadingStatePlain: a stream that has begun without a coding goes on without one,
// whatever the caller accepts. A model that sends another all the same is an error.
func TestLoadingStatePlain(t *testing.T) {
	const events = "data: real\n\ndata: [DONE]\n\n"
	f := newFrontTest(t, oneModel(func(c *config.Config, m *config.Model) { m.SendLoadingState = true }), func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		if r.Header.Get("X-Always") == "" && !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			io.WriteString(w, events)
			return
		}
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		io.WriteString(z, events)
		z.Close()
	}, true)
	for _, always := range []string{"", "1"} {
		req, _ := http.NewRequest("POST", f.server.URL+chatPath, strings.NewReader(`{"model":"m","stream":true}`))
		req.Header.Set("Accept-Encoding", "gzip")
		req.Header.Set("X-Always", always)
		resp, err := f.server.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		r := bufio.NewReader(resp.Body)
		if line, err := r.ReadString('\n'); !strings.Contains(line, "reasoning_content") {
			t.Errorf("%q %v", line, err)
		}
		f.gate <- nil
		text, err := io.ReadAll(r)
		resp.Body.Close()
		if err != nil || bytes.Contains(text, []byte{0x1f, 0x8b}) || strings.Contains(string(text), "data: real") != (always == "") ||
			strings.Contains(string(text), `"error"`) != (always != "") || !strings.HasSuffix(string(text), "data: [DONE]\n\n") {
			t.Errorf("%q %v", text, err)
		}
		f.do("POST", "/unload", "")
	}
}

// TestSharedStatus: however many wait, the run loop is asked once for all of them.
func TestSharedStatus(t *testing.T) {
	var s sharedStatus
	var asked atomic.Int64
	at := time.Now().Add(time.Hour) // It does not get old while the test runs.
	var all sync.WaitGroup
	for range 1000 {
		all.Go(func() {
			got := s.get(func() status {
				asked.Add(1)
				return status{Time: at}
			})
			if !got.Time.Equal(at) {
				t.Error(got)
			}
		})
	}
	all.Wait()
	if n := asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
	at = time.Now()
	s.status.Time = at.Add(-grace)
	if got := s.get(func() status { return status{Time: at} }); !got.Time.Equal(at) {
		t.Errorf("an old status: %v", got.Time)
	}
}

// TestDescribe: a line says what the load, or the place in the queue, is about.
func TestDescribe(t *testing.T) {
	now := status{Scheduler: scheduler.Snapshot{
		Swaps: []scheduler.SwapStatus{{Model: "a", Expected: 10 * time.Second, Age: 4 * time.Second}},
		Waiting: []scheduler.WaitStatus{
			{Model: "a", Reason: scheduler.WaitLoading, On: []string{"a"}},
			{Model: "b", Position: 1, Reason: scheduler.WaitSwap, On: []string{"a"}},
			{Model: "c", Position: 2, Reason: scheduler.WaitSwap, On: []string{"a"}},
		},
	}}
	for _, c := range []struct {
		model    string
		position int
		want     string
	}{
		{"a", 0, "Loading a (about 6 s more, "},
		{"b", 1, "Number 1 in the queue: the load of a has to end first ("},
		{"c", 2, "Number 2 in the queue: the load of a has to end first ("},
		{"c", 1, "Waiting for c ("},
		{"c", 9, "Waiting for c ("},
		{"d", -1, "Waiting for d ("},
	} {
		s := &shownWait{model: c.model, arrival: time.Now()}
		if got := s.describe(now, c.position); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s at %d: %q, not %q…", c.model, c.position, got, c.want)
		}
	}
}
