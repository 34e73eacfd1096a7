package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"example.com/scheduler"
)

// config is what a configuration of examples/proxy says about who may run with whom, and
// how many may wait. The rest of such a file does not matter here, and is left out.
type config struct {
	Defaults   modelConfig
	Models     map[string]modelConfig
	Groups     []scheduler.Group
	Budget     *budgetConfig
	MaxRunning int
	Sets       json.RawMessage
	Queue      queueConfig

	unused []string // other fields of the file
}

// modelConfig is one model of a configuration. A pointer tells what is left out.
type modelConfig struct {
	Priority, Concurrency, Capacity *int

	Command []string
	URL     string
}

// used are the fields of a file that matter here.
var used = []string{"defaults", "models", "groups", "budget", "maxRunning", "sets", "queue"}

// budgetConfig is a [scheduler.Budget].
type budgetConfig struct {
	Capacity map[string]amount
	Models   map[string]footprintConfig
	Default  *footprintConfig
}

// footprintConfig is a [scheduler.Footprint].
type footprintConfig struct {
	Placements []map[string]amount
	Reload     float64
	Pinned     bool
}

// queueConfig is what a configuration says about waiting.
type queueConfig struct {
	MaxQueue int
	Patience period
}

// amount is a number, or a size such as "24GiB".
type amount int64

// UnmarshalJSON implements [json.Unmarshaler].
func (a *amount) UnmarshalJSON(data []byte) error {
	text := strings.Trim(string(data), `"`)
	n, err := scheduler.ParseBytes(text)
	*a = amount(n)
	return err
}

// period is a duration such as "90s", or a number of seconds.
type period time.Duration

// UnmarshalJSON implements [json.Unmarshaler].
func (d *period) UnmarshalJSON(data []byte) error {
	v, err := parseTime(strings.Trim(string(data), `"`))
	*d = period(v)
	return err
}

// maxConfig bounds the size of a configuration, in bytes.
const maxConfig = 1 << 20

// readConfig reads a configuration.
func readConfig(file string) (*config, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	c, err := parseConfig(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return c, nil
}

// parseConfig reads what readConfig does.
func parseConfig(in io.Reader) (*config, error) {
	data, err := io.ReadAll(io.LimitReader(in, maxConfig+1))
	switch {
	case err != nil:
		return nil, err
	case len(data) > maxConfig:
		return nil, fmt.Errorf("the file has more than %d bytes", maxConfig)
	case len(bytes.TrimSpace(data)) == 0:
		return nil, errors.New("the file is empty")
	}
	c := new(config)
	if err := json.Unmarshal(data, c); err != nil {
		return nil, located(data, err)
	}
	var fields map[string]any
	json.Unmarshal(data, &fields) // It has been read already.
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if !slices.Contains(used, name) {
			c.unused = append(c.unused, shorten(name, 40))
		}
	}
	return c, c.check()
}

// located adds to an error the line that it is about.
func located(data []byte, err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	offset := int64(-1)
	if errors.As(err, &syntax) {
		offset = syntax.Offset
	} else if errors.As(err, &kind) {
		offset = kind.Offset
	}
	if offset < 0 || offset > int64(len(data)) {
		return err
	}
	return fmt.Errorf("line %d: %w", 1+bytes.Count(data[:offset], []byte("\n")), err)
}

// check returns an error for a configuration that does not say what may run together.
func (c *config) check() error {
	var kinds []string
	if c.Groups != nil {
		kinds = append(kinds, "groups")
	}
	if c.Budget != nil {
		kinds = append(kinds, "budget")
	}
	if c.Sets != nil {
		return errors.New("sets are not simulated yet; there may be groups, a budget, or maxRunning")
	}
	if c.MaxRunning != 0 {
		kinds = append(kinds, "maxRunning")
	}
	if len(kinds) > 1 {
		return fmt.Errorf("there are %s; only one of them is possible", strings.Join(kinds, " and "))
	}
	if c.MaxRunning < 0 {
		return fmt.Errorf("maxRunning is %d; want at least 1", c.MaxRunning)
	}
	w := workload{policy: c.policy()}
	_, err := w.policy.make(c.names(), func(string) bool { return false })
	return err
}

// names returns the names of the models, sorted.
func (c *config) names() []string { return slices.Sorted(maps.Keys(c.Models)) }

// policy returns the policy of the configuration.
func (c *config) policy() policy {
	switch {
	case c.Budget != nil:
		return budgetPolicy("budget", c.Budget.budget())
	case c.MaxRunning > 0:
		return lruPolicy(c.MaxRunning)
	}
	return groupPolicy("groups", append(slices.Clip(c.Groups), c.apart())...)
}

// apart returns a group of the models that are elsewhere and in no group: they take no
// memory here.
func (c *config) apart() scheduler.Group {
	grouped := make(map[string]bool)
	for _, g := range c.Groups {
		for _, name := range g.Members {
			grouped[name] = true
		}
	}
	apart := scheduler.Group{Persistent: true} // Without a name, which all others have.
	for _, name := range c.names() {
		m := c.Models[name]
		if len(m.Command) == 0 && m.URL != "" && !strings.Contains(m.URL, "${PORT}") && !grouped[name] {
			apart.Members = append(apart.Members, name)
		}
	}
	return apart
}

// applyTo gives to the models of w what the configuration says about them.
func (c *config) applyTo(w *workload) error {
	for i := range w.models {
		if _, ok := c.Models[w.models[i].name]; !ok && len(c.Models) > 0 {
			return fmt.Errorf("there is no model %q; there are %s", w.models[i].name, shorten(strings.Join(c.names(), ", "), 300))
		}
		c.apply(&w.models[i])
	}
	w.policy = c.policy()
	return nil
}

// budget returns the budget as the package wants it.
func (b *budgetConfig) budget() scheduler.Budget {
	budget := scheduler.Budget{Capacity: plain(b.Capacity), Models: make(map[string]scheduler.Footprint)}
	for name, f := range b.Models {
		budget.Models[name] = f.footprint()
	}
	if b.Default != nil {
		f := b.Default.footprint()
		budget.Default = &f
	}
	return budget
}

func (f *footprintConfig) footprint() scheduler.Footprint {
	own := scheduler.Footprint{Reload: f.Reload, Pinned: f.Pinned}
	for _, p := range f.Placements {
		own.Placements = append(own.Placements, plain(p))
	}
	return own
}

// plain returns the same amounts as numbers.
func plain(amounts map[string]amount) map[string]int64 {
	m := make(map[string]int64)
	for pool, n := range amounts {
		m[pool] = int64(n)
	}
	return m
}

// apply gives to m what the configuration says about it.
func (c *config) apply(m *model) {
	for _, own := range []modelConfig{c.Defaults, c.Models[m.name]} {
		if own.Priority != nil {
			m.priority = *own.Priority
		}
		if own.Concurrency != nil && *own.Concurrency > 0 {
			m.places = *own.Concurrency
		}
		if own.Capacity != nil {
			m.capacity = *own.Capacity
		}
	}
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
