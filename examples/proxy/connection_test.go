package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/scheduler"
	"example.com/scheduler/examples/internal/config"
)

// rawRequest sends text to the front as it is, on a connection of its own.
func (f *frontTest) rawRequest(text string) (*net.TCPConn, *bufio.Reader) {
	f.t.Helper()
	conn, err := net.Dial("tcp", f.server.Listener.Addr().String())
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	io.WriteString(conn, text)
	return conn.(*net.TCPConn), bufio.NewReader(conn)
}

// rawAnswer receives an answer of which it returns the body.
func rawAnswer(t *testing.T, r *bufio.Reader) (*http.Response, string) {
	t.Helper()
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(text)
}

// chatRequest is a chat request with a body of that length, as far as it is given.
func chatRequest(length int, body string) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", chatPath, length, body)
}

// early is a model that answers before it has read the request's body.
func early(w http.ResponseWriter, r *http.Request) {
	http.NewResponseController(w).EnableFullDuplex() // Or net/http would read the body first.
	w.Header().Set("Connection", "close")
	w.WriteHeader(http.StatusNotImplemented)
}

// TestNoSmuggling: what follows the beginning of a body that was answered early is
// never taken for a request.
func TestNoSmuggling(t *testing.T) {
	t.Parallel() // It mostly waits.
	f := newFrontTest(t, oneModel(nil), early, false)
	keyed := newFrontTest(t, oneModel(func(c *config.Config, m *config.Model) {
		c.Keys = []config.Key{{Name: "one", Key: "sesame"}}
	}), early, false)
	for _, tt := range []struct {
		name   string
		front  *frontTest
		target string
		begin  string
		status int
	}{
		{"the model answers early", f, "POST " + chatPath, `{"model":"m",`, 501},
		{"the model answers early, as it is", f, "POST /upstream/m/x", `x`, 501},
		{"unknown model", f, "POST " + chatPath, `{"model":"x",`, 404},
		{"no JSON", f, "POST " + chatPath, `x`, 400},
		{"unknown path", f, "POST /x", `x`, 404},
		{"wrong method", f, "POST /v1/models", `x`, 405},
		{"answered without reading it", f, "GET /v1/models", `x`, 200},
		{"a body where none is taken", f, "POST /unload", `x`, 400},
		{"no key", keyed, "POST " + chatPath, `{"model":"m",`, 401},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if rest := smuggle(t, tt.front, tt.target, tt.begin, tt.status); strings.Contains(rest, "HTTP/1.") {
				t.Errorf("%d requests of the body were answered", strings.Count(rest, "HTTP/1."))
			}
		})
	}
}

// smuggle sends the beginning of a body, receives an answer of that status, and waits
// until the server is done with the request. Then it sends a rest of the body that is
// made of requests, and returns what comes.
func smuggle(t *testing.T, f *frontTest, target, begin string, status int) string {
	done := make(chan struct{})
	var once sync.Once
	server := httptest.NewUnstartedServer(f.front)
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateIdle || s == http.StateClosed {
			once.Do(func() { close(done) })
		}
	}
	server.Start()
	defer server.Close()
	rest := strings.Repeat("\r\nGET /v1/models/m HTTP/1.1\r\nHost: localhost\r\n\r\n", 2<<10)
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", target, len(begin)+len(rest), begin)
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != status || !resp.Close {
		t.Errorf("status %d, Connection: close is %v", resp.StatusCode, resp.Close)
	}
	io.Copy(io.Discard, resp.Body)
	select {
	case <-done: // Nothing but the answer has made it so: the rest of the body is yet to come.
	case <-time.After(patience):
		t.Fatal("the request never ends")
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		io.WriteString(conn, rest) // It may well fail.
		conn.(*net.TCPConn).CloseWrite()
	}()
	var got strings.Builder
	io.Copy(&got, r)
	conn.Close()
	<-sent
	return got.String()
}

// TestConnectionsAreKept: a connection whose request was read to its end serves the
// next one, however the body came.
func TestConnectionsAreKept(t *testing.T) {
	f := newFrontTest(t, oneModel(nil), echo, false)
	long := `{"model":"m","x":"` + strings.Repeat("x", 300<<10) + `"}`
	conn, r := f.rawRequest("")
	for i, body := range []string{
		"Content-Length: 13\r\n\r\n" + `{"model":"m"}`,
		"Transfer-Encoding: chunked\r\n\r\n5\r\n" + `{"mod` + "\r\n8\r\n" + `el":"m"}` + "\r\n0\r\n\r\n",
		fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(long), long),
		fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(long), long),
	} {
		fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: localhost\r\n%s", chatPath, body)
		if resp, _ := rawAnswer(t, r); resp.StatusCode != 200 || resp.Close {
			t.Errorf("request %d: status %d, Connection: close is %v", i, resp.StatusCode, resp.Close)
		}
	}
}

// TestKeptConnectionsWork: the end of one request does nothing to those that come after
// it on the same connection. Each waits a moment, so that its body is watched while the
// request is on its way.
func TestKeptConnectionsWork(t *testing.T) {
	t.Parallel() // It mostly waits.
	f := newFrontTest(t, oneModel(nil), echo, true)
	conn, r := f.rawRequest("")
	for i := range 300 {
		f.gate <- fmt.Errorf("load %d", i)
		io.WriteString(conn, chatRequest(13, `{"model":"m"}`))
		if resp, text := rawAnswer(t, r); resp.StatusCode != 502 || !strings.Contains(text, fmt.Sprint("load ", i)) {
			t.Fatalf("request %d: %d %q", i, resp.StatusCode, text)
		}
	}
}

// TestHalfClosed: a caller that closes its side of the connection is told what is wrong
// with that, whether it waits or is being served.
func TestHalfClosed(t *testing.T) {
	served := make(chan struct{})
	f := newFrontTest(t, oneModel(nil), func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		served <- struct{}{}
		<-r.Context().Done()
	}, true)
	conn, r := f.rawRequest(chatRequest(13, `{"model":"m"}`))
	f.until(func(s scheduler.Snapshot) bool { return len(s.Waiting) == 1 })
	conn.CloseWrite()
	if resp, text := rawAnswer(t, r); resp.StatusCode != 499 || !strings.Contains(text, "keep that open") {
		t.Errorf("while it waits: %d %q", resp.StatusCode, text)
	}
	f.gate <- nil
	conn, r = f.rawRequest(chatRequest(13, `{"model":"m"}`))
	<-served
	conn.CloseWrite()
	if resp, text := rawAnswer(t, r); resp.StatusCode != 499 || !strings.Contains(text, "keep that open") {
		t.Errorf("while it is served: %d %q", resp.StatusCode, text)
	}
}

// TestBrokenBody: a caller whose body is broken is told so, whoever is reading it.
func TestBrokenBody(t *testing.T) {
	const begin = "POST " + chatPath + " HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
	chunk := func(s string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(s), s) }
	for _, phase := range []struct{ name, body string }{
		{"looked for", `{"x":"`},
		{"waiting", `{"model":"m","x":"`},
		{"served", `{"model":"m","x":"`},
	} {
		for _, c := range []struct {
			name   string
			break_ func(conn *net.TCPConn)
			status int
			code   string
		}{
			{"malformed", func(conn *net.TCPConn) { io.WriteString(conn, "nonsense\r\n") }, 400, "bad_request"},
			{"cut short", func(conn *net.TCPConn) { conn.CloseWrite() }, 400, "bad_request"},
			{"stalled", func(*net.TCPConn) {}, 408, "body_stalled"},
			{"too large", func(conn *net.TCPConn) { io.WriteString(conn, chunk(strings.Repeat("x", 2000))) }, 413, "body_too_large"},
			{"a second model", func(conn *net.TCPConn) { io.WriteString(conn, chunk(`","model":"m","model":"m"}`)+"0\r\n\r\n") }, 400, "bad_request"},
		} {
			t.Run(phase.name+", "+c.name, func(t *testing.T) {
				f := newFrontTest(t, oneModel(func(cfg *config.Config, m *config.Model) { cfg.MaxBody = 1000 }), echo, phase.name == "waiting")
				if c.name == "stalled" {
					f.front.stalled = 100 * time.Millisecond
				}
				conn, r := f.rawRequest(begin + chunk(phase.body))
				switch {
				case c.name == "stalled":
				case phase.name == "waiting":
					f.until(func(s scheduler.Snapshot) bool { return len(s.Waiting) == 1 })
				case phase.name == "served":
					f.until(func(s scheduler.Snapshot) bool { return s.Counters.Granted == 1 })
				}
				c.break_(conn)
				resp, text := rawAnswer(t, r)
				var e refusal
				if json.Unmarshal([]byte(text), &e); resp.StatusCode != c.status || e.Error.Code != c.code {
					t.Errorf("%d %q", resp.StatusCode, text)
				}
			})
		}
	}
}

// TestRefusedWithoutBody: a refused request whose body never comes is answered and
// closed, and the end of the server does not wait for it.
func TestRefusedWithoutBody(t *testing.T) {
	t.Parallel() // It mostly waits.
	f := newFrontTest(t, oneModel(nil), echo, false)
	server := newServer(f.front, slog.New(slog.DiscardHandler))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve(listener)
	defer server.Close()
	for _, closed := range []bool{true, false} {
		conn, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(patience))
		fmt.Fprintf(conn, "POST /nonsense HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n")
		r := bufio.NewReader(conn)
		if resp, _ := rawAnswer(t, r); resp.StatusCode != 404 {
			t.Errorf("status %d", resp.StatusCode)
		}
		if closed {
			if n, err := io.Copy(io.Discard, r); n > 0 || err != nil && strings.Contains(err.Error(), "timeout") {
				t.Errorf("%d bytes, %v", n, err)
			}
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}

// TestReaderWhoStops: a client that does not read is cut off, one that reads
// gets all of a long answer.
func TestReaderWhoStops(t *testing.T) {
	t.Parallel() // It mostly waits.
	ended := make(chan error, 1)
	const length = 64 << 20 // More than the buffers on the way.
	f := newFrontTest(t, oneModel(nil), func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		var err error
		piece := make([]byte, 32<<10)
		for n := 0; n < length && err == nil; n += len(piece) {
			_, err = w.Write(piece)
		}
		ended <- err
	}, false)
	f.front.stalled = time.Second
	f.rawRequest(chatRequest(13, `{"model":"m"}`))
	f.until(func(s scheduler.Snapshot) bool {
		return s.Counters.Granted == 1 && (len(s.Models) == 0 || s.Models[0].InFlight == 0)
	})
	if err := <-ended; err == nil {
		t.Error("the model could write all of it")
	}
	f.front.stalled = patience
	_, r := f.rawRequest(chatRequest(13, `{"model":"m"}`))
	if _, text := rawAnswer(t, r); len(text) != length {
		t.Errorf("%d bytes", len(text))
	}
	<-ended
}

// TestBodyAtTheEnd: a request whose body has not come as far as the model is refused when
// the proxy ends, which does not wait for the rest.
func TestBodyAtTheEnd(t *testing.T) {
	f := newFrontTest(t, oneModel(nil), echo, false)
	_, r := f.rawRequest(chatRequest(100, `{"model":`))
	if !happens(func() bool { return f.front.held.held.Load() > 0 }) {
		t.Fatal("the body is not read")
	}
	f.host.do(f.host.close)
	resp, text := rawAnswer(t, r)
	if resp.StatusCode != 503 || !strings.Contains(text, `"shutdown"`) {
		t.Errorf("%d %s", resp.StatusCode, text)
	}
}
