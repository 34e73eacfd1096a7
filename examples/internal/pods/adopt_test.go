package pods

import (
	"testing"
	"time"

	"example.com/scheduler/examples/internal/kube"
)

// TestIs: only a pod that is made of the same, takes the same and is not about to end is
// as good as one that would be made now.
func TestIs(t *testing.T) {
	spec := Spec{Model: "a", Takes: map[string]int64{"gpu/n": 1}, Template: map[string]any{
		"spec": map[string]any{"containers": []any{map[string]any{"name": "model", "ports": []any{map[string]any{"containerPort": 8000}}}}},
	}}
	now := time.Now()
	for name, c := range map[string]struct {
		change func(*Found)
		want   bool
	}{
		"same":        {func(*Found) {}, true},
		"template":    {func(f *Found) { f.pod.Metadata.Annotations[annotationSpec] = "other" }, false},
		"no digest":   {func(f *Found) { f.pod.Metadata.Annotations = nil }, false},
		"place":       {func(f *Found) { f.Takes = map[string]int64{"gpu/m": 1} }, false},
		"no place":    {func(f *Found) { f.Takes = nil }, false},
		"terminating": {func(f *Found) { f.pod.Metadata.DeletionTimestamp = &now }, false},
		"failed":      {func(f *Found) { f.pod.Status.Phase = "Failed" }, false},
	} {
		f := Found{Model: "a", Takes: map[string]int64{"gpu/n": 1}, pod: kube.Pod{Metadata: kube.ObjectMeta{
			Annotations: map[string]string{annotationSpec: spec.digest()},
		}}}
		if c.change(&f); f.Is(spec) != c.want {
			t.Errorf("%s: it is not %v", name, c.want)
		}
	}
}
