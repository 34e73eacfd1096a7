package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"example.com/scheduler"
)

// timeline records what the models do in a window of time, for a picture.
type timeline struct {
	from, to time.Duration
	lanes    []*lane
	grants   []grant
	every    time.Duration // the least time between two Snapshots, which are dear
	next     time.Duration // the time of the next
}

// lane is what is recorded of one model.
type lane struct {
	process *process
	moments []moment // in which something has changed
	reasons []waitReason
	longest wait
}

// moment is how a model is from a moment on.
type moment struct {
	at                time.Duration
	state             scheduler.ProcessState
	inFlight, waiting int
	closed            bool
}

// waitReason is why the requests of a model wait from a moment on. It is empty if none
// waits.
type waitReason struct {
	at     time.Duration
	reason scheduler.WaitReason
	on     string
}

// wait is the wait of one request.
type wait struct {
	from, to time.Duration
	end      end
}

// grant is a request that was served.
type grant struct {
	arrived, at time.Duration
	process     *process
}

// columns is how many moments of a picture can be told apart.
const columns = 820

// newTimeline returns a recorder for that window.
func newTimeline(from, to time.Duration) *timeline {
	return &timeline{from: from, to: to, every: (to - from) / columns}
}

// lane returns the lane of a model.
func (t *timeline) lane(p *process) *lane {
	i := slices.IndexFunc(t.lanes, func(l *lane) bool { return l.process == p })
	return t.lanes[i]
}

// look implements recorder.
func (t *timeline) look(h *host) {
	if t.lanes == nil {
		for _, p := range h.models {
			t.lanes = append(t.lanes, &lane{process: p})
		}
	}
	if h.now > t.to {
		return
	}
	if h.now >= t.next {
		t.next = h.now + t.every
		t.ask(h)
	}
	for _, l := range t.lanes {
		closed := len(l.moments) > 0 && l.moments[len(l.moments)-1].closed
		l.see(moment{h.now, l.process.state, l.process.inFlight, l.process.waiting, closed})
	}
}

// ask asks the scheduler which models are closed, and why requests wait.
func (t *timeline) ask(h *host) {
	snap := scheduler.Snapshot{}
	if h.waiting > 0 {
		snap = h.sched.Snapshot()
	}
	for _, l := range t.lanes {
		p := l.process
		closed := slices.ContainsFunc(snap.Models, func(s scheduler.ModelStatus) bool { return s.Closed && s.Model == p.name })
		l.see(moment{h.now, p.state, p.inFlight, p.waiting, closed})
		why := waitReason{at: h.now}
		if i := slices.IndexFunc(snap.Waiting, func(w scheduler.WaitStatus) bool { return w.Model == p.name }); i >= 0 {
			why.reason, why.on = snap.Waiting[i].Reason, strings.Join(snap.Waiting[i].On, ", ")
		}
		if n := len(l.reasons); n == 0 || l.reasons[n-1].reason != why.reason || l.reasons[n-1].on != why.on {
			l.reasons = append(l.reasons, why)
		}
	}
}

// see notes how the model is, if that has changed. Of the moments before one, only the
// last counts.
func (l *lane) see(m moment) {
	n := len(l.moments)
	if n > 0 {
		last := l.moments[n-1]
		if last.at == m.at {
			l.moments[n-1] = m
			return
		}
		if last.at = m.at; last == m {
			return
		}
	}
	l.moments = append(l.moments, m)
}

// answer implements recorder.
func (t *timeline) answer(h *host, c *caller, o end) {
	if t.lanes == nil {
		t.look(h)
	}
	w := wait{c.arrived, h.now, o}
	if w.to < t.from || w.from > t.to || o == refused {
		return
	}
	if l := t.lane(c.process); w.to-w.from > l.longest.to-l.longest.from {
		l.longest = w
	}
	if o == served {
		t.grants = append(t.grants, grant{w.from, w.to, c.process})
	}
}

// story says in words why the longest wait of a lane was so long.
func (t *timeline) story(l *lane) string {
	w := l.longest
	if w.to-w.from < time.Second {
		return "no request waited for a second"
	}
	text := "longest wait " + seconds((w.to - w.from).Seconds())
	if w.end == left {
		text += ", and then the caller left"
	}
	causes, late := l.causes(w, t.to), ""
	if len(causes) > 0 && causes[0].reason == scheduler.WaitBusy {
		if n := t.overtakers(w, causes[0].on); n > 0 {
			late = fmt.Sprintf(". %s later requests for %s went first", thousands(n), shorten(causes[0].on, 30))
		}
	}
	for i, c := range causes {
		more := []string{": ", ", "}[min(i, 1)] + c.say()
		if i > 0 && len(text)+len(more)+len(late) > storyWidth {
			break
		}
		text += more
	}
	return text + late
}

// storyWidth is how many characters fit below a lane.
const storyWidth = 125

// cause is a reason to wait, and for how long it was the reason.
type cause struct {
	waitReason
	lasted time.Duration
}

// causes returns the reasons for a wait, the one that lasted longest first. Nothing is
// known about the time after until.
func (l *lane) causes(w wait, until time.Duration) (all []cause) {
	for i, r := range l.reasons {
		end := until
		if i+1 < len(l.reasons) {
			end = l.reasons[i+1].at
		}
		lasted := min(end, w.to) - max(r.at, w.from)
		if lasted <= 0 || r.reason == "" {
			continue
		}
		r.at = 0
		j := slices.IndexFunc(all, func(c cause) bool { return c.waitReason == r })
		if j < 0 {
			all, j = append(all, cause{waitReason: r}), len(all)
		}
		all[j].lasted += lasted
	}
	slices.SortStableFunc(all, func(a, b cause) int { return cmp.Compare(b.lasted, a.lasted) })
	return all
}

// say says the cause in words, about the model that is waited for.
func (c *cause) say() string {
	on := shorten(c.on, 30)
	var text string
	switch c.reason {
	case scheduler.WaitLoading:
		text = "it was being loaded"
	case scheduler.WaitBusy:
		text = on + " was busy"
	case scheduler.WaitSlots:
		text = "its places were taken"
	case scheduler.WaitClosed:
		text = "it was closed in favour of " + on
	case scheduler.WaitReserved:
		text = on + " had a reservation"
	case scheduler.WaitSwap:
		text = on + " was being loaded"
	default:
		text = "it was " + string(c.reason)
	}
	return text + " for " + seconds(c.lasted.Seconds())
}

// overtakers returns how many requests for the models in on came later than a request
// that waits, and were served earlier.
func (t *timeline) overtakers(w wait, on string) (n int) {
	models := strings.Split(on, ", ")
	for _, g := range t.grants {
		if g.arrived > w.from && g.at < w.to && slices.Contains(models, g.process.name) {
			n++
		}
	}
	return n
}
