package scheduler

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// parseIntent returns the swap that "b<a,c" describes: b stops a and c.
func parseIntent(s string) *intent {
	target, evict, stops := strings.Cut(s, "<")
	if !stops {
		return &intent{target: target}
	}
	return &intent{target, strings.Split(evict, ",")}
}

// TestCollides: two swaps collide in three cases (R5), whichever comes first.
func TestCollides(t *testing.T) {
	for _, test := range []struct {
		one, other string
		want       bool
	}{
		{"a", "b", false},
		{"a<b", "b", true},     // one stops the target of the other
		{"a<b", "b<a", true},   // each stops the target of the other
		{"a<c", "b<c", true},   // both stop c
		{"a<c,d", "b<d", true}, // both stop d
		{"a<c,d", "b<e,f", false},
		{"a<c", "b", false},
		{"a", "a", false}, // R4 forbids that, and not R5
	} {
		one, other := parseIntent(test.one), parseIntent(test.other)
		if got := one.collides(other); got != test.want {
			t.Errorf("%s collides with %s: %v", test.one, test.other, got)
		}
		if got := other.collides(one); got != test.want {
			t.Errorf("%s collides with %s: %v", test.other, test.one, got)
		}
	}
}

// TestStops: a swap stops what it evicts. A nil one stops nothing.
func TestStops(t *testing.T) {
	i := parseIntent("a<b,c")
	for model, want := range map[string]bool{"a": false, "b": true, "c": true, "d": false} {
		if i.stops(model) != want || (*intent)(nil).stops(model) {
			t.Errorf("%s is stopped: %v, by a nil intent: %v", model, i.stops(model), (*intent)(nil).stops(model))
		}
	}
}

// TestSwapsAgainstList adds and removes swaps at random, and compares the book with
// a list of them.
func TestSwapsAgainstList(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 0))
		models := strings.Fields("a b c d e f g h")
		var b swaps
		var list []*swap
		checkSwaps(t, &b, list, models)
		for range 200 {
			r.Shuffle(len(models), func(i, j int) { models[i], models[j] = models[j], models[i] })
			i := intent{models[0], models[1 : 1+r.IntN(4)]}
			i.evict = slices.Clone(i.evict)
			var want []string
			for _, s := range list {
				if i.collides(&s.intent) {
					want = append(want, s.target)
				}
			}
			slices.Sort(want)
			if got := b.colliding(&i, nil); !slices.Equal(got, want) {
				t.Fatalf("%v collides with the swaps for %v, want %v", i, got, want)
			}
			changes := b.changes
			switch {
			case len(list) > 0 && r.IntN(3) == 0:
				at := r.IntN(len(list))
				b.remove(list[at])
				list = slices.Delete(list, at, at+1)
			case len(want) == 0 && b.of(i.target) == nil:
				loads, started := r.IntN(2) == 0, epochOfTests.Add(time.Duration(r.IntN(1000)))
				s := b.add(i, started, loads)
				if s.target != i.target || !slices.Equal(s.evict, i.evict) || !s.started.Equal(started) || s.loads != loads || s.abandoned || s.unloaded {
					t.Fatalf("added %v, got %+v", i, s)
				}
				list = append(list, s)
			default:
				continue
			}
			if b.changes == changes {
				t.Fatal("a change is not counted")
			}
			checkSwaps(t, &b, list, models)
		}
	}
}

// checkSwaps compares the book with a list of the swaps.
func checkSwaps(t *testing.T, b *swaps, list []*swap, models []string) {
	t.Helper()
	if b.none() != (len(list) == 0) {
		t.Fatalf("no swap is outstanding: %v, but there are %d", b.none(), len(list))
	}
	for _, model := range models {
		var of, stopping *swap
		for _, s := range list {
			if s.target == model {
				of = s
			}
			if slices.Contains(s.evict, model) {
				stopping = s
			}
		}
		if b.of(model) != of || b.stopping(model) != stopping {
			t.Fatalf("%s has the swap %v and is stopped by %v, want %v and %v", model, b.of(model), b.stopping(model), of, stopping)
		}
	}
}

// TestColliding: the targets come after what is there, sorted and once each.
func TestColliding(t *testing.T) {
	var b swaps
	for _, s := range []string{"z<y,x", "b<c", "k<l"} {
		b.add(*parseIntent(s), epochOfTests, true)
	}
	for i, want := range map[string]string{
		"q":         "[]",
		"q<p":       "[]",
		"q<b":       "[b]",   // its target
		"c":         "[b]",   // what it stops
		"q<x,y":     "[z]",   // both by the same swap
		"q<x,z":     "[z]",   // what it stops, and its target
		"x<b,c,z,y": "[b z]", // in order
		"z":         "[]",    // R4 forbids that, and not R5
	} {
		if got := fmt.Sprint(b.colliding(parseIntent(i), nil)); got != want {
			t.Errorf("%s collides with %s, want %s", i, got, want)
		}
	}
	if on := b.colliding(parseIntent("q<b"), make([]string, 0, 8)); cap(on) != 8 {
		t.Error("the memory that is handed in is not used")
	}
}

// TestAbandon: only the first time is news.
func TestAbandon(t *testing.T) {
	var b swaps
	s := b.add(*parseIntent("a<b"), epochOfTests, true)
	for i, news := range []bool{true, false, false} {
		if got := b.abandon(s); got != news || !s.abandoned {
			t.Errorf("time %d: news %v, abandoned %v", i+1, got, s.abandoned)
		}
	}
	if b.of("a") != s || b.stopping("b") != s {
		t.Error("an abandoned swap has left the book before its report")
	}
}

// TestMayCancel: a swap that no request waits for may be cancelled unless a swap was
// cancelled before for impatient callers, and no load has succeeded since (R14).
func TestMayCancel(t *testing.T) {
	var b swaps
	a, c := b.add(*parseIntent("a"), epochOfTests, true), b.add(*parseIntent("c"), epochOfTests, true)
	for i, step := range []struct {
		does func()
		a, c bool
	}{
		{func() {}, true, true},
		{func() { b.cancel(a) }, false, false},
		{func() { b.succeed("x") }, false, true}, // Another has ended well.
		{func() { b.cancel(c) }, false, false},
		{func() { b.succeed("a") }, true, false},
		{func() { b.succeed("c") }, true, true},
		{func() { b.abandon(a) }, false, true},
	} {
		step.does()
		if gotA, gotC := b.mayCancel(a), b.mayCancel(c); gotA != step.a || gotC != step.c {
			t.Errorf("step %d: a may be cancelled: %v, c: %v", i, gotA, gotC)
		}
	}
	if b.succeed("x"); len(b.cancelled) > 0 {
		t.Errorf("%v are remembered", b.cancelled)
	}
}
