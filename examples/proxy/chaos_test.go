//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"example.com/scheduler/examples/internal/demo"
)

// chaosModels are eight models in three groups: one of m0 to m2 runs at a time, and
// so of m3 to m5; m6 and m7 run beside them. Worse makes some of them misbehave.
func chaosModels(t *testing.T, worse string) []byte {
	models := map[string]any{}
	for i := range 8 {
		args := []string{os.Args[0], demo.Command, "-port", "${PORT}", "-name", "${MODEL}", "-load", "30ms", "-delay", "1ms"}
		name := fmt.Sprint("m", i)
		if strings.Contains(worse, name+"-fails") {
			args = append(args, "-fail")
		}
		if strings.Contains(worse, name+"-stays") {
			args = append(args, "-ignore-term")
		}
		models[name] = map[string]any{"command": args, "loadTimeout": "5s", "stopTimeout": "100ms", "concurrency": 1 + i%3, "ttl": "300ms", "sendLoadingState": i%2 == 0}
	}
	text, err := json.Marshal(map[string]any{
		"models": models,
		"groups": []any{
			map[string]any{"name": "x", "members": []string{"m0", "m1", "m2"}, "swap": true},
			map[string]any{"name": "y", "members": []string{"m3", "m4", "m5"}, "swap": true},
			map[string]any{"name": "z", "members": []string{"m6", "m7"}, "persistent": true},
		},
		"queue":        map[string]any{"timeout": "5s", "cooldown": "50ms", "patience": "2s", "maxQueue": 60},
		"drainTimeout": "1s",
	})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// chaos is a proxy in this process, to which things happen.
type chaos struct {
	t      *testing.T
	proxy  *proxy
	url    string
	client *http.Client
	log    bytes.Buffer
	counts sync.Map // how requests went
	sent   atomic.Int64
}

// TestChaos lets 64 clients ask for eight models for a while, streaming or not and
// hanging up, while their processes are killed, hung, refuse to start and refuse to
// stop, and models are loaded and unloaded and the configuration is reloaded. Every
// request gets one answer. At the end nothing waits, nothing is in flight, and no
// process, goroutine, port or file descriptor is left. CHAOS=60s makes it longer.
func TestChaos(t *testing.T) {
	length := 10 * time.Second
	if testing.Short() {
		length = 3 * time.Second
	}
	if d, err := time.ParseDuration(os.Getenv("CHAOS")); err == nil {
		length = d
	}
	if conn, err := net.Listen("tcp", "127.0.0.1:0"); err == nil {
		conn.Close() // So that what the runtime opens for the network is open.
	}
	descriptors := openFiles(t)
	c := &chaos{t: t, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}, Timeout: length + patience}} // A hung model may keep a request to the end.
	file := writeConfig(t, string(chaosModels(t, "")))
	log := slog.New(slog.NewTextHandler(&lockedWriter{w: &c.log}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	p, err := startTestProxy(options{listen: "127.0.0.1:0", file: file}, log)
	if err != nil {
		t.Fatal(err)
	}
	c.proxy, c.url = p, p.url()

	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	var all sync.WaitGroup
	for i := range 64 {
		all.Go(func() { c.ask(ctx, rand.New(rand.NewPCG(uint64(i), 1))) })
	}
	all.Go(func() { c.disturb(ctx, file) })
	all.Wait()
	c.mustBeQuiet()
	if code := p.end(nil); code != 0 {
		t.Errorf("exit code %d", code)
	}
	c.client.CloseIdleConnections()
	if children := childrenOf(os.Getpid()); len(children) > 0 {
		t.Errorf("processes are left: %v", children)
	}
	if conn, err := net.Dial("tcp", p.address.String()); err == nil {
		conn.Close()
		t.Error("the port is open still")
	}
	if text := lastingly(func() string {
		if n := openFiles(t); n > descriptors {
			return fmt.Sprintf("%d files are open, not %d", n, descriptors)
		}
		return ""
	}); text != "" {
		t.Error(text)
	}
	c.counts.Range(func(what, n any) bool { t.Log(what, n.(*atomic.Int64).Load()); return true })
	if t.Failed() {
		t.Logf("%s", c.log.Bytes()[max(0, c.log.Len()-20_000):])
	}
}

// ask is one client.
func (c *chaos) ask(ctx context.Context, r *rand.Rand) {
	for ctx.Err() == nil {
		model := fmt.Sprint("m", r.IntN(8))
		hangUp := context.Background()
		if r.IntN(5) == 0 {
			var cancel context.CancelFunc
			hangUp, cancel = context.WithTimeout(hangUp, time.Duration(r.IntN(300))*time.Millisecond)
			defer cancel()
		}
		c.sent.Add(1)
		c.one(hangUp, model, r.IntN(2) == 0)
	}
}

// one sends one request and checks that its answer is one.
func (c *chaos) one(ctx context.Context, model string, stream bool) {
	body := fmt.Sprintf(`{"model":%q,"stream":%v,"messages":[{"role":"user","content":"a b c"}]}`, model, stream)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		c.t.Error(err)
		return
	}
	resp, err := c.client.Do(req)
	if err != nil {
		c.count("hung up", ctx.Err() != nil, err.Error())
		return
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	switch {
	case ctx.Err() != nil:
		c.count("hung up", true, "")
	case err != nil:
		c.count("broken off", true, "")
	case resp.StatusCode != http.StatusOK:
		time.Sleep(5 * time.Millisecond) // As a client does that is told to come back later.
		var e struct {
			Error struct{ Message string }
		}
		c.count(resp.Status, json.Unmarshal(text, &e) == nil && e.Error.Message != "", string(text))
	case stream && !bytes.Contains(text, []byte("[DONE]")):
		c.count("broken off", true, "")
	case bytes.Contains(text, []byte(`"error"`)):
		c.count("error in the stream", true, "")
	default:
		c.count("served", bytes.Contains(text, []byte(model)), string(text))
	}
}

// count counts how a request went, and whether that is as it may be.
func (c *chaos) count(what string, fine bool, text string) {
	n, _ := c.counts.LoadOrStore(what, new(atomic.Int64))
	n.(*atomic.Int64).Add(1)
	if !fine {
		c.t.Errorf("%s: %.300s", what, text)
	}
}

// disturb lets things happen until ctx ends.
func (c *chaos) disturb(ctx context.Context, file string) {
	r := rand.New(rand.NewPCG(7, 7))
	worse := []string{"", "m1-fails", "m4-stays", "m6-fails m0-stays", "m2-fails m5-stays m7-stays"}
	for ctx.Err() == nil {
		time.Sleep(time.Duration(20+r.IntN(150)) * time.Millisecond)
		model := fmt.Sprint("m", r.IntN(8))
		switch r.IntN(7) {
		case 0, 1:
			c.signal(r, syscall.SIGKILL)
		case 2:
			c.signal(r, syscall.SIGSTOP)
		case 3:
			_ = c.host().unload(ctx, model)
		case 4:
			short, cancel := context.WithTimeout(ctx, time.Second)
			_ = c.host().load(short, model)
			cancel()
		case 5:
			os.WriteFile(file, chaosModels(c.t, worse[r.IntN(len(worse))]), 0o666)
			c.proxy.reload(c.proxy.options.config())
		case 6:
			os.WriteFile(file, []byte(`{"models":`), 0o666)
			c.proxy.reload(c.proxy.options.config())
		}
	}
	for _, pid := range childrenOf(os.Getpid()) {
		syscall.Kill(-pid, syscall.SIGCONT) // Or who is served by a hung one waits for ever.
	}
	os.WriteFile(file, chaosModels(c.t, ""), 0o666)
	c.proxy.reload(c.proxy.options.config())
}

// signal sends a signal to one of the models' processes.
func (c *chaos) signal(r *rand.Rand, s syscall.Signal) {
	if pids := childrenOf(os.Getpid()); len(pids) > 0 {
		syscall.Kill(-pids[r.IntN(len(pids))], s)
	}
}

// host returns the host of the proxy.
func (c *chaos) host() *host {
	if r, ok := c.proxy.service.(*replica); ok {
		return r.present().host
	}
	return c.proxy.service.(*standalone).host
}

// mustBeQuiet fails the test unless the scheduler comes to have nothing to do.
func (c *chaos) mustBeQuiet() {
	var s status
	text := lastingly(func() string {
		s = c.host().status()
		busy := len(s.Scheduler.Waiting) + len(s.Scheduler.Swaps)
		for _, m := range s.Models {
			busy += m.InFlight
		}
		if busy == 0 {
			return ""
		}
		text, _ := json.MarshalIndent(s, "", " ")
		return string(text)
	})
	if text != "" {
		c.t.Errorf("not quiet in the end: %s", text)
	}
	n := s.Scheduler.Counters
	if n.Requests != n.Granted+n.Failed+n.Refused+n.Cancelled || n.Ignored > 0 {
		c.t.Errorf("counters: %+v", n)
	}
}

// lockedWriter lets several goroutines write.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (w *lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.w.Write(p)
}

// openFiles counts the file descriptors of this process.
func openFiles(t *testing.T) int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// childrenOf returns the processes whose parent is pid.
func childrenOf(pid int) (pids []int) {
	tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	for _, task := range tasks {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", pid, task.Name()))
		for field := range strings.FieldsSeq(string(text)) {
			var child int
			if _, err := fmt.Sscan(field, &child); err == nil {
				pids = append(pids, child)
			}
		}
	}
	return pids
}
