package kubetest

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience bounds every wait for something that should happen soon, and startPatience
// the start of the API server, which takes two seconds on an idle machine.
const (
	patience      = time.Minute
	startPatience = 3 * time.Minute
)

// Server is a Kubernetes API server with an etcd of its own. It has no controllers,
// no scheduler and no kubelet; a [Cluster] plays those. RBAC is on.
type Server struct {
	URL    string // https, at the loopback address
	CAFile string // what its certificate is verified with
	Dir    string // temporary, for everything that belongs to the server
	Admin  string // a bearer token that may do everything

	etcdURL string
	client  *http.Client

	mu   sync.Mutex // guards the children
	etcd *child
	api  *child
}

// shared is the server of [Shared].
var shared struct {
	sync.Mutex
	dir    string
	server *Server
	err    error
}

// Main runs the tests, stops the server of [Shared], and exits. It is for TestMain.
func Main(m *testing.M) {
	code := m.Run()
	Stop()
	os.Exit(code)
}

// Stop stops the server of [Shared], if it runs. It is for a TestMain that has more
// to do than [Main].
func Stop() {
	shared.Lock()
	defer shared.Unlock()
	if shared.server == nil {
		return
	}
	shared.server.stop()
	os.RemoveAll(shared.dir)
	shared.server, shared.err = nil, errors.New("the shared API server has been stopped")
}

// Shared returns the server that all tests of this program use. The first call
// starts it. It skips the test where there is no API server to start.
func Shared(t testing.TB) *Server {
	t.Helper()
	needPrograms(t)
	shared.Lock()
	defer shared.Unlock()
	if shared.server == nil && shared.err == nil {
		shared.server, shared.err = startShared()
	}
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.server
}

// startShared starts the server of [Shared].
func startShared() (*Server, error) {
	dir, err := os.MkdirTemp("", "kubetest-")
	if err != nil {
		return nil, err
	}
	s, err := start(dir)
	if err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	shared.dir = dir
	return s, nil
}

// Start returns a server for this test alone, which may kill it. It skips the test
// where there is no API server to start.
func Start(t testing.TB) *Server {
	t.Helper()
	needPrograms(t)
	s, err := start(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.stop)
	return s
}

// Kill ends the API server at once, without a chance to finish anything. Its data
// stay.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	s.mustOwn(t)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.api == nil {
		t.Fatal("the API server does not run")
	}
	s.api.kill()
	s.api = nil
}

// Restart starts the API server again, at the same address and with the same data.
// If it runs, it is killed first. It returns when the server is ready.
//
// The server then has no memory of the changes before, so a watch from a
// resourceVersion of that time is answered with 410 Gone.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.mustOwn(t)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.api != nil {
		s.api.kill()
		s.api = nil
	}
	if err := s.startAPI(); err != nil {
		t.Fatal(err)
	}
}

// Compact makes etcd forget every state but the newest. The API server still
// answers from its cache. After [Server.Restart], which empties that, it answers
// whoever asks for an older resourceVersion with 410 Gone.
func (s *Server) Compact(t testing.TB) {
	t.Helper()
	if err := s.compact(); err != nil {
		t.Fatal(err)
	}
}

// mustOwn fails a test that would kill the server of others.
func (s *Server) mustOwn(t testing.TB) {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if s == shared.server {
		t.Fatal("the shared API server is not to be killed: use Start")
	}
}

// needPrograms skips a test that cannot have a server.
func needPrograms(t testing.TB) {
	t.Helper()
	if os.Getenv("KUBE_APISERVER") == "" || os.Getenv("ETCD") == "" {
		t.Skip(`needs a Kubernetes API server: run .ci/kubernetes, which builds one, or set KUBE_APISERVER and ETCD (eval "$(.ci/kubernetes env)")`)
	}
}

// start starts a server, and tries again if somebody else was quicker to take one
// of its ports.
func start(dir string) (s *Server, err error) {
	for try := range 3 {
		s = &Server{Dir: filepath.Join(dir, strconv.Itoa(try)), Admin: rand.Text()}
		if err = s.launch(); err == nil {
			return s, nil
		}
		s.stop()
	}
	return nil, err
}

// launch writes the files of the server and starts its processes.
func (s *Server) launch() error {
	if err := os.Mkdir(s.Dir, 0o700); err != nil {
		return err
	}
	s.CAFile = s.file("apiserver.crt") // The API server makes it, in its --cert-dir.
	tokens := fmt.Sprintf("%s,admin,admin,\"system:masters\"\n", s.Admin)
	if err := os.WriteFile(s.file("tokens.csv"), []byte(tokens), 0o600); err != nil {
		return err
	}
	if err := writeKey(s.file("service-account.key")); err != nil {
		return err
	}
	etcdPort, apiPort, err := twoPorts()
	if err != nil {
		return err
	}
	s.etcdURL = fmt.Sprintf("http://127.0.0.1:%d", etcdPort)
	s.URL = fmt.Sprintf("https://127.0.0.1:%d", apiPort)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.startEtcd(); err != nil {
		return err
	}
	return s.startAPI()
}

// startEtcd starts etcd. The API server waits for it.
func (s *Server) startEtcd() (err error) {
	s.etcd, err = startChild(s.file("etcd.log"), os.Getenv("ETCD"),
		"--data-dir="+s.file("etcd"),
		"--listen-client-urls="+s.etcdURL,
		"--advertise-client-urls="+s.etcdURL,
		"--listen-peer-urls=http://127.0.0.1:0",
		"--unsafe-no-fsync", // Its data need not outlive the machine.
		"--log-level=warn",
	)
	return err
}

// startAPI starts the API server and waits until it is ready.
func (s *Server) startAPI() (err error) {
	port := s.URL[strings.LastIndexByte(s.URL, ':')+1:]
	s.api, err = startChild(s.file("apiserver.log"), os.Getenv("KUBE_APISERVER"),
		"--etcd-servers="+s.etcdURL,
		"--bind-address=127.0.0.1",
		"--advertise-address=127.0.0.1",
		"--secure-port="+port,
		"--cert-dir="+s.Dir,
		"--token-auth-file="+s.file("tokens.csv"),
		"--authorization-mode=RBAC",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file="+s.file("service-account.key"),
		"--service-account-signing-key-file="+s.file("service-account.key"),
		"--disable-admission-plugins=ServiceAccount", // Nobody makes the default accounts that it asks for.
		"--service-cluster-ip-range=10.0.0.0/24",
		"--endpoint-reconciler-type=none", // A loopback address is no endpoint.
		"--kubelet-preferred-address-types=InternalIP",
	)
	if err != nil {
		return err
	}
	if err := s.ready(); err != nil {
		return fmt.Errorf("API server: %w\n%s\n%s", err, s.api.output(), s.etcd.output())
	}
	return nil
}

// ready waits until the API server is ready.
func (s *Server) ready() error {
	for deadline := time.Now().Add(startPatience); ; time.Sleep(20 * time.Millisecond) {
		err := s.probe()
		if err == nil {
			return nil
		}
		select {
		case <-s.etcd.done:
			return fmt.Errorf("etcd has exited: %v", s.etcd.err)
		case <-s.api.done:
			return fmt.Errorf("exited: %v", s.api.err)
		default:
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not ready after %v: %w", startPatience, err)
		}
	}
}

// probe asks the API server whether it is ready.
func (s *Server) probe() error {
	if s.client == nil {
		pool, err := certPool(s.CAFile)
		if err != nil {
			return err
		}
		s.client = newClient(pool)
	}
	code, answer, err := s.send(context.Background(), http.MethodGet, "/readyz", "", nil)
	if err == nil && code != http.StatusOK {
		err = fmt.Errorf("/readyz: %d: %s", code, answer)
	}
	return err
}

// stop ends the processes.
func (s *Server) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range []*child{s.api, s.etcd} {
		if c != nil {
			c.kill()
		}
	}
	s.api, s.etcd = nil, nil
	if s.client != nil {
		s.client.CloseIdleConnections()
	}
}

// file returns the path of a file of the server.
func (s *Server) file(name string) string { return filepath.Join(s.Dir, name) }

// writeKey makes a key that service-account tokens are signed and verified with.
func writeKey(file string) error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	block := &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}
	return os.WriteFile(file, pem.EncodeToMemory(block), 0o600)
}

// twoPorts returns two ports of the loopback address that are free. They are below
// those that systems give to outgoing connections: nobody comes by one of them by
// chance while the API server is down.
func twoPorts() (int, int, error) {
	var ports []int
	for range 1000 {
		port := 15000 + mathrand.IntN(15000)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		defer l.Close() // Not before return, so that the next one is another.
		if ports = append(ports, port); len(ports) == 2 {
			return ports[0], ports[1], nil
		}
	}
	return 0, 0, errors.New("no free port from 15000 to 29999")
}

// certPool reads certificates.
func certPool(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s: no certificate", file)
	}
	return pool, nil
}

// newClient returns a client that speaks HTTP/2 and trusts pool.
func newClient(pool *x509.CertPool) *http.Client {
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: pool},
		ForceAttemptHTTP2: true,
	}}
}
