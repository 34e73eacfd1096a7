// Command minimal is a whole host of package scheduler in one file, for copying. It runs a
// process for each model and passes requests on to it:
//
//	go run ./examples/minimal
//	curl 127.0.0.1:8080/v1/chat/completions -d '{"model": "alpha"}'
//	curl 127.0.0.1:8080/status
//	curl -X POST '127.0.0.1:8080/unload?model=alpha'
//
// This file is the host. What you will change is in models.go: the settings, the models,
// and how the program of a model is run. "Duty n" in a comment is number n of "What the
// host owes" in the documentation of the package.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/signal"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"example.com/scheduler"
)

func main() {
	// A second signal is ignored: dying of it would leave processes behind.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	listener, err := net.Listen("tcp", "127.0.0.1:8080")
	if err != nil {
		log.Fatal(err)
	}
	log.Print("listening on http://", listener.Addr())
	if err := serve(ctx, listener); ctx.Err() == nil {
		log.Fatal(err)
	}
}

// host implements scheduler.Effects. Duty 1: only the goroutine of loop calls the
// scheduler and uses the two maps. All others send it functions.
type host struct {
	events    chan func()
	fail      context.CancelCauseFunc // begins the shutdown
	sched     *scheduler.FIFO
	states    map[string]scheduler.ProcessState
	processes map[string]*process // the latest of each model
	life      context.Context     // its end stops all processes, and lets no more start
	work      sync.WaitGroup      // the swaps and the processes
}

// process is one run of a model.
type process struct {
	stop  context.CancelFunc
	ended chan struct{}
}

// serve serves until ctx ends or something fails, and leaves no process behind.
func serve(ctx context.Context, listener net.Listener) error {
	policy, err := scheduler.NewGroupSwapper(groups...)
	if err != nil {
		return err
	}
	ctx, fail := context.WithCancelCause(ctx)
	life, kill := context.WithCancel(context.Background())
	h := &host{events: make(chan func()), fail: fail, life: life}
	h.states, h.processes = make(map[string]scheduler.ProcessState), make(map[string]*process)
	for id := range models {
		h.states[id] = scheduler.StateStopped
	}
	h.sched = scheduler.NewFIFO("minimal", slog.Default(), policy, h, options)
	server := &http.Server{Handler: h.routes(), ReadHeaderTimeout: 10 * time.Second}
	go h.loop()
	go func() { fail(server.Serve(listener)) }()
	<-ctx.Done()

	// Duty 10. OnShutdown comes first, because Shutdown waits until all are answered.
	h.events <- func() { h.sched.OnShutdown(nil) }
	defer time.AfterFunc(drain, func() { server.Close() }).Stop()
	server.Shutdown(context.Background())
	kill()
	h.work.Wait() // for the swaps too, none of which can start a process after kill
	return context.Cause(ctx)
}

// loop handles events for as long as the program runs. Duty 10: a panic that comes out
// of the scheduler begins the shutdown, because a crash would leave processes behind.
func (h *host) loop() {
	defer func() {
		if p := recover(); p != nil {
			h.fail(fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
			go h.loop()
		}
	}()
	for event := range h.events {
		event()
	}
}

func (h *host) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/", h.complete)
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, r *http.Request) {
		s := make(chan scheduler.Snapshot, 1)
		h.events <- func() { defer close(s); s <- h.sched.Snapshot() }
		json.NewEncoder(w).Encode(<-s)
	})
	mux.HandleFunc("POST /unload", func(w http.ResponseWriter, r *http.Request) {
		h.events <- func() { h.sched.OnUnload(r.URL.Query()["model"], grace) }
	})
	return mux
}

// complete waits until the model that r names can serve it, and then passes r on.
func (h *host) complete(w http.ResponseWriter, r *http.Request) {
	// Duty 5: the Ctx of r ends when the caller leaves, but net/http notices that only
	// once the whole body has been read.
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 8<<20))
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
	h.events <- func() { h.sched.OnRequest(req) }
	select {
	case resp := <-req.Respond:
		if resp.Err == nil {
			resp.HandleFunc(w, r)
			return
		}
		code, retryAfter := scheduler.HTTPStatus(resp.Err)
		if retryAfter > 0 {
			w.Header().Set("Retry-After", fmt.Sprint(int(retryAfter.Seconds())))
		}
		http.Error(w, resp.Err.Error(), code)
	case <-r.Context().Done():
		h.events <- func() { h.sched.OnCancel(req) } // Duty 5: after its OnRequest.
	}
}

func (h *host) ModelState(id string) (scheduler.ProcessState, bool) {
	state, known := h.states[id]
	return state, known
}

func (h *host) RunningModels() map[string]scheduler.ProcessState { return h.states }

// GrantServe returns true if complete has received the handler, which it then calls
// (duty 4).
func (h *host) GrantServe(req scheduler.HandlerReq, id string) bool {
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: models[id].address})
	done := func() { h.sched.OnServeDone(scheduler.ServeDoneEvent{ModelID: id, Lease: req.Lease}) }
	return send(req, scheduler.HandlerResp{HandleFunc: func(w http.ResponseWriter, r *http.Request) {
		// Duty 3: deferred, because ReverseProxy panics if the answer breaks off.
		defer func() { h.events <- done }()
		proxy.ServeHTTP(w, r)
	}})
}

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

// StartSwap returns at once. Duty 2: report has an effect once, and is called however the
// swap ends. A target that is ready stays so: only evict has to go.
func (h *host) StartSwap(id string, evict []string) {
	var once sync.Once
	report := func(err error) {
		once.Do(func() {
			h.events <- func() {
				if err == nil && h.states[id] == scheduler.StateStarting {
					h.states[id] = scheduler.StateReady
				}
				h.sched.OnSwapDone(scheduler.SwapDone{ModelID: id, Err: err})
			}
		})
	}
	leaving := h.stop(evict)
	if h.states[id] == scheduler.StateReady {
		h.work.Go(func() { wait(leaving); report(nil) })
		return
	}
	if last := h.processes[id]; last != nil {
		leaving = append(leaving, last) // It may still be stopping.
	}
	h.start(id, leaving, report)
}

// start starts a process for a model once those in leaving have ended, and calls report
// when it is ready and when it has ended.
func (h *host) start(id string, leaving []*process, report func(error)) {
	ctx, stop := context.WithCancel(h.life)
	p := &process{stop, make(chan struct{})}
	h.processes[id], h.states[id] = p, scheduler.StateStarting
	h.work.Go(func() {
		var err error
		defer func() {
			if r := recover(); r != nil {
				err = fmt.Errorf("panic: %v", r)
			}
			stop()
			h.events <- func() {
				if h.processes[id] == p { // Otherwise the next one waits for this one to end.
					h.states[id] = scheduler.StateStopped
				}
			}
			close(p.ended)
			report(err)
		}()
		wait(leaving)
		err = models[id].run(ctx, func() { report(nil) })
	})
}

// StopProcesses does not wait. Duty 8: the state is stopping, and StartSwap waits.
func (h *host) StopProcesses(_ time.Duration, ids []string) { h.stop(ids) }

// CancelSwap implements scheduler.SwapCanceler.
func (h *host) CancelSwap(id string) {
	if h.states[id] == scheduler.StateStarting {
		h.stop([]string{id})
	}
}

// stop asks the processes of ids to end, and returns those that have not ended yet.
func (h *host) stop(ids []string) (leaving []*process) {
	for _, id := range ids {
		if h.states[id] != scheduler.StateStopped {
			h.states[id] = scheduler.StateStopping
			h.processes[id].stop()
			leaving = append(leaving, h.processes[id])
		}
	}
	return leaving
}

func wait(leaving []*process) {
	for _, p := range leaving {
		<-p.ended
	}
}
