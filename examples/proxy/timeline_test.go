package main

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/scheduler"
)

// history tells the spans of a scene in seconds since its beginning, with an end
// that is open or a failure marked.
func (s *scene) history(begin time.Time) string {
	f, _, _, _ := s.timeline.frame(-1)
	var lines []string
	for _, sp := range append(f.Past, f.Open...) {
		line := fmt.Sprintf("%s %s %v-", sp.Model, sp.State, sp.From.Sub(begin).Seconds())
		if !sp.To.IsZero() {
			line += fmt.Sprint(sp.To.Sub(begin).Seconds())
		}
		if sp.Failed {
			line += " failed"
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, ", ")
}

func TestLanes(t *testing.T) {
	const starting, ready, stopping, stopped = scheduler.StateStarting, scheduler.StateReady, scheduler.StateStopping, scheduler.StateStopped
	second := time.Second
	tests := []struct {
		name string
		tell func(s *scene)
		want string
	}{
		{"from load to stop", func(s *scene) {
			s.after(second, s.is(0, starting)).after(2*second, s.is(0, ready)).
				after(3*second, s.is(0, stopping)).after(second, s.is(0, stopped)).after(second)
		}, "a loading 1-3, a ready 3-6, a stopping 6-7, a stopped 7-"},
		{"serving and closed", func(s *scene) {
			s.after(0, s.is(0, ready)).after(second, s.serves(0, 2)).after(second, s.serves(0, 1)).
				after(second, s.closes(0, true)).after(second, s.serves(0, 0), s.closes(0, false)).after(2 * second)
		}, "a ready 0-1, a serving 1-3, a closed 3-4, a ready 4-"},
		{"a lull is not shown", func(s *scene) {
			s.after(0, s.is(0, ready)).after(second, s.serves(0, 1)).
				after(second, s.serves(0, 0)).after(second/2, s.serves(0, 1)).after(second, s.serves(0, 0)).after(second / 2)
		}, "a ready 0-1, a serving 1-"},
		{"the end of serving is when it ended", func(s *scene) {
			s.after(0, s.is(0, ready)).after(second, s.serves(0, 1)).
				after(second, s.serves(0, 0)).after(second / 2).after(second)
		}, "a ready 0-1, a serving 1-2, a ready 2-"},
		{"stopped during a lull", func(s *scene) {
			s.after(0, s.is(0, ready)).after(second, s.serves(0, 1)).
				after(second, s.serves(0, 0)).after(second/2, s.is(0, stopping))
		}, "a ready 0-1, a serving 1-2.5, a stopping 2.5-"},
		{"a request between two looks", func(s *scene) {
			s.after(0, s.is(0, ready)).after(second, s.serves(0, 1), s.serves(0, 0)).after(second / 2).after(second)
		}, "a ready 0-1, a serving 1-1, a ready 1-"},
		{"a failed load", func(s *scene) {
			s.after(second, s.is(0, starting)).after(second, s.is(0, stopped), s.fails(0, "no")).after(second)
		}, "a loading 1-2 failed, a stopped 2-"},
		{"a crash, and the next load is not to blame", func(s *scene) {
			s.after(0, s.is(0, ready)).after(second, s.is(0, starting), s.fails(0, "died")).
				after(second, s.is(0, ready), s.fails(0, ""))
		}, "a ready 0-1 failed, a loading 1-2, a ready 2-"},
		{"an old error", func(s *scene) {
			s.after(0, s.fails(0, "no")).after(second, s.is(0, starting)).after(second, s.is(0, ready))
		}, "a loading 1-2, a ready 2-"},
		{"stopping is not what fails", func(s *scene) {
			s.after(0, s.is(0, stopping), s.fails(0, "does not stop")).after(second, s.is(0, stopped))
		}, "a stopping 0-1, a stopped 1-"},
		{"restarted between two looks", func(s *scene) {
			s.after(0, s.is(0, ready)).after(second, s.is(0, ready)).after(second)
		}, "a ready 0-1, a ready 1-"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			begin := time.Now()
			s := newScene(begin, modelStatus{Model: "a"})
			tt.tell(s)
			if got := s.history(begin); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

// A model that a reload has removed ends its lane.
func TestLaneOfRemovedModel(t *testing.T) {
	begin := time.Now()
	s := newScene(begin, modelStatus{Model: "a"}, modelStatus{Model: "b"})
	s.after(0, s.is(0, scheduler.StateReady)).after(time.Second, func() {
		s.status.Models = s.status.Models[1:]
	})
	if got, want := s.history(begin), "a ready 0-1, b stopped 0-"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if len(s.timeline.lanes) != 1 {
		t.Errorf("%d lanes are left", len(s.timeline.lanes))
	}
}

// Watchers see every span once, whatever their pace.
func TestTimelineFrames(t *testing.T) {
	s := newScene(time.Now(), modelStatus{Model: "a"})
	flip := func(n int) {
		for i := range n {
			s.after(2*time.Second, s.is(0, []scheduler.ProcessState{scheduler.StateStarting, scheduler.StateReady}[i%2]))
		}
	}
	if _, _, _, ok := newTimeline(nil).frame(-1); ok {
		t.Error("a frame before the first look")
	}
	first, seen, _, _ := s.timeline.frame(-1)
	if !first.Reset || len(first.Past) != 0 || len(first.Open) != 1 {
		t.Errorf("the first frame is %+v", first)
	}
	_, _, changed, _ := s.timeline.frame(seen)
	flip(10)
	<-changed
	second, seen, _, _ := s.timeline.frame(seen)
	third, seen, changed, _ := s.timeline.frame(seen)
	if len(second.Past) != 9 || len(third.Past) != 0 || second.Reset {
		t.Errorf("%d spans and then %d, want 9 and 0", len(second.Past), len(third.Past))
	}
	select {
	case <-changed:
		t.Error("a change that nobody has made")
	default:
	}

	flip(3 * historySize)
	late, _, _, _ := s.timeline.frame(seen)
	again, _, _, _ := s.timeline.frame(-1)
	if len(s.timeline.past) > historySize || len(late.Past) != len(again.Past) || len(late.Past) == 0 {
		t.Errorf("of %d spans a late watcher gets %d, a new one %d", len(s.timeline.past), len(late.Past), len(again.Past))
	}
	if oldest := late.Past[0].To; s.at.Sub(oldest) > historyAge {
		t.Errorf("the oldest span ended %v ago", s.at.Sub(oldest))
	}
}

// A frame has the first of a long queue.
func TestTimelineCutsTheQueue(t *testing.T) {
	s := newScene(time.Now(), modelStatus{Model: "a"})
	s.after(0, func() { s.status.Scheduler.Waiting = make([]scheduler.WaitStatus, 10_000) })
	f, _, _, _ := s.timeline.frame(-1)
	if f.Waiting != 10_000 || len(f.Status.Scheduler.Waiting) != queueShown {
		t.Errorf("%d waiting, %d of them told", f.Waiting, len(f.Status.Scheduler.Waiting))
	}
	if len(s.timeline.now.Scheduler.Waiting) != 10_000 {
		t.Error("the timeline itself was cut")
	}
}

// The last of many changes is seen, and the looks do not become many.
func TestTimelineLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newQuietPlay(t, "alpha")
		looks := 0
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				_, _, changed, _ := p.admin.timeline.frame(-1)
				select {
				case <-changed:
					looks++
				case <-p.host.ended:
					return
				}
			}
		}()
		p.ready("alpha")
		for range 1000 {
			p.request(t, "alpha")()
			time.Sleep(time.Millisecond)
		}
		p.request(t, "alpha")()
		time.Sleep(2 * lookEvery)
		f, _, _, _ := p.admin.timeline.frame(-1)
		if got := f.Status.Models[0].Grants; got != 1001 {
			t.Errorf("%d grants were seen", got)
		}
		p.host.shutdown(t.Context())
		<-done
		if looks > 20 {
			t.Errorf("%d looks in 1.2 s", looks)
		}
	})
}
