package pods

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"example.com/scheduler/examples/internal/kube"
	"example.com/scheduler/examples/internal/kubetest"
)

// The tests whose names begin with TestKube need a real API server.

func TestMain(m *testing.M) { kubetest.Main(m) }

// patience is how long what should happen may take.
const patience = time.Minute

// world is a namespace of a real API server with a node in it, and the pods of "p" there.
type world struct {
	*testing.T
	*kubetest.Server
	nodes     *kubetest.Cluster
	faults    *kubetest.Faults
	client    *kube.Client
	namespace string
}

func newWorld(t *testing.T) *world {
	s := kubetest.Shared(t)
	w := &world{T: t, Server: s, namespace: s.Namespace(t), faults: s.Faulty(t)}
	w.nodes = s.Cluster(t, w.namespace, kubetest.Node{Name: w.namespace})
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(s.Admin), 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	w.client, err = kube.New(kube.Config{Server: w.faults.URL, CAFile: w.faults.CAFile, TokenFile: token, Namespace: w.namespace}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.client.Close)
	return w
}

// open opens the cluster anew, as another process would.
func (w *world) open() *Cluster {
	c := Open(w.client, "p", nil, slog.New(slog.DiscardHandler))
	w.Cleanup(c.Close)
	return c
}

// spec is what a model's pod is made of.
func (w *world) spec(model string) Spec {
	return Spec{Model: model, Answers: func(context.Context) error { return nil }, Template: map[string]any{
		"spec": map[string]any{"containers": []any{map[string]any{
			"name": "model", "image": "model", "ports": []any{map[string]any{"containerPort": 8000}},
		}}},
	}}
}

// start starts a model and waits until it is ready.
func (w *world) start(c *Cluster, model string) *Pod {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), patience)
	defer cancel()
	p, err := c.Start(ctx, w.spec(model), io.Discard)
	if err == nil {
		err = p.Ready(ctx)
	}
	if err != nil {
		w.Fatal(err)
	}
	return p
}

// found returns the pods that are found.
func (w *world) found(c *Cluster) []Found {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), patience)
	defer cancel()
	found, err := c.Found(ctx)
	if err != nil {
		w.Fatal(err)
	}
	return found
}

// path returns the path of a pod.
func (w *world) path(pod string) string {
	return "/api/v1/namespaces/" + w.namespace + "/pods/" + pod
}

// erase makes a pod disappear.
func (w *world) erase(pod string) {
	w.Helper()
	w.Must(w.T, http.MethodDelete, w.path(pod)+"?gracePeriodSeconds=0", nil, nil)
}

// mustEnd waits until a channel is closed.
func (w *world) mustEnd(what string, ch <-chan struct{}) {
	w.Helper()
	select {
	case <-ch:
	case <-time.After(patience):
		w.Fatalf("%s: not in %v", what, patience)
	}
}

// mustSee waits until c knows of so many pods.
func (w *world) mustSee(c *Cluster, n int) {
	w.Helper()
	for {
		c.mu.Lock()
		seen, changed := len(c.seen), c.changed
		c.mu.Unlock()
		if seen == n {
			return
		}
		w.mustEnd("a change", changed)
	}
}

// TestKubeLabelsLost: a pod that has lost its label or its annotations is there still, and
// as much a start's own as before.
func TestKubeLabelsLost(t *testing.T) {
	w := newWorld(t)
	c := w.open()
	c.Collect()
	p := w.start(c, "a")
	w.Must(t, http.MethodPatch, w.path(p.Name()), map[string]any{"metadata": map[string]any{"labels": map[string]any{labelProxy: nil}}}, nil)
	for labelled := false; !labelled; {
		w.quiet(p)
		var pod kube.Pod
		w.Must(t, http.MethodGet, w.path(p.Name()), nil, &pod)
		labelled = pod.Metadata.Labels[labelProxy] == "p" && pod.Metadata.DeletionTimestamp == nil
	}
	w.mustSee(c, 1)
	w.Must(t, http.MethodPatch, w.path(p.Name()), map[string]any{"metadata": map[string]any{"annotations": map[string]any{annotationStart: nil}}}, nil)
	w.mustBecome(c, p.Name(), func(p *kube.Pod) bool { return p.Metadata.Annotations[annotationStart] == "" })
	w.quiet(p)
	if err := p.Stop(time.Second); err != nil {
		t.Error(err)
	}
	w.mustEnd("it is gone", p.Gone())
	if w.faults.Count(http.MethodDelete, "/pods/") != 1 {
		t.Error("it was deleted more than once")
	}
}

// quiet fails if p has ended.
func (w *world) quiet(p *Pod) {
	w.Helper()
	select {
	case <-p.Gone():
		w.Fatal("it counts as gone")
	case <-p.Leaving():
		w.Fatal(p.Err())
	default:
	}
}

// TestKubeStopMisled: what is not the API's word does not make a pod gone.
func TestKubeStopMisled(t *testing.T) {
	for name, code := range map[string]int{"a 404 on the way": http.StatusNotFound, "a conflict": http.StatusConflict, "forbidden for a moment": http.StatusForbidden} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			p := w.start(w.open(), "a")
			w.faults.Fail(2, http.MethodDelete, "/pods/", code, "")
			for range 3 { // What is on the way may have the first two fail.
				err := p.Stop(time.Second)
				if err == nil {
					break
				} else if code != http.StatusNotFound {
					t.Error(err)
				}
				w.quiet(p)
			}
			w.mustEnd("it is gone", p.Gone())
			if pods := w.nodes.Pods(t); len(pods) != 0 {
				t.Errorf("there are still %v", pods)
			}
		})
	}
}

// TestKubeStopByForce: even a pod that is stopped by force is there until its node says
// that it has ended, or somebody else takes it on himself to say so.
func TestKubeStopByForce(t *testing.T) {
	w := newWorld(t)
	c := w.open()
	p := w.start(c, "a")
	w.nodes.KillNode(w.namespace)
	stopped := make(chan error, 1)
	go func() { stopped <- p.Stop(0) }()
	w.mustBecome(c, p.Name(), func(pod *kube.Pod) bool {
		w.quiet(p)
		return pod.Metadata.DeletionTimestamp != nil
	})
	w.quiet(p)
	w.erase(p.Name())
	w.mustEnd("it is gone", p.Gone())
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// TestKubeRemoveAnother: a pod is not deleted in place of an earlier one of its name.
func TestKubeRemoveAnother(t *testing.T) {
	w := newWorld(t)
	c := w.open()
	p := w.start(c, "a")
	if err := c.remove(t.Context(), p.Name(), "of an earlier one", 1); err != errGone {
		t.Error(err)
	}
	var pod kube.Pod
	w.Must(t, http.MethodGet, w.path(p.Name()), nil, &pod)
	if pod.Metadata.DeletionTimestamp != nil {
		t.Error("it is deleted")
	}
}

// TestKubeCopies: of two pods of a model the one is found first that has the right name.
func TestKubeCopies(t *testing.T) {
	w := newWorld(t)
	first := w.open()
	p := w.start(first, "b")
	w.start(first, "a")
	var pod struct{ Metadata, Spec map[string]any }
	w.Must(t, http.MethodGet, w.path(p.Name()), nil, &pod)
	w.Must(t, http.MethodPost, w.path(""), map[string]any{"apiVersion": "v1", "kind": "Pod", "spec": pod.Spec, "metadata": map[string]any{
		"name": "a-copy", "labels": pod.Metadata["labels"], "annotations": pod.Metadata["annotations"],
	}}, nil)
	w.mustSee(first, 3)
	first.Release()
	second := w.open()
	var models []string
	for _, f := range w.found(second) {
		models = append(models, f.Model+" "+f.pod.Metadata.Name)
	}
	if want := []string{"a " + podName("p", "a"), "b " + p.Name(), "b a-copy"}; !slices.Equal(models, want) {
		t.Errorf("found %v, not %v", models, want)
	}
	adopted := second.Adopt(w.found(second)[1], w.spec("b"), io.Discard)
	second.Collect()
	w.mustSee(second, 1)
	w.quiet(adopted)
}

// TestKubeAnswerLate: the watch may tell of a pod, and all that becomes of it, before the
// answer to its creation is there.
func TestKubeAnswerLate(t *testing.T) {
	w := newWorld(t)
	c := w.open()
	w.found(c)
	release := w.faults.Withhold(http.MethodPost, "/pods")
	defer release()
	ready := make(chan struct{})
	go func() {
		defer close(ready)
		if p, err := c.Start(w.Context(), w.spec("a"), io.Discard); err != nil {
			t.Error(err)
		} else if err := p.Ready(w.Context()); err != nil {
			t.Error(err)
		}
	}()
	w.mustBecome(c, podName("p", "a"), func(p *kube.Pod) bool { return judge(p, "model").ready })
	release()
	w.mustEnd("it is ready", ready)
}

// mustBecome waits until c knows that a pod is so.
func (w *world) mustBecome(c *Cluster, name string, so func(*kube.Pod) bool) {
	w.Helper()
	for {
		c.mu.Lock()
		pod, changed := c.seen[name], c.changed
		c.mu.Unlock()
		if so(&pod) {
			return
		}
		w.mustEnd("a change", changed)
	}
}

// TestKubeAdoptLate: between the moments when a pod is found and when it is adopted it may
// end, or disappear.
func TestKubeAdoptLate(t *testing.T) {
	w := newWorld(t)
	first := w.open()
	w.start(first, "gone")
	ends := w.start(first, "ends")
	first.Release()

	second := w.open()
	found := w.found(second)
	if len(found) != 2 || found[0].Model != "ends" || found[1].Model != "gone" {
		t.Fatalf("found %v", found)
	}
	w.erase(found[1].pod.Metadata.Name)
	if !w.nodes.Crash(ends.Name(), 3) {
		t.Fatal("it does not crash")
	}
	w.mustSee(second, 1)
	w.mustBecome(second, ends.Name(), func(p *kube.Pod) bool { return judge(p, "model").ended != "" })
	for _, f := range found {
		p := second.Adopt(f, w.spec(f.Model), io.Discard)
		w.mustEnd(f.Model+" leaves", p.Leaving())
		w.mustEnd(f.Model+" is gone", p.Gone())
	}
}
