package main

import (
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"example.com/scheduler/examples/internal/demo"
	"example.com/scheduler/examples/internal/kubetest"
)

// patience is how long a test waits for something before it counts as hung. It is
// long enough for a slow machine that is busy with other work.
const patience = 2 * time.Minute

// roles are what the test binary does instead of testing, by its first argument.
var roles = map[string]func(args []string) error{demo.Command: demo.Main}

// leftovers tell what the tests have left behind, if anything.
var leftovers = []func() string{goroutinesLeft}

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && roles[os.Args[1]] != nil {
		if err := roles[os.Args[1]](os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	lateOutput = patience
	os.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE")) // For children: else each takes a second to end.
	code := m.Run()
	kubetest.Stop()
	for _, left := range leftovers {
		if text := lastingly(left); text != "" {
			fmt.Fprintf(os.Stderr, "left behind at the end of all tests:\n%s\n", text)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

// startTestProxy starts a proxy with the configuration that o names.
func startTestProxy(o options, log *slog.Logger) (*proxy, error) {
	cfg, err := o.config()
	if err != nil {
		return nil, err
	}
	return startProxy(o, cfg, log)
}

// lastingly asks left until it returns nothing, and returns what it still says when
// patience is over.
func lastingly(left func() string) (text string) {
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		late := time.Now().After(deadline) // The clock first: however late, there is one more look.
		if text = left(); text == "" || late {
			return text
		}
	}
}

// happens waits until ok is true, and reports false if it never is.
func happens(ok func() bool) bool {
	return lastingly(func() string {
		if ok() {
			return ""
		}
		return "not yet"
	}) == ""
}

// goroutinesLeft returns the stacks of all goroutines but this one and those that
// the runtime keeps.
func goroutinesLeft() string {
	http.DefaultClient.CloseIdleConnections()
	buf := make([]byte, 1<<20)
	stacks := strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n")
	var left []string
	for _, stack := range stacks[1:] {
		if !strings.Contains(stack, "os/signal.") {
			left = append(left, stack)
		}
	}
	return strings.Join(left, "\n\n")
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// newClient makes a client whose connections end with the test.
func newClient(t *testing.T) *http.Client {
	transport := &http.Transport{MaxIdleConnsPerHost: 256}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience}
}

func mustContain(t testing.TB, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not in %q", part, text)
		}
	}
}

// self returns the path of the test binary.
func self(t testing.TB) string {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exe
}
