package kubetest

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// Faults is a proxy in front of an API server. It passes everything on, and makes
// trouble when it is told to. Its methods may be called concurrently.
//
// A method and a part choose the requests that a fault is for: those with that
// method ("" means any) whose path and query contain the part.
type Faults struct {
	URL    string // https, at the loopback address
	CAFile string // what its certificate is verified with

	addr      string
	cert      tls.Certificate
	proxy     *httputil.ReverseProxy
	transport *http.Transport
	handlers  sync.WaitGroup

	mu       sync.Mutex
	server   *http.Server               // nil: connections are refused
	closed   bool                       // the test has ended
	ice      chan struct{}              // closed by the thaw; nil: nothing is frozen
	faults   []*fault                   // first come, first served
	watches  map[context.Context]func() // ends each open watch
	requests []string                   // METHOD path?query
}

// fault is something that happens to requests.
type fault struct {
	method, part string
	left         int // to how many more; -1: to any number
	serve        func(http.ResponseWriter, *http.Request)
}

// Faulty returns a proxy in front of the server. The code under test is given its
// address instead of the server's. It is gone at the end of the test.
func (s *Server) Faulty(t testing.TB) *Faults {
	t.Helper()
	cert, err := tls.LoadX509KeyPair(s.file("apiserver.crt"), s.file("apiserver.key"))
	if err != nil {
		t.Fatal(err)
	}
	target, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	f := &Faults{
		CAFile: s.CAFile, addr: "127.0.0.1:0", cert: cert,
		transport: s.client.Transport.(*http.Transport).Clone(),
		watches:   make(map[context.Context]func()),
	}
	f.proxy = &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport: f.transport,
		ErrorLog:  log.New(io.Discard, "", 0),
		// Whatever happens to the API server happens to the caller.
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	if err := f.listen(); err != nil {
		t.Fatal(err)
	}
	f.URL = "https://" + f.addr
	t.Cleanup(f.close)
	return f
}

// Fail answers the next n matching requests with an error: an HTTP status such as 429,
// 500 or 409, and a Retry-After unless that is "". The API server does not see them.
func (f *Faults) Fail(n int, method, part string, code int, retryAfter string) {
	f.add(&fault{method, part, n, func(w http.ResponseWriter, r *http.Request) {
		if retryAfter != "" {
			w.Header().Set("Retry-After", retryAfter)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		json.NewEncoder(w).Encode(status(code))
	}})
}

// Lose passes the next n matching requests on, and cuts the connection instead of
// answering: what the API server did, the caller cannot know.
func (f *Faults) Lose(n int, method, part string) {
	f.add(&fault{method, part, n, func(w http.ResponseWriter, r *http.Request) {
		f.proxy.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	}})
}

// Expire answers the next n matching watches with an ERROR event that says 410 Gone.
func (f *Faults) Expire(n int, part string) {
	f.add(&fault{http.MethodGet, part, n, func(w http.ResponseWriter, r *http.Request) {
		if !isWatch(r) {
			f.pass(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(object{"type": "ERROR", "object": status(http.StatusGone)})
	}})
}

// Hold lets matching requests wait until release is called. Then they are passed on.
func (f *Faults) Hold(method, part string) (release func()) {
	released := make(chan struct{})
	hold := &fault{method, part, -1, func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-released:
			f.pass(w, r)
		case <-r.Context().Done():
			panic(http.ErrAbortHandler)
		}
	}}
	f.add(hold)
	return sync.OnceFunc(func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.faults = slices.DeleteFunc(f.faults, func(other *fault) bool { return other == hold })
		close(released)
	})
}

// Delay lets matching requests wait until release is called. Then they are passed on,
// even those that their senders have given up: such a request may have been on its way
// to the API server when its sender stopped waiting.
func (f *Faults) Delay(method, part string) (release func()) {
	released := make(chan struct{})
	f.add(&fault{method, part, -1, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		<-released
		r = r.WithContext(context.WithoutCancel(r.Context()))
		r.Body = io.NopCloser(bytes.NewReader(body))
		f.pass(w, r)
	}})
	return sync.OnceFunc(func() { close(released) })
}

// Withhold passes matching requests on, and lets their answers wait until release is
// called.
func (f *Faults) Withhold(method, part string) (release func()) {
	released := make(chan struct{})
	f.add(&fault{method, part, -1, func(w http.ResponseWriter, r *http.Request) {
		answer := httptest.NewRecorder()
		f.proxy.ServeHTTP(answer, r)
		select {
		case <-released:
		case <-r.Context().Done():
			panic(http.ErrAbortHandler)
		}
		maps.Copy(w.Header(), answer.Header())
		w.WriteHeader(answer.Code)
		w.Write(answer.Body.Bytes())
	}})
	return sync.OnceFunc(func() { close(released) })
}

// CutWatches ends all open watches, in the middle of their streams.
func (f *Faults) CutWatches() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, end := range f.watches {
		end()
	}
}

// Refuse cuts every connection and refuses new ones until restore is called.
func (f *Faults) Refuse(t testing.TB) (restore func()) {
	f.mu.Lock()
	server := f.server
	f.server = nil
	f.mu.Unlock()
	if server != nil {
		server.Close()
	}
	return sync.OnceFunc(func() {
		if err := f.listen(); err != nil {
			t.Error(err)
		}
	})
}

// Freeze lets connections stay open, but nothing arrives any more, in neither
// direction, until thaw is called. So does a network that has lost its way.
func (f *Faults) Freeze() (thaw func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ice == nil {
		f.ice = make(chan struct{})
	}
	return f.thaw
}

// Count returns how many matching requests there were.
func (f *Faults) Count(method, part string) int {
	n := 0
	for _, line := range f.Requests() {
		m, uri, _ := strings.Cut(line, " ")
		if (method == "" || m == method) && strings.Contains(uri, part) {
			n++
		}
	}
	return n
}

// Lists returns how many lists there were of the collection at path.
func (f *Faults) Lists(path string) int { return f.collected(path, false) }

// Watches returns how many watches were begun of the collection at path.
func (f *Faults) Watches(path string) int { return f.collected(path, true) }

// Requests returns all requests so far, each as "METHOD path?query".
func (f *Faults) Requests() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.requests)
}

// ServeHTTP implements [http.Handler].
func (f *Faults) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		panic(http.ErrAbortHandler)
	}
	f.handlers.Add(1)
	defer f.handlers.Done()
	f.requests = append(f.requests, r.Method+" "+r.URL.RequestURI())
	serve := f.choose(r)
	f.mu.Unlock()
	serve(w, r)
}

// choose returns what is to be done with r.
func (f *Faults) choose(r *http.Request) func(http.ResponseWriter, *http.Request) {
	for _, x := range f.faults {
		if x.left == 0 || x.method != "" && x.method != r.Method || !strings.Contains(r.URL.RequestURI(), x.part) {
			continue
		}
		if x.left > 0 {
			x.left--
		}
		return x.serve
	}
	return f.pass
}

// pass passes r on. A watch can be cut meanwhile.
func (f *Faults) pass(w http.ResponseWriter, r *http.Request) {
	if !isWatch(r) {
		f.proxy.ServeHTTP(w, r)
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	f.mu.Lock()
	f.watches[ctx] = cancel
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.watches, ctx)
	}()
	f.proxy.ServeHTTP(w, r.WithContext(ctx))
}

// add adds a fault, behind those that are there.
func (f *Faults) add(x *fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = append(f.faults, x)
}

// collected counts the requests for the whole collection at path.
func (f *Faults) collected(path string, watches bool) int {
	n := 0
	for _, line := range f.Requests() {
		method, uri, _ := strings.Cut(line, " ")
		u, err := url.Parse(uri)
		if err == nil && method == http.MethodGet && u.Path == path && watching(u) == watches {
			n++
		}
	}
	return n
}

// listen starts to accept connections.
func (f *Faults) listen() error {
	l, err := net.Listen("tcp", f.addr)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return l.Close()
	}
	f.addr = l.Addr().String()
	f.server = &http.Server{
		Handler:   f,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{f.cert}},
		ErrorLog:  log.New(io.Discard, "", 0),
	}
	go f.server.ServeTLS(coldListener{l, f}, "", "")
	return nil
}

// thaw ends a freeze.
func (f *Faults) thaw() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ice != nil {
		close(f.ice)
		f.ice = nil
	}
}

// close ends the proxy.
func (f *Faults) close() {
	f.mu.Lock()
	f.closed = true
	server := f.server
	f.mu.Unlock()
	f.thaw()
	if server != nil {
		server.Close()
	}
	f.handlers.Wait()
	f.transport.CloseIdleConnections()
}

// isWatch reports whether r is a watch.
func isWatch(r *http.Request) bool { return watching(r.URL) }

// watching reports whether u asks for a watch.
func watching(u *url.URL) bool {
	watch, err := strconv.ParseBool(u.Query().Get("watch"))
	return err == nil && watch
}

// status returns an answer that is an error, as the API server words it.
func status(code int) object {
	reasons := map[int]string{
		http.StatusConflict:            "Conflict",
		http.StatusGone:                "Expired",
		http.StatusTooManyRequests:     "TooManyRequests",
		http.StatusInternalServerError: "InternalError",
		http.StatusServiceUnavailable:  "ServiceUnavailable",
	}
	return object{
		"kind": "Status", "apiVersion": "v1", "status": "Failure",
		"code": code, "reason": reasons[code], "message": "injected: " + http.StatusText(code),
	}
}
