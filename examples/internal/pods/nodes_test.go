package pods

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/scheduler/examples/internal/config"
	"example.com/scheduler/examples/internal/kube"
)

// gpuNode makes a node with so many GPUs.
func gpuNode(name, gpus string, change ...func(*kube.Node)) kube.Node {
	n := kube.Node{
		Metadata: kube.ObjectMeta{Name: name, Labels: map[string]string{"zone": "z-" + name[:1]}},
		Status: kube.NodeStatus{
			Allocatable: map[string]string{"nvidia.com/gpu": gpus},
			Conditions:  []kube.Condition{{Type: "Ready", Status: "True"}},
		},
	}
	for _, c := range change {
		c(&n)
	}
	return n
}

// TestNodes: more is believed at once, less only if it lasts.
func TestNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var changes atomic.Int64 // since the last step
		n := newNodes(ctx, map[string]*config.NodePools{
			"gpu":  {Resource: "nvidia.com/gpu"},
			"zone": {Resource: "nvidia.com/gpu", Label: "zone"},
		}, time.Minute, slog.New(slog.DiscardHandler), func() { changes.Add(1) })
		step := func(what string, want string, wantChanges int, nodes ...kube.Node) {
			t.Helper()
			for _, node := range nodes {
				n.put(node)
			}
			synctest.Wait()
			changed := int(changes.Swap(0))
			if got, _ := n.Amounts(ctx); fmt.Sprint(got) != want || changed != wantChanges {
				t.Errorf("%s: %v after %d changes, not %s after %d", what, got, changed, want, wantChanges)
			}
		}
		n.put(gpuNode("a1", "2"))
		n.put(gpuNode("a2", "4"))
		short, end := context.WithTimeout(ctx, time.Second)
		defer end()
		if got, err := n.Amounts(short); err == nil {
			t.Errorf("%v before all nodes are known", got)
		}
		n.sync()
		step("at first", "map[gpu:map[a1:2 a2:4] zone:map[z-a:6]]", 0)
		step("a new node", "map[gpu:map[a1:2 a2:4 b1:1] zone:map[z-a:6 z-b:1]]", 1, gpuNode("b1", "1"))
		step("more", "map[gpu:map[a1:3 a2:4 b1:1] zone:map[z-a:7 z-b:1]]", 1, gpuNode("a1", "3"))
		step("no resource, or none that can be read", "map[gpu:map[a1:3 a2:4 b1:1] zone:map[z-a:7 z-b:1]]", 0, gpuNode("c1", "many"), gpuNode("c2", "0"))

		step("less", "map[gpu:map[a1:3 a2:4 b1:1] zone:map[z-a:7 z-b:1]]", 0, gpuNode("a1", "1"))
		time.Sleep(59 * time.Second)
		step("for 59 s", "map[gpu:map[a1:3 a2:4 b1:1] zone:map[z-a:7 z-b:1]]", 0)
		time.Sleep(time.Second)
		step("for a minute", "map[gpu:map[a1:1 a2:4 b1:1] zone:map[z-a:5 z-b:1]]", 1)

		step("cordoned", "map[gpu:map[a1:1 a2:4 b1:1] zone:map[z-a:5 z-b:1]]", 0, gpuNode("a2", "4", func(n *kube.Node) { n.Spec.Unschedulable = true }))
		time.Sleep(30 * time.Second)
		step("and back", "map[gpu:map[a1:1 a2:4 b1:1] zone:map[z-a:5 z-b:1]]", 0, gpuNode("a2", "4"))
		time.Sleep(time.Hour)
		step("long ago", "map[gpu:map[a1:1 a2:4 b1:1] zone:map[z-a:5 z-b:1]]", 0)

		step("not ready", "map[gpu:map[a1:1 a2:4 b1:1] zone:map[z-a:5 z-b:1]]", 0, gpuNode("a2", "4", func(n *kube.Node) { n.Status.Conditions[0].Status = "Unknown" }))
		time.Sleep(time.Minute)
		step("not ready for a minute", "map[gpu:map[a1:1 b1:1] zone:map[z-a:1 z-b:1]]", 1)
		n.drop(gpuNode("b1", "1"))
		time.Sleep(2 * time.Minute)
		step("gone", "map[gpu:map[a1:1] zone:map[z-a:1]]", 1)

		got, _ := n.Amounts(ctx)
		got["gpu"]["a1"] = 99
		step("what was returned is the caller's", "map[gpu:map[a1:1] zone:map[z-a:1]]", 0)
	})
}
