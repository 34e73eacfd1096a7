package pods

import (
	"fmt"
	"slices"
	"strings"

	"example.com/scheduler/examples/internal/kube"
)

// verdict is what the status of a pod means for a model.
type verdict struct {
	ready   bool   // it may be sent requests
	begun   bool   // the container has begun, so that there are logs
	ended   string // why it can serve no more; "": it may, or will
	waiting string // what it waits for, as long as it is not ready
}

// hopeless are the reasons of a waiting container that time alone does not mend.
var hopeless = map[string]bool{
	"ImagePullBackOff":           true, // Pulling the image has failed, and been tried again.
	"ErrImageNeverPull":          true,
	"InvalidImageName":           true,
	"CreateContainerConfigError": true,
}

// judge reads the status of a pod, of which one container is the model.
func judge(pod *kube.Pod, container string) (v verdict) {
	s := &pod.Status
	model := statusOf(s.ContainerStatuses, container)
	v.begun = model != nil && (model.State.Running != nil || model.State.Terminated != nil)
	v.ready = isTrue(s.Conditions, "Ready") && s.PodIP != ""
	if v.ended = ending(pod); v.ended == "" && !v.ready {
		v.waiting = waiting(pod)
	}
	v.ready = v.ready && v.ended == ""
	return v
}

// ending returns why a pod ends or has ended, "" if it does not.
func ending(pod *kube.Pod) string {
	s := &pod.Status
	if s.Phase == "Failed" && s.Reason != "" { // As when its node evicts it.
		return detail(s.Reason, s.Message)
	}
	if c := conditionOf(s.Conditions, "DisruptionTarget"); c != nil && c.Status == "True" {
		return detail(c.Reason, c.Message)
	}
	for _, c := range s.ContainerStatuses {
		if t := c.State.Terminated; t != nil {
			return terminated(&c)
		}
	}
	for _, c := range slices.Concat(s.InitContainerStatuses, s.ContainerStatuses) {
		if t := c.State.Terminated; t != nil && s.Phase == "Failed" && t.ExitCode != 0 {
			return terminated(&c)
		}
		if w := c.State.Waiting; w != nil && hopeless[w.Reason] {
			return fmt.Sprintf("container %s: %s", c.Name, detail(w.Reason, w.Message))
		}
	}
	switch {
	case s.Phase == "Failed" || s.Phase == "Succeeded":
		return detail(s.Phase, s.Message)
	case pod.Metadata.DeletionTimestamp != nil:
		return "deleted by somebody else"
	}
	return ""
}

// terminated says how a container has ended.
func terminated(c *kube.ContainerStatus) string {
	t := c.State.Terminated
	how := fmt.Sprintf("exit code %d", t.ExitCode)
	if t.Signal != 0 {
		how = fmt.Sprintf("signal %d", t.Signal)
	}
	if t.Reason != "" && t.Reason != "Error" && t.Reason != "Completed" {
		how = t.Reason + ", " + how
	}
	return fmt.Sprintf("container %s: %s", c.Name, detail(how, t.Message))
}

// waiting returns what a pod waits for that is not ready.
func waiting(pod *kube.Pod) string {
	s := &pod.Status
	if c := conditionOf(s.Conditions, "PodScheduled"); c != nil && c.Status == "False" {
		return detail(c.Reason, c.Message)
	}
	for _, c := range slices.Concat(s.InitContainerStatuses, s.ContainerStatuses) {
		if w := c.State.Waiting; w != nil && w.Reason != "PodInitializing" {
			return fmt.Sprintf("container %s: %s", c.Name, detail(w.Reason, w.Message))
		}
		if !c.Ready && c.State.Running != nil {
			return fmt.Sprintf("container %s runs and is not ready", c.Name)
		}
	}
	if pod.Spec.NodeName == "" {
		return "it has no node"
	}
	return fmt.Sprintf("node %s has not begun it", pod.Spec.NodeName)
}

// maxMessage bounds what a cluster may add to a reason.
const maxMessage = 1 << 10

// detail joins a reason and its message.
func detail(reason, message string) string {
	if message = strings.TrimSpace(message); message == "" {
		return reason
	}
	if len(message) > maxMessage {
		message = strings.ToValidUTF8(message[:maxMessage], "") + "…"
	}
	return reason + ": " + message
}

func isTrue(conditions []kube.Condition, kind string) bool {
	c := conditionOf(conditions, kind)
	return c != nil && c.Status == "True"
}

func conditionOf(conditions []kube.Condition, kind string) *kube.Condition {
	for i := range conditions {
		if conditions[i].Type == kind {
			return &conditions[i]
		}
	}
	return nil
}

func statusOf(statuses []kube.ContainerStatus, name string) *kube.ContainerStatus {
	for i := range statuses {
		if statuses[i].Name == name {
			return &statuses[i]
		}
	}
	return nil
}
