package scheduler

import "slices"

// seen is an entry of the host's RunningModels, as it was read last.
type seen struct {
	name    string
	running bool
}

// answer is what the Swapper has said to one question.
type answer struct {
	running []string // that the question was about
	loading *model   // likewise; nil: as things are
	evict   []string // cleaned
	err     error
}

// runs reports whether a process in that state counts as running.
func runs(state ProcessState) bool {
	return state != StateStopped && state != StateShutdown
}

// refresh reads what runs, once per step and again after an effect that may have
// changed it. A change makes every answer of the Swapper stale, and so does a new
// step if it is a Planner, which sees more than what runs (R5).
func (f *FIFO) refresh() {
	if f.fresh {
		return
	}
	states := f.eff.RunningModels()
	f.fresh = true
	if !f.sameRunning(states) {
		f.readRunning(states)
	}
}

// sameRunning reports whether states and the targets of the outstanding swaps are
// what was read last.
func (f *FIFO) sameRunning(states map[string]ProcessState) bool {
	if f.targetsChanged || len(states) != len(f.seen) {
		return false
	}
	for i := range f.seen {
		s := &f.seen[i]
		if state, ok := states[s.name]; !ok || runs(state) != s.running {
			return false
		}
	}
	return true
}

// readRunning takes over states as what runs.
func (f *FIFO) readRunning(states map[string]ProcessState) {
	f.targetsChanged = false
	f.seen = f.seen[:0]
	f.was, f.running = f.running, f.was[:0]
	for name, state := range states {
		f.seen = append(f.seen, seen{name, runs(state)})
		if runs(state) {
			f.running = append(f.running, name)
		}
	}
	for _, s := range f.swaps {
		f.running = append(f.running, s.model.name)
	}
	slices.Sort(f.running)
	f.running = slices.Compact(f.running)
	if !slices.Equal(f.running, f.was) {
		f.epoch++
	}
}

// changed notes that an effect may have changed what runs.
func (f *FIFO) changed() {
	f.fresh = false
	f.targetsChanged = true
	f.renew()
}

// renew makes the answers of a Planner stale.
func (f *FIFO) renew() {
	if f.planner != nil {
		f.epoch++
	}
}

// others returns the running models without m, in memory that the next question
// uses again.
func (f *FIFO) others(m *model) []string {
	f.refresh()
	f.scratch = f.scratch[:0]
	i, found := slices.BinarySearch(f.running, m.name)
	f.scratch = append(f.scratch, f.running[:i]...)
	if found {
		i++
	}
	f.scratch = append(f.scratch, f.running[i:]...)
	return f.scratch
}

// evictionFor returns what has to be evicted for m by the Swapper's answer, which
// holds until it is stale.
func (f *FIFO) evictionFor(m *model) ([]string, error) {
	f.refresh()
	if m.asOf != f.epoch {
		now := f.answerFor(m, f.others(m), nil)
		m.asOf, m.evict, m.err = f.epoch, now.evict, now.err
	}
	return m.evict, m.err
}

// suffices reports whether the Swapper asks for nothing more for holder once plan
// is carried out, beside a swap that may be nil. What outstanding swaps stop is
// left out, and so is what that swap stops; its target counts as loading.
func (f *FIFO) suffices(holder *model, plan []string, beside *intent) bool {
	f.refresh()
	running := f.scratch[:0]
	for _, name := range f.running {
		if name != holder.name && !slices.Contains(plan, name) && !beside.stops(name) && !f.leaving(name) {
			running = append(running, name)
		}
	}
	var target *model
	if beside != nil {
		target = beside.model
		if i, found := slices.BinarySearch(running, target.name); !found {
			running = slices.Insert(running, i, target.name)
		}
	}
	f.scratch = running
	answer := f.answerFor(holder, running, target)
	return answer.err == nil && len(answer.evict) == 0
}

// answerFor returns the Swapper's answer for m beside running, and asks for it
// unless it has been given since the last one went stale. Loading is a model that
// counts as loading for the sake of the question, or nil; only a Planner sees that.
func (f *FIFO) answerFor(m *model, running []string, loading *model) *answer {
	if m.epoch != f.epoch {
		m.epoch, m.answers = f.epoch, m.answers[:0]
	}
	if f.planner == nil || loading != nil && loading.swap != nil {
		loading = nil
	}
	for i := range m.answers {
		if a := &m.answers[i]; a.loading == loading && slices.Equal(a.running, running) {
			return a
		}
	}
	n := len(m.answers)
	if n == cap(m.answers) {
		m.answers = append(m.answers, answer{})[:n]
	}
	a := &m.answers[:n+1][n] // Its slices are used again.
	a.loading, a.running = loading, append(a.running[:0], running...)
	a.evict, a.err = f.ask(m, a.running, loading, a.evict[:0])
	m.answers = m.answers[:n+1] // A question that panicked is no answer.
	return a
}

// leaving reports whether an outstanding swap stops the model.
func (f *FIFO) leaving(name string) bool {
	if len(f.swaps) == 0 {
		return false
	}
	m := f.models[name]
	return m != nil && m.leaving != nil
}

// ask puts a question to the Swapper and appends its cleaned answer to evict:
// without the target, duplicates and models that do not run.
func (f *FIFO) ask(m *model, running []string, loading *model, evict []string) ([]string, error) {
	var answer []string
	var err error
	if f.planner != nil {
		answer, err = f.planner.Plan(m.name, f.residentsOf(running, loading))
	} else {
		answer = f.swapper.EvictionFor(m.name, running)
	}
	if err != nil {
		return evict, err
	}
	for _, name := range answer {
		if _, found := slices.BinarySearch(running, name); found && !slices.Contains(evict, name) {
			evict = append(evict, name)
		}
	}
	return evict, nil
}

// residentsOf shows the running models to a Planner.
func (f *FIFO) residentsOf(running []string, loading *model) []Resident {
	f.residents = f.residents[:0]
	for _, name := range running {
		r := Resident{Model: name}
		if m := f.models[name]; m != nil {
			r.Loading = m.swap != nil || m == loading
			r.Leaving = m.leaving != nil && m != loading
			r.InFlight, r.Waiting = m.inFlight, m.queue.n
			r.LastUsed = m.lastUsed
		}
		f.residents = append(f.residents, r)
	}
	return f.residents
}
