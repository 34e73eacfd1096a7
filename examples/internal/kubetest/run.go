package kubetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Defaults of the annotations.
const (
	defaultLoad = 50 * time.Millisecond
	defaultStop = 20 * time.Millisecond
)

// Pauses of a kubelet, which are 10 s and up to 5 min in truth.
const (
	pullBackOff     = 100 * time.Millisecond
	restartBackOff  = 200 * time.Millisecond
	longestBackOff  = 5 * time.Second
	terminatedByOS  = 137 // the exit code after SIGKILL
	badImage        = "bad-image"
	reasonOOMKilled = "OOMKilled"
)

// run is a pod that its kubelet runs.
type run struct {
	cluster  *Cluster
	object   *podObject      // as it was at the start
	ctx      context.Context // ends when nothing is to be left of the pod
	cancel   context.CancelFunc
	api      context.Context // ends when the kubelet no longer reaches the API server
	cutOff   context.CancelFunc
	wake     chan struct{}
	rejected object        // the status, if the node does not take the pod; else nil
	over     chan struct{} // closed when the pod has ended, and this is reported
	started  time.Time
	ip       string
	restarts int
	code     int    // the exit code of the container before
	last     object // the lastState of the container; nil: there was none

	mu       sync.Mutex
	model    *model
	out      *output
	previous *output
	waiting  string    // why there is no output
	graceEnd time.Time // zero: nobody has deleted the pod
	lost     bool      // the machine is
	order    *ending   // what is to happen to the container
}

// ending is how a container ends, other than by the deletion of its pod.
type ending struct {
	code    int
	reason  string
	evicted string        // the message of an eviction; else ""
	done    chan struct{} // closed when it is reported
}

// Why a container stops.
var (
	errKilled  = errors.New("killed")
	errLost    = errors.New("machine lost")
	errDeleted = errors.New("deleted")
	errOrdered = errors.New("ordered")
	errEnded   = errors.New("ended for good")
)

// runPods starts what the nodes are to run, and stops what they are not to.
func (c *Cluster) runPods() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.pods {
		n := c.find(p.object.Spec.NodeName)
		if n == nil || !n.alive {
			continue
		}
		start := p.run == nil && !p.object.ended()
		if start {
			p.run = c.newRun(p, n)
		}
		if p.run != nil && p.object.terminating() {
			p.run.stop(time.Duration(p.object.Metadata.DeletionGracePeriodSeconds) * time.Second)
		}
		if start {
			c.work.Go(p.run.life)
		}
	}
}

// newRun returns what runs a pod. c.mu is held.
func (c *Cluster) newRun(p *pod, n *node) *run {
	r := &run{
		cluster: c, object: p.object, wake: make(chan struct{}, 1), waiting: "ContainerCreating",
		started: time.Now(), over: make(chan struct{}),
	}
	if p.bound == "" { // The scheduler has not been asked.
		r.rejected = c.reject(n, p)
	}
	r.ctx, r.cancel = context.WithCancel(c.ctx)
	r.api, r.cutOff = context.WithCancel(r.ctx)
	return r
}

// reject returns the status of a pod that a kubelet does not take; nil: it does.
func (c *Cluster) reject(n *node, p *pod) object {
	if !p.object.matches(n.Name, n.Labels) {
		return object{"phase": "Failed", "reason": "NodeAffinity", "message": "Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"}
	}
	for _, name := range c.lacking(n, p) {
		return object{"phase": "Failed", "reason": "OutOf" + name, "message": fmt.Sprintf("Pod was rejected: Node didn't have enough resource: %s, requested: %s, capacity: %s",
			name, amount(p.object.requests()[name]), amount(n.allocatable[name]))}
	}
	return nil
}

// life is the life of the pod. What it has printed is kept until the pod is gone.
func (r *run) life() {
	defer r.cancel()
	err := r.why()
	if err == nil {
		err = r.admit()
	}
	for err == nil {
		err = r.container()
	}
	if errors.Is(err, errDeleted) {
		r.finish()
	}
	close(r.over)
	// The API server deletes a pod that has ended by itself, unless it was deleted just
	// before it ended.
	if errors.Is(err, errEnded) && errors.Is(r.sleep(-1), errDeleted) {
		r.deleteObject()
	}
	<-r.ctx.Done()
	r.close()
}

// admit reports a pod that cannot be run, and then waits for its end.
func (r *run) admit() error {
	if r.rejected != nil {
		r.post(r.rejected)
		return errEnded
	}
	for _, c := range slices.Concat(r.object.Spec.InitContainers, r.object.Spec.Containers) {
		if strings.Contains(c.Image, badImage) {
			return r.failToPull(c.Image)
		}
	}
	return nil
}

// failToPull tries to pull an image that cannot be had, until the pod ends.
func (r *run) failToPull(image string) error {
	r.change(func() { r.waiting = "trying and failing to pull image" })
	failure := fmt.Sprintf("failed to pull and unpack image %q: not found", image)
	r.report(report{phase: "Pending", state: waiting("ErrImagePull", failure)})
	if err := r.sleep(pullBackOff); err != nil {
		return err
	}
	r.report(report{phase: "Pending", state: waiting("ImagePullBackOff", fmt.Sprintf("Back-off pulling image %q: ErrImagePull: %s", image, failure))})
	return r.sleep(-1)
}

// container runs the container once. It returns nil if it is to be started again.
func (r *run) container() error {
	if err := r.startModel(); err != nil {
		r.cluster.t.Errorf("pod %s: %v", r.object.Metadata.Name, err)
		return errEnded
	}
	running := object{"running": object{"startedAt": now()}}
	r.report(report{phase: "Running", state: running})
	err := r.sleep(r.duration(LoadAnnotation, defaultLoad))
	if err == nil {
		err = r.loaded(running)
	}
	if errors.Is(err, errOrdered) {
		return r.ended()
	}
	return err
}

// loaded ends the load, in the way that the pod asks for, and returns why the container
// is to stop.
func (r *run) loaded(running object) error {
	switch r.object.Metadata.Annotations[FailAnnotation] {
	case "exit":
		r.model.log.add("fatal: cannot load")
		r.fail(ending{code: 1, reason: "Error"})
	case "oom":
		r.fail(ending{code: terminatedByOS, reason: reasonOOMKilled})
	case "never":
	default:
		r.model.load()
		r.report(report{phase: "Running", state: running, ready: true})
	}
	return r.sleep(-1)
}

// startModel starts the server, at the pod's address.
func (r *run) startModel() error {
	out := newOutput()
	m, err := r.listen(out)
	if err != nil {
		return err
	}
	r.change(func() {
		r.model, r.out, r.waiting = m, out, ""
		if r.lost {
			m.freeze()
		}
	})
	return nil
}

// addresses are those that pods have had, counted from a random start: several
// programs may do this at once.
var addresses atomic.Uint32

func init() { addresses.Store(rand.Uint32()) }

// listen starts the server, and chooses the pod's address if it has none yet.
func (r *run) listen(out *output) (*model, error) {
	o := r.object
	name, port := o.model(), o.port()
	for try := 0; ; try++ {
		ip := r.ip
		if ip == "" {
			n := addresses.Add(1)
			ip = fmt.Sprintf("127.%d.%d.%d", 1+n>>16%254, n>>8%256, 1+n%254)
		}
		addr := ""
		if port != 0 {
			addr = net.JoinHostPort(ip, strconv.Itoa(port))
		}
		m, err := newModel(name, o.Metadata.Name, addr, out)
		if err == nil {
			r.ip = ip
			return m, nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) || try == 100 {
			return nil, err
		}
	}
}

// ended ends the container as ordered, and returns nil if it is to be started again.
func (r *run) ended() error {
	r.mu.Lock()
	e := r.order
	r.mu.Unlock()
	r.close()
	again := r.reportEnd(e)
	r.change(func() { r.model, r.order, r.previous = nil, nil, r.out })
	close(e.done)
	if !again {
		return errEnded
	}
	pause := r.backOff()
	r.restarts++
	return r.sleep(pause)
}

// reportEnd reports how the container has ended, and returns whether it is to be
// started again.
func (r *run) reportEnd(e *ending) bool {
	state := terminated(e.code, e.reason)
	policy := r.object.Spec.RestartPolicy
	switch {
	case e.evicted != "":
		r.report(report{phase: "Failed", reason: "Evicted", message: e.evicted, state: state})
		return false
	case policy == "Never" || policy == "OnFailure" && e.code == 0:
		r.report(report{phase: phaseOf(e.code), state: state})
		return false
	}
	r.last, r.code = state, e.code
	r.report(report{phase: "Running", state: waiting("CrashLoopBackOff", fmt.Sprintf("back-off %v restarting failed container", r.backOff()))})
	return true
}

// backOff returns how long a container that has ended waits for its next start.
func (r *run) backOff() time.Duration {
	return min(restartBackOff<<min(r.restarts, 10), longestBackOff)
}

// finish ends a pod that has been deleted: the container has the grace period to stop,
// then the object is deleted for good.
func (r *run) finish() {
	code := r.stopModel()
	if code < 0 {
		return // The machine is lost, or the object is gone.
	}
	if out, _ := r.outputOf(false); out != nil {
		r.report(report{phase: phaseOf(code), state: terminated(code, reasonOf(code))})
	}
	r.deleteObject()
}

// deleteObject deletes the pod for good.
func (r *run) deleteObject() {
	r.cluster.deletePod(r.api, r.object.Metadata.Name, r.object.Metadata.UID, 0)
}

// stopModel asks the model to stop, and kills it after the grace period. It returns the
// exit code, or -1 if there is nobody left to report it.
func (r *run) stopModel() int {
	r.mu.Lock()
	m := r.model
	r.mu.Unlock()
	if m == nil {
		return r.code
	}
	stopped := m.stop(r.duration(StopAnnotation, defaultStop))
	for {
		r.mu.Lock()
		left, lost := time.Until(r.graceEnd), r.lost
		r.mu.Unlock()
		if lost {
			return -1
		}
		timer := time.NewTimer(left)
		select {
		case <-stopped:
			m.log.add("stopped")
			r.close()
			return 0
		case <-timer.C:
			r.close()
			return terminatedByOS
		case <-r.wake: // The grace period may have become shorter.
			timer.Stop()
		case <-r.ctx.Done():
			return -1
		}
	}
}

// close ends the server, if there is one.
func (r *run) close() {
	r.mu.Lock()
	m := r.model
	r.mu.Unlock()
	if m != nil {
		m.close()
		m.log.end()
	}
}

// duration returns what an annotation says.
func (r *run) duration(annotation string, otherwise time.Duration) time.Duration {
	text, ok := r.object.Metadata.Annotations[annotation]
	if !ok {
		return otherwise
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		r.cluster.t.Errorf("pod %s: annotation %s: %v", r.object.Metadata.Name, annotation, err)
	}
	return d
}
