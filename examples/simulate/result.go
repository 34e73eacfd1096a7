package main

import (
	"time"
)

// result is what a run has come to.
type result struct {
	variant  []string // the value of each dimension
	length   time.Duration
	ended    time.Duration // when the last request was done
	requests int
	served   int
	inTime   int // served while callers came
	refused  int
	left     int
	swaps    int
	loading  time.Duration // in which at least one model was being loaded
	waits    tally         // of requests that were served, or whose callers have left
	models   []*process
	tenants  []*tenant
}

// tenant is the waits of a tenant.
type tenant struct {
	name  string
	waits tally
}

func newResult(r *run) *result {
	res := &result{length: r.length}
	for _, name := range r.workload.tenants() {
		res.tenants = append(res.tenants, &tenant{name: name})
	}
	return res
}

// tenant returns the tally of a tenant.
func (r *result) tenant(name string) *tally {
	for _, t := range r.tenants {
		if t.name == name {
			return &t.waits
		}
	}
	panic("no such tenant: " + name)
}

// count notes what became of the request of c. The wait of a caller that has left counts
// too: otherwise a model that nobody can wait for would look as if it were served at once.
func (r *result) count(h *host, c *caller, o end) {
	switch o {
	case refused:
		r.refused++
		return
	case left:
		r.left++
	case served:
		r.served++
		if h.now <= h.until {
			r.inTime++
		}
	}
	wait := h.now - c.arrived
	r.waits.add(wait)
	c.process.waits.add(wait)
	if len(r.tenants) > 1 {
		c.from.tally.add(wait)
	}
}

// worst is the model or tenant that is served worst.
type worst struct {
	name         string
	p99, longest time.Duration
}

// see takes name if its waits are worse.
func (w *worst) see(name string, t *tally) {
	p99 := t.quantile(0.99)
	if t.n > 0 && (w.name == "" || p99 > w.p99 || p99 == w.p99 && t.longest > w.longest) {
		*w = worst{name, p99, t.longest}
	}
}

// worstModel returns the model that is served worst.
func (r *result) worstModel() (w worst) {
	for _, p := range r.models {
		w.see(p.name, &p.waits)
	}
	return w
}

// worstTenant likewise.
func (r *result) worstTenant() (w worst) {
	for _, t := range r.tenants {
		w.see(t.name, &t.waits)
	}
	return w
}

// perHour returns how many requests were served in an hour.
func (r *result) perHour() float64 {
	return float64(r.inTime) / max(r.length.Hours(), 1e-9)
}

// patienceName says what a Patience means.
func patienceName(p time.Duration) string {
	switch {
	case p < 0:
		return "endless"
	case p == 0:
		return "default"
	}
	return shortDuration(p)
}
