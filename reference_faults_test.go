package scheduler

// fault names a rule that a reference breaks on purpose, so that the checks can
// show what they catch.
type fault string

const (
	faultForgetsAbandoned fault = "forgets an abandoned swap"                       // R12
	faultUnloadFades      fault = "leaves a model running that an unload abandoned" // R12
	faultEvictsBusy       fault = "evicts a busy model"                             // R5
	faultAnswersTwice     fault = "answers twice"                                   // R1
	faultDrops            fault = "drops a request in silence"                      // R1, R10
	faultNeverCloses      fault = "never closes a model"                            // R8
	faultClosesAtOnce     fault = "closes a model at once"                          // R8
	faultNewcomers        fault = "lets newcomers into a closed model"              // R8
	faultHinders          fault = "lets a swap hinder a reservation"                // R8
	faultNeverReserves    fault = "never reserves"                                  // R8
	faultDrainLatest      fault = "takes the latest drain for the mean"             // R8
	faultNoConcurrency    fault = "ignores Concurrency"                             // R9
	faultNoCapacity       fault = "ignores Capacity"                                // R9
	faultNoMaxQueue       fault = "ignores MaxQueue"                                // R9
	faultNoPriority       fault = "ignores the priority"                            // R6
	faultLIFO             fault = "serves the latest first"                         // R6
	faultLeaks            fault = "leaks a lease"                                   // R11
	faultNoWriteOff       fault = "counts the leases of a process that is gone"     // R11
	faultDeadCaller       fault = "starts a swap for a caller who has left"         // R14
	faultNoCancel         fault = "keeps a cancelled request"                       // R14
	faultNeverCancelsSwap fault = "never cancels a swap that nobody waits for"      // R14
	faultCancelsOn        fault = "cancels swaps without end"                       // R14
	faultNotReady         fault = "grants on a model that is not ready"             // R10
	faultEvicted          fault = "grants on a model that is being evicted"         // R3
	faultCollides         fault = "starts a swap that collides"                     // R5
	faultSecondSwap       fault = "starts a second swap for a model"                // R4
	faultAsksAgain        fault = "asks the Swapper again when a load is done"      // R4
	faultBlockedBlocks    fault = "lets a blocked model block those behind it"      // R6
	faultSwapsFirst       fault = "starts a swap before it serves what is ready"    // R7
	faultNoCooldown       fault = "ignores the cool-down"                           // R13
	faultCooldownFlat     fault = "does not double the cool-down"                   // R13
	faultKeepsUnknown     fault = "keeps the names of unknown models"               // invariant 9
	faultNoZero           fault = "does not tell who is being loaded for"           // R16
)

// faults are all of them.
var faults = []fault{
	faultForgetsAbandoned, faultUnloadFades, faultEvictsBusy, faultAnswersTwice, faultDrops,
	faultNeverCloses, faultClosesAtOnce, faultNewcomers, faultHinders, faultNeverReserves, faultDrainLatest,
	faultNoConcurrency, faultNoCapacity, faultNoMaxQueue, faultNoPriority, faultLIFO,
	faultLeaks, faultNoWriteOff, faultDeadCaller, faultNoCancel, faultNeverCancelsSwap, faultCancelsOn,
	faultNotReady, faultEvicted, faultCollides, faultSecondSwap, faultAsksAgain,
	faultBlockedBlocks, faultSwapsFirst, faultNoCooldown, faultCooldownFlat, faultKeepsUnknown, faultNoZero,
}
