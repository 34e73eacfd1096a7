package main

import (
	"bufio"
	"context"
	"fmt"
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

// from returns the context of a request that a model makes while it serves the lease.
func (w *fakeWorld) from(ctx context.Context, lease string) context.Context {
	return context.WithValue(ctx, visitKey{}, &visit{lease: lease})
}

// serve asks for a model, and returns the lease that its request has and what ends it.
func (w *fakeWorld) serve(t *testing.T, ctx context.Context, model string) (lease string, end func()) {
	t.Helper()
	resp := <-w.host.request(ctx, model, 0).req.Respond
	if resp.Err != nil {
		t.Fatal(resp.Err)
	}
	w.host.do(func() { // The latest.
		last := uint64(0)
		for n := range w.host.leases.granted {
			last = max(last, n)
		}
		lease = fmt.Sprint(w.host.leases.token, "-", last)
	})
	return lease, func() { resp.HandleFunc(nil, nil) }
}

// TestLoops: who waits, if only through others, for a model that serves its own ancestor
// would wait for ever, and is refused. Whoever does not, is not.
func TestLoops(t *testing.T) {
	cfg := testConfig(t, func(c *config.Config) {
		c.Models["a"].Concurrency, c.Models["b"].Concurrency = 2, 1
		c.Models["d"] = &config.Model{Command: []string{"d"}}
		c.Groups = []config.Group{{Name: "beside", Members: []string{"c"}, Persistent: true}, {Name: "room", Members: []string{"a", "b"}}}
	})
	testHost(t, cfg, func(t *testing.T, h *host, w *fakeWorld) {
		ask := func(name, lease, model string) { go w.call(w.from(t.Context(), lease), name, model, 0) }
		w.host.load(t.Context(), "a")
		w.host.load(t.Context(), "b") // Beside a.
		w.must(t, "0s start a", "10s start b")
		lease, end := w.serve(t, t.Context(), "a")
		ask("free slot", lease, "a")
		ask("room", lease, "d") // a would have to be stopped.
		ask("forged", strings.ToLower(lease), "b")
		w.must(t, `20s forged served by b`, `20s free slot served by a`, `20s room: model "d": `+errLoop.Error())
		child, endChild := w.serve(t, w.from(t.Context(), lease), "b")
		grandchild, endGrandchild := w.serve(t, w.from(t.Context(), child), "a")
		ask("no slot of a grandparent", grandchild, "a")
		ask("no slot of a parent", grandchild, "b")
		ask("beside", grandchild, "c")
		ctx, leave := context.WithCancel(t.Context())
		go w.call(ctx, "stranger", "b", 0)
		time.Sleep(time.Minute)
		w.must(t, `20s no slot of a grandparent: model "a": `+errLoop.Error(), `20s no slot of a parent: model "b": `+errLoop.Error(),
			"20s start c", "30s beside served by c")
		leave()
		end()
		endChild()
		endGrandchild()
		synctest.Wait()
		ask("ancestors have ended", grandchild, "d")
		time.Sleep(time.Minute)
		w.must(t, "80s stranger left", "81s gone a", "81s gone b", "81s start d", "91s ancestors have ended served by d")
		h.do(func() {
			if n := len(h.leases.granted) + len(h.leases.nested) + h.leases.sockets; n != 0 {
				t.Errorf("%d leases are left", n)
			}
		})
	})
}

// TestLoopThatComesLater: a wait that is none at first becomes a loop.
func TestLoopThatComesLater(t *testing.T) {
	beside := testConfig(t, func(c *config.Config) {
		c.Groups = []config.Group{{Name: "g", Members: []string{"c"}, Persistent: true}}
	})
	testHost(t, beside, func(t *testing.T, h *host, w *fakeWorld) {
		lease, end := w.serve(t, t.Context(), "c")
		_, endOther := w.serve(t, t.Context(), "a")
		go w.call(w.from(t.Context(), lease), "child", "b", 0)
		go w.call(w.from(t.Context(), lease), "sister", "b", 0)
		time.Sleep(time.Minute)
		w.must(t, "0s start c", "10s start a") // They wait for the end of a's request.
		if _, err := h.reload(testConfig(t, nil)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * reliefEvery)
		w.must(t, `81s child: model "b": `+errLoop.Error(), `81s sister: model "b": `+errLoop.Error())
		end()
		endOther()
	})
}

// TestLongChains: ancestors that have ended are forgotten.
func TestLongChains(t *testing.T) {
	testHost(t, testConfig(t, nil), func(t *testing.T, h *host, w *fakeWorld) {
		lease, end := w.serve(t, t.Context(), "a")
		for range 10 {
			next, endNext := w.serve(t, w.from(t.Context(), lease), "a")
			end()
			lease, end = next, endNext
		}
		synctest.Wait()
		h.do(func() {
			n := 0
			for l := h.leases.parent(w.from(t.Context(), lease)); l != nil; l = l.parent {
				n++
			}
			if n != 1 {
				t.Errorf("%d leases are kept, not 1", n)
			}
		})
		end()
		w.must(t, "0s start a")
	})
}

// TestLeaseHeader: the model gets its lease and nobody else's, a caller sees none, and a
// request that comes back with it is refused.
func TestLeaseHeader(t *testing.T) {
	var f *frontTest
	var inner string
	f = newFrontTest(t, oneModel(func(c *config.Config, m *config.Model) { m.Concurrency = 1 }), func(w http.ResponseWriter, r *http.Request) {
		lease := r.Header.Get(leaseHeader)
		if lease == "" || lease == "forged" {
			t.Errorf("the model has got %q", lease)
		}
		w.Header().Set(leaseHeader, lease)
		resp, code, _ := f.refusal("POST", chatPath, `{"model":"m"}`, leaseHeader, lease)
		inner = fmt.Sprint(resp.StatusCode, code)
	}, false)
	resp, _ := f.do("POST", chatPath, `{"model":"m"}`, leaseHeader, "forged")
	if inner != "508loop" || resp.StatusCode != 200 || resp.Header.Get(leaseHeader) != "" {
		t.Errorf("inside %s, outside %d %v", inner, resp.StatusCode, resp.Header)
	}
}

// TestIdleWebsocket: it is cut once another request has waited for its model's room, or
// its slot, for the grace; not while nobody waits.
func TestIdleWebsocket(t *testing.T) {
	t.Parallel() // It mostly waits.
	f := newFrontTest(t, oneModel(func(c *config.Config, m *config.Model) {
		c.Queue.WebsocketGrace = config.Duration(100 * time.Millisecond)
		m.Concurrency = 1
		c.Models["n"] = &config.Model{Command: []string{"n"}}
	}), func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			return
		}
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		io.Copy(conn, rw)
	}, false)
	for _, other := range []string{"n", "m"} {
		conn, err := net.Dial("tcp", f.server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		io.WriteString(conn, "GET /upstream/m/ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		r := bufio.NewReader(conn)
		if resp, err := http.ReadResponse(r, nil); err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("%v %v", resp, err)
		}
		for range 3 { // Two looks or more.
			time.Sleep(reliefEvery / 2)
			io.WriteString(conn, "hello\n")
			if line, err := r.ReadString('\n'); line != "hello\n" || err != nil {
				t.Fatalf("cut while nobody waits: %q %v", line, err)
			}
		}
		if resp, text := f.do("POST", chatPath, fmt.Sprintf(`{"model":%q}`, other)); resp.StatusCode != 200 {
			t.Errorf("%s: %d %s", other, resp.StatusCode, text)
		}
		if rest, _ := io.ReadAll(r); len(rest) != 0 {
			t.Errorf("%q", rest)
		}
		f.until(func(s scheduler.Snapshot) bool { return len(s.Waiting) == 0 })
	}
}
