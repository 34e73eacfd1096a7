//go:build linux

package main

import (
	"context"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"example.com/scheduler/examples/internal/kubetest"
	"example.com/scheduler/examples/internal/pods"
)

// TestKubeCancelledCreation: a load is cancelled while nobody knows yet what has become of
// the request to make its pod. Its memory is not given away before that is known.
func TestKubeCancelledCreation(t *testing.T) {
	t.Parallel()
	k := newKubeTest(t, kubetest.Shared(t), oneCard())
	k.configure(map[string]any{"a": gpus(1), "b": gpus(1)})
	p := k.start()
	release := k.faults.Delay(http.MethodPost, "/pods")
	defer release()
	ctx, leave := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	asking.Go(func() {
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, p.url+"/upstream/a/", nil)
		if resp, err := http.DefaultClient.Do(req); err == nil {
			resp.Body.Close()
		}
	})
	if !happens(func() bool { return k.faults.Count(http.MethodPost, "/pods") == 1 }) {
		t.Fatal("no pod is made")
	}
	leave()
	asking.Go(func() {
		if _, code, text := p.ask("b", "0s"); code != http.StatusOK {
			t.Errorf("%d %s", code, text)
		}
	})
	for until := time.After(time.Second); k.faults.Count(http.MethodPost, "/pods") == 1; {
		select {
		case <-until: // That long nothing has gone wrong.
			release()
			asking.Wait()
			k.mustHave("b")
			if most := k.cluster.Most(); most != 1 {
				t.Errorf("%d pods at once", most)
			}
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
	t.Error("another pod is made, though nobody knows whether there is one")
	release()
	asking.Wait()
}

// TestKubeTakeOverWithoutService: a take-over ends although it does not get to know where
// one of the pods answers. That pod's load goes on, and a pod that does not answer is not
// ready, whatever the cluster says.
func TestKubeTakeOverWithoutService(t *testing.T) {
	t.Parallel()
	k := newKubeTest(t, kubetest.Shared(t), kubetest.Node{Name: "n", Allocatable: map[string]string{"nvidia.com/gpu": "2"}})
	k.configure(map[string]any{"a": with(gpus(1), "service", "a", "loadTimeout", "15s"), "b": gpus(1)},
		"kubernetes", map[string]any{"keepPods": true}, "maxRunning", 2, "drainTimeout", "1s")
	k.server.Must(t, http.MethodPost, "/api/v1/namespaces/"+k.namespace+"/services", map[string]any{
		"apiVersion": "v1", "kind": "Service", "metadata": map[string]any{"name": "a"},
		"spec": map[string]any{"ports": []any{map[string]any{"port": 8000}}},
	}, nil)
	p := k.start()
	p.mustServe("b")
	go p.ask("a", "0s") // Its name cannot be resolved here.
	if !happens(func() bool { return k.faults.Count(http.MethodGet, "/services/a") == 1 }) {
		t.Fatal("the pod does not become ready")
	}
	created := k.cluster.Created()
	p.mustEnd()

	release := k.faults.Hold(http.MethodGet, "/services/")
	defer release()
	p = k.start()
	p.mustServe("b")
	p.mustBe("a", "starting")
	release()
	if !happens(func() bool { return k.faults.Count(http.MethodGet, "/services/a") > 2 }) {
		t.Error("the load does not go on")
	}
	if n := k.cluster.Created(); n != created {
		t.Errorf("%d pods have been made, not %d", n, created)
	}
	p.mustFail("a", http.StatusBadGateway, "not ready after 15s", "lookup a.") // Ready to the cluster, and not to be reached from here.
}

// TestKubeReleasedWhileLoading: who waits for a load when the lease is lost is told so.
func TestKubeReleasedWhileLoading(t *testing.T) {
	t.Parallel()
	k := newKubeTest(t, kubetest.Shared(t), oneCard())
	k.configure(map[string]any{"a": gpus(1, kubetest.LoadAnnotation, "1m")})
	p := k.start()
	var asking sync.WaitGroup
	asking.Go(func() { p.mustFail("a", http.StatusServiceUnavailable, `"standby"`, pods.ErrReleased.Error()) })
	p.mustBe("a", "starting")
	k.mustHave("a")
	p.proxy.service.(*replica).present().cluster.Release()
	asking.Wait()
	p.once.Do(func() { p.proxy.end(nil) }) // It would complain about the pod that it has to leave.
	k.mustHave("a")
}

// TestKubeLeaseLostAtEnd: a proxy that has lost its lease and is ended at once leaves its
// pods, says so, and waits for nothing.
func TestKubeLeaseLostAtEnd(t *testing.T) {
	t.Parallel()
	k := newKubeTest(t, kubetest.Shared(t), oneCard())
	k.configure(map[string]any{"a": gpus(1)})
	p := k.start()
	p.mustServe("a")
	defer k.faults.Refuse(t)()
	if !happens(func() bool { return strings.Contains(k.logs.text(), "the lease is lost: until it is back") }) {
		t.Fatal("the lease is not lost")
	}
	signals := make(chan os.Signal, 1)
	signals <- syscall.SIGTERM // The second one.
	p.once.Do(func() {
		if code := p.proxy.end(signals); code != 1 {
			t.Errorf("exit code %d", code)
		}
	})
	if !strings.Contains(k.logs.text(), "the lease is lost, and the pods are left") {
		t.Error("it does not say so")
	}
	k.mustHave("a")
}

// TestKubeLeaseBackWhileDraining: a proxy that has lost its lease to another one, and gets
// it again, first waits for what is in flight from before: the next term knows nothing of
// that, and might stop its model.
func TestKubeLeaseBackWhileDraining(t *testing.T) {
	k := newKubeTest(t, kubetest.Shared(t), oneCard())
	k.configure(map[string]any{"a": gpus(1), "b": gpus(1)})
	p := k.start()
	p.mustServe("a")
	var asking sync.WaitGroup
	asking.Go(func() {
		if _, code, text := p.ask("a", "8s"); code != http.StatusOK {
			t.Errorf("in flight: %d %s", code, text)
		}
	})
	p.mustBeInFlight()
	k.server.Must(t, http.MethodPatch, "/apis/coordination.k8s.io/v1/namespaces/"+k.namespace+"/leases/p",
		map[string]any{"spec": map[string]any{"holderIdentity": "another", "leaseDurationSeconds": 1}}, nil)
	if !happens(func() bool { return !p.leads() }) {
		t.Fatal("it serves without the lease")
	}
	p.mustLead()
	p.mustServe("b")
	asking.Wait()
	if n := k.cluster.Killed(); n != 0 {
		t.Errorf("%d requests were in flight when their pod was deleted", n)
	}
}

// TestKubeFrozen: from the moment at which the lease is lost nothing is deleted, although
// the API could be reached. What was to be deleted is, once the lease is back.
func TestKubeFrozen(t *testing.T) {
	k := newKubeTest(t, kubetest.Shared(t), oneCard())
	k.configure(map[string]any{"a": with(gpus(1), "stopTimeout", "1m")})
	p := k.start()
	p.mustServe("a")
	release := k.faults.Hold(http.MethodPut, "/leases/")
	defer release()
	if !happens(func() bool { return strings.Contains(k.logs.text(), "the lease is lost: until it is back") }) {
		t.Fatal("the lease is not lost")
	}
	var unloading sync.WaitGroup
	unloading.Go(func() { p.mustUnload("a") })
	p.mustBe("a", "stopping")
	for until := time.After(time.Second); ; {
		if n := k.faults.Count(http.MethodDelete, "/pods/"); n != 0 {
			t.Fatalf("%d deletions without the lease", n)
		}
		select {
		case <-time.After(10 * time.Millisecond):
			continue
		case <-until: // That long nothing has gone wrong.
		}
		break
	}
	release()
	unloading.Wait()
	k.mustHave()
}

// TestKubeTakeOverPlaces: pods that are taken over count on the nodes where they are.
func TestKubeTakeOverPlaces(t *testing.T) {
	k := newKubeTest(t, kubetest.Shared(t), oneCardOn("m"), oneCardOn("n"))
	models, footprints := map[string]any{}, map[string]any{}
	for _, name := range []string{"a", "b", "c"} {
		m := gpus(1)
		m["pod"].(map[string]any)["spec"].(map[string]any)["nodeSelector"] = map[string]any{"kubernetes.io/hostname": "${PLACEMENT}"}
		models[name] = m
		footprints[name] = map[string]any{"placements": []any{map[string]any{"gpu": 1}}}
	}
	k.configure(models, "kubernetes", map[string]any{"keepPods": true}, "budget", map[string]any{
		"fromNodes": map[string]any{"gpu": map[string]any{"resource": "nvidia.com/gpu"}}, "models": footprints,
	})
	p := k.start()
	p.mustServe("a")
	p.mustServe("b")
	p.mustUnload("a")
	k.mustHave("b")
	p.mustEnd()
	p = k.start()
	p.mustServe("c") // Where a was.
	k.mustHave("b", "c")
	p.mustServe("b")
	if n := k.cluster.Created(); n != 3 {
		t.Errorf("%d pods have been made, not 3", n)
	}
	p.mustUnload("b")
	p.mustUnload("c")
}
