package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"example.com/scheduler"
	"example.com/scheduler/examples/internal/config"
)

// gatedBackend is a model that an httptest server is, and that loads when the gate
// says so.
type gatedBackend struct {
	at   *url.URL
	gate chan error // one for each load
}

func (b gatedBackend) start(context.Context) (instance, error) {
	return &gatedInstance{&remoteInstance{at: b.at, gone: make(chan struct{})}, b.gate}, nil
}

type gatedInstance struct {
	*remoteInstance
	gate chan error
}

func (i *gatedInstance) ready(ctx context.Context) error {
	select {
	case err := <-i.gate:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// frontTest is a front before one model server.
type frontTest struct {
	t      *testing.T
	host   *host
	front  *front
	server *httptest.Server
	gate   chan error
	log    *lockedBuffer
	at     *url.URL // of the model
}

// newFrontTest makes one of the models in cfg, all of them served by model. With
// load each load waits for the gate; without, it takes no time.
func newFrontTest(t *testing.T, cfg *config.Config, model http.HandlerFunc, load bool) *frontTest {
	if err := cfg.Complete(); err != nil {
		t.Fatal(err)
	}
	upstream := httptest.NewServer(model)
	t.Cleanup(upstream.Close)
	at, err := url.Parse(upstream.URL)
	if err != nil {
		t.Fatal(err)
	}
	f := &frontTest{t: t, gate: make(chan error, 100), log: &lockedBuffer{}, at: at}
	log := slog.New(slog.NewTextHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	f.host, err = newHost(cfg, log, func(string, *config.Model, *output, *slog.Logger) backend {
		if load {
			return gatedBackend{at, f.gate}
		}
		return remoteBackend{at}
	})
	if err != nil {
		t.Fatal(err)
	}
	go f.host.run()
	f.front = newFront(f.host, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, log).(*front)
	f.server = httptest.NewServer(f.front)
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		f.host.shutdown(ctx)
		f.server.Close()
		if held := f.front.held.held.Load(); held != 0 {
			t.Errorf("%d bytes are held at the end", held)
		}
	})
	return f
}

// do sends a request and returns the status and the body.
func (f *frontTest) do(method, path, body string, header ...string) (*http.Response, string) {
	f.t.Helper()
	req, err := http.NewRequest(method, f.server.URL+path, strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
		}
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := f.server.Client().Do(req)
	if err != nil {
		f.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	return resp, string(text)
}

// until waits until the scheduler is as ok says.
func (f *frontTest) until(ok func(s scheduler.Snapshot) bool) {
	f.t.Helper()
	if !happens(func() bool { return ok(f.host.status().Scheduler) }) {
		f.t.Fatalf("it never came: %+v", f.host.status().Scheduler)
	}
}

// lockedBuffer is a buffer that several goroutines may use.
type lockedBuffer struct {
	lockedText atomic.Pointer[string]
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	for {
		old := b.lockedText.Load()
		text := string(p)
		if old != nil {
			text = *old + text
		}
		if b.lockedText.CompareAndSwap(old, &text) {
			return len(p), nil
		}
	}
}

func (b *lockedBuffer) String() string {
	if text := b.lockedText.Load(); text != nil {
		return *text
	}
	return ""
}

// echo answers with what the model got.
func echo(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	json.NewEncoder(w).Encode(map[string]any{"path": r.URL.RequestURI(), "body": string(body), "header": r.Header})
}

// oneModel is a configuration of model "m", changed.
func oneModel(change func(c *config.Config, m *config.Model)) *config.Config {
	m := &config.Model{Command: []string{"m"}}
	c := &config.Config{Models: config.Models{"m": m}}
	if change != nil {
		change(c, m)
	}
	return c
}

const chatPath = "/v1/chat/completions"

// TestFrontErrors: each kind of error has its status and says what is wrong.
func TestFrontErrors(t *testing.T) {
	f := newFrontTest(t, oneModel(func(c *config.Config, m *config.Model) {
		c.MaxBody, c.MaxHeld = 2000, 1000
		c.Queue.Cooldown = config.Duration(time.Hour)
		c.Models["n"] = &config.Model{Command: []string{"n"}, QueueTimeout: config.Duration(time.Millisecond)}
		c.Models["o"] = &config.Model{Command: []string{"o"}}
		c.Models["p"] = &config.Model{Command: []string{"p"}, Capacity: 1, QueueTimeout: config.Duration(time.Hour)}
	}), echo, true)
	check := func(method, path, body string, status int, code string) {
		t.Helper()
		resp, text := f.do(method, path, body)
		var e struct {
			Error struct{ Message, Type, Code string }
		}
		if err := json.Unmarshal([]byte(text), &e); err != nil || resp.StatusCode != status || e.Error.Code != code || e.Error.Message == "" {
			t.Errorf("%s %s %.60q: %d %s, not %d %s", method, path, body, resp.StatusCode, text, status, code)
		}
		if known := code == "cooling_down" || code == "held"; known != (resp.Header.Get("Retry-After") != "") {
			t.Errorf("%s: Retry-After %q", code, resp.Header.Get("Retry-After"))
		}
	}
	long := strings.Repeat("x", 1500)
	check("POST", chatPath, ``, 400, "bad_request")
	check("POST", chatPath, `{"messages":[]}`, 400, "bad_request")
	check("POST", chatPath, `{"model":1}`, 400, "bad_request")
	check("POST", chatPath, `{"model":"x"}`, 404, "not_found")
	check("POST", "/upstream/x/y", ``, 404, "not_found")
	check("POST", chatPath, `{"model":"m","x":"`+long+long+`"}`, 413, "body_too_large")
	check("POST", chatPath, `{"x":"`+long+long+`","model":"m"}`, 413, "body_too_large")
	check("POST", chatPath, `{"model":"m","x":"`+long+`"}`, 429, "held")
	check("POST", chatPath, `{"model":"n"}`, 504, "queue_timeout")
	f.do("POST", "/unload?model=n", "") // Whether its load has begun or not.

	waits := make(chan string, 1)
	go func() {
		resp, text := f.do("POST", chatPath, `{"model":"o"}`)
		waits <- fmt.Sprint(resp.StatusCode, text)
	}()
	f.until(func(s scheduler.Snapshot) bool { return len(s.Waiting) == 1 })
	f.gate <- errors.New("exit status 3: no such file")
	if got := <-waits; !strings.HasPrefix(got, "502") || !strings.Contains(got, "no such file") {
		t.Error(got)
	}
	check("POST", chatPath, `{"model":"o"}`, 503, "cooling_down")

	go func() {
		resp, text := f.do("POST", "/v1/messages", `{"model":"p"}`)
		waits <- fmt.Sprint(resp.StatusCode, text)
	}()
	f.until(func(s scheduler.Snapshot) bool { return len(s.Waiting) == 1 })
	check("POST", chatPath, `{"model":"p"}`, 429, "overloaded")
	f.do("POST", "/unload?model=p", "")
	if got := <-waits; !strings.HasPrefix(got, `503{"error":{"message":"scheduler: model unloaded: \"p\"","type":"overloaded_error"},"type":"error"}`) {
		t.Error(got)
	}
}

// TestFrontPassesOn: aliases, the model's own name, hop-by-hop headers, and whatever
// else a model answers to.
func TestFrontPassesOn(t *testing.T) {
	f := newFrontTest(t, oneModel(func(c *config.Config, m *config.Model) {
		m.Aliases, m.UseModelName, m.Unlisted = []string{"al/ias"}, "its own", true
	}), echo, false)
	resp, text := f.do("POST", chatPath+"?a=b", `{"model":"al/ias","n":1}`, "Authorization", "Bearer client", "Connection", "X-Hop", "X-Hop", "1", "X-End", "2")
	if resp.StatusCode != 200 || !strings.Contains(text, `{\"model\":\"its own\",\"n\":1}`) || !strings.Contains(text, chatPath+"?a=b") {
		t.Errorf("%d %s", resp.StatusCode, text)
	}
	if strings.Contains(text, "X-Hop") || !strings.Contains(text, "X-End") || !strings.Contains(text, "Bearer client") {
		t.Errorf("headers: %s", text)
	}
	if resp, text := f.do("GET", "/upstream/al/ias/some/path?q=1", ""); resp.StatusCode != 200 || !strings.Contains(text, `"/some/path?q=1"`) {
		t.Errorf("%d %s", resp.StatusCode, text)
	}
	if _, text := f.do("GET", "/v1/models", ""); strings.Contains(text, `"m"`) {
		t.Errorf("unlisted: %s", text)
	}
	if resp, _ := f.do("GET", "/v1/models/al/ias", ""); resp.StatusCode != 200 {
		t.Errorf("an unlisted model by name: %d", resp.StatusCode)
	}
}

// TestFrontPassesOnThePath: as it came, below the base path of the model's URL.
func TestFrontPassesOnThePath(t *testing.T) {
	for _, base := range []string{"", "/", "/base", "/b%2Fa%3Fse/"} {
		f := newFrontTest(t, oneModel(nil), func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.RequestURI) }, false)
		u, err := url.Parse(base)
		if err != nil {
			t.Fatal(err)
		}
		f.at.Path, f.at.RawPath = u.Path, u.RawPath
		for _, path := range []string{"/", "/x", "//x//y/", "/a%2Fb", "/%61?", "/x?a=%zz;b&c", "/a%2Fb%22c?%2", "/./x"} {
			conn, err := net.Dial("tcp", f.server.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(conn, "GET /upstream/m%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", path)
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			text, _ := io.ReadAll(resp.Body)
			conn.Close()
			if want := strings.TrimSuffix(base, "/") + path; string(text) != want {
				t.Errorf("%s below %q: the model got %q", path, base, text)
			}
		}
	}
}

// TestFrontStreams: the first event reaches the caller before the model writes the
// second, and a caller who hangs up gives the model back.
func TestFrontStreams(t *testing.T) {
	more := make(chan struct{})
	f := newFrontTest(t, oneModel(nil), func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, "data: 1\n\n")
		http.NewResponseController(w).Flush()
		select {
		case <-more:
			io.WriteString(w, "data: 2\n\n")
		case <-r.Context().Done():
		}
	}, false)
	for _, hangUp := range []bool{false, true} {
		resp, err := f.server.Client().Post(f.server.URL+chatPath, "application/json", strings.NewReader(`{"model":"m"}`))
		if err != nil {
			t.Fatal(err)
		}
		events := bufio.NewReader(resp.Body)
		if line, err := events.ReadString('\n'); line != "data: 1\n" || err != nil {
			t.Fatal(line, err)
		}
		if !hangUp {
			more <- struct{}{}
			if rest, err := io.ReadAll(events); err != nil || !strings.Contains(string(rest), "data: 2") {
				t.Errorf("%q %v", rest, err)
			}
		}
		resp.Body.Close()
		f.until(func(s scheduler.Snapshot) bool { return s.Counters.Granted > 0 && s.Models[0].InFlight == 0 })
	}
}

// TestFrontHangUpWhileWaiting: nobody waits any more, and nothing is held.
func TestFrontHangUpWhileWaiting(t *testing.T) {
	f := newFrontTest(t, oneModel(nil), echo, true)
	ctx, hangUp := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		req, _ := http.NewRequestWithContext(ctx, "POST", f.server.URL+chatPath, strings.NewReader(`{"model":"m","x":"`+strings.Repeat("x", 1<<20)+`"}`))
		if _, err := f.server.Client().Do(req); err == nil {
			t.Error("it was answered")
		}
	}()
	f.until(func(s scheduler.Snapshot) bool { return len(s.Waiting) == 1 })
	hangUp()
	<-done
	f.until(func(s scheduler.Snapshot) bool { return len(s.Waiting) == 0 && s.Counters.Cancelled == 1 })
}

// TestFrontStalledBody: a client that stops in the middle of its body keeps neither
// its place nor memory, and the answer does not wait for the rest.
func TestFrontStalledBody(t *testing.T) {
	f := newFrontTest(t, oneModel(func(c *config.Config, m *config.Model) { m.QueueTimeout = config.Duration(50 * time.Millisecond) }), echo, true)
	conn, err := net.Dial("tcp", f.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{\"model\":\"m\",", chatPath)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || resp.StatusCode != http.StatusGatewayTimeout {
		t.Fatalf("%v %v", resp, err)
	}
	resp.Body.Close()
}

// TestFrontUpgrade: a websocket goes both ways through /upstream.
func TestFrontUpgrade(t *testing.T) {
	f := newFrontTest(t, oneModel(nil), func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		line, _ := rw.ReadString('\n')
		io.WriteString(conn, "echo "+line)
	}, false)
	conn, err := net.Dial("tcp", f.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "GET /upstream/m/ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v %v", resp, err)
	}
	io.WriteString(conn, "hello\n")
	if line, err := r.ReadString('\n'); line != "echo hello\n" || err != nil {
		t.Errorf("%q %v", line, err)
	}
	conn.Close()
	f.until(func(s scheduler.Snapshot) bool { return s.Models[0].InFlight == 0 })
}

// TestFrontKeys: who has one may, in three ways; it reaches neither the model nor
// the log.
func TestFrontKeys(t *testing.T) {
	f := newFrontTest(t, oneModel(func(c *config.Config, m *config.Model) {
		c.Keys = []config.Key{{Name: "one", Key: "sesame-secret", MinPriority: -5, MaxPriority: 5}}
	}), echo, false)
	for _, c := range []struct {
		status int
		header []string
	}{
		{401, nil},
		{401, []string{"Authorization", "Bearer wrong"}},
		{401, []string{"X-Api-Key", "sesame-secre"}},
		{200, []string{"Authorization", "Bearer sesame-secret"}},
		{200, []string{"X-Api-Key", "sesame-secret"}},
		{200, []string{"Authorization", "Basic YW55OnNlc2FtZS1zZWNyZXQ="}},
		{200, []string{"X-Api-Key", "sesame-secret", "X-Priority", "5"}},
		{400, []string{"X-Api-Key", "sesame-secret", "X-Priority", "6"}},
		{400, []string{"X-Api-Key", "sesame-secret", "X-Priority", "high"}},
	} {
		resp, text := f.do("POST", chatPath, `{"model":"m"}`, c.header...)
		if resp.StatusCode != c.status || strings.Contains(text, "sesame") || strings.Contains(text, "YW55") {
			t.Errorf("%q: %d %s", c.header, resp.StatusCode, text)
		}
	}
	for _, path := range []string{"/", "/status", "/metrics", "/v1/models", "/logs?model=m"} {
		if resp, _ := f.do("GET", path, ""); resp.StatusCode != 401 || resp.Header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s: %d", path, resp.StatusCode)
		}
	}
	if resp, _ := f.do("GET", "/health", ""); resp.StatusCode != 200 {
		t.Errorf("/health: %d", resp.StatusCode)
	}
	if strings.Contains(f.log.String(), "sesame") {
		t.Error("the key was logged")
	}
}

// TestLoadingState: who waits for a stream sees why, then the stream; an error that
// comes later is an event of it.
func TestLoadingState(t *testing.T) {
	model := func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Break") != "" {
			http.Error(w, "the model is confused", http.StatusTeapot)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, "data: real\n\ndata: [DONE]\n\n")
	}
	f := newFrontTest(t, oneModel(func(c *config.Config, m *config.Model) { m.SendLoadingState = true }), model, true)
	ask := func(stream bool, header string, load error) (status int, begin, rest string) {
		req, _ := http.NewRequest("POST", f.server.URL+chatPath, strings.NewReader(fmt.Sprintf(`{"model":"m","messages":[],"stream":%v}`, stream)))
		req.Header.Set("X-Break", header)
		if !stream {
			go func() { // The load ends after a stream would have been told.
				defer func() { f.gate <- load }()
				f.until(func(s scheduler.Snapshot) bool { return len(s.Waiting) == 1 && s.Waiting[0].Age > 2*grace })
			}()
		}
		resp, err := f.server.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		r := bufio.NewReader(resp.Body)
		if stream {
			begin, _ = r.ReadString('\n')
			f.gate <- load
		}
		text, _ := io.ReadAll(r)
		f.do("POST", "/unload", "")
		return resp.StatusCode, begin, string(text)
	}
	shown := func(begin string) bool {
		return strings.Contains(begin, "reasoning_content") && strings.Contains(begin, "Loading m (about ")
	}
	if code, begin, rest := ask(true, "", nil); code != 200 || !shown(begin) || !strings.Contains(rest, "data: real") {
		t.Errorf("served: %d %q %q", code, begin, rest)
	}
	if code, begin, rest := ask(true, "", errors.New("out of memory")); code != 200 || !shown(begin) || !strings.Contains(rest, `"message":"out of memory"`) || !strings.HasSuffix(rest, "data: [DONE]\n\n") {
		t.Errorf("failed: %d %q %q", code, begin, rest)
	}
	if code, begin, rest := ask(true, "1", nil); code != 200 || !strings.Contains(begin, "reasoning_content") || !strings.Contains(rest, "confused") || !strings.HasSuffix(rest, "data: [DONE]\n\n") {
		t.Errorf("broken: %d %q %q", code, begin, rest)
	}
	if code, _, rest := ask(false, "", errors.New("out of memory")); code != 502 || strings.Contains(rest, "reasoning") {
		t.Errorf("plain: %d %q", code, rest)
	}
}

// TestReasonText: each reason to wait is said in words.
func TestReasonText(t *testing.T) {
	source, err := os.ReadFile(filepath.Join("..", "..", "decision.go"))
	if err != nil {
		t.Fatal(err)
	}
	reasons := regexp.MustCompile(`Wait\w+ +WaitReason = "(\w+)"`).FindAllSubmatch(source, -1)
	if len(reasons) < 7 {
		t.Fatalf("%d reasons", len(reasons))
	}
	seen := make(map[string]bool)
	for _, m := range reasons {
		reason := string(m[1])
		text := reasonText(scheduler.WaitStatus{Reason: scheduler.WaitReason(reason), On: []string{"x", "y"}})
		if seen[text] || !strings.Contains(text, "x, y") {
			t.Errorf("%s: %q", reason, text)
		}
		seen[text] = true
		if !strings.Contains(page, `case "`+reason+`":`) {
			t.Errorf("the page has no words for %q", reason)
		}
	}
	if !bytes.Contains([]byte(chunk("m", "a\"b")), []byte(`"reasoning_content":"a\"b"`)) {
		t.Error(chunk("m", "a\"b"))
	}
}
