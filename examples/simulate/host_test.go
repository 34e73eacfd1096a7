package main

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/scheduler"
)

// TestHostNotices: the host notices what a scheduler must not do. Each case does it on
// purpose.
func TestHostNotices(t *testing.T) {
	grant := func(h *host, c *caller, model string) {
		req := c.req
		req.Lease = 1
		h.GrantServe(req, model)
	}
	for _, c := range []struct {
		name string
		do   func(h *host, c *caller)
		want string
	}{
		{"a second answer", func(h *host, c *caller) { grant(h, c, "a"); grant(h, c, "a") }, "a second answer"},
		{"an error after a grant", func(h *host, c *caller) { grant(h, c, "a"); h.GrantError(c.req, scheduler.ErrShutdown) }, "a second answer"},
		{"a grant on another model", func(h *host, c *caller) { grant(h, c, "b") }, "granted on b"},
		{"a grant on a model that is not ready", func(h *host, c *caller) { h.byName["a"].state = scheduler.StateStarting; grant(h, c, "a") }, "which is starting"},
		{"more grants than places", func(h *host, c *caller) { h.byName["a"].inFlight = 2; grant(h, c, "a") }, "has 2 places"},
		{"a swap that stops a busy model", func(h *host, c *caller) { grant(h, c, "a"); h.StartSwap("b", []string{"a"}) }, "stops a"},
		{"a swap that stops its target", func(h *host, c *caller) { h.StartSwap("a", []string{"a"}) }, "stops a"},
		{"a swap that stops what is not there", func(h *host, c *caller) { h.StartSwap("a", []string{"b"}) }, "stops b"},
		{"a swap that stops what is loading", func(h *host, c *caller) { h.StartSwap("b", nil); h.StartSwap("a", []string{"b"}) }, "stops b"},
		{"two swaps for a model", func(h *host, c *caller) { h.StartSwap("b", nil); h.StartSwap("b", nil) }, "has one"},
		{"a swap for no model", func(h *host, c *caller) { h.StartSwap("c", nil) }, "unknown"},
		{"a swap is cancelled that is not there", func(h *host, c *caller) { h.CancelSwap("a") }, "there is none"},
		{"an end without a grant", func(h *host, c *caller) { h.end(c) }, "not in flight"},
		{"an unload", func(h *host, c *caller) { h.StopProcesses(0, []string{"a"}) }, "are stopped"},
		{"a request without an answer", func(h *host, c *caller) { h.finish() }, "at the end 1 requests wait"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, one := quietHost(t)
			if c.do(h, one); h.err == nil || !strings.Contains(h.err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", h.err, c.want)
			}
		})
	}
}

// quietHost returns a host with a request that waits for a, whose scheduler does nothing.
func quietHost(t *testing.T) (*host, *caller) {
	t.Helper()
	w := &workload{policy: alonePolicy()}
	w.add(time.Second, time.Second, 2, "a", "b")
	w.ask(source{rate: 1}, "a")
	h, err := (&run{workload: w, policy: w.policy, length: time.Hour}).host()
	if err != nil {
		t.Fatal(err)
	}
	h.byName["a"].state = scheduler.StateReady
	h.running["a"] = scheduler.StateReady
	s := &stream{source: &w.sources[0], rng: rand.New(rand.NewPCG(1, 2)), chain: h.models[:1], tally: new(tally)}
	c := h.caller(s)
	c.process, c.arrived, c.phase = h.models[0], h.now, waits
	c.req.Model, c.req.Host = "a", c
	h.models[0].waiting++
	h.waiting++
	h.result.requests++
	return h, c
}

// TestEvents: events come out in the order of time and, within a moment, in that of
// their making.
func TestEvents(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var heap events
	var left []event
	for number := range uint64(10_000) {
		if len(heap) > 0 && rng.IntN(3) == 0 {
			got := heap.pop()
			least := slices.MinFunc(left, func(a, b event) int {
				if a.before(&b) {
					return -1
				}
				return 1
			})
			if got != least {
				t.Fatalf("%v came before %v", got, least)
			}
			left = slices.DeleteFunc(left, func(e event) bool { return e == got })
			continue
		}
		e := event{at: time.Duration(rng.IntN(50)), number: number}
		heap.push(e)
		left = append(left, e)
		if len(left) > 200 {
			left, heap = nil, nil
		}
	}
}

// TestTally: quantiles are within one per cent of what sorting gives.
func TestTally(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var w tally
	var all []time.Duration
	if w.quantile(0.5) != 0 || w.mean() != 0 {
		t.Error("without waits there is one")
	}
	for range 20_000 {
		d := time.Duration(rng.ExpFloat64() * rng.ExpFloat64() * float64(time.Minute))
		all = append(all, d)
		w.add(d)
	}
	slices.Sort(all)
	for _, part := range []float64{0.001, 0.5, 0.95, 0.99, 0.9999} {
		want := all[int(part*float64(len(all)))]
		if got := w.quantile(part); (got - want).Abs() > want/100+time.Millisecond {
			t.Errorf("quantile %v is %v, want %v", part, got, want)
		}
	}
	if w.quantile(1) != all[len(all)-1] || w.longest != all[len(all)-1] {
		t.Error("the longest wait is another")
	}
	for i := range interval(math.MaxInt64) {
		if d := middle(i); d > 0 && interval(d) != i {
			t.Fatalf("the middle of interval %d, %v, is in %d", i, d, interval(d))
		}
	}
}

// TestCallersComeBack: an impatient caller leaves after its time-out, and its request is
// not granted afterwards. A caller that was refused waits before it tries again.
func TestCallersComeBack(t *testing.T) {
	w := &workload{policy: alonePolicy()}
	w.add(time.Hour, time.Second, 1, "a")
	w.models[0].capacity = 1
	w.ask(source{callers: 2, timeout: time.Minute, back: time.Second}, "a")
	r := run{workload: w, policy: w.policy, seed: 1, length: 30 * time.Minute}
	res, err := r.simulate()
	if err != nil {
		t.Fatal(err)
	}
	if res.left < 10 || res.refused < 100 || res.refused > int(r.length/retry) {
		t.Errorf("%d left, %d were refused, %d served", res.left, res.refused, res.served)
	}
}

// TestPolicyThatFails: what the policy does wrong refuses requests, and is no fault of
// the scheduler.
func TestPolicyThatFails(t *testing.T) {
	refuses := policy{"refuses", func([]string, func(string) bool) (scheduler.Swapper, error) {
		return scheduler.PlannerFunc(func(string, []scheduler.Resident) ([]string, error) { return nil, errors.New("no") }), nil
	}}
	w := &workload{policy: refuses}
	w.add(time.Second, time.Second, 1, "a")
	w.ask(source{rate: 1}, "a")
	res, err := (&run{workload: w, policy: w.policy, seed: 1, length: time.Hour}).simulate()
	if err != nil || res.refused != res.requests || res.requests == 0 {
		t.Errorf("error %v, %d of %d refused", err, res.refused, res.requests)
	}
}
