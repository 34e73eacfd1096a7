//go:build linux

package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"example.com/scheduler/examples/internal/kube"
	"example.com/scheduler/examples/internal/kubetest"
)

var scale = flag.Bool("scale", false, "measure how many pods a proxy carries, which takes minutes")

// TestKubeScale measures what the README says about pods:
//
//	go test ./examples/proxy -run TestKubeScale -v -args -scale
//
// The proxy is a process of its own, so that its processor time is known. The API server,
// the cluster that is played around it, and the models share the machine with it, and
// take most of it.
func TestKubeScale(t *testing.T) {
	if !*scale {
		t.Skip("-scale measures for minutes")
	}
	const most = 1000
	k := newKubeTest(t, kubetest.Shared(t), kubetest.Node{Name: "n", Allocatable: map[string]string{"nvidia.com/gpu": "2000", "pods": "2000"}})
	models := make(map[string]any)
	for i := range most {
		models[scaleModel(i)] = with(gpus(1, kubetest.LoadAnnotation, "0s", kubetest.StopAnnotation, "0s"), "loadTimeout", "10m")
	}
	k.configure(models, "maxRunning", most, "kubernetes", map[string]any{"keepPods": true})
	p := k.startApart()
	p.events = k.countEvents()
	for _, clients := range []int{1, 16, 64} {
		p.measureStarts(clients, max(20, 3*clients))
	}
	loaded := 0
	for _, pods := range []int{10, 100, most} {
		p.orderAll(16, loaded, pods, "load")
		loaded = pods
		p.measureRest(pods)
		p = p.measureTakeOver(pods)
	}
	p.orderAll(16, 0, most, "unload")
	k.mustHave()
}

func scaleModel(i int) string { return fmt.Sprintf("m%04d", i) }

// apart is a proxy in a process of its own.
type apart struct {
	*kubeProxy
	process *proxyProcess
	events  *atomic.Int64 // that a watch of the pods has had
}

// startApart starts a proxy that is to be the only one, or the next one.
func (k *kubeTest) startApart() *apart {
	process := startProxyProcess(k.T, "-config", k.file)
	p := &apart{&kubeProxy{kubeTest: k, url: process.url}, process, nil}
	p.mustLead()
	return p
}

// countEvents watches the pods as the proxy does.
func (k *kubeTest) countEvents() *atomic.Int64 {
	client, err := kube.New(kube.Config{Server: k.server.URL, CAFile: k.server.CAFile, TokenFile: k.tokenFile, Namespace: k.namespace}, slog.New(slog.DiscardHandler))
	if err != nil {
		k.Fatal(err)
	}
	events, done := new(atomic.Int64), make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	k.Cleanup(func() { cancel(); <-done; client.Close() })
	count := func(kube.Pod) { events.Add(1) }
	go func() {
		defer close(done)
		kube.Watch(ctx, client, "/api/v1/namespaces/"+k.namespace+"/pods", nil, kube.Handler[kube.Pod]{Put: count, Delete: count})
	}()
	return events
}

// order sends an order for a model, and waits until it has been carried out.
func (p *apart) order(what string, model int) {
	resp, err := http.Post(p.url+"/"+what+"?model="+scaleModel(model), "", nil)
	if err != nil {
		p.Error(err)
		return
	}
	defer resp.Body.Close()
	if text, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK {
		p.Errorf("%s: %s %s", what, resp.Status, text)
	}
}

// orderAll sends an order for the models of some numbers, so many at once.
func (p *apart) orderAll(clients, from, to int, what string) {
	var all sync.WaitGroup
	var next atomic.Int64
	next.Store(int64(from))
	for range clients {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < to && !p.Failed(); i = int(next.Add(1)) - 1 {
				p.order(what, i)
			}
		})
	}
	all.Wait()
}

// measureStarts has clients load and unload models.
func (p *apart) measureStarts(clients, times int) {
	took, used, events := time.Now(), p.processorTime(), p.events.Load()
	var all sync.WaitGroup
	for c := range clients {
		all.Go(func() {
			for i := c; i < times && !p.Failed(); i += clients {
				p.order("load", c)
				p.order("unload", c)
			}
		})
	}
	all.Wait()
	p.Logf("%4d at once: %5.1f starts and stops per second; for each, %v of processor time of the proxy, and %d events",
		clients, float64(times)/time.Since(took).Seconds(), ((p.processorTime() - used) / time.Duration(times)).Round(100*time.Microsecond),
		(p.events.Load()-events)/int64(times))
}

// measureRest looks at a proxy whose pods are ready and idle.
func (p *apart) measureRest(pods int) {
	const rest = 20 * time.Second
	used, events := p.processorTime(), p.events.Load()
	time.Sleep(rest)
	used = p.processorTime() - used
	p.Logf("%4d pods, idle: %.1f %% of a processor; memory %d MiB; %.1f events per second",
		pods, 100*used.Seconds()/rest.Seconds(), p.memory()>>20, float64(p.events.Load()-events)/rest.Seconds())
}

// measureTakeOver ends the proxy in good order, and has another one take over its pods.
func (p *apart) measureTakeOver(pods int) *apart {
	made := p.cluster.Created()
	next := startProxyProcess(p.T, "-config", p.file)
	to := &apart{&kubeProxy{kubeTest: p.kubeTest, url: next.url}, next, p.events}
	ended := time.Now()
	if code := p.process.end(syscall.SIGTERM); code != 0 {
		p.Errorf("exit code %d: %s", code, &p.process.stderr)
	}
	var at time.Time
	for deadline := time.Now().Add(patience); at.IsZero() && time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if to.leads() {
			at = time.Now()
		}
	}
	p.Logf("%4d pods: taken over %v after the lease was, %v after the end had begun", pods,
		at.Sub(to.leaseTaken()).Round(time.Millisecond), at.Sub(ended).Round(time.Millisecond))
	if ready := to.readyModels(); ready != pods || p.cluster.Created() != made {
		p.Errorf("%d of %d are ready, and %d pods have been made", ready, pods, p.cluster.Created()-made)
	}
	return to
}

// leaseTaken returns when the proxy had the lease, as its log says.
func (p *apart) leaseTaken() (at time.Time) {
	for line := range strings.Lines(p.process.stderr.String()) {
		if strings.Contains(line, "msg=leading ") {
			stamp, _, _ := strings.Cut(strings.TrimPrefix(line, "time="), " ")
			at, _ = time.Parse(time.RFC3339, stamp)
		}
	}
	return at
}

// readyModels returns how many models are ready.
func (p *apart) readyModels() (n int) {
	for _, m := range statusOf(p.T, http.DefaultClient, p.url).Models {
		if m.State == "ready" {
			n++
		}
	}
	return n
}

// processorTime returns what the process has used so far.
func (p *apart) processorTime() time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.process.cmd.Process.Pid))
	if err != nil {
		p.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), ") ") // The name may have spaces.
	fields := strings.Fields(after)
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100 everywhere.
}

// memory returns how much memory the process has, in bytes.
func (p *apart) memory() int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.process.cmd.Process.Pid))
	if err != nil {
		p.Fatal(err)
	}
	fields := strings.Fields(string(text))
	kib, _ := strconv.Atoi(fields[slices.Index(fields, "VmRSS:")+1])
	return kib << 10
}
