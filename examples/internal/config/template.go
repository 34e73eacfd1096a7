package config

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
)

// Template is a pod as it is in the file: a JSON object whose members are not looked at
// one by one. Its values are map[string]any, []any, string, bool and, for numbers,
// [json.Number], which is exactly what the file has.
type Template map[string]any

// port is a TCP port of a container.
type port struct {
	name   string
	number int
	at     place // in the template
}

// IsPod reports whether m runs as a pod.
func (m *Model) IsPod() bool { return m.Pod != nil }

// PodTemplate returns a copy of m's pod that belongs to the caller. Names in "${…}" are
// replaced in it, and apiVersion, kind and restartPolicy are there: a pod whose model
// ends has ended. Name is that of m.
func (m *Model) PodTemplate(name string) (map[string]any, error) {
	var first error
	pod := m.podTemplate(name, func(at place, err error) {
		if first == nil {
			first = fmt.Errorf("pod: %v: %w", at, err)
		}
	})
	if first != nil {
		return nil, first
	}
	pod["apiVersion"], pod["kind"] = "v1", "Pod"
	if spec, ok := pod["spec"].(map[string]any); ok {
		spec["restartPolicy"] = "Never"
	}
	return pod, nil
}

// podTemplate returns an expanded copy of m's pod. It calls failed for each string that
// cannot be expanded, and puts "" in its place.
func (m *Model) podTemplate(name string, failed func(at place, err error)) map[string]any {
	vars := m.Vars(name)
	expand := func(at place, word string) string {
		text, err := Expand(word, vars)
		if err != nil {
			failed(at, err)
		}
		return text
	}
	return copied(nil, map[string]any(m.Pod), expand).(map[string]any)
}

// copied returns a deep copy of v, which stands at at, with all strings expanded.
func copied(at place, v any, expand func(at place, word string) string) any {
	switch v := v.(type) {
	case string:
		return expand(at, v)
	case map[string]any:
		object := make(map[string]any, len(v))
		for _, key := range sortedKeys(v) {
			object[key] = copied(at.in(key), v[key], expand)
		}
		return object
	case []any:
		list := make([]any, len(v))
		for i := range v {
			list[i] = copied(at.in(i), v[i], expand)
		}
		return list
	}
	return v
}

// ServiceName returns the name of the Service that requests to m are sent to, none if
// they go to the pod itself. Name is that of m.
func (m *Model) ServiceName(name string) (string, error) {
	service, err := Expand(m.Service, m.Vars(name))
	if err == nil && service != "" && !isLabel(service, 63) {
		err = fmt.Errorf("%q is not the name of a Service: %s", Shorten(service), labelRule(63))
	}
	if err != nil {
		return "", fmt.Errorf("service: %w", err)
	}
	return service, nil
}

// fillPort names the port at which m's pod answers if it has only one.
func (m *Model) fillPort() {
	if ports := m.ports(); m.Port == "" && len(ports) == 1 {
		m.Port = ports[0].name
	}
}

// PodPort returns the number of the container port at which m's pod answers.
func (m *Model) PodPort() int {
	for _, p := range m.ports() {
		if p.name == m.Port {
			return p.number
		}
	}
	return 0
}

// ports returns the TCP ports of the containers of m's pod.
func (m *Model) ports() (all []port) {
	spec, _ := m.Pod["spec"].(map[string]any)
	containers, _ := spec["containers"].([]any)
	for i, c := range containers {
		container, _ := c.(map[string]any)
		ports, _ := container["ports"].([]any)
		for j, p := range ports {
			fields, _ := p.(map[string]any)
			name, _ := fields["name"].(string)
			if protocol, named := fields["protocol"]; named && protocol != "TCP" {
				continue
			}
			all = append(all, port{name, whole(fields["containerPort"]), place{"spec", "containers", i, "ports", j}})
		}
	}
	return all
}

// whole returns the whole number that v is, 0 if it is none.
func whole(v any) int {
	n, err := strconv.Atoi(fmt.Sprint(v))
	if _, text := v.(string); text || err != nil {
		return 0
	}
	return n
}

// decodeTemplate puts n into v, which is a Template.
func (d *document) decodeTemplate(n *node, v reflect.Value) {
	members := d.object(n)
	t := make(Template, len(members))
	for key, member := range members {
		t[key] = d.anything(member)
	}
	v.Set(reflect.ValueOf(t))
}

// anything returns what n says.
func (d *document) anything(n *node) any {
	switch v := n.value.(type) {
	case map[string]*node:
		object := make(map[string]any, len(v))
		for key, member := range v {
			object[key] = d.anything(member)
		}
		return object
	case []*node:
		list := make([]any, len(v))
		for i, item := range v {
			list[i] = d.anything(item)
		}
		return list
	case nil:
		n.broken = true
		n.file().fault(n.place(), n.start, "must not be null; leave it out")
	case json.Number:
		return v
	}
	return n.value
}
