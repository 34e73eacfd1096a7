package scheduler

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// benchHost is a host that accepts every grant and does nothing else, so that only the
// scheduler is measured.
type benchHost struct {
	states  map[string]ProcessState
	running map[string]ProcessState // those that are not stopped
	granted []ServeDoneEvent
	swaps   []string
}

func newBenchHost(models, ready int) *benchHost {
	h := &benchHost{states: make(map[string]ProcessState), running: make(map[string]ProcessState)}
	for i := range models {
		h.set(benchModel(i), StateStopped)
		if i < ready {
			h.set(benchModel(i), StateReady)
		}
	}
	return h
}

func (h *benchHost) set(id string, s ProcessState) {
	h.states[id] = s
	if s == StateStopped {
		delete(h.running, id)
	} else {
		h.running[id] = s
	}
}

func benchModel(i int) string { return fmt.Sprintf("model-%02d", i) }

func (h *benchHost) ModelState(id string) (ProcessState, bool) {
	s, ok := h.states[id]
	return s, ok
}

func (h *benchHost) RunningModels() map[string]ProcessState { return h.running }

func (h *benchHost) StartSwap(id string, evict []string) {
	for _, e := range evict {
		h.set(e, StateStopped)
	}
	h.set(id, StateStarting)
	h.swaps = append(h.swaps, id)
}

func (h *benchHost) GrantError(HandlerReq, error) {}

func (h *benchHost) GrantServe(req HandlerReq, id string) bool {
	h.granted = append(h.granted, ServeDoneEvent{ModelID: id, Lease: req.Lease})
	return true
}

func (h *benchHost) StopProcesses(time.Duration, []string) {}

// serveAll ends what is in flight, and every swap, until nothing is left.
func (h *benchHost) serveAll(f Scheduler) {
	for len(h.granted) > 0 || len(h.swaps) > 0 {
		granted := h.granted
		h.granted = nil
		for _, ev := range granted {
			f.OnServeDone(ev)
		}
		swaps := h.swaps
		h.swaps = nil
		for _, id := range swaps {
			h.set(id, StateReady)
			f.OnSwapDone(SwapDone{ModelID: id})
		}
	}
}

// apart lets every model run beside every other.
func apart(models int) *GroupSwapper {
	g := Group{Name: "apart"}
	for i := range models {
		g.Members = append(g.Members, benchModel(i))
	}
	s, err := NewGroupSwapper(g)
	if err != nil {
		panic(err)
	}
	return s
}

// schedulers are what the benchmarks measure. Another one is a line here.
var schedulers = []struct {
	name   string
	newSUT constructor
}{
	{"FIFO", newFIFOUnderTest},
}

// benchEach runs a benchmark for each scheduler.
func benchEach(b *testing.B, bench func(b *testing.B, newSUT constructor)) {
	for _, s := range schedulers {
		b.Run(s.name, func(b *testing.B) { bench(b, s.newSUT) })
	}
}

// BenchmarkYardstick is one request and its reply over two unbuffered channels between
// two goroutines, which every request of a real host costs anyway. Read the other figures
// of the same run in units of it.
func BenchmarkYardstick(b *testing.B) {
	requests, replies := make(chan int), make(chan int)
	go func() {
		defer close(replies)
		for v := range requests {
			replies <- v
		}
	}()
	for b.Loop() {
		requests <- 1
		<-replies
	}
	close(requests)
	<-replies
}

// BenchmarkServedAtOnce is one request for a model that is ready, and its end.
func BenchmarkServedAtOnce(b *testing.B) {
	benchEach(b, func(b *testing.B, newSUT constructor) {
		for _, n := range []int{1, 8, 64} {
			b.Run(fmt.Sprintf("running=%d", n), func(b *testing.B) {
				h := newBenchHost(n, n)
				f := newSUT(apart(n), h, FIFOOptions{}, 0)
				req := HandlerReq{Model: benchModel(0), Respond: make(chan HandlerResp)}
				b.ReportAllocs()
				for b.Loop() {
					f.OnRequest(req)
					f.OnServeDone(h.granted[0])
					h.granted = h.granted[:0]
				}
			})
		}
	})
}

// BenchmarkJoin is one request that joins a load, and its cancellation.
func BenchmarkJoin(b *testing.B) {
	benchEach(b, func(b *testing.B, newSUT constructor) {
		f := newSUT(&GroupSwapper{}, newBenchHost(2, 1), FIFOOptions{}, 0)
		f.OnRequest(HandlerReq{Model: benchModel(1), Respond: make(chan HandlerResp)})
		req := HandlerReq{Model: benchModel(1), Respond: make(chan HandlerResp), PositionCh: make(chan int, 1)}
		b.ReportAllocs()
		for b.Loop() {
			f.OnRequest(req)
			f.OnCancel(req)
		}
	})
}

// crowd returns n requests over 16 models, none of them the first, which is busy.
func crowd(n int) []HandlerReq {
	reqs := make([]HandlerReq, n)
	for i := range reqs {
		reqs[i] = HandlerReq{
			Model:      benchModel(1 + i%16),
			Respond:    make(chan HandlerResp),
			PositionCh: make(chan int, 1),
		}
	}
	return reqs
}

// busyScheduler returns a scheduler whose first model is ready and serves.
func busyScheduler(models int, newSUT constructor) (*benchHost, sut) {
	h := newBenchHost(models, 1)
	f := newSUT(&GroupSwapper{}, h, FIFOOptions{}, 0)
	f.OnRequest(HandlerReq{Model: benchModel(0)})
	return h, f
}

// benchSizes runs a benchmark of n requests for each scheduler and several n.
func benchSizes(b *testing.B, bench func(b *testing.B, n int, newSUT constructor)) {
	benchEach(b, func(b *testing.B, newSUT constructor) {
		for _, n := range []int{100, 1_000, 10_000, 100_000} {
			b.Run(fmt.Sprintf("n=%d", n), func(b *testing.B) {
				bench(b, n, newSUT)
				perRequest(b, n)
			})
		}
	})
}

// BenchmarkQueued is n requests over 16 models that queue behind a busy one and
// are then all served. The figure to read is ns/request.
func BenchmarkQueued(b *testing.B) {
	benchSizes(b, func(b *testing.B, n int, newSUT constructor) {
		reqs := crowd(n)
		b.ReportAllocs()
		for b.Loop() {
			h, f := busyScheduler(17, newSUT)
			for _, req := range reqs {
				f.OnRequest(req)
			}
			h.serveAll(f)
			allServed(b, f, n+1)
		}
	})
}

// BenchmarkCancel is n waiting requests cancelled in random order. The figure to
// read is ns/request, which includes their arrival.
func BenchmarkCancel(b *testing.B) {
	benchSizes(b, func(b *testing.B, n int, newSUT constructor) {
		reqs := crowd(n)
		order := rand.New(rand.NewPCG(1, 2)).Perm(n)
		b.ReportAllocs()
		for b.Loop() {
			_, f := busyScheduler(17, newSUT)
			for _, req := range reqs {
				f.OnRequest(req)
			}
			for _, i := range order {
				f.OnCancel(reqs[i])
			}
			if waiting := f.Snapshot().Waiting; len(waiting) != 0 {
				b.Fatalf("%d wait still", len(waiting))
			}
		}
	})
}

// BenchmarkDrain is a queue with one request for each of many models, which are loaded
// and served one after another. The figure to read is ns/request. It grows with the
// number of models, because every model is decided on again whenever one has been loaded.
func BenchmarkDrain(b *testing.B) {
	benchEach(b, func(b *testing.B, newSUT constructor) {
		for _, models := range []int{100, 1000} {
			b.Run(fmt.Sprintf("models=%d", models), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					h, f := busyScheduler(models+1, newSUT)
					for i := range models {
						f.OnRequest(HandlerReq{Model: benchModel(1 + i), PositionCh: make(chan int, 1)})
					}
					h.serveAll(f)
					allServed(b, f, models+1)
				}
				perRequest(b, models)
			})
		}
	})
}

// BenchmarkPriorities is 16,000 requests for one model with that many different
// priorities, in random order. The figure to read is ns/request.
func BenchmarkPriorities(b *testing.B) {
	const n = 16_000
	benchEach(b, func(b *testing.B, newSUT constructor) {
		for _, k := range []int{1, n} {
			b.Run(fmt.Sprintf("k=%d", k), func(b *testing.B) {
				reqs := make([]HandlerReq, n)
				for i, p := range rand.New(rand.NewPCG(1, 2)).Perm(n) {
					reqs[i] = HandlerReq{Model: benchModel(1), Host: p % k}
				}
				opts := FIFOOptions{Priority: func(req HandlerReq) int { return req.Host.(int) }}
				b.ReportAllocs()
				for b.Loop() {
					h := newBenchHost(2, 1)
					f := newSUT(&GroupSwapper{}, h, opts, 0)
					f.OnRequest(HandlerReq{Model: benchModel(0), Host: 0})
					for _, req := range reqs {
						f.OnRequest(req)
					}
					h.serveAll(f)
					allServed(b, f, n+1)
				}
				perRequest(b, n)
			})
		}
	})
}

// BenchmarkCancelUnblocksNothing is one more request for one of the many models that
// requests wait for, and its cancellation.
func BenchmarkCancelUnblocksNothing(b *testing.B) {
	benchEach(b, func(b *testing.B, newSUT constructor) {
		for _, models := range []int{20, 1000} {
			b.Run(fmt.Sprintf("models=%d", models), func(b *testing.B) {
				_, f := busyScheduler(models+1, newSUT)
				for i := range models {
					f.OnRequest(HandlerReq{Model: benchModel(1 + i), Respond: make(chan HandlerResp)})
				}
				req := HandlerReq{Model: benchModel(1), Respond: make(chan HandlerResp)}
				b.ReportAllocs()
				for b.Loop() {
					f.OnRequest(req)
					f.OnCancel(req)
				}
			})
		}
	})
}

// overdueGroups returns a scheduler with n independent groups of two models. One of them
// is busy, and the other will be overdue at the next event.
func overdueGroups(n int, newSUT constructor) sut {
	h := newBenchHost(0, 0)
	groups := make([]Group, n)
	for i := range groups {
		busy, waiting := fmt.Sprintf("busy-%03d", i), fmt.Sprintf("waiting-%03d", i)
		h.set(busy, StateReady)
		h.set(waiting, StateStopped)
		groups[i] = Group{Name: busy, Members: []string{busy, waiting}, Swap: true}
	}
	policy, err := NewGroupSwapper(groups...)
	if err != nil {
		panic(err)
	}
	now := epochOfTests
	f := newSUT(policy, h, FIFOOptions{Now: func() time.Time { return now }}, 0)
	for _, g := range groups {
		for _, model := range g.Members {
			f.OnRequest(HandlerReq{Model: model})
		}
	}
	now = now.Add(time.Hour)
	return f
}

// BenchmarkOverdueGroups is one event at which many independent groups are overdue and
// take reservations.
func BenchmarkOverdueGroups(b *testing.B) {
	benchEach(b, func(b *testing.B, newSUT constructor) {
		for _, n := range []int{64, 256} {
			b.Run(fmt.Sprintf("groups=%d", n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					b.StopTimer()
					f := overdueGroups(n, newSUT)
					b.StartTimer()
					f.OnCancel(HandlerReq{})
					b.StopTimer()
					if reserved := len(f.Snapshot().Reserved); reserved != n {
						b.Fatalf("%d reservations", reserved)
					}
					b.StartTimer()
				}
			})
		}
	})
}

// BenchmarkNothingHappens is an event that changes nothing while many reservations stand.
func BenchmarkNothingHappens(b *testing.B) {
	benchEach(b, func(b *testing.B, newSUT constructor) {
		for _, n := range []int{1, 127} {
			b.Run(fmt.Sprintf("reservations=%d", n), func(b *testing.B) {
				f := overdueGroups(n, newSUT)
				f.OnCancel(HandlerReq{})
				b.ReportAllocs()
				for b.Loop() {
					f.OnCancel(HandlerReq{})
				}
			})
		}
	})
}

// BenchmarkBudget is one question to a BudgetSwapper with eight pools for a target that
// has four placements, none of them free, beside so many idle models.
func BenchmarkBudget(b *testing.B) {
	for _, n := range []int{5, 20, 100} {
		b.Run(fmt.Sprintf("running=%d", n), func(b *testing.B) {
			r := rand.New(rand.NewPCG(1, 2))
			budget := Budget{Capacity: make(map[string]int64), Models: make(map[string]Footprint)}
			somewhere := func() (p Placement) {
				p = make(Placement)
				for pool := range budget.Capacity {
					p[pool] = 1 + r.Int64N(3)
				}
				return p
			}
			for i := range 8 {
				budget.Capacity[fmt.Sprint("pool", i)] = int64(2 * n)
			}
			var running []Resident
			for i := range n {
				running = append(running, Resident{Model: benchModel(i), LastUsed: r.Uint64N(1000)})
				budget.Models[benchModel(i)] = Footprint{Placements: []Placement{somewhere()}, Reload: 1 + r.Float64()}
			}
			target := Footprint{Placements: []Placement{somewhere(), somewhere(), somewhere(), somewhere()}}
			budget.Models["target"] = target
			s, err := NewBudgetSwapper(budget)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if evict, err := s.Plan("target", running); err != nil || len(evict) == 0 {
					b.Fatal(evict, err)
				}
			}
		})
	}
}

// benchSets returns a SetSwapper with a number of sets of ten models, of so many models
// in all, and what a question to it is about: either every set holds the target, or those that
// happen to.
func benchSets(sets, running, models int, all bool) (*SetSwapper, string, []Resident) {
	r := rand.New(rand.NewPCG(1, 2))
	name := func(i int) string { return fmt.Sprintf("models/model-%03d", i) }
	list := make([]Set, sets)
	costs := make(map[string]int)
	for i := range list {
		for _, m := range r.Perm(models)[:10] {
			list[i] = append(list[i], name(m))
			costs[name(m)] = 1 + r.IntN(30)
		}
		if all && !slices.Contains(list[i], name(0)) {
			list[i][0] = name(0)
			costs[name(0)] = 1
		}
	}
	s, err := NewSetSwapper(list, costs)
	if err != nil {
		panic(err)
	}
	residents := make([]Resident, 0, running)
	for _, m := range r.Perm(models - 1)[:running] {
		residents = append(residents, Resident{Model: name(1 + m), InFlight: m % 2})
	}
	slices.SortFunc(residents, func(a, b Resident) int { return strings.Compare(a.Model, b.Model) })
	return s, name(0), residents
}

// BenchmarkSets is one decision of a SetSwapper with sets of ten models, of thirty in all.
func BenchmarkSets(b *testing.B) {
	for _, n := range []struct{ sets, running int }{{100, 10}, {100, 20}, {4000, 20}} {
		for _, all := range []bool{false, true} {
			b.Run(fmt.Sprintf("sets=%d/running=%d/all=%v", n.sets, n.running, all), func(b *testing.B) {
				s, target, residents := benchSets(n.sets, n.running, 30, all)
				b.ReportAllocs()
				for b.Loop() {
					s.Plan(target, residents)
				}
			})
		}
	}
}

// allServed fails the test unless n requests were granted, and no more.
func allServed(t testing.TB, s sut, n int) {
	t.Helper()
	if granted := s.Snapshot().Counters.Granted; granted != uint64(n) {
		t.Fatalf("%d of %d served", granted, n)
	}
}

// perRequest reports the time per request of iterations with n requests each.
func perRequest(b *testing.B, n int) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/request")
}
