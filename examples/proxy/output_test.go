package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
)

func TestOutputLines(t *testing.T) {
	long := strings.Repeat("x", maxLine)
	tests := []struct {
		name   string
		writes []string
		want   []string
	}{
		{"none", nil, nil},
		{"one", []string{"a\n"}, []string{"a"}},
		{"in pieces", []string{"a", "b", "\nc", "\n"}, []string{"ab", "c"}},
		{"several at once", []string{"a\nb\n\nc\n"}, []string{"a", "b", "", "c"}},
		{"end missing", []string{"a\nb"}, []string{"a", "b"}},
		{"dos", []string{"a\r\nb\r", "\n"}, []string{"a", "b"}},
		{"twice returned", []string{"a\r\r\n"}, []string{"a"}},
		{"progress", []string{"1%\r2%\r", "3%", "\rdone\n"}, []string{"done"}},
		{"progress, end missing", []string{"1%\r2%\r"}, []string{"2%"}},
		{"colour", []string{"\x1b[31mred\x1b[0m\n"}, []string{"\x1b[31mred\x1b[0m"}},
		{"not UTF-8", []string{"a\xff\xfeb\n"}, []string{"a\uFFFDb"}},
		{"longest", []string{long + "\n"}, []string{long}},
		{"too long", []string{long + "y\nz\n"}, []string{long + "…", "z"}},
		{"too long in pieces", []string{long, "y", "y\n", "z\n"}, []string{long + "…", "z"}},
		{"too long, then again", []string{long, "y\r", "z\n"}, []string{"z"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := newOutput()
			for _, w := range tt.writes {
				if n, err := o.Write([]byte(w)); n != len(w) || err != nil {
					t.Errorf("Write = %d, %v", n, err)
				}
			}
			o.flush()
			if got := o.lines(); !slices.Equal(got, tt.want) {
				t.Errorf("lines = %.100q, want %.100q", got, tt.want)
			}
		})
	}
}

func TestOutputBounds(t *testing.T) {
	o := newOutput()
	for i := range 3*ringLines + 7 {
		fmt.Fprintln(o, i)
	}
	lines := o.lines()
	if len(lines) != ringLines || lines[0] != fmt.Sprint(2*ringLines+7) {
		t.Errorf("%d lines from %s on, want %d from %d on", len(lines), lines[0], ringLines, 2*ringLines+7)
	}
	for range 2 * ringBytes / maxLine {
		fmt.Fprintln(o, strings.Repeat("x", maxLine))
	}
	if got, want := len(o.lines()), ringBytes/maxLine; got != want {
		t.Errorf("%d long lines, want %d", got, want)
	}
	fmt.Fprintln(o, "short")
	if got, want := len(o.lines()), ringBytes/maxLine; got != want {
		t.Errorf("%d long lines and a short one, want %d in all", got, want)
	}
}

func TestOutputTail(t *testing.T) {
	o := newOutput()
	fmt.Fprint(o, "old\n")
	o.begin(nil, "[starting]")
	if got := o.tail(3); got != "" {
		t.Errorf("tail of a new process = %q", got)
	}
	fmt.Fprint(o, "a\nb\n")
	if got := o.tail(3); got != "a\nb" {
		t.Errorf("tail = %q", got)
	}
	fmt.Fprint(o, "c\nd\n")
	if got := o.tail(3); got != "b\nc\nd" {
		t.Errorf("tail = %q", got)
	}
	o.mark("[exited]")
	if got := o.lines(); got[0] != "old" || got[1] != "[starting]" || got[6] != "[exited]" {
		t.Errorf("lines = %q", got)
	}
}

func TestOutputLog(t *testing.T) {
	var b strings.Builder
	plain := func(groups []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}
	log := slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: levelOutput, ReplaceAttr: plain}))
	o := newOutput()
	o.begin(log.With("model", "a"), "[starting]")
	fmt.Fprint(o, "one\n\ntw")
	fmt.Fprint(o, "o level=ERROR\x1b[31m\nrest")
	o.flush()
	want := `level=DEBUG+2 msg=output model=a line=one
level=DEBUG+2 msg=output model=a line="two level=ERROR\x1b[31m"
level=DEBUG+2 msg=output model=a line=rest
`
	if b.String() != want {
		t.Errorf("log:\n%swant:\n%s", b.String(), want)
	}
}

func TestOutputFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOutput()
		fmt.Fprint(o, "before\n")
		ctx, cancel := context.WithCancel(t.Context())
		var got []string
		go func() {
			for line := range o.follow(ctx) {
				got = append(got, line)
			}
			got = append(got, "end")
		}()
		check := func(want ...string) {
			t.Helper()
			synctest.Wait()
			if !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		}
		check("before")
		fmt.Fprint(o, "a\nb\nhalf")
		check("before", "a", "b")
		fmt.Fprint(o, " whole\n")
		check("before", "a", "b", "half whole")
		o.mark("[exited]")
		check("before", "a", "b", "half whole", "[exited]")
		cancel()
		check("before", "a", "b", "half whole", "[exited]", "end")
	})
}

// A reader that is slow misses lines, and is told so; it holds nobody up.
func TestOutputFollowSlowly(t *testing.T) {
	o := newOutput()
	fmt.Fprint(o, "first\n")
	var got []string
	for line := range o.follow(t.Context()) {
		got = append(got, line)
		switch len(got) {
		case 1:
			for i := range ringLines + 12 {
				fmt.Fprintln(o, i)
			}
		case 3:
			fmt.Fprint(o, "last\n")
		}
		if line == "last" {
			break
		}
	}
	if got[1] != "[12 lines missed]" || got[2] != "12" || len(got) != 2+ringLines+1 {
		t.Errorf("got %q… and %d in all", got[:3], len(got))
	}
}

// follow ends with ctx also while there are lines to read.
func TestOutputFollowEnds(t *testing.T) {
	o := newOutput()
	fmt.Fprint(o, "a\nb\nc\n")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var got []string
	for line := range o.follow(ctx) {
		got = append(got, line)
		cancel()
	}
	if !slices.Equal(got, []string{"a"}) {
		t.Errorf("got %q", got)
	}
}
