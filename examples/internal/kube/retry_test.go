package kube

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// TestPauses checks that pauses double up to the longest one, that they are spread, and
// that a success brings back the shortest.
func TestPauses(t *testing.T) {
	var p pauses
	for range 2 {
		for want := minPause; want < 4*maxPause; want *= 2 {
			whole := min(want, maxPause)
			if got := p.next(); got < whole/2 || got > whole {
				t.Errorf("pause of %v, want %v to %v", got, whole/2, whole)
			}
		}
		p.reset()
	}
	different := map[time.Duration]bool{}
	for range 10 {
		different[p.next()] = true
		p.reset()
	}
	if len(different) < 2 {
		t.Error("all pauses are the same")
	}
}

// TestWait checks that the server's wish is granted, and that nobody waits beyond the end.
func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		var p pauses
		begun := time.Now()
		if !p.wait(ctx, 10*time.Second) || time.Since(begun) != 10*time.Second {
			t.Errorf("waited %v, want 10s", time.Since(begun))
		}
		begun = time.Now()
		if !p.wait(ctx, 0) || time.Since(begun) < minPause || time.Since(begun) > 2*minPause {
			t.Errorf("waited %v, want 100ms to 200ms", time.Since(begun))
		}
		if p.wait(ctx, 2*time.Hour) || time.Until(begun) < -time.Hour {
			t.Error("waited on after the end")
		}
	})
}
