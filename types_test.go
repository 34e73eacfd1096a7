package scheduler

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"testing"
	"time"
)

// TestHTTPStatus checks every error that a request can get.
func TestHTTPStatus(t *testing.T) {
	after := func(d time.Duration, err error) error { return &RetryError{Model: "m", After: d, Err: err} }
	for _, c := range []struct {
		err        error
		code       int
		retryAfter time.Duration
	}{
		{nil, http.StatusOK, 0},
		{fmt.Errorf("%w: %q", ErrModelNotFound, "m"), http.StatusNotFound, 0},
		{after(0, ErrOverloaded), http.StatusTooManyRequests, 0},
		{after(3*time.Second, ErrOverloaded), http.StatusTooManyRequests, 3 * time.Second},
		{after(time.Nanosecond, ErrOverloaded), http.StatusTooManyRequests, time.Second},
		{after(-time.Second, ErrOverloaded), http.StatusTooManyRequests, 0},
		{after(math.MaxInt64, ErrOverloaded), http.StatusTooManyRequests, time.Duration(math.MaxInt64).Truncate(time.Second)},
		{fmt.Errorf("%w: %q: %w", ErrPolicy, "m", errLoad), http.StatusInternalServerError, 0},
		{fmt.Errorf("%w: %q", ErrNotReady, "m"), http.StatusBadGateway, 0},
		{fmt.Errorf("%w: %q", ErrModelUnloaded, "m"), http.StatusServiceUnavailable, 0},
		{ErrShutdown, http.StatusServiceUnavailable, 0},
		{panicError(ErrShutdown, context.Canceled), http.StatusServiceUnavailable, 0},
		// The package's own reason comes before the swap's, whatever that was.
		{after(time.Second, fmt.Errorf("%w: %w", ErrCoolingDown, ErrNotReady)), http.StatusServiceUnavailable, time.Second},
		{after(time.Second, fmt.Errorf("%w: %w", ErrCoolingDown, context.DeadlineExceeded)), http.StatusServiceUnavailable, time.Second},
		{fmt.Errorf("%w: %q: %w", ErrPolicy, "m", context.Canceled), http.StatusInternalServerError, 0},
		{context.Canceled, http.StatusGatewayTimeout, 0},
		{fmt.Errorf("waiting: %w", context.DeadlineExceeded), http.StatusGatewayTimeout, 0},
		{errLoad, http.StatusBadGateway, 0},
		{errors.New("anything else"), http.StatusBadGateway, 0},
	} {
		if code, retryAfter := HTTPStatus(c.err); code != c.code || retryAfter != c.retryAfter {
			t.Errorf("%v: %d and %v, not %d and %v", c.err, code, retryAfter, c.code, c.retryAfter)
		}
	}
}

// TestPolicyFuncs: a function is a Swapper, or a Planner, without further methods.
func TestPolicyFuncs(t *testing.T) {
	var _ Swapper = SwapperFunc(nil)
	var _ Planner = PlannerFunc(nil)
	plan := PlannerFunc(func(target string, running []Resident) (evict []string, err error) {
		for _, r := range running {
			if r != (Resident{Model: r.Model}) {
				t.Errorf("%+v is used", r)
			}
			evict = append(evict, r.Model)
		}
		if target == "never" {
			return nil, errLoad
		}
		return evict[1:], nil
	})
	if got := fmt.Sprint(plan.EvictionFor("a", []string{"b", "c"})); got != "[c]" {
		t.Errorf("EvictionFor answers %s, and Plan [c]", got)
	}
	if got := fmt.Sprint(plan.EvictionFor("never", []string{"b", "c"})); got != "[b c]" {
		t.Errorf("a refusal is answered with %s, not with all", got)
	}
	plan.OnSwapStart("a", nil)
	SwapperFunc(nil).OnSwapStart("a", nil)
}
