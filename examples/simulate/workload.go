package main

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// workload is the models there are and the requests that come for them.
type workload struct {
	name    string
	about   string // one sentence
	models  []model
	sources []source
	policy  policy
}

// model is a model as it behaves, apart from what is asked of it.
type model struct {
	name     string
	load     time.Duration // from the start of its swap until it is ready; stopping others is included
	service  time.Duration // of one request, on average
	places   int           // how many requests it serves at full speed at the same time
	capacity int           // scheduler.Limits.Capacity
	priority int           // of its requests
	shared   bool          // further requests share the places; otherwise they wait
	law      law           // of service times
	loadLaw  law
}

// law is how random times are spread around their mean.
type law int

const (
	fixed law = iota
	exponential
)

// source is where requests come from. In an open loop they come at random, at a rate. In
// a closed loop there is a number of callers, and each comes back after it was answered.
// A trace says when each request comes.
type source struct {
	chain    []string      // the models that a caller asks, one after another
	tenant   string        // whose requests they are
	priority int           // added to the model's
	rate     float64       // of an open loop, per second
	burst    int           // how many requests come at a time; 0: 1
	within   time.Duration // the time in which those of a burst come
	callers  int           // of a closed loop
	think    time.Duration // how long they stay away, on average; 0: not at all
	batch    int           // so many requests come at once, at a time
	at       time.Duration // that time
	timeout  time.Duration // how long a caller waits before it leaves; 0: forever
	back     time.Duration // after how long a caller that has left comes back; 0: never, in an open loop
	arrivals []arrival     // of a trace
}

// arrival is one request of a trace.
type arrival struct {
	at      time.Duration
	service time.Duration
	model   int32 // index in workload.models
}

// Bounds of what can be simulated, so that no sum of times overflows.
const (
	maxModels   = 10_000
	maxName     = 200 // bytes
	maxTime     = 10 * 365 * 24 * time.Hour
	maxDuration = 30 * 24 * time.Hour // of a load, a service or a wait
	maxRate     = 1e5                 // requests per second
	maxCount    = 1_000_000           // callers, places and the like
)

// check returns an error for a workload that cannot be simulated.
func (w *workload) check() error {
	known := make(map[string]bool)
	if len(w.models) == 0 {
		return errors.New("there is no model")
	}
	if len(w.models) > maxModels {
		return fmt.Errorf("there are %d models; at most %d are possible", len(w.models), maxModels)
	}
	for i := range w.models {
		m := &w.models[i]
		if known[m.name] {
			return fmt.Errorf("two models are called %q", m.name)
		}
		known[m.name] = true
		if err := m.check(); err != nil {
			return fmt.Errorf("model %q: %w", m.name, err)
		}
	}
	for i := range w.sources {
		if err := w.sources[i].check(known); err != nil {
			return err
		}
	}
	return nil
}

func (m *model) check() error {
	switch {
	case m.name == "":
		return errors.New("the name is empty")
	case len(m.name) > maxName:
		return fmt.Errorf("the name is longer than %d bytes", maxName)
	case m.load < 0 || m.load > maxDuration:
		return fmt.Errorf("a load of %v; want 0s to %v", m.load, maxDuration)
	case m.service < 0 || m.service > maxDuration:
		return fmt.Errorf("a service of %v; want 0s to %v", m.service, maxDuration)
	case m.places < 1 || m.places > maxCount:
		return fmt.Errorf("%d places; want 1 to %d", m.places, maxCount)
	}
	return nil
}

func (s *source) check(known map[string]bool) error {
	for _, name := range s.chain {
		if !known[name] {
			return fmt.Errorf("requests come for %q, which is no model here", name)
		}
	}
	if !(s.rate >= 0 && s.rate <= maxRate) {
		return fmt.Errorf("a rate of %v requests per second; want 0 to %v", s.rate, maxRate)
	}
	return nil
}

// open reports whether requests come at a rate.
func (s *source) open() bool { return s.rate > 0 }

// tenants returns the tenants, sorted.
func (w *workload) tenants() (names []string) {
	for i := range w.sources {
		if !slices.Contains(names, w.sources[i].tenant) {
			names = append(names, w.sources[i].tenant)
		}
	}
	slices.Sort(names)
	return names
}

// names returns the names of the models.
func (w *workload) names() (names []string) {
	for _, m := range w.models {
		names = append(names, m.name)
	}
	return names
}
