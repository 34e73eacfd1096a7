package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"example.com/scheduler"
)

var (
	options     = scheduler.FIFOOptions{MaxQueue: 100, Cooldown: 5 * time.Second}
	loadTimeout = 5 * time.Minute
	grace       = 10 * time.Second // from SIGTERM to SIGKILL
	drain       = 30 * time.Second // for the requests in flight at a shutdown
)

// models are the models of a demo. They are this program itself, started with other
// arguments. A real model looks like this:
//
//	"qwen": {"127.0.0.1:9001", "llama-server", []string{"-m", "qwen.gguf", "--port", "9001"}},
var models = map[string]model{
	"alpha": {"127.0.0.1:9001", os.Args[0], []string{"demo-model", "127.0.0.1:9001"}},
	"beta":  {"127.0.0.1:9002", os.Args[0], []string{"demo-model", "127.0.0.1:9002"}},
	"embed": {"127.0.0.1:9003", os.Args[0], []string{"demo-model", "127.0.0.1:9003"}},
}

// groups let one of alpha and beta be in memory at a time, with embed beside it.
var groups = []scheduler.Group{
	{Name: "big", Members: []string{"alpha", "beta"}, Swap: true, Exclusive: true},
	{Name: "small", Members: []string{"embed"}, Persistent: true},
}

// model is the address of a server, and the program that serves there.
type model struct {
	address, program string
	args             []string
}

// run runs the program of m until it ends, and ends it when ctx ends. It calls ready once
// GET /health is answered with 200.
//
// If the host is killed with SIGKILL, the program goes on. On Linux that can be changed:
// see Pdeathsig in syscall.SysProcAttr.
func (m model) run(ctx context.Context, ready func()) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	late := time.AfterFunc(loadTimeout, func() { stop(errors.New("not ready in time")) })
	defer late.Stop()
	client := http.Client{Timeout: time.Second}
	go func() {
		for ; ctx.Err() == nil; time.Sleep(50 * time.Millisecond) {
			resp, err := client.Get("http://" + m.address + "/health")
			if err == nil && resp.Body.Close() == nil && resp.StatusCode == http.StatusOK && late.Stop() {
				ready()
				return
			}
		}
	}()
	cmd := exec.CommandContext(ctx, m.program, m.args...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = grace
	err := cmd.Run()
	return fmt.Errorf("%s has ended: %v", m.program, cmp.Or(context.Cause(ctx), err))
}

// init makes this program a model of the demo if its arguments say so. It answers each
// request with the body of the request.
func init() {
	if len(os.Args) != 3 || os.Args[1] != "demo-model" {
		return
	}
	signal.Ignore(os.Interrupt) // Ctrl-C in a terminal reaches the models too.
	time.Sleep(time.Second)     // as if it loaded something
	http.HandleFunc("/health", func(http.ResponseWriter, *http.Request) {})
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
	log.Fatal(http.ListenAndServe(os.Args[2], nil))
}
