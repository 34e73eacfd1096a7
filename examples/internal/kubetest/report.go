package kubetest

import (
	"strings"
	"time"
)

// report is what a kubelet says of a pod and its containers.
type report struct {
	phase           string
	reason, message string // of the phase
	ready           bool
	state           object // of the containers
}

// report puts the state of the pod into its status.
func (r *run) report(what report) {
	status := object{
		"phase": what.phase, "reason": what.reason, "message": what.message,
		"startTime": r.started.UTC().Format(time.RFC3339), "hostIP": "127.0.0.1",
		"conditions":            r.conditions(what),
		"containerStatuses":     r.statuses(what),
		"initContainerStatuses": r.initStatuses(what),
	}
	if r.ip != "" {
		status["podIP"], status["podIPs"] = r.ip, []object{{"ip": r.ip}}
	}
	r.post(status)
}

// post changes the status of the pod, as long as the kubelet reaches the API server.
func (r *run) post(status object) {
	r.cluster.patchStatus(r.api, r.object.Metadata.Name, r.object.Metadata.UID, status)
}

// conditions returns those that a kubelet sets.
func (r *run) conditions(what report) []object {
	reason, message, ready := "", "", "True"
	if !what.ready {
		ready = "False"
		switch what.phase {
		case "Succeeded":
			reason = "PodCompleted"
		case "Failed":
			reason = "PodFailed"
		default:
			var names []string
			for _, c := range r.object.Spec.Containers {
				names = append(names, c.Name)
			}
			reason, message = "ContainersNotReady", "containers with unready status: ["+strings.Join(names, " ")+"]"
		}
	}
	initialized := condition("Initialized", "True", "", "")
	if name := r.uninitialized(); name != "" {
		initialized = condition("Initialized", "False", "ContainersNotInitialized", "containers with incomplete status: ["+name+"]")
	}
	conditions := []object{
		condition("PodScheduled", "True", "", ""),
		condition("PodReadyToStartContainers", "True", "", ""),
		initialized,
		condition("ContainersReady", ready, reason, message),
		condition("Ready", ready, reason, message),
	}
	if what.reason == "Evicted" {
		conditions = append(conditions, condition("DisruptionTarget", "True", "TerminationByKubelet", what.message))
	}
	return conditions
}

// uninitialized returns the name of an init container that cannot be started.
func (r *run) uninitialized() string {
	for _, c := range r.object.Spec.InitContainers {
		if strings.Contains(c.Image, badImage) {
			return c.Name
		}
	}
	return ""
}

// statuses returns those of the containers. Where an image cannot be pulled, only
// the containers that want it wait.
func (r *run) statuses(what report) []object {
	var all []object
	for _, c := range r.object.Spec.Containers {
		state := what.state
		if what.phase == "Pending" && !strings.Contains(c.Image, badImage) {
			state = waiting("PodInitializing", "")
		}
		all = append(all, r.status(c, state, what.ready))
	}
	return all
}

// initStatuses returns those of the init containers, which end at once.
func (r *run) initStatuses(what report) []object {
	var all []object
	for _, c := range r.object.Spec.InitContainers {
		state, ready := terminated(0, "Completed"), true
		if strings.Contains(c.Image, badImage) {
			state, ready = what.state, false
		}
		all = append(all, r.status(c, state, ready))
	}
	return all
}

// status returns the status of a container.
func (r *run) status(c container, state object, ready bool) object {
	s := object{
		"name": c.Name, "image": c.Image, "imageID": "", "ready": ready, "state": state,
		"restartCount": r.restarts, "started": state["running"] != nil,
	}
	if r.last != nil {
		s["lastState"] = r.last
	}
	return s
}

// waiting returns the state of a container that does not run yet.
func waiting(reason, message string) object {
	return object{"waiting": object{"reason": reason, "message": message}}
}

// terminated returns the state of a container that has ended.
func terminated(code int, reason string) object {
	return object{"terminated": object{"exitCode": code, "reason": reason, "startedAt": now(), "finishedAt": now()}}
}

// now returns the time as Kubernetes writes it.
func now() string { return time.Now().UTC().Format(time.RFC3339) }

// phaseOf returns how a pod has ended whose container has ended with code.
func phaseOf(code int) string {
	if code == 0 {
		return "Succeeded"
	}
	return "Failed"
}

// reasonOf returns why a container has ended with code.
func reasonOf(code int) string {
	if code == 0 {
		return "Completed"
	}
	return "Error"
}
