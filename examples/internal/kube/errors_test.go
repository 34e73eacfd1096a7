package kube

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// endless is the body of an error that never ends, and counts what is read.
type endless struct{ read int }

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	e.read += len(p)
	return len(p), nil
}

// TestAnswered checks what becomes of answers that are errors.
func TestAnswered(t *testing.T) {
	tests := []struct {
		name, body, after string
		want              Error
	}{
		{"status", notFound, "", Error{404, "NotFound", `pods "a" not found`, 0}},
		{"status with a wait", `{"reason":"TooManyRequests","message":"m","details":{"retryAfterSeconds":5}}`, "", Error{404, "TooManyRequests", "m", 5 * time.Second}},
		{"the header comes first", `{"reason":"r","message":"m","details":{"retryAfterSeconds":5}}`, "2", Error{404, "r", "m", 2 * time.Second}},
		{"code of the status is ignored", `{"code":200,"message":"m"}`, "", Error{404, "", "m", 0}},
		{"negative wait", `{"message":"m"}`, "-5", Error{404, "", "m", 0}},
		{"huge wait", `{"message":"m"}`, "9223372036854775807", Error{404, "", "m", time.Minute}},
		{"huge wait in the status", `{"message":"m","details":{"retryAfterSeconds":9223372036854775807}}`, "", Error{404, "", "m", time.Minute}},
		{"wait that is none", `{"message":"m"}`, "soon", Error{404, "", "m", 0}},
		{"text", "404 page not found\n", "", Error{404, "", "404 Not Found: 404 page not found", 0}},
		{"other JSON", `[1]`, "", Error{404, "", "404 Not Found: [1]", 0}},
		{"JSON that says nothing", `{}`, "", Error{404, "", "404 Not Found: {}", 0}},
		{"nothing", ``, "", Error{404, "", "404 Not Found:", 0}},
		{"lines and colors", "{\"message\":\"a\\nb\\u001b[31mc\"}", "", Error{404, "", "a b [31mc", 0}},
		{"not UTF-8", "a\xffb", "", Error{404, "", "404 Not Found: ab", 0}},
		{"long", `{"message":"` + strings.Repeat("ä", maxMessage) + `"}`, "", Error{404, "", strings.Repeat("ä", maxMessage/2) + "…", 0}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			resp := &http.Response{StatusCode: 404, Status: "404 Not Found", Header: http.Header{"Retry-After": {tt.after}},
				Body: io.NopCloser(strings.NewReader(tt.body))}
			var e *Error
			if !errors.As(answered(resp), &e) || *e != tt.want {
				t.Errorf("got  %+v\nwant %+v", *e, tt.want)
			}
		})
	}
	body := &endless{}
	answered(&http.Response{StatusCode: 500, Header: http.Header{}, Body: io.NopCloser(body)})
	if body.read > maxErrorBody {
		t.Errorf("read %d bytes of an error, want at most %d", body.read, maxErrorBody)
	}
}

// TestErrorText checks how errors read, and that they can be told apart when wrapped.
func TestErrorText(t *testing.T) {
	for want, e := range map[string]Error{
		"404":                 {Code: 404},
		"404 NotFound":        {Code: 404, Reason: "NotFound"},
		"404: gone":           {Code: 404, Message: "gone"},
		"404 NotFound: gone!": {Code: 404, Reason: "NotFound", Message: "gone!"},
	} {
		if e.Error() != want {
			t.Errorf("%q, want %q", e.Error(), want)
		}
		err := fmt.Errorf("model: %w", &e)
		if !IsCode(err, 404) || IsCode(err, 409) || IsCode(nil, 404) || IsCode(io.EOF, 0) {
			t.Errorf("IsCode is wrong about %v", err)
		}
	}
}

// TestMayPass checks which failures are worth another try.
func TestMayPass(t *testing.T) {
	for code, want := range map[int]bool{400: false, 401: false, 403: false, 404: false, 409: false, 410: false, 422: false, 429: true, 500: true, 503: true, 504: true} {
		if err := fmt.Errorf("x: %w", &Error{Code: code}); mayPass(err) != want {
			t.Errorf("%d: %v", code, !want)
		}
		if mayPass(&lost{&Error{Code: code}}) {
			t.Errorf("%d in a watch may pass", code)
		}
	}
	if !mayPass(&outage{io.ErrUnexpectedEOF}) || mayPass(io.ErrUnexpectedEOF) {
		t.Error("outages are what passes, not other errors")
	}
	if !errors.Is(&outage{io.ErrUnexpectedEOF}, io.ErrUnexpectedEOF) || !IsCode(&lost{&Error{Code: 410}}, 410) {
		t.Error("the reason cannot be seen")
	}
}
