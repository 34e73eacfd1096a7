package main

import (
	"slices"
	"sync"
	"time"

	"example.com/scheduler"
)

const (
	// lookEvery is the least time between two looks at the host.
	lookEvery = 100 * time.Millisecond
	// lookAtLeast is the most: what is shown cannot stay wrong for longer.
	lookAtLeast = 5 * time.Second
	// lookShare bounds the share of the run loop's time that the looks take when
	// a very long queue makes them dear.
	lookShare = 20
	// lullsUnder are not shown: a model that serves one request after another
	// serves.
	lullsUnder = time.Second

	// What is remembered.
	historyAge  = 15 * time.Minute
	historySize = 2000

	// queueShown is how much of the queue the page is sent.
	queueShown = 100
)

// laneState is what a model does, as the lanes of the status page tell it apart.
type laneState string

const (
	laneStopped  laneState = "stopped"
	laneLoading  laneState = "loading"
	laneReady    laneState = "ready"
	laneServing  laneState = "serving"
	laneClosed   laneState = "closed"
	laneStopping laneState = "stopping"
)

// span is a time for which a model did one thing.
type span struct {
	Model  string    `json:"model"`
	State  laneState `json:"state"`
	From   time.Time `json:"from"`
	To     time.Time `json:"to,omitzero"`      // zero: it still does
	Failed bool      `json:"failed,omitempty"` // it ended with an error
}

// timeline remembers what each model did of late and tells those who watch. They
// come to it for what they have not seen, each at its own pace, so one that is
// slow misses what lies between and keeps nobody up. It does one run and any
// number of frames at a time.
type timeline struct {
	host    *host
	changes watch

	mu      sync.Mutex
	now     status           // as last seen
	lanes   map[string]*lane // of the models in now
	past    []span           // oldest first, without those in which a model was stopped
	dropped int              // how many came before those in past
}

// frame is what a watcher is told.
type frame struct {
	Now     time.Time `json:"now"`
	Status  status    `json:"status"`  // with the first of the waiting only
	Waiting int       `json:"waiting"` // how many there are
	Open    []span    `json:"open"`    // one for each model
	Past    []span    `json:"past"`    // those that are new to this watcher
	Reset   bool      `json:"reset"`   // it should forget earlier ones
}

func newTimeline(h *host) *timeline {
	return &timeline{host: h, lanes: make(map[string]*lane)}
}

// run looks at the host whenever something has changed, until the host ends.
func (t *timeline) run() {
	for {
		changed := t.host.watch.changed() // Before the look: no change falls between.
		began := time.Now()
		s := t.host.status()
		if s.Time.IsZero() {
			return
		}
		lull := t.see(s)
		pause := max(lookEvery, lookShare*time.Since(began))
		if !t.sleep(nil, pause) || !t.sleep(changed, lull-pause) {
			return
		}
	}
}

// sleep waits for d or until wake. It is false if the host has ended.
func (t *timeline) sleep(wake <-chan struct{}, d time.Duration) bool {
	select {
	case <-wake:
	case <-time.After(d):
	case <-t.host.ended:
		return false
	}
	return true
}

// see takes in the status of the host, and returns how long it may take until the
// next look if nothing changes.
func (t *timeline) see(s status) (next time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.now, next = s, lookAtLeast
	closed := closedModels(s.Scheduler)
	seen := make(map[string]bool)
	for _, m := range s.Models {
		seen[m.Model] = true
		l := t.lanes[m.Model]
		if l == nil {
			l = newLane(m, closed[m.Model])
			t.lanes[m.Model] = l
		}
		if past, ended := l.see(m, closed[m.Model], s.Time); ended {
			t.remember(past)
		}
		if !l.lull.IsZero() {
			next = lullsUnder
		}
	}
	for name, l := range t.lanes {
		if !seen[name] {
			t.remember(l.end(s.Time))
			delete(t.lanes, name)
		}
	}
	t.forget(s.Time)
	t.changes.change()
	return next
}

// remember enters a span that has ended.
func (t *timeline) remember(s span) {
	if s.State != laneStopped {
		t.past = append(t.past, s)
	}
}

// forget drops what is too old or too much.
func (t *timeline) forget(now time.Time) {
	n := max(0, len(t.past)-historySize)
	for n < len(t.past) && now.Sub(t.past[n].To) > historyAge {
		n++
	}
	t.past = slices.Delete(t.past, 0, n)
	t.dropped += n
}

// frame returns what a watcher has not seen who has seen the first of all spans
// up to seen; negative: it has seen nothing. Next is what it has seen with that,
// and changed is closed when there is more. It is false before the first look.
func (t *timeline) frame(seen int) (f frame, next int, changed <-chan struct{}, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	changed = t.changes.changed()
	if t.now.Time.IsZero() {
		return f, seen, changed, false
	}
	f = frame{Now: time.Now(), Status: t.now, Waiting: len(t.now.Scheduler.Waiting), Open: []span{}, Reset: seen < 0}
	f.Status.Scheduler.Waiting = f.Status.Scheduler.Waiting[:min(f.Waiting, queueShown)]
	for _, m := range t.now.Models {
		f.Open = append(f.Open, t.lanes[m.Model].span)
	}
	f.Past = append([]span{}, t.past[max(0, seen-t.dropped):]...)
	return f, t.dropped + len(t.past), changed, true
}

// closedModels returns the models that a reservation has closed.
func closedModels(s scheduler.Snapshot) map[string]bool {
	closed := make(map[string]bool)
	for _, m := range s.Models {
		closed[m.Model] = m.Closed
	}
	return closed
}

// lane follows one model.
type lane struct {
	span             // what it does
	since  time.Time // when its process came into the state that it is in
	grants uint64
	lull   time.Time // since when it serves nobody, while it counts as serving; zero: it serves
}

func newLane(m modelStatus, closed bool) *lane {
	return &lane{
		span:   span{Model: m.Model, State: laneOf(m, closed), From: m.Since},
		since:  m.Since,
		grants: m.Grants,
	}
}

// see takes in what the model does. If that is something else than before, see
// returns the span that has ended.
func (l *lane) see(m modelStatus, closed bool, now time.Time) (past span, ended bool) {
	state := laneOf(m, closed)
	served := m.Grants != l.grants
	l.grants = m.Grants
	restarted := !m.Since.Equal(l.since)
	switch {
	case state == laneServing:
		l.lull = time.Time{}
	case state == laneReady && served:
		state, l.lull = laneServing, now // Too short to be seen.
	case state == laneReady && l.State == laneServing && !restarted:
		if l.lull.IsZero() {
			l.lull = now
		}
		if now.Sub(l.lull) < lullsUnder {
			return past, false
		}
		now = l.lull
	}
	if state == l.State && !restarted {
		return past, false
	}
	if restarted && m.Since.After(l.From) {
		now = m.Since
	}
	past = l.end(now)
	past.Failed = m.LastError != "" && l.State.fails() && !state.works()
	if state != laneServing {
		l.lull = time.Time{}
	}
	l.span, l.since = span{Model: m.Model, State: state, From: now}, m.Since
	return past, true
}

// end returns l's span as one that ends now.
func (l *lane) end(now time.Time) span {
	past := l.span
	past.To = now
	return past
}

// laneOf returns what m does.
func laneOf(m modelStatus, closed bool) laneState {
	switch {
	case m.State == scheduler.StateStarting:
		return laneLoading
	case m.State == scheduler.StateStopping:
		return laneStopping
	case m.State != scheduler.StateReady:
		return laneStopped
	case closed:
		return laneClosed
	case m.InFlight > 0:
		return laneServing
	}
	return laneReady
}

// works reports whether a model that does s can serve.
func (s laneState) works() bool { return s == laneReady || s == laneServing || s == laneClosed }

// fails reports whether an error can end s.
func (s laneState) fails() bool { return s.works() || s == laneLoading }
