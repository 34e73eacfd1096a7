// Package scheduler decides, for a server that puts many AI models behind one
// address while only some of them fit in memory, which request is served when,
// and which model has to be stopped or started first.
//
// It is a pure state machine with three parts:
//
//   - A [Scheduler] is told what happens. [FIFO] is the one in this package.
//   - A [Swapper] is asked which models must go when another one is loaded.
//     [GroupSwapper] is the one in this package.
//   - [Effects] carries out what was decided. It is the host, your server.
//
// The package starts no goroutine, takes no lock, sets no timer and does no I/O.
// A model is the string that a request names. A swap is one StartSwap until its
// SwapDone: stop the evicted models, start the target, wait until it is ready.
//
// # What the host owes
//
//  1. One goroutine calls the scheduler: the run loop. Everybody else sends to it.
//  2. Every StartSwap is followed by exactly one OnSwapDone, also when the swap
//     fails or panics.
//  3. Every GrantServe that returned true is followed by exactly one OnServeDone,
//     also when the handler panics. It carries the lease; a host that leaves it 0
//     must make sure that hung handlers end by themselves.
//  4. GrantServe returns true only if the handler will run. Neither GrantServe
//     nor GrantError blocks on a caller who has gone.
//  5. When a caller leaves, OnCancel is called after its OnRequest, or the
//     request's Ctx ends.
//  6. A Respond channel serves one request at a time.
//  7. A handler does not send a request through the same scheduler while it is
//     being served: the two could wait for each other.
//  8. StopProcesses blocks until the processes have stopped. It may return earlier
//     only if ModelState says stopping until then and a swap for them waits.
//
// # A run loop
//
// This is a complete one. The handler's goroutine does the serving; the loop
// only hands it the permission. Processes (start, stop, state) are left out; they
// are [Effects] of the host's own making.
//
//	type server struct {
//		sched    scheduler.Scheduler
//		requests chan scheduler.HandlerReq
//		cancels  chan scheduler.HandlerReq
//		swapped  chan scheduler.SwapDone
//		served   chan scheduler.ServeDoneEvent
//		done     chan struct{} // closed when the loop has ended
//	}
//
//	func (s *server) loop(ctx context.Context) {
//		defer close(s.done)
//		for {
//			select {
//			case req := <-s.requests:
//				s.sched.OnRequest(req)
//			case req := <-s.cancels:
//				scheduler.Cancel(s.sched, req)
//			case ev := <-s.swapped:
//				s.sched.OnSwapDone(ev)
//			case ev := <-s.served:
//				s.sched.OnServeDone(ev)
//			case <-ctx.Done():
//				s.sched.OnShutdown(nil)
//				return
//			}
//		}
//	}
//
//	// GrantServe and GrantError are two of the six Effects. The caller's Ctx ends
//	// when it leaves, so neither can block for long.
//	func (s *server) GrantServe(req scheduler.HandlerReq, model string) bool {
//		serve := func(w http.ResponseWriter, r *http.Request) {
//			defer func() {
//				select {
//				case s.served <- scheduler.ServeDoneEvent{ModelID: model, Lease: req.Lease}:
//				case <-s.done:
//				}
//			}()
//			s.proxy(model).ServeHTTP(w, r)
//		}
//		select {
//		case req.Respond <- scheduler.HandlerResp{HandleFunc: serve}:
//			return true
//		case <-req.Ctx.Done():
//			return false
//		}
//	}
//
//	func (s *server) GrantError(req scheduler.HandlerReq, err error) {
//		select {
//		case req.Respond <- scheduler.HandlerResp{Err: err}:
//		case <-req.Ctx.Done():
//		}
//	}
//
//	// StartSwap is a third. The background goroutine owes one SwapDone.
//	func (s *server) StartSwap(model string, evict []string) {
//		go func() {
//			ev := scheduler.SwapDone{ModelID: model, Err: errors.New("swap panicked")}
//			defer func() {
//				select {
//				case s.swapped <- ev:
//				case <-s.done:
//				}
//			}()
//			ev.Err = s.swap(model, evict)
//		}()
//	}
//
//	// ServeHTTP runs on the caller's goroutine. A caller that gave up waiting
//	// tells the loop after its request was delivered.
//	func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
//		req := scheduler.HandlerReq{
//			Model:   r.PathValue("model"),
//			Ctx:     r.Context(),
//			Respond: make(chan scheduler.HandlerResp),
//		}
//		select {
//		case s.requests <- req:
//		case <-s.done:
//			http.Error(w, scheduler.ErrShutdown.Error(), http.StatusServiceUnavailable)
//			return
//		}
//		select {
//		case resp := <-req.Respond:
//			if resp.Err != nil {
//				http.Error(w, resp.Err.Error(), http.StatusBadGateway)
//				return
//			}
//			resp.HandleFunc(w, r)
//		case <-r.Context().Done():
//			select {
//			case s.cancels <- req:
//			case <-s.done:
//			}
//		}
//	}
package scheduler

import (
	"log/slog"
	"time"
)

// Scheduler decides when requests are served and models swapped. The host's run
// loop calls it, one event at a time, and it answers through [Effects].
//
// All methods are called on the host's one run-loop goroutine. They do not block,
// except for as long as an effect does. An event that cannot be true, or comes
// late or twice, is ignored.
type Scheduler interface {
	// OnRequest hands in a request. Exactly one GrantServe or GrantError answers
	// it, now or later, unless its caller leaves first.
	OnRequest(req HandlerReq)
	// OnSwapDone reports the end of a swap that StartSwap started.
	OnSwapDone(ev SwapDone)
	// OnServeDone reports the end of a request that GrantServe granted.
	OnServeDone(ev ServeDoneEvent)
	// OnUnload stops the models in targets: who waits for them gets
	// [ErrModelUnloaded], their loads are abandoned, and StopProcesses is called
	// with timeout. Requests in flight are not waited for. Without targets it lets
	// the scheduler forget what the Swapper answered, for a host that changes the
	// Swapper's rules while it runs. Targets is copied.
	OnUnload(targets []string, timeout time.Duration)
	// OnShutdown answers every waiting request, and every later one, with err; nil
	// stands for [ErrShutdown]. Every other event that follows is ignored.
	// Processes are the host's to stop.
	OnShutdown(err error)
}

// Canceler is an optional companion of [Scheduler], found by type assertion.
type Canceler interface {
	// OnCancel takes the waiting request with the same Respond channel out of the
	// queue: its caller has left. It gets no answer. A request that is not waiting,
	// or has no Respond channel, is none of its concern.
	OnCancel(req HandlerReq)
}

// Cancel calls OnCancel where s has it, and reports whether it has. Where it has
// not, the end of req.Ctx must do.
func Cancel(s Scheduler, req HandlerReq) bool {
	c, ok := s.(Canceler)
	if ok {
		c.OnCancel(req)
	}
	return ok
}

// Factory makes the scheduler of a host, so that a host can be wired with any.
// Name is what the scheduler calls itself in log lines. A nil logger discards.
type Factory func(name string, logger *slog.Logger, eff Effects) Scheduler
