package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"example.com/scheduler"
	"example.com/scheduler/examples/internal/config"
)

// A key that a reload takes away ends what is open with it: streams, those that wait,
// those whose answer has not begun, and those of operators. Other keys notice nothing.
func TestReloadEndsStreamsOfAKey(t *testing.T) {
	keys := func(keys ...config.Key) *config.Config {
		return oneModel(func(c *config.Config, m *config.Model) { c.Keys, m.Concurrency = keys, 3 })
	}
	gone, stays := config.Key{Name: "gone", Key: "sesame"}, config.Key{Name: "stays", Key: "xyzzy"}
	finish := make(chan struct{})
	f := newFrontTest(t, keys(gone, stays), func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) // Or the end of the connection would not be noticed.
		if r.URL.RawQuery == "mute" {
			<-r.Context().Done()
			return
		}
		io.WriteString(w, "begun\n")
		http.NewResponseController(w).Flush()
		select {
		case <-finish:
			io.WriteString(w, "finished\n")
		case <-r.Context().Done():
		}
	}, false)
	type result struct {
		status int
		text   string
		err    error
	}
	open := func(method, path string, key config.Secret) <-chan result {
		req, err := http.NewRequest(method, f.server.URL+path, strings.NewReader(`{"model":"m"}`))
		if method == "GET" {
			req, err = http.NewRequest(method, f.server.URL+path, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Api-Key", string(key))
		done := make(chan result, 1)
		go func() {
			resp, err := f.server.Client().Do(req)
			if err != nil {
				done <- result{err: err}
				return
			}
			defer resp.Body.Close()
			text, err := io.ReadAll(resp.Body)
			done <- result{resp.StatusCode, string(text), err}
		}()
		return done
	}
	inFlight := func(n, waiting int) {
		f.until(func(s scheduler.Snapshot) bool {
			return len(s.Models) == 1 && s.Models[0].InFlight == n && s.Models[0].Waiting == waiting
		})
	}
	other := open("POST", chatPath, stays.Key)
	inFlight(1, 0)
	stream := open("POST", chatPath, gone.Key)
	inFlight(2, 0)
	mute := open("POST", chatPath+"?mute", gone.Key)
	inFlight(3, 0)
	waits := open("POST", chatPath, gone.Key)
	inFlight(3, 1)
	events := open("GET", "/events", gone.Key)

	cfg := keys(config.Key{Name: "renamed", Key: "xyzzy"})
	if err := cfg.Complete(); err != nil {
		t.Fatal(err)
	}
	mustReload(t, f.host, cfg)
	if r := <-stream; r.status != 200 || r.err == nil {
		t.Errorf("the stream: %+v", r)
	}
	for name, done := range map[string]<-chan result{"mute": mute, "waits": waits} {
		if r := <-done; r.status != 401 || !strings.Contains(r.text, "API key") {
			t.Errorf("%s: %+v", name, r)
		}
	}
	<-events
	inFlight(1, 0)
	close(finish)
	if r := <-other; fmt.Sprint(r) != "{200 begun\nfinished\n <nil>}" {
		t.Errorf("the other key: %+v", r)
	}
}
