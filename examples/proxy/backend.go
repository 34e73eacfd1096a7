package main

import (
	"context"
	"log/slog"
	"net/url"
	"time"

	"example.com/scheduler/examples/internal/config"
)

// backend is what a model is made of: a way to start it. A local process is the
// first kind ([process]), a model elsewhere the second ([remote]), a pod of a cluster
// the third ([pod]).
type backend interface {
	// start begins one start of the model and returns without waiting until it is
	// ready. An error means that nothing is left of the try. It is called by one
	// goroutine at a time, and only while no earlier instance is left.
	start(ctx context.Context) (instance, error)
}

// backendFactory makes the backend of a model.
type backendFactory func(name string, cfg *config.Model, out *output, log *slog.Logger) backend

// instance is one start of a model, until its end. Its methods may be called by
// several goroutines at once.
type instance interface {
	// url is where it answers: the same from ready on. Before that it may be empty.
	url() *url.URL
	// ready waits until the instance answers, and returns nil. It returns an error
	// if the instance ends before that, takes longer than it may, or ctx ends; the
	// instance is then the caller's to stop.
	ready(ctx context.Context) error
	// stop asks the instance to end, waits for as long as grace, then ends it by
	// force. It returns nil when nothing is left of it, also if it had ended
	// before, and an error if something is left all the same. 0 or less: by force
	// at once.
	stop(grace time.Duration) error
	// exited is closed when nothing is left of the instance: its memory is free.
	exited() <-chan struct{}
	// err says how it ended, with the model's name and what it said last. It is nil
	// while exited is open, and it is no leaver that leaves.
	err() error
}

// leaver is an instance that can come to its end without being asked while something is
// left of it for some time, as a pod that its node evicts.
type leaver interface {
	instance
	// leaving is closed when it can serve no more, at the latest before exited is.
	leaving() <-chan struct{}
}

// leaving returns what is closed when inst can serve no more.
func leaving(inst instance) <-chan struct{} {
	if l, ok := inst.(leaver); ok {
		return l.leaving()
	}
	return inst.exited()
}
