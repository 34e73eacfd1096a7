package scheduler

import "slices"

// turns is the host's own book of whose turn it is (R6): for each model and priority the
// tenants that wait there, in order. It follows from the events and effects alone,
// without looking into the scheduler.
type turns struct {
	rings map[ring][]string
	vague map[ring]bool // it is not known when the scheduler noticed that a caller had left, or what was called back
}

// ring is where tenants take turns.
type ring struct {
	model    string
	priority int
}

// ringOf returns the ring that c waits in.
func ringOf(c *caller) ring { return ring{c.req.Model, c.priority} }

// join notes that c begins to wait, if it has to.
func (t *turns) join(c *caller, w *world) {
	if t.rings == nil {
		t.rings, t.vague = make(map[ring][]string), make(map[ring]bool)
	}
	t.tidy(w, c)
	r := ringOf(c)
	if w.inline {
		t.vague[r] = true
	}
	if !slices.Contains(t.rings[r], c.tenant) {
		t.rings[r] = append(t.rings[r], c.tenant)
	}
}

// granted puts the tenant of c behind the others.
func (t *turns) granted(c *caller) {
	r := ringOf(c)
	if i := slices.Index(t.rings[r], c.tenant); i >= 0 {
		t.rings[r] = append(slices.Delete(t.rings[r], i, i+1), c.tenant)
	}
}

// tidy takes out the tenants that no longer wait. Besides is a caller that has only just
// come, or nil.
func (t *turns) tidy(w *world, besides *caller) {
	for r, tenants := range t.rings {
		waits := func(tenant string) bool {
			return slices.ContainsFunc(w.callers, func(c *caller) bool {
				return c.waiting && c != besides && c.tenant == tenant && ringOf(c) == r
			})
		}
		t.rings[r] = slices.DeleteFunc(tenants, func(tenant string) bool { return !waits(tenant) })
		left := slices.ContainsFunc(w.callers, func(c *caller) bool { return c.waiting && c.left && ringOf(c) == r })
		t.vague[r] = t.vague[r] || left || w.inline
		if len(t.rings[r]) == 0 {
			delete(t.rings, r)
			delete(t.vague, r)
		}
	}
}

// checkTurn checks that it is the turn of c, which is about to be granted. While the
// model is closed, requests that arrived after c may have to be passed over.
func (w *world) checkTurn(c *caller, closed bool) {
	r := ringOf(c)
	w.turns.tidy(w, nil)
	if w.turns.vague[r] || w.inline {
		return
	}
	for _, tenant := range w.turns.rings[r] {
		if tenant == c.tenant {
			return
		}
		waits := slices.ContainsFunc(w.callers, func(o *caller) bool {
			return o.waiting && !o.left && !o.arriving && o.tenant == tenant && ringOf(o) == r && !(closed && o.arrival > c.arrival)
		})
		if waits {
			w.breaks("%s of tenant %q is granted on %s, and it is the turn of %q", c.name, c.tenant, r.model, tenant)
		}
	}
}
