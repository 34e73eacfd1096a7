package scheduler

import (
	"os"
	"strings"
	"testing"
)

// TestChecksCatchFaults lets the reference commit each of its faults. The invariants have
// to show the fault, without a second implementation to compare with. The comparison with
// the FIFO has to show it too. For a rare fault, the comparison with a trace is enough.
func TestChecksCatchFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	if len(faults) < 15 {
		t.Fatalf("%d faults", len(faults))
	}
	for _, f := range faults {
		t.Run(f.rule+" "+string(f.fault), func(t *testing.T) {
			commits := f.fault
			if seed, wrong := caught(func(data []byte) string { _, wrong := play(t, data, commits); return wrong }); wrong != "" {
				t.Logf("compared, seed %d: %s", seed, firstLine(wrong))
			} else if trace := shownBy(t, commits); trace != "" {
				t.Logf("shown by %s", trace)
			} else {
				t.Errorf("the comparison does not show it")
			}
			if !f.checked {
				return
			}
			if seed, wrong := caught(func(data []byte) string { return playAlone(t, data, commits) }); wrong == "" {
				t.Errorf("what always holds does not show it")
			} else {
				t.Logf("checked, seed %d: %s", seed, firstLine(wrong))
			}
		})
	}
}

// caught tries random sequences until one goes wrong.
func caught(try func(data []byte) (wrong string)) (seed uint64, wrong string) {
	for seed = range 4000 {
		if wrong = try(noise(seed, 50+int(seed%400))); wrong != "" {
			return seed, wrong
		}
	}
	return 0, ""
}

// shownBy returns the first trace that a reference with a fault does not follow.
func shownBy(t *testing.T, commits fault) string {
	for _, file := range traceFiles(t) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if panicsInEffect(string(text)) {
			continue
		}
		if got, _, err := follow(string(text), committing(commits)); err != nil || got != string(text) {
			return file
		}
	}
	return ""
}

// firstLine returns the first line of s that is not blank.
func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}

// playAlone plays the events that data decides to a reference that commits a fault, and
// returns the first invariant that is broken. A fault that makes the reference panic is
// caught too.
func playAlone(t testing.TB, data []byte, commits fault) (wrong string) {
	defer func() {
		if p := recover(); p != nil {
			wrong = "panic"
		}
	}()
	s := &source{data: data}
	w := newWorld(s.setup(), committing(commits))
	for steps := 0; len(s.data) > 0 && steps < 200 && len(w.broken) == 0; {
		if line := s.event(w); line != "" {
			w.tell(line)
			steps++
		}
	}
	if len(w.broken) == 0 {
		w.finish(func(string) {})
	}
	return strings.Join(w.broken, "\n")
}
