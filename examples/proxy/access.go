package main

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"

	"example.com/scheduler"
	"example.com/scheduler/examples/internal/config"
)

// access decides who may.
type access struct {
	loopback bool   // the proxy listens on this machine only
	machine  string // the name of this machine
	pages    http.CrossOriginProtection
}

// newAccess makes the access of a proxy that listens on address.
func newAccess(address net.Addr) *access {
	tcp, ok := address.(*net.TCPAddr)
	machine, _ := os.Hostname() // Without a name of its own it has only those in hosts.
	return &access{loopback: ok && tcp.IP.IsLoopback(), machine: machine}
}

// check returns the API key that r comes with, nil if none is needed, or the reason
// to refuse r. The credentials are taken out of r where they were for the proxy.
func (a *access) check(cfg *config.Config, r *http.Request) (*config.Key, error) {
	if err := a.checkPage(cfg, r); err != nil {
		return nil, err
	}
	if len(cfg.Keys) == 0 {
		return nil, nil
	}
	given := credentials(r)
	r.Header.Del("Authorization")
	r.Header.Del("X-Api-Key")
	if given == "" {
		return nil, errMissingKey
	}
	key := matching(cfg.Keys, given)
	if key == nil {
		return nil, errWrongKey
	}
	return key, nil
}

// openKeys are the requests that are open, by the key that each came with. A reload
// ends those whose key it takes away.
type openKeys struct {
	mu   sync.Mutex
	open map[string]map[*http.Request]context.CancelCauseFunc // of every configured key
}

// keep makes keys the configured ones. The contexts of requests with other keys have
// ended when it returns, so none of them can be granted what another of them gives back.
func (o *openKeys) keep(keys []config.Key) {
	o.mu.Lock()
	defer o.mu.Unlock()
	old := o.open
	o.open = make(map[string]map[*http.Request]context.CancelCauseFunc)
	for _, key := range keys {
		value := key.Value()
		if o.open[value] = old[value]; o.open[value] == nil {
			o.open[value] = make(map[*http.Request]context.CancelCauseFunc)
		}
		delete(old, value)
	}
	for _, requests := range old {
		for _, cancel := range requests {
			cancel(errWrongKey)
		}
	}
}

// begin returns r as it is to be served, and what has to be called at its end.
func (o *openKeys) begin(key *config.Key, r *http.Request) (keyed *http.Request, end func()) {
	ctx, cancel := context.WithCancelCause(r.Context())
	keyed = r.WithContext(ctx)
	o.mu.Lock()
	defer o.mu.Unlock()
	requests := o.open[key.Value()]
	if requests == nil { // It has been taken away since it was found.
		cancel(errWrongKey)
		return keyed, func() {}
	}
	requests[keyed] = cancel
	return keyed, func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		delete(requests, keyed)
		cancel(nil)
	}
}

// credentials returns the key that r carries: as a bearer token, as X-Api-Key, or,
// from a browser, as the password of any user.
func credentials(r *http.Request) string {
	if key := r.Header.Get("X-Api-Key"); key != "" {
		return key
	}
	if _, password, ok := r.BasicAuth(); ok {
		return password
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(token)
	}
	return ""
}

// matching returns the key with a secret, nil if there is none. How long it takes
// does not depend on how much of a secret was right.
func matching(keys []config.Key, given string) (found *config.Key) {
	sum := sha256.Sum256([]byte(given))
	for i := range keys {
		own := sha256.Sum256([]byte(keys[i].Value()))
		if subtle.ConstantTimeCompare(sum[:], own[:]) == 1 {
			found = &keys[i]
		}
	}
	return found
}

// priority returns the priority of r for a model: the model's and the key's, and
// what X-Priority adds within the bounds that the key sets. Without keys it is
// everybody's.
func priority(r *http.Request, key *config.Key, model *config.Model) (int, error) {
	priority := model.Priority
	if key != nil {
		priority += key.Priority
	}
	wish := r.Header.Get("X-Priority")
	r.Header.Del("X-Priority")
	if wish == "" {
		return priority, nil
	}
	n, err := strconv.Atoi(wish)
	if err != nil {
		return 0, badRequest("X-Priority is not a whole number")
	}
	if key != nil && (n < key.MinPriority || n > key.MaxPriority) {
		return 0, badRequest(fmt.Sprintf("X-Priority is not within %d and %d", key.MinPriority, key.MaxPriority))
	}
	return priority + max(-maxWish, min(n, maxWish)), nil
}

// maxWish bounds X-Priority where no key does, so that sums cannot overflow.
const maxWish = 1_000_000

// priorityKey is the key of a request's priority in its Ctx.
type priorityKey struct{}

// priorityOf returns the priority that [host.request] was called with.
func priorityOf(req scheduler.HandlerReq) int {
	p, _ := req.Ctx.Value(priorityKey{}).(int)
	return p
}
