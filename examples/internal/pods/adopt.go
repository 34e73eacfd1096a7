package pods

import (
	"cmp"
	"context"
	"encoding/json"
	"io"
	"maps"
	"slices"
	"strings"

	"example.com/scheduler/examples/internal/kube"
)

// Found is a pod that an earlier process has left.
type Found struct {
	Model string
	Takes map[string]int64 // as its Spec said
	pod   kube.Pod
}

// Found returns the pods that are there, once they are known or ctx ends. Those that have
// the names of their models' pods come first: others are copies that somebody has made.
func (c *Cluster) Found(ctx context.Context) ([]Found, error) {
	select {
	case <-c.synced:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []Found
	for _, pod := range c.seen {
		f := Found{Model: pod.Metadata.Annotations[annotationModel], pod: pod}
		json.Unmarshal([]byte(pod.Metadata.Annotations[annotationTakes]), &f.Takes) // Else it fits nowhere.
		all = append(all, f)
	}
	place := func(f Found) string {
		if name := f.pod.Metadata.Name; name != podName(c.name, f.Model) {
			return name
		}
		return " " + f.pod.Metadata.Name
	}
	slices.SortFunc(all, func(a, b Found) int { return strings.Compare(place(a), place(b)) })
	return all, nil
}

// Ready reports whether the cluster calls the pod ready.
func (f *Found) Ready() bool { return judge(&f.pod, "").ready }

// Is reports whether a pod that was made of s would be the same as f, and f is not about
// to end.
func (f *Found) Is(s Spec) bool {
	container, _, err := s.answers()
	return err == nil && judge(&f.pod, container).ended == "" &&
		f.pod.Metadata.Annotations[annotationSpec] == s.digest() && maps.Equal(f.Takes, s.Takes)
}

// Adopt makes f a pod of this process. S says what to do with it; if it is not like f, the
// pod is only good for being stopped.
func (c *Cluster) Adopt(f Found, s Spec, out io.Writer) *Pod {
	p := c.newPod(s, startOf(&f.pod), out)
	p.name = f.pod.Metadata.Name
	p.container, p.port, _ = s.answers()
	c.mu.Lock()
	c.started[p.id] = p
	latest, there := c.seen[p.name]
	if there && latest.Metadata.UID == f.pod.Metadata.UID { // It may have changed since it was found.
		p.see(&latest, false)
	} else {
		p.see(&f.pod, false)
		c.ending.Go(func() { c.confirm(p, f.pod.Metadata.UID) })
	}
	c.mu.Unlock()
	c.ending.Go(func() { c.own(&f.pod) })
	c.ending.Go(p.live)
	return p
}

// Collect deletes the pods that were neither started nor adopted, from now on. There are
// none, but for one whose creation the API had taken for failed.
func (c *Cluster) Collect() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.collects = true
	c.collectAll()
}

// collectAll deletes the pods that are nobody's. The caller holds c.mu.
func (c *Cluster) collectAll() {
	for _, pod := range c.seen {
		c.collect(&pod)
	}
}

// collect deletes a pod if it is nobody's. The caller holds c.mu.
func (c *Cluster) collect(pod *kube.Pod) {
	if !c.collects || !c.permit.isOpen() || c.owned(pod) != nil || pod.Metadata.DeletionTimestamp != nil {
		return
	}
	c.log.Warn("a pod that nobody has started is deleted", "pod", pod.Metadata.Name)
	uid, name := pod.Metadata.UID, pod.Metadata.Name
	c.ending.Go(func() {
		if err := c.remove(c.ctx, name, uid, int64(stopWait.Seconds())); err != nil && err != errGone && c.ctx.Err() == nil {
			c.log.Error("pod not deleted", "pod", name, "err", err)
		}
	})
}

// owned returns the start that a pod belongs to, nil if there is none. The caller holds
// c.mu.
func (c *Cluster) owned(pod *kube.Pod) *Pod {
	if p := c.started[startOf(pod)]; p != nil && p.name == pod.Metadata.Name {
		return p
	}
	for _, p := range c.started { // Somebody may have changed its annotations.
		if v, _ := p.known(); v.latest != nil && v.latest.Metadata.UID == pod.Metadata.UID {
			return p
		}
	}
	return nil
}

// own makes this process the owner of a pod, so that it does not end with its former one.
func (c *Cluster) own(pod *kube.Pod) {
	owners := []kube.OwnerReference{}
	if c.owner != nil {
		owners = append(owners, *c.owner)
	}
	if pod.Metadata.DeletionTimestamp != nil || slices.EqualFunc(pod.Metadata.OwnerReferences, owners, func(a, b kube.OwnerReference) bool { return a.UID == b.UID }) {
		return
	}
	patch := map[string]any{"metadata": map[string]any{"uid": pod.Metadata.UID, "ownerReferences": owners}}
	err := c.permit.do(c.ctx, func(ctx context.Context) error {
		return c.client.Patch(ctx, c.path(pod.Metadata.Name), patch, nil)
	})
	if err != nil && c.ctx.Err() == nil {
		c.log.Warn("pod not adopted: it may end with its former owner", "pod", pod.Metadata.Name, "err", err)
	}
}

// startOf returns which start of its model a pod is.
func startOf(pod *kube.Pod) string {
	return cmp.Or(pod.Metadata.Annotations[annotationStart], pod.Metadata.UID)
}
