package kube

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/scheduler/examples/internal/kubetest"
)

// The tests whose names begin with TestKube need a real API server.

func TestMain(m *testing.M) { kubetest.Main(m) }

// cluster is a namespace of a real API server, and a client that reaches it by a proxy
// that makes trouble.
type cluster struct {
	*kubetest.Server
	*kubetest.Faults
	*Client
	namespace string
	log       *lines
}

// newCluster returns a new namespace of s, for whoever has the token; "": the administrator.
func newCluster(t testing.TB, s *kubetest.Server) *cluster {
	t.Helper()
	c := &cluster{Server: s, namespace: s.Namespace(t)}
	c.Faults, c.Client, c.log = c.connect(t, s.Admin)
	return c
}

// connect returns a client with a proxy of its own.
func (c *cluster) connect(t testing.TB, token string) (*kubetest.Faults, *Client, *lines) {
	t.Helper()
	f, log := c.Faulty(t), &lines{}
	client, err := New(Config{Server: f.URL, CAFile: f.CAFile, TokenFile: write(t, t.TempDir(), "token", []byte(token)), Namespace: c.namespace},
		slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return f, client, log
}

// path returns the path of a collection of the namespace.
func (c *cluster) path(collection string) string {
	group := "/api/v1"
	if strings.HasPrefix(collection, "leases") {
		group = "/apis/coordination.k8s.io/v1"
	}
	return group + "/namespaces/" + c.namespace + "/" + collection
}

// pod returns a pod with a label.
func pod(name, label string) Pod {
	return Pod{Metadata: ObjectMeta{Name: name, Labels: map[string]string{"app": label}},
		Spec: PodSpec{Containers: []Container{{Name: "c", Image: "x"}}}}
}

// put creates a pod, not by way of the proxy.
func (c *cluster) put(t testing.TB, name, label string) {
	t.Helper()
	c.Must(t, http.MethodPost, c.path("pods"), pod(name, label), nil)
}

// remove deletes a pod at once, not by way of the proxy.
func (c *cluster) remove(t testing.TB, name string) {
	t.Helper()
	c.Must(t, http.MethodDelete, c.path("pods/"+name)+"?gracePeriodSeconds=0", nil, nil)
}

// told is what a watch tells.
type told struct {
	mu    sync.Mutex
	lines []string
}

func (o *told) note(line string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.lines = append(o.lines, line)
}

func (o *told) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.Join(o.lines, ", ")
}

// until waits until what was told ends with the given lines.
func (o *told) until(t testing.TB, c *cluster, end string) {
	t.Helper()
	eventually(t, func() bool { return strings.HasSuffix(o.String(), end) }, func() string {
		return fmt.Sprintf("told: %s\nwant: … %s\nlog: %s", o, end, c.log)
	})
}

// eventually waits for a condition.
func eventually(t testing.TB, is func() bool, sorry func() string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(sorry())
		}
	}
}

// watchObjects watches a collection until the end of the test.
func watchObjects[T Object](t testing.TB, c *cluster, collection string) *told {
	ctx, cancel := context.WithCancel(t.Context())
	o, ended := &told{}, make(chan struct{})
	go func() {
		defer close(ended)
		Watch(ctx, c.Client, c.path(collection), url.Values{"labelSelector": {"app=a"}}, Handler[T]{
			Put: func(item T) {
				verb := "put "
				if item.Meta().DeletionTimestamp != nil {
					verb = "end "
				}
				o.note(verb + item.Meta().Name)
			},
			Delete: func(item T) { o.note("delete " + item.Meta().Name) },
			Synced: func() { o.note("synced") },
		})
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return o
}

// TestKubeWatch follows pods through cuts of the connection. Nothing is lost, nothing is
// told twice, and nothing is listed again.
func TestKubeWatch(t *testing.T) {
	c := newCluster(t, kubetest.Shared(t))
	c.put(t, "one", "a")
	c.put(t, "other", "b")
	o := watchObjects[Pod](t, c, "pods")
	o.until(t, c, "put one, synced")
	c.put(t, "two", "a")
	o.until(t, c, "put two")
	for i := range 5 {
		watches := c.Watches(c.path("pods"))
		eventually(t, func() bool { return c.Watches(c.path("pods")) == watches }, func() string { return "watches again by itself" })
		restore := c.Refuse(t) // Nobody can see what happens now.
		c.put(t, fmt.Sprint("more", i), "a")
		restore()
		o.until(t, c, fmt.Sprint("put more", i))
		c.CutWatches()
		c.Must(t, http.MethodPatch, c.path("pods/two"), map[string]any{"metadata": map[string]any{"annotations": map[string]string{"n": fmt.Sprint(i)}}}, nil)
		o.until(t, c, "put two")
		c.CutWatches()
		c.remove(t, fmt.Sprint("more", i))
		o.until(t, c, fmt.Sprint("delete more", i))
	}
	// A pod that is not selected any more is gone.
	c.Must(t, http.MethodPatch, c.path("pods/one"), map[string]any{"metadata": map[string]any{"labels": map[string]string{"app": "b"}}}, nil)
	o.until(t, c, "delete one")
	want := "put one, synced, put two"
	for i := range 5 {
		want += fmt.Sprintf(", put more%d, put two, end more%[1]d, delete more%[1]d", i)
	}
	if got := o.String(); got != want+", delete one" || c.Lists(c.path("pods")) != 1 {
		t.Errorf("%d lists, told\n%s\nwant\n%s", c.Lists(c.path("pods")), got, want+", delete one")
	}
}

// TestKubeWatchGone lets the server forget the place where a watch was. It lists again
// and tells what differs.
func TestKubeWatchGone(t *testing.T) {
	c := newCluster(t, kubetest.Start(t))
	for _, name := range []string{"stays", "goes", "changes", "returns"} {
		c.put(t, name, "a")
	}
	o := watchObjects[Pod](t, c, "pods")
	o.until(t, c, "put changes, put goes, put returns, put stays, synced")
	restore := c.Refuse(t)
	c.remove(t, "goes")
	c.remove(t, "returns")
	c.put(t, "returns", "a")
	c.put(t, "comes", "a")
	c.Must(t, http.MethodPatch, c.path("pods/changes"), map[string]any{"metadata": map[string]any{"annotations": map[string]string{"n": "1"}}}, nil)
	c.Compact(t)
	c.Restart(t)
	restore()
	o.until(t, c, "synced, delete goes, put changes, put comes, delete returns, put returns, synced")
	if !strings.Contains(c.log.String(), "410 Expired") {
		t.Errorf("no 410:\n%s", c.log)
	}
	c.put(t, "later", "a")
	o.until(t, c, "synced, put later")
}

// TestKubeWatchRestart kills the API server under a watch.
func TestKubeWatchRestart(t *testing.T) {
	c := newCluster(t, kubetest.Start(t))
	o := watchObjects[Pod](t, c, "pods")
	o.until(t, c, "synced")
	c.put(t, "one", "a")
	o.until(t, c, "put one")
	c.Kill(t)
	eventually(t, func() bool { return strings.Contains(c.log.String(), "level=WARN") }, func() string { return "no warning" })
	c.Restart(t)
	c.put(t, "two", "a")
	o.until(t, c, "put two")
	if got := strings.ReplaceAll(o.String(), "synced, ", ""); got != "put one, put two" {
		t.Errorf("told %s", got)
	}
	if got := strings.Count(c.log.String(), "level=WARN"); got != 1 {
		t.Errorf("%d warnings:\n%s", got, c.log)
	}
}

// TestKubeWatchPages lists more objects than one answer has. The server forgets the state
// that it has begun to list before the second page is asked for.
func TestKubeWatchPages(t *testing.T) {
	c := newCluster(t, kubetest.Start(t))
	lease := func(i int) map[string]any {
		return map[string]any{"metadata": map[string]any{"name": fmt.Sprintf("l%04d", i), "labels": map[string]string{"app": "a"}}}
	}
	parallel(t, pageSize+10, 16, func(i int) error { return c.Create(within(t), c.path("leases"), lease(i), nil) })
	o := watchObjects[Lease](t, c, "leases")
	o.until(t, c, fmt.Sprintf("put l%04d, synced", pageSize+9))
	if got := c.Lists(c.path("leases")); got != 2 {
		t.Errorf("%d lists, want 2 pages", got)
	}
	release := c.Hold(http.MethodGet, "continue=")
	again := watchObjects[Lease](t, c, "leases")
	eventually(t, func() bool { return c.Count(http.MethodGet, "continue=") == 2 }, func() string { return "no second page" })
	c.Must(t, http.MethodDelete, c.path("leases/l0000"), nil, nil)
	c.Compact(t)
	c.Restart(t)
	release()
	again.until(t, c, fmt.Sprintf("put l%04d, synced", pageSize+9))
	if got := again.String(); !strings.HasPrefix(got, "put l0001") || strings.Count(got, "put") != pageSize+9 || strings.Count(got, "synced") != 1 {
		t.Errorf("told %s", got)
	}
	if got := c.Count(http.MethodGet, "limit=0"); got != 1 {
		t.Errorf("%d lists in one piece, want 1:\n%s", got, c.log)
	}
}

// TestKubeSilence freezes the connection of a watch: nothing arrives, and nothing says
// so. The watch finds out and goes on.
func TestKubeSilence(t *testing.T) {
	t.Parallel() // It mostly waits.
	c := newCluster(t, kubetest.Shared(t))
	o := watchObjects[Pod](t, c, "pods")
	o.until(t, c, "synced")
	c.put(t, "one", "a")
	o.until(t, c, "put one")
	thaw := c.Freeze()
	c.put(t, "two", "a")
	eventually(t, func() bool { return strings.Contains(c.log.String(), "watch failed") }, func() string { return "does not notice" })
	thaw()
	o.until(t, c, "put two")
	if got := o.String(); got != "synced, put one, put two" {
		t.Errorf("told %s", got)
	}
}

// parallel calls do for 0 to n-1, up to width at a time.
func parallel(t testing.TB, n, width int, do func(i int) error) {
	t.Helper()
	next, errs := make(chan int), make(chan error, n)
	var all sync.WaitGroup
	for range width {
		all.Go(func() {
			for i := range next {
				errs <- do(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	all.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}
