package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"example.com/scheduler"
	"example.com/scheduler/examples/internal/config"
)

// accessLine is a line of the access log.
type accessLine struct {
	Level, ID, From, Key, Method, Path, Model, Reason string
	Status                                            int
	Bytes                                             int64
	Waited, Duration                                  time.Duration
	FirstByte                                         time.Duration `json:"first_byte"`
}

// logJSON makes the front log as JSON.
func (f *frontTest) logJSON() {
	f.front.log = slog.New(slog.NewJSONHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// accessLog waits for n lines of the access log and returns them.
func (f *frontTest) accessLog(n int) (lines []accessLine) {
	f.t.Helper()
	happens(func() bool {
		lines = nil
		for text := range strings.Lines(f.log.String()) {
			var l accessLine
			if json.Unmarshal([]byte(text), &l) == nil && strings.Contains(text, `"msg":"request"`) {
				lines = append(lines, l)
			}
		}
		return len(lines) >= n
	})
	if len(lines) != n {
		f.t.Fatalf("%d lines, not %d:\n%s", len(lines), n, f.log)
	}
	return lines
}

// TestAccessLog: each request has one line, with who, what and how it went.
func TestAccessLog(t *testing.T) {
	f := newFrontTest(t, oneModel(func(c *config.Config, m *config.Model) {
		c.Keys = []config.Key{{Name: "office", Key: "sesame-secret"}}
		m.Aliases, m.Passive = []string{"alias"}, []string{"/metrics"}
	}), func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/teapot" {
			w.WriteHeader(http.StatusTeapot)
		}
		io.WriteString(w, "0123456789")
	}, false)
	f.logJSON()
	key := []string{"X-Api-Key", "sesame-secret"}
	for i, c := range []struct {
		method, path, body string
		header             []string
		want               accessLine
	}{
		{"POST", chatPath, `{"model":"alias"}`, key, accessLine{Level: "INFO", Key: "office", Model: "m", Status: 200, Bytes: 10}},
		{"GET", "/upstream/m/teapot?secret=1", "", key, accessLine{Level: "INFO", Key: "office", Model: "m", Status: 418, Bytes: 10}},
		{"POST", chatPath, `{"model":"x"}`, key, accessLine{Level: "INFO", Key: "office", Model: "x", Status: 404, Reason: "not_found"}},
		{"POST", chatPath, `{}`, key, accessLine{Level: "INFO", Key: "office", Status: 400, Reason: "bad_request"}},
		{"POST", chatPath, `{"model":"m"}`, nil, accessLine{Level: "INFO", Status: 401, Reason: "missing_key"}},
		{"GET", "/status", ``, nil, accessLine{Level: "INFO", Status: 401, Reason: "missing_key"}},
		{"GET", "/status", ``, key, accessLine{Level: "DEBUG", Key: "office", Status: 200}},
		{"GET", "/health", ``, nil, accessLine{Level: "DEBUG", Status: 200}},
		{"GET", "/upstream/m/metrics", ``, key, accessLine{Level: "DEBUG", Key: "office", Model: "m", Status: 200}},
		{"GET", "/nonsense", ``, key, accessLine{Level: "INFO", Key: "office", Status: 404, Reason: "no_such_path"}},
		{"POST", "/unload?model=m", ``, key, accessLine{Level: "INFO", Key: "office", Model: "m", Status: 200}},
	} {
		resp, text := f.do(c.method, c.path, c.body, c.header...)
		got := f.accessLog(i + 1)[i]
		c.want.Method, c.want.ID, c.want.Bytes = c.method, resp.Header.Get("X-Request-Id"), int64(len(text))
		c.want.Path, _, _ = strings.Cut(c.path, "?")
		if got.From == "" || got.Duration <= 0 || got.FirstByte <= 0 || got.FirstByte > got.Duration {
			t.Errorf("%s %s: %+v", c.method, c.path, got)
		}
		got.From, got.Duration, got.FirstByte, got.Waited = "", 0, 0, 0
		if got != c.want {
			t.Errorf("%s %s:\n%+v, want\n%+v", c.method, c.path, got, c.want)
		}
	}
	if strings.Contains(f.log.String(), "sesame") || strings.Contains(f.log.String(), "secret=1") {
		t.Error("secrets are logged")
	}
}

// TestAccessLogOfThoseWhoLeave: neither while waiting nor in the middle of an answer do
// they count as served.
func TestAccessLogOfThoseWhoLeave(t *testing.T) {
	f := newFrontTest(t, oneModel(nil), func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, "begun\n")
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}, true)
	f.logJSON()
	for i, serve := range []bool{false, true} {
		ctx, hangUp := context.WithCancel(t.Context())
		begun := make(chan struct{})
		go func() {
			defer close(begun)
			req, _ := http.NewRequestWithContext(ctx, "POST", f.server.URL+chatPath, strings.NewReader(`{"model":"m"}`))
			if resp, err := f.server.Client().Do(req); err == nil {
				bufio.NewReader(resp.Body).ReadString('\n')
				defer resp.Body.Close()
			}
		}()
		f.until(func(s scheduler.Snapshot) bool { return len(s.Waiting) == 1 })
		if serve {
			f.gate <- nil
			<-begun
		}
		hangUp()
		<-begun
		got := f.accessLog(i + 1)[i]
		if got.Status != leftStatus || got.Reason != leftReason || got.Model != "m" || got.Waited <= 0 {
			t.Errorf("serve=%v: %+v", serve, got)
		}
		if !serve {
			f.gate <- errors.New("nobody waits") // Whether its load has ended or not.
			f.until(func(s scheduler.Snapshot) bool { return len(s.Swaps) == 0 })
			for len(f.gate) > 0 {
				<-f.gate
			}
		}
	}
	text := string(f.host.metrics.text(f.host.status(), 0))
	if want := `modelproxy_answers_total{model="m",code="499",reason="left"} 2` + "\n"; !strings.Contains(text, want) {
		t.Errorf("no %s in\n%s", want, text)
	}
}

// TestRequestID: one that is fit is passed on and comes back, any other is replaced, and
// the model's own stays between the two.
func TestRequestID(t *testing.T) {
	f := newFrontTest(t, oneModel(nil), func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Request-Id", "the model's")
		io.WriteString(w, r.Header.Get("X-Request-Id"))
	}, false)
	for id, keep := range map[string]bool{
		"abc-123_.:/+=": true, "": false, "a b": false, `a"b`: false, "ä": false,
		strings.Repeat("x", 128): true, strings.Repeat("x", 129): false,
	} {
		resp, text := f.do("POST", chatPath, `{"model":"m"}`, "X-Request-Id", id)
		got := resp.Header.Values("X-Request-Id")
		if len(got) != 1 || got[0] != text || (text == id) != keep || !sane(text) {
			t.Errorf("%q: the model got %q, the caller %q", id, text, got)
		}
	}
	if resp, _ := f.do("GET", "/nonsense", ""); !sane(resp.Header.Get("X-Request-Id")) {
		t.Error("a refusal has no id")
	}
}

// TestHostileLogLines: what callers choose stays within its line, and is cut.
func TestHostileLogLines(t *testing.T) {
	f := newFrontTest(t, oneModel(nil), echo, false)
	name, _ := json.Marshal("\nlevel=ERROR \x1b[31m\u202E" + strings.Repeat("x", 900))
	f.do("POST", "/v1/%0Alevel=ERROR%1B[31m"+strings.Repeat("y", 900), "")
	f.do("POST", chatPath, `{"model":`+string(name)+`}`)
	conn, err := net.Dial("tcp", f.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, strings.Repeat("M", 900)+" / HTTP/1.1\r\nHost: localhost\r\n\r\n")
	http.ReadResponse(bufio.NewReader(conn), nil)
	happens(func() bool { return strings.Count(f.log.String(), "msg=request") == 3 })
	for line := range strings.Lines(f.log.String()) {
		if !strings.HasPrefix(line, "time=") || strings.ContainsAny(line, "\x1b\u202E") || len(line) > 1200 {
			t.Errorf("%d bytes: %q", len(line), line)
		}
	}
}
