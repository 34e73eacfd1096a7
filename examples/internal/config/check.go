package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// maxPriority bounds a priority either way, so that sums of a few stay small.
const maxPriority = 1_000_000

// Complete gives defaults to what c leaves out, and checks it.
func (c *Config) Complete() error {
	c.fill()
	var errs []error
	for _, f := range c.check() {
		errs = append(errs, f)
	}
	return errors.Join(errs...)
}

// fill gives defaults to what is zero.
func (c *Config) fill() {
	c.Listen = cmp.Or(c.Listen, "127.0.0.1:8080")
	c.MaxBody = cmp.Or(c.MaxBody, 64<<20)
	c.MaxHeld = cmp.Or(c.MaxHeld, 256<<20)
	c.DrainTimeout = cmp.Or(c.DrainTimeout, Seconds(30))
	c.Queue.WebsocketGrace = cmp.Or(c.Queue.WebsocketGrace, Seconds(300))
	c.aliases = make(map[string]string)
	secretEnv := c.secretEnv()
	if c.Kubernetes != nil {
		c.Kubernetes.fill()
	}
	for name, m := range c.Models {
		m.secretEnv = secretEnv
		if m.IsPod() {
			m.fillPort()
		} else {
			m.URL = cmp.Or(m.URL, "http://127.0.0.1:${PORT}")
		}
		if m.Remote() {
			m.Health = cmp.Or(m.Health, NoHealth)
		}
		m.Health = cmp.Or(m.Health, "/health")
		m.placements = c.placements(name)
		m.LoadTimeout = cmp.Or(m.LoadTimeout, Seconds(300))
		m.StopTimeout = cmp.Or(m.StopTimeout, Seconds(10))
		m.QueueTimeout = cmp.Or(m.QueueTimeout, c.Queue.Timeout, max(Seconds(600), m.LoadTimeout))
		m.Timeouts.FirstByte = cmp.Or(m.Timeouts.FirstByte, Seconds(3600))
		m.Timeouts.Idle = cmp.Or(m.Timeouts.Idle, Seconds(600))
		m.Timeouts.Busy = cmp.Or(m.Timeouts.Busy, Seconds(3600))
		for _, alias := range m.Aliases {
			c.aliases[alias] = name
		}
	}
}

// secretEnv returns the names of the environment variables that hold keys.
func (c *Config) secretEnv() (names []string) {
	add := func(name string) {
		if name != "" {
			names = append(names, name)
		}
	}
	for _, k := range c.Keys {
		add(k.KeyEnv)
	}
	for _, m := range c.Models {
		add(m.APIKeyEnv)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// anchor makes each relative path one that begins in the folder of file.
func (c *Config) anchor(file string) {
	folder := filepath.Dir(file)
	for _, m := range c.Models {
		m.Dir = anchored(folder, m.Dir)
	}
	if c.Kubernetes != nil {
		c.Kubernetes.anchor(folder)
	}
}

// check returns what is wrong in c, whose defaults are filled in.
func (c *Config) check() []fault {
	k := &checker{Config: c}
	k.checkListen()
	notNegative(k, nil, "drainTimeout", c.DrainTimeout)
	k.checkKeys()
	if k.Kubernetes != nil {
		k.checkKubernetes(place{"kubernetes"}, k.Kubernetes)
	}
	if len(c.Models) == 0 {
		k.fault(place{"models"}, "there is no model")
	}
	for _, name := range slices.Sorted(maps.Keys(c.Models)) {
		k.checkModel(place{"models", name}, name, c.Models[name])
	}
	k.checkAliases()
	k.checkPolicy()
	k.checkQueue()
	for i, model := range c.Preload {
		k.checkIsModel(place{"preload", i}, model)
	}
	return k.faults
}

// checker collects what is wrong in config.
type checker struct {
	*Config
	faults []fault
}

func (k *checker) fault(at place, format string, args ...any) {
	k.faults = append(k.faults, fault{at: at, text: fmt.Sprintf(format, args...)})
}

func (k *checker) checkListen() {
	if _, port, err := net.SplitHostPort(k.Listen); err != nil || !validPort(port) {
		k.fault(place{"listen"}, `must be an address and a port such as "127.0.0.1:8080"`)
	}
	for i, host := range k.Hosts {
		if host == "" || strings.ContainsAny(host, "/@ ") {
			k.fault(place{"hosts", i}, `must be a host such as "proxy.lan"`)
		}
	}
	for i, origin := range k.Origins {
		if !validOrigin(origin) {
			k.fault(place{"origins", i}, `must be an origin as browsers send it, such as "https://chat.lan": no path, no usual port, no capitals, no "*"`)
		}
	}
}

// validOrigin reports whether a browser may send s as the Origin of a page that has
// one. What it never sends would silently match nothing.
func validOrigin(s string) bool {
	u, err := url.Parse(s)
	unfit := func(r rune) bool { return r <= ' ' || r > '~' || r == '*' || 'A' <= r && r <= 'Z' }
	if err != nil || u.Hostname() == "" || s != u.Scheme+"://"+u.Host || strings.ContainsFunc(s, unfit) {
		return false
	}
	usual := u.Scheme == "http" && u.Port() == "80" || u.Scheme == "https" && u.Port() == "443"
	return !usual && !strings.HasSuffix(s, ":") && validPort(cmp.Or(u.Port(), "80"))
}

// validPort reports whether port is a number that a port can have.
func validPort(port string) bool {
	_, err := strconv.ParseUint(port, 10, 16)
	return err == nil
}

func notNegative[N int | Duration](k *checker, at place, field string, n N) {
	if n < 0 {
		k.fault(at.in(field), "must not be negative")
	}
}

func (k *checker) checkPriority(at place, field string, priority int) {
	if priority < -maxPriority || priority > maxPriority {
		k.fault(at.in(field), "must be from %d to %d", -maxPriority, maxPriority)
	}
}

// checkKeys never tells what a key or the name of its variable is: either may be
// the secret, in the wrong place.
func (k *checker) checkKeys() {
	names, secrets := make(map[string]int), make(map[string]int)
	for i, key := range k.Keys {
		at := place{"keys", i}
		k.checkKey(at, key)
		k.checkPriority(at, "priority", key.Priority)
		k.checkPriority(at, "minPriority", key.MinPriority)
		k.checkPriority(at, "maxPriority", key.MaxPriority)
		if key.MinPriority > key.MaxPriority {
			k.fault(at.in("minPriority"), "is more than maxPriority, which is %d", key.MaxPriority)
		}
		if first, twice := names[key.Name]; twice {
			k.fault(at.in("name"), "is the name of keys[%d] too", first)
		} else if key.Name != "" {
			names[key.Name] = i
		}
		if first, twice := secrets[key.Value()]; twice {
			k.fault(at, "has the same key as keys[%d]", first)
		} else if key.Value() != "" {
			secrets[key.Value()] = i
		}
	}
}

func (k *checker) checkKey(at place, key Key) {
	switch {
	case key.Name == "":
		k.fault(at.in("name"), "must not be empty")
	case (key.Key == "") == (key.KeyEnv == ""):
		k.fault(at.in("key"), "either key or keyEnv must be set, not both")
	default:
		k.checkSecret(at, "keyEnv", key.Value())
	}
}

// checkSecret checks a key, which a request carries. Field is where the name of its
// variable stands, if it comes from one.
func (k *checker) checkSecret(at place, field, key string) {
	unfit := func(r rune) bool { return r <= ' ' || r > '~' }
	switch {
	case key == "":
		k.fault(at.in(field), "names an environment variable that is not set")
	case strings.ContainsFunc(key, unfit):
		k.fault(at, "the key has spaces, or characters beyond ASCII, which a request cannot send")
	}
}

func (k *checker) checkModel(at place, name string, m *Model) {
	k.checkName(at, name)
	k.checkKind(at, m)
	if m.IsPod() {
		k.checkPod(at, name, m)
	} else {
		k.checkCommands(at, name, m)
		k.checkURL(at, name, m)
	}
	k.checkPaths(at, m)
	if m.APIKeyEnv != "" {
		k.checkSecret(at, "apiKeyEnv", os.Getenv(m.APIKeyEnv))
	}
	notNegative(k, at, "loadTimeout", m.LoadTimeout)
	notNegative(k, at, "stopTimeout", m.StopTimeout)
	notNegative(k, at, "ttl", m.TTL)
	k.checkPriority(at, "priority", m.Priority)
	notNegative(k, at, "concurrency", m.Concurrency)
	notNegative(k, at, "capacity", m.Capacity)
	if m.Capacity > 0 && m.Capacity < m.Concurrency {
		k.fault(at.in("capacity"), "is less than concurrency, which is %d and counts in it", m.Concurrency)
	}
}

// checkName checks a name that requests use, some of them as a part of a path.
func (k *checker) checkName(at place, name string) {
	switch {
	case name == "":
		k.fault(at, "a model's name must not be empty")
	case strings.ContainsFunc(name, unicode.IsControl):
		k.fault(at, "a model's name must not have control characters")
	case path.Clean("/"+name) != "/"+name:
		k.fault(at, `a model's name must not begin or end with "/", nor have an empty part, "." or ".."`)
	}
}

func (k *checker) checkCommands(at place, name string, m *Model) {
	vars := m.Vars(name)
	vars["PORT"] = "1"
	k.checkWords(at.in("command"), m.Command, vars)
	if !m.Remote() && (len(m.Command) == 0 || m.Command[0] == "") {
		k.fault(at.in("command"), "must name a program")
	}
	k.checkEnv(at.in("env"), m.Env, vars)
	vars["PID"] = "1"
	k.checkWords(at.in("stopCommand"), m.StopCommand, vars)
	if len(m.StopCommand) > 0 && m.StopCommand[0] == "" {
		k.fault(at.in("stopCommand"), "must name a program")
	}
}

func (k *checker) checkEnv(at place, env, vars map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(env)) {
		if key == "" || strings.ContainsAny(key, "=\x00") {
			k.fault(at.in(key), "is not the name of an environment variable")
		}
		k.checkWord(at.in(key), env[key], vars)
	}
}

func (k *checker) checkWords(at place, words []string, vars map[string]string) {
	for i, word := range words {
		k.checkWord(at.in(i), word, vars)
	}
}

func (k *checker) checkWord(at place, word string, vars map[string]string) {
	if _, err := Expand(word, vars); err != nil {
		k.fault(at, "%v", err)
	}
	if strings.Contains(word, "\x00") {
		k.fault(at, "must not have a NUL character")
	}
}

func (k *checker) checkURL(at place, name string, m *Model) {
	vars := m.Vars(name)
	vars["PORT"] = "1"
	if _, err := m.Address(vars); err != nil {
		k.fault(at.in("url"), "%v", err)
	}
}

// checkPaths checks the paths that m answers.
func (k *checker) checkPaths(at place, m *Model) {
	if _, err := url.ParseRequestURI(m.Health); m.Health != NoHealth && (err != nil || m.Health[0] != '/') {
		k.fault(at.in("health"), `must be a path such as "/health", or "none"`)
	}
	for i, pattern := range m.Passive {
		if _, err := path.Match(pattern, ""); err != nil || !strings.HasPrefix(pattern, "/") {
			k.fault(at.in("passive").in(i), `must be a path such as "/metrics", "/slots/*" or "/static/"`)
		}
	}
	busy, _, _ := strings.Cut(m.Busy, "#")
	if _, err := url.ParseRequestURI(busy); m.Busy != "" && (err != nil || m.Busy[0] != '/') {
		k.fault(at.in("busy"), `must be a path, with or without a field, such as "/queue#running"`)
	}
}

func (k *checker) checkAliases() {
	first := make(map[string]string)
	for _, name := range slices.Sorted(maps.Keys(k.Models)) {
		for i, alias := range k.Models[name].Aliases {
			at := place{"models", name, "aliases", i}
			k.checkName(at, alias)
			if k.Models[alias] != nil {
				k.fault(at, "is the name of a model")
			}
			if other, twice := first[alias]; twice {
				k.fault(at, "is an alias of %q too", Shorten(other))
			}
			first[alias] = name
		}
	}
}

// checkIsModel checks that name is a model and not only an alias of one.
func (k *checker) checkIsModel(at place, name string) {
	if k.Models[name] != nil {
		return
	}
	if model, ok := k.aliases[name]; ok {
		k.fault(at, "is an alias; its model is %q", Shorten(model))
		return
	}
	k.fault(at, "there is no model %q%s", Shorten(name), didYouMean(name, k.Models))
}

func (k *checker) checkQueue() {
	at := place{"queue"}
	notNegative(k, at, "cooldown", k.Queue.Cooldown)
	notNegative(k, at, "maxQueue", k.Queue.MaxQueue)
}
