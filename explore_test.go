package scheduler

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// pair is the FIFO and the reference, each in a world of its own, which are told
// the same and have to do the same.
type pair struct {
	fifo, slow *world
	setup      setup
	done       []string // what they were told
}

// newPair makes a pair whose reference commits a fault, "" for none.
func newPair(s setup, commits fault) *pair {
	return &pair{
		fifo: newWorld(s, newFIFOUnderTest),
		slow: newWorld(s, func(sw Swapper, eff Effects, opts FIFOOptions) sut {
			return newReference(sw, eff, opts, commits)
		}),
		setup: s,
	}
}

// tell tells both the same and returns what differs, "" if nothing does.
func (p *pair) tell(line string) string {
	p.done = append(p.done, line)
	one := p.fifo.step(func() { must(p.fifo.do(line)) })
	two := p.slow.step(func() { must(p.slow.do(line)) })
	return p.compare(one, two)
}

// compare compares the effects of a step and the state after it.
func (p *pair) compare(one, two []string) string {
	if !slices.Equal(one, two) {
		return fmt.Sprintf("the FIFO:\n  %s\nthe reference:\n  %s", strings.Join(one, "\n  "), strings.Join(two, "\n  "))
	}
	if a, b := comparable(p.fifo.before), comparable(p.slow.before); !sameSnapshot(a, b) {
		return fmt.Sprintf("the snapshot of the FIFO:\n  %s\nof the reference:\n  %s", strings.Join(show(a), "\n  "), strings.Join(show(b), "\n  "))
	}
	return ""
}

// sameSnapshot reports whether two Snapshots say the same.
func sameSnapshot(a, b Snapshot) bool {
	sameSwap := func(a, b SwapStatus) bool {
		same := slices.Equal(a.Evict, b.Evict)
		a.Evict, b.Evict = nil, nil
		return same && reflect.DeepEqual(a, b)
	}
	sameWait := func(a, b WaitStatus) bool {
		same := slices.Equal(a.On, b.On)
		a.On, b.On = nil, nil
		return same && reflect.DeepEqual(a, b)
	}
	return slices.Equal(a.Models, b.Models) && slices.EqualFunc(a.Swaps, b.Swaps, sameSwap) &&
		slices.EqualFunc(a.Waiting, b.Waiting, sameWait) && slices.Equal(a.Reserved, b.Reserved) &&
		a.Drain == b.Drain && a.Counters == b.Counters
}

// comparable returns a Snapshot without what depends on when a model was looked at
// last: a model that is ready does not cool down.
func comparable(s Snapshot) Snapshot {
	s.Models = slices.Clone(s.Models)
	for i := range s.Models {
		s.Models[i].CoolingDown = 0
	}
	s.Models = slices.DeleteFunc(s.Models, func(m ModelStatus) bool { return m.InFlight == 0 && m.Waiting == 0 && m.Load == 0 })
	return s
}

// trace returns what was told as a trace, to be put into testdata.
func (p *pair) trace() string {
	return p.setup.String() + "\n" + strings.Join(p.done, "\n\n")
}

// drain lets everything end in both and returns what differs.
func (p *pair) drain() (diff string) {
	for range 1000 {
		w := p.fifo
		var next string
		if targets := slices.Sorted(maps.Keys(w.swaps)); len(targets) > 0 {
			next = "swap-done " + targets[0]
		} else if i := slices.IndexFunc(w.leases, func(c *caller) bool { return c.serving }); i >= 0 {
			next = "serve-done " + w.leases[i].name
		} else {
			return ""
		}
		if diff = p.tell(next); diff != "" {
			return diff
		}
	}
	return "it never ends"
}

// must panics on an error of the test itself.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// moves returns everything that can happen next in a small world: requests up to a
// number, every end of what is outstanding or in flight, cancels, an unload and
// time. Worlds that differ in the names of their models only are the same.
func moves(w *world, requests int) (lines []string) {
	if n := len(w.callers); n < requests {
		for i, id := range w.models {
			if i <= n {
				lines = append(lines, fmt.Sprintf("request r%d %s", n+1, id))
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(w.swaps)) {
		lines = append(lines, "swap-done "+id, "swap-done "+id+" fail")
	}
	for _, c := range w.callers {
		switch {
		case c.serving:
			lines = append(lines, "serve-done "+c.name)
		case c.waiting:
			lines = append(lines, "cancel "+c.name)
		}
	}
	if len(w.callers) > 0 {
		for _, id := range w.models {
			lines = append(lines, "unload "+id)
		}
		lines = append(lines, "advance 1m")
	}
	return lines
}

// explorer tries every sequence of moves up to a depth.
type explorer struct {
	t        *testing.T
	setup    setup
	requests int
	deadline time.Time
	tried    int
}

// from tries everything that can follow after prefix, and reports false when time
// is up. P stands after prefix.
func (e *explorer) from(p *pair, depth int) bool {
	if depth == 0 {
		e.tried++
		e.end(p)
		return time.Now().Before(e.deadline)
	}
	prefix := slices.Clone(p.done)
	for i, line := range moves(p.fifo, e.requests) {
		if n := len(prefix); n > 0 && line == "advance 1m" && prefix[n-1] == line {
			continue
		}
		if i > 0 {
			p = e.again(prefix)
		}
		e.must(p, p.tell(line))
		if !e.from(p, depth-1) {
			return false
		}
	}
	return true
}

// again returns a pair that stands after prefix.
func (e *explorer) again(prefix []string) *pair {
	p := newPair(e.setup, "")
	for _, line := range prefix {
		p.tell(line)
	}
	return p
}

// end lets p end: nobody may be left waiting, and nothing in memory.
func (e *explorer) end(p *pair) {
	e.must(p, p.drain())
	p.fifo.finish(func(string) {})
	e.must(p, "")
}

// must fails the test if there is a difference, or something is broken.
func (e *explorer) must(p *pair, diff string) {
	if diff != "" || len(p.fifo.broken) > 0 || len(p.slow.broken) > 0 {
		e.t.Fatalf("%s\nFIFO: %s\nreference: %s\n%s", p.trace(), strings.Join(p.fifo.broken, "; "), strings.Join(p.slow.broken, "; "), diff)
	}
}

// TestExplore tries every sequence of events over two models and over three, three
// requests each, as deep as fits into its time.
func TestExplore(t *testing.T) {
	total := 20 * time.Second
	if testing.Short() {
		total = 2 * time.Second
	}
	setups := []setup{
		{models: []string{"a", "b"}},
		{models: []string{"a", "b"}, limits: map[string]Limits{"a": {Concurrency: 1}, "b": {Concurrency: 1}}},
		{models: []string{"a", "b", "c"}, swapper: "conflicts a/b b/c"},
		{models: []string{"a", "b", "c"}, swapper: "budget 2 c=2"},
	}
	for _, s := range setups {
		t.Run(fmt.Sprintf("%d models %s", len(s.models), s.swapper), func(t *testing.T) {
			e := &explorer{t: t, setup: s, requests: 3, deadline: time.Now().Add(total / time.Duration(len(setups)))}
			depth := 0
			for e.from(newPair(s, ""), depth+1) {
				depth++
			}
			t.Logf("every sequence of %d events, %d sequences in all", depth, e.tried)
		})
	}
}
