//go:build unix

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"example.com/scheduler/examples/internal/config"
	"example.com/scheduler/examples/internal/demo"
)

// listenerRole makes the test binary tell the signals that it gets.
const listenerRole = "test-listener"

func init() {
	leftovers = append(leftovers, childrenLeft)
	roles[listenerRole] = beListener
}

// beListener ends at the first signal, unless it is "stubborn" or at least "slow".
func beListener(args []string) error {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	fmt.Println("child", os.Getpid())
	for s := range signals {
		fmt.Println("got", s)
		switch {
		case len(args) == 0:
			return nil
		case args[0] == "slow":
			time.Sleep(100 * time.Millisecond)
			fmt.Println("done")
			return nil
		}
	}
	return nil
}

// childrenLeft tells whether this process has children.
func childrenLeft() string {
	pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
	if errors.Is(err, syscall.ECHILD) {
		return ""
	}
	return fmt.Sprintf("a child process (wait4: %d, %v)", pid, err)
}

// demoModel returns the configuration of a model server that loads at once.
func demoModel(t testing.TB, args ...string) *config.Model {
	words := []string{self(t), demo.Command, "-port", "${PORT}", "-name", "${MODEL}", "-load", "0s", "-delay", "0s"}
	return local(append(words, args...)...)
}

// shell returns the configuration of a model that is a shell script.
func shell(script string) *config.Model { return local("sh", "-c", script) }

func local(command ...string) *config.Model {
	c := &config.Config{Models: config.Models{"a": {Command: command}}}
	if err := c.Complete(); err != nil {
		panic(err)
	}
	return c.Models["a"]
}

// startChild starts a model and sees to it that nothing is left of it.
func startChild(t testing.TB, cfg *config.Model) *child {
	t.Helper()
	return startWith(t, cfg, newOutput(), slog.New(slog.DiscardHandler))
}

func startWith(t testing.TB, cfg *config.Model, out *output, log *slog.Logger) *child {
	t.Helper()
	inst, err := newProcess("a", cfg, out, log).start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c := inst.(*child)
	c.killWait = patience
	t.Cleanup(func() {
		if err := c.stop(0); err != nil {
			t.Error(err)
		}
		given := func() bool {
			ports.mu.Lock()
			defer ports.mu.Unlock()
			return !ports.taken[c.port]
		}
		if !happens(given) { // Soon after the end.
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

// pidIn returns the number that line finds.
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

func TestProcess(t *testing.T) {
	var log bytes.Buffer
	out := newOutput()
	c := startWith(t, demoModel(t), out, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: levelOutput})))
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
	line(t, c, "a: ready") // The model is ready a moment before it says so.
	if got, want := mustStop(t, c, patience), `model "a": stopped: exit status 0: last output: `; !strings.HasPrefix(got, want) {
		t.Errorf("err = %s, want %s…", got, want)
	}
	mustBeGone(t, c.job.pid())
	if err := c.stop(patience); err != nil {
		t.Errorf("stop after the end = %v", err)
	}
	mustContain(t, strings.Join(out.lines(), "\n"),
		"[starting at http://127.0.0.1:", "a: loading", "a: ready", "a: ending", "[stopped: exit status 0]")
	mustContain(t, log.String(), `level=DEBUG+2 msg=output model=a line="a: ready"`)
}

func TestReadyTimesOut(t *testing.T) {
	cfg := demoModel(t, "-load", "1h")
	cfg.LoadTimeout = config.Duration(50 * time.Millisecond)
	c := startChild(t, cfg)
	err := c.ready(t.Context())
	if err == nil {
		t.Fatal("ready")
	}
	mustContain(t, err.Error(), `model "a": not ready after 50ms: `)
	if c.err() != nil {
		t.Errorf("ended by itself: %v", c.err())
	}
	mustContain(t, mustStop(t, c, patience), "stopped: ")
}

// Only 200 means ready, and no redirect is followed to where it can be had.
func TestReadyMeans200(t *testing.T) {
	for _, status := range []int{201, 302, 404, 500, 503} {
		asked := make(chan struct{}, 1)
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/base/healthz" || r.URL.RawQuery != "deep=1" {
				t.Errorf("asked for %s", r.URL)
			}
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(status)
			select {
			case asked <- struct{}{}:
			default:
			}
		}))
		t.Cleanup(server.Close)
		cfg := shell("exec sleep 1000")
		cfg.Health = "/healthz?deep=1"
		c := startChild(t, cfg)
		c.addr.Host, c.addr.Path = server.Listener.Addr().String(), "/base"
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() {
			<-asked // The second one, so that the answer to the first is known.
			<-asked
			cancel(errLoadCancelled)
		}()
		err := c.ready(ctx)
		if !errors.Is(err, errLoadCancelled) {
			t.Fatalf("%d: err = %v", status, err)
		}
		mustContain(t, err.Error(), fmt.Sprintf(`model "a": load cancelled: /healthz?deep=1: %d %s`, status, http.StatusText(status)))
	}
}

// A server that takes the connection and never answers is given up on.
func TestReadyHangs(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cfg := shell("exec sleep 1000")
	cfg.LoadTimeout = config.Duration(100 * time.Millisecond)
	c := startChild(t, cfg)
	c.addr.Host = l.Addr().String()
	if got, want := errorText(c.ready(t.Context())), `model "a": not ready after 100ms: no answer yet`; got != want {
		t.Errorf("err = %s, want %s", got, want)
	}
}

func TestReadyByConnect(t *testing.T) {
	cfg := demoModel(t, "-load", "1h")
	cfg.Health = config.NoHealth
	mustBeReady(t, startChild(t, cfg))
}

// A server may take any time for its answer, as long as it comes before the load has
// taken too long.
func TestReadyAfterSlowAnswer(t *testing.T) {
	t.Parallel() // It mostly waits.
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(3 * time.Second): // Longer than it takes to give up on a connection.
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(server.Close)
	cfg := shell("exec sleep 1000")
	cfg.LoadTimeout = config.Duration(patience)
	c := startChild(t, cfg)
	c.addr.Host = server.Listener.Addr().String()
	mustBeReady(t, c)
}

func TestExitsWhileLoading(t *testing.T) {
	tests := []struct {
		name string
		cfg  *config.Model
		want string
	}{
		{"code", demoModel(t, "-fail"), `^model "a": exited: exit status 3: last output: a: loading, at http://127.0.0.1:* | error: cannot load: out of memory`},
		{"signal", shell("echo dying; kill -KILL $$"), `^model "a": exited: signal: killed: last output: dying`},
		{"silent", shell("exit 0"), `^model "a": exited: exit status 0`},
		{"half a line", shell("printf 'no end'; exit 1"), `^model "a": exited: exit status 1: last output: no end`},
		{"last lines", shell("for i in 1 2 3 4 5 6 7; do echo $i; done; exit 1"), `^model "a": exited: exit status 1: last output: 3 | 4 | 5 | 6 | 7`},
		{"long line", shell("head -c 5000 /dev/zero | tr '\\0' x; echo; exit 1"), `^model "a": exited: exit status 1: last output: …` + strings.Repeat("x", tailBytes)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := startChild(t, tt.cfg)
			err := c.ready(t.Context())
			if err == nil {
				t.Fatal("ready")
			}
			got := err.Error()
			if before, after, found := strings.Cut(got, "127.0.0.1:"); found {
				got = before + "127.0.0.1:*" + strings.TrimLeft(after, "0123456789")
			}
			if "^"+got != tt.want {
				t.Errorf("err = %s\nwant %s", got, tt.want)
			}
			mustExit(t, c)
		})
	}
}

func TestCannotStart(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	nowhere := local("sh")
	nowhere.Dir = filepath.Join(dir, "missing")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := local("sh")
	taken.URL = "http://" + l.Addr().String()
	tests := []struct {
		name string
		cfg  *config.Model
		want string
	}{
		{"not in PATH", local("no-such-server", "--secret"), `model "a": cannot execute "no-such-server": exec: "no-such-server": executable file not found in $PATH`},
		{"no file", local(dir + "/server"), `model "a": cannot execute "` + dir + `/server": fork/exec ` + dir + `/server: no such file or directory`},
		{"not executable", local(plain), `model "a": cannot execute "` + plain + `": fork/exec ` + plain + `: permission denied`},
		{"no folder", nowhere, `model "a": working directory: stat ` + nowhere.Dir + `: no such file or directory`},
		{"address taken", taken, `model "a": something else answers at ` + l.Addr().String() + ` already`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inst, err := newProcess("a", tt.cfg, newOutput(), slog.New(slog.DiscardHandler)).start(t.Context())
			if inst != nil || errorText(err) != tt.want {
				t.Errorf("start = %v, %v\nwant %s", inst, err, tt.want)
			}
		})
	}
	ports.mu.Lock()
	defer ports.mu.Unlock()
	if len(ports.taken) > 0 {
		t.Errorf("ports left: %v", ports.taken)
	}
}

func TestStartCancelled(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errLoadCancelled)
	inst, err := newProcess("a", shell("echo"), newOutput(), slog.New(slog.DiscardHandler)).start(ctx)
	if inst != nil || !errors.Is(err, errLoadCancelled) {
		t.Errorf("start = %v, %v", inst, err)
	}
}

// A server that finds its port taken says so.
func TestPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := startChild(t, demoModel(t, "-port", strconv.Itoa(l.Addr().(*net.TCPAddr).Port)))
	mustContain(t, errorText(c.ready(t.Context())), `model "a": exited: exit status 1`, "address already in use")
}

func TestPortsDiffer(t *testing.T) {
	pool := portPool{taken: make(map[int]bool)}
	const n = 200
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			if _, err := pool.take(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if len(pool.taken) != n {
		t.Errorf("%d ports for %d starts", len(pool.taken), n)
	}
}

func TestWords(t *testing.T) {
	cfg := local("sh", "-c", `echo "$0|$1|$WHERE|$PWD|$HOME"`, "${MODEL}", "at ${PORT}")
	cfg.Env = map[string]string{"WHERE": "${MODEL}:${PORT}", "HOME": "/nowhere"}
	cfg.Dir = t.TempDir()
	c := startChild(t, cfg)
	mustContain(t, mustExit(t, c), fmt.Sprintf("last output: a|at %d|a:%[1]d|%s|/nowhere", c.port, cfg.Dir))
	if want := fmt.Sprintf("http://127.0.0.1:%d", c.port); c.url().String() != want {
		t.Errorf("url = %s, want %s", c.url(), want)
	}
}

func TestStop(t *testing.T) {
	tests := []struct {
		name  string
		args  []string
		grace time.Duration
		want  string
	}{
		{"graceful", nil, patience, `model "a": stopped: exit status 0`},
		{"while loading", []string{"-load", "1h"}, patience, `model "a": stopped: exit status 0`},
		{"at once", nil, 0, `model "a": stopped: signal: killed`},
		{"deaf", []string{"-ignore-term"}, 50 * time.Millisecond, `model "a": stopped: signal: killed`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := startChild(t, demoModel(t, tt.args...))
			line(t, c, "a: loading")
			mustContain(t, mustStop(t, c, tt.grace), tt.want)
			mustBeGone(t, c.job.pid())
		})
	}
}

func TestStopStopped(t *testing.T) {
	c := startChild(t, demoModel(t))
	mustBeReady(t, c)
	syscall.Kill(c.job.pid(), syscall.SIGSTOP)
	if _, err := syscall.Wait4(c.job.pid(), nil, syscall.WUNTRACED, nil); err != nil { // It has stopped.
		t.Fatal(err)
	}
	mustContain(t, mustStop(t, c, 50*time.Millisecond), "stopped: signal: killed")
}

func TestStopWhileWaitingUntilReady(t *testing.T) {
	c := startChild(t, demoModel(t, "-load", "1h"))
	line(t, c, "a: loading")
	ready := make(chan error)
	go func() { ready <- c.ready(t.Context()) }()
	mustStop(t, c, patience)
	mustContain(t, errorText(<-ready), `model "a": stopped: exit status 0: last output: a: loading`)
}

func TestCrashAndStartAgain(t *testing.T) {
	out, log := newOutput(), slog.New(slog.DiscardHandler)
	c := startWith(t, demoModel(t), out, log)
	mustBeReady(t, c)
	syscall.Kill(c.job.pid(), syscall.SIGKILL)
	mustContain(t, mustExit(t, c), `model "a": exited: signal: killed: last output: a: loading`)
	if err := c.stop(patience); err != nil {
		t.Errorf("stop = %v", err)
	}
	d := startWith(t, shell("exit 4"), out, log)
	if got := mustExit(t, d); got != `model "a": exited: exit status 4` {
		t.Errorf("err = %s, which tells of the process before", got)
	}
	e := startWith(t, demoModel(t), out, log)
	mustBeReady(t, e)
	mustContain(t, strings.Join(out.lines(), "\n"), "[exited: signal: killed]", "[exited: exit status 4]")
}

// Many stop it at once; it is asked once.
func TestStopConcurrently(t *testing.T) {
	c := startChild(t, local(self(t), listenerRole, "stubborn"))
	line(t, c, "child ")
	stop := func(grace time.Duration) {
		if err := c.stop(grace); err != nil {
			t.Error(err)
		}
		if c.err() == nil {
			t.Error("stop has returned before the end")
		}
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() { stop(time.Hour) })
	}
	line(t, c, "got terminated")
	stop(200 * time.Millisecond) // It ends the patience of the others too.
	all.Wait()
	asked := 0
	for _, line := range c.out.lines() {
		if line == "got terminated" {
			asked++
		}
	}
	if asked != 1 {
		t.Errorf("asked %d times:\n%s", asked, strings.Join(c.out.lines(), "\n"))
	}
}

// Whatever the leader has started is gone when it has exited, however it ends.
func TestGrandchildren(t *testing.T) {
	const (
		sleeper = `sh -c 'echo "child $$"; exec sleep 1000'`
		orphan  = `sleep 1000 & echo "child $!"; `
		quiet   = sleeper + ` & `
		deaf    = `(trap '' TERM; exec ` + sleeper + `) & `
	)
	// It has its last words after the end of its leader.
	slowly := fmt.Sprintf("'%s' %s slow & ", self(t), listenerRole)
	tests := []struct {
		name   string
		script string
		grace  time.Duration // negative: it ends by itself
		want   string
	}{
		{"leader exits", orphan + "exit 7", -1, "exited: exit status 7"},
		{"leader crashes", orphan + "kill -KILL $$", -1, "exited: signal: killed"},
		{"stop", quiet + "wait", patience, "stopped: signal: terminated"},
		{"stop at once", quiet + "wait", 0, "stopped: signal: killed"},
		{"deaf child", deaf + "wait", 50 * time.Millisecond, "stopped: signal: terminated"},
		{"child outlives leader", slowly + "wait", patience, "stopped: signal: terminated: last output: child * | got terminated | done"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := startChild(t, shell(tt.script))
			child := pidIn(t, c, "child ")
			if tt.grace > 0 {
				go c.stop(time.Hour)
				<-c.job.ended // The grace is for what it leaves behind.
			}
			if tt.grace >= 0 {
				mustStop(t, c, tt.grace)
			}
			got := strings.ReplaceAll(mustExit(t, c), strconv.Itoa(child), "*")
			mustContain(t, got, tt.want)
			mustBeGone(t, child)
		})
	}
}

func TestStopCommand(t *testing.T) {
	tests := []struct {
		name  string
		stop  []string
		grace time.Duration
		want  []string
	}{
		{"works", []string{"sh", "-c", "echo by ${MODEL} ${PID}; kill -INT ${PID}"}, patience, []string{"stopped: exit status 0", "by a *", "got interrupt"}},
		{"takes its time", []string{"sh", "-c", "kill -INT ${PID}; sleep 0.1; echo tidied"}, patience, []string{"got interrupt", "tidied"}},
		{"does nothing", []string{"true"}, 50 * time.Millisecond, []string{"stopped: signal: killed"}},
		{"hangs", []string{"sh", "-c", "sleep 1000"}, 50 * time.Millisecond, []string{"stopped: signal: killed"}},
		{"fails", []string{"sh", "-c", "exit 2"}, patience, []string{"stopped: exit status 0", "got terminated"}},
		{"cannot be executed", []string{"no-such-command"}, patience, []string{"stopped: exit status 0", "got terminated"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := local(self(t), listenerRole)
			cfg.StopCommand = tt.stop
			c := startChild(t, cfg)
			pid := pidIn(t, c, "child ")
			got := strings.ReplaceAll(mustStop(t, c, tt.grace), strconv.Itoa(pid), "*")
			mustContain(t, got, tt.want...)
		})
	}
}

// What a stop command leaves of the group is asked as well.
func TestStopCommandLeaves(t *testing.T) {
	cfg := shell(fmt.Sprintf("'%s' %s slow & wait", self(t), listenerRole))
	cfg.StopCommand = []string{"kill", "-9", "${PID}"}
	c := startChild(t, cfg)
	child := pidIn(t, c, "child ")
	mustContain(t, mustStop(t, c, time.Hour), "stopped: signal: killed", "got terminated | done")
	mustBeGone(t, child)
}

// A stop by force ends the stop command as well.
func TestStopCommandForced(t *testing.T) {
	cfg := shell("exec sleep 1000")
	cfg.StopCommand = []string{"sh", "-c", "echo asking $$; sleep 1000"}
	c := startChild(t, cfg)
	patient := make(chan error)
	go func() { patient <- c.stop(time.Hour) }()
	asking := pidIn(t, c, "asking ")
	mustContain(t, mustStop(t, c, 0), "stopped: signal: killed")
	mustBeGone(t, asking)
	if err := <-patient; err != nil {
		t.Error(err)
	}
}

// All that a process prints at its end is kept.
func TestLastOutput(t *testing.T) {
	c := startChild(t, shell(`i=0; while [ $i -lt 900 ]; do echo "line $i"; i=$((i+1)); done; echo last >&2`))
	mustExit(t, c)
	lines := c.out.lines()
	if n := len(lines); n != 903 || !slices.Equal(lines[n-3:], []string{"line 899", "last", "[exited: exit status 0]"}) {
		t.Errorf("%d lines, the end is %q", n, lines[n-3:])
	}
}

func TestDemoCrashes(t *testing.T) {
	c := startChild(t, demoModel(t, "-crash-after", "10ms"))
	mustContain(t, mustExit(t, c), "exited: exit status 3", "error: something broke")
}
