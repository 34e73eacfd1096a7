package kubetest

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"
)

// kind is a cluster with a namespace of its own.
type kind struct {
	*Cluster
	t         *testing.T
	server    *Server
	namespace string
}

func newKind(t *testing.T, nodes ...Node) *kind {
	t.Helper()
	s := Shared(t)
	ns := s.Namespace(t)
	for i := range nodes {
		nodes[i].Name = ns + "-" + nodes[i].Name
	}
	return &kind{s.Cluster(t, ns, nodes...), t, s, ns}
}

// seen is the status of a pod.
type seen struct {
	Metadata struct {
		UID, DeletionTimestamp string
		Annotations            map[string]string
	}
	Spec   struct{ NodeName string }
	Status struct {
		Phase, Reason, Message, PodIP string
		Conditions                    []struct{ Type, Status, Reason, Message string }
		ContainerStatuses             []struct {
			Ready            bool
			RestartCount     int
			State, LastState map[string]struct {
				Reason, Message string
				ExitCode        int
			}
		}
	}
}

// condition returns a condition as status and reason.
func (p *seen) condition(kind string) string {
	for _, c := range p.Status.Conditions {
		if c.Type == kind {
			return strings.TrimSpace(c.Status + " " + c.Reason)
		}
	}
	return ""
}

// state returns how the container is, as the kind of state and its reason.
func (p *seen) state() string {
	for _, c := range p.Status.ContainerStatuses {
		for kind, s := range c.State {
			return fmt.Sprintf("%s %s %d", kind, s.Reason, s.ExitCode)
		}
	}
	return ""
}

// ready reports whether the pod is.
func (p *seen) ready() bool { return p.condition("Ready") == "True" }

// create makes a pod. Extra is merged into its spec, and annotations are pairs.
func (k *kind) create(name string, extra object, annotations ...string) {
	k.t.Helper()
	k.server.Must(k.t, "POST", k.podPath(""), newPod(name, extra, annotations...), nil)
}

// newPod returns a pod of one GPU.
func newPod(name string, extra object, annotations ...string) object {
	notes := object{}
	for i := 0; i < len(annotations); i += 2 {
		notes[annotations[i]] = annotations[i+1]
	}
	spec := object{
		"terminationGracePeriodSeconds": 30,
		"restartPolicy":                 "Never",
		"containers": []object{{
			"name": "main", "image": "model:1", "env": []object{{"name": "MODEL", "value": "m-" + name}},
			"ports":     []object{{"containerPort": 8000}},
			"resources": object{"limits": object{"example.com/gpu": "1"}},
		}},
	}
	maps.Copy(spec, extra)
	return object{"metadata": object{"name": name, "annotations": notes}, "spec": spec}
}

// get returns a pod, or nil if it does not exist.
func (k *kind) get(name string) *seen {
	k.t.Helper()
	code, answer := k.server.Do(k.t, "GET", k.podPath(name), nil)
	if code == http.StatusNotFound {
		return nil
	}
	var p seen
	if err := json.Unmarshal(answer, &p); err != nil || code != http.StatusOK {
		k.t.Fatalf("pod %s: %d: %s (%v)", name, code, answer, err)
	}
	return &p
}

// until waits until a pod is as it should be.
func (k *kind) until(name, what string, ok func(*seen) bool) *seen {
	k.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		p := k.get(name)
		if p != nil && ok(p) {
			return p
		}
		if time.Now().After(deadline) {
			k.t.Fatalf("pod %s is never %s: %+v", name, what, p)
		}
	}
}

// ready waits until a pod is ready, and returns its address.
func (k *kind) ready(name string) string {
	k.t.Helper()
	return "http://" + k.until(name, "ready", (*seen).ready).Status.PodIP + ":8000"
}

// untilGone waits until there is no pod of a name.
func (k *kind) untilGone(name string) {
	k.t.Helper()
	k.wait("pod "+name+" is gone", func() bool { return k.get(name) == nil })
}

// remove deletes a pod.
func (k *kind) remove(name string) {
	k.t.Helper()
	k.server.Must(k.t, "DELETE", k.podPath(name), nil, nil)
}

// fetch returns the status and the body of an answer, or an error.
func fetch(t *testing.T, method, url, body string) (string, error) {
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Error(err)
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.Status + ": " + strings.TrimSpace(string(text)), err
}

// mustFetch compares an answer with what it should be.
func mustFetch(t *testing.T, method, url, body, want string) {
	t.Helper()
	got, err := fetch(t, method, url, body)
	if err != nil || got != want {
		t.Errorf("%s %s = %s (%v), want %s", method, url, got, err, want)
	}
}

// untilBusy waits until a pod serves a request.
func (k *kind) untilBusy(name string) {
	k.t.Helper()
	k.wait("pod "+name+" is busy", func() bool {
		return k.any(func(p *pod) bool { return p.name == name && p.run != nil && p.run.busy() > 0 })
	})
}

// any reports whether ok is true of a pod.
func (k *kind) any(ok func(*pod) bool) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, p := range k.pods {
		if ok(p) {
			return true
		}
	}
	return false
}

// wait waits until ok is true.
func (k *kind) wait(what string, ok func() bool) {
	k.t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			k.t.Fatalf("it never happens that %s", what)
		}
	}
}

// mustWatch returns the phases that the pod of a name goes through until it is gone.
func (s *Server) mustWatch(t *testing.T, path, name string) <-chan string {
	t.Helper()
	resp, err := s.open(t.Context(), "GET", path+"?watch=1&fieldSelector=metadata.name="+name)
	if err != nil {
		t.Fatal(err)
	}
	phases := make(chan string)
	go func() {
		defer close(phases)
		defer resp.Body.Close()
		for events := json.NewDecoder(resp.Body); ; {
			var event struct {
				Type   string
				Object seen
			}
			if err := events.Decode(&event); err != nil {
				t.Error(err)
				return
			}
			phases <- event.Object.Status.Phase
			if event.Type == "DELETED" {
				return
			}
		}
	}()
	return phases
}
