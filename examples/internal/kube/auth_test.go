package kube

import (
	"crypto/tls"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// guarded is a server that lets in whoever has the token.
type guarded struct {
	token    atomic.Pointer[string]
	requests atomic.Int64
}

func (g *guarded) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.requests.Add(1)
	if r.Header.Get("Authorization") != "Bearer "+*g.token.Load() {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	io.WriteString(w, podJSON)
}

// withToken returns a server and a client of it, which reads the token from path.
func withToken(t *testing.T, path string) (*guarded, *Client) {
	g := &guarded{}
	first := "one"
	g.token.Store(&first)
	c := clientOf(g)
	var err error
	if c.token, err = newTokenFile(path, c.log); err != nil {
		t.Fatal(err)
	}
	return g, c
}

// TestTokenAfter401 checks that a token that was replaced is used without the caller
// noticing, and that there is one more try and not more if it has not been replaced.
func TestTokenAfter401(t *testing.T) {
	dir := t.TempDir()
	path := write(t, dir, "token", []byte("one\n"))
	g, c := withToken(t, path)
	if err := c.Get(within(t), podPath, new(Pod)); err != nil || g.requests.Load() != 1 {
		t.Fatal(err, g.requests.Load())
	}
	two := "two"
	g.token.Store(&two)
	if err := c.Get(within(t), podPath, new(Pod)); !IsCode(err, http.StatusUnauthorized) || g.requests.Load() != 3 {
		t.Errorf("error %v after %d requests, want 401 after 3", err, g.requests.Load())
	}
	write(t, dir, "token", []byte("two\n"))
	if err := c.Get(within(t), podPath, new(Pod)); err != nil || g.requests.Load() != 5 {
		t.Errorf("error %v after %d requests, want none after 5", err, g.requests.Load())
	}
	if err := c.Get(within(t), podPath, new(Pod)); err != nil || g.requests.Load() != 6 {
		t.Errorf("error %v after %d requests, want none after 6", err, g.requests.Load())
	}
	three := "three"
	g.token.Store(&three)
	write(t, dir, "token", []byte("three\n"))
	if body, err := c.Stream(within(t), podPath+"/log"); err != nil {
		t.Error(err)
	} else {
		body.Close()
	}
}

// TestTokenAge checks that a token is read again after a minute, that no file is read
// more often, and that the old token has to do while the file is bad.
func TestTokenAge(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		_, c := withToken(t, write(t, dir, "token", []byte("one")))
		log := c.logTo(slog.LevelWarn)
		c.token.log = c.log
		steps := []struct {
			after      time.Duration
			text, want string
		}{
			{0, "two", "one"},
			{59 * time.Second, "two", "one"},
			{time.Second, "two", "two"},
			{time.Minute, "", "two"},
			{time.Minute, "", "two"},
			{time.Minute, "three", "three"},
			{time.Minute, "", "three"},
		}
		for i, step := range steps {
			time.Sleep(step.after)
			write(t, dir, "token", []byte(step.text))
			if got := c.token.current(); got != step.want {
				t.Errorf("step %d: token %q, want %q", i, got, step.want)
			}
		}
		if got := strings.Count(log.String(), "cannot be read again"); got != 2 {
			t.Errorf("%d warnings, want one for each time that the file was bad:\n%s", got, log)
		}
	})
}

// TestAuthorityReplaced checks that the certificate authority is read again for each
// connection: a server with a certificate of another one is reached without a restart.
func TestAuthorityReplaced(t *testing.T) {
	dir := t.TempDir()
	old, next := newAuthority(t), newAuthority(t)
	path := writeCert(t, dir, "ca.crt", old.cert.Raw)
	var proto atomic.Pointer[string]
	var current atomic.Pointer[tls.Certificate]
	first, second := old.issue(t, "server"), next.issue(t, "server")
	current.Store(&first)
	server := serveTLS(t, old, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		proto.Store(&r.Proto)
		w.Header().Set("Connection", "close") // So that each request has a connection of its own.
		io.WriteString(w, podJSON)
	}), func(cfg *tls.Config) {
		cfg.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return &tls.Config{Certificates: []tls.Certificate{*current.Load()}, NextProtos: []string{"h2"}}, nil
		}
	})
	c := open(t, Config{Server: server, CAFile: path})
	if err := c.Get(within(t), podPath, new(Pod)); err != nil || *proto.Load() != "HTTP/2.0" {
		t.Fatal(err, *proto.Load())
	}
	current.Store(&second)
	c.replace(c.http.Load())
	if err := c.try(within(t), call{method: "GET", path: podPath}); err == nil || !strings.Contains(err.Error(), "unknown authority") || !mayPass(err) || strings.Contains(err.Error(), server) {
		t.Errorf("error %v, want an unknown authority, which may pass, without the URL", err)
	}
	writeCert(t, dir, "ca.crt", next.cert.Raw)
	if err := c.Get(within(t), podPath, new(Pod)); err != nil {
		t.Error(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	c.replace(c.http.Load())
	if err := c.try(within(t), call{method: "GET", path: podPath}); err == nil || !strings.Contains(err.Error(), path) || !mayPass(err) {
		t.Errorf("error %v, want that %s is missing, which may pass", err, path)
	}
}

// TestClientCertificate checks that it is shown, and that after a 401 the one that has
// replaced it is, on a new connection.
func TestClientCertificate(t *testing.T) {
	dir := t.TempDir()
	a := newAuthority(t)
	one, two := a.issue(t, "one"), a.issue(t, "two")
	var wanted atomic.Pointer[string]
	wanted.Store(new(string))
	*wanted.Load() = "one"
	var connections atomic.Int64
	server := serveTLS(t, a, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS.PeerCertificates[0].Subject.CommonName != *wanted.Load() {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		io.WriteString(w, podJSON)
	}), func(cfg *tls.Config) {
		cfg.ClientAuth, cfg.ClientCAs = tls.RequireAndVerifyClientCert, a.pool()
		cfg.VerifyConnection = func(tls.ConnectionState) error { connections.Add(1); return nil }
	})
	c := open(t, Config{Server: server, CAFile: writeCert(t, dir, "ca.crt", a.cert.Raw),
		ClientCert: writeCert(t, dir, "tls.crt", one.Certificate[0]), ClientKey: writeKey(t, dir, "tls.key", one)})
	for range 3 {
		if err := c.Get(within(t), podPath, new(Pod)); err != nil {
			t.Fatal(err)
		}
	}
	if got := connections.Load(); got != 1 {
		t.Errorf("%d connections, want 1", got)
	}
	name := "two"
	wanted.Store(&name)
	writeCert(t, dir, "tls.crt", two.Certificate[0])
	writeKey(t, dir, "tls.key", two)
	if err := c.Get(within(t), podPath, new(Pod)); err != nil || connections.Load() != 2 {
		t.Errorf("error %v over %d connections, want none over 2", err, connections.Load())
	}
}

// TestTokenStaysHere checks that a redirect does not take the token elsewhere.
func TestTokenStaysHere(t *testing.T) {
	var strayed atomic.Int64
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { strayed.Add(1) }))
	defer elsewhere.Close()
	s := httptest.NewServer(http.RedirectHandler(elsewhere.URL+"/api", http.StatusTemporaryRedirect))
	defer s.Close()
	c := open(t, Config{Server: s.URL, TokenFile: write(t, t.TempDir(), "token", []byte("one"))})
	if err := c.Get(within(t), podPath, new(Pod)); !IsCode(err, http.StatusTemporaryRedirect) || strayed.Load() != 0 {
		t.Errorf("error %v, and %d requests went elsewhere", err, strayed.Load())
	}
}

// TestInCluster checks a client as a pod makes it, against a server that wants its token.
func TestInCluster(t *testing.T) {
	dir := t.TempDir()
	a := newAuthority(t)
	g := &guarded{}
	token := "one"
	g.token.Store(&token)
	server := serveTLS(t, a, g, nil)
	writeCert(t, dir, "ca.crt", a.cert.Raw)
	write(t, dir, "token", []byte(token))
	write(t, dir, "namespace", []byte("models"))
	host, port, _ := strings.Cut(strings.TrimPrefix(server, "https://"), ":")
	cfg, err := Config{}.complete(func(name string) string {
		return map[string]string{"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}[name]
	}, dir)
	if err != nil {
		t.Fatal(err)
	}
	c := open(t, cfg)
	if err := c.Get(within(t), podPath, new(Pod)); err != nil || c.Namespace() != "models" || cfg.TokenFile != filepath.Join(dir, "token") {
		t.Errorf("error %v, namespace %q, %+v", err, c.Namespace(), cfg)
	}
}
