package scheduler

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// word is a word of a line that sets a field of a T: name=value, or the name alone for a
// bool. A new option of the host, limit of a model or manner of a request is a field and
// a word in one of the vocabularies below. Traces, random worlds and the reports of
// failures then have it too.
type word[T any] struct {
	name   string
	field  func(*T) any // points to it
	values string       // what random worlds choose from, as often as it stands there
}

// vocabulary is all the words that a line may have.
type vocabulary[T any] []word[T]

// hostWords are the words of an options line.
var hostWords = vocabulary[setup]{
	{"patience", func(s *setup) any { return &s.opts.Patience }, "0s 0s 20s 1s -1s"},
	{"cooldown", func(s *setup) any { return &s.opts.Cooldown }, "0s 0s 7s"},
	{"max-queue", func(s *setup) any { return &s.opts.MaxQueue }, "0 0 0 3"},
	{"exact", func(s *setup) any { return &s.exact }, "0 2 3"},
	{"uncancellable", func(s *setup) any { return &s.uncancellable }, "false false false true"},
	{"sluggish", func(s *setup) any { return &s.sluggish }, "false false false true"},
}

// Fields of FIFOOptions that have no line above have one by themselves.
func init() {
	opts := reflect.TypeFor[FIFOOptions]()
	for i := range opts.NumField() {
		field := opts.Field(i)
		values := map[reflect.Kind]string{reflect.Int: "0 0 1 2", reflect.Bool: "false true", reflect.Int64: "0s 0s 1s 20s"}[field.Type.Kind()]
		known := slices.ContainsFunc(hostWords, func(w word[setup]) bool { return w.name == kebab(field.Name) })
		if values != "" && !known {
			hostWords = append(hostWords, word[setup]{kebab(field.Name), func(s *setup) any {
				return reflect.ValueOf(&s.opts).Elem().Field(i).Addr().Interface()
			}, values})
		}
	}
}

// limitWords are the words of a limits line.
var limitWords = vocabulary[bounds]{
	{"concurrency", func(b *bounds) any { return &b.Concurrency }, "0 0 1 2"},
	{"capacity", func(b *bounds) any { return &b.Capacity }, "0 0 0 3"},
	{"paused", func(b *bounds) any { return &b.Paused }, "false false false true"},
	{"panics", func(b *bounds) any { return &b.panics }, "false false false false false false false true"},
	{"unload", func(b *bounds) any { return &b.unload }, ""},
}

// requestWords are the words of a request line after its name and its model.
var requestWords = vocabulary[manner]{
	{"priority", func(m *manner) any { return &m.priority }, "-1 0 1 1 2 7 80 -3 panics"},
	{"tenant", func(m *manner) any { return &m.tenant }, "y y y y y z z z panics"},
	{"host", func(m *manner) any { return &m.host }, "h"},
	{"gone", func(m *manner) any { return &m.gone }, "true true"},
	{"anonymous", func(m *manner) any { return &m.anonymous }, "true true"},
	{"deaf", func(m *manner) any { return &m.deaf }, "true"},
	{"unread", func(m *manner) any { return &m.unread }, ""},
	{"again", func(m *manner) any { return &m.again }, ""},
}

// read sets in t what the words of a line say.
func (v vocabulary[T]) read(t *T, words []string) error {
	for _, text := range words {
		name, value, has := strings.Cut(text, "=")
		if !has {
			value = "true"
		}
		i := slices.IndexFunc(v, func(w word[T]) bool { return w.name == name })
		if i < 0 {
			return fmt.Errorf("no such word: %s", text)
		}
		if err := setField(v[i].field(t), value); err != nil {
			return err
		}
	}
	return nil
}

// setField sets the field that p points to.
func setField(p any, value string) (err error) {
	switch p := p.(type) {
	case *bool:
		*p, err = strconv.ParseBool(value)
	case *int:
		if *p, err = strconv.Atoi(value); value == panicWord {
			*p, err = panicInt, nil
		}
	case *string:
		*p = value
	case *time.Duration:
		*p, err = time.ParseDuration(value)
	default:
		panic(fmt.Sprintf("a word cannot set a %T", p))
	}
	return err
}

// write returns the words that read takes for t.
func (v vocabulary[T]) write(t T) (words []string) {
	for _, w := range v {
		switch f := reflect.ValueOf(w.field(&t)).Elem(); {
		case f.IsZero():
		case f.Kind() == reflect.Bool:
			words = append(words, w.name)
		default:
			words = append(words, fmt.Sprint(w.name, "=", f.Interface()))
		}
	}
	return words
}

// choose sets every field to one of the values of its word.
func (v vocabulary[T]) choose(s *source, t *T) {
	for _, w := range v {
		if w.values != "" {
			must(setField(w.field(t), pick(s, strings.Fields(w.values))))
		}
	}
}

// some returns no words, one word or, rarely, more.
func (v vocabulary[T]) some(s *source) (words string) {
	for n := 0; n < len(v) && s.less(3) == 2; n++ {
		words += " " + pick(s, v.choices())
	}
	return words
}

// choices returns every word with each of its values.
func (v vocabulary[T]) choices() (words []string) {
	for _, w := range v {
		for _, value := range strings.Fields(w.values) {
			words = append(words, strings.TrimSuffix(w.name+"="+value, "=true"))
		}
	}
	return words
}

// parse takes a line that makes the host, and reports whether it was one:
//
//	host MODEL …       the models that it knows
//	ready MODEL …      of them, those that run at the start
//	swapper …          see newSwapper
//	options …          see hostWords
//	limits MODEL …     see limitWords
func (s *setup) parse(line string) (bool, error) {
	words := strings.Fields(line)
	switch words[0] {
	case "host":
		s.models = words[1:]
	case "ready":
		s.ready = words[1:]
	case "swapper":
		s.swapper = strings.Join(words[1:], " ")
	case "options":
		return true, hostWords.read(s, words[1:])
	case "limits":
		return true, s.limit(words[1:])
	default:
		return false, nil
	}
	return true, nil
}

// limit sets the limits of a model to what the words of a line say.
func (s *setup) limit(words []string) error {
	var b bounds
	err := limitWords.read(&b, words[1:])
	if s.limits == nil {
		s.limits = make(map[string]bounds)
	}
	s.limits[words[0]] = b
	return err
}

// String is what parse takes.
func (s setup) String() string {
	var out strings.Builder
	line := func(words []string, of ...string) {
		if len(words) > 0 {
			fmt.Fprintln(&out, strings.Join(append(of, words...), " "))
		}
	}
	line(s.models, "host")
	line(s.ready, "ready")
	line(strings.Fields(s.swapper), "swapper")
	line(hostWords.write(s), "options")
	for _, id := range slices.Sorted(maps.Keys(s.limits)) {
		line(limitWords.write(s.limits[id]), "limits", id)
	}
	return out.String()
}

// hostOf returns the setup that lines describe, which a line break or a semicolon
// ends.
func hostOf(lines string) (s setup) {
	for _, line := range strings.FieldsFunc(lines, func(r rune) bool { return r == '\n' || r == ';' }) {
		if is, err := s.parse(line); !is || err != nil {
			panic(fmt.Sprintf("%q makes no host: %v", line, err))
		}
	}
	return s
}

// TestHostAsWords: parsing the words of a host gives the same host again.
func TestHostAsWords(t *testing.T) {
	for seed := range uint64(200) {
		s := &source{data: noise(seed, 60)}
		want := s.setup().String()
		if got := hostOf(want).String(); got != want {
			t.Fatalf("seed %d:\n%sbecomes\n%s", seed, want, got)
		}
	}
	var s setup
	for _, line := range []string{"options patience", "options patience=long", "options nonsense=1", "limits a b"} {
		if is, err := s.parse(line); !is || err == nil {
			t.Errorf("%q is understood", line)
		}
	}
}
