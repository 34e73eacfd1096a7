package pods

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// TestCopyLog: lines lose their times, and after a cut nothing comes twice.
func TestCopyLog(t *testing.T) {
	at := func(s string) time.Time {
		when, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			t.Fatal(err)
		}
		return when
	}
	long := strings.Repeat("x", 100<<10)
	for _, c := range []struct {
		name, log  string
		since      time.Time
		want, last string
	}{
		{"lines", "2026-01-01T00:00:00.1Z one\n2026-01-01T00:00:00.2Z two words\n", time.Time{}, "one\ntwo words\n", "2026-01-01T00:00:00.2Z"},
		{"known ones", "2026-01-01T00:00:00.1Z one\n2026-01-01T00:00:00.2Z two\n2026-01-01T00:00:00.2Z three\n2026-01-01T00:00:00.3Z four\n", at("2026-01-01T00:00:00.2Z"), "four\n", "2026-01-01T00:00:00.3Z"},
		{"two at the same time", "2026-01-01T00:00:00Z a\n2026-01-01T00:00:00Z b\n", time.Time{}, "a\nb\n", "2026-01-01T00:00:00Z"},
		{"empty line", "2026-01-01T00:00:00Z \n", time.Time{}, "\n", "2026-01-01T00:00:00Z"},
		{"no time", "panic: no time\nx\n", time.Time{}, "panic: no time\nx\n", "0001-01-01T00:00:00Z"},
		{"long line", "2026-01-01T00:00:00Z " + long + "\n2026-01-01T00:00:01Z b\n", time.Time{}, long + "\nb\n", "2026-01-01T00:00:01Z"},
		{"long known line", "2026-01-01T00:00:00Z " + long + "\n2026-01-01T00:00:01Z b\n", at("2026-01-01T00:00:00Z"), "b\n", "2026-01-01T00:00:01Z"},
		{"broken off", "2026-01-01T00:00:00Z a\n2026-01-01T00:00:01Z b", time.Time{}, "a\nb\n", "2026-01-01T00:00:01Z"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var to strings.Builder
			last, err := copyLog(&to, iotest.HalfReader(strings.NewReader(c.log)), c.since)
			if to.String() != c.want || !errors.Is(err, io.EOF) || !last.Equal(at(c.last)) {
				t.Errorf("%.200q to %v, %v; not %.200q to %s", to.String(), last, err, c.want, c.last)
			}
		})
	}
}
