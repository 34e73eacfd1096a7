package scheduler

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// namesForTests are short names of models, and of expressions.
var namesForTests = map[string]string{
	"a": "model-a", "b": "model-b", "c": "model-c", "d": "model-d", "b2": "model-b",
	"q.2-5_x": "Qwen/Qwen2.5-32B:latest", "é漢١": "unicode", "org/m:v1@x": "tagged",
	"nameless": "", "blank": " \n",
	"llms": "a | b", "tools": "c&d", "both": "+llms & +tools", "one": "(a)",
	"self": "+self", "round": "a | +about", "about": "+round",
	"open": "a & (b |\n c", "stray": "a b", "gone": "(a & é漢١) | zz",
}

// shown writes sets as a|b,c with the models' own names.
func shown(sets []Set) string {
	var all []string
	for _, set := range sets {
		all = append(all, strings.ReplaceAll(strings.Join(set, ","), "model-", ""))
	}
	return strings.Join(all, " | ")
}

// TestParseSets is what expressions stand for.
func TestParseSets(t *testing.T) {
	for expr, want := range map[string]string{
		"a":                             "a",
		"a & b":                         "a,b",
		"a | b":                         "a | b",
		"b & a":                         "b,a",
		"a & b | c & d":                 "a,b | c,d",
		"a & (b | c) & d":               "a,b,d | a,c,d",
		"a | b & c | d":                 "a | b,c | d",
		"(a | b) & c":                   "a,c | b,c",
		"c & (a | b)":                   "c,a | c,b",
		"(a | b) & (c | d)":             "a,c | a,d | b,c | b,d",
		"((a)|((b)))&(c)":               "a,c | b,c",
		"+llms":                         "a | b",
		"+llms & c":                     "a,c | b,c",
		"c & +llms & d":                 "c,a,d | c,b,d",
		"+both":                         "a,c,d | b,c,d",
		"+tools | +both | +one":         "c,d | c,d,a | c,d,b | a",
		"+ llms":                        "a | b",
		" \t\n(a|\u00a0b)\r\n&c\u2003 ": "a,c | b,c",
		"q.2-5_x & é漢١ & org/m:v1@x":    "Qwen/Qwen2.5-32B:latest,unicode,tagged",

		"a & a":                   "a",
		"a | a":                   "a",
		"b & b2":                  "b",
		"b | b2 | a & b2":         "b | b,a",
		"a & b | b & a":           "a,b",
		"a & b | c & b & a":       "a,b | a,b,c",
		"(a | b) & (a | b)":       "a | a,b | b",
		"+llms & +llms & (a | b)": "a | a,b | b",
	} {
		sets, err := ParseSets(namesForTests, expr)
		if got := shown(sets); got != want || err != nil {
			t.Errorf("%q: %s, %v, not %s", expr, got, err, want)
		}
	}
}

// TestParseSetsRefuses: each error says what is wrong, and where.
func TestParseSetsRefuses(t *testing.T) {
	for expr, want := range map[string]string{
		"":               "column 1: the expression is empty",
		" \n\t":          "column 1: the expression is empty",
		"a &":            "column 4: a name is missing at the end",
		"a | ":           "column 5: a name is missing at the end",
		"& a":            `column 1: a name is missing before "&"`,
		"a && b":         `column 4: a name is missing before "&"`,
		"a | | b":        `column 5: a name is missing before "|"`,
		"a & )":          `column 5: a name is missing before ")"`,
		"()":             `column 2: a name is missing before ")"`,
		"a b":            `column 3: & or | is missing before "b"`,
		"a (b)":          `column 3: & or | is missing before "("`,
		"a +llms":        `column 3: & or | is missing before "+"`,
		"(a b)":          `column 4: & or | is missing before "b"`,
		"(a)(b)":         `column 4: & or | is missing before "("`,
		"a)":             "column 2: this ) has no (",
		"(a)) & b":       "column 4: this ) has no (",
		"(a & (b | c)":   "column 1: this ( has no )",
		"a & (b":         "column 5: this ( has no )",
		"a & (":          "column 6: a name is missing at the end",
		"+":              "column 1: there is no name after +",
		"a & + & b":      "column 5: there is no name after +",
		"++llms":         "column 1: there is no name after +",
		"+(a)":           "column 1: there is no name after +",
		"a, b":           "column 2: unexpected ','",
		"a & é漢١ # b":    "column 9: unexpected '#'",
		"a & b\xff":      `column 6: unexpected '�'`,
		"a | x":          `column 5: unknown name "x"`,
		"a | +x":         `column 5: unknown name "x"`,
		"nameless":       `column 1: "nameless" stands for a model without a name`,
		"a & +nameless":  "in +nameless, column 1: the expression is empty",
		"+blank":         "in +blank, column 1: the expression is empty",
		"+self":          "in +self, column 1: +self is part of itself",
		"+round":         "in +about, column 1: +round is part of itself",
		"a & +open":      "in +open, column 5: this ( has no )",
		"+llms | +stray": `in +stray, column 3: & or | is missing before "b"`,
		"+gone":          `in +gone, column 13: unknown name "zz"`,
		"a | x | #":      `column 5: unknown name "x"`,
	} {
		sets, err := ParseSets(namesForTests, expr)
		if err == nil || sets != nil || err.Error() != "scheduler: sets: "+want {
			t.Errorf("%q: %v, %v, not %s", expr, sets, err, want)
		}
	}
	if _, err := ParseSets(nil, "a"); err == nil {
		t.Error("without names: no error")
	}
}

// numbered returns the names of n models, whose short names are the same.
func numbered(n int) (models []string, names map[string]string) {
	names = make(map[string]string)
	for i := range n {
		models = append(models, fmt.Sprint("m", i))
		names[models[i]] = models[i]
	}
	return models, names
}

// TestParseSetsBounds: what is just possible, and what is too much, without taking the
// time or the memory for it.
func TestParseSetsBounds(t *testing.T) {
	models, names := numbered(20_000)
	or, and := strings.Join(models[:maxSets], "|"), strings.Join(models, "&")
	pairs := func(n int) string { // 2ⁿ sets
		var all []string
		for i := range n {
			all = append(all, fmt.Sprintf("(m%d|m%d)", 2*i, 2*i+1))
		}
		return strings.Join(all, "&")
	}
	nested := func(n int) string { return strings.Repeat("(", n) + "m0" + strings.Repeat(")", n) }
	double := maps.Clone(names) // Each expression has the one before it twice.
	chain := maps.Clone(names)
	double["d0"], chain["c0"] = "m0|m1", "m0"
	for i := range 200 {
		double[fmt.Sprint("d", i+1)] = fmt.Sprintf("+d%d | (+d%d & +d%d)", i, i, i)
		chain[fmt.Sprint("c", i+1)] = fmt.Sprintf("+c%d", i)
	}
	double["wide"] = or
	tooMany, tooMuch, tooDeep := "there are more than 4096 sets", "the sets have too many models in all", "expressions are nested more than 100 deep"
	for _, c := range []struct {
		what, expr string
		names      map[string]string
		sets       int
		want       string
	}{
		{"as many sets as possible", or, names, maxSets, ""},
		{"one more", or + "|m9999", names, 0, fmt.Sprintf("column %d: ", len(or)+2) + tooMany},
		{"the same ones again", or + "|" + or, names, maxSets, ""},
		{"as many combinations as possible", pairs(12), names, maxSets, ""},
		{"twice as many", pairs(13), names, 0, "column 111: " + tooMany},
		{"a thousand times as many", pairs(22), names, 0, "column 111: " + tooMany},
		{"a large set", and, names, 1, ""},
		{"large sets", pairs(12) + "&" + and, names, 0, fmt.Sprintf("column %d: ", len(pairs(12)+"&"+and)+1-len("m19999")) + tooMuch},
		{"equal ones in great number", strings.Repeat("(m0|m1)&", 10_000) + "m2", names, 3, ""},
		{"many that are wide", strings.Repeat("+wide|", 1000) + "+wide", double, 0, "column 757: " + tooMuch},
		{"wide by wide", "+wide & +wide", double, 0, "column 9: " + tooMany},
		{"in parentheses", nested(maxNesting), names, 1, ""},
		{"in more parentheses", nested(maxNesting + 1), names, 0, "column 101: " + tooDeep},
		{"in parentheses without end", strings.Repeat("(", 1_000_000), names, 0, "column 101: " + tooDeep},
		{"by name", "+c99", chain, 1, ""},
		{"deep by name", "+c100", chain, 0, "in +c1, column 1: " + tooDeep},
		{"doubled by name", "+d99", double, 3, ""},
		{"deep and doubled", "+d199", double, 0, "in +d100, column 1: " + tooDeep},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		sets, err := ParseSets(c.names, c.expr)
		runtime.ReadMemStats(&after)
		message := ""
		if err != nil {
			message = strings.TrimPrefix(err.Error(), "scheduler: sets: ")
		}
		if len(sets) != c.sets || message != c.want {
			t.Errorf("%s: %d sets, %s, not %d, %s", c.what, len(sets), message, c.sets, c.want)
		}
		if mib := (after.TotalAlloc - before.TotalAlloc) >> 20; mib > 256 {
			t.Errorf("%s: it took %d MiB", c.what, mib)
		}
	}
}

// randomExpression is an expression with the sets that it stands for, by definition, as
// lists of sorted models.
type randomExpression struct {
	text string
	sets [][]string
}

// newRandomExpression makes one. Every named expression that it uses goes to names.
func newRandomExpression(r *rand.Rand, names map[string]string, depth int) (e randomExpression) {
	kind := r.IntN(8)
	if depth == 0 {
		kind = 0
	}
	space := func() string { return []string{"", "", " ", "\n\t"}[r.IntN(4)] }
	switch kind {
	case 0, 1:
		model := string(rune('a' + r.IntN(5)))
		names[model] = "model-" + model
		e = randomExpression{model, [][]string{{"model-" + model}}}
	case 2:
		e = newRandomExpression(r, names, depth-1)
		name := fmt.Sprint("x", len(names))
		names[name] = e.text
		e.text = "+" + name
	case 3, 4, 5: // &, with operands in parentheses if they need it
		e = newRandomExpression(r, names, depth-1)
		e.text = "(" + e.text + ")"
		for range 1 + r.IntN(2) {
			right := newRandomExpression(r, names, depth-1)
			e.text += space() + "&" + space() + "(" + right.text + ")"
			var both [][]string
			for _, a := range e.sets {
				for _, b := range right.sets {
					both = append(both, append(slices.Clone(a), b...))
				}
			}
			e.sets = both
		}
	default:
		e = newRandomExpression(r, names, depth-1)
		for range 1 + r.IntN(2) {
			right := newRandomExpression(r, names, depth-1)
			e.text += space() + "|" + space() + right.text
			e.sets = append(slices.Clone(e.sets), right.sets...)
		}
	}
	var different [][]string
	for _, set := range e.sets {
		set = slices.Sorted(slices.Values(set))
		set = slices.Compact(set)
		if !slices.ContainsFunc(different, func(o []string) bool { return slices.Equal(o, set) }) {
			different = append(different, set)
		}
	}
	e.sets = different
	return e
}

// TestParseSetsExpands random expressions to what they stand for, in that order.
func TestParseSetsExpands(t *testing.T) {
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 3))
		names := make(map[string]string)
		e := newRandomExpression(r, names, 5)
		sets, err := ParseSets(names, e.text)
		if err != nil {
			t.Fatalf("%q with %q: %v", e.text, names, err)
		}
		same := slices.EqualFunc(sets, e.sets, func(a Set, b []string) bool {
			return slices.Equal(slices.Sorted(slices.Values(a)), b)
		})
		if !same {
			t.Fatalf("%q with %q: %v, not %v", e.text, names, sets, e.sets)
		}
	}
}

// FuzzParseSets: whatever the expressions are, there are sets that a SetSwapper takes, or
// an error that says where, and the same again. Parentheses change nothing.
func FuzzParseSets(f *testing.F) {
	for expr := range maps.Values(namesForTests) {
		f.Add(expr, "a | +y", "b & c")
	}
	f.Add("+x & +y", "a|b", "(c | d) & +x")
	f.Add("(a|b)&(c|d) # é", "+y", "+x")
	f.Fuzz(func(t *testing.T, expr, x, y string) {
		names := map[string]string{"a": "model-a", "b": "model-b", "c": "model-c", "d": "model-b", "x": x, "y": y}
		sets, err := ParseSets(names, expr)
		again, err2 := ParseSets(names, expr)
		if fmt.Sprint(sets, err) != fmt.Sprint(again, err2) {
			t.Fatalf("%v, %v, and then %v, %v", sets, err, again, err2)
		}
		if err != nil {
			if sets != nil || !strings.HasPrefix(err.Error(), "scheduler: sets: ") || !strings.Contains(err.Error(), "column ") {
				t.Fatalf("%v, %v", sets, err)
			}
			return
		}
		if _, err := NewSetSwapper(sets, nil); err != nil || len(sets) == 0 {
			t.Fatalf("%v: %v", sets, err)
		}
		seen := make(map[string]bool)
		for _, set := range sets {
			key := fmt.Sprintf("%q", slices.Sorted(slices.Values(set)))
			if seen[key] {
				t.Fatalf("%s comes again", key)
			}
			seen[key] = true
		}
		inside, err := ParseSets(names, "( "+expr+" )")
		if err != nil && (strings.Contains(err.Error(), "nested") || strings.Contains(err.Error(), "too many")) {
			return
		}
		if err != nil || !slices.EqualFunc(inside, sets, slices.Equal[Set]) {
			t.Fatalf("in parentheses: %v, %v, not %v", inside, err, sets)
		}
	})
}
