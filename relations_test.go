package scheduler

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// relations returns the contradictions in a Snapshot, and between it and the one before.
// It knows only these two.
func relations(before, s Snapshot) []string {
	r := &relating{Snapshot: s}
	r.order()
	r.turns()
	r.sums()
	for _, w := range s.Waiting {
		r.reason(w)
	}
	r.swaps()
	r.reservations()
	r.counters(before.Counters)
	return r.broken
}

// relating is a Snapshot whose fields are compared.
type relating struct {
	Snapshot
	broken []string
}

// must notes a contradiction unless holds.
func (r *relating) must(holds bool, format string, args ...any) {
	if !holds {
		r.broken = append(r.broken, fmt.Sprintf(format, args...))
	}
}

// swap returns the outstanding swap of a model, nil if there is none.
func (r *relating) swap(id string) *SwapStatus {
	if i := slices.IndexFunc(r.Swaps, func(s SwapStatus) bool { return s.Model == id }); i >= 0 {
		return &r.Swaps[i]
	}
	return nil
}

// loading reports whether a swap of a model is outstanding that was not abandoned.
func (r *relating) loading(id string) bool { s := r.swap(id); return s != nil && !s.Abandoned }

// model returns the status of a model, the zero value if there is nothing to say.
func (r *relating) model(id string) ModelStatus {
	for _, m := range r.Models {
		if m.Model == id {
			return m
		}
	}
	return ModelStatus{Model: id}
}

// holders returns the holders of the reservations whose plan has a model.
func (r *relating) holders(id string) (holders []string) {
	for _, o := range r.Reserved {
		if slices.Contains(o.Plan, id) {
			holders = append(holders, o.Model)
		}
	}
	return holders
}

// order checks what is in an order: R16 for the waiting requests, names for the rest.
func (r *relating) order() {
	place, last := 0, 0 // last: the priority of the one before
	for i, w := range r.Waiting {
		first := i == 0
		if !r.loading(w.Model) {
			place++
			first = place == 1
		}
		r.must(w.Position == place, "position %d of %s, which is number %d in the queue", w.Position, w.Model, place)
		r.must(first || w.Priority <= last, "priority %d stands behind %d", w.Priority, last)
		last = w.Priority
	}
	var models, targets []string
	for _, m := range r.Models {
		models = append(models, m.Model)
	}
	for _, s := range r.Swaps {
		targets = append(targets, s.Model)
	}
	r.must(isSet(models), "the models are %v", models)
	r.must(isSet(targets), "the swaps are for %v", targets)
}

// turns checks R6: the requests that wait for a model with the same priority stand in
// rounds. Each tenant has one request in a round, at the same place as in the round
// before, until it has no more. Its own requests are in the order of arrival.
func (r *relating) turns() {
	type where struct {
		model    string
		priority int
	}
	type last struct {
		round, place int
		age          time.Duration
	}
	tenants := make(map[where]map[string]last)
	at := make(map[where]last) // that of the latest
	for _, w := range r.Waiting {
		here := where{w.Model, w.Priority}
		if tenants[here] == nil {
			tenants[here] = make(map[string]last)
		}
		before, again := tenants[here][w.Tenant]
		now := last{before.round + 1, before.place, w.Age}
		if !again {
			now.place = len(tenants[here])
		}
		latest := at[here]
		r.must(now.round > latest.round || now.round == latest.round && now.place > latest.place, "out of turn: tenant %q at %s", w.Tenant, w.Model)
		r.must(!again || w.Age <= before.age, "the requests of tenant %q at %s stand out of order", w.Tenant, w.Model)
		tenants[here][w.Tenant], at[here] = now, now
	}
}

// sums checks what the status of models and swaps says of the waiting requests.
func (r *relating) sums() {
	waiting := make(map[string]int)
	for _, w := range r.Waiting {
		waiting[w.Model]++
		r.must(r.model(w.Model).Waiting > 0, "%s is waited for and not among the models", w.Model)
	}
	for _, m := range r.Models {
		r.must(m.Waiting == waiting[m.Model], "%d wait for %s, not %d", waiting[m.Model], m.Model, m.Waiting)
		r.must(m.InFlight >= 0 && m.Load >= 0 && m.CoolingDown >= 0, "below zero: %+v", m)
		r.must(!m.Closed || len(r.holders(m.Model)) > 0, "%s is closed and in no plan", m.Model)
	}
	for _, s := range r.Swaps {
		r.must(s.Waiting == waiting[s.Model], "%d wait for the swap of %s, not %d", waiting[s.Model], s.Model, s.Waiting)
		r.must(s.Age >= 0 && s.Expected >= 0, "below zero: %+v", s)
	}
}

// reason checks why a request waits.
func (r *relating) reason(w WaitStatus) {
	itself := slices.Equal(w.On, []string{w.Model})
	r.must(len(w.On) > 0 && isSet(w.On), "%s waits on %v", w.Model, w.On)
	r.must((w.Reason == WaitLoading) == r.loading(w.Model), "%s waits: %s, its swap: %+v", w.Model, w.Reason, r.swap(w.Model))
	all := func(holds func(id string) bool) bool {
		return !slices.ContainsFunc(w.On, func(id string) bool { return !holds(id) })
	}
	good := true
	switch w.Reason {
	case WaitLoading, WaitPaused, WaitSlots:
		good = itself
	case WaitClosed:
		closedBy := func(id string) bool { return slices.Contains(r.holders(w.Model), id) }
		good = r.model(w.Model).Closed && all(closedBy)
	case WaitBusy:
		good = all(func(id string) bool { return id != w.Model && r.model(id).InFlight > 0 })
	case WaitSwap:
		good = all(func(id string) bool { return r.swap(id) != nil }) && slices.Contains(w.On, w.Model) == (r.swap(w.Model) != nil)
	case WaitReserved:
		good = all(func(id string) bool { return id != w.Model && r.isReserved(id) })
	default: // One that has no case of its own names models, and that is all.
		good = w.Reason != ""
	}
	r.must(good, "%s waits: %s on %v", w.Model, w.Reason, w.On)
}

// isReserved reports whether a model holds a reservation.
func (r *relating) isReserved(id string) bool {
	return slices.ContainsFunc(r.Reserved, func(o Reservation) bool { return o.Model == id })
}

// swaps checks invariants 1 and 2 of RULES.md.
func (r *relating) swaps() {
	for i, s := range r.Swaps {
		for _, id := range s.Evict {
			r.must(id != s.Model && r.model(id).InFlight == 0, "the swap of %s stops %+v", s.Model, r.model(id))
		}
		for _, o := range r.Swaps[:i] {
			r.must(!refCollide(s.Model, s.Evict, o.Model, o.Evict), "two swaps: %+v and %+v", o, s)
		}
	}
}

// reservations checks R8: a holder has waiting requests and no swap, and no reservations collide.
func (r *relating) reservations() {
	for i, o := range r.Reserved {
		r.must(r.model(o.Model).Waiting > 0, "reserved for %s, which no request waits for", o.Model)
		r.must(r.swap(o.Model) == nil, "reserved for %s, whose swap is outstanding", o.Model)
		for _, older := range r.Reserved[:i] {
			r.must(o.Model != older.Model, "reserved for %s twice", o.Model)
			r.must(!refCollide(o.Model, o.Plan, older.Model, older.Plan), "two reservations: %+v and %+v", older, o)
		}
		r.must(!slices.Contains(o.Plan, o.Model), "reserved for %s, which stops itself", o.Model)
	}
}

// counters checks that they never fall, and what the rest of the Snapshot says of
// them.
func (r *relating) counters(before Counters) {
	c := r.Counters
	was, is := reflect.ValueOf(before), reflect.ValueOf(c)
	for i := range is.NumField() {
		r.must(is.Field(i).Uint() >= was.Field(i).Uint(), "%s falls: %+v after %+v", is.Type().Field(i).Name, c, before)
	}
	sum := c.Granted + c.Failed + c.Refused + c.Cancelled + uint64(len(r.Waiting))
	r.must(c.Requests == sum, "%d requests, but %d accounted for: %+v", c.Requests, sum, c)
	evicted, inFlight, going := 0, 0, 0
	for _, s := range r.Swaps {
		evicted += len(s.Evict)
		if !s.Abandoned {
			going++
		}
	}
	for _, m := range r.Models {
		inFlight += m.InFlight
	}
	r.must(c.Evictions >= uint64(evicted), "%d evicted, not only %d", evicted, c.Evictions)
	r.must(c.Swaps >= c.SwapsFailed+c.SwapsAbandoned+uint64(going), "%d outstanding: %+v", going, c)
	r.must(c.Granted >= uint64(inFlight), "%d in flight, but %d granted", inFlight, c.Granted)
}

// related is a Snapshot that is as it should be, with something of everything.
func related() Snapshot {
	return Snapshot{
		Models: []ModelStatus{
			{Model: "a", InFlight: 1, Waiting: 1, Closed: true},
			{Model: "b", Waiting: 2},
			{Model: "c", Waiting: 1, Load: time.Second},
			{Model: "e", Waiting: 1},
			{Model: "g", Waiting: 1},
			{Model: "h", Waiting: 4},
		},
		Swaps: []SwapStatus{{Model: "c", Evict: []string{"d"}, Waiting: 1}, {Model: "g", Waiting: 1, Abandoned: true}},
		Waiting: []WaitStatus{
			{Model: "c", Reason: WaitLoading, On: []string{"c"}},
			{Model: "b", Position: 1, Priority: 1, Reason: WaitBusy, On: []string{"a"}},
			{Model: "b", Position: 2, Reason: WaitBusy, On: []string{"a"}},
			{Model: "a", Position: 3, Reason: WaitClosed, On: []string{"b"}},
			{Model: "e", Position: 4, Reason: WaitReserved, On: []string{"b"}},
			{Model: "g", Position: 5, Reason: WaitSwap, On: []string{"g"}},
			{Model: "h", Position: 6, Tenant: "x", Age: 3, Reason: WaitPaused, On: []string{"h"}},
			{Model: "h", Position: 7, Tenant: "y", Age: 2, Reason: WaitPaused, On: []string{"h"}},
			{Model: "h", Position: 8, Tenant: "x", Age: 1, Reason: WaitPaused, On: []string{"h"}},
			{Model: "h", Position: 9, Tenant: "y", Age: 1, Reason: WaitPaused, On: []string{"h"}},
		},
		Reserved: []Reservation{{Model: "b", Plan: []string{"a"}}},
		Counters: Counters{Requests: 12, Granted: 2, Swaps: 2, SwapsAbandoned: 1, Evictions: 1},
	}
}

// TestRelations breaks one thing after another in a good Snapshot: each is seen.
func TestRelations(t *testing.T) {
	if broken := relations(Snapshot{}, related()); len(broken) > 0 {
		t.Fatal(strings.Join(broken, "\n"))
	}
	for what, spoil := range map[string]func(s *Snapshot){
		"a place left out":                       func(s *Snapshot) { s.Waiting[2].Position = 3 },
		"a place of one being loaded for":        func(s *Snapshot) { s.Waiting[0].Position = 1 },
		"a priority in the wrong place":          func(s *Snapshot) { s.Waiting[3].Priority = 2 },
		"a tenant out of turn":                   func(s *Snapshot) { s.Waiting[7].Tenant = "x" },
		"tenants out of their order":             func(s *Snapshot) { s.Waiting[8].Tenant, s.Waiting[9].Tenant = "y", "x" },
		"a tenant's own out of order":            func(s *Snapshot) { s.Waiting[8].Age = 4 },
		"paused on another":                      func(s *Snapshot) { s.Waiting[6].On = []string{"g"} },
		"models not sorted":                      func(s *Snapshot) { slices.Reverse(s.Models) },
		"swaps not sorted":                       func(s *Snapshot) { slices.Reverse(s.Swaps) },
		"one more waits for a model":             func(s *Snapshot) { s.Models[1].Waiting++ },
		"one more waits for a swap":              func(s *Snapshot) { s.Swaps[0].Waiting++ },
		"a model that is waited for, absent":     func(s *Snapshot) { s.Models = s.Models[:4] },
		"below zero":                             func(s *Snapshot) { s.Models[2].Load = -1 },
		"closed for no holder":                   func(s *Snapshot) { s.Models[3].Closed = true },
		"a reason without models":                func(s *Snapshot) { s.Waiting[1].On = nil },
		"a reason not sorted":                    func(s *Snapshot) { s.Waiting[1].On = []string{"b", "a"} },
		"no reason":                              func(s *Snapshot) { s.Waiting[1].Reason = "" },
		"loading without a swap":                 func(s *Snapshot) { s.Waiting[4].Reason, s.Waiting[4].On = WaitLoading, []string{"e"} },
		"a swap for one that waits otherwise":    func(s *Snapshot) { s.Waiting[0].Reason, s.Waiting[0].On = WaitSlots, []string{"c"} },
		"closed although open":                   func(s *Snapshot) { s.Models[0].Closed = false },
		"busy although idle":                     func(s *Snapshot) { s.Models[0].InFlight = 0 },
		"slots of another":                       func(s *Snapshot) { s.Waiting[1].Reason = WaitSlots },
		"a swap that is not outstanding":         func(s *Snapshot) { s.Waiting[4].Reason, s.Waiting[4].On = WaitSwap, []string{"a"} },
		"reserved for no holder":                 func(s *Snapshot) { s.Waiting[4].On = []string{"a"} },
		"a swap that stops itself":               func(s *Snapshot) { s.Swaps[0].Evict[0] = "c" },
		"a swap that stops a busy model":         func(s *Snapshot) { s.Swaps[0].Evict[0] = "a" },
		"two swaps that collide":                 func(s *Snapshot) { s.Swaps[1].Evict = []string{"d"} },
		"a reservation that no request waits on": func(s *Snapshot) { s.Reserved = append(s.Reserved, Reservation{Model: "f"}) },
		"a reservation beside its swap":          func(s *Snapshot) { s.Reserved = append(s.Reserved, Reservation{Model: "g"}) },
		"a reservation of two":                   func(s *Snapshot) { s.Reserved = append(s.Reserved, Reservation{Model: "b"}) },
		"two plans that collide":                 func(s *Snapshot) { s.Reserved = append(s.Reserved, Reservation{"e", []string{"a"}}) },
		"a plan that stops its holder":           func(s *Snapshot) { s.Reserved[0].Plan = []string{"a", "b"} },
		"a request not accounted for":            func(s *Snapshot) { s.Counters.Requests++ },
		"a counter that falls":                   func(s *Snapshot) { s.Counters.Evictions = 0 },
		"too many swaps failed":                  func(s *Snapshot) { s.Counters.SwapsFailed++ },
		"more in flight than granted":            func(s *Snapshot) { s.Models[0].InFlight = 3 },
	} {
		s := related()
		spoil(&s)
		if len(relations(related(), s)) == 0 {
			t.Errorf("not seen: %s", what)
		}
	}
}
