package main

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// parentRole makes the test binary start models and then wait until it is killed.
const parentRole = "test-parent"

// deserterRole makes the test binary leave its process group, but not its child.
const deserterRole = "test-deserter"

func init() {
	roles[parentRole] = beParent
	roles[deserterRole] = beDeserter
}

// beDeserter never waits for its child.
func beDeserter([]string) error {
	child := exec.Command("sleep", "1000")
	if err := child.Start(); err != nil {
		return err
	}
	if err := syscall.Setpgid(0, 0); err != nil {
		return err
	}
	fmt.Println("child", os.Getpid())
	fmt.Println("grandchild", child.Process.Pid)
	os.Stdout.Close()
	os.Stderr.Close()
	select {}
}

// beParent starts a model by each of args, which are shell scripts.
func beParent(args []string) error {
	for i, script := range args {
		c, err := newProcess("a", shell(script), newOutput(), slog.New(slog.DiscardHandler)).start(context.Background())
		if err != nil {
			return err
		}
		fmt.Println(c.(*child).job.pid(), i)
	}
	select {}
}

// The kernel ends the models of a proxy that is killed.
func TestParentKilled(t *testing.T) {
	deaf := "trap '' TERM HUP INT; while :; do sleep 1000 & wait; done"
	parent := exec.Command(self(t), parentRole, "exec sleep 1000", deaf, "exec sleep 1000")
	stdout, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	parent.Stderr = os.Stderr
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	defer parent.Wait()
	var pids []int
	for lines := bufio.NewScanner(stdout); len(pids) < 3 && lines.Scan(); {
		var pid, i int
		if _, err := fmt.Sscan(lines.Text(), &pid, &i); err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
		defer syscall.Kill(-pid, syscall.SIGKILL) // The grandchildren, which nobody else ends.
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, 0); err != nil {
			t.Errorf("process %d is gone already: %v", pid, err)
		}
	}
	parent.Process.Kill()
	for _, pid := range pids {
		mustBeGone(t, pid)
	}
}

// A process that has left the group keeps the pipe open and holds nobody up.
func TestEscapee(t *testing.T) {
	if _, err := exec.LookPath("setsid"); err != nil {
		t.Skip(err)
	}
	defer func(d time.Duration) { lateOutput = d }(lateOutput)
	lateOutput = 50 * time.Millisecond // No output is to come.
	c := startChild(t, shell(`setsid sh -c 'echo "child $$"; exec sleep 1000' & wait`))
	escapee := pidIn(t, c, "child ")
	defer syscall.Kill(escapee, syscall.SIGKILL)
	mustStop(t, c, patience)
	if err := syscall.Kill(escapee, 0); err != nil {
		t.Errorf("the escapee is gone: %v", err)
	}
}

// A process that SIGKILL cannot end is told of, and its end is noticed all the
// same. One that a cgroup of the first version has frozen is like that.
func TestUnkillable(t *testing.T) {
	dir, err := os.MkdirTemp("/sys/fs/cgroup/freezer", "proxy-test-")
	if err != nil {
		t.Skip(err)
	}
	defer os.Remove(dir)
	write := func(file, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Error(err)
		}
	}
	c := startChild(t, shell("exec sleep 1000"))
	c.killWait = 50 * time.Millisecond
	write("cgroup.procs", fmt.Sprint(c.job.pid()))
	write("freezer.state", "FROZEN")
	if !happens(func() bool { // Until it is, a signal could end it.
		state, _ := os.ReadFile(filepath.Join(dir, "freezer.state"))
		return string(state) == "FROZEN\n"
	}) {
		t.Fatal("it is not frozen")
	}
	for range 2 {
		if got, want := errorText(c.stop(0)), fmt.Sprintf("process group %d is there still, 50ms after it was killed", c.job.pid()); got != want {
			t.Errorf("stop = %s, want %s", got, want)
		}
		if c.err() != nil {
			t.Errorf("err = %v", c.err())
		}
	}
	write("freezer.state", "THAWED")
	mustContain(t, mustExit(t, c), "stopped: signal: killed")
}

// A zombie holds no memory, so nobody waits until its parent has waited for it.
func TestZombieLeft(t *testing.T) {
	c := startChild(t, shell(fmt.Sprintf("'%s' %s & wait", self(t), deserterRole)))
	deserter, zombie := pidIn(t, c, "child "), pidIn(t, c, "grandchild ")
	defer syscall.Kill(deserter, syscall.SIGKILL)
	mustStop(t, c, patience)
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", zombie))
	if err != nil {
		t.Fatal(err)
	}
	mustContain(t, string(stat), ") Z ")
}

func TestNoFileLeft(t *testing.T) {
	open := func() string {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip(err)
		}
		var names []string
		for _, e := range entries {
			link, _ := os.Readlink("/proc/self/fd/" + e.Name())
			names = append(names, link)
		}
		return strings.Join(names, "\n")
	}
	start := func() {
		mustExit(t, startChild(t, shell("sleep 1000 & echo x")))
		c := startChild(t, demoModel(t))
		mustBeReady(t, c)
		mustStop(t, c, patience)
		newProcess("a", local("no-such-server"), newOutput(), slog.New(slog.DiscardHandler)).start(t.Context())
	}
	start() // The first one opens what is kept.
	before := open()
	for range 5 {
		start()
	}
	if left := lastingly(func() string {
		if after := open(); strings.Count(after, "\n") > strings.Count(before, "\n") {
			return after
		}
		return ""
	}); left != "" {
		t.Errorf("open files before:\n%s\nand after:\n%s", before, left)
	}
}
