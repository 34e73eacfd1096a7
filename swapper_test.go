package scheduler

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
)

// TestGroupSwapperEvicts is the rules of GroupSwapper in RULES.md: which model stops for which, by what
// the two groups are.
func TestGroupSwapperEvicts(t *testing.T) {
	groups := []Group{
		{Name: "swap", Members: []string{"s1", "s2"}, Swap: true},
		{Name: "beside", Members: []string{"b1", "b2"}},
		{Name: "exclusive", Members: []string{"x1", "x2"}, Exclusive: true},
		{Name: "both", Members: []string{"w1", "w2"}, Swap: true, Exclusive: true},
		{Name: "kept", Members: []string{"k1", "k2"}, Persistent: true},
		{Name: "empty"},
	}
	s, err := NewGroupSwapper(groups...)
	if err != nil {
		t.Fatal(err)
	}
	running := []string{"b2", "d2", "k2", "s2", "w2", "x2"} // One of each, "d2" of the default group.
	for target, want := range map[string]string{
		"s1": "s2",          // its group swaps, and leaves others alone
		"b1": "",            // its group does neither
		"x1": "b2 d2 s2 w2", // others go, except the persistent; its own group stays
		"w1": "b2 d2 s2 w2 x2",
		"k1": "",
		"d1": "b2 d2 s2 w2 x2", // the default group swaps and is exclusive
	} {
		if got := strings.Join(s.EvictionFor(target, running), " "); got != want {
			t.Errorf("for %s: %q, not %q", target, got, want)
		}
	}
	if got := s.EvictionFor("s2", running); len(got) != 0 {
		t.Errorf("for itself: %v", got)
	}
}

// TestGroupSwapperKeepsItsWord: "What a Swapper owes" in RULES.md, for every set
// of running models: its answer is part of the set, asks for nothing more once it
// is carried out, does not shrink when more run, and leaves the set alone.
func TestGroupSwapperKeepsItsWord(t *testing.T) {
	s, err := NewGroupSwapper(
		Group{Name: "x", Members: []string{"a", "b"}, Swap: true},
		Group{Name: "y", Members: []string{"c", "d"}, Exclusive: true},
		Group{Name: "z", Members: []string{"e"}, Persistent: true},
	)
	if err != nil {
		t.Fatal(err)
	}
	all := []string{"a", "b", "c", "d", "e", "f", "g"}
	for _, target := range all {
		for set := range 1 << len(all) {
			var running []string
			for i, id := range all {
				if set>>i&1 == 1 && id != target {
					running = append(running, id)
				}
			}
			before := slices.Clone(running)
			evict := s.EvictionFor(target, running)
			if !slices.Equal(before, running) {
				t.Fatalf("it has changed %v to %v", before, running)
			}
			rest := slices.DeleteFunc(slices.Clone(running), func(id string) bool { return slices.Contains(evict, id) })
			if len(rest)+len(evict) != len(running) {
				t.Fatalf("%v is no part of %v", evict, running)
			}
			if more := s.EvictionFor(target, rest); len(more) > 0 {
				t.Fatalf("for %s with %v: %v, and then %v", target, running, evict, more)
			}
			for i := range running {
				fewer := slices.Delete(slices.Clone(running), i, i+1)
				for _, id := range s.EvictionFor(target, fewer) {
					if !slices.Contains(evict, id) {
						t.Fatalf("for %s: %s goes with %v but not with %v", target, id, fewer, running)
					}
				}
			}
		}
	}
}

// TestNewGroupSwapperRefuses: each error names the group and the member.
func TestNewGroupSwapperRefuses(t *testing.T) {
	for want, groups := range map[string][]Group{
		`scheduler: two groups named "x"`:                            {{Name: "x"}, {Name: "x"}},
		`scheduler: two groups named ""`:                             {{}, {}},
		`scheduler: group "x": a member is empty`:                    {{Name: "x", Members: []string{"a", ""}}},
		`scheduler: group "x": "a" is a member twice`:                {{Name: "x", Members: []string{"a", "b", "a"}}},
		`scheduler: group "y": "a" is a member of group "x" too`:     {{Name: "x", Members: []string{"a"}}, {Name: "y", Members: []string{"a"}}},
		`scheduler: group "y\n": "a\"" is a member of group "x" too`: {{Name: "x", Members: []string{`a"`}}, {Name: "y\n", Members: []string{`a"`}}},
	} {
		if s, err := NewGroupSwapper(groups...); err == nil || s != nil || err.Error() != want {
			t.Errorf("%v, %v, not %s", s, err, want)
		}
	}
}

// TestGroupSwapperCopiesItsGroups: the caller may change its slices afterwards.
func TestGroupSwapperCopiesItsGroups(t *testing.T) {
	members := []string{"a", "b"}
	s, err := NewGroupSwapper(Group{Name: "x", Members: members, Swap: true})
	if err != nil {
		t.Fatal(err)
	}
	members[0] = "z"
	if got := fmt.Sprint(s.EvictionFor("a", []string{"b", "z"})); got != "[b]" {
		t.Errorf("for a: %s", got)
	}
}

// TestZeroGroupSwapper lets one model run at a time.
func TestZeroGroupSwapper(t *testing.T) {
	for _, s := range []*GroupSwapper{{}, mustGroups(t)} {
		if got := fmt.Sprint(s.EvictionFor("a", []string{"b", "c"})); got != "[b c]" {
			t.Errorf("for a: %s", got)
		}
	}
}

// mustGroups makes a GroupSwapper.
func mustGroups(t *testing.T, groups ...Group) *GroupSwapper {
	s, err := NewGroupSwapper(groups...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestGroupSwapperIsShared: schedulers on several goroutines may ask the same one.
func TestGroupSwapperIsShared(t *testing.T) {
	s := mustGroups(t, Group{Name: "x", Members: []string{"a", "b"}, Swap: true})
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 1000 {
				s.EvictionFor("a", []string{"b", "c"})
				s.OnSwapStart("a", nil)
			}
		})
	}
	all.Wait()
}
