package kube

import (
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"

	"example.com/scheduler/examples/internal/kubetest"
)

// BenchmarkPods measures how long it takes to create a pod and to delete it at once, with
// so many callers at the same time that share a client.
func BenchmarkPods(b *testing.B) {
	for _, width := range []int{1, 16} {
		b.Run(strconv.Itoa(width), func(b *testing.B) {
			s := kubetest.Shared(b)
			c := &cluster{Server: s, namespace: s.Namespace(b)}
			client, err := New(Config{Server: s.URL, CAFile: s.CAFile, TokenFile: write(b, b.TempDir(), "token", []byte(s.Admin))}, nil)
			if err != nil {
				b.Fatal(err)
			}
			defer client.Close()
			var n atomic.Int64
			now := int64(0)
			b.ResetTimer()
			parallel(b, b.N, width, func(int) error {
				name := fmt.Sprint("p", n.Add(1))
				if err := client.Create(b.Context(), c.path("pods"), pod(name, "a"), nil); err != nil {
					return err
				}
				return client.Delete(b.Context(), c.path("pods/"+name), DeleteOptions{GracePeriodSeconds: &now})
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "pods/s")
		})
	}
}
