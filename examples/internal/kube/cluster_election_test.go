package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"example.com/scheduler/examples/internal/kubetest"
)

// elector lets a service account do what an election needs, and nothing else.
const elector = `
apiVersion: v1
kind: ServiceAccount
metadata:
  name: elector
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: elector
rules:
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [get, create, update]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: elector
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: elector
subjects:
- kind: ServiceAccount
  name: elector
`

// member is an instance that competes by a proxy of its own.
type member struct {
	*kubetest.Faults
	*Election
	begun, over chan time.Time
	cause       chan error
	cancel      context.CancelFunc
	ended       chan struct{}
	log         *lines
}

// join starts a member with the given times.
func (c *cluster) join(t *testing.T, name string, times *Election) *member {
	t.Helper()
	m := &member{begun: make(chan time.Time, 10), over: make(chan time.Time, 10), cause: make(chan error, 10), ended: make(chan struct{})}
	var client *Client
	m.Faults, client, m.log = c.connect(t, c.Token(t, c.namespace, "elector"))
	m.Election = &Election{Client: client, Name: "leader", Identity: name, Duration: times.Duration, Deadline: times.Deadline, Retry: times.Retry,
		Log: slog.New(slog.NewTextHandler(m.log, nil))}
	ctx, cancel := context.WithCancel(t.Context())
	m.cancel = cancel
	go func() {
		defer close(m.ended)
		m.Run(ctx, m.lead)
	}()
	t.Cleanup(func() {
		cancel()
		<-m.ended
	})
	return m
}

func (m *member) lead(ctx context.Context) {
	m.begun <- time.Now()
	<-ctx.Done()
	m.over <- time.Now()
	m.cause <- context.Cause(ctx)
}

// next returns the next value of c.
func next[T any](t *testing.T, c <-chan T, m *member) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(time.Minute):
		t.Fatalf("waited for a minute:\n%s", m.log)
	}
	return v
}

// spec returns what the lease says.
func (c *cluster) spec(t *testing.T) LeaseSpec {
	t.Helper()
	var lease Lease
	c.Must(t, http.MethodGet, c.path("leases/leader"), nil, &lease)
	return lease.Spec
}

// TestKubeElection lets two instances compete: one leads, is cut off, and the other one
// leads after it has stopped. Then that one ends, and the first leads again at once.
func TestKubeElection(t *testing.T) {
	c := newCluster(t, kubetest.Shared(t))
	c.Apply(t, []byte(elector), c.namespace, false)
	times := &Election{Duration: 6 * time.Second, Deadline: 3 * time.Second, Retry: 300 * time.Millisecond}
	a := c.join(t, "a", times)
	next(t, a.begun, a)
	b := c.join(t, "b", times)
	eventually(t, func() bool { return b.Holder() == "a" }, b.log.String)
	first := c.spec(t)
	if first.HolderIdentity != "a" || first.LeaseDurationSeconds != 6 || first.LeaseTransitions != 0 || first.RenewTime.Before(first.AcquireTime.Time) {
		t.Errorf("%+v", first)
	}
	eventually(t, func() bool { return c.spec(t).RenewTime.After(first.RenewTime.Time) }, a.log.String)

	restore := a.Refuse(t)
	if err := next(t, a.cause, a); !errors.Is(err, ErrLeaseLost) {
		t.Errorf("ended by %v", err)
	}
	if over, begun := next(t, a.over, a), next(t, b.begun, b); begun.Before(over) {
		t.Errorf("b led %v before a had stopped", over.Sub(begun))
	}
	if got := c.spec(t); got.HolderIdentity != "b" || got.LeaseTransitions != 1 {
		t.Errorf("%+v", got)
	}

	restore()
	eventually(t, func() bool { return a.Holder() == "b" }, a.log.String)
	if len(a.begun) != 0 {
		t.Error("two lead")
	}
	b.cancel()
	<-b.ended
	ended := time.Now()
	if took := next(t, a.begun, a).Sub(ended); took > 5*time.Second {
		t.Errorf("followed %v after the lease was given back, which is as late as after a death", took)
	}
	if got := c.spec(t); got.HolderIdentity != "a" || got.LeaseTransitions != 2 {
		t.Errorf("%+v", got)
	}
	for _, m := range []*member{a, b} {
		if strings.Contains(m.log.String(), "403") {
			t.Errorf("misses a permission:\n%s", m.log)
		}
	}
}

// TestKubeElectionRestart kills the API server for less than Deadline. The leader stays,
// and so does its lease.
func TestKubeElectionRestart(t *testing.T) {
	c := newCluster(t, kubetest.Start(t))
	c.Apply(t, []byte(elector), c.namespace, false)
	times := &Election{Duration: 2 * time.Minute, Deadline: 90 * time.Second, Retry: 300 * time.Millisecond}
	a := c.join(t, "a", times)
	next(t, a.begun, a)
	b := c.join(t, "b", times)
	eventually(t, func() bool { return b.Holder() == "a" }, b.log.String)
	c.Kill(t)
	eventually(t, func() bool { return strings.Contains(a.log.String(), "level=WARN") }, func() string { return "does not notice" })
	c.Restart(t)
	first := c.spec(t)
	eventually(t, func() bool { return c.spec(t).RenewTime.After(first.RenewTime.Time) }, a.log.String)
	if len(a.over) != 0 || len(b.begun) != 0 || first.HolderIdentity != "a" || first.LeaseTransitions != 0 {
		t.Errorf("a stopped %d times, b led %d times, %+v", len(a.over), len(b.begun), first)
	}
}

// settle waits until m only renews, and returns how often it has read the lease.
func (m *member) settle(t *testing.T) (gets int) {
	t.Helper()
	puts := 0
	eventually(t, func() bool {
		if n := m.Count(http.MethodGet, "leases/leader"); n != gets {
			gets, puts = n, m.Count(http.MethodPut, "leases/leader")
		}
		return m.Count(http.MethodPut, "leases/leader") > puts+3
	}, m.log.String)
	return gets
}

// TestKubeElectionConflict changes the lease under its holder, and loses the answer to a
// renewal. Both make the next renewal fail with 409; the leader stays.
func TestKubeElectionConflict(t *testing.T) {
	c := newCluster(t, kubetest.Shared(t))
	c.Apply(t, []byte(elector), c.namespace, false)
	a := c.join(t, "a", &Election{Duration: time.Minute, Deadline: 40 * time.Second, Retry: 100 * time.Millisecond})
	next(t, a.begun, a)
	for i := range 3 {
		patch := map[string]any{"metadata": map[string]any{"finalizers": []string{"example.com/f"}, "labels": map[string]string{"n": fmt.Sprint(i)}}}
		gets := a.settle(t)
		c.Must(t, http.MethodPatch, c.path("leases/leader"), patch, nil)
		eventually(t, func() bool { return a.Count(http.MethodGet, "leases/leader") > gets }, a.log.String)
		gets = a.settle(t)
		a.Lose(1, http.MethodPut, "leases/leader")
		eventually(t, func() bool { return a.Count(http.MethodGet, "leases/leader") > gets }, a.log.String)
	}
	before := c.spec(t)
	eventually(t, func() bool { return c.spec(t).RenewTime.After(before.RenewTime.Time) }, a.log.String)
	if len(a.over) != 0 {
		t.Errorf("stopped leading:\n%s", a.log)
	}
	var lease Lease
	c.Must(t, http.MethodGet, c.path("leases/leader"), nil, &lease)
	if fmt.Sprint(lease.Metadata.Finalizers, lease.Metadata.Labels) != "[example.com/f] map[n:2]" {
		t.Errorf("lost something of %+v", lease.Metadata)
	}
	c.Must(t, http.MethodPatch, c.path("leases/leader"), map[string]any{"metadata": map[string]any{"finalizers": nil}}, nil)
}
