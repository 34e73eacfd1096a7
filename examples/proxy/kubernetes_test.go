//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"example.com/scheduler/examples/internal/kubetest"
)

// kubeTest is a namespace of a real API server with a cluster around it, and what a proxy
// needs to know of it. The proxy talks to the API through faults, with the token of a
// service account that may do what deploy/rbac.yaml says.
type kubeTest struct {
	*testing.T
	server    *kubetest.Server
	faults    *kubetest.Faults
	cluster   *kubetest.Cluster
	namespace string
	tokenFile string
	file      string // the configuration
	misfits   bool   // there are models that are too big for every node
	logs      kubeLog
}

// newKubeTest makes one. Names of nodes get the namespace in front of them.
func newKubeTest(t *testing.T, s *kubetest.Server, nodes ...kubetest.Node) *kubeTest {
	k := &kubeTest{T: t, server: s, faults: s.Faulty(t), namespace: s.Namespace(t)}
	for i := range nodes {
		nodes[i].Name = k.node(nodes[i].Name)
	}
	k.cluster = s.Cluster(t, k.namespace, nodes...)
	rbac, err := os.ReadFile("deploy/rbac.yaml")
	if err != nil {
		t.Fatal(err)
	}
	_, rbac, _ = bytes.Cut(rbac, []byte("\n---\n")) // The namespace is there.
	own := strings.NewReplacer("namespace: models", "namespace: "+k.namespace, "model-proxy-nodes", "nodes-"+k.namespace)
	s.Apply(t, []byte(own.Replace(string(rbac))), k.namespace, false)
	dir := t.TempDir()
	k.tokenFile, k.file = filepath.Join(dir, "token"), filepath.Join(dir, "models.json")
	k.write(k.tokenFile, s.Token(t, k.namespace, "model-proxy"))
	t.Cleanup(func() {
		for _, v := range k.cluster.Violations() {
			if !k.misfits {
				t.Error(v)
			}
		}
		if t.Failed() {
			t.Logf("%s", k.logs.text())
		}
	})
	return k
}

// kubeLog is what proxies log.
type kubeLog struct {
	mu sync.Mutex
	to bytes.Buffer
}

func (l *kubeLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.to.Write(p)
}

func (l *kubeLog) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.to.String()
}

// node returns the name of a node of this test.
func (k *kubeTest) node(name string) string { return k.namespace + "-" + name }

func (k *kubeTest) write(file, text string) {
	k.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		k.Fatal(err)
	}
}

// gpus is a pod that takes so many GPUs, and how it behaves.
func gpus(n int, behaviour ...string) map[string]any {
	annotations := map[string]any{}
	for i := 0; i+1 < len(behaviour); i += 2 {
		annotations[behaviour[i]] = behaviour[i+1]
	}
	return map[string]any{"pod": map[string]any{
		"metadata": map[string]any{"annotations": annotations},
		"spec": map[string]any{"containers": []any{map[string]any{
			"name":      "model",
			"image":     "model",
			"env":       []any{map[string]any{"name": "MODEL", "value": "${MODEL}"}},
			"ports":     []any{map[string]any{"name": "http", "containerPort": 8000}},
			"resources": map[string]any{"limits": map[string]any{"nvidia.com/gpu": fmt.Sprint(n)}},
		}}},
	}}
}

// image gives another image to a model.
func image(model map[string]any, name string) map[string]any {
	spec := model["pod"].(map[string]any)["spec"].(map[string]any)
	spec["containers"].([]any)[0].(map[string]any)["image"] = name
	return model
}

// typo makes a typing error in the pod of a model.
func typo(model map[string]any) map[string]any {
	model["pod"].(map[string]any)["spec"].(map[string]any)["nodeSelecter"] = map[string]any{}
	return model
}

// with adds settings to a model.
func with(model map[string]any, settings ...any) map[string]any {
	for i := 0; i+1 < len(settings); i += 2 {
		model[settings[i].(string)] = settings[i+1]
	}
	return model
}

// configure writes the configuration: models, and settings beside them. At most one model
// at a time is loaded unless the settings say something else.
func (k *kubeTest) configure(models map[string]any, settings ...any) {
	k.Helper()
	c := map[string]any{
		"kubernetes": map[string]any{"server": k.faults.URL, "caFile": k.faults.CAFile, "tokenFile": k.tokenFile, "namespace": k.namespace, "name": "p"},
		"models":     models,
	}
	for i := 0; i+1 < len(settings); i += 2 {
		if more, ok := settings[i+1].(map[string]any); ok && c[settings[i].(string)] != nil {
			maps.Copy(c[settings[i].(string)].(map[string]any), more)
		} else {
			c[settings[i].(string)] = settings[i+1]
		}
	}
	text, err := json.Marshal(c)
	if err != nil {
		k.Fatal(err)
	}
	k.write(k.file, string(text))
}

// start starts a proxy in this process, and waits until it has the lease.
func (k *kubeTest) start() *kubeProxy {
	k.Helper()
	p := k.standby()
	p.mustLead()
	return p
}

// standby starts a proxy in this process.
func (k *kubeTest) standby() *kubeProxy {
	k.Helper()
	log := slog.New(slog.NewTextHandler(&k.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	p, err := startTestProxy(options{listen: "127.0.0.1:0", file: k.file}, log)
	if err != nil {
		k.Fatal(err)
	}
	kp := &kubeProxy{kubeTest: k, proxy: p, url: p.url()}
	k.Cleanup(func() { kp.mustEnd() })
	return kp
}

// kubeProxy is a proxy under test.
type kubeProxy struct {
	*kubeTest
	proxy *proxy
	url   string
	once  sync.Once
}

// mustEnd ends the proxy gracefully.
func (p *kubeProxy) mustEnd() {
	p.once.Do(func() {
		if code := p.proxy.end(nil); code != 0 {
			p.Errorf("exit code %d", code)
		}
	})
}

// get gets a path.
func (p *kubeProxy) get(path string) (int, string) {
	resp, err := http.Get(p.url + path)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(text)
}

// mustLead waits until the proxy has the lease.
func (p *kubeProxy) mustLead() {
	p.Helper()
	if !happens(func() bool { code, _ := p.get("/ready"); return code == http.StatusOK }) {
		_, text := p.get("/ready")
		p.Fatal("it does not get the lease: ", text)
	}
}

// served is what a model of the cluster answers.
type served struct{ Model, Pod string }

// ask asks a model, which takes as long as delay for its answer.
func (p *kubeProxy) ask(model, delay string) (s served, code int, text string) {
	resp, err := http.Post(p.url+"/v1/chat/completions?delay="+delay, "application/json", strings.NewReader(fmt.Sprintf(`{"model":%q,"messages":[]}`, model)))
	if err != nil {
		return s, 0, err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return s, resp.StatusCode, err.Error()
	}
	json.Unmarshal(body, &s)
	return s, resp.StatusCode, string(body)
}

// mustServe asks a model, and returns the pod that has answered.
func (p *kubeProxy) mustServe(model string) (pod string) {
	p.Helper()
	s, code, text := p.ask(model, "0s")
	if code != http.StatusOK || s.Model != model {
		p.Fatalf("%s: %d %s", model, code, text)
	}
	return s.Pod
}

// mustFail asks a model, and expects an error that has all of words.
func (p *kubeProxy) mustFail(model string, status int, words ...string) {
	p.Helper()
	_, code, text := p.ask(model, "0s")
	if code != status {
		p.Errorf("%s: %d %s", model, code, text)
	}
	for _, word := range words {
		if !strings.Contains(text, word) {
			p.Errorf("%s: %s does not say %q", model, text, word)
		}
	}
}

// mustBe waits until the proxy has a model in a state.
func (p *kubeProxy) mustBe(model, state string) {
	p.Helper()
	var is string
	if !happens(func() bool {
		for _, m := range statusOf(p.T, http.DefaultClient, p.url).Models {
			if m.Model == model {
				is = m.State
			}
		}
		return is == state
	}) {
		p.Fatalf("%s is %s, not %s", model, is, state)
	}
}

// mustHave waits until the pods that exist are those of models.
func (k *kubeTest) mustHave(models ...string) {
	k.Helper()
	var pods []string
	if !happens(func() bool {
		pods = k.cluster.Pods(k.T)
		return len(pods) == len(models) && !slices.ContainsFunc(models, func(m string) bool { return !slices.ContainsFunc(pods, isPodOf(m)) })
	}) {
		k.Fatalf("the pods are %v, not those of %v", pods, models)
	}
}

func isPodOf(model string) func(pod string) bool {
	return func(pod string) bool { return strings.HasPrefix(pod, "p-"+model+"-") }
}

// TestKubeSwap: a pod is made when its model is asked for, and deleted, and gone, before
// the next one is made where there is no room for both. A busy one is waited for.
func TestKubeSwap(t *testing.T) {
	k := newKubeTest(t, kubetest.Shared(t), kubetest.Node{Name: "n", Allocatable: map[string]string{"nvidia.com/gpu": "1"}})
	k.configure(map[string]any{"a": gpus(1, kubetest.StopAnnotation, "300ms"), "b": gpus(1)})
	p := k.start()
	k.mustHave()
	pod := p.mustServe("a")
	k.mustHave("a")
	if again := p.mustServe("a"); again != pod {
		t.Errorf("pods %s and %s", pod, again)
	}
	var all sync.WaitGroup
	for _, model := range []string{"a", "b", "a", "b", "b"} {
		all.Go(func() {
			if _, code, text := p.ask(model, "200ms"); code != http.StatusOK {
				t.Errorf("%s: %d %s", model, code, text)
			}
		})
	}
	all.Wait()
	p.mustServe("b")
	k.mustHave("b")
	if code, text := p.get("/logs?model=b"); code != http.StatusOK || !strings.Contains(text, "request") {
		t.Errorf("logs: %d %s", code, text)
	}
	p.mustEnd()
	k.mustHave()
	if n := k.cluster.Killed(); n != 0 {
		t.Errorf("%d requests were in flight when their pod was deleted", n)
	}
	if n := k.cluster.Unschedulable(); n != 0 {
		t.Errorf("%d pods were made before there was room", n)
	}
	if most := k.cluster.Most(); most != 1 {
		t.Errorf("%d pods at once", most)
	}
}

// TestKubeLoadFails: what a cluster says of a pod that does not become ready is in the
// answer, with the last lines of its log where there are any, and nothing is left of it.
func TestKubeLoadFails(t *testing.T) {
	k := newKubeTest(t, kubetest.Shared(t), kubetest.Node{Name: "n", Allocatable: map[string]string{"nvidia.com/gpu": "1"}})
	k.misfits = true
	k.configure(map[string]any{
		"big":   with(gpus(2), "loadTimeout", "2s"),
		"image": image(gpus(1), "bad-image:1"),
		"exit":  gpus(1, kubetest.FailAnnotation, "exit"),
		"oom":   gpus(1, kubetest.FailAnnotation, "oom"),
		"never": with(gpus(1, kubetest.FailAnnotation, "never"), "loadTimeout", "2s"),
		"bad":   with(image(gpus(1), " "), "loadTimeout", "20s"),
		"typo":  typo(gpus(1)),
		"good":  gpus(1),
	})
	p := k.start()
	p.mustFail("big", http.StatusBadGateway, "not ready after 2s", "Unschedulable", "Insufficient nvidia.com/gpu")
	p.mustFail("image", http.StatusBadGateway, "ImagePullBackOff")
	p.mustFail("exit", http.StatusBadGateway, "exit code 1", "last output", "loading")
	p.mustFail("oom", http.StatusBadGateway, "OOMKilled", "last output")
	p.mustFail("never", http.StatusBadGateway, "not ready after 2s", "container model runs and is not ready")
	p.mustFail("bad", http.StatusBadGateway, "image")
	p.mustFail("typo", http.StatusBadGateway, `unknown field \"spec.nodeSelecter\"`)
	k.mustHave()
	p.mustServe("good")
	k.mustHave("good")
}

// TestKubeModelEnds: a pod that ends by itself, or is taken away, is noticed. The next
// request has the model loaded again, once the API says that the old pod is gone.
func TestKubeModelEnds(t *testing.T) {
	s := kubetest.Shared(t)
	for _, c := range []struct {
		name string
		end  func(k *kubeTest, pod string) bool
		says []string
	}{
		{"crash", func(k *kubeTest, pod string) bool { return k.cluster.Crash(pod, 3) }, []string{"exit code 3"}},
		{"out of memory", func(k *kubeTest, pod string) bool { return k.cluster.OOM(pod) }, []string{"OOMKilled"}},
		{"evicted by its node", func(k *kubeTest, pod string) bool { return k.cluster.Evict(pod) }, []string{"Evicted"}},
		{"drained", func(k *kubeTest, pod string) bool { return k.cluster.Drain(pod) }, []string{"EvictionByEvictionAPI"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			k := newKubeTest(t, s, kubetest.Node{Name: "n", Allocatable: map[string]string{"nvidia.com/gpu": "1"}})
			k.configure(map[string]any{"a": gpus(1, kubetest.StopAnnotation, "300ms")})
			p := k.start()
			pod := p.mustServe("a")
			if !c.end(k, pod) {
				t.Fatal("there is no such pod")
			}
			var lastError string
			if !happens(func() bool { lastError = p.lastError("a"); return lastError != "" }) {
				t.Fatal("it is not noticed")
			}
			for _, word := range c.says {
				if !strings.Contains(lastError, word) {
					t.Errorf("%s does not say %q", lastError, word)
				}
			}
			p.mustServe("a")
			k.mustHave("a")
			if most := k.cluster.Most(); most != 1 {
				t.Errorf("%d pods at once", most)
			}
		})
	}
}

// lastError returns what the proxy says of the latest end of a model.
func (p *kubeProxy) lastError(model string) string {
	var s struct {
		Models []struct {
			Model     string `json:"model"`
			LastError string `json:"last_error"`
		} `json:"models"`
	}
	_, text := p.get("/status")
	json.Unmarshal([]byte(text), &s)
	for _, m := range s.Models {
		if m.Model == model {
			return m.LastError
		}
	}
	return ""
}
