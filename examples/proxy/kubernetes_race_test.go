//go:build linux

package main

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"time"

	"example.com/scheduler/examples/internal/kubetest"
)

// TestKubeCancelledCreation: a load is cancelled while nobody knows yet what has become of
// the request to make its pod. Its memory is not given away before that is known.
func TestKubeCancelledCreation(t *testing.T) {
	k := newKubeTest(t, kubetest.Shared(t), oneCard())
	k.configure(map[string]any{"a": gpus(1), "b": gpus(1)})
	p := k.start()
	release := k.faults.Delay(http.MethodPost, "/pods")
	defer release()
	ctx, leave := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	asking.Go(func() {
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, p.url+"/upstream/a/", nil)
		if resp, err := http.DefaultClient.Do(req); err == nil {
			resp.Body.Close()
		}
	})
	if !happens(func() bool { return k.faults.Count(http.MethodPost, "/pods") == 1 }) {
		t.Fatal("no pod is made")
	}
	leave()
	asking.Go(func() {
		if _, code, text := p.ask("b", "0s"); code != http.StatusOK {
			t.Errorf("%d %s", code, text)
		}
	})
	for until := time.After(time.Second); k.faults.Count(http.MethodPost, "/pods") == 1; {
		select {
		case <-until: // That long nothing has gone wrong.
			release()
			asking.Wait()
			k.mustHave("b")
			if most := k.cluster.Most(); most != 1 {
				t.Errorf("%d pods at once", most)
			}
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
	t.Error("another pod is made, though nobody knows whether there is one")
	release()
	asking.Wait()
}
