package kubetest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

func TestMain(m *testing.M) { Main(m) }

func TestKubeServer(t *testing.T) {
	s := Shared(t)
	if Shared(t) != s {
		t.Error("a second server")
	}
	var version struct{ GitVersion string }
	s.Must(t, "GET", "/version", nil, &version)
	t.Logf("version %q at %s", version.GitVersion, s.URL)
	ns := s.Namespace(t)
	path := "/api/v1/namespaces/" + ns + "/pods"
	pod := object{"metadata": object{"name": "p"}, "spec": object{"containers": []object{{"name": "c", "image": "i"}}}}
	s.Must(t, "POST", path, pod, nil)
	if code, answer := s.Do(t, "POST", path, pod); code != http.StatusConflict {
		t.Errorf("the same pod again: %d: %s", code, answer)
	}
}

func TestKubeRBAC(t *testing.T) {
	s := Shared(t)
	ns := s.Namespace(t)
	s.Apply(t, []byte(`
# Two accounts, and one that may do something.
apiVersion: v1
kind: ServiceAccount
metadata:
  name: reader
---
apiVersion: v1
kind: ServiceAccount
metadata: 
  labels: {a: b}
  name: "stranger" # without rights
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: read
rules:
- {apiGroups: [""], resources: [pods], verbs: [list]}
---
{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "read"},
 "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "read"},
 "subjects": [{"kind": "ServiceAccount", "name": "reader", "namespace": "`+ns+`"}]}
---
`), ns, false)
	for account, want := range map[string]int{"reader": http.StatusOK, "stranger": http.StatusForbidden} {
		code, answer, err := s.sendAs(t.Context(), s.Token(t, ns, account), "GET", "/api/v1/namespaces/"+ns+"/pods", "", nil)
		if err != nil || code != want {
			t.Errorf("%s lists pods: %d: %s (%v), want %d", account, code, answer, err, want)
		}
	}
}

func TestKubeRevokedToken(t *testing.T) {
	t.Parallel()
	s := Shared(t)
	ns := s.Namespace(t)
	s.Must(t, "POST", "/api/v1/namespaces/"+ns+"/serviceaccounts", object{"metadata": object{"name": "a"}}, nil)
	token, revoke := s.RevocableToken(t, ns, "a")
	if code, answer, err := s.sendAs(t.Context(), token, "GET", "/api", "", nil); err != nil || code != http.StatusOK {
		t.Fatalf("before: %d: %s (%v)", code, answer, err)
	}
	revoke()
	if code, _, err := s.sendAs(t.Context(), token, "GET", "/api", "", nil); err != nil || code != http.StatusUnauthorized {
		t.Errorf("afterwards: %d (%v)", code, err)
	}
}

// recorder takes the failures of a test.
type recorder struct {
	testing.TB
	text string
}

func (r *recorder) Helper()                           {}
func (r *recorder) Fatal(args ...any)                 { r.text = fmt.Sprint(args...); panic(r) }
func (r *recorder) Fatalf(format string, args ...any) { r.Fatal(fmt.Sprintf(format, args...)) }

// failure returns with what f fails.
func failure(t *testing.T, f func(testing.TB)) (text string) {
	r := &recorder{TB: t}
	defer func() {
		if p := recover(); p != nil && p != r {
			panic(p)
		}
		text = r.text
	}()
	f(r)
	return ""
}

func TestKubeApplyRefuses(t *testing.T) {
	s := Shared(t)
	ns := s.Namespace(t)
	tests := []struct{ name, manifest, want string }{
		{"kind", "kind: Gadget\nmetadata:\n  name: a\n", `document 1: unknown kind "Gadget"`},
		{"name", "kind: Pod\nspec:\n  name: a\n", "document 1: Pod without a name"},
		{"field", "---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndate: {}\n", `document 2: /api/v1/namespaces/` + ns + `/configmaps/a: 500: `},
		{"twice", "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  k: v\n  k: w\n", `"k" already set`},
		{"value", "apiVersion: v1\nkind: Service\nmetadata:\n  name: a\nspec:\n  ports: [{port: 0}]\n", "spec.ports[0].port: Invalid value: 0"},
		{"namespace", "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n  namespace: elsewhere\n", `namespaces "elsewhere" not found`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := failure(t, func(t testing.TB) { s.Apply(t, []byte(tt.manifest), ns, true) })
			if !strings.Contains(got, tt.want) {
				t.Errorf("failure %q, want %q", got, tt.want)
			}
		})
	}
}

func TestKubeDryRun(t *testing.T) {
	s := Shared(t)
	ns := s.Namespace(t)
	manifest := []byte("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n")
	path := "/api/v1/namespaces/" + ns + "/configmaps/a"
	s.Apply(t, manifest, ns, true)
	if code, _ := s.Do(t, "GET", path, nil); code != http.StatusNotFound {
		t.Errorf("after the dry run: %d", code)
	}
	s.Apply(t, manifest, ns, false)
	s.Apply(t, manifest, ns, false)
	if code, _ := s.Do(t, "GET", path, nil); code != http.StatusOK {
		t.Errorf("after the run: %d", code)
	}
}

// resourceVersion returns that of a list of pods.
func resourceVersion(t *testing.T, s *Server, ns string) string {
	t.Helper()
	var list struct {
		Metadata struct{ ResourceVersion string }
	}
	s.Must(t, "GET", "/api/v1/namespaces/"+ns+"/pods", nil, &list)
	return list.Metadata.ResourceVersion
}

func TestKubeKillAndRestart(t *testing.T) {
	t.Parallel()
	s := Start(t)
	ns := s.Namespace(t)
	before := resourceVersion(t, s, ns)
	maps := "/api/v1/namespaces/" + ns + "/configmaps"
	for i := range 3 {
		s.Must(t, "POST", maps, object{"metadata": object{"name": fmt.Sprint("m", i)}}, nil)
	}
	s.Compact(t)
	s.Kill(t)
	if _, _, err := s.sendJSON(t.Context(), "GET", "/readyz", nil); err == nil {
		t.Error("it answers after Kill")
	}
	s.Restart(t)
	s.Must(t, "GET", maps+"/m2", nil, nil)
	s.Must(t, "GET", maps, nil, nil) // Now its cache is filled.
	if code, answer := s.Do(t, "GET", maps+"?resourceVersionMatch=Exact&resourceVersion="+before, nil); code != http.StatusGone {
		t.Errorf("list of resourceVersion %s: %d: %s", before, code, answer)
	}
	_, answer := s.Do(t, "GET", maps+"?watch=1&timeoutSeconds=5&resourceVersion="+before, nil)
	var event struct {
		Type   string
		Object struct{ Code int }
	}
	if err := json.Unmarshal(answer, &event); err != nil || event.Type != "ERROR" || event.Object.Code != http.StatusGone {
		t.Errorf("watch from resourceVersion %s: %s", before, answer)
	}
	s.Restart(t) // While it runs.
	s.Must(t, "GET", maps+"/m2", nil, nil)
}

func TestKubeSkipped(t *testing.T) {
	t.Setenv("ETCD", "")
	t.Run("test", func(t *testing.T) {
		defer func() {
			if !t.Skipped() {
				t.Error("not skipped")
			}
		}()
		Start(t)
	})
}
