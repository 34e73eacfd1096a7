package scheduler

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"math/bits"
	"slices"
)

// Set is a set of models that may run together. Any part of it may run too.
type Set []string

// The bounds of a [SetSwapper]. It has a bit in memory per model and set. All costs
// together fit into an int64 even if they count twice.
const (
	maxSets = 4096
	maxCost = math.MaxInt64 / 2
)

// SetSwapper is a [Planner] with sets of models that may run together. A model may be in
// several sets. A model in no set runs alone.
//
// To load a model, SetSwapper chooses one of the sets that hold it. The running models
// that this set does not allow have to stop: they are its victims. The cost of a set is
// the sum of the costs of its victims, and a victim holds the swap up if it is busy,
// loading or leaving. SetSwapper chooses the set with, in this order,
//
//   - the lowest cost, which counts twice if a victim holds the swap up;
//   - the lowest cost, which counts once;
//   - the fewest victims that hold the swap up;
//   - the fewest victims that requests wait for;
//   - the fewest victims;
//   - the first place in the list of sets.
//
// So a set whose victims are idle is chosen rather than one with a busy victim if it
// costs less than twice as much. If it costs twice as much or more, the request waits for
// the busy one. It also waits for it if that costs nothing and the idle ones something.
//
// A model that an outstanding swap is stopping (Leaving) costs nothing and does not count
// as wanted, because it stops anyway. But its room is taken until it has gone. So if the
// set does not allow it, it is named, and the swap waits (R5).
//
// # Answers that do not only grow
//
// One more running model should never make an answer smaller, but here it may. If the
// sets are {t, v} and {t, x, y}, then t stops x beside v and x, and v beside v, x and y. So
// when y starts, t may no longer have to wait for x. It does not have to wait for an event
// either: after every start the scheduler considers all waiting requests again. In this
// sense invariant 7 holds for a SetSwapper too: when the queue has moved, no request waits
// that could be served, or whose swap could start by the answer that holds (R5), unless
// for a reservation. Until it moves again, grants only make more models busy, and who
// waits only decides between sets that are held up alike.
//
// What else depends on growing answers depends on the empty ones, and these behave: if
// nothing has to stop for t, one set allows t and all that runs, and it still does when
// fewer models run. So an answer asks for nothing more once it has been carried out, and
// a plan that suffices beside several loads suffices beside each of them (R8).
//
// A SetSwapper does not change, so schedulers and goroutines may share it. The zero value
// has no sets: one model runs at a time.
type SetSwapper struct {
	members map[string]*setMember
}

var _ Planner = (*SetSwapper)(nil)

// setMember is a model that is in a set.
type setMember struct {
	sets []uint64 // bit i: it is in set i
	cost int64
}

// NewSetSwapper returns a SetSwapper with a copy of sets and of costs. The cost of a
// model is what it costs to stop it, such as the seconds that it takes to load. Models
// that costs does not name cost 1.
//
// It returns an error for more than 4096 sets, for a set without models, for an empty
// name, for a model that is in a set twice, for a negative cost, for the cost of a model
// that is in no set, and if all costs together do not fit into 62 bits. The error names
// the set by its number, from 1. A set that equals another one, or is part of it, is no
// error and changes nothing.
func NewSetSwapper(sets []Set, costs map[string]int) (*SetSwapper, error) {
	if len(sets) > maxSets {
		return nil, fmt.Errorf("scheduler: %d sets, but at most %d are possible", len(sets), maxSets)
	}
	s := &SetSwapper{members: make(map[string]*setMember)}
	words := (len(sets) + 63) / 64
	for i, set := range sets {
		if err := s.add(i, set, words); err != nil {
			return nil, fmt.Errorf("scheduler: set %d: %w", i+1, err)
		}
	}
	for _, model := range slices.Sorted(maps.Keys(costs)) {
		if err := s.setCost(model, costs[model]); err != nil {
			return nil, fmt.Errorf("scheduler: the cost of %q: %w", model, err)
		}
	}
	var sum int64
	for _, m := range s.members {
		if sum += m.cost; sum > maxCost {
			return nil, fmt.Errorf("scheduler: all costs add up to more than %d", int64(maxCost))
		}
	}
	return s, nil
}

// add enters the models of a set.
func (s *SetSwapper) add(number int, set Set, words int) error {
	if len(set) == 0 {
		return errors.New("it has no models")
	}
	for _, model := range set {
		if model == "" {
			return errors.New("the name of a model is empty")
		}
		m := s.members[model]
		if m == nil {
			m = &setMember{make([]uint64, words), 1}
			s.members[model] = m
		}
		if m.in(number) {
			return fmt.Errorf("%q is in it twice", model)
		}
		m.sets[number/64] |= 1 << (number % 64)
	}
	return nil
}

// setCost sets the cost of a model. No cost is so high that two of them overflow.
func (s *SetSwapper) setCost(model string, cost int) error {
	m := s.members[model]
	switch {
	case m == nil:
		return errors.New("the model is in no set")
	case cost < 0:
		return fmt.Errorf("%d is negative", cost)
	}
	m.cost = min(int64(cost), maxCost+1)
	return nil
}

// EvictionFor implements [Swapper]. It is Plan for running models that are idle, and that
// no request waits for.
func (s *SetSwapper) EvictionFor(target string, running []string) []string {
	return PlannerFunc(s.Plan).EvictionFor(target, running)
}

// OnSwapStart implements [Swapper]. It does nothing: the policy has no state.
func (s *SetSwapper) OnSwapStart(target string, running []string) {}

// Plan implements [Planner]. It never returns an error.
func (s *SetSwapper) Plan(target string, running []Resident) (evict []string, err error) {
	set, victims := s.choose(target, running)
	if victims == 0 {
		return nil, nil
	}
	evict = make([]string, 0, victims)
	for i := range running {
		model := running[i].Model
		if m := s.members[model]; model != target && (m == nil || !m.in(set)) {
			evict = append(evict, model)
		}
	}
	return evict, nil
}

// choose returns the number of the set to run target in, which is negative if target runs
// alone, and how many of the running models it does not allow.
//
// It takes 64 sets at a time, and adds up for each of them the loss that its models are
// spared, which are fewer than those that stop. So the work is bounded by how many models
// are in sets, and the sums fit on the stack.
func (s *SetSwapper) choose(target string, running []Resident) (set, victims int) {
	var all loss
	var found [32]*setMember // To find a model takes longer than anything else.
	for i := range running {
		m := s.members[running[i].Model]
		all.add(lossOf(&running[i], m))
		if i < len(found) {
			found[i] = m
		}
	}
	t := s.members[target]
	if t == nil {
		return -1, all.victims
	}
	set = -1
	var least loss
	for word, candidates := range t.sets {
		if candidates == 0 {
			continue
		}
		var spared [64]loss
		for i := range running {
			m := found[i%len(found)]
			if len(running) > len(found) {
				m = s.members[running[i].Model]
			}
			if m == nil {
				continue
			}
			loses := lossOf(&running[i], m)
			for in := m.sets[word] & candidates; in != 0; in &= in - 1 {
				spared[bits.TrailingZeros64(in)].add(loses)
			}
		}
		for ; candidates != 0; candidates &= candidates - 1 {
			i := bits.TrailingZeros64(candidates)
			if l := all.without(spared[i]); set < 0 || l.less(&least) {
				set, least = 64*word+i, l
			}
		}
	}
	return set, least.victims
}

// in reports whether m is in a set, which no model is if its number is negative.
func (m *setMember) in(set int) bool {
	return set >= 0 && m.sets[set/64]>>(set%64)&1 == 1
}

// loss is what it takes to stop some models.
type loss struct {
	cost    int64
	held    int // of the models, those that hold the swap up
	wanted  int // those that requests wait for, and that would not stop anyway
	victims int
}

// lossOf returns the loss of one running model, which is m, or in no set if m is nil.
func lossOf(r *Resident, m *setMember) loss {
	l := loss{cost: 1, victims: 1}
	if m != nil {
		l.cost = m.cost
	}
	if r.Waiting > 0 {
		l.wanted = 1
	}
	if r.InFlight > 0 || r.Loading || r.Leaving {
		l.held = 1
	}
	if r.Leaving {
		l.cost, l.wanted = 0, 0
	}
	return l
}

// add adds what it takes to stop further models.
func (l *loss) add(o loss) {
	l.cost += o.cost
	l.held += o.held
	l.wanted += o.wanted
	l.victims += o.victims
}

// without returns what is left of l if some of its models are spared.
func (l loss) without(o loss) loss {
	return loss{l.cost - o.cost, l.held - o.held, l.wanted - o.wanted, l.victims - o.victims}
}

// weighed is the cost, which counts twice if a model holds the swap up.
func (l *loss) weighed() uint64 {
	if l.held > 0 {
		return 2 * uint64(l.cost)
	}
	return uint64(l.cost)
}

// less reports whether l is the smaller loss.
func (l *loss) less(o *loss) bool {
	if a, b := l.weighed(), o.weighed(); a != b {
		return a < b
	}
	if l.cost != o.cost {
		return l.cost < o.cost
	}
	if l.held != o.held {
		return l.held < o.held
	}
	if l.wanted != o.wanted {
		return l.wanted < o.wanted
	}
	return l.victims < o.victims
}
