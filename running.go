package scheduler

import "slices"

// running is the set of running models: those that the host calls running, and the
// targets of the outstanding swaps. It reads the host's map only if expire was called
// since the last time, and notices whether the map says anything new.
type running struct {
	host    func() map[string]ProcessState // Effects.RunningModels
	swaps   *swaps
	current bool     // the host need not be asked again
	swapped uint64   // swaps.changes when the host was asked
	seen    []seen   // what the host said
	models  []string // the set, sorted
	version uint64   // of the set: it grows when the set changes
	news    uint64   // how often the host has said something new
	marked  []seen   // what the host said at the mark
	mark    uint64   // news at that time

	previous []string // the set before; its memory is reused
}

// seen is an entry of the host's map.
type seen struct {
	model string
	state ProcessState
}

// runs reports whether a process in that state counts as running.
func runs(state ProcessState) bool {
	return state != StateStopped && state != StateShutdown
}

// expire notes that the set may have changed.
func (s *running) expire() { s.current = false }

// list returns the running models. They are sorted, because nothing may depend on the
// order of the host's map (R18). The list is valid until the next call.
func (s *running) list() []string {
	if s.current {
		return s.models
	}
	states := s.host()
	s.current = true
	if s.swapped != s.swaps.changes || !same(s.seen, states) {
		s.read(states)
	}
	return s.models
}

// setMark remembers what the host says at this moment.
func (s *running) setMark() {
	s.list()
	if s.mark != s.news {
		s.mark = s.news
		s.marked = append(s.marked[:0], s.seen...)
	}
}

// changed reports whether the host says something different from what it said at the mark
// (R19).
func (s *running) changed() bool {
	s.list()
	return s.mark != s.news && !same(s.marked, s.host())
}

// has reports whether a model is running.
func (s *running) has(model string) bool {
	_, found := slices.BinarySearch(s.list(), model)
	return found
}

// same reports whether states say what the host said before.
func same(before []seen, states map[string]ProcessState) bool {
	if len(states) != len(before) {
		return false
	}
	for i := range before {
		if state, ok := states[before[i].model]; !ok || state != before[i].state {
			return false
		}
	}
	return true
}

// read copies what the host says.
func (s *running) read(states map[string]ProcessState) {
	s.news++
	s.swapped = s.swaps.changes
	s.seen = s.seen[:0]
	s.previous, s.models = s.models, s.previous[:0]
	for model, state := range states {
		s.seen = append(s.seen, seen{model, state})
		if runs(state) {
			s.models = append(s.models, model)
		}
	}
	for target := range s.swaps.byTarget {
		s.models = append(s.models, target)
	}
	slices.Sort(s.models)
	s.models = slices.Compact(s.models)
	if !slices.Equal(s.models, s.previous) {
		s.version++
	}
}
