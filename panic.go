package scheduler

import (
	"fmt"
	"log/slog"
	"runtime/debug"
)

// refuse turns a panic in a question into an error, and logs the stack (R17). The
// function that asks defers it:
//
//	defer refuse(log, "Plan", model, &err)
func refuse(log *slog.Logger, question, model string, err *error) {
	if value := recover(); value != nil {
		*err = panicError(fmt.Errorf("%w: %s for %q panicked", ErrPolicy, question, model), value)
		log.Error("a question panicked", "question", question, "model", model, "panic", value, "stack", string(debug.Stack()))
	}
}

// panicError returns an error that wraps err and the value of a panic.
func panicError(err error, value any) error {
	if cause, ok := value.(error); ok {
		return fmt.Errorf("%w: %w", err, cause)
	}
	return fmt.Errorf("%w: %v", err, value)
}
