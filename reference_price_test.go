package scheduler

import "time"

// loadOf returns the load that the price of model counts with.
func (r *reference) loadOf(model string) time.Duration {
	if m := r.models[model]; m != nil && m.loaded {
		return m.load
	}
	if r.loaded {
		return r.lastLoad
	}
	return 10 * time.Second
}

// longestDrain returns the longest of the drains of models.
func (r *reference) longestDrain(models []string) time.Duration {
	longest := time.Duration(0)
	for _, model := range models {
		if m := r.models[model]; m != nil {
			longest = max(longest, m.drain)
		}
	}
	return longest
}

// price returns what it takes to get model loaded. Without a reservation the Swapper
// says what has to be stopped for it.
func (r *reference) price(model string) time.Duration {
	var evict []string
	if s := r.reservationOf(model); s != nil {
		evict = s.plan
	} else {
		evict, _ = r.ask(model)
	}
	return max(r.loadOf(model)+r.longestDrain(evict), time.Second)
}

// overdueAfter returns how long the oldest request has to wait until model is overdue.
func (r *reference) overdueAfter(model string) time.Duration {
	return r.bounded(5, r.price(model))
}

// dueAfter returns how long the oldest request has to wait until model is due.
func (r *reference) dueAfter(model string) time.Duration {
	return r.bounded(5, max(r.loadOf(model), time.Second))
}

// closesAfter returns for how long a model of the plan of s stays open.
func (r *reference) closesAfter(s *refReservation, model string) time.Duration {
	load := max(r.loadOf(s.model), r.loadOf(model))
	if r.commits == faultClosesByHolder {
		load = r.loadOf(s.model)
	}
	return r.bounded(2, max(load+r.longestDrain(s.plan), time.Second))
}

// bounded returns some prices, bounded by Patience.
func (r *reference) bounded(prices, price time.Duration) time.Duration {
	if price > r.opts.Patience/prices {
		return r.opts.Patience
	}
	return prices * price
}

// noteIdle notes for the reservations that closed model that it has finished what it had.
func (r *reference) noteIdle(model string) {
	for _, s := range r.reservations {
		for i := range s.closed {
			if s.closed[i].model == model {
				s.closed[i].idle = r.now()
			}
		}
	}
}

// sampleDrains learns from a reservation whose swap starts how long each of the
// models that it closed took to finish. One that has not finished is no sample.
func (r *reference) sampleDrains(s *refReservation) {
	for _, c := range s.closed {
		if r.inFlight(c.model) > 0 {
			continue
		}
		models := []string{c.model}
		if r.commits == faultOneDrain {
			models = r.knownModels()
		}
		for _, model := range models {
			r.sampleDrain(model, c.idle.Sub(c.at))
		}
	}
}

// sampleDrain learns how long a model took to finish.
func (r *reference) sampleDrain(model string, sample time.Duration) {
	m := r.modelOf(model)
	if m.drained && r.commits != faultDrainLatest {
		sample = m.drain + (sample-m.drain)/4
	}
	m.touched, m.drained, m.drain = true, true, sample
}
