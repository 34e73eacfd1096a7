package scheduler

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// source is a string of bytes that decides what happens.
type source struct {
	data      []byte
	impatient bool // callers leave while their models load
}

// less returns a number from 0 to n-1. At the end of the string it is 0.
func (s *source) less(n int) int {
	if len(s.data) == 0 || n <= 1 {
		return 0
	}
	b := int(s.data[0])
	s.data = s.data[1:]
	return b % n
}

// pick returns one of all.
func pick[T any](s *source, all []T) T { return all[s.less(len(all))] }

// setup returns a world at random.
func (s *source) setup() setup {
	all := []string{"a", "b", "c", "d", "e", "f"}[:1+s.less(6)]
	set := setup{models: all, limits: make(map[string]bounds)}
	hostWords.choose(s, &set)
	var pairs []string
	for i, a := range all {
		for _, b := range all[:i] {
			if s.less(2) == 0 {
				pairs = append(pairs, a+"/"+b)
			}
		}
		if s.less(4) == 0 {
			set.ready = append(set.ready, a)
		}
		var b bounds
		if limitWords.choose(s, &b); b != (bounds{}) {
			set.limits[a] = b
		}
	}
	swapper := pick(s, []string{
		"", "conflicts " + strings.Join(pairs, " "), "conflicts " + strings.Join(pairs, " "), "needs " + strings.Join(pairs, " "),
		"groups x:a,b:swap y:c,d:swap:exclusive z:e:persistent", "recent 1", "recent 2", "budget 2 c=2 e=3", "budget 3 a=2",
		"lru 2", "lru 3", "pools x:2 y:2 a=x:1|y:1 b=x:1|y:1@3 c=x:2|y:2|x:1+y:1 d=x:2 e=y:1!pinned", "pools x:3 loads:1 a=x:1 b=x:2 c=x:3@2 d=x:1 e=x:1",
		"sets", fmt.Sprintf("hash %d", s.less(256)),
	})
	if swapper == "sets" {
		swapper += s.sets(all)
	}
	set.swapper = swapper + s.questionPanics(all)
	s.impatient = s.less(4) == 0
	return set
}

// sets returns the words that describe a SetSwapper of some of all models.
func (s *source) sets(all []string) (words string) {
	var members []string
	for range s.less(7) {
		set := []string{pick(s, all)}
		for _, id := range all {
			if id != set[0] && s.less(2) == 0 {
				set = append(set, id)
			}
		}
		words += " " + strings.Join(set, ",")
		members = append(members, set...)
	}
	for _, id := range all {
		if cost := s.less(6); cost > 0 && slices.Contains(members, id) {
			words += fmt.Sprintf(" %s=%d", id, cost-1)
		}
	}
	return words
}

// questionPanics returns which questions to the Swapper panic. Usually none do.
func (s *source) questionPanics(all []string) string {
	target, other := pick(s, all), pick(s, all)
	switch s.less(16) {
	case 0:
		return " panics=" + target
	case 1:
		return " panics=" + target + "+" + other
	case 2:
		return " panics=" + target + "-" + other
	case 3:
		return " start-panics=" + target
	}
	return ""
}

// event returns something that may happen next in w, or "" if it picked something that
// cannot.
func (s *source) event(w *world) string {
	var waiting, serving, granted []string
	for _, c := range w.callers {
		if c.waiting {
			waiting = append(waiting, c.name)
		}
		if c.serving {
			serving = append(serving, c.name)
		}
		if c.lease > 0 {
			granted = append(granted, c.name)
		}
	}
	targets := slices.Sorted(maps.Keys(w.swaps))
	some := func(op string, names []string, suffixes ...string) string {
		if len(names) == 0 {
			return ""
		}
		return op + " " + pick(s, names) + pick(s, append(suffixes, ""))
	}
	if loading := loadingFor(w); s.impatient && len(loading) > 0 && s.less(4) == 0 {
		return "cancel " + pick(s, loading)
	}
	switch s.less(25) {
	case 0, 1, 2, 3, 4, 5:
		return s.request(w)
	case 6, 7, 8:
		return some("swap-done", targets)
	case 9:
		return some("swap-done", targets, " fail", " lie", " untouched")
	case 10, 11, 12, 13:
		return some("serve-done", serving)
	case 14, 15:
		return "advance " + pick(s, []string{"1s", "3s", "10s", "30s", "1m", "11m"})
	case 16:
		return some("cancel", waiting)
	case 17:
		return some(pick(s, []string{"leave", "vanish"}), waiting)
	case 18:
		return some("unload", w.models, " "+pick(s, w.models), " stranger", " timeout=5s")
	case 19:
		return some("serve-done", granted) // perhaps once more
	case 20:
		return "swap-done " + pick(s, w.models) // perhaps none is outstanding
	case 21:
		return pick(s, []string{"serve-done model=" + pick(s, w.models), "serve-done model=a lease=99", "unload", some("cancel", granted)})
	case 22:
		if id := some("state", idle(w)); id != "" {
			return id + pick(s, []string{" stopped", " shutdown", " starting", " ready"})
		}
		return ""
	case 23:
		return s.limits(w)
	default:
		return s.rare(w, granted)
	}
}

// idle returns the models that no outstanding swap starts or stops.
func idle(w *world) []string {
	return slices.DeleteFunc(slices.Clone(w.models), func(id string) bool { return w.swaps[id] != nil || w.evictedBy(id) != "" })
}

// request returns a request at random.
func (s *source) request(w *world) string {
	n := len(w.callers) + 1
	return fmt.Sprintf("request r%d %s", n, pick(s, w.models)) + requestWords.some(s)
}

// limits returns a change of the limits of a model. Usually the host reports the change.
func (s *source) limits(w *world) string {
	b := bounds{unload: s.less(4) > 0}
	limitWords.choose(s, &b)
	return strings.Join(append([]string{"limits", pick(s, w.models)}, limitWords.write(b)...), " ")
}

// loadingFor returns the callers whose model is being loaded.
func loadingFor(w *world) (names []string) {
	for _, c := range w.callers {
		if c.waiting && w.swaps[c.req.Model] != nil {
			names = append(names, c.name)
		}
	}
	return names
}

// rare returns something that rarely happens.
func (s *source) rare(w *world, granted []string) string {
	n := len(w.callers) + 1
	switch s.less(7) {
	case 0:
		return "forget " + pick(s, w.models)
	case 1:
		return pick(s, []string{"shutdown", "shutdown error=boom"})
	case 2:
		return fmt.Sprintf("request r%d stranger", n)
	default:
		prefix := pick(s, []string{"grant", "start-swap", "error", "cancel-swap", "stop"})
		then := pick(s, []string{
			fmt.Sprintf("request i%d %s", n, pick(s, w.models)),
			"unload " + pick(s, w.models),
			"serve-done model=" + pick(s, w.models),
			"swap-done " + pick(s, w.models),
		})
		if answers := prefix == "grant" || prefix == "error"; answers && strings.HasPrefix(then, "swap-done") {
			return "" // What changes while an answer is given may be noticed at the next event.
		}
		return "on " + prefix + " : " + then
	}
}

// play gives a pair the events that data decides, and then finishes everything. It
// returns what is wrong, or "" if nothing is.
func play(t testing.TB, data []byte, commits fault) (p *pair, wrong string) {
	s := &source{data: data}
	p = newPair(s.setup(), commits)
	for len(s.data) > 0 && len(p.done) < 200 {
		line := s.event(p.fifo)
		if line == "" {
			continue
		}
		if wrong = p.wrong(p.tell(line)); wrong != "" {
			return p, wrong
		}
	}
	return p, p.end(t)
}

// end finishes p and returns what is wrong.
func (p *pair) end(t testing.TB) string {
	if wrong := p.wrong(p.drain()); wrong != "" {
		return wrong
	}
	p.fifo.finish(func(string) {})
	p.slow.finish(func(string) {})
	return p.wrong("")
}

// rerun gives a new pair lines, and returns what is wrong. It returns "" if nothing is or
// the lines make no sense.
func rerun(t testing.TB, s setup, lines []string, commits fault) (p *pair, wrong string) {
	defer func() {
		if e := recover(); e != nil && wrong == "" {
			if _, nonsense := e.(error); !nonsense {
				panic(e)
			}
		}
	}()
	p = newPair(s, commits)
	for _, line := range lines {
		if wrong = p.wrong(p.tell(line)); wrong != "" {
			return p, wrong
		}
	}
	return p, p.end(t)
}

// report removes from a sequence every event that it does not need to go wrong. It
// returns the rest as a trace, with what is wrong.
func report(t testing.TB, p *pair, commits fault) string {
	lines := slices.Clone(p.done)
	for again := true; again; {
		again = false
		for i := len(lines) - 1; i >= 0; i-- {
			fewer := slices.Delete(slices.Clone(lines), i, i+1)
			if _, wrong := rerun(t, p.setup, fewer, commits); wrong != "" {
				lines, again = fewer, true
			}
		}
	}
	p, wrong := rerun(t, p.setup, lines, commits)
	return p.trace() + "\n" + wrong
}

// wrong returns what is broken or differs.
func (p *pair) wrong(diff string) string {
	for _, b := range p.fifo.broken {
		diff += "\nFIFO: " + b
	}
	for _, b := range p.slow.broken {
		diff += "\nreference: " + b
	}
	return diff
}

// FuzzEvents lets anything happen to up to six models under random policies and options.
// It checks the invariants after each step, that every request is answered in the end,
// and that the FIFO does what the reference does.
func FuzzEvents(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(noise(seed, 300))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if p, wrong := play(t, data, ""); wrong != "" {
			t.Fatal(report(t, p, ""))
		}
	})
}

var seeds = flag.Int("seeds", 4000, "how many sequences TestRandomEvents tries")

// TestRandomEvents is FuzzEvents for a number of random strings.
func TestRandomEvents(t *testing.T) {
	n := *seeds
	if testing.Short() {
		n /= 10
	}
	for seed := range n {
		if p, wrong := play(t, noise(uint64(seed), 50+seed%400), ""); wrong != "" {
			t.Fatalf("seed %d\n%s", seed, report(t, p, ""))
		}
	}
}

// noise returns n random bytes.
func noise(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	return data
}

// TestRandomAnswers lets the Swapper answer at random, and differently when it is asked
// the same question twice. There is no second implementation to compare with, but the
// invariants hold and every request is answered in the end.
func TestRandomAnswers(t *testing.T) {
	for seed := range uint64(1000) {
		s := &source{data: noise(seed, 300)}
		set := s.setup()
		set.swapper = fmt.Sprintf("random %d", seed)
		w := newWorld(set, newFIFOUnderTest)
		var done []string
		for len(s.data) > 0 {
			if line := s.event(w); line != "" {
				done = append(done, line)
				w.tell(line)
			}
		}
		w.finish(func(line string) { done = append(done, line) })
		if len(w.broken) > 0 {
			t.Fatalf("seed %d\n%s%s\n%s", seed, set, strings.Join(done, "\n"), strings.Join(w.broken, "\n"))
		}
	}
}
