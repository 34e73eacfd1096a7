// Package kubetest runs tests against a real Kubernetes API server, with a small
// cluster played around it.
//
// The environment variables KUBE_APISERVER and ETCD name the programs. Tests that
// need them are skipped where they are not set; their names begin with TestKube. The
// script .ci/kubernetes builds the API server and runs those tests.
//
// A [Server] is the API server, [Faults] a proxy in front of it that makes trouble,
// and a [Cluster] plays the scheduler, the kubelets and the controllers for the pods
// of a namespace. What the cluster starts for a pod is a small model server inside
// the test.
package kubetest
