package config

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"example.com/scheduler"
)

// onNodes is a configuration whose models run on nodes with cards and memory.
const onNodes = `{
	"kubernetes": {},
	"models": {
		"small": {"pod": POD}, "large": {"pod": POD}, "either": {"pod": POD}, "free": {"pod": POD},
		"far": {"url": "http://h"}, "local": {"command": ["true"]}
	},
	"budget": {
		"capacity": {"ram": "8GiB"},
		"fromNodes": {
			"gpu": {"resource": "nvidia.com/gpu"},
			"memory": {"resource": "memory"}
		},
		"models": {
			"small": {"placements": [{"gpu": 1}], "reload": "1m"},
			"large": {"placements": [{"gpu": 4, "memory": "64GiB"}], "pinned": true},
			"either": {"placements": [{"ram": "1GiB"}, {"gpu": 2, "ram": "2GiB"}, {"ram": "3GiB"}]},
			"local": {"placements": [{"ram": 1}, {"ram": 2}]}
		},
		"default": {}
	}
}`

// amounts returns what nodes have, from lines such as "a gpu=4 memory=5". Memory is in
// GiB.
func amounts(nodes ...string) map[string]map[string]int64 {
	all := map[string]map[string]int64{"gpu": {}, "memory": {}}
	for _, node := range nodes {
		words := strings.Fields(node)
		for _, word := range words[1:] {
			var n int64
			entry, text, _ := strings.Cut(word, "=")
			fmt.Sscan(text, &n)
			if entry == "memory" {
				n <<= 30
			}
			all[entry][words[0]] = n
		}
	}
	return all
}

// withPods returns a configuration in which POD stands for a pod that wants a placement.
func withPods(t *testing.T, text string) *Config {
	t.Helper()
	pod := `{"spec": {"nodeName": "${PLACEMENT}", ` + container("i") + `}}`
	return parsed(t, strings.ReplaceAll(text, "POD", pod))
}

// TestWithNodes: which pools and placements there are with some nodes.
func TestWithNodes(t *testing.T) {
	c := withPods(t, onNodes)
	for _, tt := range []struct {
		nodes                        []string
		capacity, small, large, wide string
	}{
		{nil, "ram=8GiB", "[]", "[]", "0[ram=1GiB] 2[ram=3GiB]"},
		{[]string{"b gpu=1", "a gpu=2 memory=1"}, "gpu/a=2 gpu/b=1 memory/a=1GiB ram=8GiB",
			"a[gpu/a=1] b[gpu/b=1]", "[]", "0[ram=1GiB] a[gpu/a=2 ram=2GiB] 2[ram=3GiB]"},
		{[]string{"a gpu=8 memory=63", "b gpu=3 memory=640", "c gpu=4 memory=64", "d memory=70"},
			"gpu/a=8 gpu/b=3 gpu/c=4 memory/a=63GiB memory/b=640GiB memory/c=64GiB memory/d=70GiB ram=8GiB",
			"a[gpu/a=1] b[gpu/b=1] c[gpu/c=1]", "c[gpu/c=4 memory/c=64GiB]",
			"0[ram=1GiB] a[gpu/a=2 ram=2GiB] b[gpu/b=2 ram=2GiB] c[gpu/c=2 ram=2GiB] 2[ram=3GiB]"},
		{[]string{"a gpu=0 memory=-1", "b gpu=9223372036854775807"}, "gpu/b=8192TiB ram=8GiB", "b[gpu/b=1]", "[]",
			"0[ram=1GiB] b[gpu/b=2 ram=2GiB] 2[ram=3GiB]"},
	} {
		n := c.WithNodes(amounts(tt.nodes...))
		if got := sizes(n.Budget.Capacity); got != tt.capacity {
			t.Errorf("%q: capacity %s, want %s", tt.nodes, got, tt.capacity)
		}
		for model, want := range map[string]string{
			"small": tt.small, "large": tt.large, "either": tt.wide, "free": "[]", "far": "[]", "local": "[ram=1] [ram=2]",
		} {
			if got := ways(n.Models[model].placements); got != want {
				t.Errorf("%q: %s is placed %s, want %s", tt.nodes, model, got, want)
			}
		}
		if f := n.Budget.Models["small"]; f.Reload != Seconds(60) || !n.Budget.Models["large"].Pinned {
			t.Errorf("%q: %+v", tt.nodes, f)
		}
	}
}

// ways writes placements as name[pool=amount …].
func ways(placements []Placement) string {
	var all []string
	for _, p := range placements {
		all = append(all, p.Name+"["+sizes(p.Takes)+"]")
	}
	return strings.Join(all, " ")
}

// sizes writes pools as pool=amount.
func sizes(pools map[string]Size) string {
	var all []string
	for _, pool := range sortedKeys(pools) {
		all = append(all, fmt.Sprintf("%s=%v", pool, pools[pool]))
	}
	return strings.Join(all, " ")
}

// TestWithoutPools: with no node and no other pool there is a policy still, and it lets
// the models that need no room run side by side.
func TestWithoutPools(t *testing.T) {
	c := withPods(t, `{"kubernetes": {}, "models": {"m": {"pod": POD}, "n": {"pod": POD}, "o": {"pod": POD}}, "budget": {
		"fromNodes": {"gpu": {"resource": "nvidia.com/gpu"}},
		"models": {"m": {"placements": [{"gpu": 1}]}}, "default": {}}}`)
	for _, c := range []*Config{c, c.WithNodes(nil), c.WithNodes(amounts("a gpu=0"))} {
		p, err := c.Policy().Planner(func(string) bool { return false })
		if err != nil {
			t.Fatal(err)
		}
		if evict := p.EvictionFor("n", []string{"m", "o"}); len(evict) != 0 {
			t.Errorf("n stops %q", evict)
		}
		if got := c.Nowhere("m"); got != "needs 1 of gpu, and no node has any gpu" {
			t.Error(got)
		}
	}
}

// TestNowhere: the reason why there is no room for a model at all.
func TestNowhere(t *testing.T) {
	c := withPods(t, onNodes)
	for _, tt := range []struct {
		nodes        []string
		small, large string
	}{
		{nil, "needs 1 of gpu, and no node has any gpu", "needs 4 of gpu and 64GiB of memory, and no node has any gpu"},
		{[]string{"a gpu=2 memory=64", "b gpu=3"}, "", "needs 4 of gpu and 64GiB of memory, and no node has more than 3 of gpu"},
		{[]string{"a gpu=4 memory=32", "b memory=63"}, "", "needs 4 of gpu and 64GiB of memory, and no node has more than 63GiB of memory"},
		{[]string{"a gpu=4"}, "", "needs 4 of gpu and 64GiB of memory, and no node has any memory"},
		{[]string{"a gpu=4 memory=32", "b memory=64"}, "", "needs 4 of gpu and 64GiB of memory, and no node has all of that"},
		{[]string{"a gpu=4 memory=64"}, "", ""},
	} {
		n := c.WithNodes(amounts(tt.nodes...))
		for model, want := range map[string]string{"small": tt.small, "large": tt.large, "either": "", "free": "", "far": "", "local": "", "none": ""} {
			if got := n.Nowhere(model); got != want {
				t.Errorf("%q: %s: %q, want %q", tt.nodes, model, got, want)
			}
		}
	}
	labels := withPods(t, `{"kubernetes": {}, "models": {"m": {"pod": POD}}, "budget": {
		"fromNodes": {"gpu": {"resource": "nvidia.com/gpu", "label": "zone"}, "memory": {"resource": "memory"}},
		"default": {"placements": [{"gpu": 4}, {"memory": 3}]}}}`)
	const want = "needs 4 of gpu, and no value of zone has more than 2; or 3 of memory, and no node has any memory"
	if got := labels.WithNodes(amounts("a gpu=1", "b gpu=2")).Nowhere("m"); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := parsed(t, podFile(`"pod": `+aPod)).Nowhere("alpha"); got != "" {
		t.Errorf("without a budget: %q", got)
	}
}

// TestPlacementIsNode: a pod is told the place that it gets, or else the number of its
// placement in the file, whatever nodes come and go.
func TestPlacementIsNode(t *testing.T) {
	n := withPods(t, onNodes).WithNodes(amounts("node-b gpu=2", "node-a gpu=2"))
	var got []string
	for i := range n.Models["either"].placements {
		pod, err := n.Models["either"].Placed(i).PodTemplate("either")
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, pod["spec"].(map[string]any)["nodeName"].(string))
	}
	if want := []string{"0", "node-a", "node-b", "2"}; !reflect.DeepEqual(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	// The policy has them in the same order.
	of := n.Policy().Budget.Models["either"].Placements
	for i, p := range n.Models["either"].placements {
		for pool, size := range p.Takes {
			if of[i][pool] != int64(size) || len(of[i]) != len(p.Takes) {
				t.Errorf("placement %d is %v for the policy, not %v", i, of[i], p.Takes)
			}
		}
	}
}

// TestWithNodesAgain: what there was before does not matter, and nothing of it changes.
func TestWithNodesAgain(t *testing.T) {
	c, same := withPods(t, onNodes), withPods(t, onNodes)
	one, other := amounts("a gpu=4 memory=64"), amounts("b gpu=2")
	first := c.WithNodes(one)
	again := first.WithNodes(other).WithNodes(one)
	if !reflect.DeepEqual(again, first) {
		t.Errorf("again:\n%+v\nfirst:\n%+v", again, first)
	}
	if !reflect.DeepEqual(c, same) {
		t.Error("the configuration itself has changed")
	}
	if !reflect.DeepEqual(first.Policy(), again.Policy()) || reflect.DeepEqual(first.Policy(), c.Policy()) {
		t.Error("policies")
	}
	if p := parsed(t, podFile(`"pod": `+aPod)); p.WithNodes(one) != p {
		t.Error("without fromNodes there is a copy")
	}
}

// TestNodesKeepModels: no model is another one because nodes come or go.
func TestNodesKeepModels(t *testing.T) {
	c := withPods(t, onNodes)
	n := c.WithNodes(amounts("a gpu=4 memory=64"))
	for name := range c.Models {
		for _, other := range []*Config{c, c.WithNodes(nil), n.WithNodes(amounts("b gpu=1"))} {
			if !n.Models[name].SameProcess(other.Models[name]) {
				t.Errorf("%s is another one", name)
			}
		}
	}
}

// TestAnyNodes: whatever a cluster may have, the scheduler takes the policy, and either
// a model can be placed or there is a reason.
func TestAnyNodes(t *testing.T) {
	c := withPods(t, onNodes)
	r := rand.New(rand.NewPCG(1, 2))
	hostile := []int64{math.MinInt64, -1, 0, 1, 2, 4, 5, 1 << 36, largestPool - 1, largestPool, largestPool + 1, math.MaxInt64}
	names := []string{"", "a", "b", "/", "gpu/a", "ä", "slots", "a b", strings.Repeat("x", 300)}
	for range 2000 {
		all := make(map[string]map[string]int64)
		for _, entry := range []string{"gpu", "memory", "other"} {
			for range r.IntN(4) {
				if all[entry] == nil {
					all[entry] = make(map[string]int64)
				}
				all[entry][names[r.IntN(len(names))]] = hostile[r.IntN(len(hostile))]
			}
		}
		c = c.WithNodes(all)
		p, err := c.Policy().Planner(func(string) bool { return false })
		if err != nil {
			t.Fatalf("%v: %v", all, err)
		}
		for name, m := range c.Models {
			for i := range m.placements {
				if err := p.(*scheduler.BudgetSwapper).Observe(name, i); err != nil {
					t.Fatalf("%v: %v", all, err)
				}
			}
			placed := fits(c, name, all)
			if (c.Nowhere(name) == "") != placed || placed && len(m.placements) == 0 {
				t.Fatalf("%v: %s: placements %s, nowhere %q", all, name, ways(m.placements), c.Nowhere(name))
			}
		}
	}
}

// fits is a slow and obvious way to see whether a model of onNodes fits anywhere.
func fits(c *Config, model string, all map[string]map[string]int64) bool {
	f := c.Budget.declaration().Models[model]
	if f == nil || len(f.Placements) == 0 {
		return true
	}
	places := maps.Clone(all["gpu"])
	if places == nil {
		places = make(map[string]int64)
	}
	maps.Copy(places, all["memory"])
	places["nowhere"] = 0
	for _, p := range f.Placements {
		for place := range places {
			gpu, memory := max(0, all["gpu"][place]), max(0, all["memory"][place])
			if place == "" {
				gpu, memory = 0, 0
			}
			if gpu >= int64(p.Takes["gpu"]) && memory >= int64(p.Takes["memory"]) {
				return true
			}
		}
	}
	return false
}

func TestFromNodesErrors(t *testing.T) {
	const rest = `, "default": {"placements": [{"gpu": 1}]}`
	for _, tt := range []struct{ budget, err string }{
		{`"fromNodes": {"gpu": {"resource": "nvidia.com/gpu", "label": "kubernetes.io/hostname", "selector": "a=b, c!=d,e==,example.com/f = g"}}` + rest, ""},
		{`"fromNodes": {}` + rest, "capacity: there is no pool\ndefault.placements[0].gpu: there is no such pool"},
		{`"fromNodes": {"gpu": {}}` + rest, `fromNodes.gpu.resource: must be a resource such as "nvidia.com/gpu" or "memory"`},
		{`"fromNodes": {"gpu": {"resource": "a/b/c"}}` + rest, `fromNodes.gpu.resource: must be a resource such as "nvidia.com/gpu" or "memory"`},
		{`"fromNodes": {"gpu": {"resource": "g", "label": "a b"}}` + rest, `fromNodes.gpu.label: must be a label such as "kubernetes.io/hostname"`},
		{`"fromNodes": {"gpu": {"resource": "g", "selector": "a"}}` + rest, `fromNodes.gpu.selector: must be labels and their values, such as "pool=gpu,zone!=b"`},
		{`"fromNodes": {"gpu": {"resource": "g", "selector": "a=b,"}}` + rest, `fromNodes.gpu.selector: must be labels and their values, such as "pool=gpu,zone!=b"`},
		{`"fromNodes": {"gpu": {"resource": "g", "selector": "a in (b)"}}` + rest, `fromNodes.gpu.selector: must be labels and their values, such as "pool=gpu,zone!=b"`},
		{`"fromNodes": {"gpu": {"resource": "g", "selector": "a!==b"}}` + rest, `fromNodes.gpu.selector: must be labels and their values, such as "pool=gpu,zone!=b"`},
		{`"fromNodes": {"gpu": {"resource": "g"}, "slots": {"resource": "g"}, "a/b": {"resource": "g"}}` + rest,
			`fromNodes.slots: pools of nodes cannot be called so, nor have a "/" in their name` + "\n" + `fromNodes["a/b"]: pools of nodes cannot be called so, nor have a "/" in their name`},
		{`"capacity": {"gpu": 1, "gpu/a": 1}, "fromNodes": {"gpu": {"resource": "g"}}` + rest,
			`capacity["gpu/a"]: would be mistaken for a pool that comes from nodes; leave out the "/"` + "\n" + `fromNodes.gpu: is a pool of capacity too`},
		{`"fromNodes": {"gpu": {"resource": "g"}}, "default": {"placements": [{"gpu": 0}]}`, "default.placements[0].gpu: must not be 0"},
		{`"fromNodes": {"gpu": {"resource": "g"}}, "default": {"placements": [{"gpus": 1}]}`, `default.placements[0].gpus: there is no such pool; did you mean "gpu"?`},
		{`"fromNodes": {"gpu": {"resource": "g"}}, "default": {"placements": [{"gpu": -1}]}`, `default.placements[0].gpu: must be a size such as "64MiB", not -1`},
		{`"fromNodes": {"gpu": {"resource": "g"}}, "default": {"placements": [{"gpu/a": 1}]}`, `default.placements[0]["gpu/a"]: there is no such pool`},
		{`"fromNodes": {"gpu": {"resource": "g"}, "nic": {"resource": "n", "label": "l"}}, "default": {"placements": [{"gpu": 1, "nic": 1}]}`,
			"default.placements[0].nic: has another label than gpu, so that they cannot be at the same place"},
		{`"fromNodes": {"gpu": {"resource": "g"}}, "default": {"placements": [{"gpu": 1, "env": {"A": "b"}}]}`,
			`default.placements[0].env: is for a process, and "alpha" has a pod; use ${PLACEMENT} there, and give it placements of its own if others need this`},
		{`"fromNodes": {"gpu": {"resource": "g"}}, "models": {"alpha": {"placements": [{"gpu": 1, "env": {"A": "b"}}]}}`,
			`models.alpha.placements[0].env: is for a process, and "alpha" has a pod; use ${PLACEMENT} there, and give it placements of its own if others need this`},
	} {
		want := ""
		if tt.err != "" {
			want = "budget." + strings.ReplaceAll(tt.err, "\n", "\nbudget.")
		}
		checkText(t, `{"kubernetes": {}, "models": {"alpha": {"pod": `+aPod+`}}, "budget": {`+tt.budget+`}}`, want)
	}
	const budget = `"budget": {"fromNodes": {"gpu": {"resource": "g"}}` + rest + `}`
	checkText(t, `{"models": {"alpha": {"command": ["a"]}}, `+budget+`}`,
		`budget.fromNodes: needs "kubernetes", which says where the cluster is`+"\n"+
			`budget.default.placements[0].gpu: is on nodes, where only pods run, and "alpha" has none; give it placements of its own`)
	checkText(t, `{"kubernetes": {}, "models": {"alpha": {"url": "http://h"}}, "budget": {"fromNodes": {"gpu": {"resource": "g"}}, "models": {"alpha": {"placements": [{"gpu": 1}]}}}}`,
		`budget.models.alpha.placements[0].gpu: is on nodes, where only pods run, and "alpha" has none; give it placements of its own`)
	checkText(t, `{"kubernetes": {}, "models": {"alpha": {"url": "http://h"}, "beta": {"pod": `+aPod+`}}, `+budget+`}`, "")
}

// TestPlace: which nodes count, and where.
func TestPlace(t *testing.T) {
	labels := map[string]string{"pool": "gpu", "zone": "a", "empty": ""}
	for _, tt := range []struct {
		pools NodePools
		want  string // "": no place
	}{
		{NodePools{}, "node-1"},
		{NodePools{Selector: " "}, "node-1"},
		{NodePools{Label: "zone"}, "a"},
		{NodePools{Label: "empty"}, ""},
		{NodePools{Label: "none"}, ""},
		{NodePools{Selector: "pool=gpu"}, "node-1"},
		{NodePools{Selector: "pool==gpu"}, "node-1"},
		{NodePools{Selector: "pool!=gpu"}, ""},
		{NodePools{Selector: "pool=cpu"}, ""},
		{NodePools{Selector: "pool=gpu, zone != b"}, "node-1"},
		{NodePools{Selector: "pool=gpu,zone!=a"}, ""},
		{NodePools{Selector: "pool=gpu,zone=b"}, ""},
		{NodePools{Selector: "none!=a"}, "node-1"},
		{NodePools{Selector: "none="}, ""},
		{NodePools{Selector: "empty="}, "node-1"},
		{NodePools{Selector: "pool=gpu", Label: "zone"}, "a"},
	} {
		if place, ok := tt.pools.Place("node-1", labels); place != tt.want || ok != (tt.want != "") {
			t.Errorf("%+v: %q, %v, want %q", tt.pools, place, ok, tt.want)
		}
	}
}
