package pods

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"example.com/scheduler/examples/internal/kube"
)

// Spec is what the pod of a model is made of.
type Spec struct {
	Model    string
	Template map[string]any // metadata and spec of the pod, which the package adds to
	Port     string         // name of the container's port that answers; "": the only one
	Service  string         // where requests go instead of to the pod itself; "": to the pod
	Takes    map[string]int64

	// Answers asks the model whether it is healthy. It is called when the cluster says that
	// a pod that was ready is so no longer.
	Answers func(context.Context) error
}

// digest is the same for two specs whose pods are alike.
func (s *Spec) digest() string {
	text, err := json.Marshal([]any{s.Template, s.Port, s.Service})
	if err != nil {
		panic(err) // It has come from JSON.
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:12])
}

// template is as much of a template as there is to know.
type template struct {
	Spec kube.PodSpec `json:"spec"`
}

// answers returns the container that is the model, and its port.
func (s *Spec) answers() (container string, port int, err error) {
	text, err := json.Marshal(s.Template)
	if err != nil {
		return "", 0, err
	}
	var t template
	if err := json.Unmarshal(text, &t); err != nil {
		return "", 0, fmt.Errorf("template: %w", err)
	}
	found := 0
	for _, c := range t.Spec.Containers {
		for _, p := range c.Ports {
			if s.Port == "" || p.Name == s.Port {
				container, port = c.Name, p.ContainerPort
				found++
			}
		}
	}
	switch {
	case found == 0 && s.Port == "":
		return "", 0, errors.New("template: no container has a port")
	case found == 0:
		return "", 0, fmt.Errorf("template: no container has a port %q", s.Port)
	case found > 1:
		return "", 0, errors.New("template: several ports may be meant: name one")
	}
	return container, port, nil
}

// manifest returns the pod itself. The template becomes a part of it.
func (s *Spec) manifest(c *Cluster, name, id string) map[string]any {
	digest := s.digest()
	takes, _ := json.Marshal(s.Takes)
	pod := s.Template
	pod["apiVersion"], pod["kind"] = "v1", "Pod"
	meta := object(pod, "metadata")
	meta["name"] = name
	labels := object(meta, "labels")
	labels[labelProxy] = c.name
	labels[labelModel] = strings.TrimPrefix(name, c.name+"-")
	annotations := object(meta, "annotations")
	annotations[annotationModel] = s.Model
	annotations[annotationStart] = id
	annotations[annotationSpec] = digest
	annotations[annotationTakes] = string(takes)
	if c.owner != nil {
		meta["ownerReferences"] = []kube.OwnerReference{*c.owner}
	}
	object(pod, "spec")["restartPolicy"] = "Never"
	return pod
}

// object returns the object that is a member of parent, which it makes if there is none.
func object(parent map[string]any, member string) map[string]any {
	child, _ := parent[member].(map[string]any)
	if child == nil {
		child = make(map[string]any)
		parent[member] = child
	}
	return child
}

// maxName is how long the name of a pod may be without being cut in its own host name.
const maxName = 63

// podName returns the name of the pod of a model. It is the same at every start, so that
// the API itself never lets there be two.
func podName(proxy, model string) string {
	sum := sha256.Sum256([]byte(model))
	hash := hex.EncodeToString(sum[:5])
	slug := strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', '0' <= r && r <= '9':
			return r
		case 'A' <= r && r <= 'Z':
			return r - 'A' + 'a'
		}
		return '-'
	}, model)
	slug = slug[:min(len(slug), maxName-len(proxy)-len(hash)-2)]
	if slug = strings.Trim(slug, "-"); slug == "" {
		return proxy + "-" + hash
	}
	return proxy + "-" + slug + "-" + hash
}
