package kube

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

const (
	podPath  = "/api/v1/namespaces/default/pods/a"
	podJSON  = `{"metadata":{"name":"a","uid":"u1","resourceVersion":"7"}}`
	notFound = `{"kind":"Status","status":"Failure","message":"pods \"a\" not found","reason":"NotFound","code":404}`
)

var errPatience = errors.New("the caller has no more patience")

// TestRequests checks what is sent.
func TestRequests(t *testing.T) {
	grace := int64(30)
	tests := []struct {
		name              string
		send              func(context.Context, *Client) error
		line, media, body string
	}{
		{"get", func(ctx context.Context, c *Client) error { return c.Get(ctx, podPath+"?x=1", new(Pod)) },
			"GET " + podPath + "?x=1&timeout=10s", "", ""},
		{"create", func(ctx context.Context, c *Client) error {
			return c.Create(ctx, "/api/v1/pods", map[string]int{"a": 1}, nil)
		}, "POST /api/v1/pods?timeout=10s", "application/json", `{"a":1}`},
		{"update", func(ctx context.Context, c *Client) error { return c.Update(ctx, podPath, map[string]int{"a": 1}, nil) },
			"PUT " + podPath + "?timeout=10s", "application/json", `{"a":1}`},
		{"patch", func(ctx context.Context, c *Client) error {
			return c.Patch(ctx, podPath, map[string]any{"a": nil}, nil)
		},
			"PATCH " + podPath + "?timeout=10s", "application/merge-patch+json", `{"a":null}`},
		{"delete", func(ctx context.Context, c *Client) error { return c.Delete(ctx, podPath, DeleteOptions{}) },
			"DELETE " + podPath + "?timeout=10s", "application/json", `{"apiVersion":"v1","kind":"DeleteOptions"}`},
		{"delete this one", func(ctx context.Context, c *Client) error {
			return c.Delete(ctx, podPath, DeleteOptions{GracePeriodSeconds: &grace, UID: "u1"})
		}, "DELETE " + podPath + "?timeout=10s", "application/json",
			`{"apiVersion":"v1","gracePeriodSeconds":30,"kind":"DeleteOptions","preconditions":{"uid":"u1"}}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var line, media, body string
			c := clientOf(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				text, _ := io.ReadAll(r.Body)
				line, media, body = r.Method+" "+r.URL.RequestURI(), r.Header.Get("Content-Type"), string(text)
				io.WriteString(w, podJSON)
			}))
			if err := tt.send(within(t), c); err != nil {
				t.Fatal(err)
			}
			if line != tt.line || media != tt.media || body != tt.body {
				t.Errorf("sent %s, %q, %s\nwant %s, %q, %s", line, media, body, tt.line, tt.media, tt.body)
			}
		})
	}
}

// TestRetries checks after which answers a request is sent again, and when.
func TestRetries(t *testing.T) {
	ok := answer{body: podJSON}
	in := func(d time.Duration) string {
		return time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).Add(d).Format(http.TimeFormat)
	}
	tests := []struct {
		name     string
		first    answer
		requests int
		err      string
		min, max time.Duration
	}{
		{"429 with seconds", answer{code: 429, header: http.Header{"Retry-After": {"7"}}}, 2, "", 7 * time.Second, 7 * time.Second},
		{"429 with a date", answer{code: 429, header: http.Header{"Retry-After": {in(9 * time.Second)}}}, 2, "", 9 * time.Second, 9 * time.Second},
		{"429 with a date that is over", answer{code: 429, header: http.Header{"Retry-After": {in(-time.Hour)}}}, 2, "", 50 * time.Millisecond, 100 * time.Millisecond},
		{"429 with seconds in the status", answer{code: 429, body: `{"reason":"TooManyRequests","details":{"retryAfterSeconds":3}}`}, 2, "", 3 * time.Second, 3 * time.Second},
		{"429 with a date that is far", answer{code: 429, header: http.Header{"Retry-After": {in(1000 * time.Hour)}}}, 2, "", time.Minute, time.Minute},
		{"503 with a year", answer{code: 503, header: http.Header{"Retry-After": {"31536000"}}}, 2, "", time.Minute, time.Minute},
		{"500", answer{code: 500}, 2, "", 50 * time.Millisecond, 100 * time.Millisecond},
		{"503", answer{code: 503, body: "<html>"}, 2, "", 50 * time.Millisecond, 100 * time.Millisecond},
		{"no answer", answer{then: cut}, 2, "", 50 * time.Millisecond, 100 * time.Millisecond},
		{"half an answer", answer{body: podJSON[:20], then: cut}, 2, "", 50 * time.Millisecond, 100 * time.Millisecond},
		{"silence", answer{then: hang}, 2, "", tryBound, tryBound + 100*time.Millisecond},
		{"silence in the middle", answer{body: podJSON[:20], then: hang}, 2, "", tryBound, tryBound + 100*time.Millisecond},
		{"404", answer{code: 404, body: notFound}, 1, `kube: GET ` + podPath + `: 404 NotFound: pods "a" not found`, 0, 0},
		{"410", answer{code: 410}, 1, "410", 0, 0},
		{"no JSON", answer{body: "<html>"}, 1, "the answer is not what it should be", 0, 0},
		{"other JSON", answer{body: `{"metadata":{"name":7}}`}, 1, "the answer is not what it should be", 0, 0},
		{"endless", answer{body: strings.Repeat(" ", 1<<20+1)}, 1, "more than 1048576 bytes", 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScript(tt.first, ok)
				begun := time.Now()
				var pod Pod
				err := clientOf(s).Get(t.Context(), podPath+"?x=1", &pod)
				if took := time.Since(begun); took < tt.min || took > tt.max {
					t.Errorf("took %v, want %v to %v", took, tt.min, tt.max)
				}
				if s.requests() != tt.requests {
					t.Errorf("sent %d times, want %d", s.requests(), tt.requests)
				}
				switch {
				case tt.err == "" && (err != nil || pod.Metadata.UID != "u1"):
					t.Errorf("got %v, error %v", pod, err)
				case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
					t.Errorf("error %v, want %s", err, tt.err)
				}
			})
		})
	}
}

// TestRetriesEnd checks that the caller learns both why the tries ended and why they were
// necessary, also when the last try was cut off by the end.
func TestRetriesEnd(t *testing.T) {
	for _, last := range []answer{{code: 503}, {then: hang}} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errPatience)
			defer cancel()
			answers := []answer{{code: 503, body: `{"message":"etcd is away"}`}}
			for range 50 {
				answers = append(answers, last)
			}
			err := clientOf(newScript(answers...)).Create(ctx, "/api/v1/pods", struct{}{}, nil)
			if !errors.Is(err, errPatience) || !IsCode(err, 503) {
				t.Errorf("error %v, want one that is both %v and 503", err, errPatience)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errPatience)
		if err := clientOf(newScript()).Get(ctx, podPath, new(Pod)); !errors.Is(err, errPatience) {
			t.Errorf("error %v, want %v", err, errPatience)
		}
	})
}

// TestSilentConnection checks that the tries after some without an answer use another
// connection, and that all share that.
func TestSilentConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var dials atomic.Int64
		c := clientOf(nil)
		c.dial = func() *http.Client {
			n := dials.Add(1)
			return &http.Client{Transport: memory{http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if n == 1 {
					<-r.Context().Done()
				}
				fmt.Fprintf(w, `{"metadata":{"name":"%d"}}`, n)
			})}}
		}
		c.http.Store(c.dial())
		names := make(chan string)
		for i := range 8 {
			go func() {
				time.Sleep(time.Duration(i) * time.Second)
				var pod Pod
				if err := c.Get(t.Context(), podPath, &pod); err != nil {
					t.Error(err)
				}
				names <- pod.Metadata.Name
			}()
		}
		used := map[string]bool{}
		for range 8 {
			used[<-names] = true
		}
		if len(used) != 1 || used["1"] {
			t.Errorf("used %v, want one that is not the first", used)
		}
	})
}

// TestBound checks that changes can have a shorter bound, and that the server is told.
func TestBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript(answer{then: hang}, answer{body: podJSON}, answer{body: podJSON})
		s.line = func(r *http.Request) string { return r.Method + " " + r.URL.RawQuery }
		c := clientOf(s)
		c.boundChanges(2 * time.Second)
		c.boundChanges(3 * time.Second) // It must be quicker already.
		c.boundChanges(time.Minute)
		begun := time.Now()
		if err := c.Create(t.Context(), pods, Pod{}, nil); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); took < 2*time.Second || took > 2100*time.Millisecond {
			t.Errorf("took %v, want 2 s and a pause", took)
		}
		if err := c.Get(t.Context(), podPath, new(Pod)); err != nil {
			t.Fatal(err)
		}
		if got := s.transcript(); got != "POST timeout=2s\nPOST timeout=2s\nGET timeout=10s" {
			t.Errorf("requests: %s", got)
		}
	})
}

// TestDone checks that a change is done when the server says so, whatever becomes of an
// answer that nobody asked for.
func TestDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript(answer{code: 201, body: podJSON[:10], then: cut})
		if err := clientOf(s).Create(t.Context(), "/api/v1/pods", Pod{}, nil); err != nil || s.requests() != 1 {
			t.Errorf("error %v after %d requests", err, s.requests())
		}
	})
}

// TestBadRequests checks that what cannot be sent is refused at once.
func TestBadRequests(t *testing.T) {
	c := clientOf(newScript())
	for _, path := range []string{"", "api/v1/pods", "/healthz", "@evil.example/api", "/api/v1/pods/%zz", "/api/\n"} {
		if err := c.Get(within(t), path, new(Pod)); err == nil || mayPass(err) {
			t.Errorf("path %q: error %v, want one that does not pass", path, err)
		}
	}
	if err := c.Create(within(t), "/api/v1/pods", func() {}, nil); err == nil {
		t.Error("a function was sent")
	}
}

// TestStream checks that a stream may begin late, that it is tried once, and that it ends
// with its context.
func TestStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clientOf(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Hour)
			io.WriteString(w, "hello")
			<-r.Context().Done()
		}))
		ctx, cancel := context.WithCancel(t.Context())
		body, err := c.Stream(ctx, podPath+"/log?follow=true")
		if err != nil {
			t.Fatal(err)
		}
		text := make([]byte, 5)
		if _, err := io.ReadFull(body, text); err != nil || string(text) != "hello" {
			t.Errorf("read %q, %v", text, err)
		}
		cancel()
		if _, err := body.Read(text); err == nil {
			t.Error("read on after the end of the context")
		}
		body.Close()

		s := newScript(answer{code: 503}, answer{})
		if _, err := clientOf(s).Stream(t.Context(), podPath+"/log?x=1"); !IsCode(err, 503) || strings.Contains(err.Error(), "x=1") || s.requests() != 1 {
			t.Errorf("error %v after %d requests", err, s.requests())
		}
	})
}

// TestConnectionReused checks that requests one after the other share a connection, also
// after errors and answers that nobody reads.
func TestConnectionReused(t *testing.T) {
	remotes := map[string]bool{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		remotes[r.RemoteAddr] = true
		if r.Method == http.MethodPut {
			w.WriteHeader(http.StatusConflict)
		}
		fmt.Fprintf(w, `{"metadata":{"name":%q}}`, strings.Repeat("x", 20<<10))
	}))
	defer s.Close()
	c := open(t, Config{Server: s.URL})
	for range 5 {
		if err := c.Create(within(t), "/api/v1/pods", Pod{}, nil); err != nil {
			t.Fatal(err)
		}
		if err := c.Update(within(t), podPath, Pod{}, nil); !IsCode(err, http.StatusConflict) {
			t.Fatal(err)
		}
		if err := c.Get(within(t), podPath, new(Pod)); err != nil {
			t.Fatal(err)
		}
	}
	if len(remotes) != 1 {
		t.Errorf("%d connections", len(remotes))
	}
}
