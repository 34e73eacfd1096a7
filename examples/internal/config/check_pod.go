package config

import (
	"encoding/json"
	"strings"
)

// maxPod bounds a pod, in bytes of JSON. The API server takes a few times as much.
const maxPod = 256 << 10

// checkKind checks that m has nothing of another kind of model than its own.
func (k *checker) checkKind(at place, m *Model) {
	if !m.IsPod() {
		for field, text := range map[string]string{"port": m.Port, "service": m.Service} {
			if text != "" {
				k.fault(at.in(field), "is for a model with a pod")
			}
		}
		return
	}
	if k.Kubernetes == nil {
		k.fault(at.in("pod"), `needs "kubernetes" beside "models", which says where pods run; {} stands for the cluster that the proxy runs in`)
	}
	for _, f := range []struct {
		field string
		set   bool
		text  string
	}{
		{"command", len(m.Command) > 0, "give its containers their command and args"},
		{"stopCommand", len(m.StopCommand) > 0, "give its containers a preStop hook"},
		{"env", len(m.Env) > 0, "give its containers their env"},
		{"dir", m.Dir != "", "give its containers a workingDir"},
		{"url", m.URL != "", "its port says where it answers"},
	} {
		if f.set {
			k.fault(at.in(f.field), "is for a process, and the model has a pod; %s", f.text)
		}
	}
}

// checkPod checks a model that has a pod, as far as that is possible without a cluster.
func (k *checker) checkPod(at place, name string, m *Model) {
	here := at.in("pod")
	pod := m.podTemplate(name, func(rest place, err error) {
		k.fault(here.then(rest), "%v", err)
	})
	k.checkStrings(here, pod)
	k.checkObject(here, pod)
	if data, err := json.Marshal(pod); err != nil {
		k.fault(here, "%v", err)
	} else if len(data) > maxPod {
		k.fault(here, "has %d bytes; a pod has at most %v", len(data), Size(maxPod))
	}
	k.checkPort(at, m)
	if _, err := m.ServiceName(name); err != nil {
		k.fault(at.in("service"), "%s", strings.TrimPrefix(err.Error(), "service: "))
	}
}

// checkStrings checks all strings in v.
func (k *checker) checkStrings(at place, v any) {
	copied(at, v, func(at place, word string) string {
		if strings.Contains(word, "\x00") {
			k.fault(at, "must not have a NUL character")
		}
		return word
	})
}

// checkObject checks the outermost members of a pod, and goes on with what they have.
func (k *checker) checkObject(at place, pod map[string]any) {
	for _, key := range sortedKeys(pod) {
		here := at.in(key)
		switch value := pod[key]; key {
		case "apiVersion":
			k.checkIs(here, value, "v1")
		case "kind":
			k.checkIs(here, value, "Pod")
		case "metadata":
			k.checkMetadata(here, k.members(here, value))
		case "spec":
			k.checkSpec(here, k.members(here, value))
		case "status":
			k.fault(here, "is not part of a template")
		default:
			k.fault(here, "unknown field: a pod has metadata and spec")
		}
	}
	if pod["spec"] == nil {
		k.fault(at.in("spec"), "must be there: it says what runs in the pod")
	}
}

// checkIs checks that v is word.
func (k *checker) checkIs(at place, v any, word string) {
	if v != word {
		k.fault(at, "must be %q, or left out", word)
	}
}

// members returns the members of v, none after telling that it is no object.
func (k *checker) members(at place, v any) map[string]any {
	members, ok := v.(map[string]any)
	if !ok {
		k.fault(at, "must be an object")
	}
	return members
}

func (k *checker) checkMetadata(at place, metadata map[string]any) {
	for _, key := range sortedKeys(metadata) {
		here := at.in(key)
		switch value := metadata[key]; key {
		case "labels", "annotations":
			k.checkLabels(here, k.members(here, value), key == "labels")
		case "namespace":
			if k.Kubernetes != nil && value != k.Kubernetes.Namespace {
				k.fault(here, "must be left out: all pods are in the namespace that kubernetes.namespace names")
			}
		case "name", "generateName":
			k.fault(here, "must be left out: the proxy gives each pod a name")
		case "ownerReferences", "finalizers":
			k.fault(here, "must be left out: the proxy says who owns a pod and when it goes")
		default:
			k.fault(here, "is not part of a template, whose metadata are labels and annotations")
		}
	}
}

func (k *checker) checkLabels(at place, labels map[string]any, short bool) {
	for _, key := range sortedKeys(labels) {
		value, ok := labels[key].(string)
		switch {
		case strings.HasPrefix(key, LabelPrefix):
			k.fault(at.in(key), "is one of the proxy's own, which begin with %q", LabelPrefix)
		case !isKey(key):
			k.fault(at.in(key), `must be called like "app" or "example.com/app"`)
		case !ok:
			k.fault(at.in(key), "must be a string")
		case short && !isLabelValue(value):
			k.fault(at.in(key), `must have at most 63 letters, digits, "-", "_" and ".", beginning and ending with a letter or a digit; annotations may have anything`)
		}
	}
}

func (k *checker) checkSpec(at place, spec map[string]any) {
	if spec == nil {
		return
	}
	if policy, named := spec["restartPolicy"]; named && policy != "Never" {
		k.fault(at.in("restartPolicy"), `must be "Never", or left out: the proxy itself starts a model again that has ended, when somebody asks for it`)
	}
	at = at.in("containers")
	containers, ok := spec["containers"].([]any)
	if !ok || len(containers) == 0 {
		k.fault(at, "must be a list of at least one container")
	}
	for i, c := range containers {
		container := k.members(at.in(i), c)
		if container == nil {
			continue
		}
		for _, field := range []string{"name", "image"} {
			if text, _ := container[field].(string); text == "" {
				k.fault(at.in(i).in(field), "must be a string that is not empty")
			}
		}
	}
}

// checkPort checks that it is clear at which port a pod answers.
func (k *checker) checkPort(at place, m *Model) {
	ports, called := m.ports(), 0
	var names []string
	for _, p := range ports {
		if p.number < 1 || p.number > 1<<16-1 {
			k.fault(at.in("pod").then(p.at).in("containerPort"), "must be a number from 1 to 65535")
		}
		if p.name == m.Port {
			called++
		}
		if p.name != "" {
			names = append(names, Shorten(p.name))
		}
	}
	known := strings.Join(names, ", ")
	switch {
	case len(ports) == 0:
		k.fault(at.in("pod").in("spec").in("containers"), "no container has a TCP port, at which the model would answer")
	case m.Port == "" && len(ports) > 1:
		k.fault(at.in("port"), "must say at which of the ports the model answers; with a name there are: %s", known)
	case called == 0:
		k.fault(at.in("port"), "no container has a TCP port of this name; there are: %s", known)
	case called > 1:
		k.fault(at.in("port"), "%d ports have this name", called)
	}
}
