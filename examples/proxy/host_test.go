package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/scheduler"
	"example.com/scheduler/examples/internal/config"
)

// fakeBackend is a model whose processes are nothing but time.
type fakeBackend struct {
	name string
	cfg  *config.Model
	w    *fakeWorld
	load time.Duration // start to ready
	stop time.Duration // asked to gone
	fail error         // of every load, once its time is over
	wont bool          // it does not stop

	startPanics bool
}

// fakeWorld makes fakeBackends, and writes down what happens to them and when.
type fakeWorld struct {
	host  *host
	start time.Time
	made  map[string]*fakeBackend

	mu    sync.Mutex
	lines []string
	live  map[string]int // processes by model
	used  map[string]int // by pool; see takes
}

// note writes a line with the seconds since the start.
func (w *fakeWorld) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lines = append(w.lines, fmt.Sprintf("%gs ", time.Since(w.start).Seconds())+fmt.Sprintf(format, args...))
}

// must compares what has happened with lines, and forgets it. What happens at the
// same time has no order but that of the alphabet.
func (w *fakeWorld) must(t *testing.T, lines ...string) {
	t.Helper()
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	at := func(line string) string { when, _, _ := strings.Cut(line, " "); return when }
	for i := range w.lines {
		for j := i; j > 0 && at(w.lines[j]) == at(w.lines[j-1]) && w.lines[j] < w.lines[j-1]; j-- {
			w.lines[j], w.lines[j-1] = w.lines[j-1], w.lines[j]
		}
	}
	if !slices.Equal(w.lines, lines) {
		t.Errorf("happened:\n  %s\nnot:\n  %s", strings.Join(w.lines, "\n  "), strings.Join(lines, "\n  "))
	}
	w.lines = nil
}

// fakeInstance is one start of a fakeBackend.
type fakeInstance struct {
	b    *fakeBackend
	gone chan struct{}
	once sync.Once
	why  error
}

func (b *fakeBackend) start(context.Context) (instance, error) {
	if b.startPanics {
		panic("no such thing")
	}
	vars := b.cfg.Vars(b.name)
	if placement, ok := vars["PLACEMENT"]; ok {
		b.w.note("start %s at %s", b.name, placement)
	} else {
		b.w.note("start %s", b.name)
	}
	b.w.mu.Lock()
	b.takes(1)
	defer b.w.mu.Unlock()
	if b.w.live[b.name]++; b.w.live[b.name] > 1 {
		b.w.lines = append(b.w.lines, "TWO PROCESSES of "+b.name)
	}
	return &fakeInstance{b: b, gone: make(chan struct{})}, nil
}

// takes enters what a process takes, by its variable TAKES. There is one of each thing.
func (b *fakeBackend) takes(sign int) {
	for _, pool := range strings.Fields(b.cfg.Env["TAKES"]) {
		if b.w.used[pool] += sign; b.w.used[pool] > 1 {
			b.w.lines = append(b.w.lines, "TOO MUCH of "+pool)
		}
	}
}

func (i *fakeInstance) url() *url.URL { return &url.URL{Scheme: "http", Host: "127.0.0.1:1"} }

func (i *fakeInstance) ready(ctx context.Context) error {
	select {
	case <-time.After(i.b.load):
		return i.b.fail
	case <-i.gone:
		return i.why
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (i *fakeInstance) stop(grace time.Duration) error {
	if i.b.wont {
		time.Sleep(grace)
		return errors.New("it is still there")
	}
	select {
	case <-time.After(min(i.b.stop, grace)):
	case <-i.gone:
	}
	i.end(errors.New("stopped"))
	return nil
}

// end ends the process.
func (i *fakeInstance) end(why error) {
	i.once.Do(func() {
		i.why = why
		i.b.w.note("gone %s", i.b.name)
		i.b.w.mu.Lock()
		i.b.w.live[i.b.name]--
		i.b.takes(-1)
		i.b.w.mu.Unlock()
		close(i.gone)
	})
}

func (i *fakeInstance) exited() <-chan struct{} { return i.gone }

func (i *fakeInstance) err() error {
	select {
	case <-i.gone:
		return i.why
	default:
		return nil
	}
}

// testHost runs body in a bubble of virtual time, with a host of models that take
// 10 s to load and 1 s to stop, one of them at a time.
func testHost(t *testing.T, cfg *config.Config, body func(t *testing.T, h *host, w *fakeWorld)) {
	synctest.Test(t, func(t *testing.T) {
		w := &fakeWorld{start: time.Now(), made: make(map[string]*fakeBackend), live: make(map[string]int), used: make(map[string]int)}
		h, err := newHost(cfg, slog.New(slog.DiscardHandler), func(name string, cfg *config.Model, _ *output, _ *slog.Logger) backend {
			b := &fakeBackend{name: name, cfg: cfg, w: w, load: 10 * time.Second, stop: time.Second}
			w.made[name] = b
			return b
		})
		if err != nil {
			t.Fatal(err)
		}
		w.host = h
		go h.run()
		body(t, h, w)
		for _, b := range w.made {
			b.wont = false
		}
		if err := h.shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		for name, n := range w.live {
			if n != 0 {
				t.Errorf("%d processes of %s at the end", n, name)
			}
		}
	})
}

// testConfig is the configuration of a few models, of which one runs at a time.
func testConfig(t *testing.T, change func(c *config.Config)) *config.Config {
	c := &config.Config{Models: config.Models{}}
	for _, name := range []string{"a", "b", "c"} {
		c.Models[name] = &config.Model{Command: []string{name}}
	}
	if change != nil {
		change(c)
	}
	if err := c.Complete(); err != nil {
		t.Fatal(err)
	}
	return c
}

// call asks for a model, serves for a time and notes how it went.
func (w *fakeWorld) call(ctx context.Context, name, model string, serve time.Duration) {
	t := w.host.request(ctx, model, 0)
	select {
	case resp := <-t.req.Respond:
		if resp.Err != nil {
			w.note("%s: %v", name, resp.Err)
			return
		}
		w.note("%s served by %s", name, model)
		time.Sleep(serve)
		resp.HandleFunc(nil, nil)
	case <-ctx.Done():
		w.host.leave(t)
		w.note("%s left", name)
	}
}

// TestHostCollates: A B A B becomes A A B B, at exact times.
func TestHostCollates(t *testing.T) {
	testHost(t, testConfig(t, nil), func(t *testing.T, h *host, w *fakeWorld) {
		for i, model := range []string{"a", "b", "a", "b"} {
			go w.call(t.Context(), fmt.Sprint("r", i), model, 2*time.Second)
			synctest.Wait()
		}
		time.Sleep(time.Minute)
		w.must(t,
			"0s start a", "10s r0 served by a", "10s r2 served by a",
			"13s gone a", "13s start b", "23s r1 served by b", "23s r3 served by b")
	})
}

// TestHostCancels: a caller who leaves while waiting gets nothing loaded for it, and
// one who leaves during its load leaves the model to whoever comes next.
func TestHostCancels(t *testing.T) {
	testHost(t, testConfig(t, nil), func(t *testing.T, h *host, w *fakeWorld) {
		go w.call(t.Context(), "r0", "a", 5*time.Second)
		synctest.Wait()
		ctx, leave := context.WithTimeout(t.Context(), 12*time.Second)
		defer leave()
		go w.call(ctx, "r1", "b", 0)
		time.Sleep(time.Minute)
		w.must(t, "0s start a", "10s r0 served by a", "12s r1 left")
		if n := len(h.status().Scheduler.Waiting); n != 0 {
			t.Errorf("%d wait", n)
		}
	})
}

// TestHostAbortsALoad: a load that nobody waits for any more and that keeps another
// from starting is aborted, and its process is gone before the other starts.
func TestHostAbortsALoad(t *testing.T) {
	testHost(t, testConfig(t, nil), func(t *testing.T, h *host, w *fakeWorld) {
		ctx, leave := context.WithTimeout(t.Context(), 2*time.Second)
		defer leave()
		go w.call(ctx, "r0", "a", 0)
		synctest.Wait()
		go w.call(t.Context(), "r1", "b", 0)
		time.Sleep(time.Minute)
		w.must(t, "0s start a", "2s r0 left", "3s gone a", "3s start b", "13s r1 served by b")
	})
}

// TestGrantToOneWhoLeaves: a caller who leaves at the very moment of the grant does
// not hold the run loop up, and its model is not taken as busy.
func TestGrantToOneWhoLeaves(t *testing.T) {
	testHost(t, testConfig(t, nil), func(t *testing.T, h *host, w *fakeWorld) {
		ctx, leave := context.WithTimeout(t.Context(), 10*time.Second) // when a is ready
		defer leave()
		ticket := h.request(ctx, "a", 0) // received by nobody
		synctest.Wait()
		<-ctx.Done()
		synctest.Wait()
		h.leave(ticket)
		s := h.status()
		if len(s.Scheduler.Waiting) != 0 || s.Models[0].InFlight != 0 || s.Scheduler.Counters.Cancelled != 1 {
			t.Errorf("%+v", s)
		}
		go w.call(t.Context(), "r1", "b", 0)
		time.Sleep(time.Minute)
		w.must(t, "0s start a", "11s gone a", "11s start b", "21s r1 served by b")
	})
}

// TestHandlerPanics: the model is given back, once.
func TestHandlerPanics(t *testing.T) {
	testHost(t, testConfig(t, nil), func(t *testing.T, h *host, w *fakeWorld) {
		if err := h.load(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		h.do(func() {
			h.models["a"].upstream.Handler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
		})
		ticket := h.request(t.Context(), "a", 0)
		resp := <-ticket.req.Respond
		func() {
			defer func() {
				if recover() != http.ErrAbortHandler {
					t.Error("the panic did not pass")
				}
			}()
			resp.HandleFunc(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
		}()
		synctest.Wait()
		if s := h.status(); s.Models[0].InFlight != 0 || s.Scheduler.Counters.Ignored != 0 {
			t.Errorf("%+v", s)
		}
		resp.HandleFunc(nil, nil) // Once more changes nothing.
		synctest.Wait()
		if s := h.status(); s.Models[0].InFlight != 0 || s.Scheduler.Counters.Ignored != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// TestStartPanics: the swap fails with what the panic said, and the next one works.
func TestStartPanics(t *testing.T) {
	testHost(t, testConfig(t, nil), func(t *testing.T, h *host, w *fakeWorld) {
		w.made["a"].startPanics = true
		go w.call(t.Context(), "r0", "a", 0)
		synctest.Wait()
		w.made["a"].startPanics = false
		go w.call(t.Context(), "r1", "a", 0)
		time.Sleep(time.Minute)
		w.must(t, "0s r0: panic: no such thing", "0s start a", "10s r1 served by a")
	})
}

// TestEvicteeDoesNotDie: the swap fails and does not load beside it.
func TestEvicteeDoesNotDie(t *testing.T) {
	testHost(t, testConfig(t, nil), func(t *testing.T, h *host, w *fakeWorld) {
		if err := h.load(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		w.made["a"].wont = true
		go w.call(t.Context(), "r0", "b", 0)
		time.Sleep(time.Minute)
		w.must(t, "0s start a", `20s r0: model "a" does not stop: it is still there`)
		w.made["a"].wont = false
		go w.call(t.Context(), "r1", "a", 0) // The old process has to go first.
		time.Sleep(time.Minute)
		w.must(t, "71s gone a", "71s start a", "81s r1 served by a")
	})
}

// TestLoadFails: everybody who waited gets the error, and nothing is left of it.
func TestLoadFails(t *testing.T) {
	testHost(t, testConfig(t, nil), func(t *testing.T, h *host, w *fakeWorld) {
		w.made["a"].fail = errors.New("out of memory")
		go w.call(t.Context(), "r0", "a", 0)
		time.Sleep(time.Minute)
		w.must(t, "0s start a", "11s gone a", "11s r0: out of memory")
		if s := h.status().Models[0]; s.State != scheduler.StateStopped || s.LastError != "out of memory" {
			t.Errorf("%+v", s)
		}
	})
}

// TestCrash: it is noticed at once, and the next request starts the model again.
func TestCrash(t *testing.T) {
	testHost(t, testConfig(t, nil), func(t *testing.T, h *host, w *fakeWorld) {
		if err := h.load(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		h.do(func() { h.models["a"].inst.(*fakeInstance).end(errors.New("exit status 3")) })
		synctest.Wait()
		if s := h.status().Models[0]; s.State != scheduler.StateStopped || s.LastError != "exit status 3" {
			t.Errorf("%+v", s)
		}
		go w.call(t.Context(), "r0", "a", 0)
		time.Sleep(time.Minute)
		w.must(t, "0s start a", "10s gone a", "10s start a", "20s r0 served by a")
	})
}

// TestUnloadWaits: until the process is gone; who waits learns it, and a request
// that comes meanwhile is served by a new process.
func TestUnloadWaits(t *testing.T) {
	testHost(t, testConfig(t, nil), func(t *testing.T, h *host, w *fakeWorld) {
		go w.call(t.Context(), "r0", "a", 0)
		time.Sleep(time.Second)
		if err := h.unload(t.Context(), "a"); err != nil {
			t.Error(err)
		}
		w.note("unloaded")
		w.must(t, "0s start a", `1s r0: scheduler: model unloaded: "a"`, "2s gone a", "2s unloaded")
		if err := h.load(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		go func() { _ = h.unload(t.Context()) }()
		synctest.Wait()
		go w.call(t.Context(), "r1", "b", 0)
		time.Sleep(time.Minute)
		w.must(t, "2s start a", "13s gone a", "13s start b", "23s r1 served by b")
		if err := h.unload(t.Context(), "a", "nobody"); !errors.Is(err, scheduler.ErrModelNotFound) {
			t.Error(err)
		}
	})
}

// TestTTL: an idle model is unloaded when its time is over, not before, and a
// request just before that begins it anew.
func TestTTL(t *testing.T) {
	cfg := testConfig(t, func(c *config.Config) { c.Models["a"].TTL = config.Duration(30 * time.Second) })
	testHost(t, cfg, func(t *testing.T, h *host, w *fakeWorld) {
		go w.call(t.Context(), "r0", "a", 5*time.Second)
		time.Sleep(44 * time.Second)
		go w.call(t.Context(), "r1", "a", 0)
		time.Sleep(time.Minute)
		w.must(t, "0s start a", "10s r0 served by a", "44s r1 served by a", "75s gone a")
	})
}

// TestReloadKeepsServing: a model that has changed finishes what is in flight, lets
// nobody new in, and then runs as the new configuration says; one that is removed
// finishes and goes; a further one comes.
func TestReloadKeepsServing(t *testing.T) {
	testHost(t, testConfig(t, nil), func(t *testing.T, h *host, w *fakeWorld) {
		go w.call(t.Context(), "r0", "a", 10*time.Second)
		time.Sleep(15 * time.Second)
		cfg := testConfig(t, func(c *config.Config) {
			c.Models["a"].Command = []string{"a", "-better"}
			delete(c.Models, "b")
			c.Models["d"] = &config.Model{Command: []string{"d"}}
		})
		if _, err := h.reload(cfg); err != nil {
			t.Fatal(err)
		}
		go w.call(t.Context(), "r1", "a", 10*time.Second)
		go w.call(t.Context(), "r2", "b", 0)
		time.Sleep(20 * time.Second)
		w.must(t, "0s start a", "10s r0 served by a", `15s r2: scheduler: model not found: "b"`, "21s gone a", "21s start a", "31s r1 served by a")
		cfg = testConfig(t, func(c *config.Config) { delete(c.Models, "a") })
		if _, err := h.reload(cfg); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		w.must(t, "42s gone a")
		if s := h.status().Models; len(s) != 2 {
			t.Errorf("%+v", s)
		}
	})
}

// TestShutdown: who waits is refused, a load is cancelled, what is in flight may
// finish, and every process is stopped. Later requests are refused.
func TestShutdown(t *testing.T) {
	testHost(t, testConfig(t, nil), func(t *testing.T, h *host, w *fakeWorld) {
		go w.call(t.Context(), "r0", "a", 10*time.Second)
		time.Sleep(15 * time.Second)
		go w.call(t.Context(), "r1", "b", 0)
		synctest.Wait()
		if err := h.shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		w.note("the host has ended")
		w.call(t.Context(), "r2", "a", 0)
		w.must(t, "0s start a", "10s r0 served by a", "15s r1: scheduler: shut down", "21s gone a", "21s r2: scheduler: shut down", "21s the host has ended")
	})
}

// TestShutdownDuringALoad does not wait for the load.
func TestShutdownDuringALoad(t *testing.T) {
	testHost(t, testConfig(t, nil), func(t *testing.T, h *host, w *fakeWorld) {
		go w.call(t.Context(), "r0", "a", 0)
		time.Sleep(2 * time.Second)
		if err := h.shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		w.must(t, "0s start a", "2s r0: scheduler: shut down", "3s gone a")
	})
}

// TestShutdownAtOnce: after kill nothing may take its time.
func TestShutdownAtOnce(t *testing.T) {
	testHost(t, testConfig(t, nil), func(t *testing.T, h *host, w *fakeWorld) {
		go w.call(t.Context(), "r0", "a", 11*time.Second)
		time.Sleep(15 * time.Second)
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			time.Sleep(3 * time.Second)
			h.kill()
			cancel()
		}()
		if err := h.shutdown(ctx); err != nil {
			t.Error(err)
		}
		w.must(t, "0s start a", "10s r0 served by a", "18s gone a")
	})
}
