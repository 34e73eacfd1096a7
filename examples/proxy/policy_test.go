package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/scheduler"
	"example.com/scheduler/examples/internal/config"
)

// cards is a budget of two cards, x and y, each with room for one: placements are words
// such as "x", "y" and "x+y", by model.
func cards(placements map[string]string) func(c *config.Config) {
	return func(c *config.Config) {
		c.Budget = &config.Budget{Capacity: map[string]config.Size{"x": 1, "y": 1}, Models: make(map[string]*config.Footprint)}
		for name, all := range placements {
			f := new(config.Footprint)
			for _, word := range strings.Fields(all) {
				p := config.Placement{Takes: make(map[string]config.Size), Env: make(map[string]string)}
				for pool := range strings.SplitSeq(word, "+") {
					p.Takes[pool] = 1
				}
				p.Env["TAKES"] = strings.ReplaceAll(word, "+", " ")
				f.Placements = append(f.Placements, p)
			}
			c.Budget.Models[name] = f
		}
	}
}

// anywhere: a and b go on either card, and c needs both.
var anywhere = map[string]string{"a": "x y", "b": "x y", "c": "x+y"}

// hold asks for a model and keeps it until the function that it returns is called.
func (w *fakeWorld) hold(t *testing.T, model string) (release func()) {
	t.Helper()
	ticket := w.host.request(t.Context(), model, 0)
	resp := <-ticket.req.Respond
	if resp.Err != nil {
		t.Fatal(resp.Err)
	}
	return func() { resp.HandleFunc(nil, nil) }
}

// TestBudgetPlaces: each model is started in the placement for which there is room.
func TestBudgetPlaces(t *testing.T) {
	testHost(t, testConfig(t, cards(anywhere)), func(t *testing.T, h *host, w *fakeWorld) {
		w.call(t.Context(), "r0", "a", 0)
		w.call(t.Context(), "r1", "b", 0)
		w.must(t, "0s start a at 0", "10s r0 served by a", "10s start b at 1", "20s r1 served by b")
		w.call(t.Context(), "r2", "c", 0)
		w.must(t, "21s gone a", "21s gone b", "21s start c at 0", "31s r2 served by c")
		w.call(t.Context(), "r3", "b", 0)
		w.call(t.Context(), "r4", "a", 0)
		w.must(t, "32s gone c", "32s start b at 0", "42s r3 served by b", "42s start a at 1", "52s r4 served by a")
	})
}

// TestAtMost: maxRunning stops the model that was used least recently.
func TestAtMost(t *testing.T) {
	testHost(t, testConfig(t, func(c *config.Config) { c.MaxRunning = 2 }), func(t *testing.T, h *host, w *fakeWorld) {
		for _, model := range []string{"a", "b", "a", "c", "b"} {
			w.call(t.Context(), "r", model, 0)
		}
		w.must(t, "0s start a", "10s r served by a", "10s start b", "20s r served by a", "20s r served by b",
			"21s gone b", "21s start c", "31s r served by c", "32s gone a", "32s start b", "42s r served by b")
	})
}

// TestSetsRunTogether: an expression says which models stay beside each other.
func TestSetsRunTogether(t *testing.T) {
	cfg := testConfig(t, func(c *config.Config) {
		c.Sets = &config.Sets{Names: map[string]string{"l": "c"}, Expressions: map[string]string{"all": "(a | b) & l"}}
	})
	testHost(t, cfg, func(t *testing.T, h *host, w *fakeWorld) {
		for _, model := range []string{"a", "c", "b"} {
			w.call(t.Context(), "r", model, 0)
		}
		w.must(t, "0s start a", "10s r served by a", "10s start c", "20s r served by c", "21s gone a", "21s start b", "31s r served by b")
	})
}

// TestReloadCarriesPlacements: what runs stays where it is in the budget of a new file,
// even if the placement has another number there. A policy that is the same is kept.
func TestReloadCarriesPlacements(t *testing.T) {
	testHost(t, testConfig(t, cards(anywhere)), func(t *testing.T, h *host, w *fakeWorld) {
		w.call(t.Context(), "r0", "a", 0)
		before := h.policy.budget
		mustReload(t, h, testConfig(t, func(c *config.Config) { cards(anywhere)(c); c.Models["a"].TTL = config.Seconds(3600) }))
		if h.policy.budget != before {
			t.Error("the same policy has been made anew")
		}
		mustReload(t, h, testConfig(t, func(c *config.Config) { cards(anywhere)(c); c.Budget.Capacity["z"] = 1 }))
		if h.policy.budget == before {
			t.Error("another policy has not been made")
		}
		w.call(t.Context(), "r1", "b", 0)
		w.call(t.Context(), "r2", "a", 0)
		w.must(t, "0s start a at 0", "10s r0 served by a", "10s start b at 1", "20s r1 served by b", "20s r2 served by a")
		mustReload(t, h, testConfig(t, cards(map[string]string{"a": "y x", "b": "x y", "c": "x+y"})))
		w.call(t.Context(), "r3", "a", 0)
		w.must(t, "21s gone a", "21s start a at 1", "31s r3 served by a")
	})
}

// TestReloadMovesAModel: a model that is busy in a placement that a new file does not have
// keeps its room until it has gone, and others wait for that.
func TestReloadMovesAModel(t *testing.T) {
	testHost(t, testConfig(t, cards(map[string]string{"a": "x", "b": "x y", "c": "x+y"})), func(t *testing.T, h *host, w *fakeWorld) {
		release := w.hold(t, "a")
		mustReload(t, h, testConfig(t, cards(map[string]string{"a": "y", "b": "x", "c": "x+y"})))
		go w.call(t.Context(), "r1", "b", 0)
		synctest.Wait()
		go w.call(t.Context(), "r2", "a", 0)
		time.Sleep(10 * time.Second)
		w.must(t, "0s start a at 0")
		release()
		time.Sleep(time.Minute)
		w.must(t, "21s gone a", "21s start b at 0", "31s r1 served by b", "31s start a at 0", "41s r2 served by a")
	})
}

// TestReloadDuringALoad: a load goes on where room has been made for it, even if a new
// file places the model elsewhere. One that has its placement still begins anew.
func TestReloadDuringALoad(t *testing.T) {
	testHost(t, testConfig(t, cards(map[string]string{"a": "x", "b": "x y", "c": "x+y"})), func(t *testing.T, h *host, w *fakeWorld) {
		go w.call(t.Context(), "r0", "a", 2*time.Second)
		synctest.Wait()
		go w.call(t.Context(), "r1", "b", 0)
		time.Sleep(3 * time.Second)
		moved := testConfig(t, cards(map[string]string{"a": "y", "b": "x y", "c": "x+y"}))
		mustReload(t, h, moved)
		time.Sleep(time.Second)
		w.must(t, "0s start a at 0", "0s start b at 1")
		time.Sleep(time.Minute)
		w.must(t, "10s r0 served by a", "10s r1 served by b", "13s gone a")
		go w.call(t.Context(), "r2", "c", 0)
		time.Sleep(5 * time.Second)
		other := testConfig(t, func(c *config.Config) {
			cards(map[string]string{"a": "y", "b": "x y", "c": "y+x y"})(c)
			c.Models["c"].Command = []string{"better"}
		})
		mustReload(t, h, other)
		time.Sleep(time.Minute)
		w.must(t, "65s gone b", "65s start c at 0", "70s gone c", "70s start c at 0", "80s r2 served by c")
	})
}

// TestReloadOfAnotherKind: a budget takes the place of groups and the other way round.
// Processes that were not placed, and those that were, start anew.
func TestReloadOfAnotherKind(t *testing.T) {
	groups := func(c *config.Config) {
		c.Groups = []config.Group{{Name: "all", Members: []string{"a", "b", "c"}}}
	}
	testHost(t, testConfig(t, groups), func(t *testing.T, h *host, w *fakeWorld) {
		w.call(t.Context(), "r0", "a", 0)
		w.call(t.Context(), "r1", "b", 0)
		release := w.hold(t, "c")
		w.must(t, "0s start a", "10s r0 served by a", "10s start b", "20s r1 served by b", "20s start c")
		mustReload(t, h, testConfig(t, cards(anywhere)))
		go w.call(t.Context(), "r2", "a", 0)
		time.Sleep(10 * time.Second)
		w.must(t, "31s gone a", "31s gone b")
		release()
		time.Sleep(20 * time.Second)
		w.must(t, "41s gone c", "41s start a at 0", "51s r2 served by a")
		mustReload(t, h, testConfig(t, func(c *config.Config) { c.MaxRunning = 1 }))
		w.call(t.Context(), "r3", "a", 0)
		w.call(t.Context(), "r4", "b", 0)
		w.must(t, "61s gone a", "61s start a", "71s r3 served by a", "72s gone a", "72s start b", "82s r4 served by b")
	})
}

// TestBudgetRefuses: a model that does not fit beside a pinned one is refused for good.
func TestBudgetRefuses(t *testing.T) {
	cfg := testConfig(t, func(c *config.Config) { cards(anywhere)(c); c.Budget.Models["a"].Pinned = true })
	testHost(t, cfg, func(t *testing.T, h *host, w *fakeWorld) {
		w.call(t.Context(), "r0", "a", 0)
		w.call(t.Context(), "r1", "c", 0)
		w.call(t.Context(), "r2", "b", 0)
		w.must(t, "0s start a at 0", "10s r0 served by a", "10s r1: "+fmt.Sprintf("%v: %q: %v: %q: a", scheduler.ErrPolicy, "c", scheduler.ErrPinned, "c"),
			"10s start b at 1", "20s r2 served by b")
	})
}

// TestPools: the status says what fills the pools, while models load, leave and run.
func TestPools(t *testing.T) {
	cfg := testConfig(t, func(c *config.Config) {
		cards(anywhere)(c)
		c.Budget.Capacity["loads"], c.Budget.Capacity["slots"] = 2, 3
	})
	testHost(t, cfg, func(t *testing.T, h *host, w *fakeWorld) {
		pools := func() string {
			text, _ := json.Marshal(h.status().Pools)
			return strings.NewReplacer(`"pool":`, "", `"capacity":`, "", `"used":`, "", `"models":`, "", `"model":`, "", `"takes":`, "", `"`, "").Replace(string(text))
		}
		must := func(want string) {
			t.Helper()
			if got := pools(); got != want {
				t.Errorf("%s\nnot %s", got, want)
			}
		}
		must("[{loads,2,0,[]},{slots,3,0,[]},{x,1,0,[]},{y,1,0,[]}]")
		go w.call(t.Context(), "r0", "a", 0)
		time.Sleep(5 * time.Second)
		must("[{loads,2,1,[{a,1}]},{slots,3,1,[{a,1}]},{x,1,1,[{a,1}]},{y,1,0,[]}]")
		time.Sleep(10 * time.Second)
		w.call(t.Context(), "r1", "b", 0)
		must("[{loads,2,0,[]},{slots,3,2,[{a,1},{b,1}]},{x,1,1,[{a,1}]},{y,1,1,[{b,1}]}]")
		if s := h.status().Models; s[0].Placement == nil || *s[0].Placement != 0 || *s[1].Placement != 1 || s[2].Placement != nil {
			t.Errorf("%+v", s)
		}
		go w.call(t.Context(), "r2", "c", 0)
		time.Sleep(500 * time.Millisecond) // They are told to stop, and are there.
		must("[{loads,2,0,[]},{slots,3,2,[{a,1},{b,1}]},{x,1,1,[{a,1}]},{y,1,1,[{b,1}]}]")
		time.Sleep(time.Minute)
		must("[{loads,2,0,[]},{slots,3,1,[{c,1}]},{x,1,1,[{c,1}]},{y,1,1,[{c,1}]}]")
	})
	testHost(t, testConfig(t, nil), func(t *testing.T, h *host, w *fakeWorld) {
		if text, _ := json.Marshal(h.status()); strings.Contains(string(text), "pools") {
			t.Errorf("%s", text)
		}
	})
}

// TestReloadRefusesNothingTooSoon: as long as a model is where the new file does not have
// it, nobody is refused because of where it seems to be.
func TestReloadRefusesNothingTooSoon(t *testing.T) {
	testHost(t, testConfig(t, cards(map[string]string{"a": "x", "b": "y", "c": "x+y"})), func(t *testing.T, h *host, w *fakeWorld) {
		release := w.hold(t, "a")
		mustReload(t, h, testConfig(t, func(c *config.Config) {
			cards(map[string]string{"a": "y", "b": "y", "c": "x+y"})(c)
			c.Budget.Models["a"].Pinned = true
		}))
		go w.call(t.Context(), "r1", "b", 0)
		time.Sleep(10 * time.Second)
		release()
		time.Sleep(time.Minute)
		w.must(t, "0s start a at 0", "21s gone a", "21s start b at 0", "31s r1 served by b")
	})
}
