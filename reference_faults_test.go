package scheduler

// fault names a rule that a reference breaks on purpose, so that the checks can
// show what they catch. The zero value is none.
type fault string

// faults are all of them, with the rule that each breaks. A new one is a line below, or
// beside the place in the reference that commits it.
var faults []knownFault

type knownFault struct {
	fault
	rule    string
	checked bool // what always holds shows it, and not only the comparison
}

// checkedFault is a fault that breaks an invariant of RULES.md.
func checkedFault(f fault, rule string) fault {
	faults = append(faults, knownFault{f, rule, true})
	return f
}

// comparedFault is a fault that breaks no invariant of RULES.md, but a rule: only the
// comparison with the FIFO shows it.
func comparedFault(f fault, rule string) fault {
	faults = append(faults, knownFault{f, rule, false})
	return f
}

var (
	faultForgetsAbandoned = checkedFault("forgets an abandoned swap", "R12")
	faultUnloadFades      = comparedFault("leaves a model running that an unload abandoned", "R12")
	faultEvictsBusy       = checkedFault("evicts a busy model", "R5")
	faultAnswersTwice     = checkedFault("answers twice", "R1")
	faultDrops            = checkedFault("drops a request in silence", "R1, R10")
	faultNeverCloses      = comparedFault("never closes a model", "R8")
	faultClosesAtOnce     = comparedFault("closes a model at once", "R8")
	faultNewcomers        = checkedFault("lets newcomers into a closed model", "R8")
	faultHinders          = comparedFault("lets a swap hinder a reservation", "R8")
	faultNeverReserves    = comparedFault("never reserves", "R8")
	faultReservesStill    = comparedFault("does not move the queue when it reserves", "R8")
	faultDrainLatest      = comparedFault("takes the latest drain for the mean", "R8")
	faultNoConcurrency    = checkedFault("ignores Concurrency", "R9")
	faultNoCapacity       = checkedFault("ignores Capacity", "R9")
	faultNoMaxQueue       = checkedFault("ignores MaxQueue", "R9")
	faultNoPriority       = checkedFault("ignores the priority", "R6")
	faultLIFO             = checkedFault("serves the latest first", "R6")
	faultLeaks            = checkedFault("leaks a lease", "R11")
	faultNoWriteOff       = checkedFault("counts the leases of a process that is gone", "R11")
	faultDeadCaller       = checkedFault("starts a swap for a caller that has left", "R14")
	faultNoCancel         = checkedFault("keeps a cancelled request", "R14")
	faultNeverCancelsSwap = comparedFault("never cancels a swap that no request waits for", "R14")
	faultCancelsOn        = comparedFault("cancels swaps without end", "R14")
	faultNotReady         = checkedFault("grants on a model that is not ready", "R10")
	faultEvicted          = checkedFault("grants on a model that is being evicted", "R3")
	faultCollides         = checkedFault("starts a swap that collides", "R5")
	faultSecondSwap       = checkedFault("starts a second swap for a model", "R4")
	faultAsksAgain        = comparedFault("asks the Swapper again when a load is done", "R4")
	faultBlockedBlocks    = checkedFault("lets a blocked model block those behind it", "R6")
	faultSwapsFirst       = comparedFault("starts a swap before it serves what is ready", "R7")
	faultNoCooldown       = comparedFault("ignores the cool-down", "R13")
	faultCooldownFlat     = comparedFault("does not double the cool-down", "R13")
	faultKeepsUnknown     = checkedFault("keeps the names of unknown models", "invariant 9")
	faultNoZero           = comparedFault("does not tell requests that are being loaded for", "R16")
	faultNoTenants        = checkedFault("ignores tenants", "R6")
	faultTenantFirst      = checkedFault("puts a tenant that begins to wait before the others", "R6")
	faultKeepsTurn        = checkedFault("leaves a tenant its turn after a grant", "R6")
	faultOneDrain         = comparedFault("learns one drain for all models", "R8")
	faultClosesByHolder   = comparedFault("closes by the load of the holder alone", "R8")
	faultAsksTooOften     = comparedFault("asks again before the price is over", "R8")
	faultReservesPaused   = checkedFault("reserves for a paused model", "R9")
	faultGrantsPaused     = checkedFault("grants on a paused model", "R9")
	faultSwapsPaused      = checkedFault("starts a swap for a paused model", "R9")
	faultNoAfter          = comparedFault("does not say when to try again", "R9")
	faultForgetsWhose     = comparedFault("forgets whose load was cancelled", "R14")
	faultForgetsThat      = comparedFault("forgets that a load was cancelled", "R14")
	faultDeafAfterwards   = checkedFault("ignores reports after a shutdown", "R15")
	faultPanicIsNobody    = checkedFault("takes a refusal for nothing to evict", "R17")
	faultSufficesAnyway   = comparedFault("takes a refusal for a plan that suffices", "R17")
	faultOvertakes        = checkedFault("lets a newcomer overtake after a silent change", "R19")
	faultMaxQueueFirst    = comparedFault("decides MaxQueue before the queue moves", "R19")
	faultAlwaysMoves      = comparedFault("moves the queue whenever a request is done", "R19")
)
