package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"example.com/scheduler"
)

const (
	// grace is how long a caller waits before it is told so: a short wait needs no
	// explanation, and can still get an ordinary error.
	grace = 300 * time.Millisecond
	// toldEvery is how often a caller is told how things are.
	toldEvery = time.Second
	// keptAlive is how often something is sent if nothing has changed, so that
	// proxies in between do not hang up.
	keptAlive = 15 * time.Second
)

// shownWait lets a person see that and why a request waits: a streamed chat answer
// begins at once, and tells it as reasoning, which the clients show already. Then
// the real stream follows. For any other request, or if it is not on, it does
// nothing, and the wait is a plain one.
type shownWait struct {
	front   *front
	w       http.ResponseWriter
	r       *http.Request
	model   string
	arrival time.Time
	on      bool
	found   *finder

	cancel  context.CancelFunc // ends the telling; nil: it has not begun
	told    sync.WaitGroup
	started bool // the stream has begun: no status or header can follow
	stream  *streamWriter
}

// start begins to tell, in the background. All of the body has come.
func (s *shownWait) start(ctx context.Context, positions <-chan int) {
	if !s.on || !s.found.streams || s.r.URL.Path != "/v1/chat/completions" {
		return
	}
	ctx, s.cancel = context.WithCancel(ctx)
	s.told.Go(func() { s.tell(ctx, positions) })
}

// stop ends the telling. A caller that does not read must not keep the model.
func (s *shownWait) stop() {
	if s.cancel != nil {
		s.cancel()
		http.NewResponseController(s.w).SetWriteDeadline(time.Now().Add(slowest))
		s.told.Wait()
	}
}

// slowest is how long a caller may take to be told how things are once that is over.
const slowest = 10 * time.Second

// tell tells the caller how things are until ctx ends.
func (s *shownWait) tell(ctx context.Context, positions <-chan int) {
	if !sleep(ctx, grace-time.Since(s.arrival)) {
		return
	}
	h := s.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	s.started = true
	position, last, sent := -1, "", time.Time{}
	for {
		select {
		case position = <-positions:
		default:
		}
		line := s.describe(s.front.shown.get(s.front.host.status), position)
		what, _, _ := strings.Cut(line, " (")
		switch {
		case what != last || time.Since(sent) >= 10*toldEvery:
			s.send(chunk(s.model, line+"\n"))
			last, sent = what, time.Now()
		case time.Since(sent) >= keptAlive:
			s.send(": still waiting\n\n")
			sent = time.Now()
		}
		if !sleep(ctx, toldEvery) {
			return
		}
	}
}

// sharedStatus is a status that all who wait share: asking the run loop for as many as
// there are of them, each second, would keep it from its work.
type sharedStatus struct {
	mu     sync.Mutex
	status status
}

// get returns a status that is no older than half of grace, so that whoever has waited
// for as long as grace is in it. Ask is how to get another.
func (s *sharedStatus) get(ask func() status) status {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.status.Time) > grace/2 {
		s.status = ask()
	}
	return s.status
}

// sleep sleeps for d, and reports false if ctx ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// describe says in a line what a request for the model waits for.
func (s *shownWait) describe(now status, position int) string {
	waited := fmt.Sprintf("%.0f s so far", time.Since(s.arrival).Seconds())
	for _, swap := range now.Scheduler.Swaps {
		if swap.Model == s.model && !swap.Abandoned {
			left := math.Max(0, math.Ceil((swap.Expected - swap.Age).Seconds()))
			return fmt.Sprintf("Loading %s (about %.0f s more, %s)", s.model, left, waited)
		}
	}
	// Many may wait, and each looks for itself: the list is in the order of positions.
	i, found := slices.BinarySearchFunc(now.Scheduler.Waiting, position, func(wait scheduler.WaitStatus, position int) int {
		return cmp.Compare(wait.Position, position)
	})
	if found && position > 0 && now.Scheduler.Waiting[i].Model == s.model {
		return fmt.Sprintf("Number %d in the queue: %s (%s)", position, reasonText(now.Scheduler.Waiting[i]), waited)
	}
	return fmt.Sprintf("Waiting for %s (%s)", s.model, waited)
}

// reasonText says why a request waits.
func reasonText(w scheduler.WaitStatus) string {
	on := strings.Join(w.On, ", ")
	switch w.Reason {
	case scheduler.WaitLoading:
		return on + " is being loaded"
	case scheduler.WaitPaused:
		return on + " is paused"
	case scheduler.WaitClosed:
		return "others have waited longer, for " + on
	case scheduler.WaitSlots:
		return on + " serves as many as it can"
	case scheduler.WaitBusy:
		return on + " is busy and has to finish first"
	case scheduler.WaitSwap:
		return "the load of " + on + " has to end first"
	case scheduler.WaitReserved:
		return "room is kept for " + on
	}
	return "waiting"
}

// chunk is a server-sent event of a chat answer that adds text to the reasoning.
func chunk(model, text string) string {
	delta := map[string]any{"role": "assistant", "reasoning_content": text}
	data, err := json.Marshal(map[string]any{
		"id": "wait", "object": "chat.completion.chunk", "created": time.Now().Unix(), "model": model,
		"choices": []any{map[string]any{"index": 0, "delta": delta, "finish_reason": nil}},
	})
	if err != nil {
		panic(err) // There is nothing in it but strings and numbers.
	}
	return "data: " + string(data) + "\n\n"
}

// send sends text at once.
func (s *shownWait) send(text string) {
	if _, err := s.w.Write([]byte(text)); err == nil {
		http.NewResponseController(s.w).Flush()
	}
}

// fail answers with an error, as an event if the stream has begun.
func (s *shownWait) fail(err error) {
	if !s.started {
		writeError(s.w, s.r, err)
		return
	}
	err = visitOf(s.r).body.cause(err)
	visitOf(s.r).reason = answerTo(err).reason
	s.send(errorEvent(s.r, err) + "data: [DONE]\n\n")
}

// writer is what the model's answer goes to. A stream that has begun without a coding
// goes on without one.
func (s *shownWait) writer() http.ResponseWriter {
	if !s.started {
		return s.w
	}
	s.r.Header.Set("Accept-Encoding", "identity")
	s.stream = &streamWriter{ResponseWriter: s.w, header: http.Header{}}
	return s.stream
}

// end completes an answer that was no stream.
func (s *shownWait) end() {
	if s.stream != nil && s.stream.other {
		s.fail(fmt.Errorf("%w: model %q answered with status %d: %s", errModelFailed, s.model, s.stream.status, s.stream.text))
	}
}

// streamWriter takes the model's answer once a stream has begun, whose headers
// cannot follow. If it is no stream, its text is kept for an error event.
type streamWriter struct {
	http.ResponseWriter
	header http.Header
	status int
	other  bool // the answer is no stream
	text   []byte
}

// Header is the header of the model's answer, which is not sent.
func (w *streamWriter) Header() http.Header { return w.header }

func (w *streamWriter) WriteHeader(status int) {
	if status < 200 || w.status != 0 {
		return
	}
	w.status = status
	w.other = status != http.StatusOK || !strings.HasPrefix(w.header.Get("Content-Type"), "text/event-stream") ||
		w.header.Get("Content-Encoding") != ""
}

func (w *streamWriter) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if w.other {
		w.text = append(w.text, p[:min(len(p), max(0, 4096-len(w.text)))]...)
		return len(p), nil
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap lets an http.ResponseController find the rest.
func (w *streamWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
