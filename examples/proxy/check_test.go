package main

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// doubtful is a configuration with everything that is warned of.
const doubtful = `{
	"listen": "0.0.0.0:0", "maxBody": "2GiB", "maxHeld": "1GiB",
	"models": {
		"alone": {"command": ["true", "${PORT}"]},
		"deaf": {"command": ["true"]},
		"fixed": {"command": ["true"], "url": "http://127.0.0.1:9000"},
		"told": {"command": ["true"], "env": {"ADDRESS": "127.0.0.1:${PORT}"}}
	},
	"groups": [{"name": "g", "members": ["deaf", "fixed", "told"]}]
}`

// TestCheck: -check says what is wrong, warns of what is doubtful, and starts nothing.
func TestCheck(t *testing.T) {
	sound := `{"models": {"a": {"command": ["true", "${PORT}"]}}}`
	for _, c := range []struct {
		name, file       string
		args             []string
		code             int
		warnings, errors string
	}{
		{name: "sound", file: sound},
		{name: "doubtful", file: doubtful, warnings: `
warning: listen: is open to other machines, and there are no keys: whoever reaches it may use every model and stop it
warning: maxBody: is 2GiB, but a request of more than maxHeld, which is 1GiB, is refused whenever it has to wait
warning: models.alone: is in no group: loading it stops all models but the persistent ones
warning: models.deaf: the process is not told ${PORT}, at which url expects it`},
		{name: "open by the command line", file: sound, args: []string{"-listen", ":8080"}, warnings: `
warning: listen: is open to other machines, and there are no keys: whoever reaches it may use every model and stop it`},
		{name: "open with a key", file: `{"listen": ":80", "keys": [{"name": "k", "key": "sesame"}], ` + sound[1:]},
		{name: "broken", file: `{"models": {"a": {}}}`, code: 1, errors: "models.a.command: must name a program"},
		{name: "not JSON", file: `models:`, code: 1, errors: "models.json:1: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			code := proxyMain(append(c.args, "-check", "-config", writeConfig(t, c.file)), &stdout, &stderr, nil)
			want := strings.TrimPrefix(c.warnings+"\nthe configuration can be used\n", "\n")
			if c.code != 0 {
				want = ""
			}
			if code != c.code || stdout.String() != want || !strings.Contains(stderr.String(), c.errors) || (c.errors == "") != (stderr.Len() == 0) {
				t.Errorf("exit code %d\n%s\nnot %d\n%s\nstderr: %s", code, &stdout, c.code, want, &stderr)
			}
		})
	}
	t.Setenv("PROXY_KEY_OFFICE", "xyzzy1")
	t.Setenv("PROXY_KEY_BATCH", "xyzzy2")
	for _, example := range []string{"remote", "llama-server", "vllm", "whisper", "kubernetes"} {
		var stdout bytes.Buffer
		if code := proxyMain([]string{"-check", "-config", "../internal/config/testdata/" + example + ".json"}, &stdout, os.Stderr, nil); code != 0 || strings.Contains(stdout.String(), "warning") {
			t.Errorf("%s: exit code %d, %s", example, code, &stdout)
		}
	}
	var stdout bytes.Buffer
	if code := proxyMain([]string{"-check"}, &stdout, os.Stderr, nil); code != 0 || strings.Contains(stdout.String(), "warning") {
		t.Errorf("the demo: exit code %d, %s", code, &stdout)
	}
}

// TestStartWarns: a start and a reload say what -check does.
func TestStartWarns(t *testing.T) {
	var log lockedBuffer
	p, err := startTestProxy(options{file: writeConfig(t, doubtful), listen: "127.0.0.1:0"}, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	mustContain(t, log.String(), "level=WARN", "models.deaf: the process is not told")
	if strings.Contains(log.String(), "open to other machines") {
		t.Errorf("-listen does not count: %s", log.String())
	}
	p.reload(p.options.config())
	if got := strings.Count(log.String(), "models.deaf"); got != 2 {
		t.Errorf("%d warnings: %s", got, log.String())
	}
	signals := make(chan os.Signal, 1)
	signals <- syscall.SIGTERM
	if code := p.wait(signals); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestVersion(t *testing.T) {
	var stdout bytes.Buffer
	if code := proxyMain([]string{"-version"}, &stdout, os.Stderr, nil); code != 0 || !strings.HasPrefix(stdout.String(), "proxy ") || !strings.Contains(stdout.String(), runtime.Version()) {
		t.Errorf("exit code %d, %s", code, &stdout)
	}
}

// writeConfig writes a configuration file and returns its name.
func writeConfig(t *testing.T, text string) string {
	file := filepath.Join(t.TempDir(), "models.json")
	if err := os.WriteFile(file, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	return file
}
