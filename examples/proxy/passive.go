package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"example.com/scheduler"
	"example.com/scheduler/examples/internal/config"
)

// isPassive reports whether r only looks at its model m. Such a request is answered while
// the model happens to be ready. It neither loads it nor keeps it.
func isPassive(m *config.Model, r *http.Request) bool {
	return (r.Method == http.MethodGet || r.Method == http.MethodHead) &&
		slices.ContainsFunc(m.Passive, func(pattern string) bool {
			matches, _ := path.Match(pattern, r.URL.Path)
			return matches || strings.HasSuffix(pattern, "/") && strings.HasPrefix(r.URL.Path, pattern)
		})
}

// passive serves r without a lease. It is cut off when the model is told to stop, which
// it must not delay.
func (h *host) passive(w http.ResponseWriter, r *http.Request, model string) {
	var e *exchange
	h.ask(func() {
		if m := h.models[model]; m != nil && m.state == scheduler.StateReady {
			e = &exchange{upstream: m.upstream, timeouts: m.cfg.Timeouts}
		}
	})
	if e == nil {
		writeError(w, r, fmt.Errorf("%w: %q", errNotLoaded, model))
		return
	}
	e.serve(w, r)
}

const (
	busyEvery  = time.Second      // from one question to the next
	busyAnswer = 30 * time.Second // a model that takes longer to answer is not busy
)

// hold keeps the lease of a request that has ended, if it was the last of a model that
// may work on afterwards. It ends once the model says that it is not busy, or when a
// later request ends.
func (h *host) hold(m *model, lease uint64) bool {
	if m.held != 0 {
		h.release(m)
	}
	if m.cfg.Busy == "" || m.inFlight > 1 || m.state != scheduler.StateReady {
		return false
	}
	e := endpoint{m.cfg, m.inst.url()}
	ctx, cancel := context.WithTimeout(m.upstream.ready, m.cfg.Timeouts.Busy.Bound())
	m.held, m.stopAsking = lease, cancel
	go func() {
		for e.isBusy(ctx) && sleep(ctx, busyEvery) {
		}
		h.post(func() {
			if m.held == lease {
				h.release(m)
			}
		})
	}()
	return true
}

// release ends the lease that m is held by.
func (h *host) release(m *model) {
	lease := m.held
	m.held = 0
	m.stopAsking()
	h.giveBack(m, lease)
}

// isBusy asks the model whether it works. Whatever goes wrong means that it does
// not.
func (e endpoint) isBusy(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, busyAnswer)
	defer cancel()
	at, field, found := strings.Cut(e.cfg.Busy, "#")
	if !found {
		field = "busy"
	}
	resp, err := e.get(ctx, at)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	var answer any
	return json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&answer) == nil && says(answer, field, false)
}

// says reports whether anything below a field of that name in v is true, or a number but
// 0, or text.
func says(v any, field string, named bool) bool {
	switch v := v.(type) {
	case map[string]any:
		for name, member := range v {
			if says(member, field, named || name == field) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(v, func(item any) bool { return says(item, field, named) })
	default:
		return named && v != nil && v != false && v != 0.0 && v != ""
	}
	return false
}
