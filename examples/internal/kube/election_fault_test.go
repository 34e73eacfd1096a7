package kube

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestElectionDeath checks that of several instances one leads, that another one follows
// when that one cannot renew any more, and that the first has stopped before.
func TestElectionDeath(t *testing.T) {
	for fault := down; fault <= slow; fault++ {
		t.Run([]string{"", "down", "mute", "deaf", "slow"}[fault], func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &leases{}
				a := compete(t, l, "a", true)
				if !a.leads() {
					t.Fatal("a does not lead")
				}
				b, c := compete(t, l, "b", true), compete(t, l, "c", true)
				time.Sleep(time.Minute + time.Second)
				if !a.leads() || b.leads() || c.leads() || b.Holder() != "a" {
					t.Fatalf("leading: %v %v %v; holder %q", a.leads(), b.leads(), c.leads(), b.Holder())
				}
				cut := time.Now()
				a.line.fault.Store(fault)
				if err := <-a.over; !errors.Is(err, ErrLeaseLost) {
					t.Errorf("ended by %v", err)
				}
				if took := time.Since(cut); took < 8*time.Second || took > 10*time.Second {
					t.Errorf("stopped after %v, want Deadline since the last renewal", took)
				}
				if fault >= deaf { // Its renewals arrive for as long as it leads, or even competes.
					a.cancel()
					<-a.ended
				}
				var next time.Time
				select {
				case next = <-b.begun:
				case next = <-c.begun:
				}
				if took := next.Sub(cut); took < 13*time.Second || took > 28*time.Second {
					t.Errorf("followed after %v, want Duration and a look", took)
				}
				if got := l.spec().LeaseTransitions; got != 1 {
					t.Errorf("%d transitions", got)
				}
				a.cancel()
				b.cancel()
				c.cancel()
				<-a.ended
				<-b.ended
				<-c.ended
			})
		})
	}
}

// TestElectionOutage checks that the leader stays through an outage that is shorter than
// Deadline, and that after a longer one it leads again.
func TestElectionOutage(t *testing.T) {
	for _, fault := range []int32{down, mute, deaf} {
		synctest.Test(t, func(t *testing.T) {
			l := &leases{}
			a := compete(t, l, "a", true)
			time.Sleep(3 * time.Second)
			a.line.fault.Store(fault)
			time.Sleep(6 * time.Second) // Until 9 s; the deadline is at 12 s.
			a.line.fault.Store(works)
			time.Sleep(time.Minute)
			if !a.leads() || len(a.over) != 0 {
				t.Errorf("fault %d: stopped leading", fault)
			}
			if got := strings.Count(a.log.String(), "level=WARN"); got != 1 {
				t.Errorf("fault %d: %d warnings:\n%s", fault, got, a.log)
			}
			<-a.begun
			a.line.fault.Store(fault)
			if err := <-a.over; !errors.Is(err, ErrLeaseLost) {
				t.Errorf("fault %d: ended by %v", fault, err)
			}
			a.line.fault.Store(works)
			<-a.begun
			if got := l.spec(); got.HolderIdentity != "a" || got.LeaseTransitions != 0 {
				t.Errorf("fault %d: %+v", fault, got)
			}
			a.cancel()
			<-a.ended
		})
	}
}

// TestElectionTaken checks that the leader stops with the first renewal after somebody
// else took the lease, or deleted it, and that it does not give it back then.
func TestElectionTaken(t *testing.T) {
	for name, take := range map[string]func(*leases){
		"taken":      func(l *leases) { l.change(func(lease *Lease) { lease.Spec.HolderIdentity = "thief" }) },
		"given back": func(l *leases) { l.change(func(lease *Lease) { lease.Spec.HolderIdentity = "" }) },
		"deleted": func(l *leases) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.lease = nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &leases{}
				a := compete(t, l, "a", false)
				time.Sleep(3 * time.Second)
				take(l)
				before, at := l.spec(), time.Now()
				if err := <-a.over; !errors.Is(err, ErrLeaseLost) || time.Since(at) > 2*time.Second {
					t.Errorf("ended by %v after %v", err, time.Since(at))
				}
				a.cancel()
				a.finish <- struct{}{}
				<-a.ended
				if got := l.spec(); got != before {
					t.Errorf("lease is %+v, was %+v", got, before)
				}
			})
		})
	}
}

// TestElectionOthersChanges checks that a change of the lease that leaves its holder does
// not disturb the leader, and that nothing of it is lost.
func TestElectionOthersChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &leases{}
		meta := ObjectMeta{Labels: map[string]string{"a": "b"}, Annotations: map[string]string{"c": "d"}, Finalizers: []string{"e"},
			OwnerReferences: []OwnerReference{{Kind: "Pod", Name: "p"}}}
		l.change(func(lease *Lease) {
			lease.Metadata = meta
			lease.Spec = LeaseSpec{LeaseTransitions: 7, Strategy: "s", PreferredHolder: "h"}
		})
		a := compete(t, l, "a", true)
		for range 20 {
			time.Sleep(3 * time.Second)
			l.change(func(lease *Lease) { lease.Metadata.Labels = map[string]string{"a": time.Now().String()} })
		}
		if !a.leads() || len(a.over) != 0 {
			t.Error("stopped leading")
		}
		meta.Labels = l.lease.Metadata.Labels
		a.cancel()
		<-a.ended
		got := l.lease.Metadata
		meta.Name, meta.UID, meta.ResourceVersion = "proxy", got.UID, got.ResourceVersion
		if !reflect.DeepEqual(got, meta) {
			t.Errorf("got  %+v\nwant %+v", got, meta)
		}
		if spec := l.spec(); spec.LeaseTransitions != 8 || spec.Strategy != "s" || spec.PreferredHolder != "h" {
			t.Errorf("%+v", spec)
		}
	})
}

// TestElectionReturnsInRenewal checks that the lease is given back by a leader that ends
// while a renewal is on its way: the server has written it, and the answer is not read.
func TestElectionReturnsInRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &leases{}
		a := compete(t, l, "a", true)
		time.Sleep(time.Second)
		a.line.fault.Store(slow)
		time.Sleep(2 * time.Second)
		a.line.fault.Store(works)
		a.cancel()
		<-a.ended
		if got := l.spec(); got.HolderIdentity != "" {
			t.Errorf("not given back: %+v\n%s", got, a.log)
		}
	})
}

// TestElectionDenied checks that missing permission is logged once, and that it does not
// end the competition.
func TestElectionDenied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answers := []answer{}
		for range 20 {
			answers = append(answers, answer{code: 403, body: `{"reason":"Forbidden","message":"no leases for you"}`})
		}
		s := newScript(answers...)
		c := clientOf(s)
		log := c.logTo(slog.LevelInfo)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-s.over; cancel() }()
		(&Election{Client: c, Name: "proxy", Identity: "a", Log: c.log}).Run(ctx, func(context.Context) { t.Error("leads") })
		if got := strings.Count(log.String(), "no leases for you"); got != 1 {
			t.Errorf("logged %d times:\n%s", got, log)
		}
	})
}

// TestElectionChaos lets three instances compete over connections that have one fault
// after the other, for an hour. There are never two leaders.
func TestElectionChaos(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &leases{}
		all := []*instance{compete(t, l, "a", true), compete(t, l, "b", true), compete(t, l, "c", true)}
		terms := 0
		for begun := time.Now(); time.Since(begun) < time.Hour; {
			time.Sleep(time.Duration(rand.IntN(20000)) * time.Millisecond)
			i := all[rand.IntN(len(all))]
			i.line.fault.Store(rand.Int32N(2) * (1 + rand.Int32N(late)))
			for _, i := range all {
				for len(i.over) > 0 {
					<-i.over
					<-i.begun
					terms++
				}
			}
		}
		if terms < 10 {
			t.Errorf("%d terms of leaders: too quiet to show anything", terms)
		}
		for _, i := range all {
			i.cancel()
			<-i.ended
		}
		time.Sleep(time.Minute) // Until the last late request has arrived.
	})
}

// TestElectionDeadline checks that the leader stops at Deadline even if that is between
// two tries.
func TestElectionDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &leases{}
		c := clientOf(&line{server: l})
		ctx, cancel := context.WithCancel(t.Context())
		e := &Election{Client: c, Name: "proxy", Identity: "a", Duration: 15 * time.Second, Deadline: 10 * time.Second, Retry: 4 * time.Second}
		e.Run(ctx, func(ctx context.Context) {
			begun := time.Now()
			c.http.Store(clientOf(&line{}).dial()) // It has no server, and panics.
			<-ctx.Done()
			if took := time.Since(begun); took != 10*time.Second {
				t.Errorf("stopped after %v", took)
			}
			cancel()
		})
	})
}

// TestElectionLateByAMoment checks that it is nothing to warn of when somebody else was
// faster to take the lease.
func TestElectionLateByAMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript(answer{code: 404}, answer{code: 409}, answer{code: 404}, answer{code: 409})
		c := clientOf(s)
		log := c.logTo(slog.LevelInfo)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-s.over; cancel() }()
		(&Election{Client: c, Name: "proxy", Identity: "a", Log: c.log}).Run(ctx, func(context.Context) { t.Error("leads") })
		if log.String() != "" {
			t.Errorf("logged: %s", log)
		}
	})
}
