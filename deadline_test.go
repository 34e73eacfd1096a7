package scheduler

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestDeadlines sets, moves and removes deadlines at random, and compares those that
// have passed with a search through all of them.
func TestDeadlines(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	models := make([]*model, 50)
	for i := range models {
		models[i] = &model{}
		models[i].deadline.owner = models[i]
	}
	at := func(n int) time.Time { return epochOfTests.Add(time.Duration(n) * time.Second) }
	var h deadlines
	set := make(map[*model]time.Time)
	for range 10_000 {
		m := models[r.IntN(len(models))]
		if r.IntN(3) == 0 {
			h.remove(&m.deadline)
			delete(set, m)
		} else {
			set[m] = at(r.IntN(100))
			h.set(&m.deadline, set[m])
		}
		now := at(r.IntN(110) - 5)
		got := h.passed(now, nil)
		want := 0
		for m, deadline := range set {
			passed := !deadline.After(now)
			if passed {
				want++
			}
			if slices.Contains(got, m) != passed {
				t.Fatalf("a deadline at %v is among those that have passed by %v: %v", deadline, now, !passed)
			}
		}
		if len(got) != want || len(h.heap) != len(set) {
			t.Fatalf("%d of %d deadlines have passed, not %d of %d", len(got), len(h.heap), want, len(set))
		}
	}
	for _, m := range models {
		h.remove(&m.deadline)
	}
	if len(h.heap) != 0 || len(h.passed(at(1000), nil)) != 0 {
		t.Errorf("%d deadlines are left", len(h.heap))
	}
}

// TestPassedLooksAtNothingElse: the search for deadlines that have passed does not visit
// those that have not. To show that, the test breaks the order of the heap where the
// search has no reason to look.
func TestPassedLooksAtNothingElse(t *testing.T) {
	var h deadlines
	for n := range 100 {
		m := &model{}
		m.deadline.owner = m
		h.set(&m.deadline, epochOfTests.Add(time.Duration(n+1)*time.Minute))
	}
	h.heap[99].at = epochOfTests // Out of order, where nothing has to look.
	if got := h.passed(epochOfTests, nil); len(got) != 0 {
		t.Errorf("it has looked through the whole heap")
	}
}
