package scheduler

import (
	"maps"
	"slices"
	"time"
)

// swaps is the book of the outstanding swaps: no two of them collide (R5), and
// there is at most one for each target (R4). The zero value is an empty book.
type swaps struct {
	byTarget map[string]*swap
	leaving  map[string]*swap // by the models that they stop
	changes  uint64           // grows whenever one is added or removed

	// What was cancelled because of impatient callers (R14). Each of the two alone
	// would leave a model unserved. Without spent, two models could cancel each
	// other's loads in turn. Without cancelled, a model could be cancelled every time
	// if others are loaded in between.
	spent     bool            // a load was cancelled, and no load that requests waited for has succeeded since
	cancelled map[string]bool // likewise for the loads of each model
}

// swap is an outstanding swap.
type swap struct {
	intent
	started   time.Time
	loads     bool          // its target was not ready when it started
	abandoned bool          // its report serves no request (R12, R14)
	unloaded  bool          // its target is stopped again if it succeeds
	timeout   time.Duration // of that unload
}

// intent is a swap that might start.
type intent struct {
	target string
	evict  []string
}

// stops reports whether the swap would stop the model. A nil intent stops nothing.
func (i *intent) stops(model string) bool {
	return i != nil && slices.Contains(i.evict, model)
}

// collides reports whether two swaps collide: one stops the other's target, or both
// stop the same model.
func (i *intent) collides(other *intent) bool {
	return i.stops(other.target) || other.stops(i.target) || slices.ContainsFunc(i.evict, other.stops)
}

// add enters a swap, which collides with no other, and returns it.
func (b *swaps) add(i intent, started time.Time, loads bool) *swap {
	if b.byTarget == nil {
		b.byTarget, b.leaving = make(map[string]*swap), make(map[string]*swap)
	}
	s := &swap{intent: i, started: started, loads: loads}
	b.byTarget[s.target] = s
	for _, model := range s.evict {
		b.leaving[model] = s
	}
	b.changes++
	return s
}

// remove takes s off the book: it has reported.
func (b *swaps) remove(s *swap) {
	delete(b.byTarget, s.target)
	for _, model := range s.evict {
		delete(b.leaving, model)
	}
	b.changes++
}

// none reports whether no swap is outstanding.
func (b *swaps) none() bool { return len(b.byTarget) == 0 }

// targets returns the targets of the swaps, sorted.
func (b *swaps) targets() []string { return slices.Sorted(maps.Keys(b.byTarget)) }

// of returns the swap whose target is the model, or nil if there is none.
func (b *swaps) of(model string) *swap {
	if b.none() {
		return nil
	}
	return b.byTarget[model]
}

// stopping returns the swap that stops the model, or nil if there is none.
func (b *swaps) stopping(model string) *swap {
	if b.none() {
		return nil
	}
	return b.leaving[model]
}

// colliding appends the targets of the swaps that i would collide with to on, and returns
// it sorted.
func (b *swaps) colliding(i *intent, on []string) []string {
	if s := b.stopping(i.target); s != nil {
		on = append(on, s.target)
	}
	return b.touching(i.evict, on)
}

// touching appends the targets of the swaps that load or stop one of models to on, and
// returns it sorted.
func (b *swaps) touching(models, on []string) []string {
	if b.none() {
		return on
	}
	for _, model := range models {
		if s := b.byTarget[model]; s != nil {
			on = append(on, s.target)
		}
		if s := b.leaving[model]; s != nil {
			on = append(on, s.target)
		}
	}
	slices.Sort(on)
	return slices.Compact(on)
}

// mayCancel reports whether the swaps cancelled so far allow s to be cancelled for
// another swap.
func (b *swaps) mayCancel(s *swap) bool { return !s.abandoned && !b.spent && !b.cancelled[s.target] }

// cancel notes that s is cancelled because no request waits for it.
func (b *swaps) cancel(s *swap) {
	if b.cancelled == nil {
		b.cancelled = make(map[string]bool)
	}
	b.spent, b.cancelled[s.target] = true, true
}

// succeed notes that a swap for the model has succeeded, and that requests waited for it.
func (b *swaps) succeed(model string) {
	b.spent = false
	delete(b.cancelled, model)
}

// abandon notes that the report of s will serve no request, and reports whether that is
// news.
func (b *swaps) abandon(s *swap) bool {
	news := !s.abandoned
	s.abandoned = true
	return news
}
