//go:build linux

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/scheduler/examples/internal/kubetest"
)

// chaosPods are eight models of one or two cards each. Worse is the one that cannot load.
func chaosPods(worse int) (models, footprints map[string]any) {
	models, footprints = make(map[string]any), make(map[string]any)
	for i := range 8 {
		name, cards := fmt.Sprint("m", i), 1+i%2
		m := gpus(cards, kubetest.LoadAnnotation, "30ms")
		if i == worse {
			m = gpus(cards, kubetest.FailAnnotation, "exit")
		}
		spec := m["pod"].(map[string]any)["spec"].(map[string]any)
		spec["nodeSelector"] = map[string]any{"kubernetes.io/hostname": "${PLACEMENT}"}
		models[name] = with(m, "loadTimeout", "20s", "stopTimeout", "1s", "concurrency", 1+i%3, "ttl", fmt.Sprint(i, "s"))
		footprints[name] = map[string]any{"placements": []any{map[string]any{"gpu": cards}}}
	}
	return models, footprints
}

// TestKubeChaos lets 64 clients ask for eight models on two nodes of two cards each, while
// pods crash, run out of memory, are evicted and drained, the API server fails, is cut off
// and is killed, and the configuration changes. Every request gets one answer, no busy
// model is stopped, no pod is made where there is no room, and in the end none is left.
// CHAOS=60s makes it longer.
func TestKubeChaos(t *testing.T) {
	length := 10 * time.Second
	if d, err := time.ParseDuration(os.Getenv("CHAOS")); err == nil {
		length = d
	}
	card := map[string]string{"nvidia.com/gpu": "2"}
	k := newKubeTest(t, kubetest.Start(t), kubetest.Node{Name: "x", Allocatable: card}, kubetest.Node{Name: "y", Allocatable: card})
	configure := func(worse int) {
		models, footprints := chaosPods(worse)
		k.configure(models, "drainTimeout", "1s", "queue", map[string]any{"timeout": "20s", "cooldown": "50ms", "patience": "2s", "maxQueue": 60},
			"budget", map[string]any{"fromNodes": map[string]any{"gpu": map[string]any{"resource": "nvidia.com/gpu"}}, "models": footprints})
	}
	configure(-1)
	p := k.start()
	c := &chaos{t: t, proxy: p.proxy, url: p.url, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}, Timeout: length + patience}}
	defer c.client.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	var all sync.WaitGroup
	for i := range 64 {
		all.Go(func() { c.ask(ctx, rand.New(rand.NewPCG(uint64(i), 1))) })
	}
	all.Go(func() { p.disturbPods(ctx) })
	all.Go(func() { p.disturbAPI(ctx) })
	all.Go(func() {
		for r := rand.New(rand.NewPCG(3, 3)); ctx.Err() == nil; {
			time.Sleep(time.Duration(500+r.IntN(1000)) * time.Millisecond)
			configure(r.IntN(10))
			p.proxy.reload(p.proxy.options.config())
		}
	})
	all.Wait()
	configure(-1)
	p.proxy.reload(p.proxy.options.config())
	c.mustBeQuiet()
	p.mustEnd()
	k.mustHave()
	if n := k.cluster.Killed(); n > 0 {
		t.Errorf("%d requests were in flight when their pod was deleted", n)
	}
	if n := k.cluster.Unschedulable(); n > 0 {
		t.Errorf("%d pods were made where there was no room", n)
	}
	c.counts.Range(func(what, n any) bool { t.Log(what, n.(*atomic.Int64).Load()); return true })
	t.Log("pods made: ", k.cluster.Created(), ", at once: ", k.cluster.Most())
}

// disturbPods ends pods in every way until ctx ends.
func (p *kubeProxy) disturbPods(ctx context.Context) {
	for r := rand.New(rand.NewPCG(1, 1)); ctx.Err() == nil; {
		time.Sleep(time.Duration(50+r.IntN(300)) * time.Millisecond)
		pods := p.cluster.Names()
		if len(pods) == 0 {
			continue
		}
		pod := pods[r.IntN(len(pods))]
		switch r.IntN(4) {
		case 0:
			p.cluster.Crash(pod, 1)
		case 1:
			p.cluster.OOM(pod)
		case 2:
			p.cluster.Evict(pod)
		case 3:
			p.cluster.Drain(pod)
		}
	}
}

// disturbAPI lets the API server fail until ctx ends. Then it works.
func (p *kubeProxy) disturbAPI(ctx context.Context) {
	for r := rand.New(rand.NewPCG(2, 2)); ctx.Err() == nil; {
		time.Sleep(time.Duration(100+r.IntN(500)) * time.Millisecond)
		switch r.IntN(25) {
		case 0, 1, 2:
			p.faults.CutWatches()
		case 3, 4, 5, 6:
			p.faults.Fail(1+r.IntN(3), http.MethodPost, "/pods", http.StatusInternalServerError, "")
		case 7, 8, 9, 10:
			p.faults.Fail(1+r.IntN(3), http.MethodDelete, "/pods/", http.StatusTooManyRequests, "1")
		case 11, 12, 13:
			p.faults.Lose(1, http.MethodPost, "/pods")
		case 14, 15, 16:
			p.faults.Lose(1, http.MethodDelete, "/pods/")
		case 17, 18, 19:
			p.faults.Expire(1, "/pods?")
			p.faults.CutWatches()
		case 20, 21:
			restore := p.faults.Refuse(p.T)
			time.Sleep(time.Duration(r.IntN(2000)) * time.Millisecond)
			restore()
		case 22:
			p.server.Kill(p.T)
			p.server.Restart(p.T)
		}
	}
}
