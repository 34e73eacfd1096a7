package pods

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"example.com/scheduler/examples/internal/kube"
)

// parseTemplate makes a template of JSON.
func parseTemplate(t *testing.T, text string) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// TestPodName: the name of a pod is a host name, the same at every start, and another one
// for another model.
func TestPodName(t *testing.T) {
	valid := regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)
	models := []string{"a", "A", "a/b", "a-b", "Qwen/Qwen2.5-32B-Instruct-AWQ", "", "-", "…", strings.Repeat("x", 300), strings.Repeat("x", 299), "日本"}
	for _, proxy := range []string{"p", strings.Repeat("p", 40)} {
		names := make(map[string]string)
		for _, model := range models {
			name := podName(proxy, model)
			if !valid.MatchString(name) || len(name) > 63 || !strings.HasPrefix(name, proxy+"-") {
				t.Errorf("%q: %q is not a host name", model, name)
			}
			if other, taken := names[name]; taken {
				t.Errorf("%q and %q have the same name %q", model, other, name)
			}
			names[name] = model
			if podName(proxy, model) != name {
				t.Errorf("%q has two names", model)
			}
		}
	}
	if name := podName("proxy", "Qwen/Qwen2.5-32B"); !strings.HasPrefix(name, "proxy-qwen-qwen2-5-32b-") {
		t.Errorf("%q does not look like its model", name)
	}
}

// TestAnswers: the container that is the model is the one that has the port.
func TestAnswers(t *testing.T) {
	const two = `{"spec": {"containers": [{"name": "log", "ports": [{"name": "metrics", "containerPort": 9}]}, {"name": "model", "ports": [{"name": "http", "containerPort": 8000}]}]}}`
	for _, c := range []struct{ template, port, want string }{
		{two, "http", "model 8000"},
		{two, "metrics", "log 9"},
		{two, "", "template: several ports may be meant: name one"},
		{two, "grpc", `template: no container has a port "grpc"`},
		{`{"spec": {"containers": [{"name": "m", "ports": [{"containerPort": 1}]}]}}`, "", "m 1"},
		{`{"spec": {"containers": [{"name": "m"}]}}`, "", "template: no container has a port"},
		{`{"spec": {"containers": "none"}}`, "", "template: json: cannot unmarshal string into Go struct field PodSpec.spec.containers of type []kube.Container"},
	} {
		s := Spec{Template: parseTemplate(t, c.template), Port: c.port}
		container, port, err := s.answers()
		got := container + " " + string(mustJSON(port))
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s of %s: %s, not %s", c.port, c.template, got, c.want)
		}
	}
}

func mustJSON(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return text
}

// TestManifest: what the proxy adds to a template.
func TestManifest(t *testing.T) {
	c := &Cluster{name: "proxy", owner: &kube.OwnerReference{APIVersion: "v1", Kind: "Pod", Name: "self", UID: "u1"}}
	s := Spec{Model: "big/one", Takes: map[string]int64{"gpu/n1": 2}, Template: parseTemplate(t, `{"metadata": {"labels": {"team": "x"}}, "spec": {"containers": [{"name": "m", "ports": [{"containerPort": 1}]}]}}`)}
	digest := s.digest()
	got := string(mustJSON(s.manifest(c, "proxy-big-one-1", "START")))
	want := `{"apiVersion":"v1","kind":"Pod","metadata":{` +
		`"annotations":{"models.scheduler.example.com/model":"big/one","models.scheduler.example.com/start":"START","models.scheduler.example.com/takes":"{\"gpu/n1\":2}","models.scheduler.example.com/template":"` + digest + `"},` +
		`"labels":{"models.scheduler.example.com/model":"big-one-1","models.scheduler.example.com/proxy":"proxy","team":"x"},` +
		`"name":"proxy-big-one-1","ownerReferences":[{"apiVersion":"v1","kind":"Pod","name":"self","uid":"u1"}]},` +
		`"spec":{"containers":[{"name":"m","ports":[{"containerPort":1}]}],"restartPolicy":"Never"}}`
	if got != want {
		t.Errorf("the pod is\n%s\nnot\n%s", got, want)
	}
}

// TestDigest: a pod is another one if its template, its port or its service is.
func TestDigest(t *testing.T) {
	seen := make(map[string]int)
	for i, s := range []Spec{
		{Template: map[string]any{"spec": "a"}},
		{Template: map[string]any{"spec": "b"}},
		{Template: map[string]any{"spec": "a"}, Port: "x"},
		{Template: map[string]any{"spec": "a"}, Service: "x"},
	} {
		if other, taken := seen[s.digest()]; taken {
			t.Errorf("specs %d and %d are alike", other, i)
		}
		seen[s.digest()] = i
	}
	a, b := Spec{Model: "a", Template: map[string]any{"x": 1, "y": 2}}, Spec{Template: map[string]any{"y": 2, "x": 1}}
	if a.digest() != b.digest() {
		t.Error("the order of members makes another pod")
	}
}
