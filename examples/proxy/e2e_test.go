//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// proxyRole is the first argument that makes the test binary the proxy.
const proxyRole = "test-proxy"

// filesVariable is an environment variable that limits the open files of the proxy.
const filesVariable = "PROXY_TEST_FILES"

func init() {
	roles[proxyRole] = func(args []string) error {
		if n, err := strconv.ParseUint(os.Getenv(filesVariable), 10, 64); err == nil {
			if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: n, Max: n}); err != nil {
				return err
			}
		}
		os.Args = append(os.Args[:1], args...)
		main()
		return nil
	}
}

// proxyProcess is a proxy that runs as a process of its own.
type proxyProcess struct {
	t      *testing.T
	cmd    *exec.Cmd
	url    string
	stdout *bufio.Reader
	stderr lockedBuffer
}

// startProxyProcess starts a proxy and waits until it listens.
func startProxyProcess(t *testing.T, args ...string) *proxyProcess {
	p := &proxyProcess{t: t, cmd: exec.Command(os.Args[0], append([]string{proxyRole, "-listen", "127.0.0.1:0"}, args...)...)}
	p.cmd.Stderr = &p.stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p.cmd.ProcessState == nil {
			p.cmd.Process.Kill()
			p.cmd.Wait()
		}
	})
	p.stdout = bufio.NewReader(out)
	line, err := p.stdout.ReadString('\n')
	p.url = strings.TrimSpace(strings.TrimPrefix(line, "listening on "))
	if err != nil || !strings.HasPrefix(p.url, "http://127.0.0.1:") {
		t.Fatalf("first line %q, %v\n%s", line, err, &p.stderr)
	}
	return p
}

// end sends a signal and returns the exit code, -1 if the proxy does not end.
func (p *proxyProcess) end(s os.Signal) int {
	p.cmd.Process.Signal(s)
	defer time.AfterFunc(patience, func() { p.cmd.Process.Kill() }).Stop()
	io.Copy(io.Discard, p.stdout)
	p.cmd.Wait()
	return p.cmd.ProcessState.ExitCode()
}

// children returns the models' processes of the proxy.
func (p *proxyProcess) children() []int {
	return childrenOf(p.cmd.Process.Pid)
}

// chat sends a chat request and returns the status and the body.
func chat(client *http.Client, url, model string, stream bool) (int, string, error) {
	body := fmt.Sprintf(`{"stream":%v,"model":%q,"messages":[{"role":"user","content":"Hello"}]}`, stream, model)
	resp, err := client.Post(url+"/v1/chat/completions", "application/json", strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

// statusAnswer is what the tests read of a proxy's status.
type statusAnswer struct {
	Models []struct {
		Model    string `json:"model"`
		State    string `json:"state"`
		InFlight int    `json:"in_flight"`
	} `json:"models"`
	Scheduler struct {
		Waiting  []any             `json:"waiting"`
		Swaps    []any             `json:"swaps"`
		Counters map[string]uint64 `json:"counters"`
	} `json:"scheduler"`
}

// inFlight returns how many requests are in flight.
func (s statusAnswer) inFlight() (n int) {
	for _, m := range s.Models {
		n += m.InFlight
	}
	return n
}

// loads reports whether a model is loading.
func (s statusAnswer) loads() bool {
	for _, m := range s.Models {
		if m.State == "starting" {
			return true
		}
	}
	return false
}

// serves reports whether a model is serving.
func (s statusAnswer) serves() bool { return s.inFlight() > 0 }

// statusOf asks a proxy for its status.
func statusOf(t *testing.T, client *http.Client, url string) (s statusAnswer) {
	t.Helper()
	resp, err := client.Get(url + "/status")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
		t.Fatal(err)
	}
	return s
}

// answered is how a request of a caller went.
func answered(model string, code int, text string, err error) (what string, clear bool) {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "not answered", false
	case err != nil:
		return "broken off", true // Its model was killed in the middle of the answer.
	case code == http.StatusOK && strings.Contains(text, "This is "+model):
		return "served", true
	case code == http.StatusOK && strings.Contains(text, `"content":"`+model) && strings.Contains(text, "[DONE]"):
		return "served", true
	case code == http.StatusOK:
		return "broken off", strings.Contains(text, "data: ") && !strings.Contains(text, "[DONE]")
	}
	var body struct {
		Error struct{ Message string }
	}
	return fmt.Sprint(code), json.Unmarshal([]byte(text), &body) == nil && body.Error.Message != ""
}

// killWhen waits until the proxy is busy in a certain way and then, after a pause,
// kills its models. It gives up once over is closed.
func (p *proxyProcess) killWhen(client *http.Client, busy func(statusAnswer) bool, pause time.Duration, over <-chan struct{}) {
	for {
		select {
		case <-over:
			return
		case <-time.After(5 * time.Millisecond):
		}
		if !busy(statusOf(p.t, client, p.url)) {
			continue
		}
		time.Sleep(pause)
		children := p.children()
		for _, pid := range children {
			syscall.Kill(pid, syscall.SIGKILL)
		}
		if len(children) > 0 {
			return
		}
	}
}

// TestEndToEnd sends 200 requests at once over three models with real processes,
// which are killed a few times while they load and while they serve. Each request
// gets one answer: a success or a clear error. After an error the caller asks again,
// until it is served. At the end nothing waits, nothing is in flight, and nothing is
// left.
func TestEndToEnd(t *testing.T) {
	t.Parallel() // It mostly waits.
	var callers sync.WaitGroup
	t.Cleanup(callers.Wait) // After the proxy has ended, if the test fails early.
	p := startProxyProcess(t)
	client := newClient(t)
	var mu sync.Mutex
	counts := make(map[string]int)
	for i := range 200 {
		callers.Go(func() {
			model := []string{"alpha", "beta", "gamma"}[i%3]
			for range 100 { // The kills cannot cause so many errors.
				code, text, err := chat(client, p.url, model, i%2 == 0)
				what, clear := answered(model, code, text, err)
				mu.Lock()
				counts[what]++
				mu.Unlock()
				if !clear {
					t.Errorf("%s got %d %q %v", model, code, text, err)
				}
				if what == "served" || !clear {
					return
				}
			}
			t.Errorf("a caller of %s is never served", model)
		})
	}
	over := make(chan struct{})
	go func() { callers.Wait(); close(over) }()
	// The kills are few and follow what the proxy does. On a slow machine, kills that
	// went on at fixed times would end every load.
	r := rand.New(rand.NewPCG(1, 2))
	for range 2 {
		p.killWhen(client, statusAnswer.loads, time.Duration(r.IntN(1000))*time.Millisecond, over)
		p.killWhen(client, statusAnswer.serves, time.Duration(r.IntN(300))*time.Millisecond, over)
	}
	<-over
	t.Log(counts)

	// The proxy may not have noticed the last kill yet. After an unload it has.
	if resp, err := client.Post(p.url+"/unload", "", nil); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("unload: %v %v", resp, err)
	} else {
		resp.Body.Close()
	}
	for _, model := range []string{"alpha", "beta", "gamma"} {
		if code, text, err := chat(client, p.url, model, false); code != http.StatusOK || err != nil {
			t.Errorf("%s afterwards: %d %q %v", model, code, text, err)
		}
	}
	if busy := lastingly(func() string { // A caller may have its answer before the handler returns.
		s := statusOf(t, client, p.url)
		c := s.Scheduler.Counters
		if len(s.Scheduler.Waiting)+len(s.Scheduler.Swaps)+s.inFlight() == 0 && c["requests"] == c["granted"]+c["failed"]+c["refused"]+c["cancelled"] {
			return ""
		}
		return fmt.Sprintf("%+v", s)
	}); busy != "" {
		t.Errorf("at the end: %s", busy)
	}
	children := p.children()
	if len(children) != 1 {
		t.Errorf("%d models run, not 1", len(children))
	}
	client.CloseIdleConnections()
	if code := p.end(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d\n%s", code, &p.stderr)
	}
	for _, pid := range children {
		mustBeGone(t, pid)
	}
}

// TestPrintedLinesWork does what the curl lines say that the proxy prints.
func TestPrintedLinesWork(t *testing.T) {
	t.Parallel() // It mostly waits.
	p := startProxyProcess(t)
	client := newClient(t)
	tried := 0
	for {
		line, err := p.stdout.ReadString('\n')
		if err != nil || strings.HasPrefix(line, "and look at") {
			break
		}
		words := strings.Fields(strings.NewReplacer("'", "").Replace(line))
		if len(words) < 2 || words[0] != "curl" {
			continue
		}
		tried++
		method, url, body := http.MethodGet, "", ""
		for i, word := range words {
			switch {
			case strings.HasPrefix(word, "http"):
				url = word
			case word == "-X":
				method = words[i+1]
			case word == "-d":
				method, body = http.MethodPost, words[i+1]
			}
		}
		req, err := http.NewRequest(method, url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if body != "" {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded") // As curl does.
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %s %q %v", strings.TrimSpace(line), resp.Status, text, err)
		}
	}
	if tried < 4 {
		t.Errorf("%d lines", tried)
	}
	if code := p.end(syscall.SIGINT); code != 0 {
		t.Errorf("exit code %d\n%s", code, &p.stderr)
	}
}

// TestKilledProxyLeavesNothing: its models end with it, whatever it could do.
func TestKilledProxyLeavesNothing(t *testing.T) {
	p := startProxyProcess(t)
	if code, text, err := chat(newClient(t), p.url, "alpha", false); code != http.StatusOK {
		t.Fatalf("%d %q %v", code, text, err)
	}
	children := p.children()
	if len(children) != 1 {
		t.Fatalf("%d models run", len(children))
	}
	p.end(syscall.SIGKILL)
	for _, pid := range children {
		mustBeGone(t, pid)
	}
}

// TestSecondSignalEndsAtOnce: a stream that would go on is cut off.
func TestSecondSignalEndsAtOnce(t *testing.T) {
	p := startProxyProcess(t, "-config", writeConfig(t, `{"drainTimeout":"1h","models":{"slow":{"stopTimeout":"1h","command":["`+os.Args[0]+`","demo-model","-port","${PORT}","-name","slow","-load","10ms","-delay","1h"]}}}`))
	answer := make(chan string, 1)
	client := newClient(t)
	go func() {
		code, text, err := chat(client, p.url, "slow", true)
		answer <- fmt.Sprint(code, text, err)
	}()
	if !happens(func() bool { return statusOf(t, client, p.url).serves() }) {
		t.Fatalf("nothing is served: %+v", statusOf(t, client, p.url))
	}
	p.cmd.Process.Signal(syscall.SIGTERM)
	if !happens(func() bool {
		resp, err := client.Get(p.url + "/health")
		if err == nil {
			resp.Body.Close()
			client.CloseIdleConnections()
		}
		return err != nil
	}) {
		t.Fatal("it still listens after the first signal")
	}
	if code := p.end(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d\n%s", code, &p.stderr)
	}
	<-answer
}

// TestReloadOnSignal: a broken configuration changes nothing and says why; a good
// one is taken over.
func TestReloadOnSignal(t *testing.T) {
	model := func(name string) string {
		return fmt.Sprintf(`%q:{"command":[%q,"demo-model","-port","${PORT}","-name",%q,"-load","10ms","-delay","0s"]}`, name, os.Args[0], name)
	}
	file := writeConfig(t, `{"models":{`+model("one")+`}}`)
	p := startProxyProcess(t, "-config", file)
	client := newClient(t)
	has := func(name string) bool {
		resp, err := client.Get(p.url + "/v1/models/" + name)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}
	os.WriteFile(file, []byte(`{"models":{`+model("one")+`,"two":{"comand":[]}}}`), 0o666)
	p.cmd.Process.Signal(syscall.SIGHUP)
	if !happens(func() bool { return strings.Contains(p.stderr.String(), "comand") }) {
		t.Fatalf("no word of what is wrong:\n%s", &p.stderr)
	}
	if code, text, err := chat(client, p.url, "one", false); code != http.StatusOK {
		t.Fatalf("%d %q %v", code, text, err)
	}
	if has("two") {
		t.Error("a broken configuration was taken over")
	}
	os.WriteFile(file, []byte(`{"models":{`+model("three")+`}}`), 0o666)
	p.cmd.Process.Signal(syscall.SIGHUP)
	if !happens(func() bool { return has("three") }) || has("one") {
		t.Error("a good configuration was not taken over")
	}
	if code := p.end(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d\n%s", code, &p.stderr)
	}
}

// A file that cannot be read to its end hangs neither a reload nor the end, and a later
// reload does not wait for it. What needs a restart is said.
func TestReloadHangs(t *testing.T) {
	file := writeConfig(t, `{"models":{"a":{"command":["a"]}}}`)
	p := startProxyProcess(t, "-config", file)
	fifo := func() {
		os.Remove(file)
		if err := syscall.Mkfifo(file, 0o600); err != nil {
			t.Fatal(err)
		}
		p.cmd.Process.Signal(syscall.SIGHUP)
	}
	fifo()
	w, err := os.OpenFile(file, os.O_WRONLY, 0) // It opens when the proxy reads.
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	os.Remove(file)
	if err := os.WriteFile(file, []byte(`{"models":{"b":{"command":["b"]}},"listen":"127.0.0.1:1","queue":{"cooldown":"7s"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	p.cmd.Process.Signal(syscall.SIGHUP)
	if !happens(func() bool { return strings.Contains(p.stderr.String(), "queue.cooldown") }) {
		t.Fatalf("not reloaded:\n%s", &p.stderr)
	}
	if strings.Contains(p.stderr.String(), "listen") {
		t.Errorf("-listen counts, and has not changed:\n%s", &p.stderr)
	}
	fifo()
	if code := p.end(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d\n%s", code, &p.stderr)
	}
}

// A signal ends a start that waits for its configuration.
func TestStartHangs(t *testing.T) {
	file := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(file, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"-config", file}, {"-config", file, "-check"}} {
		signals := make(chan os.Signal, 2)
		signals <- syscall.SIGHUP
		signals <- syscall.SIGTERM
		var stderr lockedBuffer
		if code := proxyMain(args, io.Discard, &stderr, signals); code != 1 || !strings.Contains(stderr.String(), "terminated while reading "+file) {
			t.Errorf("%q: exit code %d, %s", args, code, &stderr)
		}
	}
	w, err := os.OpenFile(file, os.O_RDWR, 0) // The reading goes on,
	if err != nil {
		t.Fatal(err)
	}
	os.Remove(file) // does not begin any more,
	w.Close()       // and ends.
}

// TestLog: what models print is in the log only if it is asked for, and every line of a
// log as JSON is JSON.
func TestLog(t *testing.T) {
	t.Parallel() // It mostly waits.
	for _, c := range []struct {
		args   []string
		output bool
	}{
		{[]string{"-log-format", "json"}, false},
		{[]string{"-log-format", "json", "-log", "output"}, true},
	} {
		p := startProxyProcess(t, c.args...)
		if code, text, err := chat(newClient(t), p.url, "alpha", false); code != http.StatusOK {
			t.Fatalf("%d %q %v", code, text, err)
		}
		if code := p.end(syscall.SIGTERM); code != 0 {
			t.Errorf("exit code %d\n%s", code, &p.stderr)
		}
		seen := make(map[string]bool)
		for text := range strings.Lines(p.stderr.String()) {
			var line struct{ Msg, Level string }
			if err := json.Unmarshal([]byte(text), &line); err != nil || line.Level == "" {
				t.Errorf("%q: %v", text, err)
			}
			seen[line.Msg] = true
		}
		if !seen["request"] || seen["output"] != c.output {
			t.Errorf("%q: the log has %v", c.args, seen)
		}
	}
}

// TestWrongArguments: an exit code and a word on stderr.
func TestWrongArguments(t *testing.T) {
	busy := startProxyProcess(t)
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"-nonsense"}, 2, "-nonsense"},
		{[]string{"extra"}, 2, "extra"},
		{[]string{"-log", "loud"}, 2, "loud"},
		{[]string{"-log-format", "xml"}, 2, "xml"},
		{[]string{"-config", "does-not-exist.json"}, 1, "does-not-exist.json"},
		{[]string{"-config", writeConfig(t, `{}`)}, 1, "models.json"},
		{[]string{"-listen", strings.TrimPrefix(busy.url, "http://")}, 1, "in use; -listen HOST:PORT takes another"},
		{[]string{"-listen", "nowhere"}, 1, "nowhere"},
		{[]string{"-h"}, 0, "-config"},
	} {
		var stderr bytes.Buffer
		if code := proxyMain(c.args, io.Discard, &stderr, nil); code != c.code || !strings.Contains(stderr.String(), c.says) {
			t.Errorf("%q: exit code %d, %q", c.args, code, stderr.String())
		}
	}
	busy.end(syscall.SIGTERM)
}
