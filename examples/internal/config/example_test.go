package config

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"
)

// TestPodExample: the example of pods in the README is a part of its file, in which
// nothing is doubtful, and is placed as it says there.
func TestPodExample(t *testing.T) {
	t.Setenv("PROXY_KEY_OFFICE", "xyzzy1")
	t.Setenv("PROXY_KEY_BATCH", "xyzzy2")
	data, err := os.ReadFile("testdata/kubernetes.json")
	if err != nil {
		t.Fatal(err)
	}
	c, err := Parse("testdata/kubernetes.json", data)
	if err != nil || len(c.Warnings()) != 0 {
		t.Fatalf("%v, %q", err, c.Warnings())
	}
	var whole, quoted any
	if err := json.Unmarshal(data, &whole); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(quote(t, `    {"kubernetes": `), &quoted); err != nil {
		t.Fatal(err)
	}
	if !isPart(quoted, whole) {
		t.Errorf("the README has\n%v\nbut the file\n%v", quoted, whole)
	}
	c = c.WithNodes(map[string]map[string]int64{"gpu": {"node-a": 4, "node-b": 2}})
	for model, want := range map[string]string{
		"Qwen/Qwen2.5-72B-Instruct": "node-a[gpu/node-a=4]",
		"Qwen/Qwen2.5-7B-Instruct":  "node-a[gpu/node-a=1] node-b[gpu/node-b=1]",
	} {
		if got := ways(c.Models[model].placements); got != want {
			t.Errorf("%s: %s, want %s", model, got, want)
		}
	}
}

// quote returns the indented block of the README that begins so.
func quote(t *testing.T, begin string) []byte {
	t.Helper()
	readme, err := os.ReadFile("../../proxy/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, found := strings.Cut(string(readme), "\n"+begin)
	if !found {
		t.Fatalf("the README has no block that begins with %q", begin)
	}
	text, _, _ = strings.Cut(text, "\n\n")
	return []byte(begin + text)
}

// isPart reports whether whole has all that part says. Lists are the same.
func isPart(part, whole any) bool {
	members, ok := part.(map[string]any)
	if !ok {
		return reflect.DeepEqual(part, whole)
	}
	all, _ := whole.(map[string]any)
	for key, member := range members {
		if all[key] == nil || !isPart(member, all[key]) {
			return false
		}
	}
	return true
}
