//go:build linux

package main

import (
	"net/http"
	"testing"

	"example.com/scheduler/examples/internal/kube"
	"example.com/scheduler/examples/internal/kubetest"
)

// TestKubeOwner: pods go with the pod of their proxy, or, if they are kept, with what
// controls it. A proxy that takes over makes them its own.
func TestKubeOwner(t *testing.T) {
	k := newKubeTest(t, kubetest.Shared(t), oneCard())
	for _, c := range []struct {
		name, uid string
		keep      bool
		owner     string // by kind and name
	}{
		{name: "first", keep: true, owner: "ReplicaSet of-first"},
		{name: "second", keep: true, owner: "ReplicaSet of-second"},
		{name: "third", uid: "of another pod", keep: true},
		{name: "fourth", owner: "Pod fourth"},
	} {
		uid := k.proxyPod(c.name)
		t.Setenv("POD_NAME", c.name)
		t.Setenv("POD_UID", uid+c.uid)
		k.configure(map[string]any{"a": gpus(1)}, "kubernetes", map[string]any{"keepPods": c.keep})
		p := k.start()
		pod := p.mustServe("a")
		if !happens(func() bool { return k.owner(pod) == c.owner }) {
			t.Errorf("in %s: the owner is %q, not %q", c.name, k.owner(pod), c.owner)
		}
		p.mustEnd()
	}
}

// proxyPod makes a pod, as that of a proxy, which a ReplicaSet controls.
func (k *kubeTest) proxyPod(name string) (uid string) {
	k.Helper()
	var pod kube.Pod
	yes := true
	k.server.Must(k.T, http.MethodPost, "/api/v1/namespaces/"+k.namespace+"/pods", map[string]any{
		"apiVersion": "v1", "kind": "Pod",
		"metadata": map[string]any{"name": name, "ownerReferences": []kube.OwnerReference{
			{APIVersion: "v1", Kind: "ConfigMap", Name: "other", UID: "other"},
			{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "of-" + name, UID: "of-" + name, Controller: &yes, BlockOwnerDeletion: &yes},
		}},
		"spec": map[string]any{"containers": []any{map[string]any{"name": "proxy", "image": "proxy"}}},
	}, &pod)
	return pod.Metadata.UID
}

// owner returns the kind and the name of the owner of a pod, and that there is one only.
func (k *kubeTest) owner(name string) (owner string) {
	k.Helper()
	var pod kube.Pod
	k.server.Must(k.T, http.MethodGet, "/api/v1/namespaces/"+k.namespace+"/pods/"+name, nil, &pod)
	for _, o := range pod.Metadata.OwnerReferences {
		if owner += o.Kind + " " + o.Name; o.Controller != nil || o.BlockOwnerDeletion != nil {
			owner += ", which controls it"
		}
	}
	return owner
}
