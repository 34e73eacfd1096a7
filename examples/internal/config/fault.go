package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// maxFaults is how many faults one error tells.
const maxFaults = 20

// fault is one thing that is wrong in a configuration.
type fault struct {
	at     place
	offset int // in the file, if there is one
	text   string
}

func (f fault) Error() string {
	if len(f.at) == 0 {
		return f.text
	}
	return f.at.String() + ": " + f.text
}

// place is where something stands in a configuration: keys, and indexes of lists,
// from the outside in.
type place []any

// in returns the place of a part of p.
func (p place) in(key any) place { return append(slices.Clip(p), key) }

// then returns the place that is at rest in p.
func (p place) then(rest place) place { return append(slices.Clip(p), rest...) }

// String writes p as models.alpha.command[0], with keys that are not plain words as
// models["a.b"].
func (p place) String() string {
	var b strings.Builder
	for _, part := range p {
		key, isKey := part.(string)
		switch {
		case isKey && !plainWord(key):
			fmt.Fprintf(&b, "[%q]", Shorten(key))
		case isKey && b.Len() > 0:
			b.WriteString("." + key)
		case isKey:
			b.WriteString(key)
		default:
			fmt.Fprintf(&b, "[%d]", part)
		}
	}
	return b.String()
}

// plainWord reports whether s stands in a place without quotes.
func plainWord(s string) bool {
	other := func(r rune) bool {
		return r != '_' && r != '-' && (r < '0' || r > '9') && (r|0x20 < 'a' || r|0x20 > 'z')
	}
	return s != "" && s == Shorten(s) && !strings.ContainsFunc(s, other)
}

// err tells the faults of d in its order, and then those of the files that it names. It
// is nil if there are none.
func (d *document) err() error {
	var errs []error
	for _, file := range append([]*document{d}, d.included...) {
		for _, f := range file.ordered() {
			errs = append(errs, fmt.Errorf("%s:%d: %w", file.name, file.line(f.offset), f))
		}
	}
	if more := len(errs) - maxFaults; more > 0 {
		errs = append(errs[:maxFaults], fmt.Errorf("%s: and %d more", d.name, more))
	}
	return errors.Join(errs...)
}

// ordered returns the faults of d alone, each once: all models have those of defaults.
func (d *document) ordered() []fault {
	slices.SortStableFunc(d.faults, func(a, b fault) int {
		return cmp.Or(cmp.Compare(a.offset, b.offset), cmp.Compare(a.text, b.text))
	})
	return slices.CompactFunc(d.faults, func(a, b fault) bool {
		return a.offset == b.offset && a.Error() == b.Error()
	})
}

// didYouMean proposes the name among known that is most like the unknown one, if
// any is much like it.
func didYouMean[V any](unknown string, known map[string]V) string {
	best, distance := "", 1+len(unknown)/3
	if len(unknown) > 100 {
		return ""
	}
	for _, name := range slices.Sorted(maps.Keys(known)) {
		if d := editDistance(strings.ToLower(unknown), strings.ToLower(name)); d < distance {
			best, distance = name, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

// editDistance is the Levenshtein distance of two words, in bytes.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1) // of a's prefix so far to each prefix of b
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
