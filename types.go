package scheduler

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// The errors that GrantError is called with, for use with [errors.Is]. All but
// ErrShutdown come wrapped, with the name of the model. GrantError may also be called
// with the error of a swap that failed, with the cause of a request's Ctx, and with the
// error that OnShutdown was given. Those three come unchanged.
var (
	// ErrModelNotFound: the host does not know the model.
	ErrModelNotFound = errors.New("scheduler: model not found")
	// ErrModelUnloaded: the model was unloaded while the request waited for it.
	ErrModelUnloaded = errors.New("scheduler: model unloaded")
	// ErrNotReady: a swap reported success, but ModelState does not say that the model
	// is ready.
	ErrNotReady = errors.New("scheduler: model not ready after its swap")
	// ErrOverloaded: the Capacity of the model or the MaxQueue of the scheduler is
	// reached. It comes in a [*RetryError].
	ErrOverloaded = errors.New("scheduler: overloaded")
	// ErrCoolingDown: the model has failed to load, and Cooldown is not over. It comes
	// in a [*RetryError], together with the error of the swap.
	ErrCoolingDown = errors.New("scheduler: model cooling down")
	// ErrPolicy: a [Planner] returned an error, or a question to the host's own code
	// panicked. The error, or the value of the panic, is wrapped too.
	ErrPolicy = errors.New("scheduler: refused by the policy")
	// ErrShutdown: the scheduler was shut down. OnShutdown had no error to give
	// instead, or an effect had panicked; the value of the panic is wrapped then.
	ErrShutdown = errors.New("scheduler: shut down")
)

// RetryError is the refusal of a request that may succeed later.
type RetryError struct {
	Model string        // the model that the request named
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

// HTTPStatus suggests how to answer a request that was given err. It returns a status
// code, and the value for the Retry-After header. That is a whole number of seconds,
// rounded up; 0 means to leave the header out.
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
//	any other, of a failed swap  502
//
// The package's own errors come first: a refusal that cools down is 503, whatever the
// error of its swap. The error of a swap is 504 if it wraps [context.DeadlineExceeded] or
// [context.Canceled]; a host that does not want that does not wrap them.
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

// ProcessState is the state of a model's process, as the host reports it. Any value
// that is none of the constants, "" included, means that the model is running and not
// ready.
type ProcessState string

// The states of a process. A model is running unless it is stopped or shut down, and
// serves only while it is ready.
const (
	StateStopped  ProcessState = "stopped"  // not started, or ended
	StateStarting ProcessState = "starting" // started, but not ready to serve yet
	StateReady    ProcessState = "ready"    // serves requests
	StateStopping ProcessState = "stopping" // told to end, but still using memory
	StateShutdown ProcessState = "shutdown" // ended for good
)

// HandlerReq is one request. The host passes it to OnRequest, and gets a copy back in
// GrantServe or GrantError. Only Model is required.
type HandlerReq struct {
	// Model is the model that the request names.
	Model string
	// Ctx ends when the caller leaves. The scheduler does not wait for that: a waiting
	// request whose Ctx is done is dropped when the scheduler next comes to it (R14).
	// OnCancel takes it out at once. Nil: never done.
	Ctx context.Context
	// Respond identifies the request: OnCancel finds it by this channel. The scheduler
	// does not send on it. The channel is for GrantServe and GrantError, which answer
	// the caller. In a real host it is unbuffered, so that a send succeeds only if the
	// caller is there to receive. It is used for one request at a time. Nil: OnCancel
	// cannot find the request.
	Respond chan HandlerResp
	// PositionCh is sent the place of the request while it waits, when the place
	// changes: 0 if its model is being loaded for it, n ≥ 1 if it is the n-th request
	// in the queue. The first 64 are told their place exactly, after every event. A
	// request further back is told how many are in the queue, which is an upper
	// bound, and only when it begins to wait or when a load ends without serving it.
	// It is also told when its load starts and when it comes among the first 64 (R16).
	//
	// Sends never block. They replace a value that has not been read, so a channel
	// with a capacity of 1 holds the latest. An unbuffered channel may miss values,
	// and a closed one is passed over. Nil: not told.
	PositionCh chan int
	// Host is for the host: what it wants to find again in Priority, Tenant,
	// GrantServe or GrantError. The scheduler does not look at it.
	Host any
	// Lease is the number of the grant. The scheduler sets it in the copy that
	// GrantServe gets, and the host returns it in OnServeDone. It is never 0 there.
	// OnRequest ignores it.
	Lease uint64
}

// HandlerResp is the answer that the host sends to a caller on Respond: a handler that
// serves the request, or an error. The scheduler does not use it.
type HandlerResp struct {
	HandleFunc http.HandlerFunc
	Err        error
}

// SwapDone reports that the swap for ModelID has ended. If the swap has succeeded Err
// is nil, and ModelState says that the model is ready. Otherwise Err goes to every
// request that waited for the swap.
type SwapDone struct {
	ModelID string
	Err     error
}

// ServeDoneEvent reports that the handler of a granted request has returned.
type ServeDoneEvent struct {
	// ModelID is the model that served the request. It matters only if Lease is 0.
	ModelID string
	// Lease is the number that GrantServe was given. 0: the host does not keep leases,
	// and the oldest lease of the model that has not ended ends.
	Lease uint64
}
