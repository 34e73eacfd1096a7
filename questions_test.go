package scheduler

import (
	"math"
	"slices"
	"strings"
)

// panicWord is the value of a word for which the question panics that asks for it, and
// panicInt is that as a number.
const (
	panicWord = "panics"
	panicInt  = math.MinInt
)

// questionPanic describes questions to the Swapper that panic.
type questionPanic struct {
	target string
	runs   string // only if this one runs; "": whatever runs
	lacks  string // only if this one does not
	start  bool   // OnSwapStart, not the question what to evict
}

// questionPanics takes the words that say what panics out of a line that describes a
// Swapper:
//
//	panics=b         a question for b
//	panics=b+a       a question for b about a set that a is in
//	panics=b-a       a question for b about a set that a is not in
//	start-panics=b   OnSwapStart for b
func questionPanics(line string) (rest string, all []questionPanic) {
	var words []string
	for _, word := range strings.Fields(line) {
		key, value, _ := strings.Cut(word, "=")
		if key != panicWord && key != "start-"+panicWord {
			words = append(words, word)
			continue
		}
		p := questionPanic{start: key != panicWord}
		p.target, p.lacks, _ = strings.Cut(value, "-")
		p.target, p.runs, _ = strings.Cut(p.target, "+")
		all = append(all, p)
	}
	return strings.Join(words, " "), all
}

// is reports whether p describes the question what to evict for target.
func (p questionPanic) is(target string, running []string) bool {
	return !p.start && p.target == target &&
		(p.runs == "" || slices.Contains(running, p.runs)) && !slices.Contains(running, p.lacks)
}

// mayPanic panics if a question to the Swapper is one of those that do.
func (w *world) mayPanic(target string, running []string) {
	if slices.ContainsFunc(w.panics, func(p questionPanic) bool { return p.is(target, running) }) {
		panic(errHook)
	}
}

// mayPanicAtStart panics if OnSwapStart for target does.
func (w *world) mayPanicAtStart(target string) {
	if slices.ContainsFunc(w.panics, func(p questionPanic) bool { return p.start && p.target == target }) {
		panic(errHook)
	}
}

// priorityOf is FIFOOptions.Priority.
func (w *world) priorityOf(req HandlerReq) int {
	c := w.find(req)
	if c.priority == panicInt {
		panic(errHook)
	}
	return c.priority
}

// tenantOf is FIFOOptions.Tenant.
func (w *world) tenantOf(req HandlerReq) string {
	c := w.find(req)
	if c.tenant == panicWord {
		panic(errHook)
	}
	return c.tenant
}

// limitsOf is FIFOOptions.Limits.
func (w *world) limitsOf(model string) Limits {
	b := w.limits[model]
	if b.panics {
		panic(errHook)
	}
	return b.Limits
}
