package scheduler

import (
	"fmt"
	"log/slog"
	"runtime/debug"
)

// refuse turns the panic of a question into an error, and logs its stack (R17). It
// is deferred by the function that asks:
//
//	defer refuse(log, "Plan", model, &err)
func refuse(log *slog.Logger, question, model string, err *error) {
	if value := recover(); value != nil {
		*err = panicError(fmt.Errorf("%w: %s for %q panicked", ErrPolicy, question, model), value)
		log.Error("a question panicked", "question", question, "model", model, "panic", value, "stack", string(debug.Stack()))
	}
}

// panicError returns an error that wraps err and what was panicked with.
func panicError(err error, value any) error {
	if cause, ok := value.(error); ok {
		return fmt.Errorf("%w: %w", err, cause)
	}
	return fmt.Errorf("%w: %v", err, value)
}
