package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/scheduler"
	"example.com/scheduler/examples/internal/config"
)

// TestSilentModel: a model that does not begin its answer in time is 504, one that does
// not go on is cut off, and either gives its lease back.
func TestSilentModel(t *testing.T) {
	model := func(w http.ResponseWriter, r *http.Request) {
		if kind := r.Header.Get("X-Begin"); kind != "" {
			w.Header().Set("Content-Type", kind)
			io.WriteString(w, "data: 1\n\ndata: half")
			http.NewResponseController(w).Flush()
		}
		io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}
	f := newFrontTest(t, oneModel(func(c *config.Config, m *config.Model) {
		m.Timeouts = config.Timeouts{FirstByte: config.Duration(200 * time.Millisecond), Idle: -1}
		c.Models["n"] = &config.Model{Command: []string{"n"}, Timeouts: config.Timeouts{FirstByte: -1, Idle: config.Duration(200 * time.Millisecond)}}
	}), model, false)
	resp, code, message := f.refusal("POST", chatPath, `{"model":"m"}`)
	if resp.StatusCode != 504 || code != "model_timeout" || message != `model "m": it has been silent for 200ms` {
		t.Errorf("%d %s %s", resp.StatusCode, code, message)
	}
	f.until(func(s scheduler.Snapshot) bool { return s.Models[0].InFlight == 0 })
	for _, c := range []struct{ kind, path, event string }{
		{"text/event-stream", chatPath, "data: {\"error\":{\"code\":\"model_timeout\","},
		{"text/event-stream; charset=utf-8", "/v1/messages", "event: error\ndata: {\"error\":{\"message\":"},
		{"text/plain", chatPath, ""},
	} {
		req, _ := http.NewRequest("POST", f.server.URL+c.path, strings.NewReader(`{"model":"n"}`))
		req.Header.Set("X-Begin", c.kind)
		resp, err := f.server.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		rest, begins := strings.CutPrefix(string(text), "data: 1\n\ndata: half")
		if err == nil || !begins || (rest == "") != (c.event == "") || !strings.HasPrefix(strings.TrimLeft(rest, "\n"), c.event) {
			t.Errorf("%s: %q, %v", c.kind, text, err)
		}
		f.until(func(s scheduler.Snapshot) bool { return s.Models[0].InFlight == 0 })
	}
}

// TestOnlyTheModelsTimeCounts: not the caller's, on its way there and back.
func TestOnlyTheModelsTimeCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &exchange{upstream: &upstream{model: "m"}, timeouts: config.Timeouts{FirstByte: config.Seconds(2), Idle: config.Seconds(2)}}
		e.ctx, e.cut = context.WithCancelCause(t.Context())
		slow := io.NopCloser(readerFunc(func(p []byte) (int, error) { time.Sleep(time.Hour); return len(p), nil }))
		sent := &sentBody{ReadCloser: slow, exchange: e}
		sent.wait = time.AfterFunc(2*time.Second, sent.late)
		for range 3 {
			sent.Read(make([]byte, 10))
			time.Sleep(time.Second)
		}
		if e.ctx.Err() != nil {
			t.Fatal(context.Cause(e.ctx))
		}
		sent.finish()
		time.Sleep(time.Hour)
		sent.Read(make([]byte, 10)) // An answer may begin before the request has ended.
		resp := &http.Response{StatusCode: 200, Body: io.NopCloser(readerFunc(func(p []byte) (int, error) { time.Sleep(time.Second); return len(p), nil }))}
		e.receive(resp)
		for range 3 {
			time.Sleep(time.Hour)
			resp.Body.Read(make([]byte, 10))
		}
		if e.ctx.Err() != nil {
			t.Fatal(context.Cause(e.ctx))
		}
		resp.Body = slow
		e.receive(resp)
		resp.Body.Read(make([]byte, 10))
		if !errors.Is(context.Cause(e.ctx), errSilent) {
			t.Error(context.Cause(e.ctx))
		}
	})
}

// idleServer is a model whose connections end when they have got so much of their second
// request, perhaps with half of an answer. It returns the bodies that it has answered.
func idleServer(t *testing.T, size int64, half bool) (address string, answered *[]string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	answered = new([]string)
	serve := func(conn net.Conn) {
		defer conn.Close()
		r := bufio.NewReader(conn)
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		body, _ := io.ReadAll(req.Body)
		*answered = append(*answered, string(body))
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		if io.CopyN(io.Discard, r, size); half {
			io.WriteString(conn, "HTTP/1.1 2")
		}
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serve(conn) // One after another.
		}
	}()
	return l.Addr().String(), answered
}

// TestStaleConnection: a model that closes an idle connection at the moment when it is
// used again gets the request on another one, once, if its body is short.
func TestStaleConnection(t *testing.T) {
	t.Parallel() // It mostly waits.
	for _, c := range []struct {
		name, method, body string
		size               int64
		held               config.Size
		half               bool
		status             int
	}{
		{name: "no body", method: "GET", status: 200},
		{name: "empty POST", method: "POST", status: 200},
		{name: "short body", method: "POST", body: strings.Repeat("x", 3000), status: 200},
		{name: "in several pieces", method: "POST", body: strings.Repeat("x", maxKept), status: 200},
		{name: "long body", method: "POST", body: strings.Repeat("x", 3*maxKept), size: 2 * maxKept, status: 502},
		{name: "no room", method: "POST", body: strings.Repeat("x", 3000), size: 2000, held: 1, status: 502},
		{name: "half an answer", method: "POST", body: "x", half: true, status: 502},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFrontTest(t, oneModel(func(cfg *config.Config, m *config.Model) { cfg.MaxHeld = c.held }), echo, false)
			address, answered := idleServer(t, max(1, c.size), c.half)
			f.at.Host = address
			f.do("GET", "/upstream/m/", "")
			resp, text := f.do(c.method, "/upstream/m/", c.body)
			if resp.StatusCode != c.status {
				t.Errorf("%d %s", resp.StatusCode, text)
			}
			if c.status == 200 && (len(*answered) != 2 || (*answered)[1] != c.body) {
				t.Errorf("answered %.100q", *answered)
			}
		})
	}
}

// TestStaleConnectionOfACrash: what has crashed is not asked again, and nobody is answered
// by the model that has got its port since.
func TestStaleConnectionOfACrash(t *testing.T) {
	for _, before := range []bool{true, false} {
		f := newFrontTest(t, oneModel(nil), echo, false)
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		f.at.Host = l.Addr().String()
		crash := func() { f.host.do(func() { f.host.models["m"].inst.stop(0) }) }
		came := make(chan int, 100)
		go func() {
			for n := 1; ; n++ {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				came <- n
				r := bufio.NewReader(conn)
				if _, err := http.ReadRequest(r); err != nil {
					t.Error(err)
				}
				if n == 2 {
					crash()
				}
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
				r.ReadByte()
				if n == 1 && before {
					crash()
				}
				conn.Close()
			}
		}()
		f.do("GET", "/upstream/m/", "")
		want := map[bool]int{true: 1, false: 2}[before]
		if resp, code, _ := f.refusal("POST", "/upstream/m/", ""); resp.StatusCode != 502 || code != "model_failed" || len(came) != want {
			t.Errorf("%d %s, %d connections, not %d", resp.StatusCode, code, len(came), want)
		}
	}
}

// TestFreshConnectionIsNotTriedAgain: the model has got the request, and may have begun.
func TestFreshConnectionIsNotTriedAgain(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	came := make(chan int, 100)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			n, _ := conn.Read(make([]byte, 1))
			came <- n
			conn.Close()
		}
	}()
	f := newFrontTest(t, oneModel(nil), echo, false)
	f.at.Host = l.Addr().String()
	if resp, code, _ := f.refusal("POST", chatPath, `{"model":"m"}`); resp.StatusCode != 502 || code != "model_failed" || len(came) != 1 {
		t.Errorf("%d %s, sent %d times", resp.StatusCode, code, len(came))
	}
}

// TestStrangeAnswers: whatever a model answers, its caller gets one answer, with the
// header that the proxy gives it.
func TestStrangeAnswers(t *testing.T) {
	t.Parallel() // It mostly waits.
	for _, c := range []struct {
		name, answer string
		status       int
	}{
		{"interim answers", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nX-Request-Id: x\r\nAccess-Control-Allow-Origin: *\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200},
		{"no status", "HTTP/1.1 099 What\r\nContent-Length: 2\r\n\r\nok", 502},
		{"a websocket nobody has asked for", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", 502},
		{"another protocol", "HTTP/1.1 101 Switching Protocols\r\n\r\n", 502},
		{"no HTTP", "SSH-2.0-OpenSSH\r\n", 502},
	} {
		t.Run(c.name, func(t *testing.T) {
			closed := make(chan struct{})
			model := func(w http.ResponseWriter, r *http.Request) {
				defer close(closed)
				conn, rw, err := http.NewResponseController(w).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				defer conn.Close()
				io.WriteString(conn, c.answer)
				if c.status != 200 && !strings.HasPrefix(c.answer, "SSH") {
					io.Copy(io.Discard, rw) // Until the proxy closes it.
				}
			}
			f := newFrontTest(t, oneModel(func(c *config.Config, m *config.Model) { c.Origins = []string{"https://chat.lan"} }), model, false)
			_, r := f.rawRequest("GET /upstream/m/x HTTP/1.1\r\nHost: localhost\r\nOrigin: https://chat.lan\r\nX-Request-Id: mine\r\n\r\n")
			resp, text := rawAnswer(t, r)
			h := resp.Header
			if resp.StatusCode != c.status || h.Get("X-Request-Id") != "mine" || h.Get("Access-Control-Allow-Origin") != "https://chat.lan" {
				t.Errorf("%d %v %s", resp.StatusCode, h, text)
			}
			select {
			case <-closed:
			case <-time.After(patience):
				t.Error("the connection to the model is left open")
			}
		})
	}
}

// TestOnlyWebsockets: a connection becomes a websocket or stays what it is.
func TestOnlyWebsockets(t *testing.T) {
	for upgrade, want := range map[string]string{"websocket": "websocket", "WebSocket": "WebSocket", "h2c": "", "websocket, h2c": ""} {
		asked := make(chan string, 1)
		model := func(w http.ResponseWriter, r *http.Request) { asked <- r.Header.Get("Upgrade") }
		f := newFrontTest(t, oneModel(nil), model, false)
		_, r := f.rawRequest("GET /upstream/m/x HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: " + upgrade + "\r\n\r\n")
		if resp, text := rawAnswer(t, r); resp.StatusCode != 200 {
			t.Errorf("%s: %d %s", upgrade, resp.StatusCode, text)
		}
		if got := <-asked; got != want {
			t.Errorf("%s is passed on as %q, want %q", upgrade, got, want)
		}
	}
}
