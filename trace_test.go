package scheduler

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite the expected effects in testdata/traces")

// TestTraces runs the scripted traces. A trace opens with a comment that says what
// it shows (see TestTracesOpenWithTheirStory). Then come lines that make the host
// (see setup.parse), and then blocks:
//
//	# why
//	an input (see world.do)
//	----
//	an effect per line, and nothing else
//
// Lines before the first input with effects make the host: see setup.parse. At the
// end everything is left to end by itself, and no request may go on waiting.
func TestTraces(t *testing.T) {
	for _, file := range traceFiles(t) {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { runTrace(t, file) })
	}
}

// traceFiles returns the files of the traces.
func traceFiles(t *testing.T) []string {
	files, err := filepath.Glob("testdata/traces/*.txt")
	if err != nil || len(files) < 100 {
		t.Fatalf("%d traces, %v", len(files), err)
	}
	return files
}

// runTrace runs the trace in a file on the FIFO, and on the reference too where
// that handles what is in it.
func runTrace(t *testing.T, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	got, w := replay(t, string(text), newFIFOUnderTest)
	for _, h := range w.hooks {
		t.Errorf("%q never happened", h.prefix)
	}
	w.finish(func(string) {})
	w.mustHold(t)
	want := string(text)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o666); err != nil {
			t.Fatal(err)
		}
		want = got
	}
	if got != want {
		t.Errorf("%s", firstDifference(want, got))
	}
	if panicsInEffect(want) {
		return // The reference does not survive it.
	}
	if got, _ := replay(t, want, newReferenceUnderTest); got != want {
		t.Errorf("reference: %s", firstDifference(want, got))
	}
}

// panicsInEffect reports whether anything but a question panics in a trace.
func panicsInEffect(text string) bool {
	questions := strings.NewReplacer("\npanic ask ", "", "\npanic swap-start ", "")
	return strings.Contains(questions.Replace(text), "\npanic ")
}

// TestTracesOpenWithTheirStory checks that each trace opens with a sentence and a
// blank line.
func TestTracesOpenWithTheirStory(t *testing.T) {
	opening := regexp.MustCompile(`\A(?:# .+\n)*# .+\.\n\n`)
	for _, file := range traceFiles(t) {
		if text, err := os.ReadFile(file); err != nil || !opening.Match(text) {
			t.Errorf("%s opens with no sentence of its own, %v", file, err)
		}
	}
}

// newReferenceUnderTest makes the reference.
func newReferenceUnderTest(s Swapper, eff Effects, opts FIFOOptions, exact int) sut {
	return committing("")(s, eff, opts, exact)
}

// committing makes references that commit a fault, or none if fault is "".
func committing(commits fault) constructor {
	return func(s Swapper, eff Effects, opts FIFOOptions, exact int) sut {
		r := newReference(s, eff, opts, commits)
		if exact > 0 {
			r.exact = exact
		}
		return r
	}
}

// replay does what a trace says. Every line has to make sense.
func replay(t *testing.T, text string, newSUT constructor) (string, *world) {
	got, w, err := follow(text, newSUT)
	if err != nil {
		t.Fatal(err)
	}
	return got, w
}

// follow does what a trace says, until something makes no sense, and returns it with
// the effects that it had.
func follow(text string, newSUT constructor) (got string, w *world, err error) {
	var s setup
	var out strings.Builder
	skip := false
	for line := range strings.Lines(text) {
		trimmed := strings.TrimSpace(line)
		switch {
		case trimmed == "" || strings.HasPrefix(line, "#"):
			skip = false
			out.WriteString(line)
			continue
		case skip:
			continue
		case trimmed == "----":
			skip = true
			continue
		}
		out.WriteString(strings.TrimSuffix(line, "\n") + "\n")
		if w == nil {
			isSetup, err := s.parse(trimmed)
			if err != nil {
				return "", nil, err
			}
			if isSetup {
				continue
			}
			w = newWorld(s, newSUT)
		}
		effects := w.step(func() { err = w.do(trimmed) })
		if err != nil {
			return out.String(), w, err
		}
		out.WriteString("----\n")
		for _, e := range effects {
			out.WriteString(e + "\n")
		}
	}
	return out.String(), w, nil
}

// firstDifference shows the first difference between got and want.
func firstDifference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range w {
		if i >= len(g) || w[i] != g[i] {
			from := max(0, i-8)
			return fmt.Sprintf("line %d:\nwant:\n%s\ngot:\n%s", i+1, strings.Join(w[from:min(i+4, len(w))], "\n"), strings.Join(g[min(from, len(g)):min(i+4, len(g))], "\n"))
		}
	}
	return "got more:\n" + strings.Join(g[len(w):], "\n")
}

// words are the words of a line, and those of the form key=value by their key.
type words struct {
	plain  []string
	values map[string]string
}

func parseWords(line string) words {
	w := words{values: make(map[string]string)}
	for _, word := range strings.Fields(line) {
		if k, v, ok := strings.Cut(word, "="); ok {
			w.values[k] = v
		} else {
			w.plain = append(w.plain, word)
		}
	}
	return w
}

func (w words) int(key string) int {
	n, _ := strconv.Atoi(w.values[key])
	return n
}

func (w words) duration(key string) time.Duration {
	d, _ := time.ParseDuration(w.values[key])
	return d
}

// do does what a line says:
//
//	request NAME MODEL …               see requestWords and manner
//	read NAME                          it reads its position
//	cancel NAME                        OnCancel
//	leave NAME                         its Ctx ends, without an event
//	vanish NAME                        GrantServe will find it gone
//	swap-done MODEL [fail|lie|untouched]
//	serve-done NAME                    with its lease
//	serve-done model=MODEL [lease=N]   without, or with any
//	unload MODEL … [timeout=5s]
//	shutdown [error=TEXT]
//	advance 5s                         the clock, without an event
//	state MODEL STATE                  the process changes by itself
//	forget MODEL                       the host knows it no more
//	rules …                            the policy changes: see newSwapper
//	limits MODEL … [unload]            the limits of a model change (see limitWords);
//	                                   unload: and the host unloads nothing, to say so
//	snapshot                           shows it
//	on EFFECT : LINE                   does LINE when the effect happens
//	panic EFFECT                       panics when the effect happens
func (w *world) do(line string) error {
	if prefix, rest, ok := strings.Cut(line, " : "); ok {
		prefix = strings.TrimSpace(strings.TrimPrefix(prefix, "on "))
		w.hooks = append(w.hooks, hook{prefix, func() { _ = w.do(rest) }})
		return nil
	}
	args := parseWords(line)
	op, first := args.plain[0], ""
	if len(args.plain) > 1 {
		first = args.plain[1]
	}
	c := w.caller(first)
	switch op {
	case "request":
		if c != nil || len(args.plain) < 3 {
			return fmt.Errorf("%q: there is one of that name, or no model", line)
		}
		var m manner
		if err := requestWords.read(&m, strings.Fields(line)[3:]); err != nil {
			return err
		}
		w.request(w.newCaller(first, args.plain[2], m))
		return nil
	case "swap-done":
		how := endsWell
		if len(args.plain) > 2 {
			how = args.plain[2]
		}
		w.swapDone(first, how)
		return nil
	case "unload":
		w.unload(args.duration("timeout"), args.plain[1:]...)
		return nil
	case "shutdown":
		var err error
		if text := args.values["error"]; text != "" {
			err = errors.New(text)
		}
		w.shutdown(err)
		return nil
	case "advance":
		d, err := time.ParseDuration(first)
		w.now = w.now.Add(d)
		return err
	case "state":
		w.states[first], w.silent = ProcessState(args.plain[2]), true
		return nil
	case "forget":
		w.forgotten[first], w.unseen = true, true
		return nil
	case "snapshot":
		w.lines = append(w.lines, show(w.sut.Snapshot())...)
		return nil
	case "rules":
		w.newSwapper(strings.TrimSpace(strings.TrimPrefix(line, "rules")))
		w.unseen = true
		return nil
	case "limits":
		w.unseen, w.untold = true, true
		err := w.limit(strings.Fields(line)[1:])
		if w.limits[first].unload {
			w.unload(0)
		}
		return err
	case "panic":
		w.hooks = append(w.hooks, hook{strings.Join(args.plain[1:], " "), func() { panic(errHook) }})
		return nil
	case "serve-done":
		if id := args.values["model"]; id != "" && args.values["lease"] == "" {
			w.serveDoneOf(id)
			return nil
		} else if id != "" {
			w.serveDoneBy(id, args.int("lease"))
			return nil
		}
	}
	if c == nil {
		return fmt.Errorf("%q: unknown, or no request of that name", line)
	}
	switch op {
	case "cancel":
		w.cancel(c)
	case "leave":
		w.leave(c)
	case "vanish":
		c.vanished = true
	case "read":
		w.tellPosition(c)
	case "serve-done":
		if c.lease == 0 {
			return fmt.Errorf("%q: it was never granted", line)
		}
		w.serveDone(c)
	default:
		return fmt.Errorf("%q: unknown", line)
	}
	return nil
}

// show writes a Snapshot as lines, with the fields that are not zero.
func show(s Snapshot) (lines []string) {
	for _, m := range s.Models {
		lines = append(lines, "model "+fieldsOf(m))
	}
	for _, w := range s.Swaps {
		lines = append(lines, "swap "+fieldsOf(w))
	}
	for _, r := range s.Waiting {
		lines = append(lines, "waiting "+fieldsOf(r))
	}
	for _, r := range s.Reserved {
		lines = append(lines, "reserved "+fieldsOf(r))
	}
	return append(lines, "counters "+fieldsOf(s.Counters))
}

// fieldsOf writes the fields of a struct that are not zero as words: field=value, or
// the value alone for a Model and the name alone for a bool.
func fieldsOf(of any) string {
	var words []string
	v := reflect.ValueOf(of)
	for i := range v.NumField() {
		name, value := v.Type().Field(i).Name, v.Field(i)
		switch empty := value.Kind() == reflect.Slice && value.Len() == 0; {
		case empty || value.IsZero():
		case name == "Model":
			words = append(words, value.String())
		case value.Kind() == reflect.Bool:
			words = append(words, kebab(name))
		default:
			words = append(words, fmt.Sprintf("%s=%v", kebab(name), value.Interface()))
		}
	}
	return strings.Join(words, " ")
}

// kebab writes the name of a field like a word of a trace: InFlight is in-flight.
func kebab(name string) string {
	return strings.ToLower(insideWord.ReplaceAllString(name, "$1-$2"))
}

var insideWord = regexp.MustCompile("([a-z])([A-Z])")
