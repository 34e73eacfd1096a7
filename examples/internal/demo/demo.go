// Package demo is a model server without a model. The examples use it where others have
// llama-server.
package demo

import (
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"example.com/scheduler/examples/internal/config"
)

// Command is the first argument that makes this program a model server.
const Command = "demo-model"

// Config returns a configuration of three models, of which one runs at a time. Each is
// this very program, which has to call [Main].
func Config() *config.Config {
	exe, err := os.Executable()
	if err != nil {
		exe = os.Args[0]
	}
	exe = strings.ReplaceAll(exe, "${", "$${")
	c := &config.Config{Models: make(config.Models)}
	for _, name := range []string{"alpha", "beta", "gamma"} {
		c.Models[name] = &config.Model{
			Command:     []string{exe, Command, "-port", "${PORT}", "-name", "${MODEL}", "-load", "1s"},
			Description: "Repeats what it is told",
		}
	}
	if err := c.Complete(); err != nil {
		panic(err)
	}
	return c
}

// model is a tiny model server. Like llama-server it listens at once, and is
// healthy once it has loaded.
type model struct {
	name       string
	port       int
	load       time.Duration
	delay      time.Duration // from word to word
	crashAfter time.Duration // loading; 0: never
	fail       bool
	ignoreTerm bool

	loaded  atomic.Bool
	answers atomic.Int64
	ending  context.Context // ends when the model is asked to end
}

// Main is the main function of a model server; args are what follows
// [Command].
func Main(args []string) error {
	d := new(model)
	f := flag.NewFlagSet(Command, flag.ContinueOnError)
	f.StringVar(&d.name, "name", "demo", "what the model calls itself")
	f.IntVar(&d.port, "port", 0, "port to listen at; 0: a free one")
	f.DurationVar(&d.load, "load", time.Second, "how long loading takes")
	f.DurationVar(&d.delay, "delay", 30*time.Millisecond, "pause after each word")
	f.DurationVar(&d.crashAfter, "crash-after", 0, "crash so long after loading; 0: never")
	f.BoolVar(&d.fail, "fail", false, "fail to load")
	f.BoolVar(&d.ignoreTerm, "ignore-term", false, "do not end when asked to")
	if err := f.Parse(args); err != nil {
		return err
	}
	return d.run()
}

// run serves until the model is asked to end.
func (d *model) run() error {
	var stop context.CancelFunc
	d.ending, stop = signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if d.ignoreTerm {
		signal.Ignore(syscall.SIGTERM)
	}
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", d.port))
	if err != nil {
		return err
	}
	fmt.Printf("%s: loading, at http://%s\n", d.name, l.Addr())
	time.AfterFunc(d.load, d.finishLoad)
	return d.serve(l)
}

// finishLoad ends the load.
func (d *model) finishLoad() {
	if d.fail {
		crash("cannot load: out of memory")
	}
	if d.crashAfter > 0 {
		time.AfterFunc(d.crashAfter, func() { crash("something broke") })
	}
	d.loaded.Store(true)
	fmt.Printf("%s: ready\n", d.name)
}

// crash ends the program with a reason.
func crash(reason string) {
	fmt.Fprintln(os.Stderr, "error:", reason)
	os.Exit(3)
}

// serve answers requests. Asked to end, it lets those in flight finish.
func (d *model) serve(l net.Listener) error {
	server := &http.Server{Handler: d.handler()}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	select {
	case err := <-served:
		return err
	case <-d.ending.Done():
	}
	fmt.Printf("%s: ending\n", d.name)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return server.Shutdown(ctx)
}

// handler returns the routes.
func (d *model) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, r *http.Request) {
		if !d.loaded.Load() {
			writeError(w, http.StatusServiceUnavailable, "loading")
			return
		}
		writeJSON(w, http.StatusOK, jsonObject{"status": "ok"})
	})
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, r *http.Request) {
		model := jsonObject{"id": d.name, "object": "model", "owned_by": "demo"}
		writeJSON(w, http.StatusOK, jsonObject{"object": "list", "data": []jsonObject{model}})
	})
	mux.HandleFunc("POST /v1/chat/completions", d.whenLoaded(d.answer))
	mux.HandleFunc("POST /v1/completions", d.whenLoaded(d.answer))
	mux.HandleFunc("POST /v1/embeddings", d.whenLoaded(d.embed))
	return mux
}

// request is what the routes understand of a request.
type request struct {
	Model    string `json:"model"`
	Stream   bool   `json:"stream"`
	Prompt   any    `json:"prompt"`
	Input    any    `json:"input"`
	Messages []struct {
		Role    string `json:"role"`
		Content any    `json:"content"`
	} `json:"messages"`
	StreamOptions struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`

	chat    bool   // its route
	id      string // of the answer
	created int64  // when the request came
}

// whenLoaded reads the request of a route that needs the model.
func (d *model) whenLoaded(route func(http.ResponseWriter, *http.Request, *request)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		q := new(request)
		switch err := json.NewDecoder(r.Body).Decode(q); {
		case !d.loaded.Load():
			writeError(w, http.StatusServiceUnavailable, "loading")
		case err != nil:
			writeError(w, http.StatusBadRequest, err.Error())
		default:
			q.Model, q.chat = cmp.Or(q.Model, d.name), r.URL.Path == "/v1/chat/completions"
			q.id, q.created = fmt.Sprintf("demo-%s-%d", d.name, d.answers.Add(1)), time.Now().Unix()
			route(w, r, q)
		}
	}
}

// said returns the last thing that the user says in q.
func (q *request) said() string {
	for _, m := range slices.Backward(q.Messages) {
		if m.Role == "user" {
			return textOf(m.Content)
		}
	}
	return cmp.Or(textOf(q.Prompt), textOf(q.Input))
}

// textOf returns the text in a content: a string, a part that has one, or a list.
func textOf(content any) string {
	switch c := content.(type) {
	case string:
		return c
	case map[string]any:
		return textOf(c["text"])
	case []any:
		var texts []string
		for _, part := range c {
			texts = append(texts, textOf(part))
		}
		return strings.Join(texts, " ")
	}
	return ""
}

// words returns what the model answers: who it is, whom the caller asked for, and
// the beginning of what the caller said.
func (d *model) words(q *request) []string {
	const most = 12
	said := strings.Fields(q.said())
	if len(said) > most {
		said = append(said[:most], "…")
	}
	return append(strings.Fields(fmt.Sprintf("This is %s, asked for as %s. You said:", d.name, q.Model)), said...)
}

// jsonObject is an object to be encoded.
type jsonObject = map[string]any

// answer answers word by word, streamed if q wants it.
func (d *model) answer(w http.ResponseWriter, r *http.Request, q *request) {
	words := d.words(q)
	send := func(string) error { return nil }
	if q.Stream {
		w.Header().Set("Content-Type", "text/event-stream")
		send = func(word string) error { return writeEvent(w, q.wrap(word, nil)) }
	}
	if d.speak(r.Context(), words, send) != nil {
		return // The caller has left.
	}
	usage := usageOf(q, len(words))
	if !q.Stream {
		whole := q.wrap(strings.Join(words, " "), "stop")
		whole["usage"] = usage
		writeJSON(w, http.StatusOK, whole)
		return
	}
	last := q.wrap("", "stop")
	writeEvent(w, last)
	if q.StreamOptions.IncludeUsage {
		last["choices"], last["usage"] = []jsonObject{}, usage
		writeEvent(w, last)
	}
	io.WriteString(w, "data: [DONE]\n\n")
}

// speak sends words, each with the space after it, as slowly as the model is.
func (d *model) speak(ctx context.Context, words []string, send func(string) error) error {
	for i, word := range words {
		if i < len(words)-1 {
			word += " "
		}
		if err := send(word); err != nil {
			return err
		}
		select {
		case <-time.After(d.delay):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// wrap returns what is around text: an answer, or a part of a streamed one, whose last
// part has no text.
func (q *request) wrap(text string, finish any) jsonObject {
	object, choice := "text_completion", jsonObject{"index": 0, "finish_reason": finish}
	message := jsonObject{"role": "assistant", "content": text}
	switch {
	case !q.chat:
		choice["text"] = text
	case !q.Stream:
		object, choice["message"] = "chat.completion", message
	default:
		if text == "" {
			clear(message)
		}
		object, choice["delta"] = "chat.completion.chunk", message
	}
	return jsonObject{"id": q.id, "object": object, "created": q.created, "model": q.Model, "choices": []jsonObject{choice}}
}

// writeEvent writes one event of a stream.
func writeEvent(w http.ResponseWriter, v jsonObject) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w, "data: %s\n\n", data); err != nil {
		return err
	}
	return http.NewResponseController(w).Flush()
}

// embed answers with one embedding for each input. They say nothing.
func (d *model) embed(w http.ResponseWriter, r *http.Request, q *request) {
	inputs, several := q.Input.([]any)
	if !several {
		inputs = []any{q.Input}
	}
	list := []jsonObject{}
	for i, input := range inputs {
		vector := []float64{float64(len(textOf(input))), 0, 1}
		list = append(list, jsonObject{"object": "embedding", "index": i, "embedding": vector})
	}
	writeJSON(w, http.StatusOK, jsonObject{"object": "list", "model": q.Model, "data": list, "usage": usageOf(q, 0)})
}

// usageOf counts words as tokens.
func usageOf(q *request, completion int) jsonObject {
	prompt := len(strings.Fields(q.said()))
	return jsonObject{"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
}

// writeError answers with an error as OpenAI's look.
func writeError(w http.ResponseWriter, status int, message string) {
	writeJSON(w, status, jsonObject{"error": jsonObject{"message": message, "type": "demo_error", "code": status}})
}

// writeJSON answers with v.
func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}
