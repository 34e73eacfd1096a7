package scheduler

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// These tests show the effect of the rules over hours of virtual time: how long requests
// wait, and that every model gets its turn. Each figure has a bound that follows from the
// rules, with some room for a different order of events.

// TestFloodLeavesOthersTheirTurn: seventeen tenants send requests for one model, and
// one of them has 300 outstanding. Where tenants take turns (R6) the others wait for
// one round of all tenants, and not for the 300.
func TestFloodLeavesOthersTheirTurn(t *testing.T) {
	const (
		load    = 10 * time.Second
		service = 650 * time.Millisecond
		others  = 16
		round   = (others + 1) * service
	)
	// waits returns the worst mean and the longest wait among the others.
	waits := func(opts FIFOOptions) (mean, longest time.Duration) {
		s := newSim(t, 1, &GroupSwapper{}, opts, simModel{name: "m", load: load, service: service, servers: 1})
		s.add(simSource{model: "m", tenant: "flood", callers: 300})
		for i := range others {
			s.add(simSource{model: "m", tenant: fmt.Sprint("other ", i), callers: 1})
		}
		s.run(time.Hour)
		for i := range others {
			w := s.byTenant[fmt.Sprint("other ", i)]
			mean, longest = max(mean, w.mean()), max(longest, w.longest)
		}
		t.Logf("flood: %v; others: mean wait %.1f s, longest %.1f s",
			s.byTenant["flood"], mean.Seconds(), longest.Seconds())
		return mean, longest
	}

	if mean, _ := waits(FIFOOptions{}); mean < 10*round {
		t.Errorf("in order of arrival the others wait %v: this is no flood", mean)
	}
	turns := FIFOOptions{Tenant: func(req HandlerReq) string { return req.Host.(*simCaller).source.tenant }}
	// The first request of each waits for the load too.
	if mean, longest := waits(turns); mean > round*5/4 || longest > load+2*round {
		t.Errorf("with turns the others wait %v, %v at most; a round takes %v", mean, longest, round)
	}
}

// TestSmallGroupBesideABigOne: two embedders share one place, four language models
// another. The price of an embedder counts the drain of the other embedder (R8), a few
// seconds, and not the minutes that a language model takes to drain.
func TestSmallGroupBesideABigOne(t *testing.T) {
	models := []simModel{
		{name: "small 0", load: 2 * time.Second, service: 2 * time.Second, servers: 20},
		{name: "small 1", load: 2 * time.Second, service: 2 * time.Second, servers: 20},
	}
	small := Group{Name: "small", Members: []string{"small 0", "small 1"}, Swap: true}
	big := Group{Name: "big", Swap: true}
	for i := range 4 {
		m := simModel{name: fmt.Sprint("big ", i), load: 20 * time.Second, service: 30 * time.Second, servers: 4}
		models, big.Members = append(models, m), append(big.Members, m.name)
	}
	swapper, err := NewGroupSwapper(small, big)
	if err != nil {
		t.Fatal(err)
	}
	s := newSim(t, 1, swapper, FIFOOptions{}, models...)
	for _, id := range small.Members {
		s.add(simSource{model: id, rate: 3}) // It keeps six servers busy: it is seldom idle.
	}
	for _, id := range big.Members {
		s.add(simSource{model: id, callers: 8})
	}
	s.run(time.Hour)

	// A drain takes no more than two services of up to 3 s, so an embedder is overdue
	// after 5 × (2 + 6) s, and ready another drain and load later: after 48 s. A
	// request waits for half of that if it waits at all.
	const most = 30 * time.Second
	for _, m := range s.models {
		t.Logf("%s: %v", m.name, &m.waits)
		if m.load == 2*time.Second && m.waits.mean() > most {
			t.Errorf("%s: mean wait %v, more than %v", m.name, m.waits.mean(), most)
		}
	}
}

// TestDearModelGetsItsShare: one model loads in 3 s, the other in 120 s, and callers want
// both all the time. A loaded model stays open for two prices that count the longer load
// (R8), so the expensive one is worth its load: it stays ready for at least 240 s. The
// cheap one stays ready until the expensive one is overdue, for 600 s and a drain.
func TestDearModelGetsItsShare(t *testing.T) {
	s := newSim(t, 1, &GroupSwapper{}, FIFOOptions{},
		simModel{name: "cheap", load: 3 * time.Second, service: 5 * time.Second, servers: 4},
		simModel{name: "dear", load: 120 * time.Second, service: 5 * time.Second, servers: 4})
	s.add(simSource{model: "cheap", callers: 8})
	s.add(simSource{model: "dear", callers: 8})
	s.run(12 * time.Hour)

	for _, m := range s.models {
		t.Logf("%s: ready %.0f %% of the time, %v", m.name, 100*m.ready.Seconds()/s.until.Seconds(), &m.waits)
	}
	cheap, dear := s.model("cheap"), s.model("dear")
	if dear.ready < cheap.ready/4 {
		t.Errorf("dear is ready for %v, less than a quarter of %v", dear.ready, cheap.ready)
	}
	if dear.waits.n < cheap.waits.n/4 {
		t.Errorf("dear serves %d requests, less than a quarter of %d", dear.waits.n, cheap.waits.n)
	}
}

// TestImpatientCallersAreServed: callers of two models leave before a load has ended and
// come back, and each time the other model wants the room. Loads that no request waits
// for are cancelled, but not so often that one of the models is never loaded (R14).
func TestImpatientCallersAreServed(t *testing.T) {
	const (
		loadA   = 20 * time.Second
		loadB   = 10 * time.Second
		service = 3 * time.Second
		// In a round each model is cancelled once at half its load, loaded, and serves.
		round = (loadA+loadB)*3/2 + 2*service*3/2
		least = int(time.Hour / (4 * round))
	)
	// served returns how many requests of each model are served in an hour.
	served := func(a, b simSource) (servedA, servedB int) {
		s := newSim(t, 1, &GroupSwapper{}, FIFOOptions{},
			simModel{name: "a", load: loadA, service: service, servers: 1},
			simModel{name: "b", load: loadB, service: service, servers: 1})
		s.add(a)
		s.add(b)
		s.run(time.Hour)
		servedA, servedB = s.model("a").waits.n, s.model("b").waits.n
		if servedA < least || servedB < least {
			t.Errorf("a: %+v; b: %+v; served %d and %d, not %d", a, b, servedA, servedB, least)
		}
		if s.fifo.Snapshot().Counters.SwapsAbandoned == 0 {
			t.Errorf("a: %+v; b: %+v; no load was cancelled", a, b)
		}
		return servedA, servedB
	}

	timeouts := []time.Duration{2 * time.Second, 5 * time.Second, 8 * time.Second}
	for _, jitter := range []float64{0, 0.3} {
		for _, back := range []time.Duration{0, 500 * time.Millisecond} {
			fewestA, fewestB := math.MaxInt, math.MaxInt
			for _, timeoutA := range timeouts {
				for _, timeoutB := range append(timeouts, 0) {
					servedA, servedB := served(
						simSource{model: "a", callers: 1, back: back, timeout: timeoutA, jitter: jitter},
						simSource{model: "b", callers: 1, back: back, timeout: timeoutB, jitter: jitter})
					fewestA, fewestB = min(fewestA, servedA), min(fewestB, servedB)
				}
			}
			t.Logf("jitter %v, back after %v: %d of a and %d of b served at least", jitter, back, fewestA, fewestB)
		}
	}
}

// TestEveryModelGetsItsTurn: in random small systems under pressure, no model that
// requests wait for goes unserved for longer than the rules allow, and every request
// is answered once callers stop coming.
func TestEveryModelGetsItsTurn(t *testing.T) {
	seeds := uint64(200)
	if testing.Short() {
		seeds = 40
	}
	closest := 0.0
	for seed := range seeds {
		s, bound := randomSim(t, seed)
		s.run(2 * time.Hour)
		for _, m := range s.models {
			closest = max(closest, m.unserved.Seconds()/bound.Seconds())
			if m.unserved > bound {
				t.Errorf("seed %d: a request for %s waited and none was granted for %v, more than %v",
					seed, m.name, m.unserved, bound)
			}
		}
	}
	t.Logf("%d systems, at most %.2f of the bound", seeds, closest)
}

// randomSim makes a random system. Bound is the longest time for which a model may
// grant nothing while one request waits for it.
//
// That model is overdue after Patience or five prices, whichever is less. Each of the
// other models may have become overdue before it and go first, and before the next
// reservation is taken one more swap may start that is in its way. So it waits for two
// turns of each other model, and one of its own. In a turn what is ready stays open
// for Patience or two prices and drains, and the next model loads. A price is at most
// the longest load and the longest drain. Capacity bounds the drain: what is in flight
// ends, and as many requests again are served.
func randomSim(t *testing.T, seed uint64) (s *sim, bound time.Duration) {
	rng := rand.New(rand.NewPCG(seed, 1))
	chance := func(percent int) bool { return rng.IntN(100) < percent }
	seconds := func(from, to float64) time.Duration {
		return time.Duration(float64(time.Second) * (from + (to-from)*rng.Float64()))
	}
	groups := make([]Group, rng.IntN(4))
	for i := range groups {
		groups[i] = Group{Name: fmt.Sprint(i), Swap: chance(60), Exclusive: chance(60), Persistent: chance(30)}
	}
	models := make([]simModel, 2+rng.IntN(4))
	load, drain := 10*time.Second, time.Duration(0) // A load that is not known counts 10 s.
	for i := range models {
		m := simModel{name: fmt.Sprint("m", i), load: seconds(1, 60), service: seconds(4, 12), servers: 1 + rng.IntN(2)}
		m.capacity = 2 * m.servers
		load, drain = max(load, m.load), max(drain, 2*m.service*3/2)
		if g := rng.IntN(len(groups) + 1); g < len(groups) {
			groups[g].Members = append(groups[g].Members, m.name)
		}
		models[i] = m
	}
	swapper, err := NewGroupSwapper(groups...)
	if err != nil {
		t.Fatal(err)
	}
	patience := []time.Duration{time.Minute, 3 * time.Minute, 10 * time.Minute}[rng.IntN(3)]
	s = newSim(t, seed, swapper, FIFOOptions{Patience: patience}, models...)
	for _, m := range models {
		src := simSource{model: m.name, callers: 1 + rng.IntN(m.capacity)}
		if chance(50) { // An open loop, for 0.2 to 1 of what m can serve if it is always ready.
			src.callers, src.rate = 0, (0.2+0.8*rng.Float64())*float64(m.servers)/m.service.Seconds()
		}
		if chance(30) {
			src.timeout, src.jitter, src.back = seconds(2, 60), 0.3, seconds(0, 5)
		}
		s.add(src)
	}
	price := load + drain
	turn := min(patience, 2*price) + drain + load
	return s, min(patience, 5*price) + time.Duration(2*len(models)-1)*turn
}
