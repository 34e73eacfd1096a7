package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"example.com/scheduler"
	"example.com/scheduler/examples/internal/pods"
)

// Reasons of the proxy's own to refuse a request, or to end it.
var (
	errHeld         = errors.New("too many request bodies are in memory: try again later")
	errNotLoaded    = errors.New("the model is not loaded, and a passive path does not load it")
	errLoop         = errors.New("it would have to wait for a request of which the caller is a part: a loop")
	errSocketCut    = errors.New("cut because others have waited")
	errSilent       = errors.New("it has been silent")
	errStalled      = errors.New("the body has stopped coming")
	errLeft         = errors.New("the caller has closed its connection, or its side of it: keep that open until the answer has come")
	errQueueTimeout = errors.New("the request has waited for as long as it may")
	errMissingKey   = errors.New("an API key is needed: as a bearer token, as X-Api-Key, or as the password of any user")
	errWrongKey     = errors.New("the API key is wrong")
	errCrossOrigin  = errors.New("refused: the request comes from another web site")
	errForeignHost  = errors.New("refused: the Host header is not one of this server's")
	errNoPath       = errors.New("there is no such path")
	errMethod       = errors.New("the path is there for other methods")
	errModelFailed  = errors.New("the model has failed")
	errNoNode       = errors.New("no node has room for it at the moment, even without other models")
	errStandby      = errors.New("this proxy stands by")
)

// badRequest makes an error that is answered with 400.
func badRequest(text string) error { return badRequestError(text) }

type badRequestError string

func (e badRequestError) Error() string { return string(e) }

// answer is what a caller is told of an error.
type answer struct {
	err    error  // what it is about
	status int    // 0: as scheduler.HTTPStatus says
	reason string // in the log and the metrics, and as the code in the body
}

// Of answers the first whose error is wrapped counts: the refusal of a model that cools
// down wraps the error of its load, which may be any other.
var answers = []answer{
	{scheduler.ErrCoolingDown, 0, "cooling_down"},
	{scheduler.ErrShutdown, 0, "shutdown"},
	{scheduler.ErrModelUnloaded, 0, "unloaded"},
	{scheduler.ErrOverloaded, 0, "overloaded"},
	{scheduler.ErrModelNotFound, 0, "not_found"},
	{errNoNode, http.StatusServiceUnavailable, "no_node"}, // It wraps the next, too.
	{scheduler.ErrPolicy, 0, "policy"},
	{errMissingKey, http.StatusUnauthorized, "missing_key"},
	{errWrongKey, http.StatusUnauthorized, "wrong_key"},
	{errCrossOrigin, http.StatusForbidden, "cross_origin"},
	{errForeignHost, http.StatusForbidden, "foreign_host"},
	{errNoPath, http.StatusNotFound, "no_such_path"},
	{errMethod, http.StatusMethodNotAllowed, "method_not_allowed"},
	{errStalled, http.StatusRequestTimeout, "body_stalled"},
	{errLeft, leftStatus, leftReason},
	{errHeld, http.StatusTooManyRequests, "held"},
	{errModelFailed, http.StatusBadGateway, "model_failed"},
	{errStandby, http.StatusServiceUnavailable, "standby"},
	{pods.ErrReleased, http.StatusServiceUnavailable, "standby"}, // A moment later it would be refused for that.
	{errNotLoaded, http.StatusServiceUnavailable, "not_loaded"},
	{errLoop, http.StatusLoopDetected, "loop"},
	{errSilent, http.StatusGatewayTimeout, "model_timeout"},
	{errQueueTimeout, http.StatusGatewayTimeout, "queue_timeout"},
}

// kinds are the types of errors by status, in the words of OpenAI and Anthropic.
var kinds = map[int]string{
	http.StatusBadRequest:            "invalid_request_error",
	http.StatusUnauthorized:          "authentication_error",
	http.StatusForbidden:             "permission_error",
	http.StatusNotFound:              "not_found_error",
	http.StatusMethodNotAllowed:      "invalid_request_error",
	http.StatusRequestTimeout:        "timeout_error",
	http.StatusRequestEntityTooLarge: "invalid_request_error",
	http.StatusTooManyRequests:       "rate_limit_error",
	http.StatusServiceUnavailable:    "overloaded_error",
	leftStatus:                       "invalid_request_error",
	http.StatusGatewayTimeout:        "timeout_error",
}

// answerTo returns what the caller is told of err. What is none of the others is the
// error of a load.
func answerTo(err error) answer {
	a := answer{err, http.StatusBadGateway, "load_failed"}
	if i := slices.IndexFunc(answers, func(a answer) bool { return errors.Is(err, a.err) }); i >= 0 {
		a = answers[i]
	}
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		a = answer{err, http.StatusRequestEntityTooLarge, "body_too_large"}
	} else if malformed := badRequestError(""); errors.As(err, &malformed) {
		a = answer{err, http.StatusBadRequest, "bad_request"}
	}
	if a.status == 0 {
		a.status, _ = scheduler.HTTPStatus(err)
	}
	return a
}

// writeError answers r with err, in the form that the clients of its path expect.
func writeError(w http.ResponseWriter, r *http.Request, err error) {
	err = visitOf(r).body.cause(err)
	a := answerTo(err)
	visitOf(r).reason = a.reason
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Del("Content-Length")
	if a.status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Basic realm="models", charset="UTF-8"`)
	}
	if _, after := scheduler.HTTPStatus(err); after > 0 {
		h.Set("Retry-After", strconv.Itoa(int(after.Seconds())))
	} else if errors.Is(err, errHeld) || errors.Is(err, pods.ErrReleased) {
		h.Set("Retry-After", "1") // There may be room as soon as a model has read a body, and another proxy soon.
	}
	w.WriteHeader(a.status)
	if _, err := w.Write(append(errorBody(r, err), '\n')); err != nil {
		slog.Debug("error not delivered", "err", err)
	}
}

// errorEvent returns err as a server-sent event.
func errorEvent(r *http.Request, err error) string {
	event := "data: " + string(errorBody(r, err)) + "\n\n"
	if strings.HasPrefix(r.URL.Path, "/v1/messages") {
		return "event: error\n" + event
	}
	return event
}

// errorBody returns err as the clients of r's path expect it: Anthropic's, or
// OpenAI's.
func errorBody(r *http.Request, err error) []byte {
	a := answerTo(err)
	detail := map[string]any{"message": strings.ToValidUTF8(err.Error(), "\uFFFD"), "type": cmp.Or(kinds[a.status], "api_error")}
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
