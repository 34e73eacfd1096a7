package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/signal"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"example.com/scheduler"
)

// The test program is its own model server, as the host is.
func TestMain(m *testing.M) {
	if len(os.Args) == 5 && os.Args[1] == "test-model" {
		testModel(os.Args[2], os.Args[3], os.Args[4])
	}
	os.Exit(m.Run())
}

// testModel is a model server that asks the test before it loads, and before it
// answers a request. It ends with the test at the latest.
func testModel(id, address, test string) {
	ask := func(what string) *http.Response {
		resp, err := http.Get(test + what + "?" + url.Values{"model": {id}, "pid": {strconv.Itoa(os.Getpid())}}.Encode())
		if err != nil {
			os.Exit(1)
		}
		return resp
	}
	leash := ask("/leash")
	go func() {
		io.Copy(io.Discard, leash.Body)
		os.Exit(1)
	}()
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGTERM)
	go func() {
		<-asked
		ask("/stop")
		os.Exit(0)
	}()
	if ask("/load").StatusCode != http.StatusOK {
		os.Exit(1)
	}
	http.HandleFunc("/health", func(http.ResponseWriter, *http.Request) {})
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		serve := ask("/serve")
		fmt.Fprint(w, id, ": ")
		if serve.StatusCode == http.StatusPartialContent {
			w.(http.Flusher).Flush()
			ask("/rest")
		}
		io.Copy(w, r.Body)
	})
	http.ListenAndServe(address, nil)
	os.Exit(1)
}

// bench is a host with models that do what the test says.
type bench struct {
	t      *testing.T
	url    string
	stop   context.CancelFunc
	result chan error    // of serve
	asked  chan question // of the models, unless free
	over   chan struct{} // ends all models that are left
	free   bool          // the models need not ask
	beside bool          // they may run beside each other
	slow   bool          // they ask before they stop

	mu     sync.Mutex
	pids   []int          // of all processes that there were
	latest map[string]int // by model
}

// question is what a model asks before it goes on.
type question struct {
	what   string
	answer chan int // the status
}

// newBench makes a bench of models and lets the caller change it before it starts.
func newBench(t *testing.T, set func(b *bench), ids ...string) *bench {
	b := &bench{t: t, asked: make(chan question), over: make(chan struct{}), latest: make(map[string]int)}
	oldModels, oldGroups, oldOptions, oldTimeout, oldGrace := models, groups, options, loadTimeout, grace
	models, groups, options, loadTimeout, grace = make(map[string]model), nil, scheduler.FIFOOptions{}, time.Hour, time.Hour
	control := httptest.NewServer(b)
	for _, id := range ids {
		address := freeAddress(t)
		models[id] = model{address, os.Args[0], []string{"test-model", id, address, control.URL}}
	}
	if set != nil {
		set(b)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b.url, b.result = "http://"+listener.Addr().String(), make(chan error, 1)
	ctx, stop := context.WithCancel(context.Background())
	b.stop = stop
	go func() {
		err := serve(ctx, listener)
		if ctx.Err() != nil {
			err = nil
		}
		b.result <- err
	}()
	t.Cleanup(func() {
		stop()
		b.end()
		close(b.over)
		control.Close()
		b.nothingLeft()
		models, groups, options, loadTimeout, grace = oldModels, oldGroups, oldOptions, oldTimeout, oldGrace
	})
	return b
}

// addresses keeps what freeAddress has returned.
var addresses = make(map[string]bool)

// freeAddress returns an unused address of the loopback device.
func freeAddress(t *testing.T) string {
	for {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		if address := l.Addr().String(); !addresses[address] {
			addresses[address] = true
			return address
		}
	}
}

// ServeHTTP answers the models.
func (b *bench) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := r.FormValue("model")
	pid, _ := strconv.Atoi(r.FormValue("pid"))
	if r.URL.Path == "/leash" {
		b.born(id, pid)
		w.(http.Flusher).Flush()
		select {
		case <-r.Context().Done():
		case <-b.over:
		}
		return
	}
	if id == "" { // It is meant for a server that had this address before.
		http.NotFound(w, r)
		return
	}
	if b.free || r.URL.Path == "/stop" && !b.slow {
		return
	}
	q := question{strings.TrimPrefix(r.URL.Path, "/") + " " + id, make(chan int, 1)}
	select {
	case b.asked <- q:
		select {
		case status := <-q.answer:
			w.WriteHeader(status)
		case <-r.Context().Done():
		case <-b.over:
		}
	case <-r.Context().Done():
	case <-b.over:
	}
}

// born notes a process. No other may live, because one model fits at a time.
func (b *bench) born(id string, pid int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, other := range b.pids {
		if !b.beside && lives(other) {
			b.t.Errorf("%s has been started while process %d lives", id, other)
		}
	}
	b.pids = append(b.pids, pid)
	b.latest[id] = pid
}

// pid returns the latest process of a model.
func (b *bench) pid(id string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.latest[id]
}

// lives reports whether there is a process, or what its parent has not waited for.
func lives(pid int) bool {
	p, err := os.FindProcess(pid)
	if err != nil {
		return false
	}
	defer p.Release()
	return p.Signal(syscall.Signal(0)) == nil
}

// patience is how long a test waits for what has to happen. It decides nothing but
// when a test that hangs has failed.
const patience = 2 * time.Minute

// receive receives from c.
func receive[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("waited in vain for %s", what)
		panic("unreachable")
	}
}

// until calls ok until it is true.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for start := time.Now(); !ok(); runtime.Gosched() {
		if time.Since(start) > patience {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// asks waits until a model asks what it may do.
func (b *bench) asks(what string) question {
	b.t.Helper()
	q := receive(b.t, b.asked, what)
	if q.what != what {
		b.t.Fatalf("a model asks %q, want %q", q.what, what)
	}
	return q
}

// allows waits until a model asks, and answers that it may.
func (b *bench) allows(what string) {
	b.t.Helper()
	b.asks(what).answer <- http.StatusOK
}

// reply is what a caller gets.
type reply struct {
	status int
	body   string
	retry  string
	err    error
}

// call sends a request and returns at once.
func (b *bench) call(ctx context.Context, id string) <-chan reply {
	c := make(chan reply, 1)
	go func() {
		body := fmt.Sprintf(`{"model": %q}`, id)
		req, _ := http.NewRequestWithContext(ctx, "POST", b.url+"/v1/chat/completions", strings.NewReader(body))
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			c <- reply{err: err}
			return
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		c <- reply{resp.StatusCode, string(text), resp.Header.Get("Retry-After"), err}
	}()
	return c
}

// gets waits for a reply with that status.
func (b *bench) gets(c <-chan reply, status int) reply {
	b.t.Helper()
	r := receive(b.t, c, "a reply")
	if r.status != status {
		b.t.Errorf("got %+v, want status %d", r, status)
	}
	return r
}

// status asks for the snapshot.
func (b *bench) status() (s scheduler.Snapshot) {
	resp, err := http.Get(b.url + "/status")
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
		b.t.Fatal(err)
	}
	return s
}

// shows waits until the snapshot is as it should be.
func (b *bench) shows(what string, ok func(s scheduler.Snapshot) bool) {
	b.t.Helper()
	until(b.t, what, func() bool { return ok(b.status()) })
}

func (b *bench) unload(id string) {
	resp, err := http.Post(b.url+"/unload?model="+id, "", nil)
	if err != nil {
		b.t.Fatal(err)
	}
	resp.Body.Close()
}

// end waits for the end of serve, after which no process lives. Once it has returned
// it does so again.
func (b *bench) end() error {
	b.t.Helper()
	err := receive(b.t, b.result, "the end of the host")
	b.result <- err
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, pid := range b.pids {
		if lives(pid) {
			b.t.Errorf("process %d has been left behind", pid)
		}
	}
	return err
}

// nothingLeft waits until no goroutine of the host is left but its loop, which waits
// for events.
func (b *bench) nothingLeft() {
	http.DefaultClient.CloseIdleConnections()
	loop := regexp.MustCompile(`^goroutine \d+ \[chan receive.*\]:\n.*minimal\.\(\*host\)\.loop\(`)
	until(b.t, "only the loop is left", func() bool {
		buf := make([]byte, 1<<20)
		for stack := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			if !loop.MatchString(stack) && strings.Contains(stack, "examples/minimal/m") && !strings.Contains(stack, "_test.go") {
				return false
			}
		}
		return true
	})
}

func TestDemo(t *testing.T) {
	demo := maps.Clone(models)
	b := newBench(t, func(b *bench) {
		for id := range demo {
			address := freeAddress(t)
			models[id] = model{address, os.Args[0], []string{"demo-model", address}}
		}
	})
	for id := range demo {
		if r := b.gets(b.call(t.Context(), id), 200); r.body != fmt.Sprintf(`{"model": %q}`, id) {
			t.Errorf("%s has answered %q", id, r.body)
		}
	}
}

func TestManyCallers(t *testing.T) {
	ids := []string{"a", "b", "c"}
	b := newBench(t, func(b *bench) { b.free = true }, ids...)
	var replies []<-chan reply
	for i := range 60 {
		replies = append(replies, b.call(t.Context(), ids[i%3]))
	}
	for i, c := range replies {
		if r := b.gets(c, 200); r.body != fmt.Sprintf(`%s: {"model": "%[1]s"}`, ids[i%3]) {
			t.Errorf("caller of %s got %q", ids[i%3], r.body)
		}
	}
	if c := b.status().Counters; c.Granted != 60 || c.Ignored != 0 {
		t.Errorf("%+v", c)
	}
	b.stop()
	if err := b.end(); err != nil {
		t.Error(err)
	}
}

func TestUnknownModelAndBadBody(t *testing.T) {
	b := newBench(t, nil, "a")
	b.gets(b.call(t.Context(), "x"), 404)
	resp, err := http.Post(b.url+"/v1/embeddings", "", strings.NewReader(`{"model"`))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 400 {
		t.Errorf("a broken body got %d", resp.StatusCode)
	}
}

// Callers that leave while they wait behind a busy model are noticed, although their
// requests have bodies.
func TestCallersThatLeave(t *testing.T) {
	b := newBench(t, nil, "a", "b")
	served := b.call(t.Context(), "a")
	b.allows("load a")
	serve := b.asks("serve a")
	ctx, leave := context.WithCancel(t.Context())
	var left []<-chan reply
	for range 5 {
		left = append(left, b.call(ctx, "b"))
	}
	b.shows("five wait", func(s scheduler.Snapshot) bool { return len(s.Waiting) == 5 })
	leave()
	for _, c := range left {
		if r := receive(t, c, "a caller that leaves"); !errors.Is(r.err, context.Canceled) {
			t.Errorf("a caller that has left got %+v", r)
		}
	}
	b.shows("five have left", func(s scheduler.Snapshot) bool { return s.Counters.Cancelled == 5 })
	serve.answer <- 200
	b.gets(served, 200)
	b.shows("a is idle", func(s scheduler.Snapshot) bool { return s.Models[0].InFlight == 0 })
	if c := b.status().Counters; c.Granted != 1 || c.Swaps != 1 {
		t.Errorf("%+v", c)
	}
}

// A caller that leaves in the middle of its answer frees the model.
func TestCallerThatLeavesWhileServed(t *testing.T) {
	b := newBench(t, nil, "a", "b")
	ctx, leave := context.WithCancel(t.Context())
	b.call(ctx, "a")
	b.allows("load a")
	b.asks("serve a").answer <- http.StatusPartialContent
	b.asks("rest a")
	other := b.call(t.Context(), "b")
	b.shows("b waits", func(s scheduler.Snapshot) bool { return len(s.Waiting) == 1 })
	leave()
	b.allows("load b")
	b.allows("serve b")
	b.gets(other, 200)
}

// A caller that leaves at the moment of its answer does not hold up the loop.
func TestCallerThatLeavesAtItsAnswer(t *testing.T) {
	ctx, leave := context.WithCancel(t.Context())
	leave()
	req := scheduler.HandlerReq{Ctx: ctx, Respond: make(chan scheduler.HandlerResp)}
	answered := make(chan bool, 1)
	go func() { answered <- send(req, scheduler.HandlerResp{}) }()
	if receive(t, answered, "send") {
		t.Error("an answer has arrived")
	}
}

func TestUnload(t *testing.T) {
	b := newBench(t, nil, "a")
	served := b.call(t.Context(), "a")
	b.allows("load a")
	b.allows("serve a")
	b.gets(served, 200)
	b.unload("a")
	until(t, "a has been stopped", func() bool { return !lives(b.pid("a")) })

	waiting := b.call(t.Context(), "a")
	load := b.asks("load a")
	b.unload("a")
	b.gets(waiting, 503)
	until(t, "a has been stopped while it loaded", func() bool { return !lives(b.pid("a")) })
	load.answer <- 200

	again := b.call(t.Context(), "a")
	b.allows("load a")
	b.allows("serve a")
	b.gets(again, 200)
}

// A model that is still stopping is started again only when it has stopped.
func TestModelThatIsSlowToStop(t *testing.T) {
	b := newBench(t, func(b *bench) { b.slow = true }, "a")
	served := b.call(t.Context(), "a")
	b.allows("load a")
	b.allows("serve a")
	b.gets(served, 200)
	b.unload("a")
	stop := b.asks("stop a")

	again := b.call(t.Context(), "a")
	b.shows("a is to be loaded", func(s scheduler.Snapshot) bool { return len(s.Swaps) == 1 })
	stop.answer <- 200
	b.allows("load a")
	b.allows("serve a")
	b.gets(again, 200)
	b.stop()
	b.allows("stop a")
}

// A target that is ready stays so: b needs s to be stopped, but is not loaded again.
func TestReadyTarget(t *testing.T) {
	b := newBench(t, func(b *bench) {
		b.free, b.beside = true, true
		groups = []scheduler.Group{
			{Name: "big", Members: []string{"b"}, Exclusive: true},
			{Name: "small", Members: []string{"s"}},
		}
	}, "b", "s")
	b.gets(b.call(t.Context(), "b"), 200)
	b.gets(b.call(t.Context(), "s"), 200)
	pid := b.pid("b")
	b.gets(b.call(t.Context(), "b"), 200)
	if b.pid("b") != pid || lives(b.pid("s")) {
		t.Error("b has been loaded again, or s has not been stopped")
	}
	if c := b.status().Counters; c.Swaps != 3 || c.Evictions != 1 {
		t.Errorf("%+v", c)
	}
}

func kill(t *testing.T, pid int) {
	p, err := os.FindProcess(pid)
	if err == nil {
		defer p.Release()
		err = p.Kill()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A process that dies by itself fails its load at once, or what it serves, and is
// started again for the next request.
func TestProcessThatDies(t *testing.T) {
	b := newBench(t, nil, "a")
	loading := b.call(t.Context(), "a")
	b.asks("load a")
	kill(t, b.pid("a"))
	b.gets(loading, 502)

	serving := b.call(t.Context(), "a")
	b.allows("load a")
	b.asks("serve a")
	kill(t, b.pid("a"))
	b.gets(serving, 502)

	again := b.call(t.Context(), "a")
	for { // The host may not have noticed when the request arrives.
		select {
		case q := <-b.asked:
			q.answer <- 200
		case r := <-again:
			if r.status == 502 {
				again = b.call(t.Context(), "a")
				continue
			}
			if r.status != 200 {
				t.Errorf("got %+v", r)
			}
			return
		case <-time.After(patience):
			t.Fatal("a has not been loaded again")
		}
	}
}

// A load that fails, for whatever reason, is an error of the gateway. After that the
// model cools down.
func TestLoadThatFails(t *testing.T) {
	b := newBench(t, func(b *bench) {
		options.Cooldown = time.Hour
		models["none"] = model{freeAddress(t), "/no/such/program", nil}
	}, "a")
	failing := b.call(t.Context(), "a")
	b.asks("load a").answer <- 500
	b.gets(failing, 502)
	if r := b.gets(b.call(t.Context(), "a"), 503); r.retry == "" {
		t.Error("there is no Retry-After")
	}
	b.gets(b.call(t.Context(), "none"), 502)
}

func TestLoadThatIsLate(t *testing.T) {
	b := newBench(t, func(b *bench) { loadTimeout = time.Millisecond }, "a")
	if r := b.gets(b.call(t.Context(), "a"), 502); !strings.Contains(r.body, "not ready in time") {
		t.Error(r.body)
	}
}

// A shutdown refuses what waits, for a load or a turn, and leaves no process, not
// even that of the load.
func TestShutdownDuringLoad(t *testing.T) {
	b := newBench(t, nil, "a", "b")
	loading := b.call(t.Context(), "a")
	b.asks("load a")
	waiting := b.call(t.Context(), "b")
	b.shows("both wait", func(s scheduler.Snapshot) bool { return len(s.Waiting) == 2 })
	b.stop()
	b.gets(loading, 503)
	b.gets(waiting, 503)
	if err := b.end(); err != nil {
		t.Error(err)
	}
}

// A shutdown lets what is in flight finish.
func TestShutdownWhileServing(t *testing.T) {
	b := newBench(t, nil, "a")
	served := b.call(t.Context(), "a")
	b.allows("load a")
	serve := b.asks("serve a")
	b.stop()
	until(t, "nothing is accepted", func() bool {
		conn, err := net.Dial("tcp", strings.TrimPrefix(b.url, "http://"))
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	serve.answer <- 200
	b.gets(served, 200)
	if err := b.end(); err != nil {
		t.Error(err)
	}
}

// A panic on the loop is the end, but an orderly one.
func TestPanic(t *testing.T) {
	var armed atomic.Bool
	b := newBench(t, func(b *bench) {
		options.Now = func() time.Time {
			if armed.CompareAndSwap(true, false) {
				panic("the clock is broken")
			}
			return time.Now()
		}
	}, "a")
	loading := b.call(t.Context(), "a")
	b.asks("load a")
	armed.Store(true)
	b.gets(b.call(t.Context(), "a"), 503)
	b.gets(loading, 503)
	if err := b.end(); err == nil || !strings.Contains(err.Error(), "the clock is broken") {
		t.Errorf("serve has returned %v", err)
	}
}
