package scheduler_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"example.com/scheduler"
)

// printer is a host that prints what the scheduler tells it to do. Its models take no
// time to stop, and are ready when ready is called.
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

// request hands in one request for each of models.
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

// newScheduler makes a scheduler for a GPU that holds llama or qwen, with an embedder
// beside it on the CPU. Host has the six methods of Effects.
func newScheduler(host scheduler.Effects) (*scheduler.FIFO, error) {
	policy, err := scheduler.NewGroupSwapper(
		scheduler.Group{Name: "gpu", Members: []string{"llama", "qwen"}, Swap: true, Exclusive: true},
		scheduler.Group{Name: "cpu", Members: []string{"embed"}, Persistent: true},
	)
	if err != nil {
		return nil, err
	}
	options := scheduler.FIFOOptions{MaxQueue: 1000, Cooldown: 5 * time.Second}
	return scheduler.NewFIFO("gpu0", slog.Default(), policy, host, options), nil
}

// A policy, options and a host make a scheduler.
func Example() {
	host := newPrinter("llama", "qwen", "embed")
	host.states["llama"], host.states["embed"] = scheduler.StateReady, scheduler.StateReady
	sched, err := newScheduler(host)
	if err != nil {
		fmt.Println(err)
		return
	}
	host.sched = sched
	host.request("embed", "qwen", "bert")
	host.ready("qwen")
	// Output:
	// serve embed
	// start qwen evict [llama]
	// error scheduler: model not found: "bert"
	// serve qwen
}

// One model fits in memory. Requests for the same model are served together, in
// whatever order they arrive.
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

// A host with one model that is always ready.
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

// Two big models take turns on the GPU, and a small one stays beside them.
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

// The small model runs beside either of the big ones, which may not run together, and
// huge needs all the memory. To load vision takes longer than to load the others.
func ExampleNewSetSwapper() {
	policy, err := scheduler.NewSetSwapper([]scheduler.Set{
		{"llama", "small", "embed"},
		{"qwen", "small", "embed"},
		{"qwen", "vision"},
		{"huge"},
	}, map[string]int{"vision": 5})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(policy.EvictionFor("qwen", []string{"embed", "llama", "small"}))
	fmt.Println(policy.EvictionFor("qwen", []string{"small", "vision"}))
	fmt.Println(policy.EvictionFor("huge", []string{"embed", "qwen"}))

	// Small is idle, and rather stops than embed, which is busy.
	policy, err = scheduler.NewSetSwapper([]scheduler.Set{{"llama", "small"}, {"llama", "embed"}}, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(policy.Plan("llama", []scheduler.Resident{{Model: "embed", InFlight: 1}, {Model: "small"}}))
	// Output:
	// [llama]
	// [small]
	// [embed qwen]
	// [small] <nil>
}

// Sets can be written as expressions over short names, for a configuration file.
func ExampleParseSets() {
	names := map[string]string{
		"l": "Llama-3.3-70B", "q": "Qwen/Qwen2.5-32B:latest", "v": "voxtral", "e": "bge-m3",
		"llms": "l | q",
	}
	sets, err := scheduler.ParseSets(names, "+llms & v | q & (v | e)")
	for _, set := range sets {
		fmt.Println(set)
	}
	fmt.Println(err)

	_, err = scheduler.ParseSets(names, "+llms & x")
	fmt.Println(err)
	// Output:
	// [Llama-3.3-70B voxtral]
	// [Qwen/Qwen2.5-32B:latest voxtral]
	// [Qwen/Qwen2.5-32B:latest bge-m3]
	// <nil>
	// scheduler: sets: column 9: unknown name "x"
}

// leastRecent is a policy that keeps the models within so many gigabytes of memory. It
// evicts those that were used least recently.
func leastRecent(memory int, size map[string]int) scheduler.PlannerFunc {
	return func(target string, running []scheduler.Resident) (evict []string, err error) {
		missing := size[target] - memory
		if missing > 0 {
			return nil, fmt.Errorf("%d GB are missing", missing)
		}
		stay := slices.DeleteFunc(slices.Clone(running), func(r scheduler.Resident) bool { return r.Leaving })
		for _, r := range stay {
			missing += size[r.Model]
		}
		slices.SortStableFunc(stay, byLastUse)
		for ; missing > 0; stay = stay[1:] {
			evict = append(evict, stay[0].Model)
			missing -= size[stay[0].Model]
		}
		return evict, nil
	}
}

// byLastUse puts a model that is loading last, because it has not been used yet.
func byLastUse(a, b scheduler.Resident) int {
	switch {
	case a.Loading && !b.Loading:
		return 1
	case b.Loading && !a.Loading:
		return -1
	}
	return cmp.Compare(a.LastUsed, b.LastUsed)
}

// A policy with a budget of memory, which has to see how the models are used.
func ExamplePlannerFunc() {
	policy := leastRecent(24, map[string]int{"a": 10, "b": 10, "c": 8, "huge": 40})
	host := newPrinter("a", "b", "c", "huge")
	host.sched = scheduler.NewFIFO("gpu0", nil, policy, host, scheduler.FIFOOptions{})

	for _, model := range []string{"a", "b"} {
		host.request(model)
		host.ready(model)
		host.served(model)
	}
	host.request("a")
	host.served("a")
	host.request("c", "huge")
	// Output:
	// start a evict []
	// serve a
	// start b evict []
	// serve b
	// serve a
	// start c evict [b]
	// error scheduler: refused by the policy: "huge": 16 GB are missing
}

// Two cards of 24 GiB: a model that needs both, two that need one each, and an embedder
// that goes wherever there is room.
func ExampleBudgetSwapper() {
	const GiB = 1 << 30
	card := func(n int64) []scheduler.Placement {
		return []scheduler.Placement{{"gpu0": n * GiB}, {"gpu1": n * GiB}}
	}
	policy, err := scheduler.NewBudgetSwapper(scheduler.Budget{
		Capacity: map[string]int64{"gpu0": 24 * GiB, "gpu1": 24 * GiB},
		Models: map[string]scheduler.Footprint{
			"big":   {Placements: []scheduler.Placement{{"gpu0": 20 * GiB, "gpu1": 20 * GiB}}, Reload: 60},
			"coder": {Placements: card(20), Reload: 20},
			"chat":  {Placements: card(16), Reload: 15},
			"embed": {Placements: card(4), Reload: 2},
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	host := newPrinter("big", "chat", "coder", "embed")
	host.sched = scheduler.NewFIFO("box", nil, policy, host, scheduler.FIFOOptions{})

	for _, model := range []string{"coder", "chat", "embed", "big"} {
		host.request(model)
		card, _ := policy.Placement(model)
		fmt.Println("placement", card)
		host.ready(model)
		host.served(model)
	}
	// Output:
	// start coder evict []
	// placement 0
	// serve coder
	// start chat evict []
	// placement 1
	// serve chat
	// start embed evict []
	// placement 0
	// serve embed
	// start big evict [chat coder]
	// placement 0
	// serve big
}

// At most two models, the least recently used one makes room.
func ExampleNewLRUSwapper() {
	policy, err := scheduler.NewLRUSwapper(2)
	if err != nil {
		fmt.Println(err)
		return
	}
	host := newPrinter("a", "b", "c")
	host.sched = scheduler.NewFIFO("gpu0", nil, policy, host, scheduler.FIFOOptions{})

	for _, model := range []string{"a", "b", "c"} {
		host.request(model)
		host.ready(model)
		host.served(model)
	}
	// Output:
	// start a evict []
	// serve a
	// start b evict []
	// serve b
	// start c evict [a]
	// serve c
}

func ExampleParseBytes() {
	for _, s := range []string{"23.5GiB", "500 MB", "much"} {
		fmt.Println(scheduler.ParseBytes(s))
	}
	// Output:
	// 25232932864 <nil>
	// 500000000 <nil>
	// 0 scheduler: "much" is not a size such as 23.5GiB
}

// A policy that needs only the names: two models that cannot run together.
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

// Requests with a higher priority go first. Requests beyond the limits wait or are
// refused.
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

// What a host may answer for an error.
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

// A caller that leaves does not hold up the requests behind it.
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

// A request is told its place in the queue, and 0 when its model is being loaded for it.
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

// A status page can show why each request waits, and on which models.
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

// A host that takes a Factory need not know which scheduler it has.
func ExampleFactory() {
	var factory scheduler.Factory = scheduler.FIFOFactory(&scheduler.GroupSwapper{}, scheduler.FIFOOptions{})
	host := newPrinter("a")
	host.sched = factory("gpu0", slog.Default(), host)
	host.request("a")
	// Output:
	// start a evict []
}

// unloadIdle unloads the models that have served nothing since then. LastServed is kept
// by the host: GrantServe sets it, and so does the function that calls OnServeDone.
func unloadIdle(sched *scheduler.FIFO, lastServed map[string]time.Time, since time.Time) {
	busy := make(map[string]bool)
	for _, m := range sched.Snapshot().Models {
		busy[m.Model] = m.InFlight+m.Waiting > 0
	}
	var idle []string
	for model, last := range lastServed {
		if last.Before(since) && !busy[model] {
			idle = append(idle, model)
			delete(lastServed, model)
		}
	}
	if len(idle) > 0 { // Without targets, OnUnload means something else.
		sched.OnUnload(idle, 10*time.Second)
	}
}

// A ticker of the host posts unloadIdle to the run loop.
func Example_idleUnload() {
	host := newPrinter("a", "b", "c")
	for _, model := range []string{"a", "b", "c"} {
		host.states[model] = scheduler.StateReady
	}
	sched := scheduler.NewFIFO("gpu0", nil, leastRecent(3, nil), host, scheduler.FIFOOptions{})
	host.sched = sched
	now := time.Now()
	host.request("b")
	unloadIdle(sched, map[string]time.Time{
		"a": now.Add(-time.Hour),
		"b": now.Add(-time.Hour), // It has a request in flight.
		"c": now.Add(-time.Minute),
	}, now.Add(-10*time.Minute))
	// Output:
	// serve b
	// stop [a]
}

// A request of the host's own loads a model before its first caller arrives. As long as
// the host does not report its end, no swap stops the model.
func Example_keepWarm() {
	host := newPrinter("a", "b")
	host.sched = scheduler.NewFIFO("gpu0", nil, &scheduler.GroupSwapper{}, host, scheduler.FIFOOptions{})

	host.request("a") // The host's own request: GrantServe keeps its lease.
	host.ready("a")
	host.request("b") // It waits.
	fmt.Println("the host ends its lease")
	host.served("a")
	// Output:
	// start a evict []
	// serve a
	// the host ends its lease
	// start b evict [a]
}

// A process that has died is noticed at the next event that concerns it. OnUnload
// without targets is such an event.
func Example_processThatDies() {
	host := newPrinter("a")
	host.states["a"] = scheduler.StateReady
	host.sched = scheduler.NewFIFO("gpu0", nil, &scheduler.GroupSwapper{}, host, scheduler.FIFOOptions{
		Limits: func(string) scheduler.Limits { return scheduler.Limits{Concurrency: 1} },
	})
	host.request("a", "a") // The second one waits for a slot.
	host.states["a"] = scheduler.StateStopped
	host.sched.OnUnload(nil, 0)
	host.ready("a")
	// Output:
	// serve a
	// start a evict []
	// serve a
}

// preempt pauses the busy models that an urgent request waits on, and cancels what is in
// flight for them. Limits returns what paused says.
func preempt(sched *scheduler.FIFO, paused map[string]bool, cancel func(model string)) {
	for _, w := range sched.Snapshot().Waiting {
		if w.Priority > 0 && w.Reason == scheduler.WaitBusy {
			for _, model := range w.On {
				paused[model] = true // Otherwise new requests would keep it busy.
				cancel(model)
			}
		}
	}
	sched.OnUnload(nil, 0)
}

// An urgent request takes the place of one that may be repeated later.
func Example_preempt() {
	paused := make(map[string]bool)
	host := newPrinter("batch", "chat")
	host.states["batch"] = scheduler.StateReady
	sched := scheduler.NewFIFO("gpu0", nil, &scheduler.GroupSwapper{}, host, scheduler.FIFOOptions{
		Priority: func(req scheduler.HandlerReq) int { return map[string]int{"chat": 1}[req.Model] },
		Limits:   func(model string) scheduler.Limits { return scheduler.Limits{Paused: paused[model]} },
	})
	host.sched = sched
	host.request("batch", "chat")
	preempt(sched, paused, func(model string) { fmt.Println("cancel", model) })
	host.request("batch") // It waits, because its model is paused.
	host.served("batch")  // The handler has been cancelled and returns.
	host.ready("chat")

	clear(paused)
	sched.OnUnload(nil, 0)
	host.served("chat")
	// Output:
	// serve batch
	// cancel batch
	// start chat evict [batch]
	// serve chat
	// start batch evict [chat]
}
