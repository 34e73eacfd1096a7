package kubetest

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
)

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

// A pod holds what it has requested until it is gone, and what is deleted by force is
// gone at once.
func TestKubeTerminatingPodsCount(t *testing.T) {
	k := newKind(t, gpus("a", "1"))
	k.create("p", nil, StopAnnotation, "1h")
	k.ready("p")
	k.remove("p")
	k.create("q", nil)
	k.until("q", "unschedulable", func(p *seen) bool { return p.condition("PodScheduled") == "False Unschedulable" })
	k.server.Must(t, "DELETE", k.podPath("p")+"?gracePeriodSeconds=0", nil, nil)
	url := k.ready("q")
	k.server.Must(t, "DELETE", k.podPath("q")+"?gracePeriodSeconds=0", nil, nil)
	k.wait("a pod that was deleted by force stops answering", func() bool {
		_, err := fetch(t, "GET", url+"/health", "")
		return err != nil
	})
	want := fmt.Sprintf("[node %s-a has 1 of example.com/gpu, and 2 are requested by p, q]", k.namespace)
	mustBe(t, "violations", fmt.Sprint(k.Violations()), want) // There is no other node for q.
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
