package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"time"

	"example.com/scheduler/examples/internal/config"
)

// process is a model that is a process of this machine. It implements [backend].
type process struct {
	name     string
	cfg      *config.Model
	out      *output
	log      *slog.Logger
	killWait time.Duration // how long it may take to go after SIGKILL
}

// newProcess is the [backendFactory] of processes. Their output goes to out and,
// from there, to log.
func newProcess(name string, cfg *config.Model, out *output, log *slog.Logger) backend {
	return &process{name: name, cfg: cfg, out: out, log: log.With("model", name), killWait: 5 * time.Second}
}

// start implements [backend].
func (p *process) start(ctx context.Context) (instance, error) {
	c, err := p.spawn(ctx)
	if err != nil {
		return nil, fmt.Errorf("model %q: %w", p.name, err)
	}
	return c, nil
}

// spawn starts a child at a port that is its own until it has ended.
func (p *process) spawn(ctx context.Context) (c *child, err error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	port, err := ports.take()
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			ports.give(port)
		}
	}()
	c = &child{process: p, port: port, started: time.Now(), done: make(chan struct{})}
	c.vars = p.cfg.Vars(p.name)
	c.vars["PORT"] = strconv.Itoa(port)
	if c.addr, err = c.address(ctx); err != nil {
		return nil, err
	}
	cmd, err := c.command(p.cfg.Command)
	if err != nil {
		return nil, err
	}
	p.out.begin(p.log, fmt.Sprintf("[starting at %s]", shownURL(c.addr)))
	if c.job, err = startJob(cmd, p.out); err != nil {
		p.out.mark(fmt.Sprintf("[%v]", err))
		return nil, err
	}
	c.vars["PID"] = strconv.Itoa(c.job.pid())
	go c.watch()
	return c, nil
}

// child is one process of a model, with all that it has started in its process
// group. It implements [instance].
type child struct {
	*process
	port    int
	addr    *url.URL
	vars    map[string]string // what words of the configuration may name
	started time.Time
	job     *job
	done    chan struct{} // closed when nothing is left
	end     error         // why; set before done is closed

	mu       sync.Mutex
	asked    bool          // to stop
	stopping *job          // the stop command; nil: there is none
	over     chan struct{} // closed when the stop command has done its work
}

// address returns where the child will answer. If it is on this machine, at a port
// that was not chosen for it, somebody else may have that.
func (c *child) address(ctx context.Context) (*url.URL, error) {
	u, err := c.cfg.Address(c.vars)
	if err == nil && u.Port() != c.vars["PORT"] && config.IsLoopback(u.Hostname()) && connect(ctx, u) == nil {
		return nil, fmt.Errorf("something else answers at %s already", u.Host)
	}
	return u, err
}

// command prepares words for execution.
func (c *child) command(words []string) (*exec.Cmd, error) {
	words = slices.Clone(words)
	for i := range words {
		var err error
		if words[i], err = config.Expand(words[i], c.vars); err != nil {
			return nil, fmt.Errorf("command, word %d: %w", i+1, err)
		}
	}
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Dir = c.cfg.Dir
	if cmd.Dir != "" {
		if _, err := os.Stat(cmd.Dir); err != nil {
			return nil, fmt.Errorf("working directory: %w", err) // Else it would seem that the program is missing.
		}
	}
	var err error
	cmd.Env, err = c.cfg.Environ(cmd.Environ(), c.vars) // With a PWD that is Dir.
	return cmd, err
}

// url implements [instance].
func (c *child) url() *url.URL { return c.addr }

// exited implements [instance].
func (c *child) exited() <-chan struct{} { return c.done }

// err implements [instance].
func (c *child) err() error {
	select {
	case <-c.done:
		return c.end
	default:
		return nil
	}
}

// ready implements [instance].
func (c *child) ready(ctx context.Context) error {
	unhealthy := endpoint{c.cfg, c.addr}.poll(ctx, c.started, c.job.ended)
	select {
	case <-c.job.ended: // Even if something answers.
		return c.endedEarly(ctx)
	default:
	}
	if unhealthy != nil {
		return fmt.Errorf("model %q: %w%s", c.name, unhealthy, c.out.said())
	}
	return nil
}

// endedEarly waits for the last words of a process that has ended.
func (c *child) endedEarly(ctx context.Context) error {
	select {
	case <-c.done:
		return c.end
	case <-ctx.Done():
		return fmt.Errorf("model %q: exited: %s%s", c.name, c.job.state(), c.out.said())
	}
}

// stop implements [instance]. Whoever has the least patience decides, if several
// stop it at once.
func (c *child) stop(grace time.Duration) error {
	if grace > 0 {
		c.ask()
		if c.endsWithin(grace) {
			return nil
		}
	}
	c.kill()
	if c.endsWithin(c.killWait) {
		return nil
	}
	return fmt.Errorf("process group %d is there still, %v after it was killed", c.job.pid(), c.killWait)
}

// endsWithin waits for the end, but no longer than d.
func (c *child) endsWithin(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-c.done:
		return true
	case <-timer.C:
		return false
	}
}

// ask asks the child to end, the first time that it is called: many a server takes
// a second SIGTERM for the order to drop everything.
func (c *child) ask() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.asked {
		return
	}
	c.asked = true
	if len(c.cfg.StopCommand) > 0 {
		err := c.askByCommand()
		if err == nil {
			return
		}
		c.log.Warn("stop command failed", "err", err)
	}
	c.job.terminate()
}

// askByCommand starts the stop command, which may take until kill. What it leaves
// of the group, or the whole group if it fails, is asked by SIGTERM.
func (c *child) askByCommand() error {
	cmd, err := c.command(c.cfg.StopCommand)
	if err != nil {
		return err
	}
	c.job.spare()
	j, err := startJob(cmd, c.out)
	if err != nil {
		return err
	}
	c.stopping, c.over = j, make(chan struct{})
	go func() {
		defer close(c.over)
		<-j.gone
		if j.succeeded() {
			<-c.job.ended
		} else {
			c.log.Warn("stop command failed", "state", j.state())
		}
		c.job.terminate()
	}()
	return nil
}

// kill ends the child and its stop command by force.
func (c *child) kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = true
	c.job.kill()
	if c.stopping != nil {
		c.stopping.kill()
	}
}

// watch waits for the end of the child.
func (c *child) watch() {
	<-c.job.gone
	c.mu.Lock()
	verb, over := "exited", c.over
	if c.asked {
		verb = "stopped"
	}
	c.asked = true // It is too late for that.
	c.mu.Unlock()
	if over != nil {
		<-over
	}
	c.out.flush()
	c.end = fmt.Errorf("model %q: %s: %s%s", c.name, verb, c.job.state(), c.out.said())
	c.out.mark(fmt.Sprintf("[%s: %s]", verb, c.job.state()))
	close(c.done)
	ports.give(c.port) // Whoever meets another model at it can know by now.
}
