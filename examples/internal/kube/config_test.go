package kube

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// noEnv is an environment without anything.
func noEnv(string) string { return "" }

// inPod is the environment of a pod.
func inPod(name string) string {
	return map[string]string{"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}[name]
}

// TestComplete checks the defaults, in a pod and elsewhere.
func TestComplete(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "namespace", []byte("models\n"))
	ca, token := filepath.Join(dir, "ca.crt"), filepath.Join(dir, "token")
	tests := []struct {
		name      string
		env       func(string) string
		cfg, want Config
	}{
		{"in a pod", inPod, Config{}, Config{Server: "https://[fd00::1]:443", CAFile: ca, TokenFile: token, Namespace: "models"}},
		{"in a pod, own settings", inPod, Config{CAFile: "c", TokenFile: "t", Namespace: "n"},
			Config{Server: "https://[fd00::1]:443", CAFile: "c", TokenFile: "t", Namespace: "n"}},
		{"in a pod, own certificate", inPod, Config{ClientCert: "c", ClientKey: "k"},
			Config{Server: "https://[fd00::1]:443", CAFile: ca, ClientCert: "c", ClientKey: "k", Namespace: "models"}},
		{"in a pod, another cluster", inPod, Config{Server: "https://a"}, Config{Server: "https://a", Namespace: "default"}},
		{"elsewhere", noEnv, Config{Server: "https://a:6443/k8s/c1/", Namespace: "n"}, Config{Server: "https://a:6443/k8s/c1/", Namespace: "n"}},
		{"kubectl proxy", noEnv, Config{Server: "http://127.0.0.1:8001"}, Config{Server: "http://127.0.0.1:8001", Namespace: "default"}},
		{"kubectl proxy by name", noEnv, Config{Server: "http://localhost:8001"}, Config{Server: "http://localhost:8001", Namespace: "default"}},
		{"kubectl proxy, IPv6", noEnv, Config{Server: "http://[::1]:8001"}, Config{Server: "http://[::1]:8001", Namespace: "default"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := tt.cfg.complete(tt.env, dir); err != nil || got != tt.want {
				t.Errorf("got  %+v, error %v\nwant %+v", got, err, tt.want)
			}
		})
	}
}

// TestWrongConfig checks that what cannot work is refused by New, with a message that
// says what it is.
func TestWrongConfig(t *testing.T) {
	dir := t.TempDir()
	a, b := newAuthority(t), newAuthority(t)
	one, two := a.issue(t, "one"), b.issue(t, "two")
	ca, cert := writeCert(t, dir, "ca.crt", a.cert.Raw), writeCert(t, dir, "one.crt", one.Certificate[0])
	key, other := writeKey(t, dir, "one.key", one), writeKey(t, dir, "two.key", two)
	text, _ := os.ReadFile(ca)
	broken := write(t, dir, "broken.crt", text[:len(text)/2])
	empty, secret := write(t, dir, "empty", []byte(" \n")), write(t, dir, "secret", []byte("hush hush\n"))
	huge := write(t, dir, "huge", make([]byte, maxFile+1))
	missing := filepath.Join(dir, "missing")
	tests := []struct {
		name string
		cfg  Config
		want string
	}{
		{"no cluster", Config{}, "does not run in a pod"},
		{"no scheme", Config{Server: "10.0.0.1"}, "not a URL such as"},
		{"no scheme, but a port", Config{Server: "kube.example:6443"}, "not a URL such as"},
		{"no host", Config{Server: "https://:6443"}, "not a URL such as"},
		{"other scheme", Config{Server: "ftp://a"}, "not a URL such as"},
		{"no URL", Config{Server: "https://user:hush@a:b"}, "not a URL"},
		{"user", Config{Server: "https://user:hush@a"}, "has a user in it"},
		{"query", Config{Server: "https://a?b"}, "more than scheme, host and path"},
		{"fragment", Config{Server: "https://a#b"}, "more than scheme, host and path"},
		{"http", Config{Server: "http://10.0.0.1"}, "needs https"},
		{"http and certificates", Config{Server: "http://127.0.0.1", CAFile: ca}, "has no use for certificates"},
		{"namespace", Config{Server: "https://a", Namespace: "a/../b"}, "cannot be the name of a namespace"},
		{"long namespace", Config{Server: "https://a", Namespace: strings.Repeat("a", 64)}, "cannot be the name of a namespace"},
		{"certificate alone", Config{Server: "https://a", ClientCert: cert}, "only one of them"},
		{"key alone", Config{Server: "https://a", ClientKey: key}, "only one of them"},
		{"wrong key", Config{Server: "https://a", ClientCert: cert, ClientKey: other}, "does not match"},
		{"no key", Config{Server: "https://a", ClientCert: cert, ClientKey: missing}, missing},
		{"no certificate", Config{Server: "https://a", ClientCert: missing, ClientKey: key}, missing},
		{"broken certificate", Config{Server: "https://a", ClientCert: broken, ClientKey: key}, broken},
		{"no authority", Config{Server: "https://a", CAFile: missing}, missing},
		{"broken authority", Config{Server: "https://a", CAFile: broken}, "no certificate in PEM"},
		{"key for an authority", Config{Server: "https://a", CAFile: key}, "no certificate in PEM"},
		{"huge authority", Config{Server: "https://a", CAFile: huge}, "more than 1048576 bytes"},
		{"no token", Config{Server: "https://a", TokenFile: missing}, missing},
		{"empty token", Config{Server: "https://a", TokenFile: empty}, "is empty"},
		{"odd token", Config{Server: "https://a", TokenFile: secret}, "something else in it"},
		{"folder", Config{Server: "https://a", TokenFile: dir}, dir},
	}
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := New(tt.cfg, nil)
			if err == nil || !strings.HasPrefix(err.Error(), "kube: ") || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "hush") {
				t.Errorf("error tells a secret: %v", err)
			}
		})
	}
}

// TestPodWithoutServiceAccount checks the message where the token is not mounted.
func TestPodWithoutServiceAccount(t *testing.T) {
	_, err := Config{}.complete(inPod, t.TempDir())
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "namespace: ") {
		t.Errorf("error %v, want that there is no namespace file", err)
	}
}
