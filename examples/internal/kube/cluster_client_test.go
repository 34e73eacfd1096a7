package kube

import (
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"testing"

	"example.com/scheduler/examples/internal/kubetest"
)

// TestKubeRequests sends each kind of request, and each that the server refuses.
func TestKubeRequests(t *testing.T) {
	c, ctx := newCluster(t, kubetest.Shared(t)), within(t)
	var made, got Pod
	if err := c.Create(ctx, c.path("pods"), pod("a", "a"), &made); err != nil || made.Metadata.UID == "" || made.Status.Phase != "Pending" {
		t.Fatalf("%+v, error %v", made, err)
	}
	if err := c.Create(ctx, c.path("pods"), pod("a", "a"), nil); !IsCode(err, http.StatusConflict) {
		t.Errorf("created again: %v", err)
	}
	if err := c.Create(ctx, c.path("pods"), pod("A_", "a"), nil); !IsCode(err, http.StatusUnprocessableEntity) {
		t.Errorf("created with a bad name: %v", err)
	}
	if err := c.Patch(ctx, c.path("pods/a"), map[string]any{"metadata": map[string]any{"labels": map[string]any{"app": nil, "b": "c"}}}, &got); err != nil ||
		len(got.Metadata.Labels) != 1 || got.Metadata.Labels["b"] != "c" {
		t.Errorf("patched: %+v, error %v", got, err)
	}
	if err := c.Update(ctx, c.path("pods/a"), made, nil); !IsCode(err, http.StatusConflict) {
		t.Errorf("updated an old version: %v", err)
	}
	if err := c.Delete(ctx, c.path("pods/a"), DeleteOptions{UID: "other"}); !IsCode(err, http.StatusConflict) {
		t.Errorf("deleted another one: %v", err)
	}
	if body, err := c.Stream(ctx, c.path("pods/a/log")); err != nil {
		t.Errorf("log of a pod that has no node yet: %v", err)
	} else if text, err := io.ReadAll(body); len(text) != 0 || err != nil || body.Close() != nil {
		t.Errorf("log of a pod that has no node yet: %q, error %v", text, err)
	}
	if _, err := c.Stream(ctx, c.path("pods/b/log")); !IsCode(err, http.StatusNotFound) {
		t.Errorf("log of no pod: %v", err)
	}
	now := int64(0)
	if err := c.Delete(ctx, c.path("pods/a"), DeleteOptions{GracePeriodSeconds: &now, UID: made.Metadata.UID}); err != nil {
		t.Errorf("deleted: %v", err)
	}
	if err := c.Get(ctx, c.path("pods/a"), &got); !IsCode(err, http.StatusNotFound) {
		t.Errorf("got what is gone: %v", err)
	}
	if err := c.Delete(ctx, c.path("pods/a"), DeleteOptions{}); !IsCode(err, http.StatusNotFound) {
		t.Errorf("deleted again: %v", err)
	}
	var e *Error
	if err := c.Get(ctx, "/api/v1/nonsense", &got); !errors.As(err, &e) || e.Reason != "NotFound" {
		t.Errorf("got nonsense: %v", err)
	}
}

// TestKubeRetries lets the proxy answer with faults, and lose an answer: the request is
// sent again and meets its own result.
func TestKubeRetries(t *testing.T) {
	c, ctx := newCluster(t, kubetest.Shared(t)), within(t)
	c.Fail(1, http.MethodPost, "/pods", http.StatusTooManyRequests, "1")
	c.Fail(1, http.MethodPost, "/pods", http.StatusInternalServerError, "")
	if err := c.Create(ctx, c.path("pods"), pod("a", "a"), nil); err != nil || c.Count(http.MethodPost, "/pods") != 3 {
		t.Errorf("error %v after %d requests, want none after 3", err, c.Count(http.MethodPost, "/pods"))
	}
	c.Lose(1, http.MethodPost, "/pods")
	if err := c.Create(ctx, c.path("pods"), pod("b", "a"), nil); !IsCode(err, http.StatusConflict) {
		t.Errorf("error %v, want 409 for what it has created itself", err)
	}
	c.Lose(1, http.MethodDelete, "/pods/b")
	now := int64(0)
	if err := c.Delete(ctx, c.path("pods/b"), DeleteOptions{GracePeriodSeconds: &now}); !IsCode(err, http.StatusNotFound) {
		t.Errorf("error %v, want 404 for what it has deleted itself", err)
	}
	restore := c.Refuse(t)
	done := make(chan error)
	go func() { done <- c.Get(ctx, c.path("pods/a"), new(Pod)) }()
	restore()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestKubeToken replaces the token of a client by a new one and revokes the old one, under
// a watch and between requests. Nobody notices.
func TestKubeToken(t *testing.T) {
	t.Parallel() // It mostly waits: the server remembers for some time that a token was good.
	c := newCluster(t, kubetest.Shared(t))
	c.Apply(t, []byte(reader), c.namespace, false)
	dir := t.TempDir()
	token, revoke := c.RevocableToken(t, c.namespace, "reader")
	path := write(t, dir, "token", []byte(token))
	var err error
	if c.Client, err = New(Config{Server: c.Faults.URL, CAFile: c.Faults.CAFile, TokenFile: path, Namespace: c.namespace}, c.Client.log); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Client.Close)
	o := watchObjects[Pod](t, c, "pods")
	o.until(t, c, "synced")
	revoke()
	if err := c.Get(within(t), c.path("pods"), new(list[Pod])); !IsCode(err, http.StatusUnauthorized) {
		t.Errorf("error %v with a token that was revoked", err)
	}
	write(t, dir, filepath.Base(path), []byte(c.Token(t, c.namespace, "reader")))
	if err := c.Get(within(t), c.path("pods"), new(list[Pod])); err != nil {
		t.Error(err)
	}
	if err := c.Create(within(t), c.path("pods"), pod("b", "a"), nil); !IsCode(err, http.StatusForbidden) {
		t.Errorf("error %v, want 403: the new token may not do that", err)
	}
	c.CutWatches()
	c.put(t, "a", "a")
	o.until(t, c, "put a")
}

// reader lets a service account read pods.
const reader = `
apiVersion: v1
kind: ServiceAccount
metadata:
  name: reader
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: reader
rules:
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: reader
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: reader
subjects:
- kind: ServiceAccount
  name: reader
`
