package scheduler

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Errors that a host branches on, with [errors.Is]. Those that reach callers are
// wrapped with the model's name.
var (
	// ErrModelNotFound: the host does not know the model.
	ErrModelNotFound = errors.New("scheduler: model not found")
	// ErrModelUnloaded: the model was unloaded while the request waited for it.
	ErrModelUnloaded = errors.New("scheduler: model unloaded")
	// ErrNotReady: a swap reported success, but the model is not ready.
	ErrNotReady = errors.New("scheduler: model not ready after its swap")
	// ErrOverloaded: a limit of [Limits] or MaxQueue is reached. It comes inside a
	// [*RetryError].
	ErrOverloaded = errors.New("scheduler: overloaded")
	// ErrCoolingDown: the model failed to load a short time ago. It comes inside a
	// [*RetryError].
	ErrCoolingDown = errors.New("scheduler: model cooling down")
	// ErrPolicy: the policy has refused the model, or the host's own code panicked
	// when it was asked about it.
	ErrPolicy = errors.New("scheduler: refused by the policy")
	// ErrShutdown: the scheduler was shut down without an error of its own.
	ErrShutdown = errors.New("scheduler: shut down")
)

// RetryError refuses a request that may succeed later.
type RetryError struct {
	Model string        // that the request named
	After time.Duration // how long to wait before the next try; 0: not known
	Err   error         // wraps [ErrOverloaded], or [ErrCoolingDown] and the error of the swap that failed
}

// Error names the model, the reason, and when to try again if that is known.
func (e *RetryError) Error() string {
	if e.After > 0 {
		return fmt.Sprintf("%v: %q: try again in %v", e.Err, e.Model, e.After)
	}
	return fmt.Sprintf("%v: %q", e.Err, e.Model)
}

// Unwrap returns Err.
func (e *RetryError) Unwrap() error { return e.Err }

// HTTPStatus suggests how to answer a request that has got err: the status code, and
// the value of the Retry-After header as whole seconds, rounded up; 0: leave the
// header out.
//
//	nil                          200
//	ErrModelNotFound             404
//	ErrOverloaded                429
//	ErrPolicy                    500
//	ErrNotReady                  502
//	ErrModelUnloaded             503
//	ErrCoolingDown               503
//	ErrShutdown                  503
//	the error of a Ctx           504
//	any other: of a failed swap  502
func HTTPStatus(err error) (code int, retryAfter time.Duration) {
	if retry := (*RetryError)(nil); errors.As(err, &retry) {
		retryAfter = max(0, retry.After).Truncate(time.Second)
		if more := retryAfter + time.Second; retryAfter < retry.After && more > 0 {
			retryAfter = more
		}
	}
	if err == nil {
		return http.StatusOK, 0
	}
	for _, s := range statuses {
		if errors.Is(err, s.err) {
			return s.code, retryAfter
		}
	}
	return http.StatusBadGateway, retryAfter
}

// statuses are tried in order. The refusal of a model that cools down wraps the error
// of its swap, which may be any other, so that it comes first.
var statuses = []struct {
	err  error
	code int
}{
	{ErrCoolingDown, http.StatusServiceUnavailable},
	{ErrShutdown, http.StatusServiceUnavailable},
	{ErrModelUnloaded, http.StatusServiceUnavailable},
	{ErrOverloaded, http.StatusTooManyRequests},
	{ErrModelNotFound, http.StatusNotFound},
	{ErrPolicy, http.StatusInternalServerError},
	{ErrNotReady, http.StatusBadGateway},
	{context.DeadlineExceeded, http.StatusGatewayTimeout},
	{context.Canceled, http.StatusGatewayTimeout},
}

// ProcessState is the state of a model's process, as the host reports it. A state
// that is none of the constants counts as running and not ready.
type ProcessState string

// The states of a process. A model is running unless it is stopped or shut down,
// and is served only while it is ready.
const (
	StateStopped  ProcessState = "stopped"  // not started, or ended
	StateStarting ProcessState = "starting" // started, not answering yet
	StateReady    ProcessState = "ready"    // answers requests
	StateStopping ProcessState = "stopping" // told to end, its memory still taken
	StateShutdown ProcessState = "shutdown" // ended for good
)

// HandlerReq is one request: what the host hands to OnRequest and gets back in
// the one answer. It is passed by value; a host may fill in whatever it likes
// of it in a test.
type HandlerReq struct {
	// Model is the model that the request names.
	Model string
	// Ctx ends when the caller leaves. Nil: never.
	Ctx context.Context
	// Respond is the identity of the request: OnCancel finds it by this channel.
	// The scheduler never sends on it; the host's Grant methods do. In a real host
	// it is unbuffered, so that a send succeeds only while the caller is there,
	// and it serves one request at a time. Nil: cannot be cancelled by OnCancel.
	Respond chan HandlerResp
	// PositionCh is told the request's place whenever that changes: 0 while its
	// model is being loaded for it, n ≥ 1 for the n-th in the queue. Sends never
	// block; an unread older value is replaced, so a capacity of 1 always holds
	// the latest. The host must not close it while the request waits. Nil: not
	// told.
	PositionCh chan int
	// Host is the host's own. The scheduler does not look at it, and hands it back in
	// the answer.
	Host any
	// Lease is set by the scheduler in the copy that GrantServe gets: the number
	// of this grant, which OnServeDone gives back. Ignored in OnRequest.
	Lease uint64
}

// HandlerResp is the answer that a host sends on Respond: the handler that serves
// the request, or the error that refuses it. The scheduler does not use it.
type HandlerResp struct {
	HandleFunc http.HandlerFunc
	Err        error
}

// SwapDone reports that the swap for ModelID has ended. Err is nil when the model
// is ready.
type SwapDone struct {
	ModelID string
	Err     error
}

// ServeDoneEvent reports that the handler of a granted request has returned.
type ServeDoneEvent struct {
	// ModelID is the model that served. It counts only when Lease is 0.
	ModelID string
	// Lease is the number that GrantServe got. 0: the host does not keep leases,
	// and the oldest one of the model ends.
	Lease uint64
}
