package scheduler

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The bounds of [ParseSets], besides maxSets.
const (
	maxNesting   = 100     // parentheses and named expressions within each other
	maxExpansion = 1 << 20 // models that are written down, in all sets on the way to the result
)

// ParseSets returns the sets that an expression stands for, for [NewSetSwapper]:
//
//	a & b         a and b together: {a, b}
//	a | b         one of them: {a}, {b}
//	(a | b) & c   {a, c}, {b, c}
//	+llms & c     llms is the name of an expression, which stands there in parentheses
//
// & binds tighter than |. A name is made of letters, digits and _ - . / : @, and stands
// for names[name]: the name of a model, or an expression if there is a + in front of it.
// ParseSets knows no models, so it is up to the host to see that those in the result
// exist. White space has no meaning.
//
// The sets come in the order in which they are written, where the left side of & changes
// last: (a | b) & (c | d) is {a, c}, {a, d}, {b, c}, {b, d}. The models of a set come in
// the order in which the expression first names them. A set that comes again, in any
// order, is left out, and so is a model that comes again in a set.
//
// An error says what is wrong, at which column (in characters, from 1), and in which
// named expression. It is an error too if there are more than 4096 sets, at the end or in
// between, if about a million models would have to be written down for them, or if
// parentheses and named expressions are nested more than 100 deep.
func ParseSets(names map[string]string, expr string) ([]Set, error) {
	x := &expansion{names: names, numbers: make(map[string]int), named: make(map[string][][]int), left: maxExpansion}
	numbered := x.expand("", expr, 0)
	if x.err != nil {
		return nil, fmt.Errorf("scheduler: sets: %w", x.err)
	}
	sets := make([]Set, len(numbered))
	for i, numbers := range numbered {
		for _, n := range numbers {
			sets[i] = append(sets[i], x.models[n])
		}
	}
	return sets, nil
}

// expansion is what the expressions of one ParseSets have in common. The models have
// numbers, in the order in which they are first named. A set is the sorted numbers of
// its models, and does not change.
type expansion struct {
	names   map[string]string
	models  []string           // by number
	numbers map[string]int     // by model
	named   map[string][][]int // the named expressions that were read; nil: one is being read
	left    int                // of maxExpansion
	err     error              // the first one, after which nothing goes on
}

// expand returns the sets of an expression.
func (x *expansion) expand(name, text string, nesting int) [][]int {
	e := &expression{expansion: x, name: name, text: text, rest: text, nesting: nesting}
	if strings.TrimSpace(text) == "" {
		e.fail(0, "the expression is empty")
		return nil
	}
	e.next()
	sets := e.alternatives()
	if e.token == ")" {
		e.fail(e.at, "this ) has no (")
	} else if e.token != "" {
		e.fail(e.at, "& or | is missing before %q", e.token)
	}
	return sets
}

// expression is one expression that is being read.
type expression struct {
	*expansion
	name    string // "": the one that ParseSets was given
	text    string
	at      int    // where the token begins
	token   string // a name or one of & | ( ) +; "": the end
	rest    string // of the text, after the token
	nesting int
}

// alternatives reads terms with | between them.
func (e *expression) alternatives() [][]int {
	at := e.at
	sets := e.together()
	if e.token != "|" {
		return sets
	}
	var all family
	for {
		for _, set := range sets {
			e.add(&all, set, at)
		}
		if !e.accept("|") {
			return all.sets
		}
		at = e.at
		sets = e.together()
	}
}

// together reads operands with & between them. What is in every set comes last, and
// at once: to copy it for each operand would take quadratic time.
func (e *expression) together() [][]int {
	all, always := [][]int{nil}, []int(nil)
	for {
		at := e.at
		sets := e.operand()
		if len(sets) == 1 && e.spend(len(sets[0]), at) {
			always = append(always, sets[0]...)
		} else {
			all = e.combine(all, sets, at)
		}
		if !e.accept("&") {
			slices.Sort(always)
			return e.combine(all, [][]int{slices.Compact(always)}, at)
		}
	}
}

// operand reads a name, a named expression, or an expression in parentheses.
func (e *expression) operand() [][]int {
	at, token := e.at, e.token
	switch {
	case e.accept("("):
		return e.parentheses(at)
	case e.accept("+"):
		if !isName(e.token) {
			e.fail(at, "there is no name after +")
			return nil
		}
		name := e.token
		e.next()
		return e.reference(name, at)
	case isName(token):
		e.next()
		return e.model(token, at)
	case token == "":
		e.fail(at, "a name is missing at the end")
	default:
		e.fail(at, "a name is missing before %q", token)
	}
	return nil
}

// parentheses reads the rest of an expression in parentheses.
func (e *expression) parentheses(at int) (sets [][]int) {
	if !e.mayNest(at) {
		return nil
	}
	e.nesting++
	sets = e.alternatives()
	e.nesting--
	switch {
	case e.accept(")"):
	case e.token == "":
		e.fail(at, "this ( has no )")
	default:
		e.fail(e.at, "& or | is missing before %q", e.token)
	}
	return sets
}

// reference returns the sets of a named expression, which is read once.
func (e *expression) reference(name string, at int) [][]int {
	text, known := e.names[name]
	sets, met := e.named[name]
	switch {
	case !known:
		e.fail(at, "unknown name %q", name)
	case met && sets == nil:
		e.fail(at, "+%s is part of itself", name)
	case !met && e.mayNest(at):
		e.named[name] = nil
		sets = e.expand(name, text, e.nesting+1)
		e.named[name] = sets
	}
	return sets
}

// model returns the set of one model.
func (e *expression) model(name string, at int) [][]int {
	model, known := e.names[name]
	switch {
	case !known:
		e.fail(at, "unknown name %q", name)
		return nil
	case model == "":
		e.fail(at, "%q stands for a model without a name", name)
		return nil
	}
	n, met := e.numbers[model]
	if !met {
		n = len(e.models)
		e.models = append(e.models, model)
		e.numbers[model] = n
	}
	return [][]int{{n}}
}

// combine returns the unions of the sets on both sides of &. The empty set alone changes
// nothing.
func (e *expression) combine(left, right [][]int, at int) [][]int {
	if len(left) == 1 && len(left[0]) == 0 {
		return right
	}
	if len(right) == 1 && len(right[0]) == 0 {
		return left
	}
	var all family
	for _, l := range left {
		for _, r := range right {
			if !e.spend(len(l)+len(r), at) {
				return nil
			}
			both := slices.Concat(l, r)
			slices.Sort(both)
			e.add(&all, slices.Compact(both), at)
		}
	}
	return all.sets
}

// add adds a set to a family, unless it is in there.
func (e *expression) add(f *family, set []int, at int) {
	if e.spend(len(set)+1, at) && f.add(set) && len(f.sets) > maxSets {
		e.fail(at, "there are more than %d sets", maxSets)
	}
}

// spend reports whether so many more models may be written down.
func (e *expression) spend(models, at int) bool {
	e.left -= models
	if e.left < 0 {
		e.fail(at, "the sets have too many models in all")
	}
	return e.err == nil
}

// mayNest reports whether one more expression may begin within this one.
func (e *expression) mayNest(at int) bool {
	if e.nesting == maxNesting {
		e.fail(at, "expressions are nested more than %d deep", maxNesting)
	}
	return e.err == nil
}

// operators are the tokens that are no names.
const operators = "&|()+"

// isName reports whether a token is a name. The end is none.
func isName(token string) bool { return !strings.Contains(operators, token) }

// accept goes on to the next token if this is the one, and reports whether it was.
func (e *expression) accept(token string) bool {
	if e.err != nil || e.token != token {
		return false
	}
	e.next()
	return true
}

// next goes on to the next token.
func (e *expression) next() {
	e.rest = strings.TrimLeftFunc(e.rest, unicode.IsSpace)
	e.at = len(e.text) - len(e.rest)
	n := strings.IndexFunc(e.rest, func(r rune) bool { return !inName(r) })
	switch {
	case n < 0: // A name to the end, or the end itself.
		n = len(e.rest)
	case n == 0 && strings.Contains(operators, e.rest[:1]):
		n = 1
	case n == 0:
		r, _ := utf8.DecodeRuneInString(e.rest)
		e.fail(e.at, "unexpected %q", r)
	}
	e.token, e.rest = e.rest[:n], e.rest[n:]
}

// inName reports whether a name may have r in it.
func inName(r rune) bool {
	return unicode.In(r, unicode.L, unicode.M, unicode.N) || strings.ContainsRune("_-./:@", r)
}

// fail notes what is wrong at a place of the text, unless something was wrong before.
func (e *expression) fail(at int, format string, args ...any) {
	if e.err != nil {
		return
	}
	where := fmt.Sprintf("column %d", utf8.RuneCountInString(e.text[:at])+1)
	if e.name != "" {
		where = fmt.Sprintf("in +%s, %s", e.name, where)
	}
	e.err = fmt.Errorf("%s: %s", where, fmt.Sprintf(format, args...))
}

// family is different sets, in order.
type family struct {
	sets [][]int
	seen map[string]bool
	key  []byte // memory that is used again
}

// add adds a set, unless it is there, and reports whether it was not.
func (f *family) add(set []int) bool {
	if f.key = f.key[:0]; f.seen == nil {
		f.seen = make(map[string]bool)
	}
	for _, n := range set {
		f.key = binary.AppendUvarint(f.key, uint64(n))
	}
	if f.seen[string(f.key)] {
		return false
	}
	f.seen[string(f.key)] = true
	f.sets = append(f.sets, set)
	return true
}
