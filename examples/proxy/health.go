package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"example.com/scheduler/examples/internal/config"
)

// dialer connects to models that are being loaded. A server that may be starting is
// better tried again than waited for.
var dialer = net.Dialer{Timeout: 2 * time.Second}

// prober asks for the health of models. An answer may take as long as the load, since
// there are servers that load before they answer. It keeps no connection and follows no
// redirect.
var prober = &http.Client{
	Transport: &http.Transport{DisableKeepAlives: true, DialContext: dialer.DialContext},
	CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	},
}

// endpoint is where a model answers.
type endpoint struct {
	cfg *config.Model
	url *url.URL
}

// poll waits until the model, which was started then, is healthy, and returns nil.
// Once loadTimeout is over, gone is closed or ctx has ended, it returns that and what was
// wrong last.
//
// The pauses grow with the time that the load has taken, so that it is noticed to
// be over at most a tenth too late, and the log of a big model has few polls in it.
func (e endpoint) poll(ctx context.Context, started time.Time, gone <-chan struct{}) error {
	timeout := time.Duration(e.cfg.LoadTimeout)
	ctx, cancel := context.WithDeadlineCause(ctx, started.Add(timeout), fmt.Errorf("not ready after %v", timeout))
	defer cancel()
	go func() {
		select {
		case <-gone: // So that no try outlives the process.
			cancel()
		case <-ctx.Done():
		}
	}()
	last := errors.New("no answer yet")
	for ctx.Err() == nil {
		err := e.probe(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			break // It was not the model's fault.
		}
		last = err
		pause := min(max(time.Since(started)/10, 20*time.Millisecond), time.Second)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
	return fmt.Errorf("%w: %w", context.Cause(ctx), last)
}

// probe asks the model once.
func (e endpoint) probe(ctx context.Context) error {
	if e.cfg.Health == config.NoHealth && e.cfg.Remote() {
		return nil
	} else if e.cfg.Health == config.NoHealth {
		return connect(ctx, e.url)
	}
	resp, err := e.get(ctx, e.cfg.Health)
	if err == nil {
		resp.Body.Close()
	}
	return err
}

// get gets a path of the model. Any status but 200 is an error.
func (e endpoint) get(ctx context.Context, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(e.url.String(), "/")+path, nil)
	if err != nil {
		return nil, fmt.Errorf("%s: not a URL", path)
	}
	e.authorize(req)
	resp, err := prober.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, errors.Unwrap(err)) // Without the URL.
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, fmt.Errorf("%s: %s", path, resp.Status)
	}
	return resp, nil
}

// authorize sets the Authorization that the model wants to see, if it wants one.
func (e endpoint) authorize(r *http.Request) {
	if e.cfg.APIKeyEnv != "" {
		r.Header.Set("Authorization", "Bearer "+os.Getenv(e.cfg.APIKeyEnv))
	} else if e.url.User != nil {
		password, _ := e.url.User.Password()
		r.SetBasicAuth(e.url.User.Username(), password)
	}
}

// connect reports whether anything takes connections at u.
func connect(ctx context.Context, u *url.URL) error {
	conn, err := dialer.DialContext(ctx, "tcp", hostPort(u))
	if err != nil {
		return err
	}
	return conn.Close()
}

// hostPort returns the address that u means.
func hostPort(u *url.URL) string {
	port := u.Port()
	switch {
	case port != "":
	case u.Scheme == "https":
		port = "443"
	default:
		port = "80"
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// shownURL returns u without what may be a secret in it.
func shownURL(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}
