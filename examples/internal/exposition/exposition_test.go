package exposition

import (
	"testing"
	"time"
)

// TestHistogramBounds: a time counts in the first bucket whose bound it does not exceed.
func TestHistogramBounds(t *testing.T) {
	var h Histogram
	for _, d := range []time.Duration{-1, 0, time.Millisecond, time.Millisecond + 1, 10 * time.Millisecond, 600 * time.Second, 601 * time.Second, time.Hour} {
		h.Observe(d)
	}
	last := len(h.counts) - 1
	for i, n := range h.counts {
		if want := map[int]uint64{0: 3, 1: 2, last - 1: 1, last: 2}[i]; n != want {
			t.Errorf("bucket %d has %d, want %d", i, n, want)
		}
	}
}

// TestText: labels are escaped, and a histogram is cumulative.
func TestText(t *testing.T) {
	var e Text
	var h Histogram
	h.Observe(2 * time.Millisecond)
	e.Begin("gauge", "x", "What x is.")
	e.Sample(1.5, "model", "a\"b\\c\nd", "code", "")
	e.Histogram(&h)
	const want = `# HELP x What x is.
# TYPE x gauge
x{model="a\"b\\c\nd",code=""} 1.5
x_bucket{le="0.001"} 0
x_bucket{le="0.01"} 1
`
	if got := e.String(); len(got) < len(want) || got[:len(want)] != want {
		t.Errorf("%s", got)
	}
}
