package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"example.com/scheduler"
	"example.com/scheduler/examples/internal/config"
)

// refusal is the body of an error, in OpenAI's form.
type refusal struct {
	Error struct{ Message, Type, Code string }
}

func (f *frontTest) refusal(method, path, body string, header ...string) (resp *http.Response, code, message string) {
	f.t.Helper()
	resp, text := f.do(method, path, body, header...)
	var e refusal
	if err := json.Unmarshal([]byte(text), &e); err != nil {
		f.t.Errorf("%s %s: %d %q is not JSON", method, path, resp.StatusCode, text)
	}
	return resp, e.Error.Code, e.Error.Message
}

// TestUnknownPaths: what is no path, and what is one for other methods, is said in
// the form of every other error.
func TestUnknownPaths(t *testing.T) {
	f := newFrontTest(t, oneModel(nil), echo, false)
	for _, c := range []struct {
		method, path string
		status       int
		code, allow  string
	}{
		{"GET", "/nonsense", 404, "no_such_path", ""},
		{"POST", "/v1/nonsense", 404, "no_such_path", ""},
		{"GET", chatPath, 405, "method_not_allowed", "POST"},
		{"DELETE", "/status", 405, "method_not_allowed", "GET, HEAD"},
		{"PUT", "/v1/messages", 405, "", "POST"},
	} {
		resp, code, message := f.refusal(c.method, c.path, "")
		if resp.StatusCode != c.status || code != c.code || message == "" || resp.Header.Get("Allow") != c.allow {
			t.Errorf("%s %s: %d %q %q, Allow %q", c.method, c.path, resp.StatusCode, code, message, resp.Header.Get("Allow"))
		}
	}
	if resp, _ := f.do("GET", "/v1/../status", ""); resp.StatusCode != 200 { // The client follows the redirect.
		t.Errorf("a path that is not clean: %d", resp.StatusCode)
	}
}

// TestRefusalsSayWhy: a message names what is wrong and what to do about it.
func TestRefusalsSayWhy(t *testing.T) {
	f := newFrontTest(t, oneModel(func(c *config.Config, m *config.Model) {
		c.Keys = []config.Key{{Name: "one", Key: "sesame-secret"}}
	}), echo, false)
	key := []string{"X-Api-Key", "sesame-secret"}
	form := []string{"Content-Type", "application/x-www-form-urlencoded"}
	for _, c := range []struct {
		body   string
		header []string
		status int
		code   string
		says   string
	}{
		{``, nil, 401, "missing_key", "key is needed"},
		{``, []string{"Authorization", "Bearer sesame-secre"}, 401, "wrong_key", "key is wrong"},
		{``, []string{"Host", "evil.example"}, 403, "foreign_host", `"evil.example"`},
		{``, []string{"Host", "evil.example"}, 403, "foreign_host", `"hosts"`},
		{`not json`, key, 400, "bad_request", "not JSON"},
		{`not json`, append(form, key...), 400, "bad_request", "not JSON"},
		{`[1]`, key, 400, "bad_request", "not a JSON object"},
		{`a=b`, append(form, key...), 400, "bad_request", "names no model"},
	} {
		resp, code, message := f.refusal("POST", chatPath, c.body, c.header...)
		if resp.StatusCode != c.status || code != c.code || !strings.Contains(message, c.says) {
			t.Errorf("%q %q: %d %s %q, want %d %s %q", c.body, c.header, resp.StatusCode, code, message, c.status, c.code, c.says)
		}
	}
}

// TestBrokenOff: a request whose model ends while it answers learns whether the model
// was unloaded, and may ask again, or has failed; and the model is named once.
func TestBrokenOff(t *testing.T) {
	for _, c := range []struct {
		name   string
		end    func(f *frontTest, inst *remoteInstance)
		status int
		code   string
		says   string
	}{
		{"unloaded", func(f *frontTest, _ *remoteInstance) { f.do("POST", "/unload?model=m", "") },
			503, "unloaded", `scheduler: model unloaded: "m"`},
		{"crashed", func(f *frontTest, inst *remoteInstance) { inst.stop(0) },
			502, "model_failed", `the model has failed: model "m": exited: exit status 3`},
	} {
		t.Run(c.name, func(t *testing.T) {
			serves, end := make(chan struct{}), make(chan struct{})
			f := newFrontTest(t, oneModel(nil), func(w http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body)
				serves <- struct{}{}
				<-end
				panic(http.ErrAbortHandler)
			}, false)
			go func() {
				<-serves
				var inst *remoteInstance
				f.host.do(func() { inst = f.host.models["m"].inst.(*remoteInstance) })
				inst.why = errors.New(`model "m": exited: exit status 3`)
				c.end(f, inst)
				close(end)
			}()
			resp, code, message := f.refusal("POST", chatPath, `{"model":"m"}`)
			if resp.StatusCode != c.status || code != c.code || message != c.says {
				t.Errorf("%d %s %s", resp.StatusCode, code, message)
			}
		})
	}
}

// TestCutShort: a stream that has begun cannot become an error, but it is counted and
// logged as what has ended it.
func TestCutShort(t *testing.T) {
	for _, c := range []struct {
		reason string
		end    func(f *frontTest, inst *remoteInstance)
	}{
		{"unloaded", func(f *frontTest, _ *remoteInstance) { f.do("POST", "/unload?model=m", "") }},
		{"model_failed", func(f *frontTest, inst *remoteInstance) { inst.stop(0) }},
	} {
		end := make(chan struct{})
		f := newFrontTest(t, oneModel(nil), func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "begun\n")
			http.NewResponseController(w).Flush()
			<-end
			panic(http.ErrAbortHandler)
		}, false)
		resp, err := f.server.Client().Post(f.server.URL+chatPath, "application/json", strings.NewReader(`{"model":"m"}`))
		if err != nil {
			t.Fatal(err)
		}
		var inst *remoteInstance
		f.host.do(func() { inst = f.host.models["m"].inst.(*remoteInstance) })
		c.end(f, inst)
		close(end)
		if text, err := io.ReadAll(resp.Body); err == nil || string(text) != "begun\n" {
			t.Errorf("%q %v", text, err)
		}
		resp.Body.Close()
		want := fmt.Sprintf(`modelproxy_answers_total{model="m",code="200",reason=%q} 1`+"\n", c.reason)
		if !happens(func() bool { return strings.Contains(string(f.host.metrics.text(status{}, 0)), want) }) {
			t.Errorf("no %s", want)
		}
	}
}

// TestStatusesAreTheSchedulers: what the scheduler has a status for is answered with
// it, and Retry-After is there only if it is known.
func TestStatusesAreTheSchedulers(t *testing.T) {
	cooling := &scheduler.RetryError{Model: "m", After: 1500 * time.Millisecond,
		Err: fmt.Errorf("%w: %w", scheduler.ErrCoolingDown, errModelFailed)}
	for _, c := range []struct {
		err    error
		reason string
		after  string
	}{
		{scheduler.ErrModelNotFound, "not_found", ""},
		{&scheduler.RetryError{Model: "m", Err: scheduler.ErrOverloaded}, "overloaded", ""},
		{cooling, "cooling_down", "2"},
		{scheduler.ErrModelUnloaded, "unloaded", ""},
		{scheduler.ErrShutdown, "shutdown", ""},
		{scheduler.ErrPolicy, "policy", ""},
		{scheduler.ErrNotReady, "load_failed", ""},
		{errors.New("exit status 1"), "load_failed", ""},
	} {
		w := httptest.NewRecorder()
		writeError(w, httptest.NewRequest("POST", chatPath, nil), c.err)
		status, _ := scheduler.HTTPStatus(c.err)
		if a := answerTo(c.err); w.Code != status || a.reason != c.reason || w.Header().Get("Retry-After") != c.after {
			t.Errorf("%v: %d %s, Retry-After %q", c.err, w.Code, a.reason, w.Header().Get("Retry-After"))
		}
	}
	// A probe that timed out is part of why a load failed, and no time-out of the caller's.
	if a := answerTo(fmt.Errorf("not ready: %w", context.DeadlineExceeded)); a.status != http.StatusBadGateway {
		t.Errorf("a load that takes too long: %d", a.status)
	}
}

// TestReasonsAreDocumented: whoever gets one finds it in the README, with its status.
func TestReasonsAreDocumented(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	all := []error{badRequest(""), &http.MaxBytesError{}, errors.New("of a load")}
	for _, a := range answers {
		all = append(all, a.err)
	}
	for _, err := range all {
		a := answerTo(err)
		row := regexp.MustCompile(fmt.Sprintf("(?m)^\\| %d \\| [^|]*`%s`", a.status, a.reason))
		if !row.Match(readme) {
			t.Errorf("%d %s is not in the table", a.status, a.reason)
		}
	}
}
