package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"example.com/scheduler"
)

// admin is what an operator sees and does: everything but the models' own paths.
type admin struct {
	host     *host
	timeline *timeline
	held     func() int64 // size of the bodies held for waiting requests
}

// newAdmin makes the admin of a host, and starts what it needs. That ends with the
// host.
func newAdmin(h *host, held func() int64) *admin {
	a := &admin{host: h, timeline: newTimeline(h), held: held}
	go a.timeline.run()
	return a
}

// routes registers the paths.
func (a *admin) routes(mux *http.ServeMux) {
	mux.HandleFunc("GET /{$}", servePage)
	mux.HandleFunc("GET /events", a.events)
	mux.HandleFunc("GET /status", a.status)
	mux.HandleFunc("GET /running", a.running)
	mux.HandleFunc("GET /metrics", a.metrics)
	mux.HandleFunc("GET /logs", a.logs)
	mux.HandleFunc("POST /load", a.load)
	mux.HandleFunc("POST /unload", a.unload)
	mux.HandleFunc("POST /pause", func(w http.ResponseWriter, r *http.Request) { a.pause(w, r, true) })
	mux.HandleFunc("POST /resume", func(w http.ResponseWriter, r *http.Request) { a.pause(w, r, false) })
}

// status answers with all that the host knows.
func (a *admin) status(w http.ResponseWriter, r *http.Request) {
	if s, ok := a.ask(w, r); ok {
		writeJSON(w, s)
	}
}

// runningModel is a model in the answer of running.
type runningModel struct {
	Model string                 `json:"model"`
	State scheduler.ProcessState `json:"state"`
	URL   string                 `json:"url,omitempty"`
}

// running answers with the models that run.
func (a *admin) running(w http.ResponseWriter, r *http.Request) {
	s, ok := a.ask(w, r)
	if !ok {
		return
	}
	running := []runningModel{}
	for _, m := range s.Models {
		if m.State != scheduler.StateStopped && m.State != scheduler.StateShutdown {
			running = append(running, runningModel{Model: m.Model, State: m.State, URL: m.URL})
		}
	}
	writeJSON(w, map[string]any{"running": running})
}

// metrics answers with what Prometheus collects.
func (a *admin) metrics(w http.ResponseWriter, r *http.Request) {
	if s, ok := a.ask(w, r); ok {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		w.Write(a.host.metrics.text(s, a.held()))
	}
}

// ask returns the status of the host. If that has ended, ask answers for it.
func (a *admin) ask(w http.ResponseWriter, r *http.Request) (s status, ok bool) {
	s = a.host.status()
	if s.Time.IsZero() {
		writeError(w, r, scheduler.ErrShutdown)
		return s, false
	}
	return s, true
}

// load loads the model that is named and answers once it is ready.
func (a *admin) load(w http.ResponseWriter, r *http.Request) {
	names, err := a.named(r)
	if err == nil && len(names) != 1 {
		err = badRequest("name one model: ?model=NAME")
	}
	if err == nil {
		err = a.host.load(r.Context(), names[0])
	}
	if err != nil {
		writeError(w, r, err)
		return
	}
	writeJSON(w, map[string]any{"model": names[0], "state": scheduler.StateReady})
}

// unload unloads the models that are named, all of them if none is, and answers
// once they are gone. With drain what is in flight finishes first.
func (a *admin) unload(w http.ResponseWriter, r *http.Request) {
	names, err := a.named(r, "drain")
	if err == nil {
		unload := a.host.unload
		if on(r, "drain") {
			unload = a.host.drain
		}
		err = unload(r.Context(), names...)
	}
	if err != nil {
		writeError(w, r, err)
		return
	}
	if len(names) == 0 {
		writeJSON(w, map[string]any{"unloaded": "all"})
		return
	}
	writeJSON(w, map[string]any{"unloaded": names})
}

// pause pauses the models that are named, or resumes them.
func (a *admin) pause(w http.ResponseWriter, r *http.Request, paused bool) {
	names, err := a.named(r)
	if err == nil && len(names) == 0 {
		err = badRequest("name the models: ?model=NAME")
	}
	if err == nil {
		err = a.host.pause(paused, names...)
	}
	if err != nil {
		writeError(w, r, err)
		return
	}
	writeJSON(w, map[string]any{"models": names, "paused": paused})
}

// on reports whether the query of r, which named has checked, sets a flag.
func on(r *http.Request, flag string) bool { return r.URL.Query().Get(flag) == "1" }

// named returns the models that the query of r names, without duplicates, and checks
// the rest of it: flags may be 0 or 1. It is strict: a slip of the pen must not unload
// everything.
func (a *admin) named(r *http.Request, flags ...string) ([]string, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, badRequest("query: " + err.Error())
	}
	if r.ContentLength != 0 {
		return nil, badRequest("models are named in the query, ?model=NAME, not in a body")
	}
	for name, values := range query {
		switch {
		case name == "model":
		case !slices.Contains(flags, name):
			return nil, badRequest("query: unknown parameter " + name)
		case len(values) > 1 || values[0] != "0" && values[0] != "1":
			return nil, badRequest("query: " + name + " must be 0 or 1, once")
		}
	}
	var models []string
	for _, name := range query["model"] {
		if name == "" {
			return nil, badRequest("query: model is empty")
		}
		if model, ok := a.host.config().Resolve(name); ok {
			name = model // Otherwise it may be one that a reload has removed.
		}
		if !slices.Contains(models, name) {
			models = append(models, name)
		}
	}
	if r.Method == http.MethodPost {
		visitOf(r).model = strings.Join(models, ",")
	}
	return models, nil
}

// logs answers with what a model has printed, and with what it prints from now on
// if ?follow=1.
func (a *admin) logs(w http.ResponseWriter, r *http.Request) {
	names, err := a.named(r, "follow")
	if err == nil && len(names) != 1 {
		err = badRequest("name one model: ?model=NAME")
	}
	if err != nil {
		writeError(w, r, err)
		return
	}
	out := a.host.output(names[0])
	if out == nil {
		writeError(w, r, fmt.Errorf("%w: %q", scheduler.ErrModelNotFound, names[0]))
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff") // Or a browser waits for more to guess by.
	w.Header().Set("Cache-Control", "no-store")
	if !on(r, "follow") {
		for _, line := range out.lines() {
			io.WriteString(w, line+"\n")
		}
		return
	}
	s, end := a.stream(w, r)
	defer end()
	s.send("")
	for line := range out.follow(s.ctx) {
		if !s.send(line + "\n") {
			return
		}
	}
}

// events tells a watcher what is going on until it leaves, as server-sent events.
func (a *admin) events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no")
	s, end := a.stream(w, r)
	defer end()
	ok := s.send("retry: 1000\n\n")
	for seen := -1; ok; {
		f, next, changed, looked := a.timeline.frame(seen)
		if looked {
			text, err := json.Marshal(f)
			if err != nil || !s.send("data: "+string(text)+"\n\n") {
				return
			}
			seen = next
		}
		select {
		case <-changed:
		case <-s.ctx.Done():
			return
		}
	}
}

// stream is an answer that goes on until its caller leaves or the host ends.
type stream struct {
	ctx     context.Context
	w       http.ResponseWriter
	control *http.ResponseController
}

// stream begins one. End has to be called.
func (a *admin) stream(w http.ResponseWriter, r *http.Request) (s *stream, end func()) {
	ctx, cancel := context.WithCancel(r.Context())
	s = &stream{ctx: ctx, w: w, control: http.NewResponseController(w)}
	go func() {
		select {
		case <-a.host.ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	return s, cancel
}

// send sends text at once. It is false if that cannot be done.
func (s *stream) send(text string) bool {
	if _, err := io.WriteString(s.w, text); err != nil {
		return false
	}
	return s.control.Flush() == nil
}

// writeJSON answers with v.
func writeJSON(w http.ResponseWriter, v any) {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Write(append(text, '\n'))
}
