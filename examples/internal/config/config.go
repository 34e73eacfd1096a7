// Package config reads the configuration file of examples/proxy. Its README explains
// every field.
package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"
)

// Config is the configuration file. [Parse] makes one of a file; one that is made by
// hand needs [Config.Complete]. After that it is never changed.
type Config struct {
	Listen       string   `json:"listen"`  // "127.0.0.1:8080"
	Hosts        []string `json:"hosts"`   // further Host headers that are ours
	Origins      []string `json:"origins"` // of the web pages that may use the proxy
	Keys         []Key    `json:"keys"`    // none: everybody may
	Models       Models   `json:"models"`  // by name
	Groups       []Group  `json:"groups"`  // at most one of these four is there
	Sets         *Sets    `json:"sets"`
	Budget       *Budget  `json:"budget"`
	MaxRunning   int      `json:"maxRunning"` // models; 0: no bound
	Queue        Queue    `json:"queue"`
	MaxBody      Size     `json:"maxBody"`      // of one request; "64MiB"
	MaxHeld      Size     `json:"maxHeld"`      // over all waiting requests; "256MiB"
	DrainTimeout Duration `json:"drainTimeout"` // how long requests in flight may go on at the end; "30s"
	Preload      []string `json:"preload"`      // models to load at the start, in this order

	Kubernetes *Kubernetes `json:"kubernetes"` // where the pods of models run; nil: there are none

	aliases map[string]string // alias to model, set by fill
}

// Model is one model.
type Model struct {
	Command     []string          `json:"command"`     // none: the model is a pod, or elsewhere at URL; "${PORT}", "${MODEL}" and "${PLACEMENT}" are replaced in every word
	StopCommand []string          `json:"stopCommand"` // run instead of SIGTERM; "${PID}" too
	Env         map[string]string `json:"env"`         // added to the environment of the proxy; replaced as in command
	Dir         string            `json:"dir"`         // working directory; relative to the folder of the file
	URL         string            `json:"url"`         // where it answers; "http://127.0.0.1:${PORT}"
	Pod         Template          `json:"pod"`         // the model is a pod; replaced as in command. In a file, podFile may name another one that has it
	Port        string            `json:"port"`        // name of the container port where it answers; the only one
	Service     string            `json:"service"`     // name of a Service to send requests to; replaced as in command; the pod itself
	APIKeyEnv   string            `json:"apiKeyEnv"`   // environment variable whose value it wants as bearer token
	Health      string            `json:"health"`      // path that answers 200 when ready, or NoHealth; "/health"
	LoadTimeout Duration          `json:"loadTimeout"` // "5m"
	StopTimeout Duration          `json:"stopTimeout"` // SIGTERM to SIGKILL; "10s"
	TTL         Duration          `json:"ttl"`         // idle for so long: unloaded; 0: never

	Aliases      []string `json:"aliases"`
	Description  string   `json:"description"`
	Unlisted     bool     `json:"unlisted"`     // not in /v1/models
	TrustPages   bool     `json:"trustPages"`   // what it answers may act as a page of the proxy's
	UseModelName string   `json:"useModelName"` // what the model is called in the body that it gets

	Priority         int      `json:"priority"`
	Concurrency      int      `json:"concurrency"` // 0: no limit
	Capacity         int      `json:"capacity"`    // 0: no limit
	SendLoadingState bool     `json:"sendLoadingState"`
	QueueTimeout     Duration `json:"queueTimeout"` // 0: that of queue; negative: no bound

	Timeouts Timeouts `json:"timeouts"`
	Passive  []string `json:"passive"` // paths that are answered while it is ready, and never load it
	Busy     string   `json:"busy"`    // path, and "#" and a field, that says whether it works on after a request

	secretEnv  []string    // variables that its process must not have, set by fill
	placements []Placement // of a budget, set by fill; none: there is no budget
	placement  int         // set by Placed
}

// NoHealth as the health of a model: a process is ready once its port takes
// connections, and a model elsewhere at once.
const NoHealth = "none"

// Address returns where m answers. Its errors do not tell what the URL is, for it may
// have a password.
func (m *Model) Address(vars map[string]string) (*url.URL, error) {
	text, err := Expand(m.URL, vars)
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(text)
	switch {
	case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "", !validPort(cmp.Or(u.Port(), "80")):
		return nil, errors.New(`must be a URL such as "http://127.0.0.1:${PORT}"`)
	case strings.ContainsAny(text, "?#"):
		return nil, errors.New(`must not have a "?" or "#": a request adds its path to it`)
	}
	return u, nil
}

// Environ returns the environment of m's process: inherited, without what holds keys of
// the proxy, and with Env.
func (m *Model) Environ(inherited []string, vars map[string]string) ([]string, error) {
	env := slices.DeleteFunc(slices.Clone(inherited), func(variable string) bool {
		name, _, _ := strings.Cut(variable, "=")
		return slices.ContainsFunc(m.secretEnv, func(s string) bool { return strings.EqualFold(s, name) })
	})
	for _, name := range slices.Sorted(maps.Keys(m.Env)) {
		value, err := Expand(m.Env[name], vars)
		if err != nil {
			return nil, fmt.Errorf("env %s: %w", name, err)
		}
		env = append(env, name+"="+value)
	}
	return env, nil
}

// Timeouts is how long a model may let a request wait. Negative: no bound.
type Timeouts struct {
	FirstByte Duration `json:"firstByte"` // from the end of the request to the beginning of the answer; "1h"
	Idle      Duration `json:"idle"`      // from one part of an answer to the next; "10m"
	Busy      Duration `json:"busy"`      // how long it may work on after a request; "1h"
}

// Models are the models by name.
type Models map[string]*Model

// Group is a group of models that share memory: see [scheduler.Group].
type Group struct {
	Name       string   `json:"name"`
	Members    []string `json:"members"`
	Swap       bool     `json:"swap"`
	Exclusive  bool     `json:"exclusive"`
	Persistent bool     `json:"persistent"`
}

// Queue is what [scheduler.FIFOOptions] has, and a time-out.
type Queue struct {
	MaxQueue int      `json:"maxQueue"` // waiting requests in all; 0: no bound
	Timeout  Duration `json:"timeout"`  // how long a request may wait; 0: 10m, or the loadTimeout if that is longer; negative: no bound
	Patience Duration `json:"patience"` // see scheduler.FIFOOptions; 0: 10m; negative: off
	Cooldown Duration `json:"cooldown"` // 0: off

	WebsocketGrace Duration `json:"websocketGrace"` // how long a websocket may keep others waiting; "5m"; negative: no bound
}

// Key is an API key. Exactly one of Key and KeyEnv is set.
type Key struct {
	Name        string `json:"name"`
	Key         Secret `json:"key"`
	KeyEnv      string `json:"keyEnv"`      // environment variable that holds the key
	Priority    int    `json:"priority"`    // added to that of the model
	MinPriority int    `json:"minPriority"` // bounds of X-Priority
	MaxPriority int    `json:"maxPriority"`
}

// Value returns the key itself.
func (k Key) Value() string {
	if k.KeyEnv != "" {
		return os.Getenv(k.KeyEnv)
	}
	return string(k.Key)
}

// Resolve returns the model that name stands for, which is name itself unless it
// is an alias. It is false if there is none.
func (c *Config) Resolve(name string) (model string, ok bool) {
	if c.Models[name] != nil {
		return name, true
	}
	model, ok = c.aliases[name]
	return model, ok
}

// Remote reports whether m, whose defaults are filled in, is neither a process here nor a
// pod: a url without ${PORT}, and no command.
func (m *Model) Remote() bool {
	return !m.IsPod() && len(m.Command) == 0 && !strings.Contains(m.URL, "${PORT}")
}
