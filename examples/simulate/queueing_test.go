package main

import (
	"math"
	"testing"
	"time"
)

// These tests compare what is simulated with what theory says, so that host, scheduler
// and statistics are right together.

// polling is two models with one place each and room for one of them, whose scheduler has
// endless patience: two queues that one server polls, exhaustively, with a set-up time.
func polling(load float64, setup time.Duration, service, setupLaw law) *workload {
	w := &workload{policy: alonePolicy()}
	for _, name := range []string{"a", "b"} {
		w.models = append(w.models, model{name: name, load: setup, service: time.Second, places: 1, law: service, loadLaw: setupLaw})
		w.ask(source{rate: load / 2}, name)
	}
	return w
}

// meanWait returns the mean wait of about n requests, in seconds.
func meanWait(t *testing.T, w *workload, n float64, patience time.Duration) float64 {
	t.Helper()
	r := run{workload: w, policy: w.policy, seed: 1, length: time.Duration(n / w.rate() * float64(time.Second))}
	r.options.Patience = patience
	res, err := r.simulate()
	if err != nil {
		t.Fatal(err)
	}
	return res.waits.mean()
}

// near checks a figure.
func near(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	t.Logf("%s: %.3f, theory says %.3f", what, got, want)
	if math.Abs(got/want-1) > tolerance {
		t.Errorf("%s is %.3f; theory says %.3f", what, got, want)
	}
}

// TestPollingFormula: symmetric queues that are polled exhaustively have a closed formula
// for the mean wait (Takagi, Analysis of Polling Systems, 1986). Its server goes on
// changing while all queues are empty, and the scheduler does not; that matters little
// when the load is high.
func TestPollingFormula(t *testing.T) {
	const (
		queues = 2
		setup  = 5.0 // seconds; always the same
	)
	for _, load := range []float64{0.8, 0.9} {
		if testing.Short() {
			t.Skip("half a million requests")
		}
		// The services are always as long, one second, so their second moment is 1 too.
		want := (load*1 + setup*(queues-load)) / (2 * (1 - load))
		near(t, "mean wait", meanWait(t, polling(load, setup*time.Second, fixed, fixed), 5e5, -1), want, 0.03)
	}
}

// TestPollingChain: with exponential times the same system is a Markov chain, in which
// the server stays when all queues are empty, as the scheduler does.
func TestPollingChain(t *testing.T) {
	if testing.Short() {
		t.Skip("half a million requests")
	}
	for _, load := range []float64{0.2, 0.5} {
		want := chainWait(load/2, 1, 1.0/3)
		near(t, "mean wait", meanWait(t, polling(load, 3*time.Second, exponential, exponential), 3e5, -1), want, 0.03)
	}
}

// chainState is a state of the Markov chain of two queues. By symmetry it does not matter
// which of them the server is at: here is the number of requests in that one, there the
// number in the other one.
type chainState struct {
	here, there int
	ready       bool // the server is set up
}

// chainWait returns the mean wait in two queues with arrival rate lambda each, service
// rate mu and set-up rate gamma. Each queue has at most that many requests.
func chainWait(lambda, mu, gamma float64) float64 {
	const most = 50
	p := map[bool]*[most + 1][most + 1]float64{false: {}, true: {}}
	p[true][0][0] = 1
	step := 0.9 / (2*lambda + mu + gamma) // so short that at most one thing happens
	waiting := func() (n float64) {
		for here := range most + 1 {
			for there := range most + 1 {
				n += p[false][here][there]*float64(here+there) + p[true][here][there]*float64(max(0, here-1)+there)
			}
		}
		return n
	}
	for before := -1.0; math.Abs(waiting()-before) > 1e-7; {
		before = waiting()
		for range 50 {
			next := map[bool]*[most + 1][most + 1]float64{false: {}, true: {}}
			for _, ready := range []bool{false, true} {
				for here := range most + 1 {
					for there := range most + 1 {
						now := p[ready][here][there]
						next[ready][here][there] += now
						chainMoves(chainState{here, there, ready}, lambda, mu, gamma, func(to chainState, rate float64) {
							if to.here <= most && to.there <= most {
								next[ready][here][there] -= now * rate * step
								next[to.ready][to.here][to.there] += now * rate * step
							}
						})
					}
				}
			}
			p = next
		}
	}
	return waiting() / (2 * lambda) // Little's law.
}

// chainMoves calls move for each state that may follow on s.
func chainMoves(s chainState, lambda, mu, gamma float64, move func(to chainState, rate float64)) {
	move(chainState{s.here + 1, s.there, s.ready}, lambda)
	if s.ready && s.here == 0 {
		move(chainState{1, 0, false}, lambda) // The server is idle, and changes to the other queue.
	} else {
		move(chainState{s.here, s.there + 1, s.ready}, lambda)
	}
	switch {
	case !s.ready:
		move(chainState{s.here, s.there, true}, gamma)
	case s.here == 1 && s.there > 0:
		move(chainState{s.there, 0, false}, mu) // This queue is empty, and the other one is not.
	case s.here > 0:
		move(chainState{s.here - 1, s.there, true}, mu)
	}
}

// TestErlang: one model with several places is an M/M/c queue.
func TestErlang(t *testing.T) {
	const c = 3
	for _, load := range []float64{0.5, 0.8} {
		w := &workload{policy: alonePolicy()}
		w.add(0, time.Second, c, "a")
		w.ask(source{rate: load * c}, "a")
		// Erlang's C formula, by the recursion of his B formula.
		b := 1.0
		for k := 1.0; k <= c; k++ {
			b = load * c * b / (k + load*c*b)
		}
		waits := b / (1 - load*(1-b))
		near(t, "mean wait", meanWait(t, w, 3e5, 0), waits/(c*(1-load)), 0.03)
	}
}

// TestSharing: with one place, two requests of 2 s and 4 s that begin together end after
// 4 s and 6 s. One of 1 s that begins a second later slows both down.
func TestSharing(t *testing.T) {
	for _, c := range []struct {
		places   int
		arrivals []arrival
		want     time.Duration
	}{
		{1, []arrival{{0, 2 * time.Second, 0}, {0, 4 * time.Second, 0}}, 6 * time.Second},
		{1, []arrival{{0, 2 * time.Second, 0}, {0, 4 * time.Second, 0}, {time.Second, time.Second, 0}}, 7 * time.Second},
		{2, []arrival{{0, 2 * time.Second, 0}, {0, 4 * time.Second, 0}}, 4 * time.Second},
		{2, []arrival{{0, 3 * time.Second, 0}, {0, 3 * time.Second, 0}, {0, 3 * time.Second, 0}}, 4500 * time.Millisecond},
		{2, []arrival{{0, 0, 0}, {0, 0, 0}, {0, 0, 0}}, 0},
	} {
		w := &workload{
			policy:  alonePolicy(),
			models:  []model{{name: "a", places: c.places, shared: true}},
			sources: []source{{arrivals: c.arrivals}},
		}
		r := run{workload: w, policy: w.policy, length: time.Minute}
		res, err := r.simulate()
		if err != nil {
			t.Fatal(err)
		}
		if d := res.ended - c.want; d.Abs() > time.Microsecond || res.waits.longest != 0 {
			t.Errorf("%d places, %v: ended after %v, want %v; longest wait %v", c.places, c.arrivals, res.ended, c.want, res.waits.longest)
		}
	}
}
