package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"example.com/scheduler"
	"example.com/scheduler/examples/internal/config"
)

// settings are what a configuration of examples/proxy says about which models run
// together, and how many requests may wait. The rest of it does not matter here.
type settings struct{ *config.Config }

// maxConfig bounds the size of a configuration, in bytes.
const maxConfig = 1 << 20

// readSettings reads a configuration.
func readSettings(file string) (*settings, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	switch {
	case err != nil:
		return nil, err
	case len(data) > maxConfig:
		return nil, fmt.Errorf("%s: the file has more than %d bytes", file, maxConfig)
	}
	c, err := config.Parse(file, data)
	if err != nil {
		return nil, err
	}
	return &settings{c}, nil
}

// names returns the names of the models, sorted.
func (s *settings) names() []string { return slices.Sorted(maps.Keys(s.Models)) }

// policy returns the policy of the configuration.
func (s *settings) policy() policy {
	name := "groups"
	switch {
	case s.Budget != nil:
		name = "budget"
	case s.Sets != nil:
		name = "sets"
	case s.MaxRunning > 0:
		name = fmt.Sprint("lru:", s.MaxRunning)
	}
	return policy{name, func(_ []string, ready func(string) bool) (scheduler.Swapper, error) {
		return s.Policy().Planner(ready)
	}}
}

// applyTo gives to the models of w what the configuration says about them.
func (s *settings) applyTo(w *workload) error {
	for i := range w.models {
		m := &w.models[i]
		own, ok := s.Models[m.name]
		if !ok {
			return fmt.Errorf("there is no model %q; there are %s", m.name, shorten(strings.Join(s.names(), ", "), 300))
		}
		m.priority, m.capacity = own.Priority, own.Capacity
		if own.Concurrency > 0 {
			m.places = own.Concurrency
		}
	}
	w.policy = s.policy()
	return nil
}

// parseTime reads a duration; a plain number is seconds.
func parseTime(text string) (time.Duration, error) {
	if _, err := strconv.ParseFloat(text, 64); err == nil {
		text += "s"
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("%.40q is not a duration such as 1m30s", text)
	}
	return d, nil
}
