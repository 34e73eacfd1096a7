package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestNoSmuggling: what follows the beginning of a body that was answered early is
// never taken for a request.
func TestNoSmuggling(t *testing.T) {
	early := func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex() // Or net/http would read the body first.
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusNotImplemented)
	}
	f := newFrontTest(t, oneModel(nil), early, false)
	keyed := newFrontTest(t, oneModel(func(c *config, m *modelConfig) {
		c.Keys = []keyConfig{{Name: "one", Key: "sesame"}}
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
	case <-done:
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
	conn, err := net.Dial("tcp", f.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r := bufio.NewReader(conn)
	long := `{"model":"m","x":"` + strings.Repeat("x", 300<<10) + `"}`
	for i, body := range []string{
		"Content-Length: 13\r\n\r\n" + `{"model":"m"}`,
		"Transfer-Encoding: chunked\r\n\r\n5\r\n" + `{"mod` + "\r\n8\r\n" + `el":"m"}` + "\r\n0\r\n\r\n",
		fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(long), long),
		fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(long), long),
	} {
		fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: localhost\r\n%s", chatPath, body)
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
		io.Copy(io.Discard, resp.Body)
		if resp.StatusCode != 200 || resp.Close {
			t.Errorf("request %d: status %d, Connection: close is %v", i, resp.StatusCode, resp.Close)
		}
	}
}
