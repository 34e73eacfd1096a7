package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// write writes files into a new folder, which it returns.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	folder := t.TempDir()
	for name, text := range files {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(folder, name)), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

// imageOf returns the image of the only container of m's pod, and its host name.
func imageOf(m *Model) string {
	spec, _ := m.Pod["spec"].(map[string]any)
	containers, _ := spec["containers"].([]any)
	if len(containers) != 1 {
		return fmt.Sprint(containers)
	}
	return fmt.Sprint(containers[0].(map[string]any)["image"], " ", spec["hostname"])
}

// container is the one of a pod with this image.
func container(image string) string {
	return `"containers": [{"name": "m", "image": "` + image + `", "ports": [{"containerPort": 1}]}]`
}

// TestPodFile: a pod is in the file, in another one, in defaults or in a part of each.
func TestPodFile(t *testing.T) {
	folder := write(t, map[string]string{
		"pods/a.json": `{"spec": {` + container("file") + `}}`,
		"host.json":   `{"spec": {"hostname": "file"}}`,
	})
	for _, tt := range []struct{ defaults, model, want string }{
		{`{}`, `{"podFile": "pods/a.json"}`, "file <nil>"},
		{`{}`, `{"podFile": "` + folder + `/pods/a.json"}`, "file <nil>"},
		{`{"podFile": "pods/a.json"}`, `{}`, "file <nil>"},
		{`{"podFile": "pods/a.json"}`, `{"podFile": "host.json"}`, "file file"},
		{`{"podFile": "host.json"}`, `{"podFile": "pods/a.json"}`, "file file"},
		{`{"podFile": "pods/a.json"}`, `{"pod": {"spec": {"hostname": "own"}}}`, "file own"},
		{`{"podFile": "pods/a.json"}`, `{"pod": {"spec": {` + container("own") + `}}}`, "own <nil>"},
		{`{"pod": {"spec": {"hostname": "all"}}}`, `{"podFile": "pods/a.json"}`, "file all"},
		{`{"pod": {"spec": {"hostname": "all", ` + container("all") + `}}}`, `{"pod": {"spec": {"hostname": "own"}}}`, "all own"},
		{`{"pod": {"spec": {"hostname": "all", ` + container("all") + `}}}`, `{"pod": {}}`, "all all"},
	} {
		text := `{"kubernetes": {}, "defaults": ` + tt.defaults + `, "models": {"alpha": ` + tt.model + `}}`
		c, err := Parse(filepath.Join(folder, "f.json"), []byte(text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
		} else if got := imageOf(c.Models["alpha"]); got != tt.want {
			t.Errorf("%s: %s, want %s", text, got, tt.want)
		}
	}
}

// TestKindsOfDefaults: what says itself that it is a process, elsewhere or a pod gets
// nothing that is for another of them.
func TestKindsOfDefaults(t *testing.T) {
	c := parsed(t, `{"kubernetes": {}, "maxRunning": 9,
		"defaults": {"command": ["all"], "env": {"A": "b"}, "dir": "/", "stopCommand": ["stop"], "ttl": "1s"},
		"models": {"process": {}, "pod": {"pod": `+aPod+`}}}`)
	if p := c.Models["process"]; p.IsPod() || len(p.Command) != 1 || len(p.Env) != 1 {
		t.Errorf("process: %+v", p)
	}
	if p := c.Models["pod"]; !p.IsPod() || p.TTL != Seconds(1) {
		t.Errorf("pod: %+v", p)
	}
	c = parsed(t, `{"kubernetes": {}, "maxRunning": 9,
		"defaults": {"pod": `+aPod+`, "port": "", "service": "${MODEL}", "ttl": "1s"},
		"models": {"process": {"command": ["own"], "env": {"A": "b"}}, "far": {"url": "http://h"}, "pod": {"service": ""}}}`)
	for name, kind := range map[string]string{"process": "false false", "far": "true false", "pod": "false true"} {
		if m := c.Models[name]; fmt.Sprint(m.Remote(), m.IsPod()) != kind || m.Service != "" || m.TTL != Seconds(1) {
			t.Errorf("%s: %+v", name, m)
		}
	}
	// What is for both says nothing about which of them a model is.
	checkText(t, `{"kubernetes": {}, "defaults": {"pod": `+aPod+`, "env": {"A": "b"}}, "models": {"a": {}, "b": {}}}`,
		`defaults.env: is for a process, and the model has a pod; give its containers their env`)
}

// TestPodFileErrors: an error names the file that has it, with its line.
func TestPodFileErrors(t *testing.T) {
	folder := write(t, map[string]string{
		"broken.json":  "{\n  \"spec\": {,}\n}",
		"twice.json":   "{\n  \"spec\": {\n    \"hostname\": \"a\",\n    \"hostname\": \"b\", " + container("i") + "}}",
		"list.json":    "\n[]",
		"wrong.json":   "{\n  \"spec\": {\n    \"restartPolicy\": \"Always\",\n    \"hostname\": \"${NODE}\",\n " + container("i") + "}}",
		"empty.json":   "",
		"null.json":    "{\"spec\": {\n\"hostname\": null, " + container("i") + "}}",
		"large.json":   strings.Repeat(" ", maxPod+1),
		"utf.json":     "{\n\n\"\xff\"}",
		"a/b/end.json": "{\"spec\": {" + container("i") + "}}\n{}",
		"port.json":    "{\"spec\": {\n\"containers\": [{\"name\": \"m\", \"image\": \"i\", \"ports\":\n[{}]}]}}",
	})
	const policy = `must be "Never", or left out: the proxy itself starts a model again that has ended, when somebody asks for it`
	const unknown = `${NODE} is not known here; known: MODEL; "$${" stands for a plain "${"`
	for _, tt := range []struct{ text, err string }{
		{`{"podFile": "broken.json"}`, `broken.json:2: spec: a comma too many before this`},
		{`{"podFile": "twice.json"}`, `twice.json:4: spec.hostname: is in line 3 already`},
		{`{"podFile": "list.json"}`, `list.json:2: must be an object, not a list`},
		{`{"podFile": "wrong.json"}`, "wrong.json:3: spec.restartPolicy: " + policy + "\nwrong.json:4: spec.hostname: " + unknown},
		{`{"podFile": "empty.json"}`, `empty.json:1: the file is empty`},
		{`{"podFile": "null.json"}`, `null.json:2: spec.hostname: must not be null; leave it out`},
		{`{"podFile": "large.json"}`, `f.json:1: models.alpha.podFile: F/large.json has more than 256KiB`},
		{`{"podFile": "utf.json"}`, `utf.json:3: the file is not UTF-8 here`},
		{`{"podFile": "a/b/end.json"}`, `a/b/end.json:2: the configuration has ended before this`},
		{`{"podFile": "port.json"}`, `port.json:3: spec.containers[0].ports[0].containerPort: must be a number from 1 to 65535`},
		{`{"podFile": "none.json"}`, `f.json:1: models.alpha.podFile: stat F/none.json: no such file or directory`},
		{`{"podFile": "a"}`, `f.json:1: models.alpha.podFile: F/a is not a regular file`},
		{`{"podFile": "/dev/zero"}`, `f.json:1: models.alpha.podFile: /dev/zero is not a regular file`},
		{`{"podFile": ""}`, `f.json:1: models.alpha.podFile: must be the path of a file, not empty`},
		{`{"podFile": ["list.json"]}`, `f.json:1: models.alpha.podFile: must be the path of a file, not a list`},
		{`{"podFile": "wrong.json", "pod": ` + aPod + `}`, `f.json:1: models.alpha.podFile: cannot be there beside pod`},
		{`{"podFile": "wrong.json", "env": {"A": "b"}}`, "f.json:1: models.alpha.env: is for a process, and the model has a pod; give its containers their env\nwrong.json:3: spec.restartPolicy: " + policy + "\nwrong.json:4: spec.hostname: " + unknown},
	} {
		_, err := Parse(filepath.Join(folder, "f.json"), []byte(`{"kubernetes": {}, "models": {"alpha": `+tt.text+`}}`))
		got := strings.ReplaceAll(strings.ReplaceAll(errorText(err), "\n"+folder+"/", "\n"), folder, "F")
		if got = strings.TrimPrefix(got, "F/"); got != tt.err {
			t.Errorf("%s:\ngot:  %s\nwant: %s", tt.text, got, tt.err)
		}
	}
}

// TestPodFileOfMany: what is wrong in a file that many models share is told once.
func TestPodFileOfMany(t *testing.T) {
	folder := write(t, map[string]string{"pod.json": "{\"spec\":\n{\"hostname\": null, \"restartPolicy\": \"Always\"}}"})
	_, err := Parse(filepath.Join(folder, "f.json"), []byte(`{"kubernetes": {}, "models": {"a": {"podFile": "pod.json"}, "b": {"podFile": "./pod.json"}}}`))
	if got := strings.Count(errorText(err), "\n"); got != 3 || strings.Contains(errorText(err), "f.json") {
		t.Errorf("%d lines: %v", got+1, err)
	}
}

// TestPodFilesTogether: a short file cannot name more than memory should hold.
func TestPodFilesTogether(t *testing.T) {
	text := `{"spec": {` + container("i") + `}}`
	folder := write(t, map[string]string{"pod.json": text + strings.Repeat(" ", maxPod-len(text))})
	var models []string
	for i := range 1 + maxIncluded/maxPod {
		models = append(models, fmt.Sprintf(`"m%03d": {"podFile": "pod.json"}`, i))
	}
	file := func(n int) []byte {
		return []byte(`{"kubernetes": {}, "models": {` + strings.Join(models[:n], ",") + `}}`)
	}
	if _, err := Parse(filepath.Join(folder, "f.json"), file(len(models)-1)); err != nil {
		t.Errorf("as much as may be: %v", err)
	}
	_, err := Parse(filepath.Join(folder, "f.json"), file(len(models)))
	if want := filepath.Join(folder, "f.json") + ":1: models.m064.podFile: all files of pods have more than 16MiB together"; errorText(err) != want {
		t.Errorf("got:  %v\nwant: %s", err, want)
	}
}
