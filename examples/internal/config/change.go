package config

import "reflect"

// NeedsRestart returns the settings that cfg has changed since the start of the proxy
// with c, and that a reload does not take over.
func (c *Config) NeedsRestart(cfg *Config) (settings []string) {
	for _, s := range []struct {
		name    string
		changed bool
	}{
		{"listen", c.Listen != cfg.Listen},
		{"queue.maxQueue", c.Queue.MaxQueue != cfg.Queue.MaxQueue},
		{"queue.patience", c.Queue.Patience != cfg.Queue.Patience},
		{"queue.cooldown", c.Queue.Cooldown != cfg.Queue.Cooldown},
		{"kubernetes", !reflect.DeepEqual(c.Kubernetes, cfg.Kubernetes)},
	} {
		if s.changed {
			settings = append(settings, s.name)
		}
	}
	return settings
}

// SameProcess reports whether a process or pod of c serves for other as well: they differ
// at most in what only the proxy looks at. The placements of a pod are among that: they
// change with the nodes, and a pod can stay as long as there is one with what it takes.
func (c *Model) SameProcess(other *Model) bool {
	a, b := c.processPart(), other.processPart()
	return reflect.DeepEqual(a, b)
}

// processPart returns a copy of c with only what its process or pod is started with.
func (c *Model) processPart() Model {
	part := Model{
		Command:     c.Command,
		StopCommand: c.StopCommand,
		Env:         c.Env,
		Dir:         c.Dir,
		URL:         c.URL,
		Pod:         c.Pod,
		Port:        c.Port,
		Service:     c.Service,
		APIKeyEnv:   c.APIKeyEnv,
		secretEnv:   c.secretEnv,
		placements:  c.placements,
		Health:      c.Health,
		LoadTimeout: c.LoadTimeout,
		StopTimeout: c.StopTimeout,
	}
	if c.IsPod() {
		part.placements, part.secretEnv = nil, nil
	}
	return part
}
