package pods

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/url"
	"strconv"
	"sync"
	"time"

	"example.com/scheduler/examples/internal/kube"
)

const (
	stopWait = 30 * time.Second // how long a pod may take to be gone after its grace period
	logWait  = 3 * time.Second  // how long the last lines of a pod may take
)

// errNotSeen is what a pod waits for at first.
var errNotSeen = errors.New("the API has not shown it yet")

// Pod is one start of a model, until nothing is left of it. Its methods may be called by
// several goroutines at once.
type Pod struct {
	cluster   *Cluster
	spec      Spec
	name      string
	id        string // of this start
	container string // that is the model
	port      int
	out       io.Writer // for what it prints

	trouble error // why it may not have been made

	mu      sync.Mutex
	view    view
	changed chan struct{} // closed at the next change of view

	left chan struct{} // closed when it can serve no more
	gone chan struct{} // closed when nothing is left of it
	end  error         // why; set before left is closed

	// live's own:
	printed chan struct{} // closed once all it has printed is in out; nil: it has not begun
	doubted time.Time     // since when it is ready no more and has not answered; zero: it is, or has
}

// Start makes the pod of a model and returns without waiting until it is ready. An error
// means that there is none. If the API does not answer until ctx ends, there may be one:
// then Ready returns an error, and Stop finds out.
func (c *Cluster) Start(ctx context.Context, s Spec, out io.Writer) (*Pod, error) {
	p := c.newPod(s, rand.Text(), out)
	var err error
	if p.container, p.port, err = s.answers(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(c.ctx, func() { cancel(context.Cause(c.ctx)) })()
	c.register(p)
	none, err := c.create(ctx, p, s.manifest(c, p.name, p.id))
	if none && ctx.Err() == nil {
		c.forget(p)
		return nil, err
	}
	p.trouble = err
	c.ending.Go(p.live)
	return p, nil
}

func (c *Cluster) newPod(s Spec, id string, out io.Writer) *Pod {
	return &Pod{
		cluster: c,
		spec:    s,
		name:    podName(c.name, s.Model),
		id:      id,
		out:     out,
		changed: make(chan struct{}),
		left:    make(chan struct{}),
		gone:    make(chan struct{}),
	}
}

// Name returns the pod's name.
func (p *Pod) Name() string { return p.name }

// URL returns where the model answers, an empty one as long as that is not known.
func (p *Pod) URL() *url.URL {
	v, _ := p.known()
	return cmp.Or(v.address, new(url.URL))
}

// Leaving is closed when the pod can serve no more, though it may be there still.
func (p *Pod) Leaving() <-chan struct{} { return p.left }

// Gone is closed when the API says that nothing is left of the pod.
func (p *Pod) Gone() <-chan struct{} { return p.gone }

// Err returns why the pod leaves or is gone, and nil before that.
func (p *Pod) Err() error {
	select {
	case <-p.left:
		return p.end
	default:
		return nil
	}
}

// Ready waits until the cluster calls the pod ready. It returns an error if the pod ends
// before that, or ctx: then the error says what the pod has waited for.
func (p *Pod) Ready(ctx context.Context) error {
	for {
		known, changed := p.known()
		waiting := fmt.Sprint(cmp.Or(p.trouble, errNotSeen))
		if known.latest != nil {
			v := judge(known.latest, p.container)
			if v.ready {
				return p.locate(ctx, known.latest)
			}
			waiting = v.waiting
		}
		select {
		case <-changed:
		case <-p.left:
			return p.end
		case <-ctx.Done():
			return fmt.Errorf("%w: pod %s: %s", context.Cause(ctx), p.name, waiting)
		}
	}
}

// locate finds out where a pod answers that is ready.
func (p *Pod) locate(ctx context.Context, latest *kube.Pod) error {
	address := &url.URL{Scheme: "http", Host: net.JoinHostPort(latest.Status.PodIP, strconv.Itoa(p.port))}
	if p.spec.Service != "" {
		port, err := p.cluster.servicePort(ctx, p.spec.Service, p.spec.Port)
		if err != nil {
			return fmt.Errorf("service %s: %w", p.spec.Service, err)
		}
		address.Host = net.JoinHostPort(p.spec.Service+"."+p.cluster.client.Namespace()+".svc", strconv.Itoa(port))
	}
	p.change(func(v *view) { v.address = address })
	return nil
}

// servicePort returns the port of a service that has the name of a container's port, or
// its only one.
func (c *Cluster) servicePort(ctx context.Context, name, port string) (int, error) {
	var s kube.Service
	if err := c.client.Get(ctx, "/api/v1/namespaces/"+url.PathEscape(c.client.Namespace())+"/services/"+url.PathEscape(name), &s); err != nil {
		return 0, err
	}
	for _, p := range s.Spec.Ports {
		if p.Name == port && port != "" || len(s.Spec.Ports) == 1 {
			return p.Port, nil
		}
	}
	return 0, fmt.Errorf("it has no port %q", port)
}

// Stop deletes the pod and waits until it is gone: for as long as grace, which is what
// the model has to end by itself, and half a minute. It returns an error if it is there
// still. 0 or less: by force at once.
func (p *Pod) Stop(grace time.Duration) error {
	p.change(func(v *view) { v.asked = true })
	ctx, cancel := context.WithTimeout(p.cluster.ctx, max(grace, 0)+stopWait)
	defer cancel()
	err := p.remove(ctx, int64(math.Ceil(grace.Seconds())))
	if err == errGone {
		p.see(nil, true)
	} else if err != nil && p.cluster.ctx.Err() == nil {
		return fmt.Errorf("pod %s: %w", p.name, err)
	}
	select {
	case <-p.gone:
		return nil
	case <-ctx.Done():
	}
	if p.cluster.ctx.Err() != nil {
		return nil // It is not ours to stop any more.
	}
	where := "the API has not said that it is"
	if v, _ := p.known(); v.latest != nil {
		where = fmt.Sprintf("node %q has not said that it has ended", v.latest.Spec.NodeName)
	}
	return fmt.Errorf("pod %s is not gone %v after it was deleted: %s", p.name, max(grace, 0)+stopWait, where)
}

// remove asks the API to delete the pod: this very one, even if it is not known yet
// whether there is one.
func (p *Pod) remove(ctx context.Context, seconds int64) error {
	v, _ := p.known()
	pod := v.latest
	if pod == nil {
		pod = new(kube.Pod)
		err := p.cluster.client.Get(ctx, p.cluster.path(p.name), pod)
		if isAbsent(err) || err == nil && pod.Metadata.Annotations[annotationStart] != p.id {
			return errGone
		} else if err != nil {
			return err
		}
	}
	return p.cluster.remove(ctx, p.name, pod.Metadata.UID, seconds)
}

// view is what is known of a pod at one moment.
type view struct {
	latest  *kube.Pod // nil: not seen yet
	over    bool      // the API has said that it is gone
	asked   bool      // to stop
	address *url.URL  // nil: it has not been ready yet
}

// see takes down what the API says of the pod.
func (p *Pod) see(pod *kube.Pod, over bool) {
	p.change(func(v *view) {
		if pod != nil {
			v.latest = pod
		}
		v.over = v.over || over
	})
}

// meet takes down what the answer to a request says of the pod. If the watch has told of
// it already, that is at least as new: the answer may have come late.
func (p *Pod) meet(pod *kube.Pod) {
	p.change(func(v *view) { v.latest = cmp.Or(v.latest, pod) })
}

// change changes what is known of the pod.
func (p *Pod) change(how func(*view)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	how(&p.view)
	close(p.changed)
	p.changed = make(chan struct{})
}

// known returns what is known of the pod, and a channel that is closed when that changes.
func (p *Pod) known() (v view, changed <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.view, p.changed
}
