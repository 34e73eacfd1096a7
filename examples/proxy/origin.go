package main

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"example.com/scheduler/examples/internal/config"
)

// This file is about web pages. A browser on any machine that reaches the proxy shows
// the pages of strangers and sends requests for them. Such a page may link to the
// status page, and do nothing else, unless its origin is one of config.Origins.

// checkPage returns why r must not be served for the web page that it comes from, if
// it comes from one.
func (a *access) checkPage(cfg *config.Config, r *http.Request) error {
	if (a.loopback || len(cfg.Keys) == 0) && !a.ownHost(cfg, r.Host) {
		return fmt.Errorf(`%w: %q; if it is, add it to "hosts"`, errForeignHost, config.Shorten(r.Host))
	}
	origin := r.Header.Get("Origin")
	if slices.Contains(cfg.Origins, origin) || r.Method == http.MethodGet && r.URL.Path == "/" {
		return nil
	}
	// CrossOriginProtection takes it that GET changes nothing. Here it loads and stops
	// models, and opens websockets.
	asked := *r
	asked.Method = http.MethodPost
	if a.pages.Check(&asked) != nil {
		return fmt.Errorf(`%w: %q is not in "origins"`, errCrossOrigin, config.Shorten(origin))
	}
	return nil
}

// ownHost reports whether a Host header is one of this server's. A stranger's page
// whose name is made to point here (DNS rebinding) has the same origin as the proxy,
// but it has that name in the Host header. So an address is safe, and so is no Host
// at all, which browsers do not send.
func (a *access) ownHost(cfg *config.Config, host string) bool {
	name := hostName(host)
	if _, err := netip.ParseAddr(name); err == nil || name == "" {
		return true
	}
	own := func(h string) bool { return strings.EqualFold(h, name) || strings.EqualFold(h, host) }
	return own("localhost") || own(a.machine) || own(hostName(cfg.Listen)) || slices.ContainsFunc(cfg.Hosts, own)
}

// hostName returns the name or address in a Host header.
func hostName(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.Trim(strings.TrimSuffix(host, "."), "[]")
}

// share lets the page that r comes from read the answer, errors too, if its origin is
// listed. It answers a preflight itself, which has no key, and reports whether it did.
func share(cfg *config.Config, w http.ResponseWriter, r *http.Request) (answered bool) {
	if len(cfg.Origins) == 0 {
		return false
	}
	h := w.Header()
	h.Add("Vary", "Origin")
	origin, method := r.Header.Get("Origin"), r.Header.Get("Access-Control-Request-Method")
	if !slices.Contains(cfg.Origins, origin) {
		return false
	}
	h.Set("Access-Control-Allow-Origin", origin)
	if r.Method != http.MethodOptions || method == "" {
		h.Set("Access-Control-Expose-Headers", "Retry-After, X-Request-Id")
		return false
	}
	h.Set("Access-Control-Allow-Methods", method)
	h.Set("Access-Control-Allow-Headers", r.Header.Get("Access-Control-Request-Headers"))
	h.Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
	return true
}

// confine makes a page that a model answers with one of no origin. Otherwise it would
// have that of the status page, could read all logs and unload models. What the model
// says about sharing its answers with pages is for the proxy to say; see share.
func confine(h http.Header, trusted bool) {
	for name := range h {
		if strings.HasPrefix(name, "Access-Control-") {
			h.Del(name)
		}
	}
	if !trusted {
		h.Add("Content-Security-Policy", "sandbox allow-scripts allow-forms allow-popups")
	}
}
