package kubetest

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// model is the server in a pod's container. It answers GET /health with 200 when it has
// loaded and with 503 before. Any other request is answered with 200 and
//
//	{"model": …, "pod": …, "n": …}
//
// where n counts the requests. A POST whose body has "stream": true gets three
// such objects and then [DONE], as server-sent events. ?delay=200ms makes an answer
// take so long.
type model struct {
	name, pod string
	log       *output
	listener  net.Listener // nil: the pod has no port
	server    *http.Server
	loaded    atomic.Bool
	inFlight  atomic.Int64 // without those for /health
	requests  atomic.Int64

	mu       sync.Mutex
	active   map[net.Conn]bool // that have a request
	draining bool              // it ends when none has
	drained  chan struct{}     // closed when it has ended so
	frozen   chan struct{}     // closed when the machine is lost
	closed   chan struct{}     // closed when the server is
}

// newModel starts a model server that loads.
func newModel(name, pod, addr string, log *output) (*model, error) {
	m := &model{
		name: name, pod: pod, log: log,
		active: make(map[net.Conn]bool), drained: make(chan struct{}), frozen: make(chan struct{}), closed: make(chan struct{}),
	}
	if addr != "" {
		var err error
		if m.listener, err = net.Listen("tcp", addr); err != nil {
			return nil, err
		}
		m.server = &http.Server{Handler: m, ConnState: m.note}
		go m.server.Serve(m.listener)
	}
	log.add("loading")
	return m, nil
}

// load ends the load.
func (m *model) load() {
	m.loaded.Store(true)
	m.log.add("ready")
}

// stop refuses new connections. The channel that it returns is closed when the requests
// in flight have been answered and then the time d has passed.
func (m *model) stop(d time.Duration) <-chan struct{} {
	m.log.add("stopping")
	if m.server != nil {
		m.listener.Close()
		m.server.SetKeepAlivesEnabled(false)
	}
	m.drain()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-m.drained
		select {
		case <-time.After(d):
		case <-m.closed:
		}
	}()
	return stopped
}

// freeze lets every request hang from now on, those in flight too.
func (m *model) freeze() { m.once(m.frozen) }

// close ends the server at once.
func (m *model) close() {
	m.once(m.closed)
	if m.server != nil {
		m.server.Close()
	}
	m.drain()
	<-m.drained
}

// once closes a channel, if it is not closed yet.
func (m *model) once(c chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	select {
	case <-c:
	default:
		close(c)
	}
}

// drain lets no more requests in once none is in flight.
func (m *model) drain() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.draining = true
	m.endIfIdle()
}

// note notes which connections have a request. They do until it is answered, which is
// later than the end of ServeHTTP.
func (m *model) note(conn net.Conn, state http.ConnState) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if state == http.StateActive {
		m.active[conn] = true
		return
	}
	delete(m.active, conn)
	m.endIfIdle()
}

// endIfIdle ends the model if it is to end and has nothing to do. m.mu is held.
func (m *model) endIfIdle() {
	if m.draining && len(m.active) == 0 && !m.over() {
		close(m.drained)
	}
}

// over reports whether the model has ended.
func (m *model) over() bool {
	select {
	case <-m.drained:
		return true
	default:
		return false
	}
}

// ServeHTTP implements [http.Handler].
func (m *model) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if m.over() {
		panic(http.ErrAbortHandler)
	}
	m.pause(r, 0)
	if r.URL.Path == "/health" {
		m.health(w)
		return
	}
	m.inFlight.Add(1)
	defer m.inFlight.Add(-1)
	n := m.requests.Add(1)
	m.log.add("request " + strconv.FormatInt(n, 10))
	m.answer(w, r, n)
}

// health tells whether the model has loaded.
func (m *model) health(w http.ResponseWriter) {
	if !m.loaded.Load() {
		http.Error(w, "loading", http.StatusServiceUnavailable)
	}
}

// answer answers request n.
func (m *model) answer(w http.ResponseWriter, r *http.Request, n int64) {
	delay, err := time.ParseDuration(r.URL.Query().Get("delay"))
	if err != nil {
		delay = 0
	}
	var ask struct{ Stream bool }
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	json.Unmarshal(body, &ask)
	text, err := json.Marshal(object{"model": m.name, "pod": m.pod, "n": n})
	if err != nil {
		panic(err)
	}
	if r.Method == http.MethodPost && ask.Stream {
		m.stream(w, r, text, delay)
		return
	}
	m.pause(r, delay)
	w.Header().Set("Content-Type", "application/json")
	w.Write(text)
}

// stream answers with server-sent events.
func (m *model) stream(w http.ResponseWriter, r *http.Request, text []byte, delay time.Duration) {
	const events = 3
	w.Header().Set("Content-Type", "text/event-stream")
	for range events {
		m.pause(r, delay/events)
		fmt.Fprintf(w, "data: %s\n\n", text)
		http.NewResponseController(w).Flush()
	}
	fmt.Fprint(w, "data: [DONE]\n\n")
}

// pause waits for d, and for ever if the machine is lost.
func (m *model) pause(r *http.Request, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		select {
		case <-m.frozen:
		default:
			return
		}
	case <-m.frozen:
	case <-r.Context().Done():
		panic(http.ErrAbortHandler)
	case <-m.closed:
		panic(http.ErrAbortHandler)
	}
	select {
	case <-r.Context().Done():
	case <-m.closed:
	}
	panic(http.ErrAbortHandler)
}
