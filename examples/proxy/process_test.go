//go:build unix

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience is how long a test waits for what should happen at once.
const patience = 30 * time.Second

func init() { leftovers = append(leftovers, childrenLeft) }

// childrenLeft tells whether this process has children.
func childrenLeft() string {
	pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
	if errors.Is(err, syscall.ECHILD) {
		return ""
	}
	return fmt.Sprintf("a child process (wait4: %d, %v)", pid, err)
}

// demo returns the configuration of a model server that loads at once.
func demo(t testing.TB, args ...string) *modelConfig {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	words := []string{exe, demoCommand, "-port", "${PORT}", "-name", "${MODEL}", "-load", "0s", "-delay", "0s"}
	return local(append(words, args...)...)
}

// shell returns the configuration of a model that is a shell script.
func shell(script string) *modelConfig { return local("sh", "-c", script) }

func local(command ...string) *modelConfig {
	c := &config{Models: modelConfigs{"a": {Command: command}}}
	if err := c.complete(); err != nil {
		panic(err)
	}
	return c.Models["a"]
}

// startChild starts a model and sees to it that nothing is left of it.
func startChild(t testing.TB, cfg *modelConfig) *child {
	t.Helper()
	return startWith(t, cfg, newOutput(), slog.New(slog.DiscardHandler))
}

func startWith(t testing.TB, cfg *modelConfig, out *output, log *slog.Logger) *child {
	t.Helper()
	inst, err := newProcess("a", cfg, out, log).start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c := inst.(*child)
	t.Cleanup(func() {
		if err := c.stop(0); err != nil {
			t.Error(err)
		}
		ports.mu.Lock()
		defer ports.mu.Unlock()
		if ports.taken[c.port] {
			t.Errorf("port %d is still taken", c.port)
		}
	})
	return c
}

// mustBeReady waits until c is ready.
func mustBeReady(t testing.TB, c *child) {
	t.Helper()
	if err := c.ready(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// mustExit waits until c has exited, and returns how.
func mustExit(t testing.TB, c *child) string {
	t.Helper()
	select {
	case <-c.exited():
		return c.err().Error()
	case <-time.After(patience):
		t.Fatalf("still there; output:\n%s", strings.Join(c.out.lines(), "\n"))
		return ""
	}
}

// mustStop stops c and returns how it ended.
func mustStop(t testing.TB, c *child, grace time.Duration) string {
	t.Helper()
	if err := c.stop(grace); err != nil {
		t.Fatal(err)
	}
	return mustExit(t, c)
}

// line waits for a line of output that begins with prefix, and returns the rest.
func line(t testing.TB, c *child, prefix string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for line := range c.out.follow(ctx) {
		if rest, found := strings.CutPrefix(line, prefix); found {
			return strings.TrimSpace(rest)
		}
	}
	t.Fatalf("no line %q in the output:\n%s", prefix, strings.Join(c.out.lines(), "\n"))
	return ""
}

// process returns the number that line finds.
func pidIn(t testing.TB, c *child, prefix string) int {
	t.Helper()
	pid, err := strconv.Atoi(line(t, c, prefix))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// mustBeGone waits until there is no process pid, or only its zombie.
func mustBeGone(t testing.TB, pid int) {
	t.Helper()
	left := lastingly(func() string {
		if syscall.Kill(pid, 0) != nil {
			return ""
		}
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if strings.Contains(string(stat), ") Z ") {
			return ""
		}
		return string(stat)
	})
	if left != "" {
		t.Errorf("process %d is left: %s", pid, left)
	}
}

func mustContain(t testing.TB, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not in %q", part, text)
		}
	}
}

func TestProcess(t *testing.T) {
	var log bytes.Buffer
	out := newOutput()
	c := startWith(t, demo(t), out, slog.New(slog.NewTextHandler(&log, nil)))
	mustBeReady(t, c)
	if c.err() != nil {
		t.Errorf("err = %v while it runs", c.err())
	}
	resp, err := http.Get(c.url().String() + "/v1/models")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	mustContain(t, string(body), `"id":"a"`)
	if got, want := mustStop(t, c, patience), `model "a": stopped: exit status 0: last output: `; !strings.HasPrefix(got, want) {
		t.Errorf("err = %s, want %s…", got, want)
	}
	mustBeGone(t, c.job.pid())
	if err := c.stop(patience); err != nil {
		t.Errorf("stop after the end = %v", err)
	}
	mustContain(t, strings.Join(out.lines(), "\n"),
		"[starting at http://127.0.0.1:", "a: loading", "a: ready", "a: ending", "[stopped: exit status 0]")
	mustContain(t, log.String(), `level=INFO msg=output model=a line="a: ready"`)
}
