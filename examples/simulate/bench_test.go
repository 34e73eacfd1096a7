package main

import (
	"fmt"
	"testing"
	"time"

	"example.com/scheduler"
)

// BenchmarkTwentyModels is a run with twenty models. The figure to read is requests/s.
// Waiting requests are what costs time, so it depends on how many there are.
func BenchmarkTwentyModels(b *testing.B) {
	for _, c := range []struct {
		name   string
		rate   string
		policy policy
	}{
		{"room for all", "5", togetherPolicy()},
		{"five groups of four", "2", fives()},
		{"room for ten", "1", lruPolicy(10)},
		{"room for four", "2", lruPolicy(4)},
		{"room for one", "1", alonePolicy()},
	} {
		b.Run(c.name, func(b *testing.B) {
			built, err := find("zipf")
			if err != nil {
				b.Fatal(err)
			}
			w, err := built.make(nil)
			if err != nil {
				b.Fatal(err)
			}
			if err := w.changeRate(c.rate); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			requests := 0
			for b.Loop() {
				r := run{workload: w, policy: c.policy, seed: 1, length: 10 * time.Hour}
				res, err := r.simulate()
				if err != nil {
					b.Fatal(err)
				}
				requests += res.requests
			}
			b.ReportMetric(float64(requests)/b.Elapsed().Seconds(), "requests/s")
		})
	}
}

// fives is five groups of which each has room for one of its four models.
func fives() policy {
	groups := make([]scheduler.Group, 5)
	for i, name := range numbered("model-", 20) {
		g := &groups[i%5]
		g.Name, g.Swap = fmt.Sprint(i%5), true
		g.Members = append(g.Members, name)
	}
	return groupPolicy("groups", groups...)
}
