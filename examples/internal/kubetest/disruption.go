package kubetest

import (
	"net/http"
	"slices"
)

// Evict ends a running pod as a kubelet does that is short of memory: at once, with
// the phase Failed and the reason Evicted. The object stays until somebody deletes it.
func (c *Cluster) Evict(name string) bool {
	return c.endPod(name, ending{code: terminatedByOS, reason: "Error", evicted: "The node was low on resource: memory. Threshold quantity: 100Mi, available: 42Mi. "})
}

// Drain deletes a pod through its eviction subresource, as kubectl drain does. The pod
// then has its grace period.
func (c *Cluster) Drain(name string) bool {
	c.setDisturbed(name, true) // First, because the deletion may be seen before the answer.
	code, answer, err := c.server.sendJSON(c.ctx, http.MethodPost, c.podPath(name)+"/eviction", object{
		"apiVersion": "policy/v1", "kind": "Eviction", "metadata": object{"name": name},
	})
	if err == nil && code >= 400 && code != http.StatusNotFound && code != http.StatusConflict {
		c.t.Errorf("evict pod %s: %d: %s", name, code, message(answer))
	}
	if err == nil && code >= 400 {
		c.setDisturbed(name, false)
	}
	return err == nil && code < 400
}

// setDisturbed notes whether the end of a pod is not the doing of the code under test.
func (c *Cluster) setDisturbed(name string, disturbed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.pods {
		if p.name == name {
			p.disturbed = disturbed
		}
	}
}

// OOM kills the container of a running pod because it takes too much memory. What
// becomes of the pod is up to its restart policy.
func (c *Cluster) OOM(name string) bool {
	return c.endPod(name, ending{code: terminatedByOS, reason: reasonOOMKilled})
}

// Crash lets the container of a running pod exit. What becomes of the pod is up to its
// restart policy.
func (c *Cluster) Crash(name string, code int) bool {
	return c.endPod(name, ending{code: code, reason: reasonOf(code)})
}

// SetAllocatable changes how much of a resource a node has.
func (c *Cluster) SetAllocatable(name, resource, quantity string) bool {
	amount, err := parseQuantity(quantity)
	if err != nil {
		c.t.Errorf("node %s: %s: %v", name, resource, err)
		return false
	}
	if !c.changeNode(name, func(n *node) { n.set(resource, amount) }) {
		return false
	}
	amounts := object{resource: quantity}
	c.patchNode(name, "/status", object{"status": object{"capacity": amounts, "allocatable": amounts}})
	c.wake()
	return true
}

// Cordon lets no more pods be put on a node.
func (c *Cluster) Cordon(name string) bool {
	if !c.changeNode(name, func(n *node) { n.cordoned = true }) {
		return false
	}
	c.patchNode(name, "", object{"spec": object{"unschedulable": true}})
	return true
}

// KillNode lets a machine disappear. Its pods answer no more, connections to them hang,
// and what is asked of them through the API server is not done. The node controller
// says that the node is not ready, and so its pods; it does not delete them. See
// [Cluster.Taint] and [Cluster.RemoveNode] for that.
func (c *Cluster) KillNode(name string) bool {
	if !c.changeNode(name, func(n *node) { n.die() }) {
		return false
	}
	pods := c.on(name)
	for _, p := range pods {
		if p.run != nil {
			p.run.lose()
		}
	}
	c.patchNode(name, "/status", object{"status": object{"conditions": []object{
		condition("Ready", "Unknown", "NodeStatusUnknown", "Kubelet stopped posting node status."),
	}}})
	c.patchNode(name, "", object{"spec": object{"taints": []object{
		{"key": "node.kubernetes.io/unreachable", "effect": "NoSchedule"},
		{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"},
	}}})
	for _, p := range pods {
		c.patchStatus(c.ctx, p.name, p.uid, object{"conditions": []object{{"type": "Ready", "status": "False", "lastTransitionTime": now()}}})
	}
	return true
}

// Taint deletes the pods of a machine that has been lost for as long as they tolerate,
// 5 minutes by default. As their kubelet does not answer, they keep existing, with a
// deletionTimestamp.
func (c *Cluster) Taint(name string) bool {
	return c.deleteAll(name, -1, object{"conditions": []object{
		condition("DisruptionTarget", "True", "DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint"),
	}})
}

// RemoveNode removes a node. The collector of orphans then deletes its pods without
// asking their kubelet.
func (c *Cluster) RemoveNode(name string) bool {
	if !c.changeNode(name, func(n *node) { n.die() }) {
		return false
	}
	for _, p := range c.on(name) {
		if p.run != nil {
			p.run.kill()
		}
	}
	code, answer := c.call(c.ctx, http.MethodDelete, nodePath(name), nil)
	if code != 0 && code != http.StatusOK && code != http.StatusNotFound {
		c.t.Errorf("delete node %s: %d: %s", name, code, message(answer))
	}
	c.deleteAll(name, 0, object{"phase": "Failed", "conditions": []object{
		condition("DisruptionTarget", "True", "DeletionByPodGC", "PodGC: node no longer exists"),
	}})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes = slices.DeleteFunc(c.nodes, func(n *node) bool { return n.Name == name })
	return true
}

// die makes the machine disappear. Cluster.mu is held.
func (n *node) die() {
	n.alive = false
	n.kubelet.lose()
}

// set changes the amount of a resource. Cluster.mu is held.
func (n *node) set(resource string, amount int64) {
	n.allocatable[resource] = amount
	n.most[resource] = max(n.most[resource], amount)
}

// changeNode changes a node, if there is one of that name.
func (c *Cluster) changeNode(name string, change func(*node)) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.find(name)
	if n == nil {
		return false
	}
	change(n)
	return true
}

// on returns the pods on a node, and notes that what happens to them is not the doing
// of the code under test. Only what never changes may be read of them, and run, which
// does not if the node is dead.
func (c *Cluster) on(name string) (pods []*pod) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.pods {
		if p.node() == name {
			p.disturbed = true
			pods = append(pods, p)
		}
	}
	return pods
}

// endPod ends the container of a pod, and returns when that is reported.
func (c *Cluster) endPod(name string, e ending) bool {
	c.mu.Lock()
	var r *run
	for _, p := range c.pods {
		if p.name == name {
			r = p.run
		}
	}
	c.mu.Unlock()
	return r != nil && r.end(e)
}

// deleteAll deletes the pods of a node.
func (c *Cluster) deleteAll(name string, grace int, status object) bool {
	pods := c.on(name)
	for _, p := range pods {
		c.patchStatus(c.ctx, p.name, p.uid, status)
		c.deletePod(c.ctx, p.name, p.uid, grace)
	}
	return len(pods) > 0
}
