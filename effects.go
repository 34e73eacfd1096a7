package scheduler

import "time"

// Effects is the host as a [Scheduler] sees it: two questions about what runs,
// and four orders. The host implements it.
//
// All methods are called on the host's run-loop goroutine, from within one of
// the scheduler's On… methods or one that it defers to. A method may call back
// into the scheduler; that event is handled when the present step ends. A
// method that panics counts as done.
type Effects interface {
	// ModelState reports the state of the model's process, and whether the host
	// knows the model at all. The state of a known model that was never started
	// is [StateStopped]. It is asked often and must not block.
	ModelState(modelID string) (ProcessState, bool)

	// RunningModels returns the models whose processes are in use: every one that
	// is neither stopped nor shut down. Entries in those two states do no harm.
	// The map stays the host's: the scheduler reads it before it returns control
	// and does not keep or change it, so the host may return the same map every
	// time. It is asked often and must not block.
	RunningModels() map[string]ProcessState

	// StartSwap makes the host stop the models in evict, then start modelID and
	// wait until it is ready, all of it in the background: the call returns at
	// once. The model may be ready already, when only the evictions are wanted.
	//
	// The host owes exactly one OnSwapDone for every StartSwap, also when the
	// swap fails, panics or is cancelled. Evict is the host's to keep. None of its
	// models has a request in flight, and no other outstanding swap stops or
	// starts any model that this one does.
	StartSwap(modelID string, evict []string)

	// GrantError answers a request with an error. It must not block on a caller
	// who has gone.
	GrantError(req HandlerReq, err error)

	// GrantServe answers a request: modelID is ready and stays so until the host
	// reports OnServeDone. It returns true if the caller took the answer, so that
	// the handler will run; the host then owes exactly one OnServeDone, with the
	// lease that req carries, also when the handler panics. It returns false if
	// the caller had gone; then it owes nothing. It must not block on a caller who
	// has gone.
	GrantServe(req HandlerReq, modelID string) bool

	// StopProcesses stops the processes of the models in ids, which are sorted and
	// known to the host, and gives each of them timeout to end by itself; what zero
	// or less means is the host's choice, since the value is handed on from
	// OnUnload as it came. It blocks until they have stopped. It may return earlier
	// only if ModelState says [StateStopping] until then and a swap that needs
	// their room waits for it. Ids is the host's to keep.
	StopProcesses(timeout time.Duration, ids []string)
}

// SwapCanceler is an optional companion of [Effects], found by type assertion
// when the scheduler is made: a host that can abort a load has it.
type SwapCanceler interface {
	// CancelSwap asks the host to end the outstanding swap for modelID early. It
	// returns at once, may come too late, and may be ignored: the swap still owes
	// its one OnSwapDone, which then may report success or any error. It is called
	// at most once per swap.
	CancelSwap(modelID string)
}
