package scheduler_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"example.com/scheduler"
)

// printer is a host that prints what it is told to do. Its models take no time to
// stop and are ready when done says so.
type printer struct {
	states map[string]scheduler.ProcessState
	leases map[string]uint64 // by model, the latest
	sched  scheduler.Scheduler
}

// newPrinter returns a printer of models, none of which runs.
func newPrinter(models ...string) *printer {
	p := &printer{states: map[string]scheduler.ProcessState{}, leases: map[string]uint64{}}
	for _, m := range models {
		p.states[m] = scheduler.StateStopped
	}
	return p
}

func (p *printer) ModelState(id string) (scheduler.ProcessState, bool) {
	s, ok := p.states[id]
	return s, ok
}

func (p *printer) RunningModels() map[string]scheduler.ProcessState { return p.states }

func (p *printer) StartSwap(id string, evict []string) {
	fmt.Println("start", id, "evict", evict)
	for _, e := range evict {
		p.states[e] = scheduler.StateStopped
	}
	p.states[id] = scheduler.StateStarting
}

func (p *printer) GrantServe(req scheduler.HandlerReq, id string) bool {
	fmt.Println("serve", id)
	p.leases[id] = req.Lease
	return true
}

func (p *printer) GrantError(req scheduler.HandlerReq, err error) { fmt.Println("error", err) }

func (p *printer) StopProcesses(timeout time.Duration, ids []string) {
	fmt.Println("stop", ids)
	for _, id := range ids {
		p.states[id] = scheduler.StateStopped
	}
}

// request hands in a request for each of models.
func (p *printer) request(models ...string) {
	for _, m := range models {
		p.sched.OnRequest(scheduler.HandlerReq{Model: m})
	}
}

// ready ends the swap of a model.
func (p *printer) ready(id string) {
	p.states[id] = scheduler.StateReady
	p.sched.OnSwapDone(scheduler.SwapDone{ModelID: id})
}

// served ends the latest request of a model.
func (p *printer) served(id string) {
	p.sched.OnServeDone(scheduler.ServeDoneEvent{ModelID: id, Lease: p.leases[id]})
}

// serve is a host's run loop: the only goroutine that calls the scheduler. Host has
// the six methods of Effects; whoever has something to tell sends it to events.
func serve(host scheduler.Effects, events <-chan any) error {
	swapper, err := scheduler.NewGroupSwapper(
		scheduler.Group{Name: "gpu", Members: []string{"llama", "qwen"}, Swap: true, Exclusive: true},
		scheduler.Group{Name: "cpu", Members: []string{"embed"}, Persistent: true},
	)
	if err != nil {
		return err
	}
	options := scheduler.FIFOOptions{MaxQueue: 1000, Cooldown: 5 * time.Second}
	sched := scheduler.FIFOFactory(swapper, options)("gpu0", slog.Default(), host)
	for event := range events {
		switch ev := event.(type) {
		case scheduler.HandlerReq:
			sched.OnRequest(ev)
		case scheduler.SwapDone:
			sched.OnSwapDone(ev)
		case scheduler.ServeDoneEvent:
			sched.OnServeDone(ev)
		}
	}
	sched.OnShutdown(nil)
	return nil
}

// The wiring of a host: a policy, options, a scheduler, a run loop.
func Example_start() {
	host := newPrinter("llama", "qwen", "embed")
	host.states["llama"], host.states["embed"] = scheduler.StateReady, scheduler.StateReady
	events := make(chan any, 4)
	events <- scheduler.HandlerReq{Model: "embed"}
	events <- scheduler.HandlerReq{Model: "qwen"}
	events <- scheduler.HandlerReq{Model: "bert"}
	close(events)
	fmt.Println(serve(host, events))
	// Output:
	// serve embed
	// start qwen evict [llama]
	// error scheduler: model not found: "bert"
	// error scheduler: shut down
	// <nil>
}

// One model fits in memory. Requests for the same model are served together,
// however they came in.
func ExampleFIFO() {
	host := newPrinter("a", "b")
	host.sched = scheduler.NewFIFO("gpu0", nil, &scheduler.GroupSwapper{}, host, scheduler.FIFOOptions{})

	host.request("a", "b", "a")
	host.ready("a")
	host.served("a")
	host.sched.OnServeDone(scheduler.ServeDoneEvent{ModelID: "a"}) // without a lease: the oldest
	host.ready("b")
	// Output:
	// start a evict []
	// serve a
	// serve a
	// start b evict [a]
	// serve b
}

// The smallest complete use: a host with one model that is always ready.
func ExampleNewFIFO() {
	host := newPrinter("tiny")
	host.states["tiny"] = scheduler.StateReady
	sched := scheduler.NewFIFO("main", nil, &scheduler.GroupSwapper{}, host, scheduler.FIFOOptions{})

	sched.OnRequest(scheduler.HandlerReq{Model: "tiny"})
	sched.OnRequest(scheduler.HandlerReq{Model: "huge"})
	sched.OnShutdown(nil)
	sched.OnRequest(scheduler.HandlerReq{Model: "tiny"})
	// Output:
	// serve tiny
	// error scheduler: model not found: "huge"
	// error scheduler: shut down
}

// Two big models take turns on the GPU while a small one stays beside them.
func ExampleNewGroupSwapper() {
	swapper, err := scheduler.NewGroupSwapper(
		scheduler.Group{Name: "gpu", Members: []string{"big", "bigger"}, Swap: true, Exclusive: true},
		scheduler.Group{Name: "cpu", Members: []string{"embed"}, Persistent: true},
	)
	fmt.Println(err)
	fmt.Println(swapper.EvictionFor("bigger", []string{"big", "embed"}))
	fmt.Println(swapper.EvictionFor("embed", []string{"big"}))

	_, err = scheduler.NewGroupSwapper(
		scheduler.Group{Name: "gpu", Members: []string{"big"}},
		scheduler.Group{Name: "cpu", Members: []string{"big"}},
	)
	fmt.Println(err)
	// Output:
	// <nil>
	// [big]
	// []
	// scheduler: group "cpu": "big" is a member of group "gpu" too
}

// leastRecent is a policy that keeps at most room models and evicts the ones that were
// used least recently.
func leastRecent(room int) scheduler.PlannerFunc {
	return func(target string, running []scheduler.Resident) ([]string, error) {
		if room == 0 {
			return nil, errors.New("no room for any model")
		}
		// A model that is leaving makes room already. One that is loading has not been used
		// yet, and goes last.
		stay := slices.DeleteFunc(slices.Clone(running), func(r scheduler.Resident) bool { return r.Leaving })
		slices.SortStableFunc(stay, func(a, b scheduler.Resident) int {
			if a.Loading != b.Loading {
				return map[bool]int{false: -1, true: 1}[a.Loading]
			}
			return cmp.Compare(a.LastUsed, b.LastUsed)
		})
		var evict []string
		for len(stay)-len(evict) >= room {
			evict = append(evict, stay[len(evict)].Model)
		}
		return evict, nil
	}
}

// A policy of your own that looks at how the models are used.
func ExamplePlannerFunc() {
	host := newPrinter("a", "b", "c", "d")
	host.sched = scheduler.NewFIFO("gpu0", nil, leastRecent(2), host, scheduler.FIFOOptions{})

	for _, model := range []string{"a", "b"} {
		host.request(model)
		host.ready(model)
		host.served(model)
	}
	host.request("a")
	host.served("a")
	host.request("c", "d") // Model d does not wait for the load of c: a is idle.
	// Output:
	// start a evict []
	// serve a
	// start b evict []
	// serve b
	// serve a
	// start c evict [b]
	// start d evict [a]
}

// A policy that needs nothing but the names: two models that cannot run together.
func ExampleSwapperFunc() {
	policy := scheduler.SwapperFunc(func(target string, running []string) []string {
		switch {
		case target == "big" && slices.Contains(running, "bigger"):
			return []string{"bigger"}
		case target == "bigger" && slices.Contains(running, "big"):
			return []string{"big"}
		}
		return nil
	})
	host := newPrinter("big", "bigger", "small")
	host.sched = scheduler.NewFIFO("gpu0", nil, policy, host, scheduler.FIFOOptions{})

	host.request("big")
	host.ready("big")
	host.served("big")
	host.request("small", "bigger")
	// Output:
	// start big evict []
	// serve big
	// start small evict []
	// start bigger evict [big]
}

// Requests with a higher priority go first; what the limits do not allow waits or
// is refused.
func ExampleFIFOOptions() {
	host := newPrinter("a")
	host.states["a"] = scheduler.StateReady
	type paid struct{}
	sched := scheduler.NewFIFO("gpu0", nil, &scheduler.GroupSwapper{}, host, scheduler.FIFOOptions{
		Priority: func(req scheduler.HandlerReq) int {
			if req.Ctx.Value(paid{}) != nil {
				return 1
			}
			return 0
		},
		Limits: func(string) scheduler.Limits { return scheduler.Limits{Concurrency: 1, Capacity: 3} },
	})
	host.sched = sched

	free := context.Background()
	for _, ctx := range []context.Context{free, free, context.WithValue(free, paid{}, true), free} {
		sched.OnRequest(scheduler.HandlerReq{Model: "a", Ctx: ctx})
	}
	for _, w := range sched.Snapshot().Waiting {
		fmt.Println("waits: priority", w.Priority, "position", w.Position, "reason", w.Reason)
	}
	// Output:
	// serve a
	// error scheduler: overloaded: "a"
	// waits: priority 1 position 1 reason slots
	// waits: priority 0 position 2 reason slots
}

// HTTPStatus says how a host may answer an error.
func ExampleHTTPStatus() {
	cooling := &scheduler.RetryError{Model: "a", After: 2500 * time.Millisecond, Err: scheduler.ErrCoolingDown}
	for _, err := range []error{
		fmt.Errorf("%w: %q", scheduler.ErrModelNotFound, "a"),
		cooling,
		context.DeadlineExceeded,
		errors.New("llama-server: exit status 1"), // the error of a swap
	} {
		status, retryAfter := scheduler.HTTPStatus(err)
		fmt.Println(status, retryAfter, err)
	}
	// Output:
	// 404 0s scheduler: model not found: "a"
	// 503 3s scheduler: model cooling down: "a": try again in 2.5s
	// 504 0s context deadline exceeded
	// 502 0s llama-server: exit status 1
}

// A caller who leaves makes way for those behind it.
func ExampleCancel() {
	host := newPrinter("a", "b")
	host.sched = scheduler.NewFIFO("gpu0", nil, &scheduler.GroupSwapper{}, host, scheduler.FIFOOptions{})
	host.request("a")

	gone := scheduler.HandlerReq{Model: "b", Respond: make(chan scheduler.HandlerResp)}
	host.sched.OnRequest(gone)
	fmt.Println(scheduler.Cancel(host.sched, gone))
	host.ready("a")
	host.served("a")
	// Output:
	// start a evict []
	// true
	// serve a
}

// A request is told its place: 0 while its model is being loaded for it.
func ExampleHandlerReq_positionCh() {
	host := newPrinter("a", "b")
	host.sched = scheduler.NewFIFO("gpu0", nil, &scheduler.GroupSwapper{}, host, scheduler.FIFOOptions{})
	host.request("a", "b")

	place := make(chan int, 1)
	host.sched.OnRequest(scheduler.HandlerReq{Model: "b", PositionCh: place})
	fmt.Println("place", <-place)
	host.ready("a")
	host.served("a")
	fmt.Println("place", <-place)
	// Output:
	// start a evict []
	// place 2
	// serve a
	// start b evict [a]
	// place 0
}

// A status page shows why each request waits, and for whom.
func ExampleFIFO_Snapshot() {
	now := time.Unix(0, 0)
	host := newPrinter("a", "b")
	sched := scheduler.NewFIFO("gpu0", nil, &scheduler.GroupSwapper{}, host, scheduler.FIFOOptions{
		Now: func() time.Time { return now },
	})
	host.sched = sched
	host.request("a")
	now = now.Add(1500 * time.Millisecond)
	host.ready("a")
	host.request("b")
	now = now.Add(time.Second)

	status, err := json.MarshalIndent(sched.Snapshot().Waiting, "", "  ")
	fmt.Println(string(status), err)
	// Output:
	// start a evict []
	// serve a
	// [
	//   {
	//     "model": "b",
	//     "tenant": "",
	//     "priority": 0,
	//     "position": 1,
	//     "overdue": false,
	//     "reason": "busy",
	//     "on": [
	//       "a"
	//     ],
	//     "age": 1
	//   }
	// ] <nil>
}

// A host that is wired through a Factory can change its scheduler in one place.
func ExampleFactory() {
	var factory scheduler.Factory = scheduler.FIFOFactory(&scheduler.GroupSwapper{}, scheduler.FIFOOptions{})
	host := newPrinter("a")
	host.sched = factory("gpu0", slog.Default(), host)
	host.request("a")
	// Output:
	// start a evict []
}

// A complete run loop in little: one goroutine calls the scheduler, everybody else
// sends to it.
func Example_runLoop() {
	host := &loopHost{events: make(chan func()), states: map[string]scheduler.ProcessState{"a": scheduler.StateStopped}}
	host.sched = scheduler.NewFIFO("gpu0", nil, &scheduler.GroupSwapper{}, host, scheduler.FIFOOptions{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for event := range host.events {
			event()
		}
	}()

	var callers sync.WaitGroup
	for range 3 {
		callers.Go(func() { host.serve("a") })
	}
	callers.Wait()
	close(host.events)
	<-done
	fmt.Println("in flight at the end:", host.inFlight)
	// Output:
	// served 3
	// in flight at the end: 0
}

// loopHost is a host whose events are functions that run on its run loop.
type loopHost struct {
	events   chan func()
	sched    scheduler.Scheduler
	states   map[string]scheduler.ProcessState
	inFlight int
	served   int
}

// serve is a caller: it asks, waits, serves and reports.
func (h *loopHost) serve(model string) {
	req := scheduler.HandlerReq{Model: model, Ctx: context.Background(), Respond: make(chan scheduler.HandlerResp)}
	h.events <- func() { h.sched.OnRequest(req) }
	resp := <-req.Respond
	resp.HandleFunc(nil, nil)
}

func (h *loopHost) ModelState(id string) (scheduler.ProcessState, bool) {
	s, ok := h.states[id]
	return s, ok
}

func (h *loopHost) RunningModels() map[string]scheduler.ProcessState { return h.states }

func (h *loopHost) StartSwap(id string, evict []string) {
	go func() { // the slow part: stop evict, start id, wait until it is ready
		h.events <- func() {
			h.states[id] = scheduler.StateReady
			h.sched.OnSwapDone(scheduler.SwapDone{ModelID: id})
		}
	}()
}

func (h *loopHost) GrantServe(req scheduler.HandlerReq, id string) bool {
	h.inFlight++
	req.Respond <- scheduler.HandlerResp{HandleFunc: func(http.ResponseWriter, *http.Request) {
		finished := make(chan struct{})
		h.events <- func() {
			defer close(finished)
			h.inFlight--
			if h.served++; h.served == 3 {
				fmt.Println("served", h.served)
			}
			h.sched.OnServeDone(scheduler.ServeDoneEvent{ModelID: id, Lease: req.Lease})
		}
		<-finished
	}}
	return true
}

func (h *loopHost) GrantError(req scheduler.HandlerReq, err error) {
	req.Respond <- scheduler.HandlerResp{Err: err}
}

func (h *loopHost) StopProcesses(time.Duration, []string) {}
