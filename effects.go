package scheduler

import "time"

// Effects is the host as a [Scheduler] sees it: two questions about what is running,
// and four orders. The host implements it.
//
// All methods are called on the run-loop goroutine, while one of the scheduler's On…
// methods is being called. A method may call back into the scheduler. That event is
// handled when the present one is done, before the outer call returns.
//
// If a method panics, the panic passes through the scheduler to the run loop. The call
// counts as carried out, and the scheduler is fail-stop: its next event shuts it down,
// with an error that wraps [ErrShutdown] and the value of the panic (R17).
type Effects interface {
	// ModelState returns the state of the model's process, and whether the host
	// knows the model at all. The state of a known model that was never started
	// is [StateStopped]. ModelState is called often and must not block. Its answer may
	// change at any time, as when a process dies.
	ModelState(modelID string) (ProcessState, bool)

	// RunningModels returns the state of every model whose process is neither stopped
	// nor shut down. Entries in those two states do no harm. The map belongs to the
	// host: the scheduler reads it at once and neither keeps nor changes it, so the
	// host may return the same map every time. RunningModels is called often and must
	// not block.
	RunningModels() map[string]ProcessState

	// StartSwap starts a swap: stop the models in evict, then start modelID and wait
	// until it is ready. The call returns at once, and the work goes on in the
	// background. If the model is ready already it stays so: only the evictions are
	// wanted. A model that is not ready may still have a process that is stopping, from a
	// load that was cancelled or an unload; the swap waits for that first.
	//
	// The host owes exactly one OnSwapDone for each StartSwap, also when the swap
	// fails, panics or is cancelled. Without it the model stays blocked for good, and
	// so does everything that collides with the swap.
	//
	// No model in evict has a request in flight, and no other outstanding swap stops
	// or starts a model that this one does. Evict belongs to the host.
	StartSwap(modelID string, evict []string)

	// GrantError answers a request with an error, for which [HTTPStatus] suggests a
	// status code. It must not block on a caller that has left.
	GrantError(req HandlerReq, err error)

	// GrantServe answers a request: modelID is ready to serve it. No swap stops the
	// model until the host reports the end of the request.
	//
	// GrantServe returns true if the handler will run. The host then owes exactly one
	// OnServeDone with req.Lease, also when the handler panics. It returns false if
	// the caller has left, and then owes nothing. It must not block on a caller that
	// has left.
	GrantServe(req HandlerReq, modelID string) bool

	// StopProcesses stops the processes of the models in ids, and gives each of them
	// timeout to end by itself. Timeout is what OnUnload was given, so the host
	// decides what zero or less means. Ids is sorted, names only models that the host
	// knows, and belongs to the host. It may name a model that is being loaded: the
	// load was abandoned, and its OnSwapDone is still owed. The host may end such a
	// load or leave it alone. If the load succeeds after all and no request waits for
	// the model, StopProcesses is called for it again.
	//
	// StopProcesses blocks until the processes have stopped, and ModelState says so.
	// It may return earlier only if ModelState says [StateStopping] until they have,
	// and a swap that starts or stops one of them waits for that.
	StopProcesses(timeout time.Duration, ids []string)
}

// SwapCanceler is an optional companion of [Effects], for a host that can abort a
// load. It is found by type assertion when the scheduler is made.
type SwapCanceler interface {
	// CancelSwap asks the host to end the outstanding swap for modelID early, because
	// its result is no longer wanted. It returns at once. It may come too late, and the
	// host may ignore it: the host still owes the one OnSwapDone for the swap, which
	// may report success or any error. CancelSwap is called at most once per swap.
	CancelSwap(modelID string)
}
