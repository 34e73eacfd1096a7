package kube

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
)

const (
	maxErrorBody  = 64 << 10    // what is read of an answer that is an error
	maxMessage    = 1 << 10     // what is kept of its message
	maxRetryAfter = time.Minute // longer than that nobody is left in the dark
)

// Error is an answer of the API server that is an error.
type Error struct {
	Code       int           // HTTP status
	Reason     string        // one word, such as NotFound; "" if there is none
	Message    string        // for people
	RetryAfter time.Duration // how long the server asks to wait, at most a minute; 0: it does not say
}

// Error implements error.
func (e *Error) Error() string {
	text := strconv.Itoa(e.Code)
	if e.Reason != "" {
		text += " " + e.Reason
	}
	if e.Message != "" {
		text += ": " + e.Message
	}
	return text
}

// IsCode reports whether err is, or wraps, an answer with that HTTP status.
func IsCode(err error, code int) bool {
	var e *Error
	return errors.As(err, &e) && e.Code == code
}

// outage is a failure to get an answer, or all of it.
type outage struct{ error }

// Unwrap returns what has failed.
func (o *outage) Unwrap() error { return o.error }

// lost is an answer after which the same question makes no sense, whatever its code.
type lost struct{ error }

// Unwrap returns the answer.
func (l *lost) Unwrap() error { return l.error }

// mayPass reports whether it makes sense to ask the same again.
func mayPass(err error) bool {
	if l := (*lost)(nil); errors.As(err, &l) {
		return false
	}
	if e := (*Error)(nil); errors.As(err, &e) {
		return e.Code == http.StatusTooManyRequests || e.Code >= 500
	}
	var o *outage
	return errors.As(err, &o)
}

// retryAfter returns how long the server asks to wait after err; 0: it does not say.
func retryAfter(err error) time.Duration {
	if e := (*Error)(nil); errors.As(err, &e) {
		return e.RetryAfter
	}
	return 0
}

// status is the error that the API tells (metav1.Status).
type status struct {
	Code    int
	Reason  string
	Message string
	Details struct{ RetryAfterSeconds int64 }
}

// error returns s as an Error with the given HTTP status.
func (s *status) error(code int) *Error {
	return &Error{Code: code, Reason: printable(s.Reason), Message: printable(s.Message),
		RetryAfter: bounded(s.Details.RetryAfterSeconds)}
}

// answered returns the error that resp is.
func answered(resp *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody)) // What arrived tells more than why the rest did not.
	var s status
	if err := json.Unmarshal(text, &s); err != nil || s.Message == "" && s.Reason == "" {
		s = status{Message: fmt.Sprintf("%s: %s", resp.Status, text)} // from something on the way
	}
	e := s.error(resp.StatusCode)
	if after, ok := parseRetryAfter(resp.Header.Get("Retry-After"), time.Now()); ok {
		e.RetryAfter = after
	}
	return e
}

// parseRetryAfter returns the wait that a header asks for: seconds, or a date.
func parseRetryAfter(header string, now time.Time) (time.Duration, bool) {
	if seconds, err := strconv.ParseInt(header, 10, 64); err == nil {
		return bounded(seconds), true
	}
	at, err := http.ParseTime(header)
	return min(max(at.Sub(now), 0), maxRetryAfter), err == nil
}

// bounded returns a number of seconds between 0 and the longest wait.
func bounded(seconds int64) time.Duration {
	return time.Duration(min(max(seconds, 0), int64(maxRetryAfter/time.Second))) * time.Second
}

// printable returns the beginning of text as one line.
func printable(text string) string {
	cut := len(text) > maxMessage
	text = strings.ToValidUTF8(text[:min(len(text), maxMessage)], "")
	text = strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, text))
	if cut {
		text += "…"
	}
	return text
}
