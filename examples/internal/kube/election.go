package kube

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// ErrLeaseLost is the cause with which the context of a leader ends that could not renew
// its lease in time.
var ErrLeaseLost = errors.New("kube: the lease was lost to another instance, or could not be renewed")

// Election competes for a Lease, so that of several instances one at most does the work.
// It follows the rules of client-go's leaderelection, and can compete with it.
//
// Whoever holds the lease writes a new renewTime into it every Retry. The others take the
// lease when it has not changed for its duration, by their own clocks: when they first saw
// the record is what counts, not what it says, so clocks may differ. A lease that was given
// back is taken by the next one who looks.
//
// The leader stops earlier than another one can begin. Let it send its last successful
// renewal at time 0. The server writes that later, and others see it later still, so nobody
// takes the lease before Duration. The leader's context ends at Deadline, and from then on
// the leader must not send anything. What it has sent before is given up after
// Duration − Deadline (or 10 s, if that is less), by the client and, because each request
// says so, by the server too. Run sees to that for every change that Client sends, whatever
// its context. So the last change is made before Duration.
//
// What this cannot bound is a request that the network holds back and delivers all the
// same, and a process that is stopped as a whole for some seconds and does not know yet that
// its time is over. Changes that would hurt even then need a precondition, such as a name
// that can exist once, a UID or a resource version.
//
// The zero values of the times are their defaults. An Election must not be copied, and Run
// not be called twice at the same time.
type Election struct {
	Client   *Client
	Name     string // of the Lease, in the client's namespace; it is created if it does not exist
	Identity string // of this instance. No two may have the same. A process that is started again may have that of its predecessor, whose lease it takes over at once.

	Duration time.Duration // after which others take the lease; whole seconds, else rounded up; 0: 15 s
	Deadline time.Duration // within which the leader must renew it; 0, or not below Duration: two thirds of that
	Retry    time.Duration // from one try to the next; 0, or not below Deadline: a fifth of that

	Log *slog.Logger // nil: silent

	mu     sync.Mutex
	holder string
	hands  string // in which the lease is; see Reign

	// What Run has seen last.
	lease   Lease     // Metadata.ResourceVersion "": none
	since   time.Time // when its Spec was first seen
	failing bool      // the API, and that was logged
}

// Run competes until ctx ends. Each time it wins it calls lead, with a context that ends
// when ctx does, or with cause [ErrLeaseLost] when the lease is lost. It renews the lease
// until lead returns, also after ctx ended, so that lead may finish what it began. Then it
// gives the lease back if it still has it, and competes again unless ctx has ended.
func (e *Election) Run(ctx context.Context, lead func(ctx context.Context)) {
	r := e.terms()
	e.Client.boundChanges(r.bound)
	for ctx.Err() == nil {
		if renewed, ok := r.acquire(ctx); ok {
			r.reign(ctx, renewed, lead)
		}
		sleep(ctx, r.retry+rand.N(r.retry/5+1))
	}
}

// Holder returns who holds the lease as last seen; "" if nobody does. It may be called by
// several goroutines at once.
func (e *Election) Holder() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.holder
}

// Reign returns what stays the same for as long as the lease, as last seen, has not changed
// hands. An instance that loses it and gets it again in the same reign was the only one in
// between.
func (e *Election) Reign() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.hands
}

// candidate is an Election with its defaults.
type candidate struct {
	*Election
	duration, deadline, retry time.Duration
	bound                     time.Duration // of a change
	log                       *slog.Logger
}

// terms returns the candidate that e is.
func (e *Election) terms() *candidate {
	r := &candidate{Election: e, log: e.Log}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	r.log = r.log.With("lease", e.Name)
	r.duration = cmp.Or(max(e.Duration, 0), 15*time.Second)
	r.duration = (r.duration + time.Second - 1).Truncate(time.Second)
	if r.deadline = e.Deadline; r.deadline <= 0 || r.deadline >= r.duration {
		r.deadline = r.duration * 2 / 3
	}
	if r.retry = e.Retry; r.retry <= 0 || r.retry >= r.deadline {
		r.retry = r.deadline / 5
	}
	r.bound = min(r.duration-r.deadline, tryBound)
	return r
}

// acquire takes the lease if it is free. It returns when it began to write that.
func (r *candidate) acquire(ctx context.Context) (renewed time.Time, ok bool) {
	err := r.look(ctx)
	if err == nil && !r.free() {
		r.recovered()
		return renewed, false
	}
	if err == nil || IsCode(err, http.StatusNotFound) {
		renewed = time.Now()
		err = r.write(ctx, r.claim(renewed))
	}
	switch {
	case err == nil:
		r.recovered()
	case IsCode(err, http.StatusConflict): // Somebody else was faster.
	case ctx.Err() == nil:
		r.failed(err)
	}
	return renewed, err == nil
}

// look reads the lease. An error with code 404 means that there is none.
func (r *candidate) look(ctx context.Context) error {
	var lease Lease
	err := r.Client.try(ctx, call{method: http.MethodGet, path: r.path(), out: &lease})
	switch {
	case err == nil:
		r.saw(lease)
	case IsCode(err, http.StatusNotFound):
		r.saw(Lease{})
	}
	return err
}

// saw notes the state of the lease.
func (r *candidate) saw(lease Lease) {
	if r.since.IsZero() || lease.Spec != r.lease.Spec {
		r.since = time.Now()
	}
	r.lease = lease
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hands = fmt.Sprint(lease.Metadata.UID, lease.Spec.HolderIdentity, lease.Spec.LeaseTransitions, lease.Spec.AcquireTime.UnixMicro())
	if holder := lease.Spec.HolderIdentity; holder != r.holder {
		r.holder = holder
		r.log.Info("lease has a new holder", "holder", holder)
	}
}

// free reports whether the lease may be taken.
func (r *candidate) free() bool {
	if holder := r.lease.Spec.HolderIdentity; holder == "" || holder == r.Identity {
		return true
	}
	lasts := r.duration
	if told := r.lease.Spec.LeaseDurationSeconds; told > 0 {
		lasts = time.Duration(told) * time.Second
	}
	return time.Since(r.since) >= lasts
}

// claim returns the lease as it is to be written to take it, or to renew it.
func (r *candidate) claim(now time.Time) Lease {
	lease := r.lease
	lease.Metadata.Name = r.Name
	spec := &lease.Spec
	if spec.HolderIdentity != r.Identity {
		if r.lease.Metadata.ResourceVersion != "" {
			spec.LeaseTransitions++
		}
		spec.HolderIdentity = r.Identity
		spec.AcquireTime = MicroTime{now}
	}
	spec.RenewTime = MicroTime{now}
	spec.LeaseDurationSeconds = int32(r.duration / time.Second)
	return lease
}

// write creates or updates the lease. Nobody else has changed it in between if that works.
func (r *candidate) write(ctx context.Context, lease Lease) error {
	body, err := json.Marshal(lease)
	if err != nil {
		return err
	}
	var written Lease
	c := call{method: http.MethodPut, path: r.path(), body: body, out: &written}
	if lease.Metadata.ResourceVersion == "" {
		c.method, c.path = http.MethodPost, r.leases()
	}
	if err := r.Client.try(ctx, c); err != nil {
		return err
	}
	r.saw(written)
	return nil
}

// reign calls lead and renews the lease until it has returned.
func (r *candidate) reign(ctx context.Context, renewed time.Time, lead func(context.Context)) {
	r.log.Info("leading", "identity", r.Identity)
	leading, lose := context.WithCancelCause(ctx)
	keeping, stop := context.WithCancel(context.WithoutCancel(ctx))
	kept := make(chan bool, 1)
	go func() { kept <- r.keep(keeping, renewed, lose) }()
	defer func() {
		lose(nil)
		stop()
		if <-kept {
			r.giveBack(context.WithoutCancel(ctx))
		}
	}()
	lead(leading)
}

// keep renews the lease until ctx ends, and reports whether it still has it then. If not
// it calls lose, at the deadline at the latest.
func (r *candidate) keep(ctx context.Context, renewed time.Time, lose context.CancelCauseFunc) bool {
	for {
		age := time.Since(renewed)
		sleep(ctx, min(r.retry-age%r.retry, r.deadline-age))
		if ctx.Err() != nil {
			return true
		}
		now := time.Now()
		until, cancel := context.WithDeadline(ctx, renewed.Add(r.deadline))
		err := r.rewrite(until, r.claim)
		cancel()
		switch {
		case err == nil:
			renewed = now
			r.recovered()
		case ctx.Err() != nil:
			return true
		case r.taken() || time.Since(renewed) >= r.deadline:
			r.log.Warn("lease lost", "err", err)
			lose(ErrLeaseLost)
			return false
		default:
			r.failed(err)
		}
	}
}

// rewrite writes what change makes of the lease, if it is still held.
func (r *candidate) rewrite(ctx context.Context, change func(now time.Time) Lease) error {
	err := r.write(ctx, change(time.Now()))
	if !IsCode(err, http.StatusConflict) && !IsCode(err, http.StatusNotFound) {
		return err
	}
	// Somebody has changed or deleted it, or an earlier write worked without an answer.
	if err := r.look(ctx); err != nil && !IsCode(err, http.StatusNotFound) {
		return err
	}
	if r.taken() {
		return fmt.Errorf("kube: the lease is held by %q", r.lease.Spec.HolderIdentity)
	}
	return r.write(ctx, change(time.Now()))
}

// taken reports whether the lease was last seen in other hands, or in none.
func (r *candidate) taken() bool { return r.lease.Spec.HolderIdentity != r.Identity }

// giveBack lets others take the lease at once.
func (r *candidate) giveBack(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, r.bound)
	defer cancel()
	err := r.rewrite(ctx, func(now time.Time) Lease {
		lease := r.claim(now)
		lease.Spec.HolderIdentity = ""
		lease.Spec.LeaseDurationSeconds = 1 // for those who do not look at the holder
		return lease
	})
	if err != nil {
		r.log.Warn("lease not given back; others have to wait until it expires", "err", err)
		return
	}
	r.log.Info("lease given back")
}

// failed logs the first failure of several.
func (r *candidate) failed(err error) {
	level := slog.LevelWarn
	if r.failing {
		level = slog.LevelDebug
	}
	r.failing = true
	r.log.Log(context.Background(), level, "lease cannot be read or written; trying again", "err", err)
}

// recovered notes that the API works.
func (r *candidate) recovered() { r.failing = false }

// leases returns the path of the collection.
func (r *candidate) leases() string {
	return "/apis/coordination.k8s.io/v1/namespaces/" + r.Client.Namespace() + "/leases"
}

// path returns the path of the lease.
func (r *candidate) path() string { return r.leases() + "/" + url.PathEscape(r.Name) }
