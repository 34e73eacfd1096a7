package kubetest

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"
)

// tick is how often the players look, even if nothing has changed.
const tick = 50 * time.Millisecond

// Annotations of a pod that say how it behaves.
const (
	LoadAnnotation = "kubetest/load" // how long the model loads; default 50ms
	StopAnnotation = "kubetest/stop" // how long the model takes to stop, beyond its requests; default 20ms
	FailAnnotation = "kubetest/fail" // "exit": after the load, with code 1; "oom": after the load; "never": never ready
)

// Node is a machine of a [Cluster].
type Node struct {
	Name   string
	Labels map[string]string // besides kubernetes.io/hostname
	// Allocatable is what pods can have of each resource, for example nvidia.com/gpu.
	// Of cpu, memory and pods there is plenty by default.
	Allocatable map[string]string
}

// Cluster plays the scheduler, the kubelets and the node controller for the pods of
// one namespace. A pod's container is a small model server in this process, at an
// address of its own on the loopback network. An image whose name contains
// "bad-image" cannot be pulled.
//
// Its methods may be called from any goroutine until the test ends. Those that do
// something to a pod or a node report false if there is no such pod or node to do it
// to.
type Cluster struct {
	t         testing.TB
	server    *Server
	namespace string
	ctx       context.Context // ends with the test
	work      sync.WaitGroup  // everything that has to end with the test
	changed   chan struct{}   // wakes the players

	mu    sync.Mutex
	nodes []*node
	pods  map[string]*pod // that exist, by UID
	books books
}

// node is a [Node] with its kubelet.
type node struct {
	Node
	allocatable resources
	most        resources // the most that there ever was
	alive       bool
	cordoned    bool
	kubelet     *kubelet
}

// pod is a pod that exists.
type pod struct {
	name, uid     string
	number        int        // in the order of creation
	object        *podObject // as last seen
	bound         string     // the node that it has been given, before that is seen
	unschedulable string     // the last message
	disturbed     bool       // the cluster has ended it, not the code under test
	ending        bool       // its deletion has been seen
	run           *run       // what its kubelet runs; nil: nothing
}

// node returns where the pod is; "" is nowhere yet.
func (p *pod) node() string {
	if p.object.Spec.NodeName != "" {
		return p.object.Spec.NodeName
	}
	return p.bound
}

// Cluster plays a cluster of nodes for a namespace, until the test ends. Nodes belong
// to no namespace, so tests that run at the same time need different names for them.
func (s *Server) Cluster(t testing.TB, namespace string, nodes ...Node) *Cluster {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c := &Cluster{
		t: t, server: s, namespace: namespace, ctx: ctx,
		changed: make(chan struct{}, 1), pods: make(map[string]*pod),
	}
	t.Cleanup(func() {
		cancel()
		c.work.Wait()
		c.removeNodes()
	})
	for _, n := range nodes {
		c.addNode(n)
	}
	synced := make(chan struct{})
	c.work.Go(func() { c.follow(sync.OnceFunc(func() { close(synced) })) })
	select {
	case <-synced:
	case <-time.After(patience):
		t.Fatalf("the pods of namespace %s cannot be listed", namespace)
	}
	c.work.Go(c.play)
	return c
}

// Pods returns the names of the pods that exist.
func (c *Cluster) Pods(t testing.TB) []string {
	t.Helper()
	var list struct{ Items []podObject }
	c.server.Must(t, http.MethodGet, c.podPath(""), nil, &list)
	var names []string
	for _, p := range list.Items {
		names = append(names, p.Metadata.Name)
	}
	return names
}

// Names returns the names of the pods as they were last seen, without asking the API
// server.
func (c *Cluster) Names() (names []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.pods {
		names = append(names, p.name)
	}
	slices.Sort(names)
	return names
}

// play lets the players act whenever something has changed.
func (c *Cluster) play() {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		c.schedule()
		c.runPods()
		select {
		case <-c.changed:
		case <-ticker.C:
		case <-c.ctx.Done():
			return
		}
	}
}

// wake lets the players look.
func (c *Cluster) wake() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// plenty is what a node has if its [Node] does not say.
var plenty = map[string]string{"cpu": "64", "memory": "1Ti", "ephemeral-storage": "1Ti", "pods": "110"}

// addNode makes a node, whose kubelet is up.
func (c *Cluster) addNode(spec Node) {
	c.t.Helper()
	amounts := maps.Clone(plenty)
	maps.Copy(amounts, spec.Allocatable)
	labels := map[string]string{"kubernetes.io/hostname": spec.Name}
	maps.Copy(labels, spec.Labels)
	for name, q := range amounts {
		if _, err := parseQuantity(q); err != nil {
			c.t.Fatalf("node %s: %s: %v", spec.Name, name, err)
		}
	}
	n := &node{Node: spec, allocatable: parseResources(amounts), most: parseResources(amounts), alive: true}
	n.Labels = labels
	c.server.Must(c.t, http.MethodPost, nodePath(""), object{"metadata": object{"name": n.Name, "labels": labels}}, nil)
	c.nodes = append(c.nodes, n)
	n.kubelet = newKubelet(c, n)
	c.patchNode(n.Name, "/status", object{"status": object{
		"capacity": amounts, "allocatable": amounts,
		"conditions":      []object{condition("Ready", "True", "KubeletReady", "kubelet is posting ready status")},
		"addresses":       []object{{"type": "InternalIP", "address": "127.0.0.1"}, {"type": "Hostname", "address": n.Name}},
		"daemonEndpoints": object{"kubeletEndpoint": object{"Port": n.kubelet.port}},
	}})
	c.patchNode(n.Name, "", object{"spec": object{"taints": nil}}) // Of a node that is not ready yet.
}

// removeNodes deletes the nodes at the end, unless the server has gone before.
func (c *Cluster) removeNodes() {
	for _, n := range c.nodes {
		c.server.sendJSON(context.Background(), http.MethodDelete, nodePath(n.Name), nil)
	}
}

// find returns the node of a name, or nil. c.mu is held.
func (c *Cluster) find(name string) *node {
	i := slices.IndexFunc(c.nodes, func(n *node) bool { return n.Name == name })
	if i < 0 {
		return nil
	}
	return c.nodes[i]
}

// podPath returns the path of a pod, or of all for "".
func (c *Cluster) podPath(name string) string {
	path := "/api/v1/namespaces/" + c.namespace + "/pods"
	if name != "" {
		path += "/" + name
	}
	return path
}

// nodePath returns the path of a node, or of all for "".
func nodePath(name string) string {
	if name == "" {
		return "/api/v1/nodes"
	}
	return "/api/v1/nodes/" + name
}

// call sends a request until it is answered. It returns 0 if ctx ends before. What
// the server answers for the time being, 429 and 5xx, is no answer.
func (c *Cluster) call(ctx context.Context, method, path string, body any) (code int, answer []byte) {
	for ctx.Err() == nil {
		code, answer, err := c.server.sendJSON(ctx, method, path, body)
		if err == nil && code != http.StatusTooManyRequests && code < 500 {
			return code, answer
		}
		select {
		case <-time.After(tick):
		case <-ctx.Done():
		}
	}
	return 0, nil
}

// patchStatus changes the status of a pod. Conditions are merged, and so those that
// others have set stay. It fails the test unless the pod has changed or is gone.
func (c *Cluster) patchStatus(ctx context.Context, name, uid string, status object) {
	patch := object{"metadata": object{"uid": uid}, "status": status}
	code, answer := c.call(ctx, http.MethodPatch, c.podPath(name)+"/status", patch)
	switch code {
	case 0, http.StatusOK, http.StatusNotFound, http.StatusConflict: // Conflict: another pod has the name.
	default:
		c.t.Errorf("status of pod %s: %d: %s", name, code, message(answer))
	}
}

// patchNode changes a node, or part of it.
func (c *Cluster) patchNode(name, part string, patch object) {
	code, answer := c.call(c.ctx, http.MethodPatch, nodePath(name)+part, patch)
	if code != 0 && code != http.StatusOK && code != http.StatusNotFound {
		c.t.Errorf("node %s: %d: %s", name, code, message(answer))
	}
}

// deletePod deletes a pod. A negative grace is the pod's own.
func (c *Cluster) deletePod(ctx context.Context, name, uid string, grace int) {
	options := object{"preconditions": object{"uid": uid}}
	if grace >= 0 {
		options["gracePeriodSeconds"] = grace
	}
	code, answer := c.call(ctx, http.MethodDelete, c.podPath(name), options)
	switch code {
	case 0, http.StatusOK, http.StatusAccepted, http.StatusNotFound, http.StatusConflict:
	default:
		c.t.Errorf("delete pod %s: %d: %s", name, code, message(answer))
	}
}

// condition returns a condition that has just changed.
func condition(kind, status, reason, message string) object {
	return object{
		"type": kind, "status": status, "reason": reason, "message": message,
		"lastTransitionTime": time.Now().UTC().Format(time.RFC3339),
	}
}
