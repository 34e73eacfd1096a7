package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"example.com/scheduler"
	"example.com/scheduler/examples/internal/config"
)

// apiPaths are the paths whose request names a model: in its JSON body, its form,
// or its query.
var apiPaths = []string{
	"POST /v1/chat/completions",
	"POST /v1/completions",
	"POST /v1/responses",
	"POST /v1/embeddings",
	"POST /v1/rerank",
	"POST /v1/reranking",
	"POST /v1/moderations",
	"POST /v1/messages",
	"POST /v1/messages/count_tokens",
	"POST /v1/audio/speech",
	"POST /v1/audio/transcriptions",
	"POST /v1/audio/translations",
	"GET /v1/audio/voices",
	"POST /v1/images/generations",
	"POST /v1/images/edits",
	"POST /v1/images/variations",
	"POST /rerank",
	"POST /reranking",
	"POST /completion",
	"POST /infill",
}

// front is the proxy as its callers see it.
type front struct {
	host   *host
	log    *slog.Logger
	access *access
	held   budget
	shown  sharedStatus
	mux    *http.ServeMux

	stalled time.Duration // how long a client may neither send nor read
}

// newFront makes the front of h, which listens on address.
func newFront(h *host, address net.Addr, log *slog.Logger) http.Handler {
	f := &front{host: h, log: log, access: newAccess(address), mux: http.NewServeMux(), stalled: time.Minute}
	newAdmin(h, f.held.held.Load).routes(f.mux)
	for _, path := range apiPaths {
		f.mux.HandleFunc(path, f.api)
	}
	f.mux.HandleFunc("GET /v1/models", f.models)
	f.mux.HandleFunc("GET /v1/models/{model...}", f.model)
	for _, path := range []string{"GET /health", "GET /ready"} {
		f.mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "ok") })
	}
	return f
}

// newServer makes the server. Nothing bounds how long an answer may take, since a
// stream may go on for hours; see reply and body for how long it may pause.
func newServer(handler http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// ServeHTTP implements http.Handler. It counts and logs how it went.
func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v, r := newVisit(w, r)
	v.body = f.newBody(w, r, f.host.config())
	reply := &reply{ResponseWriter: w, body: v.body, stalled: f.stalled}
	v.ResponseWriter = reply
	returned := false
	defer func() {
		reply.end()
		v.end(returned)
		f.host.metrics.count(v)
		v.log(f.log)
	}()
	f.admit(v, r)
	returned = true
}

// admit answers r: who may, and then where to.
func (f *front) admit(w http.ResponseWriter, r *http.Request) {
	cfg := f.host.config()
	if share(cfg, w, r) {
		return
	}
	if (r.URL.Path == "/health" || r.URL.Path == "/ready") && r.Method == http.MethodGet {
		f.mux.ServeHTTP(w, r)
		return
	}
	key, err := f.access.check(cfg, r)
	if err != nil {
		writeError(w, r, err)
		return
	}
	if key != nil {
		keyed, end := f.host.keys.begin(key, r)
		defer end()
		r = keyed
	}
	visitOf(r).key = key
	f.route(w, r)
}

// route passes r on to the handler of its path. If there is none the mux would say so
// in plain text, and the path of an upstream it would clean.
func (f *front) route(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(rawPath(r.URL), "/upstream/") {
		f.upstream(w, r)
		return
	}
	if _, pattern := f.mux.Handler(r); pattern != "" {
		f.mux.ServeHTTP(w, r)
		return
	}
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost} {
		other := &http.Request{Method: method, URL: r.URL, Host: r.Host}
		if _, pattern := f.mux.Handler(other); pattern != "" {
			allowed = append(allowed, method)
		}
	}
	if allowed == nil {
		writeError(w, r, fmt.Errorf("%w: %q", errNoPath, config.Shorten(r.URL.Path)))
		return
	}
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	writeError(w, r, fmt.Errorf("%w: %s", errMethod, w.Header().Get("Allow")))
}

// api serves a request that names its model in itself.
func (f *front) api(w http.ResponseWriter, r *http.Request) {
	cfg := f.host.config()
	if r.ContentLength > int64(cfg.MaxBody) {
		writeError(w, r, &http.MaxBytesError{Limit: int64(cfg.MaxBody)})
		return
	}
	b := visitOf(r).body
	heard := context.AfterFunc(f.host.open, func() { b.refuse(scheduler.ErrShutdown) })
	found, err := findModel(r, b)
	heard()
	if err != nil {
		writeError(w, r, err)
		return
	}
	visitOf(r).model = found.name
	model, ok := cfg.Resolve(found.name)
	if !ok {
		writeError(w, r, fmt.Errorf("%w: %q", scheduler.ErrModelNotFound, found.name))
		return
	}
	if name := cfg.Models[model].UseModelName; name != "" {
		found.rename(r, b, name)
	}
	f.serve(w, r, cfg, model, found)
}

// upstream serves /upstream/MODEL/…, which is passed on as it is, without its
// beginning. That may be a websocket.
func (f *front) upstream(w http.ResponseWriter, r *http.Request) {
	cfg := f.host.config()
	model, rest, err := splitUpstream(cfg, rawPath(r.URL))
	if err != nil {
		writeError(w, r, err)
		return
	}
	to := *r.URL
	to.RawPath = rest
	to.Path, _ = url.PathUnescape(rest) // It has been tried.
	r.URL = &to
	f.serve(w, r, cfg, model, &finder{})
}

// rawPath returns the path of u, which has been parsed, as it was written.
func rawPath(u *url.URL) string { return cmp.Or(u.RawPath, u.EscapedPath()) }

// serve waits until the model may serve r, and lets it. Found is what is known of the
// body.
func (f *front) serve(w http.ResponseWriter, r *http.Request, cfg *config.Config, model string, found *finder) {
	visit := visitOf(r)
	visit.model = model
	priority, err := priority(r, visit.key, cfg.Models[model])
	if err != nil {
		writeError(w, r, err)
		return
	}
	if isPassive(cfg.Models[model], r) {
		visit.passive = true
		f.host.passive(w, r, model)
		return
	}
	arrival := time.Now()
	ctx, cancel := context.WithTimeoutCause(r.Context(), cfg.Models[model].QueueTimeout.Bound(), errQueueTimeout)
	defer cancel()
	shown := &shownWait{front: f, w: w, r: r, model: model, arrival: arrival, on: cfg.Models[model].SendLoadingState, found: found}
	resp := f.wait(ctx, model, priority, visit.body, shown)
	cancel()
	visit.waited = time.Since(arrival)
	if resp.Err != nil {
		shown.fail(resp.Err)
		return
	}
	visit.grant()
	visit.body.pass()
	defer shown.end()
	resp.HandleFunc(shown.writer(), r)
}

// wait waits for the scheduler's answer. If that takes time the body is read
// meanwhile, and shown tells the caller how things are.
//
// This goroutine is always ready to receive the answer, or its ctx has ended: the
// run loop waits for one of the two. So it reads no body and writes to nobody who
// could keep it; shown has a goroutine for that.
func (f *front) wait(ctx context.Context, model string, priority int, b *body, shown *shownWait) scheduler.HandlerResp {
	t := f.host.request(ctx, model, priority)
	queued := t.queued
	var held <-chan error
	for {
		select {
		case resp := <-t.req.Respond:
			shown.stop()
			return resp
		case <-queued:
			queued = nil
			held = b.hold()
		case err := <-held:
			if err != nil {
				return f.leave(t, shown, err)
			}
			shown.start(ctx, t.req.PositionCh)
		case <-ctx.Done():
			return f.leave(t, shown, context.Cause(ctx))
		}
	}
}

// leave takes back a request that gives up. If the answer comes at this moment, it
// is given back.
func (f *front) leave(t *ticket, shown *shownWait, err error) scheduler.HandlerResp {
	left := make(chan struct{})
	go func() {
		defer close(left)
		f.host.leave(t)
	}()
	for {
		select {
		case resp := <-t.req.Respond:
			if resp.Err == nil {
				resp.HandleFunc(nil, nil)
			}
		case <-left:
			shown.stop()
			return scheduler.HandlerResp{Err: err}
		}
	}
}

// readerFunc is a function that is an io.Reader.
type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// modelEntry is a model in the answer of /v1/models.
type modelEntry struct {
	ID          string   `json:"id"`
	Object      string   `json:"object"`
	Created     int64    `json:"created"`
	OwnedBy     string   `json:"owned_by"`
	Description string   `json:"description,omitempty"`
	Aliases     []string `json:"aliases,omitempty"`
}

// entryOf describes a model of cfg.
func entryOf(cfg *config.Config, name string) modelEntry {
	m := cfg.Models[name]
	return modelEntry{ID: name, Object: "model", OwnedBy: "proxy", Description: m.Description, Aliases: m.Aliases}
}

// models answers with the models that there are. Aliases are told with the model
// that they stand for, so that a client's list of models has each of them once.
func (f *front) models(w http.ResponseWriter, r *http.Request) {
	cfg := f.host.config()
	list := []modelEntry{}
	for name, m := range cfg.Models {
		if !m.Unlisted {
			list = append(list, entryOf(cfg, name))
		}
	}
	slices.SortFunc(list, func(a, b modelEntry) int { return strings.Compare(a.ID, b.ID) })
	writeJSON(w, map[string]any{"object": "list", "data": list})
}

// model answers with one model, which may be unlisted.
func (f *front) model(w http.ResponseWriter, r *http.Request) {
	cfg := f.host.config()
	name, ok := cfg.Resolve(r.PathValue("model"))
	if !ok {
		writeError(w, r, fmt.Errorf("%w: %q", scheduler.ErrModelNotFound, r.PathValue("model")))
		return
	}
	writeJSON(w, entryOf(cfg, name))
}
