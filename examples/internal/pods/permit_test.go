package pods

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestPermit: a change waits until it is allowed, ends when it is allowed no more, and is
// begun anew then.
func TestPermit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p permit
		begun, ended := 0, 0
		done := make(chan error, 1)
		go func() {
			done <- p.do(t.Context(), func(ctx context.Context) error {
				begun++
				select {
				case <-ctx.Done():
					ended++
					return context.Cause(ctx)
				case <-time.After(time.Minute):
					return nil
				}
			})
		}()
		at := func(wantBegun, wantEnded int) {
			t.Helper()
			synctest.Wait()
			if begun != wantBegun || ended != wantEnded {
				t.Errorf("begun %d times and ended %d times, not %d and %d", begun, ended, wantBegun, wantEnded)
			}
		}
		at(0, 0)
		p.grant()
		p.grant()
		at(1, 0)
		time.Sleep(time.Second)
		p.revoke()
		p.revoke()
		at(1, 1)
		p.grant()
		at(2, 1)
		if err := <-done; err != nil {
			t.Error(err)
		}
		at(2, 1)
	})
}

// TestPermitEnds: whoever waits no longer gets the reason, and errors that have another
// reason are returned.
func TestPermitEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p permit
		late := errors.New("late")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, late)
		defer cancel()
		err := p.do(ctx, func(context.Context) error { t.Error("it was not allowed"); return nil })
		if !errors.Is(err, late) || !errors.Is(err, errFrozen) {
			t.Error(err)
		}
		p.grant()
		broken := errors.New("broken")
		if err := p.do(t.Context(), func(context.Context) error { return broken }); err != broken {
			t.Error(err)
		}
		err = p.do(ctx, func(ctx context.Context) error { p.revoke(); <-ctx.Done(); return broken })
		if err != broken {
			t.Error(err)
		}
	})
}
