package demo

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"example.com/scheduler/examples/internal/config"
)

func TestConfig(t *testing.T) {
	c := Config()
	for _, name := range []string{"alpha", "beta", "gamma"} {
		m := c.Models[name]
		if m == nil {
			t.Fatalf("no model %s", name)
		}
		if got := m.Command[1:]; !slices.Equal(got, []string{Command, "-port", "${PORT}", "-name", "${MODEL}", "-load", "1s"}) {
			t.Errorf("%s: %q", name, got)
		}
		if exe, err := config.Expand(m.Command[0], nil); exe != os.Args[0] && !filepath.IsAbs(exe) || err != nil {
			t.Errorf("%s: the program is %q, %v", name, exe, err)
		}
	}
	if len(c.Models) != 3 || len(c.Groups) != 0 {
		t.Errorf("%d models, %d groups", len(c.Models), len(c.Groups))
	}
}

// loaded returns a server of a demo model that has loaded and does not pause.
func loaded(t *testing.T) *httptest.Server {
	d := &model{name: "a"}
	d.loaded.Store(true)
	server := httptest.NewServer(d.handler())
	t.Cleanup(server.Close)
	return server
}

func post(t *testing.T, url, body string) *http.Response {
	t.Helper()
	resp, err := http.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func TestAnswers(t *testing.T) {
	server := loaded(t)
	tests := []struct{ path, body, want string }{
		{"/v1/chat/completions", `{"model":"m","messages":[{"role":"user","content":"one"},{"role":"assistant","content":"no"},{"role":"user","content":"two three"},{"role":"tool","content":"no"}]}`,
			`{"choices":[{"finish_reason":"stop","index":0,"message":{"content":"This is a, asked for as m. You said: two three","role":"assistant"}}],"model":"m","object":"chat.completion","usage":{"completion_tokens":11,"prompt_tokens":2,"total_tokens":13}}`},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":[{"type":"text","text":"one"},{"type":"image_url"}]}]}`,
			`{"choices":[{"finish_reason":"stop","index":0,"message":{"content":"This is a, asked for as a. You said: one","role":"assistant"}}],"model":"a","object":"chat.completion","usage":{"completion_tokens":10,"prompt_tokens":1,"total_tokens":11}}`},
		{"/v1/completions", `{"model":"m","prompt":"1 2 3 4 5 6 7 8 9 10 11 12 13"}`,
			`{"choices":[{"finish_reason":"stop","index":0,"text":"This is a, asked for as m. You said: 1 2 3 4 5 6 7 8 9 10 11 12 …"}],"model":"m","object":"text_completion","usage":{"completion_tokens":22,"prompt_tokens":13,"total_tokens":35}}`},
		{"/v1/embeddings", `{"model":"m","input":["a","bc"]}`,
			`{"data":[{"embedding":[1,0,1],"index":0,"object":"embedding"},{"embedding":[2,0,1],"index":1,"object":"embedding"}],"model":"m","object":"list","usage":{"completion_tokens":0,"prompt_tokens":2,"total_tokens":2}}`},
		{"/v1/completions", `{`, `{"error":{"code":400,"message":"unexpected EOF","type":"demo_error"}}`},
	}
	for _, tt := range tests {
		body, _ := io.ReadAll(post(t, server.URL+tt.path, tt.body).Body)
		if got := plain(t, body); got != tt.want {
			t.Errorf("%s %s:\n got %s\nwant %s", tt.path, tt.body, got, tt.want)
		}
	}
}

// plain returns an answer without what differs each time.
func plain(t *testing.T, body []byte) string {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal(body, &v); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	delete(v, "id")
	delete(v, "created")
	text, _ := json.Marshal(v)
	return string(text)
}

func TestStreams(t *testing.T) {
	server := loaded(t)
	resp := post(t, server.URL+"/v1/chat/completions",
		`{"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"hi"}]}`)
	if got := resp.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Errorf("Content-Type = %s", got)
	}
	var text, last string
	var events int
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		event, found := strings.CutPrefix(lines.Text(), "data: ")
		if !found {
			continue
		}
		events++
		if last = event; event == "[DONE]" {
			break
		}
		var chunk struct {
			Choices []struct {
				Delta struct{ Content string }
			}
		}
		if err := json.Unmarshal([]byte(event), &chunk); err != nil {
			t.Fatal(err)
		}
		for _, c := range chunk.Choices {
			text += c.Delta.Content
		}
	}
	if want := "This is a, asked for as m. You said: hi"; text != want {
		t.Errorf("text = %q, want %q", text, want)
	}
	if want := 10 + 1 + 1 + 1; events != want || last != "[DONE]" { // words, end, usage, [DONE]
		t.Errorf("%d events, want %d; last %s", events, want, last)
	}
}

func TestLoads(t *testing.T) {
	d := &model{name: "a"}
	handler := d.handler()
	ask := func(method, path, body string) int {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
		return w.Code
	}
	for _, want := range []int{http.StatusServiceUnavailable, http.StatusOK} {
		if got := ask("GET", "/health", ""); got != want {
			t.Errorf("/health: %d, want %d", got, want)
		}
		if got := ask("POST", "/v1/completions", "{}"); got != want {
			t.Errorf("/v1/completions: %d, want %d", got, want)
		}
		d.loaded.Store(true)
	}
}
