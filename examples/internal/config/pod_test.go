package config

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// aPod is a pod with all that one needs.
const aPod = `{"spec": {"containers": [{"name": "m", "image": "i", "ports": [{"containerPort": 8000}]}]}}`

// podFile is a configuration whose only model, alpha, has these fields.
func podFile(fields string) string {
	return `{"kubernetes": {"namespace": "models"}, "models": {"alpha": {` + fields + `}}}`
}

// parsed returns the configuration in text.
func parsed(t *testing.T, text string) *Config {
	t.Helper()
	c, err := Parse("f.json", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestKubernetesFields: paths begin in the folder of the file.
func TestKubernetesFields(t *testing.T) {
	folder := t.TempDir()
	c, err := Parse(filepath.Join(folder, "f.json"), []byte(`{
		"kubernetes": {
			"server": "https://10.0.0.1:6443/k8s/clusters/c-1", "caFile": "ca.crt", "tokenFile": "/run/token",
			"clientCert": "../tls.crt", "clientKey": "tls.key", "namespace": "models", "name": "left", "keepPods": true
		},
		"models": {"alpha": {"pod": `+aPod+`, "port": "", "service": "${MODEL}-svc", "apiKeyEnv": ""}}
	}`))
	if err != nil {
		t.Fatal(err)
	}
	want := &Kubernetes{
		Server: "https://10.0.0.1:6443/k8s/clusters/c-1", CAFile: filepath.Join(folder, "ca.crt"), TokenFile: "/run/token",
		ClientCert: filepath.Join(filepath.Dir(folder), "tls.crt"), ClientKey: filepath.Join(folder, "tls.key"),
		Namespace: "models", Name: "left", KeepPods: true,
	}
	if !reflect.DeepEqual(c.Kubernetes, want) {
		t.Errorf("%+v, want %+v", c.Kubernetes, want)
	}
	m := c.Models["alpha"]
	if !m.IsPod() || m.Remote() || m.URL != "" || m.Health != "/health" || m.LoadTimeout != Seconds(300) || m.StopTimeout != Seconds(10) {
		t.Errorf("%+v", m)
	}
	if service, err := m.ServiceName("alpha"); service != "alpha-svc" || err != nil {
		t.Errorf("service %q, %v", service, err)
	}
	in := parsed(t, `{"kubernetes": {}, "models": {"alpha": {"pod": `+aPod+`}}}`)
	if !reflect.DeepEqual(in.Kubernetes, &Kubernetes{Name: "model-proxy"}) {
		t.Errorf("in the cluster: %+v", in.Kubernetes)
	}
	if service, err := in.Models["alpha"].ServiceName("alpha"); service != "" || err != nil {
		t.Errorf("service %q, %v", service, err)
	}
}

func TestKubernetesErrors(t *testing.T) {
	const inside = "needs server; without it the proxy runs in the cluster, and uses its service account"
	for _, tt := range []struct{ fields, err string }{
		{`"server": "https://h"`, ""},
		{`"server": "http://127.0.0.1:8001"`, ""},
		{`"server": "http://[::1]:8001"`, ""},
		{`"server": "http://localhost"`, ""},
		{`"server": "http://10.0.0.1"`, "server: must begin with https, unless it is on this machine"},
		{`"server": "10.0.0.1:6443"`, `server: must be a URL such as "https://10.0.0.1:6443"`},
		{`"server": "https://"`, `server: must be a URL such as "https://10.0.0.1:6443"`},
		{`"server": "https://h:99999"`, `server: must be a URL such as "https://10.0.0.1:6443"`},
		{`"server": "https://h/a?b"`, `server: must not have a user, "?" or "#"`},
		{`"server": "https://u:xyzzy@h"`, `server: must not have a user, "?" or "#"`},
		{`"caFile": "a"`, "caFile: " + inside},
		{`"tokenFile": "a"`, "tokenFile: " + inside},
		{`"clientCert": "a", "clientKey": "b"`, "clientCert: " + inside + "\nclientKey: " + inside},
		{`"server": "https://h", "clientCert": "a"`, "clientCert: clientCert and clientKey are only of use together"},
		{`"server": "https://h", "clientKey": "a"`, "clientCert: clientCert and clientKey are only of use together"},
		{`"namespace": "Models"`, `namespace: must be a name such as "models": at most 63 small letters, digits and "-", beginning and ending with a letter or a digit`},
		{`"name": "a.b"`, `name: must be a name such as "model-proxy": at most 40 small letters, digits and "-", beginning and ending with a letter or a digit`},
		{`"name": "-a"`, `name: must be a name such as "model-proxy": at most 40 small letters, digits and "-", beginning and ending with a letter or a digit`},
		{`"name": "` + strings.Repeat("x", 40) + `"`, ""},
		{`"name": "` + strings.Repeat("x", 41) + `"`, `name: must be a name such as "model-proxy": at most 40 small letters, digits and "-", beginning and ending with a letter or a digit`},
		{`"keepPods": 1`, "keepPods: must be true or false, not a number"},
		{`"cafile": "a"`, `cafile: unknown field; did you mean "caFile"?`},
	} {
		text := `{"kubernetes": {` + tt.fields + `}, "models": {"alpha": {"pod": ` + aPod + `}}}`
		want := ""
		if tt.err != "" {
			want = "f.json:1: kubernetes." + strings.ReplaceAll(tt.err, "\n", "\nf.json:1: kubernetes.")
		}
		if _, err := Parse("f.json", []byte(text)); errorText(err) != want {
			t.Errorf("%s:\ngot:  %v\nwant: %s", tt.fields, err, want)
		}
	}
}

// TestKinds: a model is a process, elsewhere or a pod, and has nothing of another kind.
func TestKinds(t *testing.T) {
	const pod = `"pod": ` + aPod
	for _, tt := range []struct{ text, err string }{
		{podFile(pod + `, "command": [], "env": {}`), ""},
		{podFile(pod + `, "command": ["a"]`), "models.alpha.command: is for a process, and the model has a pod; give its containers their command and args"},
		{podFile(pod + `, "stopCommand": ["a"]`), "models.alpha.stopCommand: is for a process, and the model has a pod; give its containers a preStop hook"},
		{podFile(pod + `, "env": {"A": "b"}`), "models.alpha.env: is for a process, and the model has a pod; give its containers their env"},
		{podFile(pod + `, "dir": "a"`), "models.alpha.dir: is for a process, and the model has a pod; give its containers a workingDir"},
		{podFile(pod + `, "url": "http://h"`), "models.alpha.url: is for a process, and the model has a pod; its port says where it answers"},
		{podFile(`"command": ["a"], "port": "http"`), "models.alpha.port: is for a model with a pod"},
		{podFile(`"url": "http://h", "service": "a"`), "models.alpha.service: is for a model with a pod"},
		{podFile(pod + `, "health": "x"`), `models.alpha.health: must be a path such as "/health", or "none"`},
		{`{"kubernetes": {}, "models": {"alpha": {"pod": {"metadata": {"namespace": "a"}, ` + aPod[1:] + `}}}`,
			`models.alpha.pod.metadata.namespace: must be left out: all pods are in the namespace that kubernetes.namespace names`},
		{`{"models": {"alpha": {"pod": {"metadata": {"namespace": "a"}, ` + aPod[1:] + `}}}`,
			`models.alpha.pod: needs "kubernetes" beside "models", which says where pods run; {} stands for the cluster that the proxy runs in`},
		{`{"models": {"alpha": {` + pod + `}}}`, `models.alpha.pod: needs "kubernetes" beside "models", which says where pods run; {} stands for the cluster that the proxy runs in`},
	} {
		checkText(t, tt.text, tt.err)
	}
}

// checkText checks what is wrong in text, which has a single line.
func checkText(t *testing.T, text, want string) {
	t.Helper()
	if want != "" {
		want = "f.json:1: " + strings.ReplaceAll(want, "\n", "\nf.json:1: ")
	}
	if _, err := Parse("f.json", []byte(text)); errorText(err) != want {
		t.Errorf("%.300s:\ngot:  %v\nwant: %s", text, err, want)
	}
}

func TestPodErrors(t *testing.T) {
	const (
		containers = `"containers": [{"name": "m", "image": "i", "ports": [{"containerPort": 1}]}]`
		spec       = `"spec": {` + containers + `}`
		value      = `must have at most 63 letters, digits, "-", "_" and ".", beginning and ending with a letter or a digit; annotations may have anything`
	)
	for _, tt := range []struct{ pod, err string }{
		{`{"apiVersion": "v1", "kind": "Pod", ` + spec + `}`, ""},
		{`{"metadata": {"labels": {"a": "", "example.com/b": "${MODEL}"}, "annotations": {"c": "any thing"}, "namespace": "models"}, ` + spec + `}`, ""},
		{`{"spec": {"restartPolicy": "Never", "initContainers": [{"name": "n", "restartPolicy": "Always"}], ` + containers + `}}`, ""},
		{`[]`, "pod: must be an object, not a list"},
		{`"a.json"`, "pod: must be an object, not a string"},
		{`{}`, "pod.spec: must be there: it says what runs in the pod\npod.spec.containers: no container has a TCP port, at which the model would answer"},
		{`{"apiVersion": "v2", ` + spec + `}`, `pod.apiVersion: must be "v1", or left out`},
		{`{"kind": "Deployment", ` + spec + `}`, `pod.kind: must be "Pod", or left out`},
		{`{"kind": [], ` + spec + `}`, `pod.kind: must be "Pod", or left out`},
		{`{"apiVersion": "${A}", "kind": "${B}", ` + spec + `}`, `pod.apiVersion: ${A} is not known here; known: MODEL; "$${" stands for a plain "${"
pod.apiVersion: must be "v1", or left out
pod.kind: ${B} is not known here; known: MODEL; "$${" stands for a plain "${"
pod.kind: must be "Pod", or left out`},
		{`{"status": {}, ` + spec + `}`, `pod.status: is not part of a template`},
		{`{"template": {}, ` + spec + `}`, `pod.template: unknown field: a pod has metadata and spec`},
		{`{"metadata": {"namespace": "default"}, ` + spec + `}`, `pod.metadata.namespace: must be left out: all pods are in the namespace that kubernetes.namespace names`},
		{`{"metadata": {"name": "m"}, ` + spec + `}`, `pod.metadata.name: must be left out: the proxy gives each pod a name`},
		{`{"metadata": {"generateName": "m"}, ` + spec + `}`, `pod.metadata.generateName: must be left out: the proxy gives each pod a name`},
		{`{"metadata": {"ownerReferences": []}, ` + spec + `}`, `pod.metadata.ownerReferences: must be left out: the proxy says who owns a pod and when it goes`},
		{`{"metadata": {"finalizers": ["a/b"]}, ` + spec + `}`, `pod.metadata.finalizers: must be left out: the proxy says who owns a pod and when it goes`},
		{`{"metadata": {"uid": "1"}, ` + spec + `}`, `pod.metadata.uid: is not part of a template, whose metadata are labels and annotations`},
		{`{"metadata": [], ` + spec + `}`, `pod.metadata: must be an object`},
		{`{"metadata": {"labels": {"a": 1}}, ` + spec + `}`, `pod.metadata.labels.a: must be a string`},
		{`{"metadata": {"labels": {"a b": "c"}}, ` + spec + `}`, `pod.metadata.labels["a b"]: must be called like "app" or "example.com/app"`},
		{`{"metadata": {"labels": {"` + strings.Repeat("x", 63) + `": "b"}}, ` + spec + `}`, ""},
		{`{"metadata": {"labels": {"` + strings.Repeat("x", 64) + `": "b"}}, ` + spec + `}`, `pod.metadata.labels["` + strings.Repeat("x", 40) + `…"]: must be called like "app" or "example.com/app"`},
		{`{"metadata": {"labels": {"` + strings.Repeat("x", 254) + `/a": "b"}}, ` + spec + `}`, `pod.metadata.labels["` + strings.Repeat("x", 40) + `…"]: must be called like "app" or "example.com/app"`},
		{`{"metadata": {"labels": {"Example.com/a": "b"}}, ` + spec + `}`, `pod.metadata.labels["Example.com/a"]: must be called like "app" or "example.com/app"`},
		{`{"metadata": {"labels": {"a": "org/alpha"}}, ` + spec + `}`, `pod.metadata.labels.a: ` + value},
		{`{"metadata": {"labels": {"a": "` + strings.Repeat("x", 64) + `"}}, ` + spec + `}`, `pod.metadata.labels.a: ` + value},
		{`{"metadata": {"labels": {"models.scheduler.example.com/model": "a"}}, ` + spec + `}`, `pod.metadata.labels["models.scheduler.example.com/model"]: is one of the proxy's own, which begin with "models.scheduler.example.com/"`},
		{`{"metadata": {"annotations": {"models.scheduler.example.com/model": "a"}}, ` + spec + `}`, `pod.metadata.annotations["models.scheduler.example.com/model"]: is one of the proxy's own, which begin with "models.scheduler.example.com/"`},
		{`{"spec": []}`, "pod.spec: must be an object\npod.spec.containers: no container has a TCP port, at which the model would answer"},
		{`{"spec": {"restartPolicy": "Always", ` + containers + `}}`, `pod.spec.restartPolicy: must be "Never", or left out: the proxy itself starts a model again that has ended, when somebody asks for it`},
		{`{"spec": {"containers": []}}`, "pod.spec.containers: must be a list of at least one container\npod.spec.containers: no container has a TCP port, at which the model would answer"},
		{`{"spec": {"containers": ["a", {"name": "", "ports": [{"containerPort": 1}]}]}}`, "pod.spec.containers[0]: must be an object\npod.spec.containers[1].image: must be a string that is not empty\npod.spec.containers[1].name: must be a string that is not empty"},
		{`{"spec": {"nodeName": "${NODE}", "hostname": "${PORT}", ` + containers + `}}`, `pod.spec.nodeName: ${NODE} is not known here; known: MODEL; "$${" stands for a plain "${"
pod.spec.hostname: ${PORT} is not known here; known: MODEL; "$${" stands for a plain "${"`},
		{`{"spec": {"tolerations": [{"key": "a"}, {"key": "${PLACEMENT}"}], ` + containers + `}}`, `pod.spec.tolerations[1].key: ${PLACEMENT} is not known here; known: MODEL; "$${" stands for a plain "${"`},
		{`{"spec": {"hostname": "a\u0000b", ` + containers + `}}`, `pod.spec.hostname: must not have a NUL character`},
		{`{"spec": {"hostname": null, "tolerations": [null], ` + containers + `}}`, "pod.spec.hostname: must not be null; leave it out\npod.spec.tolerations[0]: must not be null; leave it out"},
		{`{"spec": {"a": 1, "a": 2, ` + containers + `}}`, "pod.spec.a: is in line 1 already"},
		{`{"metadata": {"annotations": {"a": "` + strings.Repeat("x", maxPod) + `"}}, ` + spec + `}`, "pod: has 262260 bytes; a pod has at most 256KiB"},
	} {
		want := ""
		if tt.err != "" {
			want = "models.alpha." + strings.ReplaceAll(tt.err, "\npod", "\nmodels.alpha.pod")
		}
		checkText(t, podFile(`"pod": `+tt.pod), want)
	}
}

func TestPorts(t *testing.T) {
	for _, tt := range []struct {
		ports, port string
		number      int
		named, err  string
	}{
		{ports: `{"containerPort": 8000}`, number: 8000},
		{ports: `{"containerPort": 8000, "name": "http"}`, number: 8000, named: "http"},
		{ports: `{"containerPort": 8000, "name": "http", "protocol": "TCP"}, {"containerPort": 1, "protocol": "UDP"}`, number: 8000, named: "http"},
		{ports: `{"containerPort": 1, "name": "a"}, {"containerPort": 2, "name": "b"}`, port: "b", number: 2, named: "b"},
		{ports: `{"containerPort": 1, "name": "a"}, {"containerPort": 2, "name": "b"}`, err: "port: must say at which of the ports the model answers; with a name there are: a, b"},
		{ports: `{"containerPort": 1, "name": "a"}, {"containerPort": 2}`, err: "port: must say at which of the ports the model answers; with a name there are: a"},
		{ports: `{"containerPort": 1, "name": "a"}`, port: "b", err: "port: no container has a TCP port of this name; there are: a"},
		{ports: `{"containerPort": 1, "name": "a"}, {"containerPort": 2, "name": "b", "protocol": "UDP"}`, port: "b", err: "port: no container has a TCP port of this name; there are: a"},
		{ports: `{"containerPort": 1, "name": "a"}, {"containerPort": 2, "name": "a"}`, port: "a", err: "port: 2 ports have this name"},
		{ports: `{"containerPort": 1, "protocol": "SCTP"}`, err: "pod.spec.containers: no container has a TCP port, at which the model would answer"},
		{ports: `{"containerPort": 0}`, err: "pod.spec.containers[0].ports[0].containerPort: must be a number from 1 to 65535"},
		{ports: `{"containerPort": 65536}`, err: "pod.spec.containers[0].ports[0].containerPort: must be a number from 1 to 65535"},
		{ports: `{"containerPort": "80"}`, err: "pod.spec.containers[0].ports[0].containerPort: must be a number from 1 to 65535"},
		{ports: `{"containerPort": 1e3}`, err: "pod.spec.containers[0].ports[0].containerPort: must be a number from 1 to 65535"},
		{ports: `{"name": "a"}`, err: "pod.spec.containers[0].ports[0].containerPort: must be a number from 1 to 65535"},
	} {
		text := podFile(`"pod": {"spec": {"containers": [{"name": "m", "image": "i", "ports": [` + tt.ports + `]}]}}, "port": "` + tt.port + `"`)
		if tt.err != "" {
			checkText(t, text, "models.alpha."+tt.err)
			continue
		}
		if m := parsed(t, text).Models["alpha"]; m.PodPort() != tt.number || m.Port != tt.named {
			t.Errorf("%s: port %d called %q, want %d, %q", tt.ports, m.PodPort(), m.Port, tt.number, tt.named)
		}
	}
}

// TestPortOfAnyContainer: not only the first container may answer.
func TestPortOfAnyContainer(t *testing.T) {
	m := parsed(t, podFile(`"pod": {"spec": {"containers": [
		{"name": "log", "image": "i"}, {"name": "m", "image": "i", "ports": [{"containerPort": 7}]}
	]}}`)).Models["alpha"]
	if m.PodPort() != 7 {
		t.Errorf("port %d", m.PodPort())
	}
}

func TestServiceName(t *testing.T) {
	const rule = `: at most 63 small letters, digits and "-", beginning and ending with a letter or a digit`
	for _, tt := range []struct{ service, err string }{
		{"alpha", ""},
		{"${MODEL}-x", ""},
		{"Alpha", `service: "Alpha" is not the name of a Service` + rule},
		{"${MODEL}.models", `service: "alpha.models" is not the name of a Service` + rule},
		{"${NODE}", `service: ${NODE} is not known here; known: MODEL; "$${" stands for a plain "${"`},
	} {
		err := tt.err
		if err != "" {
			err = "models.alpha.service: " + strings.TrimPrefix(err, "service: ")
		}
		checkText(t, podFile(`"pod": `+aPod+`, "service": "`+tt.service+`"`), err)
		m := &Model{Service: tt.service}
		if _, err := m.ServiceName("alpha"); errorText(err) != tt.err {
			t.Errorf("%s: %v, want %s", tt.service, err, tt.err)
		}
	}
}

// TestPodTemplate: what is made of a pod has all words expanded, exact numbers, and
// nothing in common with the configuration or another copy.
func TestPodTemplate(t *testing.T) {
	c := parsed(t, `{"kubernetes": {}, "budget": {"capacity": {"x": 1}, "default": {"placements": [{"x": 1}, {"x": 1}]}},
		"models": {"org/alpha": {"pod": {
			"metadata": {"annotations": {"a": "${MODEL} on ${PLACEMENT}", "b": "$(MODEL) $${MODEL} $MODEL"}},
			"spec": {
				"terminationGracePeriodSeconds": 9007199254740993, "hostIPC": false, "nodeSelector": {"${MODEL}": "${PLACEMENT}"},
				"containers": [{"name": "m", "image": "i", "args": ["${MODEL}", "x"], "ports": [{"containerPort": 1}]}]
			}
		}}}}`)
	m := c.Models["org/alpha"].Placed(1)
	const want = `{"apiVersion":"v1","kind":"Pod",` +
		`"metadata":{"annotations":{"a":"org/alpha on 1","b":"$(MODEL) ${MODEL} $MODEL"}},` +
		`"spec":{"containers":[{"args":["org/alpha","x"],"image":"i","name":"m","ports":[{"containerPort":1}]}],` +
		`"hostIPC":false,"nodeSelector":{"${MODEL}":"1"},"restartPolicy":"Never","terminationGracePeriodSeconds":9007199254740993}}`
	for range 2 {
		pod, err := m.PodTemplate("org/alpha")
		if err != nil {
			t.Fatal(err)
		}
		if text, err := json.Marshal(pod); string(text) != want || err != nil {
			t.Errorf("got  %s, %v\nwant %s", text, err, want)
		}
		spoil(pod)
	}
}

// spoil changes everything in v.
func spoil(v any) {
	switch v := v.(type) {
	case map[string]any:
		for key := range v {
			spoil(v[key])
			v[key] = "spoilt"
		}
		v["more"] = 1
	case []any:
		for i := range v {
			spoil(v[i])
			v[i] = "spoilt"
		}
	}
}

func TestPodTemplateFails(t *testing.T) {
	m := &Model{Pod: Template{"spec": map[string]any{"hostname": "${NODE}"}}}
	const want = `pod: spec.hostname: ${NODE} is not known here; known: MODEL; "$${" stands for a plain "${"`
	if pod, err := m.PodTemplate("m"); errorText(err) != want || pod != nil {
		t.Errorf("%v, %v", pod, err)
	}
}

// TestPodsByHand: a configuration that is no file may have numbers as Go does.
func TestPodsByHand(t *testing.T) {
	c := &Config{Kubernetes: &Kubernetes{}, Models: Models{"m": {Pod: Template{"spec": map[string]any{
		"containers": []any{map[string]any{"name": "m", "image": "i", "ports": []any{map[string]any{"name": "http", "containerPort": 80}}}},
	}}}}}
	if err := c.Complete(); err != nil || c.Models["m"].PodPort() != 80 || c.Models["m"].Port != "http" {
		t.Errorf("%v, %+v", err, c.Models["m"])
	}
}

// TestPodChanges: another template, port or service means another pod; other placements
// do not.
func TestPodChanges(t *testing.T) {
	with := func(change func(c *Config)) *Config {
		c := parsed(t, `{"kubernetes": {}, "models": {"m": {"port": "a", "pod": {"spec": {"containers": [
			{"name": "m", "image": "i", "ports": [{"name": "a", "containerPort": 1}, {"name": "b", "containerPort": 2}]}
		]}}}}}`)
		if change != nil {
			change(c)
		}
		if err := c.Complete(); err != nil {
			t.Fatal(err)
		}
		return c
	}
	before := with(nil)
	t.Setenv("PROXY_TEST_KEY", "xyzzy")
	for name, change := range map[string]func(c *Config){
		"none":  nil,
		"ttl":   func(c *Config) { c.Models["m"].TTL = 1 },
		"key":   func(c *Config) { c.Keys = []Key{{Name: "one", KeyEnv: "PROXY_TEST_KEY"}} },
		"place": func(c *Config) { c.Budget = &Budget{Capacity: map[string]Size{"x": 9}, Default: new(Footprint)} },
	} {
		if !before.Models["m"].SameProcess(with(change).Models["m"]) {
			t.Errorf("%s: another pod", name)
		}
	}
	for name, change := range map[string]func(c *Config){
		"pod":     func(c *Config) { c.Models["m"].Pod["spec"].(map[string]any)["hostname"] = "h" },
		"port":    func(c *Config) { c.Models["m"].Port = "b" },
		"service": func(c *Config) { c.Models["m"].Service = "s" },
		"health":  func(c *Config) { c.Models["m"].Health = "/" },
	} {
		if before.Models["m"].SameProcess(with(change).Models["m"]) {
			t.Errorf("%s: the same pod", name)
		}
	}
	for name, change := range map[string]func(c *Config){
		"name": func(c *Config) { c.Kubernetes.Name = "other" },
		"keep": func(c *Config) { c.Kubernetes.KeepPods = true },
	} {
		if got := fmt.Sprint(before.NeedsRestart(with(change))); got != "[kubernetes]" {
			t.Errorf("%s: %s", name, got)
		}
	}
	if got := before.NeedsRestart(with(nil)); len(got) != 0 {
		t.Errorf("the same: %q", got)
	}
}
