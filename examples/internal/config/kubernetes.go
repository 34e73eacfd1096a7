package config

import (
	"cmp"
	"net/url"
	"path/filepath"
	"strings"
)

// LabelPrefix begins the names of the labels and annotations that the proxy gives to its
// pods. Templates must not have them.
const LabelPrefix = "models.scheduler.example.com/"

// maxName bounds the name of a proxy in a cluster, so that there is room for that of a
// model behind it.
const maxName = 40

// Kubernetes says where the pods of models run. Without a Server, that is the cluster
// that the proxy itself runs in. The paths of files are relative to the folder of the
// configuration.
type Kubernetes struct {
	Server     string `json:"server"`     // URL of the API server
	CAFile     string `json:"caFile"`     // who may have signed its certificate; none: those of the system
	TokenFile  string `json:"tokenFile"`  // bearer token, read anew when it changes
	ClientCert string `json:"clientCert"` // file of a certificate; together with ClientKey
	ClientKey  string `json:"clientKey"`  // file of its key
	Namespace  string `json:"namespace"`  // none: that of the proxy, or "default" with a Server
	Name       string `json:"name"`       // of the Lease, and a label of the pods; "model-proxy"
	KeepPods   bool   `json:"keepPods"`   // a graceful end leaves the pods to the next proxy
}

// files returns the paths in c by their fields.
func (c *Kubernetes) files() map[string]*string {
	return map[string]*string{"caFile": &c.CAFile, "tokenFile": &c.TokenFile, "clientCert": &c.ClientCert, "clientKey": &c.ClientKey}
}

// fill gives defaults to what is zero.
func (c *Kubernetes) fill() { c.Name = cmp.Or(c.Name, "model-proxy") }

// anchor makes each relative path one that begins in folder.
func (c *Kubernetes) anchor(folder string) {
	for _, path := range c.files() {
		*path = anchored(folder, *path)
	}
}

// anchored returns path as an absolute one. A relative one begins in folder, and none
// stays none.
func anchored(folder, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	path = filepath.Join(folder, path)
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

func (k *checker) checkKubernetes(at place, c *Kubernetes) {
	k.checkServer(at, c)
	if (c.ClientCert == "") != (c.ClientKey == "") {
		k.fault(at.in("clientCert"), "clientCert and clientKey are only of use together")
	}
	if c.Namespace != "" && !isLabel(c.Namespace, 63) {
		k.fault(at.in("namespace"), `must be a name such as "models": %s`, labelRule(63))
	}
	if !isLabel(c.Name, maxName) {
		k.fault(at.in("name"), `must be a name such as "model-proxy": %s`, labelRule(maxName))
	}
}

// checkServer never tells what the URL is, for it may have a password.
func (k *checker) checkServer(at place, c *Kubernetes) {
	if c.Server == "" {
		for _, field := range sortedKeys(c.files()) {
			if *c.files()[field] != "" {
				k.fault(at.in(field), "needs server; without it the proxy runs in the cluster, and uses its service account")
			}
		}
		return
	}
	u, err := url.Parse(c.Server)
	switch {
	case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "", !validPort(cmp.Or(u.Port(), "443")):
		k.fault(at.in("server"), `must be a URL such as "https://10.0.0.1:6443"`)
	case u.Scheme == "http" && !IsLoopback(u.Hostname()):
		k.fault(at.in("server"), "must begin with https, unless it is on this machine")
	case u.User != nil || strings.ContainsAny(c.Server, "?#"):
		k.fault(at.in("server"), `must not have a user, "?" or "#"`)
	}
}
