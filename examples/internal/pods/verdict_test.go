package pods

import (
	"encoding/json"
	"strings"
	"sync"
	"testing"

	"example.com/scheduler/examples/internal/kube"
)

// TestJudge: what the status of a pod means, as clusters write it.
func TestJudge(t *testing.T) {
	for _, c := range []struct{ name, pod, want string }{
		{"just made", `{}`, "waiting: it has no node"},
		{"no node fits", `{"status": {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."}]}}`,
			"waiting: Unschedulable: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu."},
		{"has a node", `{"spec": {"nodeName": "n1"}, "status": {"phase": "Pending"}}`, "waiting: node n1 has not begun it"},
		{"making the container", `{"spec": {"nodeName": "n1"}, "status": {"containerStatuses": [{"name": "model", "state": {"waiting": {"reason": "ContainerCreating"}}}]}}`,
			"waiting: container model: ContainerCreating"},
		{"init container", `{"spec": {"nodeName": "n1"}, "status": {"initContainerStatuses": [{"name": "fetch", "state": {"running": {}}}], "containerStatuses": [{"name": "model", "state": {"waiting": {"reason": "PodInitializing"}}}]}}`,
			"waiting: container fetch runs and is not ready"},
		{"an init container has done its work", `{"status": {"phase": "Running", "podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}], "initContainerStatuses": [{"name": "fetch", "ready": true, "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}], "containerStatuses": [{"name": "model", "ready": true, "state": {"running": {}}}]}}`,
			"ready begun"},
		{"an init container has failed", `{"status": {"phase": "Failed", "initContainerStatuses": [{"name": "fetch", "state": {"terminated": {"exitCode": 2, "reason": "Error"}}}]}}`,
			"ended: container fetch: exit code 2"},
		{"first pull failed", `{"status": {"containerStatuses": [{"name": "model", "state": {"waiting": {"reason": "ErrImagePull", "message": "no such host"}}}]}}`,
			"waiting: container model: ErrImagePull: no such host"},
		{"pull failed again", `{"status": {"containerStatuses": [{"name": "model", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image \"x\""}}}]}}`,
			`ended: container model: ImagePullBackOff: Back-off pulling image "x"`},
		{"loading", `{"status": {"podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "False"}], "containerStatuses": [{"name": "model", "state": {"running": {}}}]}}`,
			"begun waiting: container model runs and is not ready"},
		{"ready", `{"status": {"podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}], "containerStatuses": [{"name": "model", "ready": true, "state": {"running": {}}}]}}`,
			"ready begun"},
		{"ready without an address", `{"spec": {"nodeName": "n1"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}`,
			"waiting: node n1 has not begun it"},
		{"out of memory", `{"status": {"phase": "Failed", "containerStatuses": [{"name": "model", "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}]}}`,
			"begun ended: container model: OOMKilled, exit code 137"},
		{"ended by a signal", `{"status": {"containerStatuses": [{"name": "model", "state": {"terminated": {"exitCode": 0, "signal": 9, "reason": "Error", "message": "killed"}}}]}}`,
			"begun ended: container model: signal 9: killed"},
		{"ended well", `{"status": {"phase": "Succeeded", "containerStatuses": [{"name": "model", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}]}}`,
			"begun ended: container model: exit code 0"},
		{"a sidecar has ended", `{"status": {"podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}], "containerStatuses": [{"name": "model", "ready": true, "state": {"running": {}}}, {"name": "log", "state": {"terminated": {"exitCode": 1}}}]}}`,
			"begun ended: container log: exit code 1"},
		{"evicted by its node", `{"status": {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."}}`,
			"ended: Evicted: The node was low on resource: memory."},
		{"evicted through the API", `{"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "status": {"podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}, {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting"}], "containerStatuses": [{"name": "model", "ready": true, "state": {"running": {}}}]}}`,
			"begun ended: EvictionByEvictionAPI: Eviction API: evicting"},
		{"deleted by hand", `{"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}`, "ended: deleted by somebody else"},
		{"failed for no reason", `{"status": {"phase": "Failed", "message": "hm"}}`, "ended: Failed: hm"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var pod kube.Pod
			if err := json.Unmarshal([]byte(c.pod), &pod); err != nil {
				t.Fatal(err)
			}
			if got := judge(&pod, "model").String(); got != c.want {
				t.Errorf("it is %q, not %q", got, c.want)
			}
		})
	}
}

// String says what is in v.
func (v verdict) String() string {
	var words []string
	if v.ready {
		words = append(words, "ready")
	}
	if v.begun {
		words = append(words, "begun")
	}
	if v.ended != "" {
		words = append(words, "ended: "+v.ended)
	}
	if v.waiting != "" {
		words = append(words, "waiting: "+v.waiting)
	}
	return strings.Join(words, " ")
}

// TestJudgeAtOnce: a pod is judged by several goroutines, and none of them changes it.
func TestJudgeAtOnce(t *testing.T) {
	var pod kube.Pod
	pod.Status.InitContainerStatuses = make([]kube.ContainerStatus, 1, 4)
	pod.Status.ContainerStatuses = []kube.ContainerStatus{{Name: "model"}}
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() { judge(&pod, "model") })
	}
	all.Wait()
	if beyond := pod.Status.InitContainerStatuses[:2][1]; beyond.Name != "" {
		t.Errorf("the pod has got %q", beyond.Name)
	}
}

// TestLongReasons: what a cluster says may be a page long.
func TestLongReasons(t *testing.T) {
	text := detail("Unschedulable", strings.Repeat("é", 4000))
	if len(text) > 1100 || !strings.HasSuffix(text, "é…") {
		t.Errorf("%d bytes: …%s", len(text), text[len(text)-10:])
	}
}
