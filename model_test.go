package scheduler

import (
	"fmt"
	"maps"
	"slices"
	"testing"
)

// TestRecord: there is one record for each name, and its pieces point back at it.
func TestRecord(t *testing.T) {
	s := newModels()
	if s.find("a") != nil || len(s.byName) > 0 {
		t.Error("looking for a record has made one")
	}
	m := s.record("a")
	if s.record("a") != m || s.find("a") != m || s.record("b") == m {
		t.Error("a name and a record do not belong together")
	}
	if m.name != "a" || m.answers.model != "a" || m.line.owner != m || m.account.owner != m || m.deadline.owner != m {
		t.Errorf("a piece of the record is another model's: %+v", m)
	}
}

// TestSweep: records that hold nothing are dropped, unless they matter later.
func TestSweep(t *testing.T) {
	s := newModels()
	for _, name := range []string{"empty", "held", "granted", "failed"} {
		s.record(name)
	}
	s.find("granted").account.lastUsed = 1
	s.find("failed").cooldown.failures = 1
	held := true
	holds := func(m *model) bool { return held && m.name == "held" }
	for _, step := range []struct {
		change func()
		want   string
	}{
		{func() {}, "[failed granted held]"},
		{func() { held = false }, "[failed granted held]"}, // Nothing was done to it.
		{func() { s.find("held") }, "[failed granted]"},
		{func() { s.find("failed").cooldown.clear() }, "[granted]"},
		{func() { s.find("granted") }, "[granted]"},
	} {
		step.change()
		s.sweep(holds)
		if got := fmt.Sprint(slices.Sorted(maps.Keys(s.byName))); got != step.want {
			t.Errorf("records of %s, want %s", got, step.want)
		}
		for _, m := range s.touched[:cap(s.touched)] {
			if m != nil {
				t.Errorf("the record of %s is still held", m.name)
			}
		}
		if len(s.touched) > 0 {
			t.Errorf("%d records are still marked", len(s.touched))
		}
	}
}

// TestTouch marks a record once, and not at all if it stays anyway.
func TestTouch(t *testing.T) {
	s := newModels()
	m := s.record("a")
	s.touch(m)
	s.find("a")
	if len(s.touched) != 1 {
		t.Errorf("marked %d times", len(s.touched))
	}
	s.sweep(func(*model) bool { return true })
	m.account.lastUsed = 1
	s.find("a")
	if len(s.touched) != 0 || m.touched {
		t.Error("a record that stays is marked")
	}
}
