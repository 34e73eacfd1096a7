//go:build unix

package main

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"example.com/scheduler/examples/internal/config"
)

// TestKeysStayOutOfModels: what holds a key of the proxy is not in the environment of
// any model, nor in its output, unless the model's own env says so.
func TestKeysStayOutOfModels(t *testing.T) {
	for _, name := range []string{"PROXY_TEST_KEY", "PROXY_TEST_CLOUD", "PROXY_TEST_OWN", "PROXY_TEST_PLAIN"} {
		t.Setenv(name, "xyzzy-"+name)
	}
	c := &config.Config{
		Keys: []config.Key{{Name: "one", KeyEnv: "PROXY_TEST_KEY"}, {Name: "two", KeyEnv: "PROXY_TEST_OWN"}},
		Models: config.Models{
			"a": {Command: []string{"sh", "-c", "env; echo end; exec sleep 1000"}, Env: map[string]string{"PROXY_TEST_OWN": "mine"}},
			"b": {Command: []string{"b"}, APIKeyEnv: "PROXY_TEST_CLOUD"},
		},
	}
	if err := c.Complete(); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	child := startWith(t, c.Models["a"], newOutput(), slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	line(t, child, "end")
	mustStop(t, child, 0)
	said := strings.Join(child.out.lines(), "\n")
	mustContain(t, said, "PROXY_TEST_OWN=mine", "PROXY_TEST_PLAIN=xyzzy-PROXY_TEST_PLAIN")
	for _, name := range []string{"PROXY_TEST_KEY", "PROXY_TEST_CLOUD", "xyzzy-PROXY_TEST_OWN"} {
		if strings.Contains(said, name) || strings.Contains(log.String(), name) {
			t.Errorf("%s reached the model, or the log", name)
		}
	}
}

// TestPasswordInURL: it is sent with each request, for the health too, and shown
// nowhere.
func TestPasswordInURL(t *testing.T) {
	var log lockedBuffer
	logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "alice" || password != "xyz:zy" {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	defer server.Close()
	model := &config.Model{
		Command: []string{"sleep", "1000"},
		URL:     strings.Replace(server.URL, "http://", "http://alice:xyz%3Azy@", 1),
	}
	cfg := &config.Config{Models: config.Models{"m": model}}
	if err := cfg.Complete(); err != nil {
		t.Fatal(err)
	}
	at, err := url.Parse(model.URL)
	if err != nil {
		t.Fatal(err)
	}
	f := newFrontTest(t, cfg, nil, false)
	f.host.newBackend = func(string, *config.Model, *output, *slog.Logger) backend { return remoteBackend{at} }
	f.host.do(func() { f.host.models["m"].backend = remoteBackend{at} })
	if resp, text := f.do("POST", chatPath, `{"model":"m"}`, "Authorization", "Bearer caller"); resp.StatusCode != 200 {
		t.Errorf("%d %s", resp.StatusCode, text)
	}
	_, status := f.do("GET", "/status", "")
	_, running := f.do("GET", "/running", "")
	mustContain(t, status, strings.TrimPrefix(server.URL, "http://"))

	child := startWith(t, local("sleep", "1000"), newOutput(), logger)
	if err := (endpoint{child.cfg, at}).probe(t.Context()); err != nil {
		t.Errorf("probe: %v", err)
	}
	mustStop(t, child, 0)
	for _, shown := range []string{status, running, f.log.String(), log.String(), strings.Join(child.out.lines(), "\n")} {
		for _, secret := range []string{"xyz", "alice"} {
			if strings.Contains(shown, secret) {
				t.Errorf("%s in %s", secret, shown)
			}
		}
	}
}

// TestAPIKeyEnv: a model gets the key of its own, and not what the caller sent.
func TestAPIKeyEnv(t *testing.T) {
	t.Setenv("PROXY_TEST_CLOUD", "plugh")
	f := newFrontTest(t, oneModel(func(c *config.Config, m *config.Model) { m.APIKeyEnv = "PROXY_TEST_CLOUD" }), echo, false)
	if _, text := f.do("POST", chatPath, `{"model":"m"}`, "Authorization", "Bearer caller"); !strings.Contains(text, "Bearer plugh") || strings.Contains(text, "caller") {
		t.Errorf("the model got %s", text)
	}
	if strings.Contains(f.log.String(), "plugh") {
		t.Error("the key was logged")
	}
	cfg := oneModel(func(c *config.Config, m *config.Model) { m.APIKeyEnv = "PROXY_TEST_UNSET" })
	if got := errorText(cfg.Complete()); got != "models.m.apiKeyEnv: names an environment variable that is not set" {
		t.Error(got)
	}
}
