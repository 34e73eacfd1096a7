package kubetest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// caller is a client of a [Faults].
type caller struct {
	t      *testing.T
	server *Server
	faults *Faults
	client *http.Client
}

func newCaller(t *testing.T) *caller {
	s := Shared(t)
	f := s.Faulty(t)
	pool, err := certPool(f.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	client := newClient(pool)
	t.Cleanup(client.CloseIdleConnections)
	return &caller{t, s, f, client}
}

// ask sends a request through the proxy.
func (c *caller) ask(ctx context.Context, method, path string, body string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.faults.URL+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+c.server.Admin)
	req.Header.Set("Content-Type", "application/json")
	return c.client.Do(req)
}

// get returns the status of the answer.
func (c *caller) get(path string) string {
	c.t.Helper()
	resp, err := c.ask(c.t.Context(), "GET", path, "")
	if err != nil {
		return "cut"
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return "cut"
	}
	return resp.Status
}

// watch begins a watch, and returns a function that waits for the next event.
func (c *caller) watch(path string) (next func() string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	resp, err := c.ask(ctx, "GET", path, "")
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { resp.Body.Close(); cancel() })
	lines := bufio.NewReader(resp.Body)
	return func() string {
		line, err := lines.ReadBytes('\n')
		if err == io.EOF {
			return "end"
		}
		if ctx.Err() != nil {
			return "silent"
		}
		if err != nil {
			return "cut"
		}
		var event struct {
			Type   string
			Object struct {
				Code     int
				Metadata struct{ Name string }
			}
		}
		if err := json.Unmarshal(line, &event); err != nil {
			return err.Error()
		}
		return fmt.Sprint(event.Type, " ", event.Object.Metadata.Name, event.Object.Code)
	}
}

// mustBe compares what is said with what should be.
func mustBe(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %s, want %s", what, got, want)
	}
}

func TestKubeFail(t *testing.T) {
	c := newCaller(t)
	c.faults.Fail(2, "GET", "/version", 429, "3")
	c.faults.Fail(1, "POST", "", 500, "")
	resp, err := c.ask(t.Context(), "GET", "/version", "")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	mustBe(t, "Retry-After", resp.Header.Get("Retry-After"), "3")
	if want := `"reason":"TooManyRequests"`; !strings.Contains(string(body), want) {
		t.Errorf("body = %s, want %s", body, want)
	}
	mustBe(t, "another path", c.get("/api"), "200 OK")
	mustBe(t, "second", c.get("/version"), "429 Too Many Requests")
	mustBe(t, "third", c.get("/version"), "200 OK")
	if n := c.faults.Count("GET", "/version"); n != 3 {
		t.Errorf("%d requests: %q", n, c.faults.Requests())
	}
}

// What is lost has happened.
func TestKubeLose(t *testing.T) {
	c := newCaller(t)
	path := "/api/v1/namespaces/" + c.server.Namespace(t) + "/configmaps"
	c.faults.Lose(1, "POST", path)
	if resp, err := c.ask(t.Context(), "POST", path, `{"metadata": {"name": "a"}}`); err == nil {
		t.Errorf("answered: %s", resp.Status)
	}
	mustBe(t, "get", c.get(path+"/a"), "200 OK")
}

func TestKubeHold(t *testing.T) {
	c := newCaller(t)
	release := c.faults.Hold("", "/version")
	defer release()
	got := make(chan string)
	go func() { got <- c.get("/version") }()
	for c.faults.Count("", "/version") == 0 {
		time.Sleep(time.Millisecond)
	}
	mustBe(t, "another path", c.get("/api"), "200 OK")
	select {
	case s := <-got:
		t.Errorf("answered: %s", s)
	default:
	}
	release()
	mustBe(t, "released", <-got, "200 OK")
	mustBe(t, "afterwards", c.get("/version"), "200 OK")
}

func TestKubeWatches(t *testing.T) {
	c := newCaller(t)
	ns := c.server.Namespace(t)
	path := "/api/v1/namespaces/" + ns + "/configmaps"
	mustBe(t, "list", c.get(path), "200 OK")
	create := func(name string) {
		c.server.Must(t, "POST", path, object{"metadata": object{"name": name}}, nil)
	}
	next := c.watch(path + "?watch=1&resourceVersion=" + resourceVersion(t, c.server, ns))
	create("a")
	mustBe(t, "event", next(), "ADDED a0")
	c.faults.CutWatches()
	mustBe(t, "cut", next(), "cut")
	c.faults.Expire(1, path)
	next = c.watch(path + "?watch=1")
	mustBe(t, "expired", next(), "ERROR 410")
	mustBe(t, "expired", next(), "end")
	next = c.watch(path + "?watch=1&resourceVersion=" + resourceVersion(t, c.server, ns))
	create("b")
	mustBe(t, "event", next(), "ADDED b0")
	if l, w := c.faults.Lists(path), c.faults.Watches(path); l != 1 || w != 3 {
		t.Errorf("%d lists and %d watches: %q", l, w, c.faults.Requests())
	}
}

func TestKubeRefuse(t *testing.T) {
	c := newCaller(t)
	next := c.watch("/api/v1/namespaces?watch=1&fieldSelector=metadata.name=no-such")
	restore := c.faults.Refuse(t)
	mustBe(t, "watch", next(), "cut")
	mustBe(t, "refused", c.get("/version"), "cut")
	restore()
	restore()
	mustBe(t, "restored", c.get("/version"), "200 OK")
}

func TestKubeFreeze(t *testing.T) {
	c := newCaller(t)
	mustBe(t, "before", c.get("/version"), "200 OK")
	thaw := c.faults.Freeze()
	defer thaw()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if resp, err := c.ask(ctx, "GET", "/version", ""); err == nil {
		t.Errorf("answered: %s", resp.Status)
	}
	got := make(chan string)
	go func() { got <- c.get("/version") }()
	thaw()
	mustBe(t, "thawed", <-got, "200 OK")
}

// The caller sees what happens to the server behind.
func TestKubeFaultsOfADeadServer(t *testing.T) {
	t.Parallel()
	s := Start(t)
	c := newCaller(t)
	c.server, c.faults = s, s.Faulty(t)
	pool, err := certPool(s.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	c.client = newClient(pool)
	defer c.client.CloseIdleConnections()
	mustBe(t, "alive", c.get("/version"), "200 OK")
	s.Kill(t)
	mustBe(t, "dead", c.get("/version"), "cut")
	s.Restart(t)
	mustBe(t, "alive again", c.get("/version"), "200 OK")
}
