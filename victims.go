package scheduler

import (
	"cmp"
	"slices"
)

// search looks for the running models that have to stop so that something fits. The zero
// value is ready for begin.
type search struct {
	free       []int64      // by the index of the pool, beside all that run
	candidates []*candidate // the most valuable first
	found      bool         // best makes room
	best       []bool       // whether each candidate is a victim

	all     []candidate // memory that is used again
	spare   []int64     // likewise
	victims []bool      // likewise
}

// candidate is a running model that may be stopped.
type candidate struct {
	model string
	tier  tier
	value float64 // H
	share float64
	used  uint64
	takes []int64 // by the index of the pool
}

// tier is the coarse value of a candidate: any model of a higher tier is kept at the
// cost of all that are in lower ones.
type tier int

const (
	tierLeaving tier = iota
	tierIdle
	tierWanted
	tierLoading
)

// begin begins a search in pools in which nothing runs.
func (s *search) begin(pools pools) {
	s.free, s.all, s.best, s.found = s.free[:0], s.all[:0], s.best[:0], false
	for _, p := range pools {
		s.free = append(s.free, p.capacity)
	}
}

// occupy notes what a running model takes.
func (s *search) occupy(takes []int64) {
	for i, n := range takes {
		s.free[i] -= n
	}
}

// add adds a candidate.
func (s *search) add(c candidate) { s.all = append(s.all, c) }

// rank puts the candidates in order. They are large, so their addresses are sorted.
func (s *search) rank() {
	s.candidates = s.candidates[:0]
	for i := range s.all {
		s.candidates = append(s.candidates, &s.all[i])
	}
	slices.SortFunc(s.candidates, func(a, b *candidate) int { return byValue(b, a) })
}

// try looks for the victims that make room for needs, and keeps them if they are better
// than those of the tries before. It keeps every candidate, the most valuable one first,
// without which the others make room.
func (s *search) try(needs []int64) {
	s.spare = append(s.spare[:0], s.free...)
	for _, c := range s.candidates {
		for i, n := range c.takes {
			s.spare[i] += n
		}
	}
	if !fit(needs, s.spare, needs) {
		return
	}
	for i, n := range needs {
		s.spare[i] -= n
	}
	s.victims = s.victims[:0]
	for _, c := range s.candidates {
		stays := fit(c.takes, s.spare, needs)
		if stays {
			for i, n := range c.takes {
				s.spare[i] -= n
			}
		}
		s.victims = append(s.victims, !stays)
	}
	if !s.found || s.better() {
		s.found, s.best, s.victims = true, s.victims, s.best
	}
}

// fit reports whether amounts fit into what is free of the pools of which something is
// needed. Whether there is enough of the others does not matter.
func fit(amounts, free, needs []int64) bool {
	for i, n := range amounts {
		if needs[i] > 0 && n > free[i] {
			return false
		}
	}
	return true
}

// better reports whether the victims are better than the best so far: the most valuable
// model about which they differ is kept.
func (s *search) better() bool {
	for i, evicted := range s.victims {
		if evicted != s.best[i] {
			return !evicted
		}
	}
	return false
}

// evict returns the best victims, sorted.
func (s *search) evict() (models []string) {
	for i, c := range s.candidates {
		if s.best[i] {
			models = append(models, c.model)
		}
	}
	slices.Sort(models)
	return models
}

// freeWithout returns what is free once some models have gone. It is valid until the
// next try.
func (s *search) freeWithout(models []string) []int64 {
	s.spare = append(s.spare[:0], s.free...)
	for _, c := range s.candidates {
		if slices.Contains(models, c.model) {
			for i, n := range c.takes {
				s.spare[i] += n
			}
		}
	}
	return s.spare
}

// tierOf returns the tier of a running model.
func tierOf(r *Resident) tier {
	switch {
	case r.Leaving:
		return tierLeaving
	case r.Loading:
		return tierLoading
	case r.InFlight > 0 || r.Waiting > 0:
		return tierWanted
	}
	return tierIdle
}

// byValue compares two candidates: the less valuable one comes first. No two are equal.
func byValue(a, b *candidate) int {
	switch {
	case a.tier != b.tier:
		return cmp.Compare(a.tier, b.tier)
	case a.value != b.value:
		return cmp.Compare(a.value, b.value)
	case a.share != b.share:
		return cmp.Compare(b.share, a.share)
	case a.used != b.used:
		return cmp.Compare(a.used, b.used)
	}
	return cmp.Compare(a.model, b.model)
}
