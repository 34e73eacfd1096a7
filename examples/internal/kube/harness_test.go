package kube

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// memory is a connection to a handler that needs no network, so that tests can run in a
// synctest bubble. A handler that panics cuts the connection.
type memory struct{ handler http.Handler }

// RoundTrip implements [http.RoundTripper].
func (m memory) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	r, w := io.Pipe()
	reply := &reply{header: http.Header{}, pipe: w, begun: make(chan int, 1)}
	context.AfterFunc(ctx, func() { w.CloseWithError(context.Cause(ctx)) })
	go reply.serve(m.handler, req)
	select {
	case code := <-reply.begun:
		if code == 0 {
			return nil, io.ErrUnexpectedEOF
		}
		return &http.Response{StatusCode: code, Status: http.StatusText(code), Header: reply.header, Body: r, Request: req}, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// reply is one answer of memory.
type reply struct {
	header http.Header
	pipe   *io.PipeWriter
	once   sync.Once
	begun  chan int // gets the status, or 0 if there is no answer
}

func (r *reply) serve(h http.Handler, req *http.Request) {
	defer func() {
		if recover() != nil {
			r.once.Do(func() { r.begun <- 0 })
			r.pipe.CloseWithError(io.ErrUnexpectedEOF)
		}
	}()
	h.ServeHTTP(r, req)
	r.Flush()
	r.pipe.CloseWithError(context.Cause(req.Context())) // nil is the end.
}

func (r *reply) Header() http.Header  { return r.header }
func (r *reply) WriteHeader(code int) { r.once.Do(func() { r.begun <- code }) }
func (r *reply) Flush()               { r.WriteHeader(http.StatusOK) }

func (r *reply) Write(p []byte) (int, error) {
	r.Flush()
	return r.pipe.Write(p)
}

// clientOf returns a client of a handler in memory.
func clientOf(h http.Handler) *Client {
	c := &Client{prefix: "http://memory", namespace: "default", limit: 1 << 20, log: slog.New(slog.DiscardHandler), dial: func() *http.Client {
		return &http.Client{Transport: memory{h}}
	}}
	c.http.Store(c.dial())
	c.bound.Store(int64(tryBound))
	return c
}

// answer is what a script answers to one request.
type answer struct {
	code   int // 0: 200
	header http.Header
	body   string
	then   end
}

// end is how an answer ends.
type end int

const (
	done end = iota
	cut
	hang // until the client leaves
)

// script is a server that gives one answer after the other, and hangs when it has no
// more. It keeps a transcript, to which the test may add.
type script struct {
	line    func(*http.Request) string // nil: method and path
	over    chan struct{}              // closed by the first request beyond the answers
	mu      sync.Mutex
	answers []answer
	seen    []*http.Request
	lines   []string
}

func newScript(answers ...answer) *script {
	return &script{answers: answers, over: make(chan struct{})}
}

// ServeHTTP implements [http.Handler].
func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a, ok := s.next(r)
	if !ok {
		<-r.Context().Done()
		return
	}
	for name, values := range a.header {
		w.Header()[name] = values
	}
	if a.code != 0 || a.body != "" {
		w.WriteHeader(cmp.Or(a.code, http.StatusOK))
		io.WriteString(w, a.body)
	}
	switch a.then {
	case hang:
		<-r.Context().Done()
	case cut:
		panic(http.ErrAbortHandler)
	}
}

// next takes the next answer.
func (s *script) next(r *http.Request) (answer, bool) {
	line := r.Method + " " + r.URL.Path
	if s.line != nil {
		line = s.line(r)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.answers) == 0 {
		select {
		case <-s.over:
		default:
			s.lines = append(s.lines, line)
			close(s.over)
		}
		return answer{}, false
	}
	s.lines = append(s.lines, line)
	s.seen = append(s.seen, r)
	a := s.answers[0]
	s.answers = s.answers[1:]
	return a, true
}

// note adds a line to the transcript.
func (s *script) note(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, line)
}

// transcript returns all lines.
func (s *script) transcript() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.lines, "\n")
}

// requests returns how many requests were answered.
func (s *script) requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.seen)
}

// logTo returns a client that logs to a buffer, and the buffer.
func (c *Client) logTo(level slog.Level) *lines {
	l := &lines{}
	c.log = slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: level}))
	return l
}

// lines is a log.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// authority is a certificate authority.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	a := &authority{key: newKey(t)}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: rand.Text()}, IsCA: true,
		NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	a.cert = sign(t, template, template, a.key, a.key)
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t *testing.T, template, parent *x509.Certificate, key, by *ecdsa.PrivateKey) *x509.Certificate {
	raw, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, by)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// issue returns a certificate for a server at the loopback address, or a client.
func (a *authority) issue(t *testing.T, name string) tls.Certificate {
	key := newKey(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	cert := sign(t, template, a.cert, key, a.key)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

// pool returns the authority as one to be trusted.
func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// write writes text to a file of dir, as a whole at once, and returns its path.
func write(t testing.TB, dir, name string, text []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	return path
}

// writeCert writes a certificate and returns its path.
func writeCert(t *testing.T, dir, name string, raw []byte) string {
	t.Helper()
	return write(t, dir, name, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}))
}

// writeKey writes the key of a certificate and returns its path.
func writeKey(t *testing.T, dir, name string, cert tls.Certificate) string {
	t.Helper()
	raw, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return write(t, dir, name, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}))
}

// serveTLS starts a server over HTTP/2 with a certificate of a.
func serveTLS(t *testing.T, a *authority, h http.Handler, change func(*tls.Config)) string {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.EnableHTTP2 = true
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0) // of failed handshakes
	s.TLS = &tls.Config{Certificates: []tls.Certificate{a.issue(t, "server")}}
	if change != nil {
		change(s.TLS)
	}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.URL
}

// open returns a client of cfg, which is closed at the end.
func open(t *testing.T, cfg Config) *Client {
	t.Helper()
	c, err := New(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// within returns a context for something that should happen soon.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}
