// Package pods runs models as pods of a Kubernetes cluster: one pod for each start of a
// model, of which it knows when it is ready, why it has ended, and when nothing is left of
// it. It is for one process at a time on the pods of one name; see [kube.Election].
package pods

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"example.com/scheduler/examples/internal/kube"
)

// Prefix begins the labels and annotations that say whose a pod is, and what it is.
const Prefix = "models.scheduler.example.com/"

const (
	labelProxy      = Prefix + "proxy"    // the name of the cluster's user
	labelModel      = Prefix + "model"    // the end of the pod's name, which fits into a label
	annotationModel = Prefix + "model"    // the model's name as it is
	annotationStart = Prefix + "start"    // which start of the model this is
	annotationSpec  = Prefix + "template" // digest of what the pod was made of
	annotationTakes = Prefix + "takes"    // what it takes of each pool, as JSON
)

// Cluster is the pods of one name in one namespace. [Open] makes one.
type Cluster struct {
	client *kube.Client
	name   string
	owner  *kube.OwnerReference // of the pods; nil: there is none
	log    *slog.Logger

	// Lost is how long a pod that was ready may be so no longer, and not answer either,
	// until it is given up. 30 s unless it is changed before the first start.
	Lost time.Duration

	permit  permit          // to change anything
	ctx     context.Context // of everything that the cluster is asked; ends with release
	release context.CancelCauseFunc
	synced  chan struct{} // closed once all pods are known

	mu       sync.Mutex
	started  map[string]*Pod     // by start, until they are gone
	seen     map[string]kube.Pod // by name: what there is, as far as is known
	changed  chan struct{}       // closed at the next change of seen
	collects bool                // Collect has been called

	ending sync.WaitGroup // what runs in the background
}

// Open begins to watch the pods of name. The caller calls Close at the end.
func Open(client *kube.Client, name string, owner *kube.OwnerReference, log *slog.Logger) *Cluster {
	c := &Cluster{
		client:  client,
		name:    name,
		owner:   owner,
		log:     log,
		Lost:    30 * time.Second,
		synced:  make(chan struct{}),
		started: make(map[string]*Pod),
		seen:    make(map[string]kube.Pod),
		changed: make(chan struct{}),
	}
	c.permit.grant()
	c.ctx, c.release = context.WithCancelCause(context.Background())
	c.ending.Go(func() {
		var once sync.Once
		kube.Watch(c.ctx, client, c.path(""), url.Values{"labelSelector": {labelProxy + "=" + name}}, kube.Handler[kube.Pod]{
			Put:    func(p kube.Pod) { c.see(&p, false) },
			Delete: func(p kube.Pod) { c.see(&p, true) },
			Synced: func() { once.Do(func() { close(c.synced) }) },
		})
	})
	return c
}

// Freeze stops every change of the cluster, at once, and lets further ones wait for Thaw.
// What there is, is still seen.
func (c *Cluster) Freeze() { c.permit.revoke() }

// Thaw ends a Freeze.
func (c *Cluster) Thaw() {
	c.permit.grant()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.collectAll()
}

// ErrReleased is wrapped by the errors of pods that were let go.
var ErrReleased = errors.New("it is no longer this proxy's")

// Release lets go of every pod: they stay as they are, and are as good as gone for those
// who use them. From then on the cluster is not asked for anything.
func (c *Cluster) Release() { c.release(ErrReleased) }

// IsReleased reports whether the pods were let go.
func (c *Cluster) IsReleased() bool { return c.ctx.Err() != nil }

// Close releases what is left, and waits until everything that is under way has ended.
// Start must not be called any more.
func (c *Cluster) Close() {
	c.Release()
	c.ending.Wait()
}

// path returns the path of a pod, or of all.
func (c *Cluster) path(pod string) string {
	path := "/api/v1/namespaces/" + url.PathEscape(c.client.Namespace()) + "/pods"
	if pod != "" {
		path += "/" + url.PathEscape(pod)
	}
	return path
}

// see takes down what the API says of a pod.
func (c *Cluster) see(pod *kube.Pod, gone bool) {
	name := pod.Metadata.Name
	c.mu.Lock()
	defer c.mu.Unlock()
	if gone {
		delete(c.seen, name)
	} else {
		c.seen[name] = *pod
	}
	close(c.changed)
	c.changed = make(chan struct{})
	switch p := c.owned(pod); {
	case p != nil && gone:
		c.ending.Go(func() { c.confirm(p, pod.Metadata.UID) })
	case p != nil:
		p.see(pod, false)
	case !gone:
		c.collect(pod)
	}
}

// remove asks the API to delete a pod within some seconds, and returns errGone if there
// is none. That it has been asked does not mean that the pod is gone.
//
// The seconds are never 0: the API would forget the pod before its node has ended it, and
// its memory would be given away while it is still taken.
func (c *Cluster) remove(ctx context.Context, name, uid string, seconds int64) error {
	seconds = max(seconds, 1)
	for begun := time.Now(); ; {
		err := c.permit.do(ctx, func(ctx context.Context) error {
			return c.client.Delete(ctx, c.path(name), kube.DeleteOptions{GracePeriodSeconds: &seconds, UID: uid})
		})
		pause := conflictPause
		switch {
		case isAbsent(err):
			return errGone
		case kube.IsCode(err, http.StatusForbidden) && time.Since(begun) < stopWait:
			pause = forbiddenPause // An API server that has just started does not know yet what is allowed.
		case !kube.IsCode(err, http.StatusConflict):
			return err
		default:
			if err := c.find(ctx, name, uid); err != nil { // That name is another pod's now.
				return err
			}
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}
}

// register makes p known before it can be seen.
func (c *Cluster) register(p *Pod) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.started[p.id] = p
}

// forget is called once p is gone.
func (c *Cluster) forget(p *Pod) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.started, p.id)
}

// create makes the pod of p. If its name is taken by what an earlier start has left, that
// is deleted first, and has to be gone. After an error, none says that there is no pod.
func (c *Cluster) create(ctx context.Context, p *Pod, manifest any) (none bool, err error) {
	for {
		var pod kube.Pod
		err := c.permit.do(ctx, func(ctx context.Context) error {
			return c.client.Create(ctx, c.path("")+"?fieldValidation=Strict", manifest, &pod) // A typing error in the template is to be seen.
		})
		if err == nil {
			p.meet(&pod)
			return false, nil
		}
		// Even a refusal does not say that there is no pod: an earlier try may have made
		// it, and used up what was left of a quota.
		mine, unclear := c.clear(ctx, p)
		if mine {
			return false, nil
		}
		none := unclear == nil || errors.Is(unclear, errForeign)
		if !kube.IsCode(err, http.StatusConflict) {
			return none && errors.As(err, new(*kube.Error)), err
		}
		if unclear != nil {
			return none, unclear
		}
	}
}

// errForeign says whose the name of a pod is.
var errForeign = errors.New("is there, and is not one of")

// clear makes room for the pod of p, whose name is taken. Mine: by itself, because an
// answer of the API was lost.
func (c *Cluster) clear(ctx context.Context, p *Pod) (mine bool, err error) {
	changed, late := c.change(), time.Second // It may have changed before it was looked at.
	var old kube.Pod
	err = c.client.Get(ctx, c.path(p.name), &old)
	switch {
	case isAbsent(err):
		late = conflictPause // It has just gone, or the conflict is another one.
	case err != nil:
		return false, err
	case old.Metadata.Annotations[annotationStart] == p.id:
		p.meet(&old)
		return true, nil
	case old.Metadata.Labels[labelProxy] != c.name:
		return false, fmt.Errorf("pod %s %w %s's", p.name, errForeign, c.name)
	case old.Metadata.DeletionTimestamp == nil:
		if err := c.remove(ctx, p.name, old.Metadata.UID, 1); err != nil && err != errGone {
			return false, err
		}
	}
	select {
	case <-changed:
	case <-time.After(late):
	case <-ctx.Done():
		return false, fmt.Errorf("%w: pod %s of an earlier start is not gone", context.Cause(ctx), p.name)
	}
	return false, nil
}

// change returns a channel that is closed when something has changed.
func (c *Cluster) change() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}
