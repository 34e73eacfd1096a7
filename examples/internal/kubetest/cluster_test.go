package kubetest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
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
func (k *kind) create(name string, spec object, annotations ...string) {
	k.t.Helper()
	notes := object{}
	for i := 0; i < len(annotations); i += 2 {
		notes[annotations[i]] = annotations[i+1]
	}
	full := object{
		"terminationGracePeriodSeconds": 30,
		"restartPolicy":                 "Never",
		"containers": []object{{
			"name": "main", "image": "model:1", "env": []object{{"name": "MODEL", "value": "m-" + name}},
			"ports":     []object{{"containerPort": 8000}},
			"resources": object{"limits": object{"example.com/gpu": "1"}},
		}},
	}
	for key, value := range spec {
		full[key] = value
	}
	k.server.Must(k.t, "POST", k.podPath(""), object{"metadata": object{"name": name, "annotations": notes}, "spec": full}, nil)
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
	for deadline := time.Now().Add(patience); k.get(name) != nil; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			k.t.Fatalf("pod %s is still there: %+v", name, k.get(name))
		}
	}
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

// gpus returns a node that has n of them.
func gpus(name, n string) Node {
	return Node{Name: name, Labels: map[string]string{"pool": name}, Allocatable: map[string]string{"example.com/gpu": n}}
}

func TestKubePodLife(t *testing.T) {
	k := newKind(t, gpus("a", "1"))
	k.create("p", nil, LoadAnnotation, "300ms")
	p := k.until("p", "running", func(p *seen) bool { return p.Status.Phase == "Running" && p.Status.PodIP != "" })
	mustBe(t, "node", p.Spec.NodeName, k.namespace+"-a")
	mustBe(t, "state", p.state(), "running  0")
	mustFetch(t, "GET", "http://"+p.Status.PodIP+":8000/health", "", "503 Service Unavailable: loading")
	url := k.ready("p")
	mustFetch(t, "GET", url+"/health", "", "200 OK: ")
	mustFetch(t, "GET", url+"/x?delay=1ms", "", `200 OK: {"model":"m-p","n":1,"pod":"p"}`)
	mustFetch(t, "POST", url+"/x", `{"stream": true}`, "200 OK: "+strings.Repeat(`data: {"model":"m-p","n":2,"pod":"p"}`+"\n\n", 3)+"data: [DONE]")
	mustBe(t, "pods", fmt.Sprint(k.Pods(t)), "[p]")
	k.remove("p")
	k.untilGone("p")
	if _, err := fetch(t, "GET", url+"/health", ""); err == nil {
		t.Error("a pod that is gone answers")
	}
	if k.Created() != 1 || k.Most() != 1 || k.Killed() != 0 || k.Unschedulable() != 0 || len(k.Violations()) != 0 {
		t.Errorf("books: %+v", k.books)
	}
}

// Requests in flight are answered within the grace period, and it is noted that they
// were in flight.
func TestKubePodStops(t *testing.T) {
	tests := []struct {
		name  string
		grace int
		delay string
		phase string
		cut   bool
	}{
		{"patient", 60, "300ms", "Succeeded", false},
		{"impatient", 1, "1h", "Failed", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			k := newKind(t, gpus("a", "2"))
			k.create("p", object{"terminationGracePeriodSeconds": tt.grace}, StopAnnotation, "0s")
			url := k.ready("p")
			answered := make(chan error)
			go func() {
				_, err := fetch(t, "GET", url+"/x?delay="+tt.delay, "")
				answered <- err
			}()
			k.untilBusy("p")
			next := k.server.mustWatch(t, k.podPath(""), "p")
			k.remove("p")
			if err := <-answered; (err != nil) != tt.cut {
				t.Errorf("the request in flight: %v", err)
			}
			last := ""
			for event := range next {
				last = event
			}
			mustBe(t, "last phase", last, tt.phase)
			if n := k.Killed(); n != 1 {
				t.Errorf("%d killed", n)
			}
		})
	}
}

// untilBusy waits until a pod serves a request.
func (k *kind) untilBusy(name string) {
	k.t.Helper()
	busy := func() bool {
		k.mu.Lock()
		defer k.mu.Unlock()
		for _, p := range k.pods {
			if p.name == name && p.run != nil && p.run.busy() > 0 {
				return true
			}
		}
		return false
	}
	for deadline := time.Now().Add(patience); !busy(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			k.t.Fatalf("pod %s is never busy", name)
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

func TestKubeLogs(t *testing.T) {
	k := newKind(t, gpus("a", "1"))
	k.create("p", nil)
	url := k.ready("p")
	logs := func(query string) string {
		code, answer := k.server.Do(t, "GET", k.podPath("p")+"/log"+query, nil)
		return fmt.Sprintf("%d %s", code, answer)
	}
	mustBe(t, "log", logs(""), "200 loading\nready\n")
	mustFetch(t, "GET", url+"/", "", `200 OK: {"model":"m-p","n":1,"pod":"p"}`)
	mustBe(t, "tail", logs("?tailLines=1"), "200 request 1\n")
	mustBe(t, "limit", logs("?limitBytes=3"), "200 loa")
	mustBe(t, "since", logs("?sinceTime=2200-01-01T00:00:00Z"), "200 ")
	stamped := strings.Fields(logs("?timestamps=true&tailLines=1"))
	if _, err := time.Parse(time.RFC3339Nano, stamped[1]); err != nil || len(stamped) != 4 {
		t.Errorf("timestamps: %q: %v", stamped, err)
	}
	if got := logs("?previous=true"); !strings.Contains(got, `previous terminated container \"main\" in pod \"p\" not found`) {
		t.Errorf("previous: %s", got)
	}
	resp, err := k.server.open(t.Context(), "GET", k.podPath("p")+"/log?follow=true")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	k.remove("p")
	all, err := io.ReadAll(resp.Body)
	if got := string(all); err != nil || got != "loading\nready\nrequest 1\nstopping\nstopped\n" {
		t.Errorf("followed: %q (%v)", got, err)
	}
}

func TestKubeUnschedulable(t *testing.T) {
	k := newKind(t, gpus("a", "1"), gpus("b", "2"), gpus("c", "1"))
	onto := func(values ...string) object {
		return object{"affinity": object{"nodeAffinity": object{"requiredDuringSchedulingIgnoredDuringExecution": object{
			"nodeSelectorTerms": []object{{"matchExpressions": []object{{"key": "pool", "operator": "In", "values": values}}}},
		}}}}
	}
	k.Cordon(k.namespace + "-c")
	k.create("p", onto("a", "c"))
	k.ready("p")
	k.create("q", onto("a", "c"))
	unschedulable := func(p *seen) bool { return p.condition("PodScheduled") == "False Unschedulable" }
	p := k.until("q", "unschedulable", unschedulable)
	i := slices.IndexFunc(p.Status.Conditions, func(c struct{ Type, Status, Reason, Message string }) bool { return c.Type == "PodScheduled" })
	mustBe(t, "message", p.Status.Conditions[i].Message,
		"0/3 nodes are available: 1 Insufficient example.com/gpu, 1 node(s) didn't match Pod's node affinity/selector, 1 node(s) were unschedulable. "+
			"preemption: 0/3 nodes are available: 1 No preemption victims found for incoming pod, 2 Preemption is not helpful for scheduling.")
	k.remove("p") // A place for the other one, once it is gone.
	k.ready("q")
	k.create("r", object{"nodeSelector": object{"pool": "b"}})
	mustBe(t, "node of r", k.until("r", "ready", (*seen).ready).Spec.NodeName, k.namespace+"-b")
	k.SetAllocatable(k.namespace+"-b", "example.com/gpu", "1")
	k.create("s", object{"nodeSelector": object{"pool": "b"}})
	k.until("s", "unschedulable", unschedulable)
	if n := k.Unschedulable(); n != 2 {
		t.Errorf("%d unschedulable", n)
	}
	if v := k.Violations(); len(v) != 0 {
		t.Errorf("violations: %q", v) // Node a was cordoned off, and b had had two.
	}
}

// A pod that names its node is not scheduled, and rejected if there is no room.
func TestKubeOverbooked(t *testing.T) {
	k := newKind(t, gpus("a", "1"))
	name := object{"nodeName": k.namespace + "-a"}
	k.create("p", name)
	k.ready("p")
	k.create("q", name)
	p := k.until("q", "rejected", func(p *seen) bool { return p.Status.Phase == "Failed" })
	mustBe(t, "reason", p.Status.Reason, "OutOfexample.com/gpu")
	want := fmt.Sprintf("[node %s-a has 1 of example.com/gpu, and 2 are requested by p, q]", k.namespace)
	mustBe(t, "violations", fmt.Sprint(k.Violations()), want)
	if n := k.Most(); n != 2 {
		t.Errorf("%d pods at once", n)
	}
}

func TestKubeFailures(t *testing.T) {
	k := newKind(t, gpus("a", "64"))
	tests := []struct {
		name  string
		spec  object
		fail  string
		do    func(pod string) bool
		state string
		want  string // phase and reason
	}{
		{"exit", nil, "exit", nil, "terminated Error 1", "Failed "},
		{"oom", nil, "oom", nil, "terminated OOMKilled 137", "Failed "},
		{"never", nil, "never", nil, "running  0", "Running "},
		{"image", object{"containers": []object{{"name": "c", "image": "bad-image:1"}}}, "", nil, "waiting ImagePullBackOff 0", "Pending "},
		{"again", object{"restartPolicy": "Always"}, "exit", nil, "waiting CrashLoopBackOff 0", "Running "},
		{"evicted", nil, "", k.Evict, "terminated Error 137", "Failed Evicted"},
		{"killed", nil, "", k.OOM, "terminated OOMKilled 137", "Failed "},
		{"crash", nil, "", func(pod string) bool { return k.Crash(pod, 3) }, "terminated Error 3", "Failed "},
		{"done", nil, "", func(pod string) bool { return k.Crash(pod, 0) }, "terminated Completed 0", "Succeeded "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k.create(tt.name, tt.spec, FailAnnotation, tt.fail)
			if tt.do != nil {
				k.ready(tt.name)
				if !tt.do(tt.name) {
					t.Error("nothing done")
				}
			}
			p := k.until(tt.name, tt.state, func(p *seen) bool { return p.state() == tt.state && !p.ready() })
			mustBe(t, "phase and reason", p.Status.Phase+" "+p.Status.Reason, tt.want)
			k.remove(tt.name)
			k.untilGone(tt.name)
			if tt.do != nil && tt.do(tt.name) {
				t.Error("something is done to a pod that is gone")
			}
		})
	}
}

// A container that crashes is started again if its pod says so, and its output is there.
func TestKubeRestart(t *testing.T) {
	k := newKind(t, gpus("a", "1"))
	k.create("p", object{"restartPolicy": "Always"})
	k.ready("p")
	k.Crash("p", 4)
	p := k.until("p", "ready again", func(p *seen) bool { return p.ready() && p.Status.ContainerStatuses[0].RestartCount == 1 })
	if code := p.Status.ContainerStatuses[0].LastState["terminated"].ExitCode; code != 4 {
		t.Errorf("last exit code %d", code)
	}
	_, log := k.server.Do(t, "GET", k.podPath("p")+"/log?previous=true", nil)
	mustBe(t, "log", string(log), "loading\nready\n")
	k.remove("p")
	k.untilGone("p")
}

func TestKubeDrain(t *testing.T) {
	k := newKind(t, gpus("a", "1"))
	k.create("p", nil, StopAnnotation, "1h")
	url := k.ready("p")
	go fetch(t, "GET", url+"/x?delay=1h", "")
	k.untilBusy("p")
	if !k.Drain("p") {
		t.Error("not evicted")
	}
	p := k.until("p", "terminating", func(p *seen) bool { return p.Metadata.DeletionTimestamp != "" })
	mustBe(t, "condition", p.condition("DisruptionTarget"), "True EvictionByEvictionAPI")
	k.server.Must(t, "DELETE", k.podPath("p")+"?gracePeriodSeconds=1", nil, nil) // Who has less patience decides.
	k.untilGone("p")
	if n := k.Killed(); n != 0 {
		t.Errorf("%d killed by the code under test", n)
	}
	if k.Drain("p") {
		t.Error("a pod that is gone is evicted")
	}
}

func TestKubeNodeLost(t *testing.T) {
	k := newKind(t, gpus("a", "1"), gpus("b", "1"))
	k.create("p", object{"nodeSelector": object{"pool": "a"}})
	url := k.ready("p")
	if !k.KillNode(k.namespace + "-a") {
		t.Fatal("no such node")
	}
	k.until("p", "not ready", func(p *seen) bool { return p.condition("Ready") == "False" && p.Status.Phase == "Running" })
	client := http.Client{Timeout: 100 * time.Millisecond}
	if resp, err := client.Get(url + "/health"); err == nil {
		t.Errorf("a lost pod answers: %s", resp.Status)
	}
	var n struct {
		Status struct {
			Conditions []struct{ Type, Status string }
		}
	}
	k.server.Must(t, "GET", nodePath(k.namespace+"-a"), nil, &n)
	mustBe(t, "node", fmt.Sprint(n.Status.Conditions), "[{Ready Unknown}]")
	k.Taint(k.namespace + "-a")
	p := k.until("p", "terminating", func(p *seen) bool { return p.Metadata.DeletionTimestamp != "" })
	mustBe(t, "condition", p.condition("DisruptionTarget"), "True DeletionByTaintManager")
	k.create("q", object{"nodeSelector": object{"pool": "b"}})
	k.ready("q") // The others live on.
	if k.get("p") == nil {
		t.Error("a pod of a lost node is gone before its node")
	}
	k.RemoveNode(k.namespace + "-a")
	k.untilGone("p")
	if k.KillNode(k.namespace + "-a") {
		t.Error("a node that is gone is lost")
	}
	if n := k.Killed(); n != 0 {
		t.Errorf("%d killed", n)
	}
}

// The players go on where they were when the API server comes back.
func TestKubeClusterOutlivesServer(t *testing.T) {
	t.Parallel()
	s := Start(t)
	ns := s.Namespace(t)
	k := &kind{s.Cluster(t, ns, gpus("a", "2")), t, s, ns}
	k.create("p", nil)
	k.create("q", nil, LoadAnnotation, "200ms")
	url := k.ready("p")
	s.Kill(t)
	mustFetch(t, "GET", url+"/", "", `200 OK: {"model":"m-p","n":1,"pod":"p"}`)
	s.Restart(t)
	k.ready("q")
	k.remove("p")
	k.untilGone("p")
}
