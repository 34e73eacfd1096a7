package kube

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	tokenAge  = time.Minute // for which a token that was read is used
	dialBound = 10 * time.Second
	idleBound = 90 * time.Second // for which a connection that is not in use stays open

	// Over HTTP/2 a connection is asked whether it is alive when it has been silent, so
	// that a watch learns within 15 seconds that its connection is dead.
	pingAfter = 10 * time.Second
	pingBound = 5 * time.Second
)

// tokenFile is a file with a bearer token that somebody else replaces from time to time,
// as the kubelet does with the tokens of service accounts.
type tokenFile struct {
	path string
	log  *slog.Logger

	mu    sync.Mutex
	token string
	read  time.Time // the last try to read it
	stale bool      // that try failed
}

// newTokenFile reads the file for the first time.
func newTokenFile(path string, log *slog.Logger) (*tokenFile, error) {
	token, err := readToken(path)
	if err != nil {
		return nil, fmt.Errorf("token: %w", err)
	}
	return &tokenFile{path: path, log: log, token: token, read: time.Now()}, nil
}

// current returns a token that was read within the last minute, if it could be; "" if
// there is no file.
func (t *tokenFile) current() string { return t.atMost(tokenAge) }

// renewed returns the token that the file has now.
func (t *tokenFile) renewed() string { return t.atMost(0) }

// atMost returns a token that was read no longer than age ago. If the file cannot be read
// the last token has to do: it may be valid still.
func (t *tokenFile) atMost(age time.Duration) string {
	if t == nil {
		return ""
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if time.Since(t.read) < age {
		return t.token
	}
	t.read = time.Now()
	token, err := readToken(t.path)
	if err != nil {
		if !t.stale {
			t.log.Warn("the token for the Kubernetes API cannot be read again", "err", err)
		}
		t.stale = true
		return t.token
	}
	t.token, t.stale = token, false
	return token
}

// readToken reads a token, and never tells it in an error.
func readToken(path string) (string, error) {
	text, err := readFile(path)
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(text))
	if token == "" {
		return "", fmt.Errorf("%s is empty", path)
	}
	if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return "", fmt.Errorf("%s has something else in it than one token", path)
	}
	return token, nil
}

// identity is a Config as TLS sees it: who the server must be, and who we are.
type identity Config

// client returns an HTTP client with connections of its own.
func (i identity) client() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DialTLSContext:      i.dialTLS,
			ForceAttemptHTTP2:   true,
			HTTP2:               &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingBound},
			IdleConnTimeout:     idleBound,
			MaxIdleConnsPerHost: 16, // for HTTP/1; with HTTP/2 there is one
		},
		// The API does not redirect, and a token must not go elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// dialTLS opens a connection with the certificates that the files have now.
func (i identity) dialTLS(ctx context.Context, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialBound)
	defer cancel()
	cfg, err := i.tls()
	if err != nil {
		return nil, err
	}
	d := tls.Dialer{Config: cfg}
	return d.DialContext(ctx, network, addr)
}

// tls reads the files.
func (i identity) tls() (*tls.Config, error) {
	cfg := &tls.Config{NextProtos: []string{"h2", "http/1.1"}}
	if i.CAFile != "" {
		text, err := readFile(i.CAFile)
		if err != nil {
			return nil, fmt.Errorf("certificate authority: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("certificate authority: %s has no certificate in PEM", i.CAFile)
		}
	}
	if i.ClientCert != "" {
		pair, err := i.pair()
		if err != nil {
			return nil, fmt.Errorf("client certificate: %w", err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}

// pair reads the client certificate and its key.
func (i identity) pair() (tls.Certificate, error) {
	cert, err := readFile(i.ClientCert)
	if err != nil {
		return tls.Certificate{}, err
	}
	key, err := readFile(i.ClientKey)
	if err != nil {
		return tls.Certificate{}, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return pair, fmt.Errorf("%s with %s: %w", i.ClientCert, i.ClientKey, err)
	}
	return pair, nil
}
