package scheduler

// model is the record of one model: what each part keeps for it, side by side. A part
// touches only its own piece. The record exists while the scheduler holds anything for
// the model, and forever once the model has been loaded or granted.
type model struct {
	name     string
	line     line     // queue.go: its waiting requests
	account  account  // lease.go: its grants
	answers  answers  // policy.go: what the Swapper said about it
	history  history  // price.go: its loads and drains
	deadline deadline // deadline.go: when it may be overdue
	overdue  overdue  // reservation.go: which of its requests are
	cooldown cooldown // cooldown.go: its failures
	block    block    // decision.go: why its requests wait
	touched  bool     // it is in models.touched
}

// models holds the records.
type models struct {
	byName  map[string]*model
	touched []*model // may have nothing left to hold
}

// newModels returns an empty set of records.
func newModels() models { return models{byName: make(map[string]*model)} }

// record returns the record of a model. It makes one if there is none.
func (s *models) record(name string) *model {
	m := s.byName[name]
	if m == nil {
		m = &model{name: name, answers: answers{model: name}}
		m.line.owner, m.account.owner, m.deadline.owner = m, m, m
		s.byName[name] = m
	}
	s.touch(m)
	return m
}

// find returns the record of a model, or nil if there is none.
func (s *models) find(name string) *model {
	m := s.byName[name]
	if m != nil {
		s.touch(m)
	}
	return m
}

// touch notes that after this step m may hold nothing any more. A step finds every record
// that it changes by name, so none is missed.
func (s *models) touch(m *model) {
	if !m.touched && !m.used() {
		m.touched = true
		s.touched = append(s.touched, m)
	}
}

// sweep drops the records that have been touched, hold nothing and need not be
// remembered.
func (s *models) sweep(holds func(*model) bool) {
	if len(s.touched) == 0 {
		return
	}
	for _, m := range s.touched {
		m.touched = false
		if !m.remembered() && !holds(m) {
			delete(s.byName, m.name)
		}
	}
	clear(s.touched)
	s.touched = empty(s.touched)
}

// used reports whether m was ever loaded or granted. Its record then stays.
func (m *model) used() bool { return m.history.loadKnown || m.account.lastUsed > 0 }

// remembered reports whether the record of m says anything that matters later.
func (m *model) remembered() bool {
	return m.used() || m.history.drainKnown || !m.history.readySince.IsZero() || m.cooldown.active()
}
