//go:build linux

package main

import (
	"context"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"example.com/scheduler/examples/internal/kubetest"
)

// oneCard is a node with room for one model.
func oneCard() kubetest.Node { return oneCardOn("n") }

func oneCardOn(name string) kubetest.Node {
	return kubetest.Node{Name: name, Allocatable: map[string]string{"nvidia.com/gpu": "1"}}
}

// TestKubeTrouble: whatever goes wrong between the proxy and the API, a swap takes longer
// and ends well, and there are never two pods.
func TestKubeTrouble(t *testing.T) {
	s := kubetest.Shared(t)
	for _, c := range []struct {
		name    string
		trouble func(*kubetest.Faults)
	}{
		{"too many requests", func(f *kubetest.Faults) {
			f.Fail(2, http.MethodPost, "/pods", http.StatusTooManyRequests, "1")
			f.Fail(2, http.MethodDelete, "/pods/", http.StatusTooManyRequests, "1")
		}},
		{"internal errors", func(f *kubetest.Faults) {
			f.Fail(2, http.MethodPost, "/pods", http.StatusInternalServerError, "")
			f.Fail(2, http.MethodDelete, "/pods/", http.StatusServiceUnavailable, "")
		}},
		{"a conflict that is none", func(f *kubetest.Faults) { f.Fail(1, http.MethodPost, "/pods", http.StatusConflict, "") }},
		{"lost answers", func(f *kubetest.Faults) {
			f.Lose(1, http.MethodPost, "/pods")
			f.Lose(1, http.MethodDelete, "/pods/")
		}},
		{"cut watches", func(f *kubetest.Faults) { f.CutWatches() }},
		{"cut watches, and the version has expired", func(f *kubetest.Faults) {
			f.Expire(1, "/pods?")
			f.CutWatches()
		}},
		{"cut watches, and 410", func(f *kubetest.Faults) {
			f.Fail(1, http.MethodGet, "watch=", http.StatusGone, "")
			f.CutWatches()
		}},
		{"no logs", func(f *kubetest.Faults) { f.Fail(5, http.MethodGet, "/log?", http.StatusInternalServerError, "") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			k := newKubeTest(t, s, oneCard())
			k.configure(map[string]any{"a": gpus(1), "b": gpus(1)})
			p := k.start()
			p.mustServe("a")
			c.trouble(k.faults)
			p.mustServe("b")
			k.mustHave("b")
			c.trouble(k.faults)
			p.mustServe("a")
			k.mustHave("a")
			if most, n := k.cluster.Most(), k.cluster.Unschedulable(); most != 1 || n != 0 {
				t.Errorf("%d pods at once, %d too early", most, n)
			}
		})
	}
}

// TestKubeServerRestarts: the API server is killed in the middle of a swap, what it knew
// of the past is forgotten, and it is started again. The swap goes on.
func TestKubeServerRestarts(t *testing.T) {
	t.Parallel()
	k := newKubeTest(t, kubetest.Start(t), oneCard())
	k.configure(map[string]any{"a": gpus(1, kubetest.StopAnnotation, "1s"), "b": gpus(1, kubetest.LoadAnnotation, "1s")})
	p := k.start()
	p.mustServe("a")
	for _, during := range []string{"stopping", "starting"} {
		var asking sync.WaitGroup
		asking.Go(func() {
			if _, code, text := p.ask("b", "0s"); code != http.StatusOK {
				t.Errorf("%d %s", code, text)
			}
		})
		if during == "stopping" {
			p.mustBe("a", "stopping")
		} else {
			k.mustHave("b")
		}
		k.server.Kill(t)
		if code, text := p.get("/status"); code != http.StatusOK {
			t.Errorf("the run loop waits for the API: %d %s", code, text)
		}
		k.server.Compact(t)
		k.server.Restart(t)
		asking.Wait()
		k.mustHave("b")
		p.mustServe("a")
		k.mustHave("a")
	}
	if most, n := k.cluster.Most(), k.cluster.Unschedulable(); most != 1 || n != 0 {
		t.Errorf("%d pods at once, %d too early", most, n)
	}
}

// TestKubeNodeLost: a machine that is lost answers no more, and nobody can say that its
// pods have ended. So the model stays where it is, as far as its memory counts, until
// the node is removed.
func TestKubeNodeLost(t *testing.T) {
	t.Parallel()
	k := newKubeTest(t, kubetest.Shared(t), kubetest.Node{Name: "n", Allocatable: map[string]string{"nvidia.com/gpu": "2"}}, oneCardOn("m"))
	k.configure(map[string]any{"a": with(gpus(2), "stopTimeout", "1s"), "b": gpus(1)})
	p := k.start()
	setLost(p, time.Second)
	p.mustServe("a")
	k.cluster.KillNode(k.node("n"))
	p.mustBe("a", "stopping")
	if says := p.lastError("a"); !strings.Contains(says, "does not answer") {
		t.Errorf("it says %s", says)
	}
	k.cluster.Taint(k.node("n"))
	k.mustHave("a")
	k.cluster.RemoveNode(k.node("n"))
	p.mustBe("a", "stopped")
	k.mustHave()
	p.mustServe("b")
}

// setLost shortens how long a pod may give no sign of life. Only a test would do that with
// a cluster that is in use.
func setLost(p *kubeProxy, d time.Duration) { p.proxy.service.(*replica).present().cluster.Lost = d }

// TestKubeTokenRotates: a token that is replaced, and then worth nothing, is read again.
func TestKubeTokenRotates(t *testing.T) {
	t.Parallel()
	k := newKubeTest(t, kubetest.Shared(t), oneCard())
	first, revoke := k.server.RevocableToken(t, k.namespace, "model-proxy")
	k.write(k.tokenFile, first)
	k.configure(map[string]any{"a": gpus(1), "b": gpus(1)})
	p := k.start()
	p.mustServe("a")
	k.write(k.tokenFile, k.server.Token(t, k.namespace, "model-proxy"))
	revoke()
	k.faults.CutWatches()
	p.mustServe("b")
	k.mustHave("b")
	if !p.leads() {
		t.Error("the lease is lost")
	}
}

// leads reports whether the proxy has the lease.
func (p *kubeProxy) leads() bool {
	code, _ := p.get("/ready")
	return code == http.StatusOK
}

// TestKubeRights: without the rights of deploy/rbac.yaml, errors say which one is missing.
func TestKubeRights(t *testing.T) {
	k := newKubeTest(t, kubetest.Shared(t), oneCard())
	k.configure(map[string]any{"a": with(gpus(1), "loadTimeout", "5s")})
	p := k.start()
	k.server.Must(t, http.MethodPatch, "/apis/rbac.authorization.k8s.io/v1/namespaces/"+k.namespace+"/roles/model-proxy",
		map[string]any{"rules": []any{
			map[string]any{"apiGroups": []string{""}, "resources": []string{"pods"}, "verbs": []string{"get", "list", "watch", "delete"}},
			map[string]any{"apiGroups": []string{"coordination.k8s.io"}, "resources": []string{"leases"}, "verbs": []string{"get", "create", "update"}},
		}}, nil)
	if !happens(func() bool { _, code, _ := p.ask("a", "0s"); return code == http.StatusBadGateway }) {
		t.Fatal("pods are made without the right to")
	}
	p.mustFail("a", http.StatusBadGateway, "forbidden", "cannot create resource", "pods")
	if !p.leads() {
		t.Error("the lease is lost")
	}
}

// TestKubeForeignPods: a pod that is not the proxy's is not touched, even if it has the
// name that a pod of the proxy would have; one that has its label and that nobody has
// started is deleted.
func TestKubeForeignPods(t *testing.T) {
	t.Parallel()
	k := newKubeTest(t, kubetest.Shared(t), oneCard())
	k.configure(map[string]any{"a": with(gpus(1), "loadTimeout", "10s")})
	p := k.start()
	pod := p.mustServe("a")
	p.mustUnload("a")
	k.mustHave()
	foreign := func(name string, labels map[string]string) {
		k.server.Must(t, http.MethodPost, "/api/v1/namespaces/"+k.namespace+"/pods", map[string]any{
			"apiVersion": "v1", "kind": "Pod",
			"metadata": map[string]any{"name": name, "labels": labels},
			"spec":     map[string]any{"containers": []any{map[string]any{"name": "x", "image": "x"}}},
		}, nil)
	}
	foreign(pod, nil)
	p.mustFail("a", http.StatusBadGateway, pod, "not one of p's")
	if pods := k.cluster.Pods(t); !slices.Equal(pods, []string{pod}) {
		t.Errorf("the pods are %v", pods)
	}
	k.server.Must(t, http.MethodDelete, "/api/v1/namespaces/"+k.namespace+"/pods/"+pod+"?gracePeriodSeconds=0", nil, nil)
	k.mustHave()
	foreign("other", map[string]string{"models.scheduler.example.com/proxy": "p"})
	k.mustHave()
	foreign("unrelated", map[string]string{"app": "x"})
	p.mustServe("a")
	if pods := k.cluster.Pods(t); !slices.Contains(pods, "unrelated") {
		t.Errorf("the pods are %v", pods)
	}
	k.server.Must(t, http.MethodDelete, "/api/v1/namespaces/"+k.namespace+"/pods/unrelated?gracePeriodSeconds=0", nil, nil)
}

// mustUnload unloads a model and waits until it is gone.
func (p *kubeProxy) mustUnload(model string) {
	p.Helper()
	resp, err := http.Post(p.url+"/unload?model="+model, "", nil)
	if err != nil {
		p.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		p.Fatalf("unload %s: %s", model, resp.Status)
	}
}

// TestKubeProxyKilled: a proxy that is killed leaves its pods. The next one, once the
// lease has run out, has what is ready running, lets a load go on, and deletes what the
// configuration has no more, or has as something else.
func TestKubeProxyKilled(t *testing.T) {
	t.Parallel()
	k := newKubeTest(t, kubetest.Shared(t), kubetest.Node{Name: "n", Allocatable: map[string]string{"nvidia.com/gpu": "4"}})
	k.configure(map[string]any{"ready": gpus(1), "gone": gpus(1), "other": gpus(1), "loading": gpus(1, kubetest.LoadAnnotation, "1m")}, "maxRunning", 4)
	first := startProxyProcess(t, "-config", k.file)
	p := &kubeProxy{kubeTest: k, url: first.url}
	p.mustLead()
	ready := p.mustServe("ready")
	p.mustServe("gone")
	p.mustServe("other")
	go p.ask("loading", "0s")
	k.mustHave("ready", "gone", "other", "loading")
	created := k.cluster.Created()
	first.end(syscall.SIGKILL)
	k.mustHave("ready", "gone", "other", "loading")

	k.configure(map[string]any{"ready": gpus(1), "other": image(gpus(1), "newer"), "loading": gpus(1, kubetest.LoadAnnotation, "1m")}, "maxRunning", 4)
	second := k.start()
	second.mustBe("ready", "ready")
	if pod := second.mustServe("ready"); pod != ready || k.cluster.Created() != created {
		t.Errorf("%s was served by %s", ready, pod)
	}
	k.mustHave("ready", "loading")
	second.mustBe("loading", "starting")
	if n := k.cluster.Created(); n != created {
		t.Errorf("%d pods have been made, not %d", n, created)
	}
	second.mustServe("other")
	k.mustHave("ready", "loading", "other")
}

// TestKubeStandby: of two proxies one serves. When it ends, the other one takes over its
// pods at once; if it is killed, once the lease has run out.
func TestKubeStandby(t *testing.T) {
	t.Parallel()
	k := newKubeTest(t, kubetest.Shared(t), oneCard())
	k.configure(map[string]any{"a": gpus(1), "b": gpus(1)}, "kubernetes", map[string]any{"keepPods": true})
	first := startProxyProcess(t, "-config", k.file)
	p := &kubeProxy{kubeTest: k, url: first.url}
	p.mustLead()
	pod := p.mustServe("a")
	second := k.standby()
	if !happens(func() bool {
		code, text := second.get("/ready")
		return code == 503 && strings.Contains(text, `this proxy stands by: \"`)
	}) {
		t.Fatal(second.get("/ready"))
	}
	second.mustFail("a", http.StatusServiceUnavailable, `"standby"`)
	second.mustFail("b", http.StatusServiceUnavailable, `"standby"`)
	if code, text := second.get("/health"); code != http.StatusOK {
		t.Errorf("health: %d %s", code, text)
	}
	k.mustHave("a")
	if code := first.end(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d: %s", code, &first.stderr)
	}
	second.mustLead()
	if again := second.mustServe("a"); again != pod {
		t.Errorf("served by %s, not %s", again, pod)
	}
	second.mustServe("b")
	k.mustHave("b")
	second.mustEnd()
	k.mustHave("b")
}

// TestKubeLeaseLost: a proxy that cannot reach the API for longer than its lease lasts
// serves on with what is ready, and touches nothing. What needs a load waits until the
// lease is back.
func TestKubeLeaseLost(t *testing.T) {
	t.Parallel()
	k := newKubeTest(t, kubetest.Shared(t), oneCard())
	k.configure(map[string]any{"a": with(gpus(1), "ttl", "1s"), "b": gpus(1)})
	p := k.start()
	pod := p.mustServe("a")
	var asking sync.WaitGroup
	asking.Go(func() {
		if s, code, text := p.ask("a", "15s"); code != http.StatusOK || s.Pod != pod {
			t.Errorf("in flight: %d %s", code, text)
		}
	})
	p.mustBeInFlight()
	restore := k.faults.Refuse(t)
	k.mustLog("the lease is lost")
	asking.Go(func() {
		if _, code, text := p.ask("b", "0s"); code != http.StatusOK {
			t.Errorf("a load that had to wait: %d %s", code, text)
		}
	})
	if !happens(func() bool { return len(statusOf(t, http.DefaultClient, p.url).Scheduler.Waiting) == 1 }) {
		t.Error("b does not wait")
	}
	for range 3 {
		if again := p.mustServe("a"); again != pod || !p.leads() {
			t.Errorf("served by %s, not %s", again, pod)
		}
	}
	k.mustHave("a")
	restore()
	asking.Wait()
	k.mustLog("the lease is back")
	k.mustHave("b")
	p.mustServe("a")
	if n := k.cluster.Killed(); n != 0 {
		t.Errorf("%d requests were in flight when their pod was deleted", n)
	}
	if n := k.cluster.Created(); n != 3 {
		t.Errorf("%d pods were made, not 3", n)
	}
}

// TestKubeEndWithoutLease: a proxy that has lost its lease ends at once, and leaves its pods.
func TestKubeEndWithoutLease(t *testing.T) {
	t.Parallel()
	k := newKubeTest(t, kubetest.Shared(t), oneCard())
	k.configure(map[string]any{"a": gpus(1)})
	p := k.start()
	p.mustServe("a")
	defer k.faults.Refuse(t)()
	k.mustLog("the lease is lost")
	p.once.Do(func() {
		if code := p.proxy.end(nil); code != 1 {
			t.Errorf("exit code %d", code)
		}
	})
	k.mustHave("a")
}

// mustLog waits until a proxy has logged something.
func (k *kubeTest) mustLog(words string) {
	k.Helper()
	if !happens(func() bool { return strings.Contains(k.logs.text(), words) }) {
		k.Fatalf("nobody says %q", words)
	}
}

// TestKubeLeaseTaken: a proxy that was cut off while another one took over stands by as soon
// as it knows, and leaves everything to that one.
func TestKubeLeaseTaken(t *testing.T) {
	t.Parallel()
	k := newKubeTest(t, kubetest.Shared(t), oneCard())
	models := map[string]any{"a": gpus(1), "b": gpus(1)}
	k.configure(models)
	first := k.start()
	pod := first.mustServe("a")
	restore := k.faults.Refuse(t)
	k.faults, k.file = k.server.Faulty(t), k.file+".second"
	k.configure(models)
	second := k.start()
	if again := second.mustServe("a"); again != pod {
		t.Errorf("served by %s, not %s", again, pod)
	}
	if again := first.mustServe("a"); again != pod {
		t.Errorf("the proxy that is cut off: served by %s, not %s", again, pod)
	}
	second.mustServe("b")
	k.mustHave("b")
	restore()
	if !happens(func() bool { return !first.leads() }) {
		t.Fatal("there are two at work")
	}
	first.mustFail("a", http.StatusServiceUnavailable, `"standby"`)
	first.mustEnd()
	k.mustHave("b")
	second.mustServe("b")
	if n := k.cluster.Created(); n != 2 {
		t.Errorf("%d pods were made, not 2", n)
	}
}

// mustBeInFlight waits until a request is in flight.
func (p *kubeProxy) mustBeInFlight() {
	p.Helper()
	if !happens(func() bool { return statusOf(p.T, http.DefaultClient, p.url).serves() }) {
		p.Fatal("nothing is in flight")
	}
}

// TestKubeNodes: the pools of the budget are the cards of the nodes, and the placement
// picks the node.
func TestKubeNodes(t *testing.T) {
	k := newKubeTest(t, kubetest.Shared(t),
		kubetest.Node{Name: "one", Labels: map[string]string{"cards": "yes"}, Allocatable: map[string]string{"nvidia.com/gpu": "1"}},
		kubetest.Node{Name: "two", Labels: map[string]string{"cards": "yes"}, Allocatable: map[string]string{"nvidia.com/gpu": "2"}},
		kubetest.Node{Name: "other", Allocatable: map[string]string{"nvidia.com/gpu": "8"}})
	placed := func(n int) map[string]any {
		m := gpus(n)
		m["pod"].(map[string]any)["spec"].(map[string]any)["nodeSelector"] = map[string]any{"kubernetes.io/hostname": "${PLACEMENT}"}
		return m
	}
	footprint := func(n int) map[string]any {
		return map[string]any{"placements": []any{map[string]any{"gpu": n}}}
	}
	k.configure(map[string]any{"a": placed(1), "b": placed(1), "c": placed(1), "big": placed(2), "huge": placed(3)},
		"budget", map[string]any{
			"fromNodes": map[string]any{"gpu": map[string]any{"resource": "nvidia.com/gpu", "selector": "cards=yes"}},
			"models":    map[string]any{"a": footprint(1), "b": footprint(1), "c": footprint(1), "big": footprint(2), "huge": footprint(3)},
		})
	p := k.start()
	p.mustServe("a")
	p.mustServe("b")
	p.mustServe("c")
	k.mustHave("a", "b", "c")
	p.mustServe("big")
	k.mustHave("a", "big")
	p.mustFail("huge", http.StatusServiceUnavailable, `"no_node"`, "needs 3 of gpu", "no node has more than 2")
	k.cluster.SetAllocatable(k.node("one"), "nvidia.com/gpu", "3")
	if !happens(func() bool { _, code, _ := p.ask("huge", "0s"); return code == http.StatusOK }) {
		t.Error("a node has more now, and nobody has noticed")
	}
	k.mustHave("huge", "big")
	if n := k.cluster.Unschedulable(); n != 0 {
		t.Errorf("%d pods were made where they do not fit", n)
	}
}

// TestKubeService: with a service, requests go to its name and port.
func TestKubeService(t *testing.T) {
	k := newKubeTest(t, kubetest.Shared(t), oneCard())
	k.configure(map[string]any{
		"a":    with(gpus(1), "service", "svc-${MODEL}"),
		"none": with(gpus(1), "service", "missing"),
		"port": with(gpus(1), "service", "other"),
	})
	service := func(name string, ports ...any) {
		k.server.Must(t, http.MethodPost, "/api/v1/namespaces/"+k.namespace+"/services", map[string]any{
			"apiVersion": "v1", "kind": "Service", "metadata": map[string]any{"name": name},
			"spec": map[string]any{"selector": map[string]any{"models.scheduler.example.com/proxy": "p"}, "ports": ports},
		}, nil)
	}
	port := func(name string, n int) any { return map[string]any{"name": name, "port": n, "targetPort": "http"} }
	service("svc-a", port("metrics", 9090), port("http", 8765))
	service("other", port("x", 1), port("y", 2))
	p := k.start()
	var dialled sync.Map
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		if strings.Contains(address, ".svc:") {
			dialled.Store(address, true)
			var pod struct{ Status struct{ PodIP string } }
			k.server.Must(t, http.MethodGet, "/api/v1/namespaces/"+k.namespace+"/pods/"+k.cluster.Names()[0], nil, &pod)
			address = pod.Status.PodIP + ":8000"
		}
		return dialer.DialContext(ctx, network, address)
	}
	p.proxy.service.(*replica).present().host.transport.DialContext = dial
	probing := prober.Transport
	prober.Transport = &http.Transport{DisableKeepAlives: true, DialContext: dial}
	defer func() { prober.Transport = probing }()
	p.mustServe("a")
	want := "svc-a." + k.namespace + ".svc:8765"
	if _, ok := dialled.Load(want); !ok {
		t.Errorf("%s was not dialled", want)
	}
	p.mustFail("none", http.StatusBadGateway, "service missing", "404")
	p.mustFail("port", http.StatusBadGateway, "service other", `no port \"http\"`)
	p.mustEnd()
}

// TestKubeReload: a change of a pod's template has it replaced once it is idle; pools from
// nodes can come and go; whether there is a cluster cannot change.
func TestKubeReload(t *testing.T) {
	k := newKubeTest(t, kubetest.Shared(t), kubetest.Node{Name: "n", Labels: map[string]string{"zone": "z"}, Allocatable: map[string]string{"nvidia.com/gpu": "2"}})
	k.configure(map[string]any{"a": gpus(1), "b": gpus(1)})
	p := k.start()
	reload := func() { p.proxy.reload(p.proxy.options.config()) }
	first := p.mustServe("a")
	k.configure(map[string]any{"a": image(gpus(1), "newer"), "b": gpus(1)})
	reload()
	k.mustHave()
	if again := p.mustServe("a"); again != first || k.cluster.Created() != 2 {
		t.Errorf("%s and %s, %d pods made", first, again, k.cluster.Created())
	}
	one := map[string]any{"placements": []any{map[string]any{"gpu": 1}}}
	two := map[string]any{"placements": []any{map[string]any{"gpu": 2}}}
	from := map[string]any{"resource": "nvidia.com/gpu"}
	k.configure(map[string]any{"a": image(gpus(1), "newer"), "b": gpus(1)}, "budget",
		map[string]any{"fromNodes": map[string]any{"gpu": from}, "models": map[string]any{"a": one, "b": one}})
	reload()
	p.mustServe("b") // For which a goes: nobody knows what it takes.
	p.mustServe("a")
	k.mustHave("a", "b")
	k.configure(map[string]any{"a": image(gpus(1), "newer"), "b": gpus(1)}, "budget",
		map[string]any{"fromNodes": map[string]any{"gpu": map[string]any{"resource": "nvidia.com/gpu", "label": "zone", "selector": "zone=z"}}, "models": map[string]any{"a": two, "b": one}})
	reload()
	p.mustServe("a")
	k.mustHave("a")
	k.write(k.file, `{"models": {"a": {"command": ["x"]}}}`)
	reload()
	if !strings.Contains(k.logs.text(), "only a restart adds or removes it") {
		t.Error("a proxy without its cluster is taken over")
	}
	p.mustServe("a")
}
