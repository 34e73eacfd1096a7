package main

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"example.com/scheduler/examples/internal/config"
)

// better is a testConfig whose model a has another command.
func better(t *testing.T, change func(c *config.Config)) *config.Config {
	return testConfig(t, func(c *config.Config) {
		c.Models["a"].Command = []string{"a", "-better"}
		if change != nil {
			change(c)
		}
	})
}

// mustReload reloads h and returns the models to load again.
func mustReload(t *testing.T, h *host, cfg *config.Config) []string {
	t.Helper()
	again, err := h.reload(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return again
}

// A load of what a reload has changed ends, and begins anew for those who wait.
func TestReloadChangesALoad(t *testing.T) {
	testHost(t, testConfig(t, nil), func(t *testing.T, h *host, w *fakeWorld) {
		go w.call(t.Context(), "r0", "a", 2*time.Second)
		synctest.Wait()
		go w.call(t.Context(), "r1", "b", 0)
		time.Sleep(3 * time.Second)
		mustReload(t, h, better(t, nil))
		time.Sleep(500 * time.Millisecond)
		mustReload(t, h, testConfig(t, nil)) // While the load stops, and once more in the middle of the next one.
		time.Sleep(5 * time.Second)
		mustReload(t, h, better(t, nil))
		time.Sleep(500 * time.Millisecond)
		mustReload(t, h, testConfig(t, func(c *config.Config) { c.Models["a"].Concurrency = 7 })) // What runs goes on.
		time.Sleep(time.Minute)
		w.must(t, "0s start a", "4s gone a", "4s start a", "9.5s gone a", "9.5s start a", "19.5s r0 served by a",
			"22.5s gone a", "22.5s start b", "32.5s r1 served by b")
	})
}

// A load of what a reload has removed ends, and those who wait are told.
func TestReloadRemovesALoad(t *testing.T) {
	testHost(t, testConfig(t, nil), func(t *testing.T, h *host, w *fakeWorld) {
		go w.call(t.Context(), "r0", "a", 0)
		time.Sleep(3 * time.Second)
		mustReload(t, h, testConfig(t, func(c *config.Config) { delete(c.Models, "a") }))
		time.Sleep(time.Minute)
		w.must(t, "0s start a", "4s gone a", `4s r0: scheduler: model not found: "a"`)
		if s := h.status().Models; len(s) != 2 {
			t.Errorf("%+v", s)
		}
	})
}

// A load that nobody waits for only ends, and that is no failure that the next caller
// would have to pay for.
func TestReloadEndsALoadForNobody(t *testing.T) {
	cooldown := func(c *config.Config) { c.Queue.Cooldown = config.Seconds(3600) }
	testHost(t, testConfig(t, cooldown), func(t *testing.T, h *host, w *fakeWorld) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		go w.call(ctx, "r0", "a", 0)
		time.Sleep(3 * time.Second)
		mustReload(t, h, better(t, cooldown))
		time.Sleep(17 * time.Second)
		w.must(t, "0s start a", "2s r0 left", "4s gone a")
		w.call(t.Context(), "r1", "a", 0)
		w.must(t, "20s start a", "30s r1 served by a")
	})
}

// An unload, and the end, are final for a load that begins anew.
func TestUnloadWhileALoadIsReplaced(t *testing.T) {
	for _, end := range []func(h *host) error{
		func(h *host) error { return h.unload(context.Background(), "a") },
		func(h *host) error { return h.shutdown(context.Background()) },
	} {
		testHost(t, testConfig(t, nil), func(t *testing.T, h *host, w *fakeWorld) {
			go w.call(t.Context(), "r0", "a", 0)
			time.Sleep(3 * time.Second)
			mustReload(t, h, better(t, nil))
			time.Sleep(500 * time.Millisecond)
			if err := end(h); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Minute)
			w.mu.Lock()
			defer w.mu.Unlock()
			if slices.Contains(w.lines, "4s start a") || !slices.Contains(w.lines, "4s gone a") || len(w.lines) != 3 {
				t.Errorf("happened: %q", w.lines)
			}
		})
	}
}

// A model that is ready and has room made for it serves those who wait for that,
// before it is replaced.
func TestReloadWhileRoomIsMade(t *testing.T) {
	together := func(c *config.Config) { c.Groups = []config.Group{{Name: "g", Members: []string{"a", "b"}}} }
	testHost(t, testConfig(t, together), func(t *testing.T, h *host, w *fakeWorld) {
		go w.call(t.Context(), "r0", "a", 0)
		go w.call(t.Context(), "r1", "b", 20*time.Second)
		time.Sleep(15 * time.Second)
		mustReload(t, h, testConfig(t, nil))
		go w.call(t.Context(), "r2", "a", 0)
		time.Sleep(15500 * time.Millisecond)
		mustReload(t, h, better(t, nil))
		time.Sleep(time.Minute)
		w.must(t, "0s start a", "0s start b", "10s r0 served by a", "10s r1 served by b",
			"31s gone b", "31s r2 served by a", "32s gone a")
	})
}

// What has been loaded at the start, and runs still, is loaded again once it has been
// changed; and so is what is new in the list.
func TestReloadPreloads(t *testing.T) {
	preload := func(models ...string) func(c *config.Config) { return func(c *config.Config) { c.Preload = models } }
	testHost(t, testConfig(t, preload("a", "b")), func(t *testing.T, h *host, w *fakeWorld) {
		if again := mustReload(t, h, better(t, preload("a"))); len(again) != 0 {
			t.Errorf("%q are loaded again, but do not run", again)
		}
		w.call(t.Context(), "r0", "a", 0)
		if again := mustReload(t, h, better(t, preload("a"))); len(again) != 0 {
			t.Errorf("%q are loaded again, but are the same", again)
		}
		again := mustReload(t, h, testConfig(t, preload("c", "a")))
		if !slices.Equal(again, []string{"c", "a"}) {
			t.Errorf("%q are loaded again", again)
		}
		h.loadAll(t.Context(), again)
		w.must(t, "0s start a", "10s r0 served by a", "11s gone a", "11s start c", "22s gone c", "22s start a")
	})
}

// TestDrain: what is in flight finishes, nobody new is served meanwhile, and those who
// wait have the model loaded again. One that is idle goes at once, and one that is
// loading begins anew.
func TestDrain(t *testing.T) {
	testHost(t, testConfig(t, nil), func(t *testing.T, h *host, w *fakeWorld) {
		drain := func() {
			if err := h.drain(t.Context(), "a"); err != nil {
				t.Error(err)
			}
			w.note("drained")
		}
		drain()
		go w.call(t.Context(), "r0", "a", 10*time.Second)
		time.Sleep(15 * time.Second)
		go drain()
		synctest.Wait()
		go w.call(t.Context(), "r1", "a", 2*time.Second)
		time.Sleep(time.Second)
		mustReload(t, h, testConfig(t, func(c *config.Config) { c.Models["a"].Concurrency = 2 })) // It goes on.
		time.Sleep(9 * time.Second)
		drain()
		time.Sleep(15 * time.Second)
		drain()
		time.Sleep(time.Minute)
		w.must(t, "0s drained", "0s start a", "10s r0 served by a", "21s drained", "21s gone a", "21s start a",
			"26s drained", "26s gone a", "26s start a", "36s r1 served by a", "42s drained", "42s gone a")
	})
}

// TestPause: what is in flight finishes, those who come wait, also across a reload and
// an unload by the TTL, until the model is resumed.
func TestPause(t *testing.T) {
	testHost(t, testConfig(t, nil), func(t *testing.T, h *host, w *fakeWorld) {
		go w.call(t.Context(), "r0", "a", 5*time.Second)
		time.Sleep(3 * time.Second)
		pause := func(paused bool) {
			if err := h.pause(paused, "a"); err != nil {
				t.Error(err)
			}
			if got := h.status().Models[0].Paused; got != paused {
				t.Errorf("paused: %v", got)
			}
		}
		pause(true) // The load goes on.
		go w.call(t.Context(), "r1", "a", 0)
		time.Sleep(20 * time.Second)
		mustReload(t, h, better(t, nil))
		time.Sleep(time.Minute)
		w.must(t, "0s start a", "24s gone a")
		pause(true)
		pause(false)
		time.Sleep(time.Minute)
		w.must(t, "83s start a", "93s r0 served by a", "93s r1 served by a")
	})
}
