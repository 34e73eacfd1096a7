package kube

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const pods = "/api/v1/pods"

// podText returns a pod as JSON. Its UID is the name's, unless it follows after a slash.
func podText(name, version string) string {
	name, uid, found := strings.Cut(name, "/")
	if !found {
		uid = "uid-" + name
	}
	return fmt.Sprintf(`{"metadata":{"name":%q,"namespace":"n","uid":%q,"resourceVersion":%q}}`, name, uid, version)
}

// page is the answer to a list: the version of the collection, where it continues, and
// pods as name and version.
func page(version, more string, items ...string) answer {
	var texts []string
	for i := 0; i < len(items); i += 2 {
		texts = append(texts, podText(items[i], items[i+1]))
	}
	return answer{body: fmt.Sprintf(`{"metadata":{"resourceVersion":%q,"continue":%q},"items":[%s]}`, version, more, strings.Join(texts, ","))}
}

// stream is the answer to a watch.
func stream(then end, events ...string) answer {
	return answer{code: 200, body: strings.Join(events, "\n"), then: then}
}

// change is an event with a pod.
func change(kind, name, version string) string {
	return fmt.Sprintf(`{"type":%q,"object":%s}`, kind, podText(name, version))
}

// failure is an event with an error.
func failure(code int) string {
	return fmt.Sprintf(`{"type":"ERROR","object":{"kind":"Status","code":%d,"message":"too old resource version"}}`, code)
}

// asked is a request of a watch as a line of the transcript.
func asked(r *http.Request) string {
	q := r.URL.Query()
	if q.Get("watch") == "" {
		line := "list " + q.Get("limit")
		if q.Has("continue") {
			line += " continue=" + q.Get("continue")
		}
		return strings.TrimSpace(line)
	}
	return "watch " + q.Get("resourceVersion")
}

// noting returns a handler that adds to the transcript of s.
func noting(s *script) Handler[Pod] {
	line := func(verb string) func(Pod) {
		return func(p Pod) {
			s.note(fmt.Sprintf("  %s %s %s", verb, p.Metadata.Name, p.Metadata.ResourceVersion))
		}
	}
	return Handler[Pod]{Put: line("put"), Delete: line("delete"), Synced: func() { s.note("  synced") }}
}

// TestWatch shows what a watch asks and tells in each situation. The last request of each
// is not answered any more.
func TestWatch(t *testing.T) {
	tests := []struct {
		name    string
		answers []answer
		want    string
	}{
		{"an empty list", []answer{page("10", "")}, `
list 500
  synced
watch 10`},
		{"changes, then the server ends the watch", []answer{
			page("10", "", "a", "4", "b", "9"),
			stream(done, change("MODIFIED", "a", "11"), change("ADDED", "c", "12"), change("DELETED", "b", "13"), change("BOOKMARK", "", "20")),
		}, `
list 500
  put a 4
  put b 9
  synced
watch 10
  put a 11
  put c 12
  delete b 13
watch 20`},
		{"cut between events", []answer{page("10", ""), stream(cut, change("ADDED", "a", "11"))}, `
list 500
  synced
watch 10
  put a 11
watch 11`},
		{"cut in the middle of an event", []answer{page("10", ""), stream(cut, change("ADDED", "a", "11"), change("ADDED", "b", "12")[:40])}, `
list 500
  synced
watch 10
  put a 11
watch 11`},
		{"the server is away for some time", []answer{
			{then: cut}, {code: 503}, page("10", "", "a", "4"), {then: cut}, {code: 500}, {code: 429}, stream(done, change("DELETED", "a", "12")),
		}, `
list 500
list 500
list 500
  put a 4
  synced
watch 10
watch 10
watch 10
watch 10
  delete a 12
watch 12`},
		{"410 as status: tells only what differs", []answer{
			page("10", "", "a", "4", "b", "5", "c", "6", "d/first", "7"), {code: 410}, page("30", "", "a", "4", "b", "25", "d/second", "26", "e", "27"),
		}, `
list 500
  put a 4
  put b 5
  put c 6
  put d 7
  synced
watch 10
list 500
  delete c 6
  put b 25
  delete d 7
  put d 26
  put e 27
  synced
watch 30`},
		{"410 as event", []answer{page("10", "", "a", "4"), stream(hang, change("ADDED", "b", "11"), failure(410)), page("30", "", "b", "11")}, `
list 500
  put a 4
  synced
watch 10
  put b 11
list 500
  delete a 4
  synced
watch 30`},
		{"500 as event", []answer{page("10", ""), stream(hang, failure(500)), page("30", "")}, `
list 500
  synced
watch 10
list 500
  synced
watch 30`},
		{"pages", []answer{page("10", "p2", "a", "4"), page("10", "p3", "b", "5"), page("10", "", "c", "6")}, `
list 500
list 500 continue=p2
list 500 continue=p3
  put a 4
  put b 5
  put c 6
  synced
watch 10`},
		{"410 between pages: in one piece then", []answer{page("10", "p2", "a", "4"), {code: 410}, page("20", "", "b", "5")}, `
list 500
list 500 continue=p2
list 0
  put b 5
  synced
watch 20`},
		{"cut between pages: nothing of it is told", []answer{page("10", "p2", "a", "4"), {then: cut}, page("20", "", "b", "5")}, `
list 500
list 500 continue=p2
list 500
  put b 5
  synced
watch 20`},
		{"may list but not watch", []answer{page("10", ""), {code: 403}, page("11", ""), {code: 403}, page("12", "")}, `
list 500
  synced
watch 10
list 500
  synced
watch 11
list 500
  synced
watch 12`},
		{"events that change nothing", []answer{page("10", "", "a", "4"),
			stream(done, change("ADDED", "a", "4"), change("DELETED", "b", "12"), change("MODIFIED", "a", "13"), change("MODIFIED", "a", "13"))}, `
list 500
  put a 4
  synced
watch 10
  put a 13
watch 13`},
		{"another object of the same name", []answer{page("10", "", "a/first", "4"), stream(done, change("ADDED", "a/second", "11"))}, `
list 500
  put a 4
  synced
watch 10
  delete a 4
  put a 11
watch 11`},
		{"events that are not what they should be", []answer{
			page("10", ""), stream(hang, `<html>`),
			page("11", ""), stream(hang, `{"type":7}`),
			page("12", ""), stream(hang, `{"type":"ADDED","object":{"metadata":{"name":7}}}`),
			page("13", ""), stream(hang, `{"type":"ADDED","object":null}`),
			page("14", ""), stream(hang, `{"type":"ADDED"}`),
			page("15", ""), stream(hang, "null\n"),
			page("16", ""), stream(hang, change("ADDED", "a", "")),
			page("17", ""), stream(hang, change("VANISHED", "a", "18")),
			page("18", ""), stream(hang, `{"type":"ERROR","object":7}`),
			page("19", ""), stream(hang, `{"type":"ADDED","object":{"metadata":{"name":"a","resourceVersion":"20"},"x":"`+strings.Repeat("x", maxEvent)+`"}}`),
		}, strings.Join(strings.Fields(strings.Repeat("list 500 synced watch N ", 10)+"list 500"), " ")},
		{"lists that are none", []answer{{body: `{}`}, {body: `{"items":7}`}, {body: `<html>`}, page("10", "")}, `
list 500
list 500
list 500
list 500
  synced
watch 10`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScript(tt.answers...)
				s.line = asked
				watchUntilOver(t, s, clientOf(s))
				got := s.transcript()
				if !strings.HasPrefix(tt.want, "\n") { // The versions count up.
					for n := 10; n < 21; n++ {
						got = strings.Replace(got, "watch "+strconv.Itoa(n), "watch N", 1)
					}
					got = strings.Join(strings.Fields(got), " ")
				}
				if got != strings.TrimPrefix(tt.want, "\n") {
					t.Errorf("got\n%s\nwant%s", got, tt.want)
				}
			})
		})
	}
}

// watchUntilOver watches until s has no more answers, and checks that the watch ends with
// its context.
func watchUntilOver(t *testing.T, s *script, c *Client) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		Watch(ctx, c, pods, url.Values{"labelSelector": {"a=b"}, "limit": {"1"}}, noting(s))
	}()
	<-s.over
	now := time.Now()
	cancel()
	<-ended
	if time.Since(now) != 0 {
		t.Errorf("ended %v after its context", time.Since(now))
	}
}

// TestWatchQuery checks what is sent besides the version.
func TestWatchQuery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript(page("10", ""), stream(done, change("BOOKMARK", "", "11")))
		watchUntilOver(t, s, clientOf(s))
		for _, r := range s.seen {
			if got := r.URL.Query().Get("labelSelector"); got != "a=b" {
				t.Errorf("%s: selector %q", r.URL, got)
			}
		}
		q := s.seen[1].URL.Query()
		seconds, _ := strconv.Atoi(q.Get("timeoutSeconds"))
		if q.Get("allowWatchBookmarks") != "true" || seconds < 300 || seconds > 600 || q.Has("timeout") {
			t.Errorf("watch with %v, want bookmarks and 300 to 600 seconds", q)
		}
	})
}

// TestWatchSilence checks that a watch does not wait forever for a server that does not
// begin to answer, or does not end.
func TestWatchSilence(t *testing.T) {
	for _, silent := range []answer{{then: hang}, {code: 200, then: hang}} {
		synctest.Test(t, func(t *testing.T) {
			s := newScript(page("10", ""), silent)
			s.line = asked
			begun := time.Now()
			watchUntilOver(t, s, clientOf(s))
			least, most := tryBound, tryBound+maxPause
			if silent.code != 0 {
				least, most = watchTime+watchSlack, 2*watchTime+watchSlack+maxPause
			}
			if took := time.Since(begun); took < least || took > most {
				t.Errorf("took %v, want %v to %v", took, least, most)
			}
			if want := "list 500\n  synced\nwatch 10\nwatch 10"; s.transcript() != want {
				t.Errorf("got\n%s\nwant\n%s", s.transcript(), want)
			}
		})
	}
}

// TestWatchPauses checks that an outage costs the server few requests and the log one
// line, that a watch that ends at once counts as one, and that a success ends it.
func TestWatchPauses(t *testing.T) {
	for name, bad := range map[string]answer{"503": {code: 503}, "ends at once": {code: 200}, "cut": {then: cut}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				answers := []answer{page("10", "")}
				for range 20 {
					answers = append(answers, bad)
				}
				answers = append(answers, stream(done, change("BOOKMARK", "", "11")))
				s := newScript(append(answers, answers[1:]...)...)
				c := clientOf(s)
				log := c.logTo(slog.LevelInfo)
				begun := time.Now()
				watchUntilOver(t, s, c)
				// 0.1 + 0.2 + … + 3.2 s, then 5 s each, each at least half as long.
				if took := time.Since(begun); took < 2*(6300*time.Millisecond+13*maxPause)/2 || took > 2*(6400*time.Millisecond+15*maxPause) {
					t.Errorf("took %v", took)
				}
				if got := strings.Count(log.String(), "level=WARN"); got != 2 {
					t.Errorf("%d warnings for two outages:\n%s", got, log)
				}
				if got := strings.Count(log.String(), "works again"); got != 2 {
					t.Errorf("%d ends of two outages:\n%s", got, log)
				}
			})
		})
	}
}

// TestWatchNormalEnds checks that what happens all the time is not logged, and that a
// watch that lasted is opened again at once.
func TestWatchNormalEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answers := []answer{page("10", "")}
		for version := 11; version < 31; version++ {
			answers = append(answers, stream(end(version%2), change("BOOKMARK", "", strconv.Itoa(version)))) // done, cut, done…
		}
		s := newScript(append(answers, answer{code: 410}, page("40", ""))...)
		c := clientOf(s)
		log := c.logTo(slog.LevelInfo)
		begun := time.Now()
		watchUntilOver(t, s, c)
		if took := time.Since(begun); took > 25*minPause {
			t.Errorf("took %v", took)
		}
		if log.String() != "" {
			t.Errorf("logged: %s", log)
		}
	})
}

// TestWatchRetryAfter checks that the server's wish is granted.
func TestWatchRetryAfter(t *testing.T) {
	later := answer{code: 429, header: http.Header{"Retry-After": {"20"}}}
	synctest.Test(t, func(t *testing.T) {
		s := newScript(later, page("10", ""), later)
		begun := time.Now()
		watchUntilOver(t, s, clientOf(s))
		if took := time.Since(begun); took != 40*time.Second {
			t.Errorf("took %v, want 40s", took)
		}
	})
}

// TestWatchNilHandler checks that functions may be missing.
func TestWatchNilHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript(page("10", "", "a", "4"), stream(done, change("DELETED", "a", "11")))
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-s.over; cancel() }()
		Watch(ctx, clientOf(s), pods, nil, Handler[Pod]{})
		if s.requests() != 2 {
			t.Errorf("%d requests", s.requests())
		}
	})
}
