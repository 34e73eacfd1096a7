package main

import (
	"encoding/json"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"example.com/scheduler/examples/internal/config"
	"example.com/scheduler/examples/internal/kubetest"
)

// deployed returns the configuration of deploy/, in which a node has four cards.
func deployed(t *testing.T) *config.Config {
	t.Helper()
	t.Setenv("PROXY_KEY_OFFICE", "xyzzy")
	data, err := os.ReadFile("deploy/vllm.json")
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Parse("deploy/vllm.json", data)
	if err != nil {
		t.Fatal(err)
	}
	return cfg.WithNodes(map[string]map[string]int64{"gpu": {"node-a": 4}})
}

// manifest returns a file of deploy/.
func manifest(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile("deploy/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestDeploySample: the configuration is sound, and every model has its place.
func TestDeploySample(t *testing.T) {
	cfg := deployed(t)
	if w := cfg.Warnings(); len(w) > 0 {
		t.Errorf("warnings: %q", w)
	}
	for name := range cfg.Models {
		if why := cfg.Nowhere(name); why != "" {
			t.Errorf("%s %s", name, why)
		}
	}
}

// TestDeployFits: the manifests name what the configuration does.
func TestDeployFits(t *testing.T) {
	cfg, text := deployed(t), manifest(t, "deployment.yaml")
	for _, key := range cfg.Keys {
		if !strings.Contains(text, "- name: "+key.KeyEnv+"\n") {
			t.Errorf("the variable %s is not set", key.KeyEnv)
		}
	}
	for _, wants := range []string{"containerPort: " + strings.TrimPrefix(cfg.Listen, ":") + "\n", "namespace: " + cfg.Kubernetes.Namespace + "\n"} {
		if !strings.Contains(text, wants) {
			t.Errorf("there is no %q", wants)
		}
	}
	grace, _ := strconv.Atoi(regexp.MustCompile(`terminationGracePeriodSeconds: (\d+)`).FindStringSubmatch(text)[1])
	for name, m := range cfg.Models {
		if least := time.Duration(cfg.DrainTimeout + m.StopTimeout); time.Duration(grace)*time.Second <= least {
			t.Errorf("%s: the proxy is killed after %d s, and may need %v", name, grace, least)
		}
		if labels := m.Pod["metadata"].(map[string]any)["labels"].(map[string]any); !strings.Contains(text, "app: "+labels["app"].(string)+"\n") {
			t.Errorf("%s: the policy is not for its labels, %v", name, labels)
		}
	}
}

// TestDeployBuilds: the image is built by a Go that is new enough.
func TestDeployBuilds(t *testing.T) {
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	minor := func(text, form string) int {
		n, _ := strconv.Atoi(regexp.MustCompile(form).FindStringSubmatch(text)[1])
		return n
	}
	if has, wants := minor(manifest(t, "Dockerfile"), `golang:1\.(\d+)`), minor(string(mod), `\ngo 1\.(\d+)`); has < wants {
		t.Errorf("built by Go 1.%d, and go.mod says 1.%d", has, wants)
	}
}

// TestKubeDeploy: a cluster takes the manifests, and the pods that the proxy makes of the
// configuration.
func TestKubeDeploy(t *testing.T) {
	cfg, s := deployed(t), kubetest.Shared(t)
	ns := s.Namespace(t)
	s.Apply(t, []byte(manifest(t, "rbac.yaml")), "models", false)
	for _, name := range []string{"rbac.yaml", "deployment.yaml", "cache.yaml"} {
		s.Apply(t, []byte(manifest(t, name)), "models", true)
	}
	for name, m := range cfg.Models {
		pod, err := m.Placed(0).PodTemplate(name)
		if err != nil {
			t.Fatal(err)
		}
		pod["metadata"].(map[string]any)["generateName"] = "m-"
		code, answer := s.Do(t, http.MethodPost, "/api/v1/namespaces/"+ns+"/pods?dryRun=All&fieldValidation=Strict", pod)
		if code != http.StatusCreated {
			t.Fatalf("%s: %d: %s", name, code, answer)
		}
		var made struct {
			Spec struct {
				NodeSelector  map[string]string
				RestartPolicy string
			}
		}
		if err := json.Unmarshal(answer, &made); err != nil || made.Spec.RestartPolicy != "Never" || made.Spec.NodeSelector["kubernetes.io/hostname"] != "node-a" {
			t.Errorf("%s: %+v, %v", name, made, err)
		}
	}
}

// TestKubeDeployRights: the service account may do what the proxy does, and no more.
func TestKubeDeployRights(t *testing.T) {
	s := kubetest.Shared(t)
	s.Apply(t, []byte(manifest(t, "rbac.yaml")), "models", false)
	for _, tt := range []struct {
		namespace, group, resource string
		may, mayNot                string // verbs
	}{
		{"models", "", "pods", "get list watch create delete patch", "update deletecollection"},
		{"models", "", "pods/log", "get", "list"},
		{"models", "", "pods/exec", "", "get create"},
		{"models", "", "services", "get", "list create delete"},
		{"models", "", "secrets", "", "get list"},
		{"models", "coordination.k8s.io", "leases", "get create update", "delete"},
		{"", "", "nodes", "get list watch", "patch delete"},
		{"default", "", "pods", "", "get list watch create delete patch"},
		{"default", "coordination.k8s.io", "leases", "", "get create update"},
	} {
		for verbs, want := range map[string]bool{tt.may: true, tt.mayNot: false} {
			for verb := range strings.FieldsSeq(verbs) {
				if got := mayDo(t, s, tt.namespace, tt.group, tt.resource, verb); got != want {
					t.Errorf("%s of %s in %q: %v", verb, tt.resource, tt.namespace, got)
				}
			}
		}
	}
}

// mayDo asks the cluster whether the service account of rbac.yaml may do something.
func mayDo(t *testing.T, s *kubetest.Server, namespace, group, resource, verb string) bool {
	t.Helper()
	resource, sub, _ := strings.Cut(resource, "/")
	var answer struct{ Status struct{ Allowed bool } }
	s.Must(t, http.MethodPost, "/apis/authorization.k8s.io/v1/subjectaccessreviews", map[string]any{
		"spec": map[string]any{
			"user":   "system:serviceaccount:models:model-proxy",
			"groups": []string{"system:serviceaccounts", "system:serviceaccounts:models", "system:authenticated"},
			"resourceAttributes": map[string]any{
				"namespace": namespace, "group": group, "resource": resource, "subresource": sub, "verb": verb,
			},
		},
	}, &answer)
	return answer.Status.Allowed
}
