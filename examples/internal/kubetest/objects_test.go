package kubetest

import (
	"encoding/json"
	"fmt"
	"testing"
)

func TestParseQuantity(t *testing.T) {
	tests := []struct {
		text string
		want int64
	}{
		{"1", 1000}, {"0", 0}, {"100m", 100}, {"0.1", 100}, {"1.5", 1500}, {"1e3", 1000_000}, {"2E3", 2000_000},
		{"1Ki", 1024_000}, {"1.5Gi", 1610612736_000}, {"2G", 2_000_000_000_000}, {"1u", 1}, {"-1", -1000},
	}
	for _, tt := range tests {
		if got, err := parseQuantity(tt.text); err != nil || got != tt.want {
			t.Errorf("%q = %d (%v), want %d", tt.text, got, err, tt.want)
		}
	}
	for _, text := range []string{"", "x", "1x", "1KiKi", "i", "1E", "1e30", "one", "Gi"} {
		if got, err := parseQuantity(text); err == nil {
			t.Errorf("%q = %d", text, got)
		}
	}
}

// parsePod reads a pod.
func parsePod(t *testing.T, text string) *podObject {
	t.Helper()
	var p podObject
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		t.Fatal(err)
	}
	return &p
}

func TestRequests(t *testing.T) {
	p := parsePod(t, `{"spec": {
		"containers": [
			{"name": "a", "resources": {"requests": {"cpu": "100m", "memory": "1Ki"}}},
			{"name": "b", "resources": {"requests": {"cpu": "200m", "x/y": "1"}}}],
		"initContainers": [{"name": "c", "resources": {"requests": {"cpu": "50m", "memory": "2Ki"}}}]}}`)
	want := "map[cpu:300 memory:2048000 pods:1000 x/y:1000]"
	if got := fmt.Sprint(p.requests()); got != want {
		t.Errorf("requests = %s, want %s", got, want)
	}
}

func TestMatches(t *testing.T) {
	affinity := func(terms string) string {
		return `{"spec": {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [` + terms + `]}}}}}`
	}
	expression := func(key, operator, values string) string {
		return fmt.Sprintf(`{"key": %q, "operator": %q, "values": [%s]}`, key, operator, values)
	}
	tests := []struct {
		name, pod string
		want      bool
	}{
		{"nothing", `{}`, true},
		{"selector", `{"spec": {"nodeSelector": {"pool": "a"}}}`, true},
		{"another value", `{"spec": {"nodeSelector": {"pool": "b"}}}`, false},
		{"missing label", `{"spec": {"nodeSelector": {"none": ""}}}`, false},
		{"In", affinity(`{"matchExpressions": [` + expression("pool", "In", `"b", "a"`) + `]}`), true},
		{"not in", affinity(`{"matchExpressions": [` + expression("pool", "In", `"b"`) + `]}`), false},
		{"name", affinity(`{"matchFields": [` + expression("metadata.name", "In", `"n"`) + `]}`), true},
		{"another name", affinity(`{"matchFields": [` + expression("metadata.name", "In", `"m"`) + `]}`), false},
		{"both", affinity(`{"matchExpressions": [` + expression("pool", "In", `"a"`) + `, ` + expression("pool", "In", `"b"`) + `]}`), false},
		{"either", affinity(`{"matchExpressions": [` + expression("pool", "In", `"b"`) + `]}, {"matchExpressions": [` + expression("pool", "In", `"a"`) + `]}`), true},
		{"an empty term", affinity(`{}`), false},
		{"another operator", affinity(`{"matchExpressions": [` + expression("pool", "Exists", ``) + `]}`), false},
	}
	for _, tt := range tests {
		if got := parsePod(t, tt.pod).matches("n", map[string]string{"pool": "a"}); got != tt.want {
			t.Errorf("%s: matches = %t", tt.name, got)
		}
	}
}

func TestModelName(t *testing.T) {
	tests := []struct{ pod, want string }{
		{`{"metadata": {"name": "p"}}`, "p"},
		{`{"metadata": {"name": "p", "labels": {"example.com/model": "l"}}}`, "l"},
		{`{"metadata": {"name": "p", "labels": {"model": "l"}, "annotations": {"example.com/model": "a"}}}`, "a"},
		{`{"metadata": {"labels": {"model": "l"}}, "spec": {"containers": [{}, {"env": [{"name": "MODEL", "value": "e"}]}]}}`, "e"},
	}
	for _, tt := range tests {
		if got := parsePod(t, tt.pod).model(); got != tt.want {
			t.Errorf("%s: model = %q, want %q", tt.pod, got, tt.want)
		}
	}
}

func TestIdentity(t *testing.T) {
	tests := []struct{ doc, want string }{
		{"kind: Pod\nmetadata:\n  name: a\n  namespace: b\nspec:\n  name: c\n", "Pod a b"},
		{"metadata:\n  # why\n  labels:\n    name: x\n\n  name: 'a' # here\nkind: \"Pod\"\n", "Pod a "},
		{`{"kind": "Pod", "metadata": {"name": "a", "namespace": "b"}}`, "Pod a b"},
		{"kind: List\nitems:\n- kind: Pod\n  metadata:\n    name: a\n", "List  "},
	}
	for _, tt := range tests {
		kind, name, namespace := identity(tt.doc)
		if got := kind + " " + name + " " + namespace; got != tt.want {
			t.Errorf("%q: %s, want %s", tt.doc, got, tt.want)
		}
	}
}
