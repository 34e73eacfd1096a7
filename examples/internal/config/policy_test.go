package config

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"example.com/scheduler"
)

// policyOf returns the policy of four models, of which one is elsewhere, with more in the
// file.
func policyOf(t *testing.T, more string) (*Config, scheduler.Planner) {
	t.Helper()
	c, err := Parse("f.json", []byte(`{"models": {
		"a": {"command": ["true"]}, "b": {"command": ["true"]}, "c": {"command": ["true"]},
		"far": {"url": "http://127.0.0.1:1"}
	}`+more+`}`))
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.Policy().Planner(func(string) bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	return c, s
}

// TestPolicies: which models stop for a target, with all others running.
func TestPolicies(t *testing.T) {
	for _, tt := range []struct {
		name, more string
		want       string // target and what stops for it
	}{
		{"none", ``, "a: b c; b: a c; c: a b; far:"},
		{"groups", `, "groups": [{"name": "g", "members": ["a", "b"]}]`, "a:; b:; c: a b; far:"},
		{"sets", `, "sets": {"names": {"x": "a"}, "expressions": {"one": "x & b"}}`, "a: c; b: c; c: a b; far: c"},
		{"sets by name", `, "sets": {"expressions": {"z": "a & b", "y": "a & c"}}`, "a: b; b: c; c: b; far: b"},
		{"sets with costs", `, "sets": {"names": {"x": "b"}, "expressions": {"z": "a & b", "y": "a & c"}, "evictCosts": {"x": 2}}`, "a: c; b: c; c: b; far: c"},
		{"sets of expressions", `, "sets": {"expressions": {"both": "a | b", "z": "+both & c & far"}}`, "a: b; b: a; c: b; far: b"},
		{"at most two", `, "maxRunning": 2`, "a: b; b: a; c: a; far:"},
		{"at most three", `, "maxRunning": 3`, "a:; b:; c:; far:"},
		{"budget", `, "budget": {"capacity": {"ram": "3GiB"}, "models": {"a": {"placements": [{"ram": "2GiB"}]}}, "default": {"placements": [{"ram": "1GiB"}]}}`, "a: b; b: a; c: a; far:"},
		{"budget with reload costs", `, "budget": {"capacity": {"ram": 2}, "models": {"b": {"placements": [{"ram": 1}], "reload": "1m"}}, "default": {"placements": [{"ram": 1}]}}`, "a: c; b: a; c: a; far:"},
		{"pinned", `, "budget": {"capacity": {"ram": 2}, "models": {"b": {"placements": [{"ram": 1}], "pinned": true}}, "default": {"placements": [{"ram": 1}]}}`, "a: c; b: a; c: a; far:"},
		{"slots", `, "budget": {"capacity": {"slots": 3}, "default": {}, "models": {"far": {}}}`, "a: b; b: a; c: a; far: a"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, s := policyOf(t, tt.more)
			var got []string
			for _, target := range slices.Sorted(maps.Keys(c.Models)) {
				running := slices.DeleteFunc(slices.Sorted(maps.Keys(c.Models)), func(m string) bool { return m == target })
				got = append(got, strings.TrimSpace(target+": "+strings.Join(s.EvictionFor(target, running), " ")))
			}
			if got := strings.Join(got, "; "); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

// TestPlaced: a process is told its placement, and has the environment of that.
func TestPlaced(t *testing.T) {
	c, err := Parse("f.json", []byte(`{
		"models": {
			"m": {"command": ["m", "${PLACEMENT}"], "env": {"A": "own", "B": "own"}},
			"far": {"url": "http://127.0.0.1:1"}
		},
		"budget": {"capacity": {"x": 1, "y": 1}, "default": {"placements": [{"x": 1}, {"y": 1, "env": {"A": "card ${PLACEMENT}", "C": "new"}}]}}
	}`))
	if err != nil {
		t.Fatal(err)
	}
	m := c.Models["m"]
	for i, want := range []string{"[A=own B=own] map[MODEL:m PLACEMENT:0]", "[A=card 1 B=own C=new] map[MODEL:m PLACEMENT:1]"} {
		vars := m.Placed(i).Vars("m")
		env, err := m.Placed(i).Environ(nil, vars)
		if got := fmt.Sprint(env, vars); got != want || err != nil {
			t.Errorf("%d: %s, %v, want %s", i, got, err, want)
		}
	}
	if got := fmt.Sprint(c.Models["far"].Placed(0).Vars("far")); got != "map[MODEL:far PLACEMENT:0]" {
		t.Errorf("far: %s", got)
	}
	other := changed(t, nil).Models["m"]
	if other.Placed(0) != other || len(other.Vars("m")) != 1 {
		t.Error("without a budget there are placements")
	}
}

// TestPlacementsChangeProcesses: other placements mean another process.
func TestPlacementsChangeProcesses(t *testing.T) {
	with := func(sizes ...Size) *Model {
		return changed(t, func(c *Config) {
			if sizes == nil {
				return
			}
			c.Budget = &Budget{Capacity: map[string]Size{"x": 9}, Default: new(Footprint)}
			for _, n := range sizes {
				c.Budget.Default.Placements = append(c.Budget.Default.Placements, Placement{Takes: map[string]Size{"x": n}})
			}
		}).Models["m"]
	}
	if !with(1, 2).SameProcess(with(1, 2)) || !with().SameProcess(with()) {
		t.Error("the same placements are others")
	}
	for _, other := range [][]Size{nil, {1}, {2, 1}, {1, 2, 3}} {
		if with(1, 2).SameProcess(with(other...)) {
			t.Errorf("%v is the same as 1 2", other)
		}
	}
}

// TestPolicyWarnings: a model that is in no set is doubtful.
func TestPolicyWarnings(t *testing.T) {
	c, _ := policyOf(t, `, "sets": {"expressions": {"one": "a & b"}}`)
	if got := strings.Join(c.Warnings(), "\n"); !strings.Contains(got, "models.c: is in no set: it runs alone") || strings.Contains(got, "models.far") || strings.Contains(got, "models.a: is") {
		t.Error(got)
	}
}

// TestTwoCardsExample: what the README says of its example.
func TestTwoCardsExample(t *testing.T) {
	data, err := os.ReadFile("testdata/two-cards.json")
	if err != nil {
		t.Fatal(err)
	}
	c, err := Parse("two-cards.json", data)
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.Policy().Planner(func(string) bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	var running []string
	for _, step := range []struct{ load, stops string }{
		{"bge-m3", ""},
		{"qwen2.5-coder-32b", ""},
		{"gemma-3-27b", ""},
		{"llama-3.3-70b", "gemma-3-27b qwen2.5-coder-32b"},
		{"gemma-3-27b", "llama-3.3-70b"},
		{"qwen2.5-coder-32b", ""},
	} {
		evict := s.EvictionFor(step.load, running)
		if got := strings.Join(evict, " "); got != step.stops {
			t.Errorf("%s stops %q, not %q", step.load, got, step.stops)
		}
		s.OnSwapStart(step.load, running)
		running = slices.DeleteFunc(running, func(model string) bool { return slices.Contains(evict, model) })
		running = append(running, step.load)
		slices.Sort(running)
	}
}

// TestPolicyExamples: nothing in the examples of the README is doubtful.
func TestPolicyExamples(t *testing.T) {
	for _, file := range []string{"two-cards.json", "sets.json"} {
		data, err := os.ReadFile("testdata/" + file)
		if err != nil {
			t.Fatal(err)
		}
		c, err := Parse(file, data)
		if err != nil || len(c.Warnings()) != 0 {
			t.Errorf("%s: %v, %q", file, err, c.Warnings())
		}
	}
}
