package scheduler

import (
	"cmp"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// treapError returns the first thing that is wrong with a tree, and its depth. Its
// priorities must be between low and high.
func treapError(c *class, low, high int) (depth int, err error) {
	if c == nil {
		return 0, nil
	}
	if c.priority < low || c.priority > high {
		return 0, fmt.Errorf("priority %d is on the wrong side", c.priority)
	}
	if c.head == nil {
		return 0, fmt.Errorf("priority %d has no requests", c.priority)
	}
	oldest := c.head
	for _, child := range []*class{c.left, c.right} {
		if child == nil {
			continue
		}
		if child.weight > c.weight {
			return 0, fmt.Errorf("priority %d is below the lighter %d", child.priority, c.priority)
		}
		if child.oldest.arrival < oldest.arrival {
			oldest = child.oldest
		}
	}
	if c.oldest != oldest {
		return 0, fmt.Errorf("priority %d: the oldest of the tree is %d, want %d", c.priority, c.oldest.arrival, oldest.arrival)
	}
	if err := ringError(c); err != nil {
		return 0, fmt.Errorf("priority %d: %w", c.priority, err)
	}
	left, err := treapError(c.left, c.priority+1, high)
	if err != nil {
		return 0, err
	}
	right, err := treapError(c.right, low, c.priority-1)
	return 1 + max(left, right), err
}

// ringError returns the first thing that is wrong with the turns of c.
func ringError(c *class) error {
	tenants := make(map[string]bool)
	for t := c.turn; ; t = t.next {
		switch {
		case t.next.prev != t:
			return fmt.Errorf("the ring is broken after %s", t.tenant)
		case t.head == nil:
			return fmt.Errorf("%s has a turn and no requests", t.tenant)
		case tenants[t.tenant]:
			return fmt.Errorf("%s has two turns", t.tenant)
		case c.turns != nil && c.turns[t.tenant] != t:
			return fmt.Errorf("%s is not found", t.tenant)
		}
		tenants[t.tenant] = true
		if t.next == c.turn {
			break
		}
	}
	if n := len(tenants); n > 1 && c.turns == nil || c.turns != nil && len(c.turns) != n {
		return fmt.Errorf("%d tenants, %d of them in the map", n, len(c.turns))
	}
	for r := c.head; r != nil; r = r.newer {
		if r.newer != nil && (r.newer.older != r || r.newer.arrival < r.arrival) || r.newer == nil && c.tail != r {
			return fmt.Errorf("the requests are not in order after %d", r.arrival)
		}
		if r.next != nil && (r.next.prev != r || r.next.arrival < r.arrival) || r.next == nil && r.turn.tail != r {
			return fmt.Errorf("the requests of %s are not in order after %d", r.turn.tenant, r.arrival)
		}
	}
	return nil
}

const lowest, highest = -1 << 40, 1 << 40

// TestTreap pushes and pulls in random order, and checks the tree every time.
func TestTreap(t *testing.T) {
	for _, priorities := range []int{2, 30, 1 << 30} {
		r := rand.New(rand.NewPCG(uint64(priorities), 0))
		var (
			l   line
			s   spare
			all []*request
		)
		for i := range 2000 {
			if n := len(all); n > 0 && (r.IntN(5) < 2 || i >= 1700) {
				at := r.IntN(n)
				l.pull(all[at], &s)
				all = slices.Delete(all, at, at+1)
			} else {
				added := &request{arrival: uint64(i + 1), priority: r.IntN(priorities) - priorities/2}
				l.push(added, string(rune('A'+r.IntN(3))), &s)
				all = append(all, added)
			}
			if _, err := treapError(l.classes, lowest, highest); err != nil {
				t.Fatalf("%d priorities, after %d changes: %v", priorities, i+1, err)
			}
			classes := make(map[int]bool)
			for _, r := range all {
				classes[r.priority] = true
			}
			if n := count(l.classes); n != len(classes) {
				t.Fatalf("the tree has %d classes, want %d", n, len(classes))
			}
		}
	}
}

// count counts the classes of a tree.
func count(c *class) int {
	if c == nil {
		return 0
	}
	return 1 + count(c.left) + count(c.right)
}

// TestTreapIsBalanced: the depth grows with the logarithm of the number of
// priorities, whatever order they come in.
func TestTreapIsBalanced(t *testing.T) {
	const n = 10_000
	for name, priority := range map[string]func(i int) int{
		"ascending":  func(i int) int { return i },
		"descending": func(i int) int { return -i },
		"inwards":    func(i int) int { return (i%2*2 - 1) * (n - i) },
		"outwards":   func(i int) int { return (i%2*2 - 1) * i },
	} {
		var (
			l   line
			s   spare
			all []*request
		)
		check := func(when string) {
			most := 4 * bits.Len(uint(len(all)))
			if depth, err := treapError(l.classes, lowest, highest); err != nil || depth > most {
				t.Errorf("%s, %s: depth %d, want at most %d; %v", name, when, depth, most, err)
			}
		}
		for i := range n {
			r := &request{arrival: uint64(i + 1), priority: priority(i)}
			l.push(r, "", &s)
			all = append(all, r)
		}
		check("all of them")
		for len(all) > n/100 {
			l.pull(all[0], &s)
			all = all[1:]
		}
		check("the last hundredth")
	}
}

// TestWeights: the weights are those of SplitMix64, the same every time (R18).
func TestWeights(t *testing.T) {
	var w weights
	for i, want := range []uint64{0xe220a8397b1dcdaf, 0x6e789e6aa1b965f4, 0x06c45d188009454f} {
		if got := w.next(); got != want {
			t.Errorf("weight %d is %#x, want %#x", i, got, want)
		}
	}
}

// TestTurns checks the round robin of R6. In a script "X1" arrives for tenant X, "X1/2"
// has priority 2, "-X1" leaves, "." grants the next one, and "!" grants it to a caller
// that does not take it. "<" grants the next one of those that had arrived at the "|".
func TestTurns(t *testing.T) {
	for script, want := range map[string]string{
		"":                                   "",
		"X1 X2 X3 . . .":                     "X1 X2 X3",
		"X1 X2 X3 Y1 Y2 . . . . .":           "X1 Y1 X2 Y2 X3",
		"X1 X2 X3/1 Y1 Y2 . . . . .":         "X3 X1 Y1 X2 Y2",
		"X1 X2 X3 Y1 Y2 . Z1 . . . . .":      "X1 Y1 X2 Z1 Y2 X3",
		"X1 Y1 X2 Y2 Z1 . . . . .":           "X1 Y1 Z1 X2 Y2",
		"X1 X2 Y1 -X1 . .":                   "X2 Y1",       // X keeps its turn
		"X1 Y1 -X1 X2 . .":                   "Y1 X2",       // X had left
		"X1 Y1 . X2 Y2 . . .":                "X1 Y1 X2 Y2", // X had left, and so it joins anew
		"X1 X2 Y1 ! . .":                     "X2 Y1",       // the turn was not used
		"X1/1 Y1/1 X2 Y2 . . . .":            "X1 Y1 X2 Y2",
		"X1/-5 X2/5 X3/0 X4/5 . . . .":       "X2 X4 X3 X1",
		"X1 | Y1 X2 . < . .":                 "X1 Y1 X2", // nothing before the limit is left
		"X1 X2 | Y1 . < .":                   "X1 X2 Y1", // Y came later
		"X1 X2 X3 Y1 | Y2 Z1 . < < < . .":    "X1 Y1 X2 X3 Z1 Y2",
		"X1/1 X2/2 | X3/3 X4/2 < < < . .":    "X2 X1 X3 X4",
		"W1 X1 Y1 Z1 -Y1 -W1 . . Y2 Z2 . .":  "X1 Z1 Y2 Z2",
		"A1 B1 C1 A2 B2 C2 . . -B2 B3 . . .": "A1 B1 C1 A2 B3",
	} {
		if got := playTurns(script); got != want {
			t.Errorf("%s:\n\tgranted %s\n\twant    %s", script, got, want)
		}
	}
}

// playTurns carries out a script, and returns the requests in the order of their grants.
func playTurns(script string) string {
	var (
		l       line
		s       spare
		granted []string
		mark    uint64
		arrived uint64
	)
	waiting, names := make(map[string]*request), make(map[*request]string)
	for _, word := range strings.Fields(script) {
		limit := uint64(everybody)
		switch word {
		case "|":
			mark = arrived
			continue
		case "<":
			limit = mark
			fallthrough
		case ".", "!":
			r := l.first(limit)
			if r == nil {
				continue
			}
			turn := r.turn
			l.pull(r, &s)
			if word != "!" {
				turn.class.pass(turn)
				granted = append(granted, names[r])
			}
			continue
		}
		if name, left := strings.CutPrefix(word, "-"); left {
			l.pull(waiting[name], &s)
			continue
		}
		arrived++
		r := &request{arrival: arrived}
		name, priority, _ := strings.Cut(word, "/")
		fmt.Sscan(priority, &r.priority)
		waiting[name], names[r] = r, name
		l.push(r, name[:1], &s)
	}
	return strings.Join(granted, " ")
}

// TestOneTenantNeedsNoMap: the map is made for the second tenant.
func TestOneTenantNeedsNoMap(t *testing.T) {
	var (
		l line
		s spare
	)
	for i := range uint64(3) {
		l.push(&request{arrival: i}, "X", &s)
	}
	if l.classes.turns != nil {
		t.Error("a map for one tenant")
	}
	l.push(&request{arrival: 3}, "Y", &s)
	if n := len(l.classes.turns); n != 2 {
		t.Errorf("the map has %d tenants, want 2", n)
	}
}

// TestEachStops: a loop over the requests may stop anywhere.
func TestEachStops(t *testing.T) {
	var (
		l line
		s spare
	)
	priorities := []int{3, 1, 2, 3, 1}
	for i, priority := range priorities {
		l.push(&request{arrival: uint64(i), priority: priority}, "", &s)
	}
	slices.SortFunc(priorities, func(a, b int) int { return cmp.Compare(b, a) })
	for n := range len(priorities) + 1 {
		var got []int
		l.requests()(func(r *request) bool {
			got = append(got, r.priority)
			return len(got) < n
		})
		if want := priorities[:max(n, 1)]; !slices.Equal(got, want) {
			t.Errorf("asked for %d: %v, want %v", n, got, want)
		}
	}
}

// TestPulledRequestHoldsNothing: what is kept of a request after its grant does not
// keep the others in memory.
func TestPulledRequestHoldsNothing(t *testing.T) {
	var (
		l   line
		s   spare
		all []*request
	)
	for i := range uint64(3) {
		r := &request{arrival: i}
		l.push(r, "", &s)
		all = append(all, r)
	}
	r := all[1]
	l.pull(r, &s)
	if r.waits() || r.prev != nil || r.next != nil || r.older != nil || r.newer != nil {
		t.Error("a request that was pulled has neighbours")
	}
}

// TestSpare: a line that comes and goes reuses its memory. The spare class keeps no
// request in memory, and is as good as new.
func TestSpare(t *testing.T) {
	var (
		l line
		s spare
	)
	r := &request{arrival: 1}
	if n := testing.AllocsPerRun(100, func() { l.push(r, "X", &s); l.pull(r, &s) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	var all []*request
	for i := range uint64(30) {
		r := &request{arrival: i, priority: int(i % 5)}
		l.push(r, string(rune('A'+i%3)), &s)
		all = append(all, r)
	}
	for _, r := range all {
		l.pull(r, &s)
		if c := s.class; c != nil && (c.line != nil || c.left != nil || c.right != nil || c.oldest != nil || c.head != nil || c.tail != nil || c.turn != nil || len(c.turns) > 0) {
			t.Fatalf("the spare class holds others: %+v", c)
		}
		if c := s.class; c != nil && (c.only.prev != nil || c.only.next != nil || c.only.head != nil || c.only.tail != nil) {
			t.Fatalf("the turn of the spare class holds others: %+v", c.only)
		}
	}
	if c := s.newClass(&l, 7); c.line != &l || c.priority != 7 || c.turns != nil || c.only != (turn{}) || s.class != nil {
		t.Errorf("the memory is not as new: %+v; or it is used twice", c)
	}
}
