package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// leases is an API server that has one Lease.
type leases struct {
	leading atomic.Int64 // instances
	two     atomic.Bool  // lead at the same time, or did

	mu       sync.Mutex
	lease    *Lease // nil: none
	version  int
	requests []string
}

// ServeHTTP implements [http.Handler].
func (l *leases) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.requests = append(l.requests, r.Method+" "+r.URL.RequestURI())
	var in Lease
	if r.Method != http.MethodGet && json.NewDecoder(r.Body).Decode(&in) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	switch {
	case r.Method == http.MethodPost && l.lease != nil,
		r.Method == http.MethodPut && l.lease != nil && in.Metadata.ResourceVersion != l.lease.Metadata.ResourceVersion:
		w.WriteHeader(http.StatusConflict)
		return
	case r.Method != http.MethodPost && l.lease == nil:
		w.WriteHeader(http.StatusNotFound)
		return
	case r.Method != http.MethodGet:
		l.store(in)
	}
	json.NewEncoder(w).Encode(l.lease)
}

// store stores a lease as a new version.
func (l *leases) store(lease Lease) {
	l.version++
	lease.Metadata.ResourceVersion = strconv.Itoa(l.version)
	if l.lease != nil {
		lease.Metadata.UID = l.lease.Metadata.UID
	} else {
		lease.Metadata.UID = "uid" + lease.Metadata.ResourceVersion
	}
	l.lease = &lease
}

// change changes the lease from outside.
func (l *leases) change(do func(*Lease)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var lease Lease
	if l.lease != nil {
		lease = *l.lease
	}
	do(&lease)
	l.store(lease)
}

// spec returns what the lease says.
func (l *leases) spec() LeaseSpec {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lease == nil {
		return LeaseSpec{}
	}
	return l.lease.Spec
}

// count returns how many requests there were.
func (l *leases) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.requests)
}

// line is the connection of one instance to the server, which can have faults.
type line struct {
	server *leases
	fault  atomic.Int32
}

const (
	works int32 = iota
	down        // no request arrives
	mute        // no request arrives, and nothing says so
	deaf        // requests arrive, answers do not
	slow        // answers arrive late: after the client has left
	late        // requests arrive late, even from a client that has left
)

// ServeHTTP implements [http.Handler].
func (l *line) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch l.fault.Load() {
	case down:
		panic(http.ErrAbortHandler)
	case mute:
		<-r.Context().Done()
	case deaf:
		l.server.ServeHTTP(&reply{header: http.Header{}, begun: make(chan int, 1)}, r)
		panic(http.ErrAbortHandler)
	case slow:
		l.server.ServeHTTP(&reply{header: http.Header{}, begun: make(chan int, 1)}, r)
		<-r.Context().Done()
	case late:
		time.Sleep(4 * time.Second)
		fallthrough
	default:
		l.server.ServeHTTP(w, r)
	}
}

// instance is a process that competes.
type instance struct {
	*Election
	line   *line
	log    *lines
	begun  chan time.Time // of each time that it leads
	over   chan error     // the cause of each end of its context
	finish chan struct{}  // lets lead return after that
	cancel context.CancelFunc
	ended  chan struct{} // Run has returned
}

// compete starts an instance. Its lead returns when its context has ended and finish
// yields, unless quick is set: then it returns at the end of its context.
func compete(t *testing.T, l *leases, name string, quick bool) *instance {
	i := &instance{line: &line{server: l}, begun: make(chan time.Time, 100), over: make(chan error, 100),
		finish: make(chan struct{}), ended: make(chan struct{})}
	t.Cleanup(func() {
		if l.two.Load() {
			t.Error("two led at the same time")
		}
	})
	c := clientOf(i.line)
	i.log = c.logTo(slog.LevelInfo)
	i.Election = &Election{Client: c, Name: "proxy", Identity: name, Log: c.log}
	ctx, cancel := context.WithCancel(t.Context())
	i.cancel = cancel
	if quick {
		close(i.finish)
	}
	go func() {
		defer close(i.ended)
		i.Run(ctx, i.lead)
	}()
	return i
}

func (i *instance) lead(ctx context.Context) {
	if l := i.line.server; l.leading.Add(1) != 1 {
		l.two.Store(true)
	}
	i.begun <- time.Now()
	<-ctx.Done()
	i.line.server.leading.Add(-1)
	i.over <- context.Cause(ctx)
	<-i.finish
}

// leads reports whether the instance leads now, after everything that happens at once.
func (i *instance) leads() bool {
	synctest.Wait()
	return len(i.begun) > len(i.over)
}

// TestElectionAlone follows one instance: it creates the lease, renews it, and gives it
// back at its end.
func TestElectionAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &leases{}
		a := compete(t, l, "a", true)
		begun := time.Now()
		if !a.leads() || a.Holder() != "a" {
			t.Fatalf("leads: %v, holder %q", a.leads(), a.Holder())
		}
		time.Sleep(time.Second) // From now on in the middle between two renewals.
		for range 30 {
			want := LeaseSpec{HolderIdentity: "a", LeaseDurationSeconds: 15, AcquireTime: MicroTime{begun.UTC()},
				RenewTime: MicroTime{time.Now().UTC().Add(-time.Second)}}
			if got := l.spec(); got != want {
				t.Errorf("after %v: %+v\nwant %+v", time.Since(begun), got, want)
			}
			time.Sleep(2 * time.Second)
		}
		a.cancel()
		<-a.ended
		if err := <-a.over; !errors.Is(err, context.Canceled) {
			t.Errorf("ended by %v", err)
		}
		if got := l.spec(); got.HolderIdentity != "" || got.LeaseDurationSeconds != 1 || a.Holder() != "" {
			t.Errorf("given back as %+v", got)
		}
	})
}

// TestElectionHandover checks that a lease that is given back has a new holder within one
// look of the others, and that it is kept until the work of the leader is finished.
func TestElectionHandover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &leases{}
		a := compete(t, l, "a", false)
		if !a.leads() {
			t.Fatal("a does not lead")
		}
		b := compete(t, l, "b", true)
		time.Sleep(5 * time.Second)
		a.cancel()
		time.Sleep(10 * time.Minute)
		if a.leads() || b.leads() || l.spec().HolderIdentity != "a" || b.Holder() != "a" {
			t.Errorf("leading while a finishes: %v %v; lease %+v", a.leads(), b.leads(), l.spec())
		}
		finished := time.Now()
		a.finish <- struct{}{}
		<-a.ended
		if took := (<-b.begun).Sub(finished); took > 2400*time.Millisecond {
			t.Errorf("followed after %v, want at most 2.4s", took)
		}
		b.cancel()
		<-b.ended
	})
}

// TestElectionClocks checks that a candidate does not look at what time the record says.
func TestElectionClocks(t *testing.T) {
	for _, skew := range []time.Duration{-time.Hour, 0, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			l := &leases{}
			renew := func() {
				l.change(func(lease *Lease) {
					lease.Spec = LeaseSpec{HolderIdentity: "other", LeaseDurationSeconds: 40, RenewTime: MicroTime{time.Now().Add(skew)}}
				})
			}
			renew()
			a := compete(t, l, "a", true)
			for range 10 {
				time.Sleep(39 * time.Second)
				renew()
			}
			last := time.Now()
			time.Sleep(20 * time.Second)
			l.change(func(lease *Lease) { lease.Metadata.Labels = map[string]string{"touched": "yes"} }) // Not by its holder.
			if took := (<-a.begun).Sub(last); took < 40*time.Second || took > 45*time.Second {
				t.Errorf("skew %v: took the lease after %v, want the 40 s that it says", skew, took)
			}
			a.cancel()
			<-a.ended
		})
	}
}

// TestElectionStartedAgain checks that a process takes over the lease of its predecessor.
func TestElectionStartedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &leases{}
		then := MicroTime{time.Now().UTC()}
		l.change(func(lease *Lease) {
			lease.Spec = LeaseSpec{HolderIdentity: "a", LeaseDurationSeconds: 15, AcquireTime: then, LeaseTransitions: 3}
		})
		a := compete(t, l, "a", true)
		if !a.leads() {
			t.Error("does not lead at once")
		}
		if got := l.spec(); got.LeaseTransitions != 3 || got.AcquireTime != then {
			t.Errorf("%+v", got)
		}
		a.cancel()
		<-a.ended
	})
}

// TestElectionEnd checks that Run returns at once when its context ends while it does not
// lead, whatever it is waiting for, and that an ended one sends nothing.
func TestElectionEnd(t *testing.T) {
	for _, fault := range []int32{works, down, mute} {
		synctest.Test(t, func(t *testing.T) {
			l := &leases{}
			l.change(func(lease *Lease) { lease.Spec = LeaseSpec{HolderIdentity: "other", LeaseDurationSeconds: 3600} })
			a := compete(t, l, "a", true)
			a.line.fault.Store(fault)
			time.Sleep(time.Minute)
			now, count := time.Now(), l.count()
			a.cancel()
			<-a.ended
			if took := time.Since(now); took != 0 || l.count() != count || len(a.begun) != 0 {
				t.Errorf("fault %d: took %v, %d requests", fault, took, l.count()-count)
			}
			a.Run(func() context.Context { ctx, cancel := context.WithCancel(t.Context()); cancel(); return ctx }(), a.lead)
			if l.count() != count || len(a.begun) != 0 {
				t.Error("competed after its end")
			}
		})
	}
}

// TestElectionAgain checks that a leader that returns while its context goes on lets
// others lead, and competes again.
func TestElectionAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &leases{}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		c := clientOf(&line{server: l})
		var turns [2]atomic.Int64
		var leading atomic.Int64
		var all sync.WaitGroup
		for i := range turns {
			e := &Election{Client: c, Name: "proxy", Identity: strconv.Itoa(i)}
			all.Go(func() {
				var before context.Context
				e.Run(ctx, func(ctx context.Context) {
					if before != nil && before.Err() == nil {
						t.Error("the context of the turn before goes on")
					}
					before = ctx
					if leading.Add(1) != 1 {
						t.Error("two lead")
					}
					turns[i].Add(1)
					time.Sleep(time.Second)
					leading.Add(-1)
				})
			})
		}
		time.Sleep(time.Hour)
		cancel()
		all.Wait()
		if a, b := turns[0].Load(), turns[1].Load(); a < 100 || b < 100 {
			t.Errorf("%d and %d turns within an hour", a, b)
		}
	})
}

// TestElectionBound checks that what a leader sends is over, here and at the server, when
// another one may begin.
func TestElectionBound(t *testing.T) {
	for _, tt := range []struct {
		e    *Election
		want [4]time.Duration // duration, deadline, retry, bound
	}{
		{&Election{}, [4]time.Duration{15 * time.Second, 10 * time.Second, 2 * time.Second, 5 * time.Second}},
		{&Election{Duration: time.Minute}, [4]time.Duration{time.Minute, 40 * time.Second, 8 * time.Second, 10 * time.Second}},
		{&Election{Duration: 2500 * time.Millisecond}, [4]time.Duration{3 * time.Second, 2 * time.Second, 400 * time.Millisecond, time.Second}},
		{&Election{Duration: time.Second, Deadline: time.Second, Retry: time.Second}, [4]time.Duration{time.Second, time.Second * 2 / 3, time.Second * 2 / 3 / 5, time.Second - time.Second*2/3}},
		{&Election{Duration: -1, Deadline: -1, Retry: -1}, [4]time.Duration{15 * time.Second, 10 * time.Second, 2 * time.Second, 5 * time.Second}},
		{&Election{Duration: 20 * time.Second, Deadline: 18 * time.Second, Retry: 3 * time.Second}, [4]time.Duration{20 * time.Second, 18 * time.Second, 3 * time.Second, 2 * time.Second}},
	} {
		r := tt.e.terms()
		if got := [4]time.Duration{r.duration, r.deadline, r.retry, r.bound}; got != tt.want {
			t.Errorf("%v, want %v", got, tt.want)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		l := &leases{}
		ctx, cancel := context.WithCancel(t.Context())
		e := &Election{Client: clientOf(&line{server: l}), Name: "a/b", Identity: "a"}
		e.Run(ctx, func(context.Context) {
			cancel()
			e.Client.Create(t.Context(), pods, Pod{}, nil) // Whatever its context.
		})
		path := "/apis/coordination.k8s.io/v1/namespaces/default/leases"
		want := fmt.Sprintf("[GET %s/a%%2Fb?timeout=10s POST %[1]s?timeout=5s POST %s?timeout=5s PUT %[1]s/a%%2Fb?timeout=5s]", path, pods)
		if got := fmt.Sprint(l.requests); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	})
}
