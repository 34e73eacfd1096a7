package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	"example.com/scheduler/examples/internal/config"
	"example.com/scheduler/examples/internal/pods"
)

// podBackend is a model that is a pod of a cluster. It implements [backend].
type podBackend struct {
	cluster *pods.Cluster
	name    string
	cfg     *config.Model
	out     *output
	log     *slog.Logger
}

// podBackends returns the [backendFactory] of a proxy that has a cluster.
func podBackends(cluster *pods.Cluster) backendFactory {
	return func(name string, cfg *config.Model, out *output, log *slog.Logger) backend {
		if cfg.IsPod() {
			return &podBackend{cluster: cluster, name: name, cfg: cfg, out: out, log: log.With("model", name)}
		}
		return newBackend(name, cfg, out, log)
	}
}

// spec returns what the model's pod is made of.
func (b *podBackend) spec() (s pods.Spec, err error) {
	s = pods.Spec{Model: b.name, Port: b.cfg.Port, Takes: b.cfg.Takes()}
	if s.Template, err = b.cfg.PodTemplate(b.name); err != nil {
		return s, err
	}
	s.Service, err = b.cfg.ServiceName(b.name)
	return s, err
}

// start implements [backend].
func (b *podBackend) start(ctx context.Context) (instance, error) {
	i := b.newInstance()
	ctx, cancel := i.bound(ctx)
	defer cancel()
	s, err := b.spec()
	if err == nil {
		b.out.begin(b.log, "[starting a pod]")
		s.Answers = i.answers
		i.Pod, err = b.cluster.Start(ctx, s, b.out)
	}
	if err != nil {
		b.out.mark(fmt.Sprintf("[%v]", err))
		return nil, fmt.Errorf("model %q: %w", b.name, err)
	}
	go i.watch()
	return i, nil
}

// adopt makes an instance of a pod that an earlier proxy has left.
func (b *podBackend) adopt(f pods.Found) *podInstance {
	i := b.newInstance()
	s, err := b.spec()
	if err != nil {
		b.log.Warn("pod of another configuration", "err", err) // It can be stopped all the same.
	}
	s.Answers = i.answers
	b.out.begin(b.log, "[taking over a pod]")
	i.Pod = b.cluster.Adopt(f, s, b.out)
	go i.watch()
	return i
}

func (b *podBackend) newInstance() *podInstance {
	return &podInstance{podBackend: b, started: time.Now(), left: make(chan struct{}), gone: make(chan struct{})}
}

// podInstance is one pod of a model. It implements [leaver].
type podInstance struct {
	*podBackend
	*pods.Pod
	started time.Time
	left    chan struct{}
	gone    chan struct{}
	end     error // set before left is closed
}

var _ leaver = (*podInstance)(nil)

// url implements [instance].
func (i *podInstance) url() *url.URL { return i.URL() }

// leaving implements [leaver].
func (i *podInstance) leaving() <-chan struct{} { return i.left }

// exited implements [instance].
func (i *podInstance) exited() <-chan struct{} { return i.gone }

// err implements [instance].
func (i *podInstance) err() error {
	select {
	case <-i.left:
		return i.end
	default:
		return nil
	}
}

// bound bounds ctx by the time that a load may take.
func (i *podInstance) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	timeout := time.Duration(i.cfg.LoadTimeout)
	return context.WithDeadlineCause(ctx, i.started.Add(timeout), fmt.Errorf("not ready after %v", timeout))
}

// ready implements [instance]: first the cluster has to call the pod ready, then its
// health path has to answer here.
func (i *podInstance) ready(ctx context.Context) error {
	bounded, cancel := i.bound(ctx)
	defer cancel()
	err := i.Ready(bounded)
	if err == nil {
		err = endpoint{i.cfg, i.URL()}.poll(ctx, i.started, i.left)
	}
	if i.Err() != nil {
		<-i.left
		return i.end
	} else if err != nil {
		return fmt.Errorf("model %q: %w%s", i.name, err, i.out.said())
	}
	return nil
}

// answers asks the model whether it is healthy.
func (i *podInstance) answers(ctx context.Context) error { return endpoint{i.cfg, i.URL()}.probe(ctx) }

// stop implements [instance].
func (i *podInstance) stop(grace time.Duration) error {
	if err := i.Stop(grace); err != nil {
		return err
	}
	<-i.gone
	return nil
}

// watch waits for the end of the pod, and writes down why.
func (i *podInstance) watch() {
	<-i.Leaving()
	i.out.flush()
	i.end = fmt.Errorf("model %q: %w%s", i.name, i.Err(), i.out.said())
	i.out.mark(fmt.Sprintf("[%v]", i.Err()))
	close(i.left)
	<-i.Gone()
	close(i.gone)
}
