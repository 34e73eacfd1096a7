package main

import (
	"bufio"
	"cmp"
	"context"
	"crypto/rand"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"example.com/scheduler/examples/internal/config"
)

// visit is one request, from its arrival to the end of its answer: what the access log
// and the metrics tell of it. It is the ResponseWriter of its request, so whatever
// answers is counted, and once.
type visit struct {
	http.ResponseWriter
	request *http.Request // as it came
	id      string
	arrival time.Time
	lease   string        // of leaseHeader, which it came with
	key     *config.Key   // that it came with; nil: none is needed, or none was right
	body    *body         // of the request; nil: nobody watches it
	model   string        // as far as it is known
	reason  string        // why it was not served, or not to its end; "": it was
	passive bool          // it only looks at a model that happens to be ready
	granted bool          // a model has served it, with a lease
	waited  time.Duration // for that, or for a refusal
	first   time.Duration // from arrival to the first byte of the answer's body; 0: none
	took    time.Duration // from arrival to the end
	status  int           // 0: nothing has been sent
	bytes   int64         // of the body
	failed  bool          // the caller does not take the answer
}

// What the access log and the metrics call a caller that left before the end.
const (
	leftStatus = 499 // No HTTP status is that; nginx began it.
	leftReason = "left"
)

// visitKey is the key of a request's visit in its context.
type visitKey struct{}

// newVisit makes the visit of r, which w answers, and returns r with it. The request gets
// an id if it has none that is fit to be passed on: to the model, to the caller and to
// the log.
func newVisit(w http.ResponseWriter, r *http.Request) (*visit, *http.Request) {
	v := &visit{ResponseWriter: w, request: r, arrival: time.Now(), id: r.Header.Get("X-Request-Id")}
	if !sane(v.id) {
		v.id = rand.Text()
	}
	v.lease = r.Header.Get(leaseHeader)
	r.Header.Del(leaseHeader)
	r.Header.Set("X-Request-Id", v.id)
	w.Header().Set("X-Request-Id", v.id)
	return v, r.WithContext(context.WithValue(r.Context(), visitKey{}, v))
}

// visitOf returns the visit of r, one that nobody looks at if it has none.
func visitOf(r *http.Request) *visit {
	if v, ok := r.Context().Value(visitKey{}).(*visit); ok {
		return v
	}
	return new(visit)
}

// sane reports whether an id is short and holds nothing that means something elsewhere.
func sane(id string) bool {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:/+="
	return id != "" && len(id) <= 128 && strings.Trim(id, letters) == ""
}

// grant notes that a model serves the request. What has been sent before was about the
// waiting.
func (v *visit) grant() { v.granted, v.first = true, 0 }

// WriteHeader implements http.ResponseWriter.
func (v *visit) WriteHeader(status int) {
	if status >= 200 && v.status == 0 {
		v.status = status
	}
	v.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (v *visit) Write(p []byte) (int, error) {
	if v.status == 0 {
		v.WriteHeader(http.StatusOK)
	}
	n, err := v.ResponseWriter.Write(p)
	if v.first == 0 && n > 0 {
		v.first = time.Since(v.arrival)
	}
	v.bytes += int64(n)
	v.failed = v.failed || err != nil
	return n, err
}

// Hijack implements http.Hijacker, for websockets. Their bytes are not counted.
func (v *visit) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(v.ResponseWriter).Hijack()
	if err == nil {
		v.status = http.StatusSwitchingProtocols
	}
	return conn, rw, err
}

// Unwrap lets an http.ResponseController find the rest.
func (v *visit) Unwrap() http.ResponseWriter { return v.ResponseWriter }

// end settles how it went. Returned says that the handler has, and has not panicked: that
// is how an answer is cut short.
func (v *visit) end(returned bool) {
	switch gone := v.request.Context().Err() != nil; {
	case v.failed, gone && (v.status == 0 || !returned):
		v.status, v.reason = leftStatus, leftReason
	case !returned:
		v.reason = cmp.Or(v.reason, "panic")
	}
	v.status = cmp.Or(v.status, http.StatusOK) // As net/http answers if nobody has.
	v.took = time.Since(v.arrival)
}

// log writes the line of the access log. What only looks, as health checks do and the
// status page, is of interest if it is refused. A passive path is asked again and again,
// and refused whenever its model is not loaded.
func (v *visit) log(log *slog.Logger) {
	level := slog.LevelInfo
	looks := v.model == "" && v.request.Method != http.MethodPost
	if v.passive || looks && (v.status < 400 || v.status == leftStatus) {
		level = slog.LevelDebug
	}
	key := ""
	if v.key != nil {
		key = v.key.Name
	}
	log.LogAttrs(context.Background(), level, "request", slog.String("id", v.id),
		slog.String("from", v.request.RemoteAddr), slog.String("key", key),
		slog.String("method", bounded(v.request.Method)), slog.String("path", bounded(v.request.URL.Path)),
		slog.String("model", bounded(v.model)), slog.Int("status", v.status), slog.String("reason", v.reason),
		slog.Duration("waited", v.waited), slog.Duration("first_byte", v.first),
		slog.Duration("duration", v.took), slog.Int64("bytes", v.bytes))
}

// bounded cuts what a caller has chosen. The log's handler takes care of the rest.
func bounded(s string) string {
	const most = 200
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
