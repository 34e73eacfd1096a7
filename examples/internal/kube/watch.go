package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

const (
	pageSize = 500 // objects in one answer to a list

	// A watch lasts for watchTime up to twice as long, at random. The server should end it
	// then; if it has not after watchSlack, it is cut from this side.
	watchTime  = 5 * time.Minute
	watchSlack = 30 * time.Second

	// maxEvent bounds one event of a watch. Requests to the API server may have 3 MiB, so
	// objects are not much larger.
	maxEvent = 16 << 20
)

// Handler is told of the objects of a watch, by one goroutine. It should not block for
// long: the server ends a watch that is not read. A nil function is not called.
type Handler[T Object] struct {
	Put    func(T) // a new object, or one that has changed
	Delete func(T) // one that was put and is gone, as it was last seen
	Synced func()  // the state is complete: after every list
}

// Watch lists the objects of the collection at path and follows their changes until ctx
// ends. The query has selectors; path has no query of its own.
//
// If the connection is cut, the watch goes on from where it was. If the server does not
// know that place any more, Watch lists again and tells what differs. An object that was
// replaced by another one of the same name in the meantime is deleted first, then put.
// Failures of any kind, such as missing permission, are tried again with pauses and are
// logged once until the next success.
func Watch[T Object](ctx context.Context, c *Client, path string, query url.Values, h Handler[T]) {
	w := &watch[T]{client: c, path: path, query: query, handler: h, known: map[string]T{}}
	for ctx.Err() == nil {
		err := w.round(ctx)
		if ctx.Err() != nil {
			return
		}
		w.report(err)
		w.pauses.wait(ctx, retryAfter(err))
	}
}

// watch is one call of [Watch].
type watch[T Object] struct {
	client   *Client
	path     string
	query    url.Values
	handler  Handler[T]
	known    map[string]T // by namespace and name: what was put and not deleted
	version  string       // of the collection, up to which all is known; "": list first
	pauses   pauses
	failures int // since the last success
}

// list is a page of a collection.
type list[T Object] struct {
	Metadata struct{ ResourceVersion, Continue string }
	Items    []T
}

// event is what a watch sends.
type event struct {
	Type   string
	Object json.RawMessage
}

var (
	errTooLong = fmt.Errorf("an event has more than %d bytes", maxEvent)
	errTooSoon = errors.New("the server ended the watch at once")
)

// round lists if necessary, and follows the changes until a failure or, with nil, the
// normal end of a watch.
func (w *watch[T]) round(ctx context.Context) error {
	if w.version == "" {
		if err := w.list(ctx); err != nil {
			return err
		}
	}
	return w.follow(ctx)
}

// succeeded notes that the watch works: an event arrived, or it has lasted. A list alone
// is no proof, as whoever may list need not be allowed to watch.
func (w *watch[T]) succeeded() {
	w.pauses.reset()
	if w.failures > 1 {
		w.client.log.Info("watch works again", "path", w.path)
	}
	w.failures = 0
}

// report logs the end of a round. A connection may be cut and a version forgotten at any
// time; only if the next try fails too there is something to warn of, once.
func (w *watch[T]) report(err error) {
	if err == nil {
		w.client.log.Debug("watch ended", "path", w.path)
		return
	}
	w.failures++
	level := slog.LevelDebug
	if w.failures == 2 {
		level = slog.LevelWarn
	}
	w.client.log.Log(context.Background(), level, "watch failed; trying again", "path", w.path, "err", err)
}

// list reads the whole collection and tells what differs from what is known. If the list
// takes so long that the server has lost its beginning, all is read again in one piece.
func (w *watch[T]) list(ctx context.Context) error {
	items, version, err := w.pages(ctx, pageSize)
	if IsCode(err, http.StatusGone) {
		items, version, err = w.pages(ctx, 0)
	}
	if err != nil {
		return err
	}
	gone := maps.Clone(w.known)
	for _, item := range items {
		delete(gone, key(item))
	}
	for _, item := range gone {
		w.remove(item)
	}
	for _, item := range items {
		w.put(item)
	}
	w.version = version
	if w.handler.Synced != nil {
		w.handler.Synced()
	}
	return nil
}

// pages reads the collection, up to limit objects at a time; 0: all at once.
func (w *watch[T]) pages(ctx context.Context, limit int) (items []T, version string, err error) {
	query := url.Values{"limit": {strconv.Itoa(limit)}}
	for {
		var page list[T]
		if err := w.client.try(ctx, call{method: http.MethodGet, path: w.at(query), out: &page}); err != nil {
			return nil, "", err
		}
		items = append(items, page.Items...)
		if version = page.Metadata.ResourceVersion; version == "" {
			return nil, "", fmt.Errorf("kube: GET %s: the answer is not a list", w.path)
		}
		if page.Metadata.Continue == "" {
			return items, version, nil
		}
		query.Set("continue", page.Metadata.Continue)
	}
}

// follow watches from the version on. Only after failures that say nothing about that
// version is it kept for the next try.
func (w *watch[T]) follow(ctx context.Context) error {
	begun, events := time.Now(), 0
	err := w.stream(ctx, func(e event) error {
		events++
		w.succeeded()
		return w.apply(e)
	})
	long := time.Since(begun) >= maxPause
	if long {
		w.succeeded()
	}
	switch {
	case err == nil && events == 0 && !long:
		err = errTooSoon
	case err != nil && !mayPass(err):
		w.version = ""
	}
	if err != nil {
		err = fmt.Errorf("kube: watching %s: %w", w.path, err)
	}
	return err
}

// stream opens a watch and hands its events to apply until it ends.
func (w *watch[T]) stream(ctx context.Context, apply func(event) error) error {
	lasts := watchTime + rand.N(watchTime)
	ctx, cancel := context.WithTimeout(ctx, lasts+watchSlack)
	defer cancel()
	body, err := w.client.openWithin(ctx, tryBound, call{method: http.MethodGet, path: w.at(url.Values{
		"watch":               {"1"},
		"allowWatchBookmarks": {"true"},
		"resourceVersion":     {w.version},
		"timeoutSeconds":      {strconv.Itoa(int(lasts / time.Second))},
	})})
	if err != nil {
		return err
	}
	defer body.Close()
	limited := &io.LimitedReader{R: body}
	for decoder := json.NewDecoder(limited); ; {
		limited.N = maxEvent // It may have read the beginning of the next event already.
		var e event
		if err := decoder.Decode(&e); err != nil {
			return streamError(err, limited.N <= 0)
		}
		if err := apply(e); err != nil {
			return err
		}
	}
}

// streamError returns what the end of a stream means; nil is a normal end.
func streamError(err error, tooLong bool) error {
	var syntax *json.SyntaxError
	var typed *json.UnmarshalTypeError
	switch {
	case tooLong:
		return errTooLong
	case err == io.EOF:
		return nil
	case errors.As(err, &syntax), errors.As(err, &typed):
		return fmt.Errorf("an event is not what it should be: %w", err)
	}
	return &outage{err}
}

// apply tells the handler of an event.
func (w *watch[T]) apply(e event) error {
	if e.Type == "ERROR" {
		return eventError(e.Object)
	}
	var item *T
	if err := json.Unmarshal(e.Object, &item); err != nil {
		return fmt.Errorf("the object of a %q event is not what it should be: %w", e.Type, err)
	}
	if item == nil || (*item).Meta().ResourceVersion == "" {
		return fmt.Errorf("the object of a %q event has no resource version", e.Type)
	}
	switch e.Type {
	case "ADDED", "MODIFIED":
		w.put(*item)
	case "DELETED":
		if _, ok := w.known[key(*item)]; ok {
			w.remove(*item)
		}
	case "BOOKMARK":
	default:
		return fmt.Errorf("an event has the unknown type %q", e.Type)
	}
	w.version = (*item).Meta().ResourceVersion
	return nil
}

// eventError returns the error that an ERROR event tells. It always makes the watch list
// again: the server says that from here on it cannot tell what happened.
func eventError(object json.RawMessage) error {
	var s status
	if err := json.Unmarshal(object, &s); err != nil {
		return fmt.Errorf("the object of an ERROR event is not what it should be: %w", err)
	}
	return &lost{s.error(s.Code)}
}

// put tells of an object unless it is known as it is.
func (w *watch[T]) put(item T) {
	k, meta := key(item), item.Meta()
	if old, ok := w.known[k]; ok {
		known := old.Meta()
		if known.ResourceVersion == meta.ResourceVersion {
			return
		}
		if known.UID != meta.UID {
			w.remove(old)
		}
	}
	w.known[k] = item
	if w.handler.Put != nil {
		w.handler.Put(item)
	}
}

// remove tells of the deletion of an object that is known.
func (w *watch[T]) remove(item T) {
	delete(w.known, key(item))
	if w.handler.Delete != nil {
		w.handler.Delete(item)
	}
}

// at returns the path with both queries.
func (w *watch[T]) at(query url.Values) string {
	all := maps.Clone(query)
	for name, values := range w.query {
		if _, ours := all[name]; !ours {
			all[name] = values
		}
	}
	return w.path + "?" + all.Encode()
}

// key is what an object is known by.
func key[T Object](item T) string {
	meta := item.Meta()
	return meta.Namespace + "/" + meta.Name
}
