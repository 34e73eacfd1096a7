package main

import (
	"errors"
	"sync"
	"testing"
	"time"

	"example.com/scheduler/examples/internal/config"
)

// onNodes is a configuration of pods that take a card each, on nodes with so many.
func onNodes(t *testing.T, cards map[string]int64) *config.Config {
	cfg := testConfig(t, func(c *config.Config) {
		c.Kubernetes = new(config.Kubernetes)
		for name := range c.Models {
			c.Models[name] = &config.Model{Pod: config.Template{"spec": map[string]any{"containers": []any{map[string]any{
				"name": "m", "image": "m", "ports": []any{map[string]any{"containerPort": 8000}},
			}}}}}
		}
		c.Budget = &config.Budget{
			FromNodes: map[string]*config.NodePools{"gpu": {Resource: "nvidia.com/gpu"}},
			Default:   &config.Footprint{Placements: []config.Placement{{Takes: map[string]config.Size{"gpu": 1}}}},
		}
	})
	return cfg.WithNodes(map[string]map[string]int64{"gpu": cards})
}

// TestNodeAway: a pod whose node is cordoned serves where it is. If the node is lost, it
// cannot be stopped. In neither case does it take anything from the models on other nodes.
func TestNodeAway(t *testing.T) {
	testHost(t, onNodes(t, map[string]int64{"m": 1, "n": 1}), func(t *testing.T, h *host, w *fakeWorld) {
		w.call(t.Context(), "r0", "a", 0)
		w.call(t.Context(), "r1", "b", 0)
		w.must(t, "0s start a at m", "10s r0 served by a", "10s start b at n", "20s r1 served by b")
		mustReload(t, h, onNodes(t, map[string]int64{"n": 1}))
		w.call(t.Context(), "r2", "c", 0)
		w.call(t.Context(), "r3", "a", 0)
		w.call(t.Context(), "r4", "c", 0)
		w.must(t, "21s gone b", "21s start c at n", "31s r2 served by c", "31s r3 served by a", "31s r4 served by c")

		var lost *fakeInstance
		w.made["a"].wont = true
		h.do(func() { lost = h.models["a"].inst.(*fakeInstance); h.stop(h.models["a"], time.Second) })
		w.call(t.Context(), "r5", "b", 0)
		w.must(t, "32s gone c", "32s start b at n", "42s r5 served by b")
		lost.b.wont = false
		lost.end(errors.New("its node has been removed"))
		mustReload(t, h, onNodes(t, map[string]int64{"m": 1, "n": 1}))
		w.call(t.Context(), "r6", "a", 0)
		w.must(t, "42s gone a", "42s start a at m", "52s r6 served by a")
	})
}

// TestNodeBack: a pod on a node that was away for a while counts again where it is.
func TestNodeBack(t *testing.T) {
	testHost(t, onNodes(t, map[string]int64{"m": 1, "n": 1}), func(t *testing.T, h *host, w *fakeWorld) {
		w.call(t.Context(), "r0", "a", 0)
		mustReload(t, h, onNodes(t, map[string]int64{"n": 1}))
		w.call(t.Context(), "r1", "b", 0)
		mustReload(t, h, onNodes(t, map[string]int64{"m": 1, "n": 1}))
		w.call(t.Context(), "r2", "c", 0)
		w.must(t, "0s start a at m", "10s r0 served by a", "10s start b at n", "20s r1 served by b",
			"21s gone a", "21s start c at m", "31s r2 served by c")
	})
}

// TestNodesNoMore: a new file has no pools from nodes, but says how many models may run.
func TestNodesNoMore(t *testing.T) {
	testHost(t, onNodes(t, map[string]int64{"m": 1, "n": 1}), func(t *testing.T, h *host, w *fakeWorld) {
		w.call(t.Context(), "r0", "a", 0)
		w.must(t, "0s start a at m", "10s r0 served by a")
		cfg := *onNodes(t, nil)
		cfg.Budget, cfg.MaxRunning = nil, 2
		mustReload(t, h, &cfg)
		w.call(t.Context(), "r1", "b", 0)
		w.must(t, "11s gone a", "11s start b at 0", "21s r1 served by b")
	})
}

// TestNodeGoneWhileReplaced: a pod that is being loaded is replaced, and its node is lost
// before the new one is made. No room has been made for that one anywhere else.
func TestNodeGoneWhileReplaced(t *testing.T) {
	testHost(t, onNodes(t, map[string]int64{"m": 1, "n": 1}), func(t *testing.T, h *host, w *fakeWorld) {
		w.call(t.Context(), "r0", "b", 0)
		w.call(t.Context(), "r1", "c", 0)
		w.must(t, "0s start b at m", "10s r0 served by b", "10s start c at n", "20s r1 served by c")
		var asking sync.WaitGroup
		asking.Go(func() { w.call(t.Context(), "r2", "a", 0) })
		time.Sleep(3 * time.Second)
		changed := func(cards map[string]int64) *config.Config {
			cfg := onNodes(t, cards)
			cfg.Models["a"].Health = "/other"
			return cfg
		}
		mustReload(t, h, changed(map[string]int64{"m": 1, "n": 1}))
		mustReload(t, h, changed(map[string]int64{"n": 1}))
		asking.Wait()
		w.must(t, "21s gone b", "21s start a at m", "24s gone a", "24s r2: load cancelled: the model has been changed")
	})
}

// TestStuck: a model that could not be stopped takes its room still, as one that is busy
// does. Others make room if they can, instead of a load that waits for it and fails.
func TestStuck(t *testing.T) {
	testHost(t, testConfig(t, func(c *config.Config) { c.Groups, c.MaxRunning = nil, 2 }), func(t *testing.T, h *host, w *fakeWorld) {
		w.call(t.Context(), "r0", "a", 0)
		w.call(t.Context(), "r1", "b", 0)
		w.must(t, "0s start a", "10s r0 served by a", "10s start b", "20s r1 served by b")
		w.made["a"].wont = true
		h.do(func() { h.stop(h.models["a"], time.Second) })
		time.Sleep(2 * time.Second)
		w.call(t.Context(), "r2", "c", 0)
		w.must(t, "23s gone b", "23s start c", "33s r2 served by c")
		w.call(t.Context(), "r3", "b", 0)
		w.must(t, "34s gone c", "34s start b", "44s r3 served by b")
	})
}
