package config

import (
	"strings"
	"testing"
)

// TestPodWarnings: what is allowed for pods but hardly meant.
func TestPodWarnings(t *testing.T) {
	const needs = `"containers": [{"name": "m", "image": "i", "ports": [{"containerPort": 1}], "resources": `
	const onGPU = `"budget": {"fromNodes": {"gpu": {"resource": "nvidia.com/gpu"}, "ram": {"resource": "memory"}}, "default": {"placements": [{"gpu": 2, "ram": "1GiB"}]}}`
	for _, tt := range []struct{ spec, budget, want string }{
		{container("i"), `"maxRunning": 1`, ""},
		{container("i"), `"budget": {"capacity": {"x": 1}, "default": {}}`, ""},
		{container("i"), onGPU, "models.alpha.pod: does not have ${PLACEMENT}: the pod may run on another node than the one that the budget counts it on"},
		{`"nodeName": "${PLACEMENT}", ` + container("i"), onGPU, ""},
		{`"nodeName": "${PLACEMENT}", ` + needs + `{"limits": {"nvidia.com/gpu": 2, "memory": "1Gi", "cpu": "100"}}}]`, onGPU, ""},
		{`"nodeName": "${PLACEMENT}", ` + needs + `{"limits": {"nvidia.com/gpu": "3", "memory": "2Gi"}, "requests": {"memory": "1Gi"}}}]`, onGPU,
			"models.alpha.pod: asks for 3 of nvidia.com/gpu, but a placement takes only 2 of gpu"},
		{`"nodeName": "${PLACEMENT}", ` + needs + `{"requests": {"memory": "600Mi"}}}, {"name": "n", "image": "i", "resources": {"limits": {"memory": "600Mi"}}}]`, onGPU,
			"models.alpha.pod: asks for 1200MiB of memory, but a placement takes only 1GiB of ram"},
	} {
		c := parsed(t, `{"kubernetes": {}, "models": {"alpha": {"pod": {"spec": {`+tt.spec+`}}}}, `+tt.budget+`}`)
		for _, c := range []*Config{c, c.WithNodes(nil)} {
			if got := strings.Join(c.Warnings(), "\n"); got != tt.want {
				t.Errorf("%s, %s:\ngot  %s\nwant %s", tt.spec, tt.budget, got, tt.want)
			}
		}
	}
	c := parsed(t, `{"kubernetes": {}, "models": {"alpha": {"command": ["true"]}}}`)
	if got := strings.Join(c.Warnings(), "\n"); !strings.Contains(got, "kubernetes: no model has a pod") {
		t.Error(got)
	}
}
