package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"example.com/scheduler"
)

// Reasons of the proxy's own to refuse a request.
var (
	errHeld         = errors.New("too many request bodies are waiting: try again later")
	errQueueTimeout = errors.New("the request has waited for as long as it may")
	errUnauthorized = errors.New("an API key is needed")
	errCrossOrigin  = errors.New("refused: the request comes from another web site")
	errForeignHost  = errors.New("refused: the Host header is not one of this server's")
)

// badRequest makes an error that is answered with 400.
func badRequest(text string) error { return badRequestError(text) }

type badRequestError string

func (e badRequestError) Error() string { return string(e) }

// answer is what a caller is told of an error.
type answer struct {
	status int
	reason string // in metrics, and as the code in the body
	kind   string // the type in the body
}

// answerTo returns what the caller is told of err. What is none of the others is the
// error of a model: of its load, or of a request to it.
func answerTo(err error) answer {
	var tooLarge *http.MaxBytesError
	var malformed badRequestError
	switch {
	case errors.As(err, &tooLarge):
		return answer{http.StatusRequestEntityTooLarge, "body_too_large", "invalid_request_error"}
	case errors.As(err, &malformed):
		return answer{http.StatusBadRequest, "bad_request", "invalid_request_error"}
	case errors.Is(err, errUnauthorized):
		return answer{http.StatusUnauthorized, "unauthorized", "authentication_error"}
	case errors.Is(err, errCrossOrigin), errors.Is(err, errForeignHost):
		return answer{http.StatusForbidden, "cross_origin", "permission_error"}
	case errors.Is(err, scheduler.ErrModelNotFound):
		return answer{http.StatusNotFound, "not_found", "not_found_error"}
	case errors.Is(err, errHeld):
		return answer{http.StatusTooManyRequests, "held", "rate_limit_error"}
	case errors.Is(err, scheduler.ErrOverloaded):
		return answer{http.StatusTooManyRequests, "overloaded", "rate_limit_error"}
	case errors.Is(err, scheduler.ErrCoolingDown):
		return answer{http.StatusServiceUnavailable, "cooling_down", "overloaded_error"}
	case errors.Is(err, scheduler.ErrModelUnloaded):
		return answer{http.StatusServiceUnavailable, "unloaded", "overloaded_error"}
	case errors.Is(err, scheduler.ErrShutdown):
		return answer{http.StatusServiceUnavailable, "shutdown", "overloaded_error"}
	case errors.Is(err, errQueueTimeout):
		return answer{http.StatusGatewayTimeout, "queue_timeout", "timeout_error"}
	}
	return answer{http.StatusBadGateway, "load_failed", "api_error"}
}

// writeError answers r with err, in the form that the clients of its path expect. A
// caller who has left gets nothing.
func writeError(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, context.Canceled) && r.Context().Err() != nil {
		return
	}
	a := answerTo(err)
	if m := metricsOf(r); m != nil {
		m.refused(a.reason)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Del("Content-Length")
	switch a.status {
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", `Basic realm="models", charset="UTF-8"`)
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		h.Set("Retry-After", retryAfter(err))
	}
	w.WriteHeader(a.status)
	if _, err := w.Write(append(errorBody(r, err), '\n')); err != nil {
		slog.Debug("error not delivered", "err", err)
	}
}

// retryAfter returns how many seconds to wait, 1 if that is not known.
func retryAfter(err error) string {
	var retry *scheduler.RetryError
	after := time.Second
	if errors.As(err, &retry) {
		after = max(after, retry.After)
	}
	return strconv.Itoa(int(math.Ceil(after.Seconds())))
}

// errorBody returns err as the clients of r's path expect it: Anthropic's, or
// OpenAI's.
func errorBody(r *http.Request, err error) []byte {
	a := answerTo(err)
	detail := map[string]any{"message": strings.ToValidUTF8(err.Error(), "\uFFFD"), "type": a.kind}
	body := map[string]any{"error": detail}
	if strings.HasPrefix(r.URL.Path, "/v1/messages") {
		body["type"] = "error"
	} else {
		detail["code"], detail["param"] = a.reason, nil
	}
	text, err := json.Marshal(body)
	if err != nil {
		panic(err) // There is nothing in it but strings.
	}
	return text
}
