package kubetest

import (
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
)

// podObject is what the players need to know of a pod.
type podObject struct {
	Metadata struct {
		Name, UID, ResourceVersion string
		Labels, Annotations        map[string]string
		DeletionTimestamp          string
		DeletionGracePeriodSeconds int64
	}
	Spec struct {
		NodeName       string
		NodeSelector   map[string]string
		Affinity       struct{ NodeAffinity nodeAffinity }
		RestartPolicy  string
		Containers     []container
		InitContainers []container
	}
	Status struct{ Phase string }
}

// container is one of a pod's.
type container struct {
	Name, Image string
	Env         []struct{ Name, Value string }
	Ports       []struct{ ContainerPort int }
	Resources   struct{ Requests map[string]string }
}

// nodeAffinity has the terms of which a node has to match one.
type nodeAffinity struct {
	Required struct {
		Terms []struct {
			MatchExpressions, MatchFields []requirement
		} `json:"nodeSelectorTerms"`
	} `json:"requiredDuringSchedulingIgnoredDuringExecution"`
}

// requirement is one of those that a term consists of.
type requirement struct {
	Key, Operator string
	Values        []string
}

// ended reports whether all containers of the pod have ended for good.
func (p *podObject) ended() bool {
	return p.Status.Phase == "Succeeded" || p.Status.Phase == "Failed"
}

// terminating reports whether somebody has deleted the pod.
func (p *podObject) terminating() bool { return p.Metadata.DeletionTimestamp != "" }

// model returns the name of the model that the pod runs.
func (p *podObject) model() string {
	for _, c := range p.Spec.Containers {
		for _, e := range c.Env {
			if e.Name == "MODEL" {
				return e.Value
			}
		}
	}
	for _, m := range []map[string]string{p.Metadata.Annotations, p.Metadata.Labels} {
		for _, key := range slices.Sorted(maps.Keys(m)) {
			if key == "model" || strings.HasSuffix(key, "/model") {
				return m[key]
			}
		}
	}
	return p.Metadata.Name
}

// port returns the first port of the first container that has one; 0: there is none.
func (p *podObject) port() int {
	for _, c := range p.Spec.Containers {
		for _, port := range c.Ports {
			return port.ContainerPort
		}
	}
	return 0
}

// requests returns what the pod takes of each resource: the sum of its containers',
// or what one of its init containers takes if that is more.
func (p *podObject) requests() resources {
	sum := resources{"pods": 1000}
	for _, c := range p.Spec.Containers {
		sum.add(parseResources(c.Resources.Requests))
	}
	for _, c := range p.Spec.InitContainers {
		for name, n := range parseResources(c.Resources.Requests) {
			sum[name] = max(sum[name], n)
		}
	}
	return sum
}

// matches reports whether the pod may be on a node, as far as its selector and its
// affinity say. An operator other than In matches nothing.
func (p *podObject) matches(node string, labels map[string]string) bool {
	for key, value := range p.Spec.NodeSelector {
		if got, ok := labels[key]; !ok || got != value {
			return false
		}
	}
	terms := p.Spec.Affinity.NodeAffinity.Required.Terms
	for _, term := range terms {
		if allMatch(term.MatchExpressions, labels) && allMatch(term.MatchFields, map[string]string{"metadata.name": node}) &&
			len(term.MatchExpressions)+len(term.MatchFields) > 0 {
			return true
		}
	}
	return len(terms) == 0
}

// allMatch reports whether values have what all requirements ask for.
func allMatch(requirements []requirement, values map[string]string) bool {
	for _, r := range requirements {
		value, ok := values[r.Key]
		if !ok || r.Operator != "In" || !slices.Contains(r.Values, value) {
			return false
		}
	}
	return true
}

// resources are amounts in thousandths, by the name of the resource.
type resources map[string]int64

// parseResources reads quantities. The API server has checked them; one that is none
// counts as nothing.
func parseResources(quantities map[string]string) resources {
	r := make(resources)
	for name, q := range quantities {
		r[name], _ = parseQuantity(q)
	}
	return r
}

// add adds the amounts of o.
func (r resources) add(o resources) {
	for name, n := range o {
		r[name] += n
	}
}

// multiples are the suffixes of quantities. Exponents are read with the number.
var multiples = map[string]string{
	"n": "1e-9", "u": "1e-6", "m": "1e-3", "": "1",
	"k": "1e3", "M": "1e6", "G": "1e9", "T": "1e12", "P": "1e15", "E": "1e18",
	"Ki": "1024", "Mi": "1048576", "Gi": "1073741824", "Ti": "1099511627776", "Pi": "1125899906842624",
}

// parseQuantity reads a quantity such as 1, 100m, 1.5Gi or 1e3 as thousandths,
// rounded up.
func parseQuantity(text string) (int64, error) {
	number := strings.TrimRight(text, "numkMGTPEKi")
	factor, known := new(big.Rat), false
	if m, ok := multiples[text[len(number):]]; ok {
		_, known = factor.SetString(m)
	}
	n, ok := new(big.Rat).SetString(number)
	if !ok || !known {
		return 0, fmt.Errorf("%q is no quantity", text)
	}
	n.Mul(n, factor).Mul(n, big.NewRat(1000, 1))
	up := new(big.Int).Add(n.Num(), new(big.Int).Sub(n.Denom(), big.NewInt(1)))
	if up.Div(up, n.Denom()); !up.IsInt64() {
		return 0, fmt.Errorf("%q is too large", text)
	}
	return up.Int64(), nil
}

// amount returns thousandths as text.
func amount(n int64) string { return big.NewRat(n, 1000).RatString() }
