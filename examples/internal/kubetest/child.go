package kubetest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// shownOutput is how much of the output of a process an error shows.
const shownOutput = 4 << 10

// child is a process that ends with this one, at the latest.
type child struct {
	cmd  *exec.Cmd
	log  string        // the file that it writes to
	done chan struct{} // closed when it has ended
	err  error         // how; set before done is closed
}

// startChild starts a program, whose output is added to the file log.
func startChild(log, program string, args ...string) (*child, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	c := &child{cmd: exec.Command(program, args...), log: log, done: make(chan struct{})}
	c.cmd.Stdout, c.cmd.Stderr = out, out
	endWithParent(c.cmd)
	started := make(chan error)
	go c.run(started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Base(program), err)
	}
	return c, nil
}

// run starts the process and waits for its end. It keeps its thread until then: the
// kernel takes the end of that thread for the end of the parent.
func (c *child) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := c.cmd.Start()
	started <- err
	if err == nil {
		c.err = c.cmd.Wait()
		close(c.done)
	}
}

// kill ends the process and waits until it is gone.
func (c *child) kill() {
	c.cmd.Process.Kill()
	<-c.done
}

// output returns the end of what the process has printed.
func (c *child) output() string {
	text, err := os.ReadFile(c.log)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%s:\n%s", filepath.Base(c.log), text[max(0, len(text)-shownOutput):])
}
