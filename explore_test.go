package scheduler

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// pair is the FIFO and the reference, each in a world of its own. Both get the same
// events and must cause the same effects.
type pair struct {
	fifo, slow *world
	setup      setup
	done       []string // what they were told
}

// newPair makes a pair whose reference commits a fault, or none if fault is "".
func newPair(s setup, commits fault) *pair {
	return &pair{
		fifo:  newWorld(s, newFIFOUnderTest),
		slow:  newWorld(s, committing(commits)),
		setup: s,
	}
}

// tell gives both the same event and returns what differs, or "" if nothing does.
func (p *pair) tell(line string) string {
	p.done = append(p.done, line)
	return p.compare(p.fifo.tell(line), p.slow.tell(line))
}

// compare compares the effects of a step and the state after it.
func (p *pair) compare(one, two []string) string {
	if !slices.Equal(one, two) {
		return fmt.Sprintf("the FIFO:\n  %s\nthe reference:\n  %s", strings.Join(one, "\n  "), strings.Join(two, "\n  "))
	}
	if a, b := comparable(p.fifo.before), comparable(p.slow.before); !reflect.DeepEqual(a, b) {
		return fmt.Sprintf("the snapshot of the FIFO:\n  %s\nof the reference:\n  %s", strings.Join(show(a), "\n  "), strings.Join(show(b), "\n  "))
	}
	return ""
}

// comparable returns a copy of a Snapshot without what depends on when a model was
// looked at last: a model that is ready does not cool down. Lists are never nil.
func comparable(s Snapshot) Snapshot {
	s.Models = append([]ModelStatus{}, s.Models...)
	for i := range s.Models {
		s.Models[i].CoolingDown = 0
	}
	s.Models = slices.DeleteFunc(s.Models, func(m ModelStatus) bool { return m.InFlight == 0 && m.Waiting == 0 && m.Load == 0 })
	s.Swaps = append([]SwapStatus{}, s.Swaps...)
	for i := range s.Swaps {
		s.Swaps[i].Evict = append([]string{}, s.Swaps[i].Evict...)
	}
	s.Waiting = append([]WaitStatus{}, s.Waiting...)
	for i := range s.Waiting {
		s.Waiting[i].On = append([]string{}, s.Waiting[i].On...)
	}
	s.Reserved = append([]Reservation{}, s.Reserved...)
	for i := range s.Reserved {
		s.Reserved[i].Plan = append([]string{}, s.Reserved[i].Plan...)
	}
	return s
}

// trace returns what was told as a trace, to be put into testdata.
func (p *pair) trace() string {
	return p.setup.String() + "\n" + strings.Join(p.done, "\n\n")
}

// drain finishes everything in both and returns what differs.
func (p *pair) drain() (diff string) {
	for range 1000 {
		w := p.fifo
		var next string
		if line := w.openLine(); line != "" {
			next = line
		} else if targets := slices.Sorted(maps.Keys(w.swaps)); len(targets) > 0 {
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
// number, every end of what is outstanding or in flight, cancels, an unload and time.
// Worlds that differ only in the names of their models count as the same.
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
	host     string   // see hostOf
	kinds    []string // what a request line may end with; none: as it is
	pauses   bool     // models are paused, too
	requests int      // how many there are; 0: 3
	t        *testing.T
	setup    setup
	deadline time.Time
	tried    int
}

// from tries everything that can follow prefix, and reports false when time is up. P is
// in the state after prefix.
func (e *explorer) from(p *pair, depth int) bool {
	if depth == 0 {
		e.tried++
		e.end(p)
		return time.Now().Before(e.deadline)
	}
	prefix := slices.Clone(p.done)
	for i, line := range e.moves(p.fifo) {
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

// again returns a pair in the state after prefix.
func (e *explorer) again(prefix []string) *pair {
	p := newPair(e.setup, "")
	for _, line := range prefix {
		p.tell(line)
	}
	return p
}

// end finishes p: no request may be left waiting, and nothing in memory.
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

// TestExplore tries every sequence of events over two and over three models with three
// requests each, as deep as its time allows.
func TestExplore(t *testing.T) {
	total := 20 * time.Second
	if testing.Short() {
		total = 2 * time.Second
	}
	for _, e := range explorers {
		e.setup = hostOf(e.host)
		t.Run(e.name(), func(t *testing.T) { e.explore(t, total/time.Duration(len(explorers))) })
	}
}

// explorers are the worlds to explore.
var explorers = []explorer{
	{host: "host a b"},
	{host: "host a b; options exact=1; limits a concurrency=1; limits b concurrency=1"},
	{host: "host a b c; swapper conflicts a/b b/c"},
	{host: "host a b c; swapper budget 2 c=2"},
	{host: "host a b c; swapper pools x:1 y:1 a=x:1|y:1 b=x:1|y:1 c=x:1+y:1"},
	{host: "host a b c; swapper sets a,b b,c a,c b=3"},
	{host: "host t v x y; ready v x; swapper sets t,v t,x,y v,x,y v=3"},
	{host: "host a; ready a; limits a concurrency=1", kinds: []string{"tenant=x", "tenant=y"}, requests: 6},
	{host: "host a b; ready a; limits a concurrency=1", kinds: []string{"priority=1", "priority=2", "priority=3", "priority=4"}, requests: 4},
	{host: "host a b", pauses: true},
}

// name says what e explores.
func (e *explorer) name() string {
	words := append([]string{e.host}, e.kinds...)
	if e.pauses {
		words = append(words, "pauses")
	}
	return strings.Join(words, " ")
}

// explore tries every sequence, deeper and deeper, until time is up.
func (e explorer) explore(t *testing.T, within time.Duration) {
	e.t, e.deadline = t, time.Now().Add(within)
	e.requests = cmp.Or(e.requests, 3)
	depth := 0
	for e.from(newPair(e.setup, ""), depth+1) {
		depth++
	}
	t.Logf("every sequence of %d events, %d sequences in all", depth, e.tried)
}

// moves returns what can happen next in w: each kind of request, and pauses.
func (e *explorer) moves(w *world) (lines []string) {
	for _, line := range moves(w, e.requests) {
		if !strings.HasPrefix(line, "request") || len(e.kinds) == 0 {
			lines = append(lines, line)
			continue
		}
		for _, kind := range e.kinds {
			lines = append(lines, line+" "+kind)
		}
	}
	if !e.pauses {
		return lines
	}
	for _, id := range w.models {
		if w.limits[id].Paused {
			lines = append(lines, "limits "+id+" unload")
		} else {
			lines = append(lines, "limits "+id+" paused unload")
		}
	}
	return lines
}
