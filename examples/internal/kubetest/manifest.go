package kubetest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

// collections are where the objects of each kind are. Those below
// namespaces/NAMESPACE contain %s.
var collections = map[string]string{
	"Namespace":             "/api/v1/namespaces",
	"ServiceAccount":        "/api/v1/namespaces/%s/serviceaccounts",
	"Role":                  "/apis/rbac.authorization.k8s.io/v1/namespaces/%s/roles",
	"RoleBinding":           "/apis/rbac.authorization.k8s.io/v1/namespaces/%s/rolebindings",
	"ClusterRole":           "/apis/rbac.authorization.k8s.io/v1/clusterroles",
	"ClusterRoleBinding":    "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
	"Deployment":            "/apis/apps/v1/namespaces/%s/deployments",
	"Service":               "/api/v1/namespaces/%s/services",
	"Pod":                   "/api/v1/namespaces/%s/pods",
	"PersistentVolumeClaim": "/api/v1/namespaces/%s/persistentvolumeclaims",
	"ConfigMap":             "/api/v1/namespaces/%s/configmaps",
	"Secret":                "/api/v1/namespaces/%s/secrets",
	"PodDisruptionBudget":   "/apis/policy/v1/namespaces/%s/poddisruptionbudgets",
	"NetworkPolicy":         "/apis/networking.k8s.io/v1/namespaces/%s/networkpolicies",
}

// What has to be known of a YAML document. Its first metadata is its own, because a
// manifest names that before the spec, and so it is indented by two spaces.
var (
	separator     = regexp.MustCompile(`(?m)^---.*$`)
	comment       = regexp.MustCompile(`(?m)^\s*#.*$`)
	yamlKind      = regexp.MustCompile(`(?m)^kind: *["']?(\w+)`)
	yamlMetadata  = regexp.MustCompile(`(?m)^metadata: *((?:\n[ #].*|\n)*)`)
	yamlName      = regexp.MustCompile(`(?m)^  name: *["']?([^"'\s]+)`)
	yamlNamespace = regexp.MustCompile(`(?m)^  namespace: *["']?([^"'\s]+)`)
)

// Apply creates or replaces every object of a manifest in YAML or JSON, as kubectl
// apply --server-side does, and fails the test with the server's message if one is
// refused. Unknown fields are refused as well. Objects go to the namespace that they
// name, or else to namespace. With dryRun nothing is changed; the namespaces have to be
// there already.
func (s *Server) Apply(t testing.TB, manifest []byte, namespace string, dryRun bool) {
	t.Helper()
	query := url.Values{"fieldManager": {"kubetest"}, "force": {"true"}, "fieldValidation": {"Strict"}}
	if dryRun {
		query.Set("dryRun", "All")
	}
	for i, doc := range separator.Split(string(manifest), -1) {
		if strings.TrimSpace(comment.ReplaceAllString(doc, "")) == "" {
			continue
		}
		path, err := pathOf(doc, namespace)
		if err != nil {
			t.Fatalf("document %d: %v", i+1, err)
		}
		code, answer, err := s.send(context.Background(), http.MethodPatch, path+"?"+query.Encode(), "application/apply-patch+yaml", []byte(doc))
		if err != nil {
			t.Fatal(err)
		}
		if code < 200 || code > 299 {
			t.Fatalf("document %d: %s: %d: %s", i+1, path, code, message(answer))
		}
	}
}

// pathOf returns the path of the object that doc describes.
func pathOf(doc, namespace string) (string, error) {
	kind, name, own := identity(doc)
	collection, known := collections[kind]
	if !known {
		return "", fmt.Errorf("unknown kind %q", kind)
	}
	if name == "" {
		return "", fmt.Errorf("%s without a name", kind)
	}
	if strings.Contains(collection, "%s") {
		if own != "" {
			namespace = own
		}
		collection = fmt.Sprintf(collection, namespace)
	}
	return collection + "/" + name, nil
}

// identity returns what a document says of its object.
func identity(doc string) (kind, name, namespace string) {
	var o struct {
		Kind     string
		Metadata struct{ Name, Namespace string }
	}
	if json.Unmarshal([]byte(doc), &o) == nil {
		return o.Kind, o.Metadata.Name, o.Metadata.Namespace
	}
	find := func(re *regexp.Regexp, text string) string {
		if m := re.FindStringSubmatch(text); m != nil {
			return m[1]
		}
		return ""
	}
	metadata := find(yamlMetadata, doc)
	return find(yamlKind, doc), find(yamlName, metadata), find(yamlNamespace, metadata)
}
