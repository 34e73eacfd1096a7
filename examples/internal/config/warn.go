package config

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
)

// Warnings returns what is allowed in c, whose defaults are filled in, but hardly meant.
func (c *Config) Warnings() (all []string) {
	warn := func(at place, format string, args ...any) {
		all = append(all, fault{at: at, text: fmt.Sprintf(format, args...)}.Error())
	}
	if host, _, _ := net.SplitHostPort(c.Listen); !IsLoopback(host) && len(c.Keys) == 0 {
		warn(place{"listen"}, "is open to other machines, and there are no keys: whoever reaches it may use every model and stop it")
	}
	if c.MaxBody > c.MaxHeld {
		warn(place{"maxBody"}, "is %v, but a request of more than maxHeld, which is %v, is refused whenever it has to wait", c.MaxBody, c.MaxHeld)
	}
	if c.Kubernetes != nil && !slices.ContainsFunc(slices.Collect(maps.Values(c.Models)), (*Model).IsPod) {
		warn(place{"kubernetes"}, "no model has a pod")
	}
	named := c.named()
	for _, name := range slices.Sorted(maps.Keys(c.Models)) {
		m, at := c.Models[name], place{"models", name}
		if len(c.Groups) > 0 && !named[name] && !m.Remote() {
			warn(at, "is in no group: loading it stops all models but the persistent ones")
		}
		if c.Sets != nil && !named[name] && !m.Remote() {
			warn(at, "is in no set: it runs alone")
		}
		if strings.Contains(m.URL, "${PORT}") && !m.tellsPort() {
			warn(at, "the process is not told ${PORT}, at which url expects it")
		}
		if m.IsPod() {
			c.warnPod(at, name, m, warn)
		}
	}
	return all
}

// IsLoopback reports whether host is this machine's loopback address.
func IsLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// tellsPort reports whether the process of m can know the port that was chosen for it.
func (m *Model) tellsPort() bool {
	words := slices.AppendSeq(slices.Clone(m.Command), maps.Values(m.Env))
	return slices.ContainsFunc(words, func(word string) bool { return strings.Contains(word, "${PORT}") })
}
