package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"time"
)

// lateOutput is how long output is waited for once a process group has ended. It
// is all there by then, unless a process that has left the group keeps its end of
// the pipe open. It is a variable for the tests.
var lateOutput = time.Second

// job is a command that leads a process group of its own, so that a signal reaches
// whatever it has started, and ^C in the proxy's terminal does not reach it.
//
// What leaves the group (setsid, setpgid, a container) is out of reach; a
// stopCommand is for that.
type job struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed when the leader has ended and been waited for
	gone  chan struct{} // closed when nothing of the group is left, and its output has been read

	mu     sync.Mutex
	asked  bool // what the leader leaves behind has until kill
	killed bool
	over   bool // no process is left: its number may be somebody else's
}

// startJob starts cmd. What it prints goes to out.
//
// The goroutine that starts the leader keeps its thread until the leader has
// ended, because on Linux the thread that has started it counts as its parent; see
// ownGroup. It would wait in a system call anyway.
func startJob(cmd *exec.Cmd, out io.Writer) (*job, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = w, w // One pipe, so that lines keep their order.
	ownGroup(cmd)
	j := &job{cmd: cmd, ended: make(chan struct{}), gone: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		w.Close()
		started <- err
		if err == nil {
			j.watch(r, out)
		}
	}()
	if err := <-started; err != nil {
		r.Close()
		return nil, fmt.Errorf("cannot execute %q: %w", cmd.Args[0], err)
	}
	return j, nil
}

// pid returns the number of the leader, and of its group.
func (j *job) pid() int { return j.cmd.Process.Pid }

// state tells how the leader has ended. It may be called once ended is closed.
func (j *job) state() string { return j.cmd.ProcessState.String() }

// succeeded reports whether the leader has ended without an error.
func (j *job) succeeded() bool { return j.cmd.ProcessState.Success() }

// spare leaves it to the caller when to kill what the leader leaves behind. A
// leader that ends without being asked takes everything with it.
func (j *job) spare() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.asked = true
}

// terminate is spare, and asks the whole group to end.
func (j *job) terminate() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.asked = true
	if !j.over {
		terminateGroup(j.cmd.Process)
	}
}

// kill ends the whole group by force. It does not wait.
func (j *job) kill() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.killed = true
	if !j.over {
		killGroup(j.cmd.Process)
	}
}

// watch waits until nothing is left of the group. It does so for as long as that
// takes: a process that hangs in the kernel holds its memory.
func (j *job) watch(r *os.File, out io.Writer) {
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		io.Copy(out, r)
	}()
	j.cmd.Wait() // Its error is in the state, and there is no other to come.
	close(j.ended)
	for pause := time.Millisecond; j.left(); pause = min(2*pause, 100*time.Millisecond) {
		time.Sleep(pause)
	}
	r.SetReadDeadline(time.Now().Add(lateOutput))
	<-copied
	r.Close()
	close(j.gone)
}

// left reports whether anything is left of the group after the end of its leader,
// and kills it unless it may end by itself.
//
// The number of the group is nobody else's while it has members, and is not given
// to a new process soon after, so a signal cannot go astray.
func (j *job) left() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.killed || !j.asked {
		killGroup(j.cmd.Process)
	}
	j.over = !groupLives(j.cmd.Process)
	return !j.over
}
