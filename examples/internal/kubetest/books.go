package kubetest

import (
	"fmt"
	"slices"
	"strings"
)

// books are what a [Cluster] has seen.
type books struct {
	created       int      // pods so far
	most          int      // pods at once
	unschedulable int      // pods that have not fitted at some time
	killed        int      // requests in flight when the code under test deleted their pod
	violations    []string // of what the nodes can hold
}

// Created returns how many pods there have been.
func (c *Cluster) Created() int { return c.read(func(b *books) int { return b.created }) }

// Most returns the largest number of pods that have existed at once. The API server's
// own order of changes counts.
func (c *Cluster) Most() int { return c.read(func(b *books) int { return b.most }) }

// Unschedulable returns how many pods have ever been told that they fit on no node.
func (c *Cluster) Unschedulable() int { return c.read(func(b *books) int { return b.unschedulable }) }

// Killed returns how many requests were in flight when the deletion of their pod
// began. Pods that the cluster itself has ended do not count.
func (c *Cluster) Killed() int { return c.read(func(b *books) int { return b.killed }) }

// Violations returns each time at which a pod was created that is for a node without
// room for it: beside those that exist, terminating ones too, and by the largest size
// that the node has had. A pod is for the node that it names, or for the only one that its
// selector and affinity allow.
func (c *Cluster) Violations() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.books.violations)
}

// read reads the books.
func (c *Cluster) read(f func(*books) int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return f(&c.books)
}

// noteStart enters a pod that has just been created. c.mu is held.
func (c *Cluster) noteStart(p *pod) {
	c.books.most = max(c.books.most, len(c.pods))
	n := c.find(c.place(p))
	if n == nil || p.object.ended() {
		return
	}
	used := p.object.requests()
	asked := p.object.requests()
	names := []string{p.name}
	for _, other := range c.pods {
		if other != p && !other.object.ended() && c.place(other) == n.Name {
			used.add(other.object.requests())
			names = append(names, other.name)
		}
	}
	slices.Sort(names)
	for name, sum := range used {
		if asked[name] > 0 && sum > n.most[name] {
			c.books.violations = append(c.books.violations, fmt.Sprintf("node %s has %s of %s, and %s are requested by %s",
				n.Name, amount(n.most[name]), name, amount(sum), strings.Join(names, ", ")))
		}
	}
}

// place returns the node that a pod is on or can only be on.
func (c *Cluster) place(p *pod) string {
	if name := p.node(); name != "" {
		return name
	}
	only := ""
	for _, n := range c.nodes {
		if p.object.matches(n.Name, n.Labels) {
			if only != "" {
				return ""
			}
			only = n.Name
		}
	}
	return only
}

// noteEnd enters a pod whose deletion has begun. c.mu is held.
func (c *Cluster) noteEnd(p *pod) {
	if p.ending {
		return
	}
	p.ending = true
	if p.run != nil && !p.disturbed {
		c.books.killed += p.run.busy()
	}
}
