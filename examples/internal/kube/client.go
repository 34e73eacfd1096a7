// Package kube is a small client of the Kubernetes API: requests that survive the
// failures of every day, watches, and leader election. It knows only the fields of
// objects that a host of pods needs.
package kube

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"
)

const (
	tryBound = 10 * time.Second // for one try of a request, its answer included

	// maxAnswer bounds an answer. A page of a list has up to [pageSize] objects, most
	// of which are far below the 1.5 MiB that etcd takes.
	maxAnswer = 64 << 20
)

// Client sends requests to one API server. It is made by [New], and its methods may be
// called by several goroutines at once.
//
// All methods but Stream try again if the server is overloaded (429), fails (5xx) or
// cannot be reached. Between tries they wait as long as the server asks for, up to a
// minute, or else for 100 ms up to 5 s. They do so until ctx ends, and then return its
// cause and the last failure. Without an end of ctx they may try forever.
//
// A try whose answer was lost may have worked. So after an outage Create may return 409
// for the object that it has created itself, Update 409 for its own change, and Delete 404.
type Client struct {
	prefix    string // scheme, host, and path if there is one
	namespace string
	limit     int64      // bytes of an answer
	token     *tokenFile // nil: none
	log       *slog.Logger
	dial      func() *http.Client         // makes a client that shares no connection with others
	http      atomic.Pointer[http.Client] // the one in use
	bound     atomic.Int64                // for one try of a change; nanoseconds
	again     bool                        // a 401 may be due to the client certificate of a connection
}

// New returns a Client. It reads every file of cfg, so that a mistake shows at once.
// A nil log is silent.
func New(cfg Config, log *slog.Logger) (*Client, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	cfg, err := cfg.complete(os.Getenv, serviceAccount)
	if err != nil {
		return nil, fmt.Errorf("kube: %w", err)
	}
	c := &Client{prefix: strings.TrimRight(cfg.Server, "/"), namespace: cfg.Namespace, limit: maxAnswer, log: log,
		dial: identity(cfg).client, again: cfg.ClientCert != ""}
	if cfg.TokenFile != "" {
		if c.token, err = newTokenFile(cfg.TokenFile, log); err != nil {
			return nil, fmt.Errorf("kube: %w", err)
		}
	}
	if _, err := identity(cfg).tls(); err != nil {
		return nil, fmt.Errorf("kube: %w", err)
	}
	c.http.Store(c.dial())
	c.bound.Store(int64(tryBound))
	return c, nil
}

// Namespace returns the namespace of the configuration, or else of the pod that this
// process runs in, or else "default".
func (c *Client) Namespace() string { return c.namespace }

// Close closes the connections that are not in use. Others close when what they are used
// for ends.
func (c *Client) Close() { c.http.Load().CloseIdleConnections() }

// Get reads the object or list at path, which begins with /api or /apis and may have a
// query, into out.
func (c *Client) Get(ctx context.Context, path string, out any) error {
	return c.do(ctx, call{method: http.MethodGet, path: path, out: out})
}

// Create creates the object in in the collection at path, and reads what the server made
// of it into out unless that is nil. When ctx ends it still waits for the answer to what
// it has sent, for as long as a try may take: else an object could come to be after the
// caller has seen that there is none.
func (c *Client) Create(ctx context.Context, path string, in, out any) error {
	return c.send(ctx, call{method: http.MethodPost, path: path, out: out, whole: true}, in)
}

// Update replaces the object at path by in. If in has a resource version that is not the
// latest, Update returns an [Error] with code 409.
func (c *Client) Update(ctx context.Context, path string, in, out any) error {
	return c.send(ctx, call{method: http.MethodPut, path: path, out: out}, in)
}

// Patch merges patch into the object at path (RFC 7386).
func (c *Client) Patch(ctx context.Context, path string, patch, out any) error {
	return c.send(ctx, call{method: http.MethodPatch, path: path, out: out, media: "application/merge-patch+json"}, patch)
}

// DeleteOptions say how to delete.
type DeleteOptions struct {
	GracePeriodSeconds *int64 // nil: that of the object; 0: at once, without waiting for the node
	UID                string // if not "", an object with another UID is spared, and the error has code 409
}

// Delete asks for the deletion of the object at path. A pod is gone only when a watch or
// a 404 says so, which is after its grace period.
func (c *Client) Delete(ctx context.Context, path string, opts DeleteOptions) error {
	in := map[string]any{"apiVersion": "v1", "kind": "DeleteOptions"}
	if opts.GracePeriodSeconds != nil {
		in["gracePeriodSeconds"] = *opts.GracePeriodSeconds
	}
	if opts.UID != "" {
		in["preconditions"] = map[string]string{"uid": opts.UID}
	}
	return c.send(ctx, call{method: http.MethodDelete, path: path}, in)
}

// Stream opens what is at path, such as a log, in one try that only ctx bounds: the log
// of a container that has said nothing yet may begin late. The caller closes it. Reading
// fails when ctx ends.
func (c *Client) Stream(ctx context.Context, path string) (io.ReadCloser, error) {
	body, err := c.open(ctx, call{method: http.MethodGet, path: path})
	if err != nil {
		return nil, fmt.Errorf("kube: GET %s: %w", shown(path), err)
	}
	return body, nil
}

// call is a request as its caller sees it.
type call struct {
	method, path string
	media        string // of body; "": JSON
	body         []byte
	out          any  // where the answer goes; nil: nowhere
	whole        bool // a try is not cut off by the end of its context
}

// send sends in.
func (c *Client) send(ctx context.Context, r call, in any) error {
	var err error
	if r.body, err = json.Marshal(in); err != nil {
		return fmt.Errorf("kube: %s %s: %w", r.method, shown(r.path), err)
	}
	return c.do(ctx, r)
}

// do tries until it makes no sense to try again.
func (c *Client) do(ctx context.Context, r call) error {
	var p pauses
	var last error
	for {
		err := c.try(ctx, r)
		if err == nil || !mayPass(err) {
			return err
		}
		if last == nil || ctx.Err() == nil { // Else it only says that ctx ended.
			last = err
		}
		if !p.wait(ctx, retryAfter(err)) {
			return ended(ctx, last)
		}
		c.log.Debug("request to the Kubernetes API failed and is tried again", "err", err)
	}
}

// ended returns the cause of ctx's end and the last failure before it as one error.
func ended(ctx context.Context, last error) error {
	if cause := context.Cause(ctx); !errors.Is(last, cause) {
		return fmt.Errorf("%w: %w", cause, last)
	}
	return last
}

// try sends a request once, or twice if the first one was not authenticated. It leaves
// the server as much time as itself: what the server has not done by then it drops.
func (c *Client) try(ctx context.Context, r call) error {
	bound := tryBound
	if r.method != http.MethodGet {
		bound = time.Duration(c.bound.Load())
	}
	path := r.path
	r.path = withQuery(path, "timeout", bound.String())
	if r.whole && ctx.Err() == nil {
		ctx = context.WithoutCancel(ctx)
	}
	tried, cancel := context.WithTimeoutCause(ctx, bound, fmt.Errorf("no answer within %v", bound))
	defer cancel()
	used := c.http.Load()
	err := c.exchange(tried, r)
	if err == nil {
		return nil
	}
	if tried.Err() != nil && ctx.Err() == nil {
		c.replace(used)
	}
	return fmt.Errorf("kube: %s %s: %w", r.method, shown(path), err)
}

// exchange sends a request and reads the answer.
func (c *Client) exchange(ctx context.Context, r call) error {
	body, err := c.open(ctx, r)
	if err != nil {
		return err
	}
	defer body.Close()
	if r.out == nil { // It is done, whatever becomes of the rest.
		io.Copy(io.Discard, io.LimitReader(body, maxErrorBody)) // So that the connection can be used again.
		return nil
	}
	text, err := io.ReadAll(io.LimitReader(body, c.limit+1))
	switch {
	case int64(len(text)) > c.limit:
		return fmt.Errorf("the answer has more than %d bytes", c.limit)
	case err != nil:
		return &outage{fmt.Errorf("reading the answer: %w", err)}
	}
	if err := json.Unmarshal(text, r.out); err != nil {
		return fmt.Errorf("the answer is not what it should be: %w", err)
	}
	return nil
}

// open sends a request and returns the body of the answer, which is a success.
func (c *Client) open(ctx context.Context, r call) (io.ReadCloser, error) {
	used, token := c.http.Load(), c.token.current()
	resp, err := c.roundTrip(ctx, used, r, token)
	if err == nil && resp.StatusCode == http.StatusUnauthorized && (token != "" || c.again) {
		resp.Body.Close()
		if c.again {
			c.replace(used)
		}
		resp, err = c.roundTrip(ctx, c.http.Load(), r, c.token.renewed())
	}
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 != 2 {
		defer resp.Body.Close()
		return nil, answered(resp)
	}
	return resp.Body, nil
}

// openWithin is open with a bound for the beginning of the answer alone.
func (c *Client) openWithin(ctx context.Context, bound time.Duration, r call) (io.ReadCloser, error) {
	opened, cancel := context.WithCancelCause(ctx)
	used := c.http.Load()
	timer := time.AfterFunc(bound, func() {
		cancel(fmt.Errorf("no answer within %v", bound))
		c.replace(used)
	})
	body, err := c.open(opened, r)
	if !timer.Stop() && err == nil {
		body.Close()
		err = &outage{context.Cause(opened)}
	}
	if err != nil {
		cancel(nil)
		return nil, err
	}
	return &cancelBody{body, cancel}, nil
}

// cancelBody is a body with a context of its own.
type cancelBody struct {
	io.ReadCloser
	cancel context.CancelCauseFunc
}

// Close implements [io.Closer].
func (b *cancelBody) Close() error {
	defer b.cancel(nil)
	return b.ReadCloser.Close()
}

// roundTrip sends a request once.
func (c *Client) roundTrip(ctx context.Context, h *http.Client, r call, token string) (*http.Response, error) {
	if !strings.HasPrefix(r.path, "/api") {
		return nil, errors.New("the path does not begin with /api or /apis")
	}
	req, err := http.NewRequestWithContext(ctx, r.method, c.prefix+r.path, bytes.NewReader(r.body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", filepath.Base(os.Args[0]))
	if r.body != nil {
		req.Header.Set("Content-Type", cmp.Or(r.media, "application/json"))
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := h.Do(req)
	if err != nil {
		if e := (*url.Error)(nil); errors.As(err, &e) {
			err = e.Err // The rest is told by the caller.
		}
		return nil, &outage{err}
	}
	return resp, nil
}

// replace makes further requests use new connections, unless that has happened since used
// was the one in use. A connection over which a try got no answer may be dead, and one
// that was opened with a client certificate that has been replaced keeps that.
func (c *Client) replace(used *http.Client) {
	if c.http.CompareAndSwap(used, c.dial()) {
		used.CloseIdleConnections()
	}
}

// boundChanges makes every try of a change end within d, here and at the server, unless
// it has to be quicker anyhow.
func (c *Client) boundChanges(d time.Duration) {
	for b := c.bound.Load(); int64(d) < b; b = c.bound.Load() {
		c.bound.CompareAndSwap(b, int64(d))
	}
}

// shown returns path as errors tell it.
func shown(path string) string {
	path, _, _ = strings.Cut(path, "?")
	return path
}

// withQuery returns path with one more parameter.
func withQuery(path, name, value string) string {
	separator := "?"
	if strings.Contains(path, "?") {
		separator = "&"
	}
	return path + separator + name + "=" + url.QueryEscape(value)
}
