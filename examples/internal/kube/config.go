package kube

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

const (
	// serviceAccount is where a pod finds the credentials of its service account.
	serviceAccount = "/var/run/secrets/kubernetes.io/serviceaccount"

	maxFile = 1 << 20 // of a token, or certificates
)

var errNotInCluster = errors.New("this process does not run in a pod (KUBERNETES_SERVICE_HOST and " +
	"KUBERNETES_SERVICE_PORT are not set): say which server to use")

// Config says where the API server is and how to be known to it. Files are given by their
// paths, and are read again when they may have changed.
//
// The server is reached directly: the proxies of the environment (HTTPS_PROXY) are not
// used. Without TLS anybody on the way could read the token and change answers, so plain
// http is for loopback addresses only, as with kubectl proxy.
type Config struct {
	// Server is a URL. If it is "", the server is that of the cluster that this process
	// runs in, and CAFile, TokenFile (unless there is a ClientCert) and Namespace are
	// those of the pod's service account where they are "".
	Server     string
	CAFile     string // certificate authorities of the server, PEM; "": those of the system
	TokenFile  string // a bearer token, which is read again once a minute, and after a 401; "": none
	ClientCert string // PEM; "": none
	ClientKey  string // PEM
	Namespace  string // "" outside of a pod: "default"
}

// complete returns the Config with its defaults, or says what is wrong with it. The
// service account of the pod is in dir.
func (c Config) complete(env func(string) string, dir string) (Config, error) {
	if c.Server == "" {
		if err := c.inCluster(env, dir); err != nil {
			return c, err
		}
	}
	if c.Namespace == "" {
		c.Namespace = "default"
	}
	if !isNamespace.MatchString(c.Namespace) {
		return c, fmt.Errorf("%q cannot be the name of a namespace", c.Namespace)
	}
	if (c.ClientCert == "") != (c.ClientKey == "") {
		return c, errors.New("a client certificate needs its key, and a key its certificate: only one of them is given")
	}
	return c, c.checkServer()
}

// inCluster fills in what a pod finds around itself.
func (c *Config) inCluster(env func(string) string, dir string) error {
	host, port := env("KUBERNETES_SERVICE_HOST"), env("KUBERNETES_SERVICE_PORT")
	if host == "" || port == "" {
		return errNotInCluster
	}
	c.Server = "https://" + net.JoinHostPort(host, port)
	if c.CAFile == "" {
		c.CAFile = filepath.Join(dir, "ca.crt")
	}
	if c.TokenFile == "" && c.ClientCert == "" {
		c.TokenFile = filepath.Join(dir, "token")
	}
	if c.Namespace == "" {
		text, err := readFile(filepath.Join(dir, "namespace"))
		if err != nil {
			return fmt.Errorf("namespace: %w", err)
		}
		c.Namespace = strings.TrimSpace(string(text))
	}
	return nil
}

// isNamespace matches the names that a namespace may have (RFC 1123).
var isNamespace = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// checkServer says what is wrong with the URL of the server.
func (c Config) checkServer() error {
	u, err := url.Parse(c.Server)
	switch {
	case err != nil:
		return errors.New("the server is not a URL") // The error would show what may be a password.
	case u.User != nil:
		return errors.New("the URL of the server has a user in it: use a token or a client certificate")
	case u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "":
		return fmt.Errorf("server %q is not a URL such as https://10.0.0.1:6443", c.Server)
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return fmt.Errorf("server %q has more than scheme, host and path", c.Server)
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return fmt.Errorf("server %q is not on this machine, so it needs https", c.Server)
	case u.Scheme == "http" && (c.CAFile != "" || c.ClientCert != ""):
		return fmt.Errorf("server %q has no use for certificates without https", c.Server)
	}
	return nil
}

// isLoopback reports whether a host is this machine.
func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// readFile reads a file of a sensible size.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("%s has more than %d bytes", path, maxFile)
	}
	return text, err
}
