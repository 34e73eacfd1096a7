// Command minimal is a whole host of package scheduler in one file, for copying. It
// offers models that do not all fit in memory, and runs a process for each:
//
//	go run ./examples/minimal
//	curl 127.0.0.1:8080/v1/chat/completions -d '{"model": "alpha"}'
//	curl 127.0.0.1:8080/status
//	curl -X POST '127.0.0.1:8080/unload?model=alpha'
//
// Change the variables below to make it yours. "Duty n" in a comment is number n of
// "What the host owes" in the documentation of the package.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"runtime/debug"
	"slices"
	"strconv"
	"syscall"
	"time"

	"example.com/scheduler"
)

// models has the address of each model and the command that starts it. The command may
// be any server that answers GET /health with 200 once it is ready, for example
//
//	{"127.0.0.1:9001", "llama-server", []string{"-m", "qwen.gguf", "--port", "9001"}}
//
// For the demo, this program starts itself. It answers with the body of the request.
var models = map[string]model{
	"alpha": {"127.0.0.1:9001", os.Args[0], []string{"demo-model", "127.0.0.1:9001"}},
	"beta":  {"127.0.0.1:9002", os.Args[0], []string{"demo-model", "127.0.0.1:9002"}},
	"embed": {"127.0.0.1:9003", os.Args[0], []string{"demo-model", "127.0.0.1:9003"}},
}

type model struct {
	address, program string
	args             []string
}

// groups let one of alpha and beta be in memory at a time, with embed beside it.
var groups = []scheduler.Group{
	{Name: "big", Members: []string{"alpha", "beta"}, Swap: true, Exclusive: true},
	{Name: "small", Members: []string{"embed"}, Persistent: true},
}

var (
	options     = scheduler.FIFOOptions{MaxQueue: 100, Cooldown: 5 * time.Second}
	maxBody     = int64(8 << 20)
	loadTimeout = 5 * time.Minute
	grace       = 10 * time.Second // from SIGTERM to SIGKILL
	drain       = 30 * time.Second // for the requests in flight at a shutdown
)

func main() {
	if len(os.Args) == 3 && os.Args[1] == "demo-model" {
		log.Fatal(demoModel(os.Args[2]))
	}
	// A second signal is ignored, because it would leave processes behind.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	listener, err := net.Listen("tcp", "127.0.0.1:8080")
	if err == nil {
		log.Print("listening on http://", listener.Addr())
		err = serve(ctx, listener)
	}
	if err != nil {
		log.Fatal(err)
	}
}

func demoModel(address string) error {
	time.Sleep(time.Second) // as if it loaded something
	http.HandleFunc("/health", func(http.ResponseWriter, *http.Request) {})
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
	return http.ListenAndServe(address, nil)
}

// serve serves until ctx ends or something fails, and leaves no process behind.
func serve(ctx context.Context, listener net.Listener) error {
	policy, err := scheduler.NewGroupSwapper(groups...)
	if err != nil {
		return err
	}
	running, fail := context.WithCancelCause(ctx)
	h := &host{events: make(chan func()), ended: make(chan struct{}), fail: fail, processes: make(map[string]*process)}
	h.sched = scheduler.NewFIFO("minimal", slog.Default(), policy, h, options)
	server := &http.Server{Handler: h.routes(), ReadHeaderTimeout: 10 * time.Second}
	go h.loop()
	go func() { fail(server.Serve(listener)) }()
	<-running.Done()

	h.post(h.shutdown) // First, or else Shutdown waits for requests that wait for a model.
	limit, cancel := context.WithTimeout(context.Background(), drain)
	defer cancel()
	server.Shutdown(limit)
	server.Close()
	h.post(func() { h.closing = true })
	<-h.ended
	if ctx.Err() != nil {
		return nil
	}
	return context.Cause(running)
}

// host implements scheduler.Effects. Duty 1: only the goroutine of loop calls the
// scheduler and uses the fields from sched on. Every other goroutine posts a function.
type host struct {
	events chan func()
	ended  chan struct{}           // closed when loop returns
	fail   context.CancelCauseFunc // begins the shutdown

	sched     *scheduler.FIFO
	processes map[string]*process // the latest of each model
	swaps     int                 // outstanding
	closing   bool
}

// loop handles events until the shutdown. Duty 10: it waits for the outstanding swaps
// before it stops the processes, so that no swap starts one afterwards.
func (h *host) loop() {
	defer close(h.ended)
	for !h.closing || h.swaps > 0 {
		h.handle(<-h.events)
	}
	h.StopProcesses(grace, slices.Collect(maps.Keys(models)))
}

// handle runs one event. Duty 10: a panic that comes out of the scheduler begins the
// shutdown, because a crash would leave processes behind.
func (h *host) handle(event func()) {
	defer func() {
		if p := recover(); p != nil {
			h.fail(fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
		}
	}()
	event()
}

// shutdown cancels all loads. Requests that wait are answered, later ones are refused,
// and those in flight go on.
func (h *host) shutdown() {
	for id := range models {
		h.CancelSwap(id)
	}
	h.sched.OnShutdown(nil)
}

// post has the loop run event, and does not wait for that. It reports false if the loop
// has ended.
func (h *host) post(event func()) bool {
	select {
	case h.events <- event:
		return true
	case <-h.ended:
		return false
	}
}

// do has the loop run event, and waits for that.
func (h *host) do(event func()) {
	done := make(chan struct{})
	if h.post(func() { defer close(done); event() }) {
		<-done
	}
}

func (h *host) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/", h.complete)
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, r *http.Request) {
		var s scheduler.Snapshot
		h.do(func() { s = h.sched.Snapshot() })
		json.NewEncoder(w).Encode(s)
	})
	mux.HandleFunc("POST /unload", func(w http.ResponseWriter, r *http.Request) {
		h.do(func() { h.sched.OnUnload(r.URL.Query()["model"], grace) })
	})
	return mux
}

// complete waits until the model that r names can serve it, and then passes r on.
func (h *host) complete(w http.ResponseWriter, r *http.Request) {
	// Duty 5: the Ctx of r ends when the caller leaves, but net/http notices that only
	// once the whole body has been read.
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var named struct{ Model string }
	if err == nil {
		err = json.Unmarshal(body, &named)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))

	// Duty 6: Respond is for this request alone. It is unbuffered, so an answer that has
	// been sent has also been received.
	req := scheduler.HandlerReq{Model: named.Model, Ctx: r.Context(), Respond: make(chan scheduler.HandlerResp)}
	if !h.post(func() { h.sched.OnRequest(req) }) {
		refuse(w, scheduler.ErrShutdown)
		return
	}
	select {
	case resp := <-req.Respond:
		if resp.Err != nil {
			refuse(w, resp.Err)
			return
		}
		resp.HandleFunc(w, r)
	case <-r.Context().Done():
		h.post(func() { h.sched.OnCancel(req) }) // Duty 5: OnRequest was posted before.
	}
}

func refuse(w http.ResponseWriter, err error) {
	code, retryAfter := scheduler.HTTPStatus(err)
	if retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(retryAfter.Seconds())))
	}
	http.Error(w, err.Error(), code)
}

// ModelState implements scheduler.Effects.
func (h *host) ModelState(id string) (scheduler.ProcessState, bool) {
	_, known := models[id]
	return h.processes[id].state(), known
}

// RunningModels implements scheduler.Effects. Stopped models in it do no harm.
func (h *host) RunningModels() map[string]scheduler.ProcessState {
	states := make(map[string]scheduler.ProcessState)
	for id, p := range h.processes {
		states[id] = p.state()
	}
	return states
}

// GrantServe implements scheduler.Effects. Duty 4: it returns true if complete has
// received the handler, which it then calls.
func (h *host) GrantServe(req scheduler.HandlerReq, id string) bool {
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: models[id].address})
	return send(req, scheduler.HandlerResp{HandleFunc: func(w http.ResponseWriter, r *http.Request) {
		// Duty 3: deferred, because ReverseProxy panics if the answer breaks off.
		defer h.post(func() { h.sched.OnServeDone(scheduler.ServeDoneEvent{ModelID: id, Lease: req.Lease}) })
		proxy.ServeHTTP(w, r)
	}})
}

// GrantError implements scheduler.Effects.
func (h *host) GrantError(req scheduler.HandlerReq, err error) {
	send(req, scheduler.HandlerResp{Err: err})
}

// send reports whether the caller has received resp. Duty 4: it does not block on a
// caller that has left, because then Ctx has ended.
func send(req scheduler.HandlerReq, resp scheduler.HandlerResp) bool {
	select {
	case req.Respond <- resp:
		return true
	case <-req.Ctx.Done():
		return false
	}
}

// StartSwap implements scheduler.Effects. Duty 2: the goroutine posts one OnSwapDone,
// however the swap ends. A target that is ready stays so; only evict has to go.
func (h *host) StartSwap(id string, evict []string) {
	p := h.processes[id]
	loads := p.state() != scheduler.StateReady
	if loads {
		evict = append(evict, id) // Its last process may still be stopping.
	}
	leaving := h.stop(evict)
	if loads {
		p = newProcess()
		h.processes[id] = p
	}
	h.swaps++
	go func() {
		for _, e := range leaving {
			<-e.alive.Done()
		}
		var err error
		if loads {
			err = p.load(models[id])
		}
		h.post(func() {
			h.swaps--
			p.ready = err == nil
			h.sched.OnSwapDone(scheduler.SwapDone{ModelID: id, Err: err})
		})
	}()
}

// CancelSwap implements scheduler.SwapCanceler.
func (h *host) CancelSwap(id string) {
	if h.processes[id].state() == scheduler.StateStarting {
		h.stop([]string{id})
	}
}

// StopProcesses implements scheduler.Effects. Duty 8: it blocks until they have stopped,
// and so holds up the loop. Every process has the same time-out, which is grace.
func (h *host) StopProcesses(_ time.Duration, ids []string) {
	for _, p := range h.stop(ids) {
		<-p.alive.Done()
	}
}

// stop asks the processes of ids to end, and returns them.
func (h *host) stop(ids []string) (leaving []*process) {
	for _, id := range ids {
		if p := h.processes[id]; p != nil {
			p.stop()
			leaving = append(leaving, p)
		}
	}
	return leaving
}

// process is one run of a model's program.
type process struct {
	wanted context.Context // ends with stop
	stop   context.CancelFunc
	alive  context.Context // ends when the process has; its cause is how
	exit   context.CancelCauseFunc
	ready  bool // its load has succeeded; belongs to the loop
}

func newProcess() *process {
	p := new(process)
	p.wanted, p.stop = context.WithCancel(context.Background())
	p.alive, p.exit = context.WithCancelCause(context.Background())
	return p
}

// state notices at once when the process dies by itself.
func (p *process) state() scheduler.ProcessState {
	switch {
	case p == nil || p.alive.Err() != nil:
		return scheduler.StateStopped
	case p.wanted.Err() != nil:
		return scheduler.StateStopping
	case !p.ready:
		return scheduler.StateStarting
	}
	return scheduler.StateReady
}

// load starts the program of m and waits until it is ready.
func (p *process) load(m model) (err error) {
	cmd := exec.CommandContext(p.wanted, m.program, m.args...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = grace
	// On Linux, Pdeathsig in cmd.SysProcAttr ends it even if this program is killed.
	go func() { p.exit(fmt.Errorf("process ended: %v", cmd.Run())) }()
	defer func() {
		if r := recover(); r != nil {
			p.stop()
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	start := time.Now()
	late := time.AfterFunc(loadTimeout, p.stop)
	defer late.Stop()
	for {
		resp, err := http.Get("http://" + m.address + "/health")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-p.alive.Done():
			return fmt.Errorf("not ready after %v: %w", time.Since(start), context.Cause(p.alive))
		case <-time.After(50 * time.Millisecond):
		}
	}
}
