package kubetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"
)

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
	k.create("p", object{"terminationGracePeriodSeconds": 3600}, StopAnnotation, "1h")
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
	var timeout net.Error
	if _, err := client.Get(url + "/health"); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("a lost pod answers or refuses: %v", err)
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

// A pod that ends by itself just after it was deleted is gone as well. Its kubelet
// reports the end late, when the API server knows of the deletion.
func TestKubeEndsWhileDeleted(t *testing.T) {
	s := Shared(t)
	f, ns := s.Faulty(t), s.Namespace(t)
	pool, err := certPool(f.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	slow := &Server{URL: f.URL, CAFile: f.CAFile, Dir: s.Dir, Admin: s.Admin, client: newClient(pool)}
	t.Cleanup(slow.client.CloseIdleConnections)
	k := &kind{slow.Cluster(t, ns, gpus(ns, "1")), t, s, ns}
	k.create("p", nil)
	k.ready("p")
	reports := func() int { return f.Count("PATCH", k.podPath("p")+"/status") }
	before := reports()
	release := f.Hold("PATCH", k.podPath("p")+"/status")
	crashed := make(chan bool)
	go func() { crashed <- k.Crash("p", 1) }()
	k.wait("the end is reported", func() bool { return reports() > before })
	k.remove("p")
	k.wait("the kubelet knows of the deletion", func() bool { return k.any(func(p *pod) bool { return p.ending }) })
	release()
	if !<-crashed {
		t.Error("not crashed")
	}
	k.untilGone("p")
}

// Whatever happens at the same time, every pod that is deleted is gone in the end.
func TestKubeClusterUnderFire(t *testing.T) {
	t.Parallel()
	s := Start(t)
	ns := s.Namespace(t)
	k := &kind{s.Cluster(t, ns, gpus("a", "3"), gpus("b", "3"), gpus("c", "3")), t, s, ns}
	deadline := time.Now().Add(2 * time.Second)
	hits := []func(pod string) bool{
		k.Evict, k.OOM, k.Drain,
		func(pod string) bool { return k.Crash(pod, 1) },
		func(string) bool { return k.KillNode("b") && k.Taint("b") },
		func(string) bool { return k.RemoveNode("c") },
	}
	send := func(method, path string, body any, want ...int) {
		code, answer, err := s.sendJSON(t.Context(), method, path, body)
		if err != nil || !slices.Contains(want, code) {
			t.Errorf("%s %s: %d: %s (%v)", method, path, code, answer, err)
		}
	}
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for round := 0; time.Now().Before(deadline); round++ {
				name, policy := fmt.Sprint("p", i, "-", round), []string{"Never", "Always"}[round%2]
				pod := newPod(name, object{"restartPolicy": policy}, LoadAnnotation, "5ms", StopAnnotation, "5ms")
				send("POST", k.podPath(""), pod, http.StatusCreated)
				time.Sleep(rand.N(50 * time.Millisecond)) // It is hit at any moment of its life.
				if n := rand.N(20); n < len(hits) {
					hits[n](name)
				}
				send("DELETE", k.podPath(name), nil, http.StatusOK, http.StatusNotFound)
			}
		})
	}
	all.Wait()
	s.Kill(t)
	s.Restart(t)
	k.RemoveNode("b") // Its pods, if it is lost, are gone with it.
	for _, name := range k.Pods(t) {
		k.untilGone(name)
	}
	t.Logf("%d pods, %d at once, %d unschedulable", k.Created(), k.Most(), k.Unschedulable())
	if k.Created() < 4 {
		t.Errorf("only %d pods", k.Created())
	}
}
