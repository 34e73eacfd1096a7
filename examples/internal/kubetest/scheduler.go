package kubetest

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// schedule binds the pods that have no node yet, and tells of those that fit on none.
func (c *Cluster) schedule() {
	for _, p := range c.unbound() {
		node, message := c.fit(p)
		if node != "" {
			c.bind(p, node)
		} else if c.newMessage(p, message) {
			c.tellUnschedulable(p, message)
		}
	}
}

// unbound returns the pods that wait for a node, the oldest first.
func (c *Cluster) unbound() []*pod {
	c.mu.Lock()
	defer c.mu.Unlock()
	var pods []*pod
	for _, p := range c.pods {
		if p.node() == "" && !p.object.terminating() && !p.object.ended() {
			pods = append(pods, p)
		}
	}
	slices.SortFunc(pods, func(a, b *pod) int { return cmp.Compare(a.number, b.number) })
	return pods
}

// fit returns the first node that has room for p, which p occupies from now on, or
// says why there is none.
func (c *Cluster) fit(p *pod) (name, message string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.nodes) == 0 {
		return "", "no nodes available to schedule pods"
	}
	reasons := make(map[string]int)
	helpful := 0 // on how many nodes it would help if others were stopped
	for _, n := range c.nodes {
		obstacle, full := c.obstacles(n, p)
		if len(obstacle) == 0 {
			p.bound = n.Name
			return n.Name, ""
		}
		for _, o := range obstacle {
			reasons[o]++
		}
		if full {
			helpful++
		}
	}
	return "", unschedulable(len(c.nodes), helpful, reasons)
}

// unschedulable words why no node will do, as the scheduler of Kubernetes does.
func unschedulable(nodes, helpful int, reasons map[string]int) string {
	count := func(reasons map[string]int) string {
		var parts []string
		for reason, n := range reasons {
			if n > 0 {
				parts = append(parts, fmt.Sprint(n, " ", reason))
			}
		}
		slices.Sort(parts)
		return fmt.Sprintf("0/%d nodes are available: %s.", nodes, strings.Join(parts, ", "))
	}
	return count(reasons) + " preemption: " + count(map[string]int{
		"No preemption victims found for incoming pod": helpful,
		"Preemption is not helpful for scheduling":     nodes - helpful,
	})
}

// obstacles returns why p cannot be on n, and whether that is only because n is full.
func (c *Cluster) obstacles(n *node, p *pod) (reasons []string, full bool) {
	switch {
	case n.cordoned:
		return []string{"node(s) were unschedulable"}, false
	case !n.alive:
		return []string{"node(s) had untolerated taint {node.kubernetes.io/unreachable: }"}, false
	case !p.object.matches(n.Name, n.Labels):
		return []string{"node(s) didn't match Pod's node affinity/selector"}, false
	}
	for _, name := range c.lacking(n, p) {
		reason := "Insufficient " + name
		if name == "pods" {
			reason = "Too many pods"
		}
		reasons = append(reasons, reason)
	}
	return reasons, len(reasons) > 0
}

// lacking returns the resources of which n has too little for p beside the others.
func (c *Cluster) lacking(n *node, p *pod) (names []string) {
	used := p.object.requests()
	asked := maps.Clone(used)
	for _, other := range c.pods {
		if other != p && other.node() == n.Name && !other.object.ended() {
			used.add(other.object.requests())
		}
	}
	for name, amount := range used {
		if asked[name] > 0 && amount > n.allocatable[name] {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// bind puts p on a node. If that is refused, p has gone or has been bound by
// somebody else, and the feed tells.
func (c *Cluster) bind(p *pod, node string) {
	name, uid := p.name, p.uid
	code, _ := c.call(c.ctx, http.MethodPost, c.podPath(name)+"/binding", object{
		"apiVersion": "v1", "kind": "Binding", "metadata": object{"name": name, "uid": uid},
		"target": object{"apiVersion": "v1", "kind": "Node", "name": node},
	})
	if code < 200 || code > 299 {
		c.mu.Lock()
		p.bound = ""
		c.mu.Unlock()
	}
}

// newMessage reports whether p has not been told message yet.
func (c *Cluster) newMessage(p *pod, message string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.unschedulable == message {
		return false
	}
	if p.unschedulable == "" {
		c.books.unschedulable++
	}
	p.unschedulable = message
	return true
}

// tellUnschedulable sets the condition of a pod that fits nowhere.
func (c *Cluster) tellUnschedulable(p *pod, message string) {
	c.patchStatus(c.ctx, p.name, p.uid, object{"conditions": []object{
		condition("PodScheduled", "False", "Unschedulable", message),
	}})
}
