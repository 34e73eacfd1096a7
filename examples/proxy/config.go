package main

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"example.com/scheduler"
)

// config is the configuration file. README.md beside this file explains every
// field. [parseConfig] makes one of a file; one that is made by hand needs
// [config.complete]. After that it is never changed.
type config struct {
	Listen       string        `json:"listen"`  // "127.0.0.1:8080"
	Hosts        []string      `json:"hosts"`   // further Host headers that are ours
	Origins      []string      `json:"origins"` // of the web pages that may use the proxy
	Keys         []keyConfig   `json:"keys"`    // none: everybody may
	Models       modelConfigs  `json:"models"`  // by name
	Groups       []groupConfig `json:"groups"`
	Queue        queueConfig   `json:"queue"`
	MaxBody      size          `json:"maxBody"`      // of one request; "64MiB"
	MaxHeld      size          `json:"maxHeld"`      // over all waiting requests; "256MiB"
	DrainTimeout duration      `json:"drainTimeout"` // how long requests in flight may go on at the end; "30s"
	Preload      []string      `json:"preload"`      // models to load at the start, in this order

	aliases map[string]string // alias to model, set by fill
}

// modelConfig is one model.
type modelConfig struct {
	Command     []string          `json:"command"`     // none: the model is elsewhere, at URL; "${PORT}" and "${MODEL}" are replaced in every word
	StopCommand []string          `json:"stopCommand"` // run instead of SIGTERM; "${PID}" too
	Env         map[string]string `json:"env"`         // added to the environment of the proxy; replaced as in command
	Dir         string            `json:"dir"`         // working directory; relative to the folder of the file
	URL         string            `json:"url"`         // where it answers; "http://127.0.0.1:${PORT}"
	APIKeyEnv   string            `json:"apiKeyEnv"`   // environment variable whose value it wants as bearer token
	Health      string            `json:"health"`      // path that answers 200 when ready, or noHealth; "/health"
	LoadTimeout duration          `json:"loadTimeout"` // "5m"
	StopTimeout duration          `json:"stopTimeout"` // SIGTERM to SIGKILL; "10s"
	TTL         duration          `json:"ttl"`         // idle for so long: unloaded; 0: never

	Aliases      []string `json:"aliases"`
	Description  string   `json:"description"`
	Unlisted     bool     `json:"unlisted"`     // not in /v1/models
	TrustPages   bool     `json:"trustPages"`   // what it answers may act as a page of the proxy's
	UseModelName string   `json:"useModelName"` // what the model is called in the body that it gets

	Priority         int      `json:"priority"`
	Concurrency      int      `json:"concurrency"` // 0: no limit
	Capacity         int      `json:"capacity"`    // 0: no limit
	SendLoadingState bool     `json:"sendLoadingState"`
	QueueTimeout     duration `json:"queueTimeout"` // 0: that of queue; negative: no bound

	Timeouts timeoutsConfig `json:"timeouts"`
	Passive  []string       `json:"passive"` // paths that are answered while it is ready, and never load it
	Busy     string         `json:"busy"`    // path, and "#" and a field, that says whether it works on after a request

	secretEnv []string // variables that its process must not have, set by fill
}

// noHealth as the health of a model: a process is ready once its port takes
// connections, and a model elsewhere at once.
const noHealth = "none"

// address returns where m answers. Its errors do not tell what the URL is, for it may
// have a password.
func (m *modelConfig) address(vars map[string]string) (*url.URL, error) {
	text, err := expand(m.URL, vars)
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

// environ returns the environment of m's process: inherited, without what holds keys of
// the proxy, and with Env.
func (m *modelConfig) environ(inherited []string, vars map[string]string) ([]string, error) {
	env := slices.DeleteFunc(slices.Clone(inherited), func(variable string) bool {
		name, _, _ := strings.Cut(variable, "=")
		return slices.ContainsFunc(m.secretEnv, func(s string) bool { return strings.EqualFold(s, name) })
	})
	for _, name := range slices.Sorted(maps.Keys(m.Env)) {
		value, err := expand(m.Env[name], vars)
		if err != nil {
			return nil, fmt.Errorf("env %s: %w", name, err)
		}
		env = append(env, name+"="+value)
	}
	return env, nil
}

// timeoutsConfig is how long a model may let a request wait. Negative: no bound.
type timeoutsConfig struct {
	FirstByte duration `json:"firstByte"` // from the end of the request to the beginning of the answer; "1h"
	Idle      duration `json:"idle"`      // from one part of an answer to the next; "10m"
	Busy      duration `json:"busy"`      // how long it may work on after a request; "1h"
}

// modelConfigs are the models by name.
type modelConfigs map[string]*modelConfig

// groupConfig is a group of models that share memory: see [scheduler.Group].
type groupConfig struct {
	Name       string   `json:"name"`
	Members    []string `json:"members"`
	Swap       bool     `json:"swap"`
	Exclusive  bool     `json:"exclusive"`
	Persistent bool     `json:"persistent"`
}

// queueConfig is what [scheduler.FIFOOptions] has, and a time-out.
type queueConfig struct {
	MaxQueue int      `json:"maxQueue"` // waiting requests in all; 0: no bound
	Timeout  duration `json:"timeout"`  // how long a request may wait; 0: 10m, or the loadTimeout if that is longer; negative: no bound
	Patience duration `json:"patience"` // see scheduler.FIFOOptions; 0: 10m; negative: off
	Cooldown duration `json:"cooldown"` // 0: off

	WebsocketGrace duration `json:"websocketGrace"` // how long a websocket may keep others waiting; "5m"; negative: no bound
}

// keyConfig is an API key. Exactly one of Key and KeyEnv is set.
type keyConfig struct {
	Name        string `json:"name"`
	Key         secret `json:"key"`
	KeyEnv      string `json:"keyEnv"`      // environment variable that holds the key
	Priority    int    `json:"priority"`    // added to that of the model
	MinPriority int    `json:"minPriority"` // bounds of X-Priority
	MaxPriority int    `json:"maxPriority"`
}

// value returns the key itself.
func (k keyConfig) value() string {
	if k.KeyEnv != "" {
		return os.Getenv(k.KeyEnv)
	}
	return string(k.Key)
}

// resolve returns the model that name stands for, which is name itself unless it
// is an alias. It is false if there is none.
func (c *config) resolve(name string) (model string, ok bool) {
	if c.Models[name] != nil {
		return name, true
	}
	model, ok = c.aliases[name]
	return model, ok
}

// remote reports whether m, whose defaults are filled in, has no process here: a url
// without ${PORT}, and no command.
func (m *modelConfig) remote() bool {
	return len(m.Command) == 0 && !strings.Contains(m.URL, "${PORT}")
}

// grouped returns the models that are in a group.
func (c *config) grouped() map[string]bool {
	grouped := make(map[string]bool)
	for _, g := range c.Groups {
		for _, model := range g.Members {
			grouped[model] = true
		}
	}
	return grouped
}

// swapper makes the policy that the groups describe. Remote models take no memory here,
// so those in no group form one of their own that stops nobody and stays.
func (c *config) swapper() (*scheduler.GroupSwapper, error) {
	groups := make([]scheduler.Group, len(c.Groups))
	for i, g := range c.Groups {
		groups[i] = scheduler.Group(g)
	}
	grouped := c.grouped()
	apart := scheduler.Group{Persistent: true} // Without a name, which all others have.
	for name, m := range c.Models {
		if m.remote() && !grouped[name] {
			apart.Members = append(apart.Members, name)
		}
	}
	if len(apart.Members) > 0 {
		groups = append(groups, apart)
	}
	return scheduler.NewGroupSwapper(groups...)
}

// expand replaces every "${NAME}" in word by vars["NAME"]. "$${" stands for a plain
// "${"; every other "$" stays as it is, so that the words of a shell script need no
// care unless it writes "${". Errors do not tell the word, which may hold a secret.
func expand(word string, vars map[string]string) (string, error) {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(word, "${")
		if !found {
			b.WriteString(word)
			return b.String(), nil
		}
		if plain, escaped := strings.CutSuffix(before, "$"); escaped {
			b.WriteString(plain + "${")
			word = after
			continue
		}
		name, rest, closed := strings.Cut(after, "}")
		if !closed {
			return "", errors.New(`a "${" without its "}"; "$${" stands for a plain "${"`)
		}
		value, known := vars[name]
		if !known {
			names := strings.Join(slices.Sorted(maps.Keys(vars)), ", ")
			return "", fmt.Errorf(`${%s} is not known here; known: %s; "$${" stands for a plain "${"`, shorten(name), names)
		}
		b.WriteString(before + value)
		word = rest
	}
}

// shorten cuts what a message quotes.
func shorten(s string) string {
	const most = 40
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}

// secret is text that is never shown: neither printed, nor logged, nor encoded.
type secret string

const hidden = "(hidden)"

func (secret) String() string               { return hidden }
func (secret) GoString() string             { return hidden }
func (secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// duration is written "1m30s" in the file; a plain number is seconds.
type duration time.Duration

// bound returns d as the length of a wait, of which a negative one never ends.
func (d duration) bound() time.Duration {
	if d < 0 {
		return math.MaxInt64
	}
	return time.Duration(d)
}

func seconds(n int) duration { return duration(time.Duration(n) * time.Second) }

// UnmarshalText reads either way of writing it.
func (d *duration) UnmarshalText(text []byte) error {
	s := string(text)
	if strings.Trim(s, "+-.0123456789") == "" {
		s += "s"
	}
	v, err := time.ParseDuration(s)
	if err != nil {
		return errors.New(`must be a duration such as "1m30s"`)
	}
	*d = duration(v)
	return nil
}

// MarshalText writes it as "1m30s".
func (d duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

func (d duration) String() string { return time.Duration(d).String() }

// size is a number of bytes, written 1048576 or "1MiB".
type size int64

// sizeUnits are the units of a size, those that String prefers first.
var sizeUnits = []struct {
	name  string
	bytes uint64
}{
	{"TiB", 1 << 40}, {"TB", 1e12}, {"GiB", 1 << 30}, {"GB", 1e9}, {"MiB", 1 << 20},
	{"MB", 1e6}, {"KiB", 1 << 10}, {"KB", 1e3}, {"", 1}, {"B", 1},
}

// UnmarshalText reads a whole number and its unit, in upper or lower case. Without
// a unit it is bytes.
func (s *size) UnmarshalText(text []byte) error {
	number := strings.TrimRight(string(text), "BIKMGTbikmgt")
	unit := string(text[len(number):])
	n, err := strconv.ParseUint(strings.TrimRight(number, " "), 10, 63)
	for _, u := range sizeUnits {
		if err == nil && strings.EqualFold(u.name, unit) && n <= math.MaxInt64/u.bytes {
			*s = size(n * u.bytes)
			return nil
		}
	}
	return errors.New(`must be a size such as "64MiB"`)
}

// MarshalText writes it as "1MiB".
func (s size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

func (s size) String() string {
	n := uint64(s)
	for _, u := range sizeUnits {
		if n >= u.bytes && n%u.bytes == 0 {
			return strconv.FormatUint(n/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}
