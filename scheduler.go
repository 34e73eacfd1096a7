// Package scheduler is the decision maker for a server that offers many AI models at
// one address but can keep only a few in memory. For every request it decides when it
// is served, and which models are stopped and started first.
//
// It is a pure state machine: it starts no goroutine, takes no lock, sets no timer and
// does no I/O. There are three sides to it:
//
//   - A [Scheduler] is told what happens. [NewFIFO] makes the one in this package.
//   - A [Swapper] is the eviction policy. It is asked which models have to stop before
//     another one can serve. [GroupSwapper] and [SetSwapper] are in this package.
//   - [Effects] carries out what was decided. That is the host: your server.
//
// A model is the string that a request names. A swap stops some models, starts its
// target and waits until the target is ready. It is outstanding from StartSwap to
// OnSwapDone. A request is waiting while the scheduler holds it, and in flight once it
// has been granted, until the host reports its end. Each grant has a number, its lease.
//
// RULES.md states how [FIFO] decides, in numbered rules: R8, for example, is about
// requests that have waited for too long.
//
// # What the host owes
//
//  1. One goroutine makes all calls: the run loop.
//  2. There is one OnSwapDone for each StartSwap, also when the swap fails or panics. A
//     target that is ready already stays so: only the evictions are wanted.
//  3. There is one OnServeDone for each GrantServe that returned true, also when the
//     handler panics. It carries the lease. A host that does not keep leases must make
//     sure that hung handlers end by themselves.
//  4. GrantServe returns true only if the handler will run. Neither GrantServe nor
//     GrantError blocks on a caller that has left.
//  5. When a caller leaves, the host calls OnCancel after the OnRequest, or the Ctx of
//     the request ends. net/http notices that a client has left only once the body of
//     its request has been read.
//  6. A Respond channel is used for one request at a time.
//  7. A handler does not send a request through the same scheduler while it is being
//     served. The two could wait for each other.
//  8. StopProcesses blocks until the processes have stopped. It may return earlier only
//     if ModelState says stopping until they have, and a swap for them waits.
//  9. After a change of the limits, the pauses or the rules of the policy, the host
//     calls OnUnload without targets.
//  10. At the end, and when a panic has come out of the scheduler, the host calls
//     OnShutdown. Then it waits for the outstanding swaps, and then it stops the
//     processes.
//
// # A run loop
//
// The simplest run loop is a loop of functions. This one is from examples/minimal, a
// whole host in one file, for copying:
//
//	// loop handles events for as long as the program runs. Duty 10: a panic that comes out
//	// of the scheduler begins the shutdown, because a crash would leave processes behind.
//	func (h *host) loop() {
//		defer func() {
//			if p := recover(); p != nil {
//				h.fail(fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
//				go h.loop()
//			}
//		}()
//		for event := range h.events {
//			event()
//		}
//	}
//
// Every other goroutine sends functions to h.events. The goroutine that serves an HTTP
// request hands in a [HandlerReq] and waits for the answer:
//
//	// complete waits until the model that r names can serve it, and then passes r on.
//	func (h *host) complete(w http.ResponseWriter, r *http.Request) {
//		// Duty 5: the Ctx of r ends when the caller leaves, but net/http notices that only
//		// once the whole body has been read.
//		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 8<<20))
//		var named struct{ Model string }
//		if err == nil {
//			err = json.Unmarshal(body, &named)
//		}
//		if err != nil {
//			http.Error(w, err.Error(), http.StatusBadRequest)
//			return
//		}
//		r.Body = io.NopCloser(bytes.NewReader(body))
//
//		// Duty 6: Respond is for this request alone. It is unbuffered, so an answer that has
//		// been sent has also been received.
//		req := scheduler.HandlerReq{Model: named.Model, Ctx: r.Context(), Respond: make(chan scheduler.HandlerResp)}
//		h.events <- func() { h.sched.OnRequest(req) }
//		select {
//		case resp := <-req.Respond:
//			if resp.Err == nil {
//				resp.HandleFunc(w, r)
//				return
//			}
//			code, retryAfter := scheduler.HTTPStatus(resp.Err)
//			if retryAfter > 0 {
//				w.Header().Set("Retry-After", fmt.Sprint(int(retryAfter.Seconds())))
//			}
//			http.Error(w, resp.Err.Error(), code)
//		case <-r.Context().Done():
//			h.events <- func() { h.sched.OnCancel(req) } // Duty 5: after its OnRequest.
//		}
//	}
//
// [Effects] answers the request. The handler then runs on the goroutine of the caller:
//
//	// GrantServe returns true if complete has received the handler, which it then calls
//	// (duty 4).
//	func (h *host) GrantServe(req scheduler.HandlerReq, id string) bool {
//		proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: models[id].address})
//		done := func() { h.sched.OnServeDone(scheduler.ServeDoneEvent{ModelID: id, Lease: req.Lease}) }
//		return send(req, scheduler.HandlerResp{HandleFunc: func(w http.ResponseWriter, r *http.Request) {
//			// Duty 3: deferred, because ReverseProxy panics if the answer breaks off.
//			defer func() { h.events <- done }()
//			proxy.ServeHTTP(w, r)
//		}})
//	}
//
//	func (h *host) GrantError(req scheduler.HandlerReq, err error) {
//		send(req, scheduler.HandlerResp{Err: err})
//	}
//
//	// send reports whether the caller has received resp. Duty 4: it does not block on a
//	// caller that has left, because then Ctx has ended.
//	func send(req scheduler.HandlerReq, resp scheduler.HandlerResp) bool {
//		select {
//		case req.Respond <- resp:
//			return true
//		case <-req.Ctx.Done():
//			return false
//		}
//	}
//
// A swap runs on a goroutine of its own. In this host that goroutine also watches the
// process until it ends:
//
//	// StartSwap returns at once. Duty 2: report has an effect once, and is called however the
//	// swap ends. A target that is ready stays so: only evict has to go.
//	func (h *host) StartSwap(id string, evict []string) {
//		var once sync.Once
//		report := func(err error) {
//			once.Do(func() {
//				h.events <- func() {
//					if err == nil && h.states[id] == scheduler.StateStarting {
//						h.states[id] = scheduler.StateReady
//					}
//					h.sched.OnSwapDone(scheduler.SwapDone{ModelID: id, Err: err})
//				}
//			})
//		}
//		leaving := h.stop(evict)
//		if h.states[id] == scheduler.StateReady {
//			h.work.Go(func() { wait(leaving); report(nil) })
//			return
//		}
//		if last := h.processes[id]; last != nil {
//			leaving = append(leaving, last) // It may still be stopping.
//		}
//		h.start(id, leaving, report)
//	}
//
//	// start starts a process for a model once those in leaving have ended, and calls report
//	// when it is ready and when it has ended.
//	func (h *host) start(id string, leaving []*process, report func(error)) {
//		ctx, stop := context.WithCancel(h.life)
//		p := &process{stop, make(chan struct{})}
//		h.processes[id], h.states[id] = p, scheduler.StateStarting
//		h.work.Go(func() {
//			var err error
//			defer func() {
//				if r := recover(); r != nil {
//					err = fmt.Errorf("panic: %v", r)
//				}
//				stop()
//				h.events <- func() {
//					if h.processes[id] == p { // Otherwise the next one waits for this one to end.
//						h.states[id] = scheduler.StateStopped
//					}
//				}
//				close(p.ended)
//				report(err)
//			}()
//			wait(leaving)
//			err = models[id].run(ctx, func() { report(nil) })
//		})
//	}
//
// The host ends in this order:
//
//	// Duty 10. OnShutdown comes first, because Shutdown waits until all are answered.
//	h.events <- func() { h.sched.OnShutdown(nil) }
//	defer time.AfterFunc(drain, func() { server.Close() }).Stop()
//	server.Shutdown(context.Background())
//	kill()
//	h.work.Wait() // for the swaps too, none of which can start a process after kill
package scheduler

import (
	"log/slog"
	"time"
)

// Scheduler decides when requests are served, and when models are stopped and started.
// The run loop of the host tells it what happens, one event at a time, and the scheduler
// answers through [Effects].
//
// All methods are called on one goroutine, the run loop. Their effects are called before
// they return. They block only for as long as an effect does. Late, duplicate and
// impossible events change nothing.
type Scheduler interface {
	// OnRequest hands in a request. It is answered with exactly one GrantServe or
	// GrantError, now or later, unless its caller leaves first.
	OnRequest(req HandlerReq)
	// OnSwapDone reports the end of a swap that StartSwap started. By then ModelState has
	// to say that the target is ready, if it is, and that what was evicted has stopped.
	OnSwapDone(ev SwapDone)
	// OnServeDone reports the end of a request that was granted.
	OnServeDone(ev ServeDoneEvent)
	// OnUnload stops the models in targets. Requests that wait for them are answered
	// with [ErrModelUnloaded], their outstanding swaps are abandoned, and StopProcesses
	// is called with timeout. Requests in flight are not waited for.
	//
	// OnUnload without targets stops nothing. It says that limits, pauses, the rules of
	// the Swapper or the state of a process have changed: the scheduler forgets the
	// Swapper's answers and looks at every waiting request again.
	//
	// The scheduler does not keep targets.
	OnUnload(targets []string, timeout time.Duration)
	// OnShutdown answers every waiting request with err, and later every request that
	// arrives. If err is nil they get [ErrShutdown]. Reports of swaps and of requests in
	// flight still keep the books. Nothing else happens after that. OnShutdown cancels no
	// load and stops no process: that is up to the host.
	OnShutdown(err error)
}

// Canceler is an optional companion of [Scheduler], found by type assertion.
type Canceler interface {
	// OnCancel says that the caller of req has left. If a request with the same Respond
	// channel is waiting, it is taken out of the queue and gets no answer. Otherwise
	// nothing happens: the request may have been answered meanwhile, or have no
	// Respond channel.
	OnCancel(req HandlerReq)
}

// Cancel calls OnCancel if s is a [Canceler], and reports whether it is. If it is not,
// the end of req.Ctx has to do.
func Cancel(s Scheduler, req HandlerReq) bool {
	c, ok := s.(Canceler)
	if ok {
		c.OnCancel(req)
	}
	return ok
}

// Factory makes a scheduler for a host, so that the host need not know which one it is.
// Name appears in log lines. The logger may be nil.
type Factory func(name string, logger *slog.Logger, eff Effects) Scheduler
