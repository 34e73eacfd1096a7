package main

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"example.com/scheduler"
)

// scene is a story for the status page: two minutes in which everything happens
// that it can show. It is told in no time, by a timeline without a host.
type scene struct {
	at       time.Time
	status   status
	timeline *timeline
}

// stage opens a status page that shows s, and returns its address.
func (s *scene) stage(t *testing.T) string {
	a := &admin{host: &host{ended: make(chan struct{})}, timeline: s.timeline, held: func() int64 { return 0 }}
	mux := http.NewServeMux()
	a.routes(mux)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(a.host.ended) })
	go func() { // A page that hears nothing for a while takes the connection for lost.
		for {
			select {
			case <-time.After(lookAtLeast):
				s.timeline.changes.change()
			case <-a.host.ended:
				return
			}
		}
	}()
	return server.URL
}

// newScene begins at a time, with every model stopped.
func newScene(at time.Time, models ...modelStatus) *scene {
	s := &scene{at: at, timeline: newTimeline(nil)}
	for _, m := range models {
		m.State, m.Since = scheduler.StateStopped, at
		s.status.Models = append(s.status.Models, m)
		s.status.Scheduler.Models = append(s.status.Scheduler.Models, scheduler.ModelStatus{Model: m.Model})
	}
	s.after(0)
	return s
}

// after lets a time pass, in which nothing changes but what change does at its end.
func (s *scene) after(d time.Duration, change ...func()) *scene {
	s.at = s.at.Add(d)
	for _, c := range change {
		c()
	}
	s.status.Time = s.at
	told := s.status
	told.Models = append([]modelStatus{}, s.status.Models...)
	told.Scheduler.Models = append([]scheduler.ModelStatus{}, s.status.Scheduler.Models...)
	told.Scheduler.Swaps = append([]scheduler.SwapStatus{}, s.status.Scheduler.Swaps...)
	told.Scheduler.Waiting = append([]scheduler.WaitStatus{}, s.status.Scheduler.Waiting...)
	told.Scheduler.Reserved = append([]scheduler.Reservation{}, s.status.Scheduler.Reserved...)
	s.timeline.see(told)
	return s
}

// is puts a model into a state.
func (s *scene) is(model int, state scheduler.ProcessState) func() {
	return func() { s.status.Models[model].State, s.status.Models[model].Since = state, s.at }
}

// serves gives a model so many requests in flight.
func (s *scene) serves(model, n int) func() {
	return func() {
		m := &s.status.Models[model]
		m.Grants += uint64(max(0, n-m.InFlight))
		m.InFlight, s.status.Scheduler.Models[model].InFlight = n, n
	}
}

// fails gives a model an error.
func (s *scene) fails(model int, err string) func() {
	return func() { s.status.Models[model].LastError = err }
}

// closes closes or opens a model.
func (s *scene) closes(model int, closed bool) func() {
	return func() { s.status.Scheduler.Models[model].Closed = closed }
}

// everything is a scene of every state that a lane can be in, up to now. The models
// may be given other names.
func everything(now time.Time, names ...string) *scene {
	const (
		llama = iota
		qwen
		embed
		whisper
		flux
	)
	if names == nil {
		names = []string{"llama-3.3-70b", "qwen-2.5-coder", "nomic-embed", "whisper-large", "flux-schnell"}
	}
	s := newScene(now.Add(-120*time.Second),
		modelStatus{Model: names[llama], Description: "Chat, 40 GB"},
		modelStatus{Model: names[qwen], Description: "Code, 20 GB"},
		modelStatus{Model: names[embed]},
		modelStatus{Model: names[whisper]},
		modelStatus{Model: names[flux]},
	)
	starting, ready, stopping, stopped := scheduler.StateStarting, scheduler.StateReady, scheduler.StateStopping, scheduler.StateStopped
	s.after(2*time.Second, s.is(embed, starting)).
		after(3*time.Second, s.is(embed, ready)).
		after(2*time.Second, s.is(llama, starting)).
		after(11*time.Second, s.is(llama, ready), s.serves(llama, 3), s.serves(embed, 1)).
		after(6*time.Second, s.serves(embed, 0)).
		after(14*time.Second, s.serves(llama, 0), s.serves(embed, 2)).
		after(5*time.Second, s.is(llama, stopping)).
		after(2*time.Second, s.is(llama, stopped), s.is(qwen, starting), s.serves(embed, 0)).
		after(9*time.Second, s.is(qwen, ready), s.serves(qwen, 2), s.is(whisper, starting)).
		after(8*time.Second, s.is(whisper, stopped), s.fails(whisper,
			"exit status 1 before it was ready; its last lines:\nerror: out of memory: tried to allocate 3094 MiB")).
		after(10*time.Second, s.serves(embed, 4)).
		after(10*time.Second, s.closes(qwen, true)).
		after(10*time.Second, s.serves(qwen, 0), s.closes(qwen, false), s.is(qwen, stopping), s.serves(embed, 0)).
		after(2*time.Second, s.is(qwen, stopped), s.is(llama, starting), s.serves(embed, 1)).
		after(11*time.Second, s.is(llama, ready), s.serves(llama, 4), s.serves(embed, 1)).
		after(7*time.Second, s.closes(llama, true), s.is(flux, starting))

	return s.after(now.Sub(s.at), func() {
		s.status.Models[llama].Grants, s.status.Models[qwen].Grants, s.status.Models[embed].Grants = 318, 97, 1204
		snap := &s.status.Scheduler
		snap.Models[llama].Load, snap.Models[qwen].Load, snap.Models[embed].Load = 11*time.Second, 9*time.Second, 3*time.Second
		snap.Models[flux].Load, snap.Models[whisper].CoolingDown = 21*time.Second, 18*time.Second
		snap.Models[qwen].Waiting, snap.Models[flux].Waiting, snap.Models[llama].Waiting = 3, 1, 1
		snap.Swaps = []scheduler.SwapStatus{{
			Model: names[flux], Evict: []string{}, Age: s.at.Sub(s.status.Models[flux].Since), Expected: 21 * time.Second, Waiting: 1,
		}}
		snap.Reserved = []scheduler.Reservation{{Model: names[qwen], Plan: []string{names[llama]}}}
		busy, holder := []string{names[llama]}, []string{names[qwen]}
		snap.Waiting = []scheduler.WaitStatus{
			{Model: names[flux], Age: 8 * time.Second, Reason: scheduler.WaitLoading, On: []string{names[flux]}},
			{Model: names[qwen], Priority: 5, Position: 1, Age: 48 * time.Second, Overdue: true, Reason: scheduler.WaitBusy, On: busy},
			{Model: names[qwen], Position: 2, Age: 12 * time.Second, Reason: scheduler.WaitBusy, On: busy},
			{Model: names[llama], Position: 3, Age: 4 * time.Second, Reason: scheduler.WaitClosed, On: holder},
			{Model: names[qwen], Position: 4, Age: 2 * time.Second, Reason: scheduler.WaitBusy, On: busy},
		}
		s.status.Pools = []poolStatus{
			{Pool: "gpu0", Capacity: 48 << 30, Used: 42 << 30, Models: []poolUse{{names[llama], 40 << 30}, {names[embed], 2 << 30}}},
			{Pool: "gpu1", Capacity: 24 << 30, Used: 47 << 28, Models: []poolUse{{names[flux], 47 << 28}}},
			{Pool: "loads", Capacity: 1, Used: 1, Models: []poolUse{{names[flux], 1}}},
		}
		snap.Counters = scheduler.Counters{
			Requests: 1652, Granted: 1619, Failed: 4, Refused: 21, Cancelled: 3, Swaps: 7, SwapsFailed: 1, Evictions: 2,
		}
	})
}
