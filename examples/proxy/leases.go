package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"example.com/scheduler"
)

// leaseHeader tells a model which lease its request has. A model that asks the proxy for
// another one (an agent, a router) passes it on, so that a request that waits for its own
// ancestor is found. Nobody else knows a valid value, and nobody gains by one: all that
// it can do is have its request refused.
const leaseHeader = "X-Model-Lease"

// reliefEvery is how often waits are looked at.
const reliefEvery = time.Second

// leases are the grants that have not ended, and what they keep waiting.
type leases struct {
	token   string // of this process, in leaseHeader
	granted map[uint64]*lease
	nested  map[chan scheduler.HandlerResp]scheduler.HandlerReq // those that wait and have a parent
	sockets int                                                 // leases that are websockets
	looking bool                                                // relieve will be called
}

// lease is one grant.
type lease struct {
	model  string
	parent *lease // in the course of which it was asked for; nil: none
	ended  bool
	opened time.Time // as a websocket; zero: it is none, or has been cut
	cut    context.CancelCauseFunc
}

func newLeases() leases {
	return leases{
		token:   rand.Text(),
		granted: make(map[uint64]*lease),
		nested:  make(map[chan scheduler.HandlerResp]scheduler.HandlerReq),
	}
}

// parent returns the lease in whose course a request with ctx is made, nil if there is
// none. What has ended of its ancestors is forgotten, so that chains stay short.
func (ls *leases) parent(ctx context.Context) *lease {
	v, _ := ctx.Value(visitKey{}).(*visit)
	if v == nil {
		return nil
	}
	number, _ := strings.CutPrefix(v.lease, ls.token+"-")
	n, _ := strconv.ParseUint(number, 10, 64)
	l := ls.granted[n]
	if l != nil {
		for l.parent != nil && l.parent.ended {
			l.parent = l.parent.parent
		}
	}
	return l
}

// onRequest passes req on to the scheduler.
func (h *host) onRequest(req *scheduler.HandlerReq) {
	parent := h.leases.parent(req.Ctx)
	if parent == nil {
		h.sched.OnRequest(*req)
		return
	}
	req.Host = parent
	h.leases.nested[req.Respond] = *req
	h.sched.OnRequest(*req)
	h.relieve()
}

// grant notes that req is granted, and returns its exchange with m.
func (h *host) grant(m *model, req scheduler.HandlerReq) *exchange {
	delete(h.leases.nested, req.Respond)
	parent, _ := req.Host.(*lease)
	l := &lease{model: m.name, parent: parent}
	h.leases.granted[req.Lease] = l
	e := &exchange{upstream: m.upstream, timeouts: m.cfg.Timeouts, lease: fmt.Sprint(h.leases.token, "-", req.Lease)}
	e.opened = func() {
		h.post(func() {
			if !l.ended {
				l.opened, l.cut = time.Now(), e.cut
				h.leases.sockets++
				h.relieve()
			}
		})
	}
	return e
}

// end notes that a lease has ended.
func (ls *leases) end(number uint64) {
	if l := ls.granted[number]; l != nil {
		ls.close(l)
		l.ended = true
		delete(ls.granted, number)
	}
}

// close notes that l is no websocket, or no longer one.
func (ls *leases) close(l *lease) {
	if !l.opened.IsZero() {
		l.opened = time.Time{}
		ls.sockets--
	}
}

// relieve ends waits that would not end by themselves. Websockets that have kept one
// waiting for as long as they may are cut. One that waits, if only through others, on a
// model that serves an ancestor of its own is refused.
func (h *host) relieve() {
	if h.leases.sockets == 0 && len(h.leases.nested) == 0 {
		return
	}
	if !h.leases.looking {
		h.leases.looking = true
		time.AfterFunc(reliefEvery, func() {
			h.post(func() { h.leases.looking = false; h.relieve() })
		})
	}
	grace := h.config().Queue.WebsocketGrace.Bound()
	on := make(map[string][]string) // by model: what all requests for it wait on
	for _, w := range h.sched.Snapshot().Waiting {
		if w.Age >= grace {
			h.cutSockets(w, grace)
		}
		if w.Reason == scheduler.WaitLoading { // Not on anything that is served.
			w.On = nil
		}
		if all, more := on[w.Model]; more {
			w.On = slices.DeleteFunc(w.On, func(model string) bool { return !slices.Contains(all, model) })
		}
		on[w.Model] = w.On
	}
	for key, req := range h.leases.nested {
		if req.Ctx.Err() != nil {
			delete(h.leases.nested, key)
			continue
		}
		ancestors := make(map[string]bool)
		for l := req.Host.(*lease); l != nil; l = l.parent {
			ancestors[l.model] = ancestors[l.model] || !l.ended
		}
		if reaches(req.Model, on, ancestors, make(map[string]bool)) {
			scheduler.Cancel(h.sched, req)
			h.GrantError(req, fmt.Errorf("model %q: %w", req.Model, errLoop))
			h.relieve() // Things have moved.
			return
		}
	}
}

// reaches reports whether requests for model wait on one of targets.
func reaches(model string, on map[string][]string, targets, seen map[string]bool) bool {
	seen[model] = true
	return slices.ContainsFunc(on[model], func(next string) bool {
		return targets[next] || !seen[next] && reaches(next, on, targets, seen)
	})
}

// cutSockets cuts the old websockets that w waits for: all, if it needs the room of
// their model, or the oldest, if it needs a slot.
func (h *host) cutSockets(w scheduler.WaitStatus, grace time.Duration) {
	if w.Reason != scheduler.WaitBusy && w.Reason != scheduler.WaitSlots {
		return
	}
	var old []*lease
	for _, l := range h.leases.granted {
		if slices.Contains(w.On, l.model) && !l.opened.IsZero() && time.Since(l.opened) >= grace {
			old = append(old, l)
		}
	}
	slices.SortFunc(old, func(a, b *lease) int { return a.opened.Compare(b.opened) })
	if w.Reason == scheduler.WaitSlots {
		old = old[:min(1, len(old))]
	}
	for _, l := range old {
		h.log.Info("websocket cut: others have waited", "model", l.model, "open", time.Since(l.opened), "for", w.Model)
		l.cut(errSocketCut)
		h.leases.close(l)
	}
}
