package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"example.com/scheduler/examples/internal/config"
	"example.com/scheduler/examples/internal/kube"
)

// replica is one of several proxies on the same pods. The one that has the lease serves;
// all others stand by. It implements [service].
type replica struct {
	address  net.Addr
	log      *slog.Logger
	client   *kube.Client
	election *kube.Election
	keepPods bool            // a graceful end leaves them; as it was at the start
	compete  context.Context // for the lease
	resign   context.CancelFunc
	retired  chan struct{}  // closed when it competes no more
	holding  sync.WaitGroup // a term without the lease, until that is back or the term is over

	mu    sync.Mutex
	cfg   *config.Config // as it is in the file
	term  *term          // nil: it stands by
	ended bool           // shutdown has begun
}

// newReplica makes a replica for callers that reach it at address, and has it compete for
// the lease.
func newReplica(cfg *config.Config, address net.Addr, log *slog.Logger) (*replica, error) {
	k := cfg.Kubernetes
	client, err := kube.New(kube.Config{
		Server:     k.Server,
		CAFile:     k.CAFile,
		TokenFile:  k.TokenFile,
		ClientCert: k.ClientCert,
		ClientKey:  k.ClientKey,
		Namespace:  k.Namespace,
	}, log)
	if err != nil {
		return nil, fmt.Errorf("kubernetes: %w", err)
	}
	r := &replica{address: address, log: log, client: client, cfg: cfg, keepPods: k.KeepPods, retired: make(chan struct{})}
	r.election = &kube.Election{Client: client, Name: k.Name, Identity: identity(), Log: log}
	r.compete, r.resign = context.WithCancel(context.Background())
	go func() {
		defer close(r.retired)
		r.election.Run(r.compete, r.lead)
	}()
	return r, nil
}

// identity returns a name that no other replica has. In a pod it stays the same when the
// container starts anew, so that it has its lease back at once.
func identity() string {
	machine, _ := os.Hostname()
	name, uid := os.Getenv("POD_NAME"), os.Getenv("POD_UID")
	if name == "" {
		uid = ""
	}
	return cmp.Or(name, machine, "proxy") + "-" + cmp.Or(uid, strings.ToLower(rand.Text()[:8]))
}

// config implements [service].
func (r *replica) config() *config.Config {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cfg
}

// present returns the present term, nil if there is none.
func (r *replica) present() *term {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.term
}

// ServeHTTP implements [service].
func (r *replica) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if t := r.present(); t != nil {
		t.ServeHTTP(w, req)
		return
	}
	if req.URL.Path == "/health" && req.Method == http.MethodGet {
		fmt.Fprintln(w, "ok")
		return
	}
	why := "nobody is known to have the lease"
	if holder := r.election.Holder(); holder == r.election.Identity {
		why = "it is taking over, or cannot reach the API"
	} else if holder != "" {
		why = fmt.Sprintf("%q has the lease", holder)
	}
	standby(w, req, fmt.Errorf("%w: %s", errStandby, why))
}

// standby answers with the error of a replica that stands by.
func standby(w http.ResponseWriter, r *http.Request, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Retry-After", "1")
	w.WriteHeader(answerTo(err).status)
	w.Write(append(errorBody(r, err), '\n'))
}

// lead serves for as long as the replica has the lease, or until it is shut down.
func (r *replica) lead(ctx context.Context) {
	t := r.present()
	if t == nil {
		r.holding.Wait() // The next term does not know what is in flight in an earlier one, and could stop its model.
	}
	if t == nil || !r.resume(ctx, t) {
		var err error
		if t, err = r.begin(ctx); err != nil {
			if ctx.Err() == nil {
				r.log.Error("not taken over", "err", err)
			}
			return
		}
		if !r.install(t) {
			r.lose(t)
			return
		}
		go t.adjust() // What has changed meanwhile.
	}
	select {
	case <-ctx.Done():
	case <-t.over:
	}
	switch {
	case !errors.Is(context.Cause(ctx), kube.ErrLeaseLost):
		<-t.over
	case r.hold(t):
	default:
		r.lose(t)
	}
}

// hold goes on serving with what is ready although the lease is lost, until it is known
// that another proxy has it. As a rule nobody has: it could not be renewed because the API
// server is down, and that is no reason to stop what needs it for nothing. It is false if
// the replica is being shut down.
func (r *replica) hold(t *term) bool {
	held := make(chan struct{})
	r.mu.Lock()
	ended := r.ended
	t.held = held
	r.mu.Unlock()
	if ended {
		return false
	}
	r.log.Error("the lease is lost: until it is back, models that are ready are served, and none is loaded or stopped")
	t.freeze(true)
	r.holding.Go(func() {
		for r.election.Holder() == r.election.Identity {
			select {
			case <-held:
				return
			case <-t.over:
				return
			case <-time.After(time.Second):
			}
		}
		r.log.Error("stands by", "holder", r.election.Holder())
		r.lose(t)
	})
	return true
}

// resume goes on with a term in which the lease was lost for a while. It is false, and the
// term is lost, if another proxy had it meanwhile.
func (r *replica) resume(ctx context.Context, t *term) bool {
	r.mu.Lock()
	same := r.term == t && t.reign == r.election.Reign()
	if same {
		close(t.held)
		t.held = nil
	}
	r.mu.Unlock()
	if !same {
		r.lose(t)
		return false
	}
	r.log.Info("the lease is back")
	t.guard(ctx)
	t.cluster.Thaw()
	t.freeze(false)
	return true
}

// lose ends a term without touching the pods, which may be another proxy's by now. What is
// in flight may finish.
func (r *replica) lose(t *term) {
	r.mu.Lock()
	if r.term == t {
		r.term = nil
	}
	r.mu.Unlock()
	t.letGo()
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(r.config().DrainTimeout))
	defer cancel()
	if err := t.standalone.shutdown(ctx); err != nil {
		r.log.Warn("not everything has ended", "err", err)
	}
	t.close()
}

// owner returns what owns the pods that this proxy makes: the pod in which it runs or, if
// its own pods outlive it, what controls that one. It is nil if there is no such thing.
//
// The collector of garbage deletes what belonged to a pod that is gone, and would be
// quicker than the next proxy: pods that are kept must not be this one's.
func (r *replica) owner(ctx context.Context) *kube.OwnerReference {
	name, uid := os.Getenv("POD_NAME"), os.Getenv("POD_UID")
	if name == "" || uid == "" {
		return nil
	}
	var pod kube.Pod
	err := r.client.Get(ctx, "/api/v1/namespaces/"+url.PathEscape(r.client.Namespace())+"/pods/"+url.PathEscape(name), &pod)
	if err == nil && pod.Metadata.UID != uid {
		err = errors.New("it is another one")
	}
	if err != nil { // An owner that is not there would have its pods deleted at once.
		r.log.Warn("pods will have no owner: POD_NAME and POD_UID name no pod of their namespace", "pod", name, "err", err)
		return nil
	}
	if r.keepPods {
		return controllerOf(&pod)
	}
	return &kube.OwnerReference{APIVersion: "v1", Kind: "Pod", Name: name, UID: uid}
}

// controllerOf returns what controls a pod, such as the ReplicaSet of a Deployment, as an
// owner that controls nothing. It is nil if nothing does.
func controllerOf(pod *kube.Pod) *kube.OwnerReference {
	for _, o := range pod.Metadata.OwnerReferences {
		if o.Controller != nil && *o.Controller {
			return &kube.OwnerReference{APIVersion: o.APIVersion, Kind: o.Kind, Name: o.Name, UID: o.UID}
		}
	}
	return nil
}

// install makes t the present term. It is false if the replica is being shut down.
func (r *replica) install(t *term) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return false
	}
	r.term = t
	return true
}

// reload implements [service].
func (r *replica) reload(cfg *config.Config) error {
	r.mu.Lock()
	before, t := r.cfg, r.term
	r.cfg = cfg
	r.mu.Unlock()
	if t == nil {
		return nil
	}
	err := t.apply()
	if err != nil {
		r.mu.Lock()
		r.cfg = before
		r.mu.Unlock()
	}
	return err
}

// shutdown implements [service].
func (r *replica) shutdown(ctx context.Context) (err error) {
	r.mu.Lock()
	r.ended = true
	t := r.term
	lost := t != nil && t.held != nil
	r.mu.Unlock()
	if t != nil {
		if r.keepPods || lost {
			t.letGo()
		}
		err = t.standalone.shutdown(ctx)
		if err == nil && !r.keepPods && t.cluster.IsReleased() {
			err = errors.New("the lease is lost, and the pods are left to the next proxy")
		}
	}
	r.resign()
	if t != nil {
		t.close()
	}
	<-r.retired
	r.client.Close()
	return err
}

// kill implements [service].
func (r *replica) kill() {
	t := r.present()
	if t == nil {
		return
	}
	t.kill()
	r.mu.Lock()
	defer r.mu.Unlock()
	if t.held != nil { // Its pods cannot be ended, and nobody is to wait for that.
		t.cluster.Release()
	}
}
