package main

import (
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"example.com/scheduler"
	"example.com/scheduler/examples/internal/config"
)

// longestName is how long the name of a model may be.
const longestName = 1 << 10

// errNoModel: the request names no model.
var errNoModel = badRequest("the request names no model")

// finder finds the model that a request names, in its query or in its body, while the
// body comes. It keeps no more of that than a name, and goes on to look after it has
// found one: which of two the model would see is not for a proxy to guess, so they are
// refused.
type finder struct {
	name  string // "": not found so far
	found bool   // in the body, from at to to, written as quote writes it
	at    int64
	to    int64
	quote func(name string) string

	streams bool // a JSON body has "stream": true, as far as it has come

	form   form
	choose func(first byte) form // makes form when the body begins
	over   bool                  // there is no more to find
	wrong  error                 // with what names the model
}

// form is how a body is written. It is given the body piece by piece, and tells the
// finder when it comes to a model.
type form interface {
	// feed takes the next piece. An error says why the body has another form.
	feed(piece []byte) error
	// end takes the end of the body. An error says what is missing.
	end() error
}

// newFinder makes the finder of r.
func newFinder(r *http.Request) (*finder, error) {
	f := &finder{}
	for _, name := range r.URL.Query()["model"] {
		if f.name != "" && name != f.name {
			return nil, badRequest("the query names two models")
		}
		if len(name) > longestName {
			return nil, errLongName
		}
		f.name = name
	}
	if e := r.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		f.over = true
		if f.name == "" {
			return nil, badRequest("a body with a Content-Encoding is not read: send it plain")
		}
	}
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil && r.Header.Get("Content-Type") != "" && f.name == "" {
		return nil, badRequest("Content-Type: " + err.Error())
	}
	if kind == "multipart/form-data" && params["boundary"] == "" {
		return nil, badRequest("Content-Type: no boundary")
	}
	f.choose = func(first byte) form {
		// What curl -d sends unless it is told otherwise may well be JSON.
		pairs := kind == "application/x-www-form-urlencoded" && strings.IndexByte("{ \t\r\n", first) < 0
		switch {
		case kind == "multipart/form-data":
			return newPartsForm(f, params["boundary"])
		case pairs:
			return &pairsForm{finder: f}
		}
		return &jsonForm{finder: f}
	}
	return f, nil
}

// errLongName: the name of a model is too long.
var errLongName = badRequest(fmt.Sprintf("the name of the model is longer than %d bytes", longestName))

// see looks at the next piece of the body, and at its end after the last. Once the
// model is known only a second one is wrong with it: the rest is the model's to judge.
func (f *finder) see(piece []byte, last bool) error {
	if f.over || len(piece) == 0 && f.form == nil {
		return nil
	}
	if f.form == nil {
		f.form = f.choose(piece[0])
	}
	err := f.form.feed(piece)
	if err == nil && last && !f.over {
		err = f.form.end()
	}
	if f.wrong != nil {
		return f.wrong
	}
	f.over = f.over || err != nil
	if f.name != "" {
		return nil
	}
	return err
}

// names is called by a form that has come to a model. Where it stands is from at to to.
func (f *finder) names(name string, at, to int64, quote func(string) string) {
	switch {
	case f.found:
		f.wrong = badRequest("the body names a model twice")
	case name == "":
		f.wrong = errNoModel
	case len(name) > longestName:
		f.wrong = errLongName
	case f.name != "" && name != f.name:
		f.wrong = badRequest(fmt.Sprintf("the query names model %q, the body %q", config.Shorten(f.name), config.Shorten(name)))
	}
	f.name, f.found, f.at, f.to, f.quote = name, true, at, to, quote
}

// findModel finds the model that r names. It reads b only as far as it has to.
func findModel(r *http.Request, b *body) (*finder, error) {
	f, err := newFinder(r)
	if err != nil {
		return nil, err
	}
	b.see = f.see
	b.mu.Lock()
	for err = b.end; err == nil && !f.found && !f.over; {
		err = b.ahead()
	}
	b.mu.Unlock()
	switch {
	case err != nil && err != io.EOF:
		return nil, err
	case f.name != "":
		return f, nil
	case f.form == nil && !f.over:
		return nil, badRequest("the body is empty")
	}
	return nil, errNoModel
}

// rename makes r, whose body is b, name another model, and changes the length with it.
func (f *finder) rename(r *http.Request, b *body, name string) {
	if name == f.name {
		return
	}
	if q := r.URL.Query(); q.Has("model") {
		q.Set("model", name)
		r.URL.RawQuery = q.Encode()
	}
	if !f.found {
		return
	}
	text := f.quote(name)
	b.replace(f.at, f.to, text)
	if r.ContentLength >= 0 {
		r.ContentLength += int64(len(text)) - (f.to - f.at)
		r.Header.Set("Content-Length", strconv.FormatInt(r.ContentLength, 10))
	}
}

// splitUpstream splits the path of /upstream/MODEL/REST, which is escaped as it came,
// and so is the rest. Names may have slashes, escaped or not: the longest that is
// known counts.
//
// The rest never leads out of the base path of the model's URL, whatever it is that
// the model takes for a slash.
func splitUpstream(cfg *config.Config, path string) (model, rest string, err error) {
	path = strings.TrimPrefix(path, "/upstream/")
	end := len(path)
	if end > 3*longestName { // No name is that long, and each try costs its length.
		end = strings.LastIndexByte(path[:3*longestName], '/')
	}
	for ; end > 0; end = strings.LastIndexByte(path[:end], '/') {
		name, err := url.PathUnescape(path[:end])
		model, ok := cfg.Resolve(name)
		if err != nil || !ok {
			continue
		}
		rest = "/" + strings.TrimPrefix(path[end:], "/")
		plain, err := url.PathUnescape(rest)
		if err != nil || slices.ContainsFunc(strings.FieldsFunc(plain, isSlash), leadsOut) {
			return "", "", badRequest(`the path must not have ".."`)
		}
		return model, unfit.ReplaceAllStringFunc(rest, url.PathEscape), nil
	}
	name, _, _ := strings.Cut(path, "/")
	return "", "", fmt.Errorf("%w: %q", scheduler.ErrModelNotFound, name)
}

// unfit is what no URL has in its path unless it is escaped.
var unfit = regexp.MustCompile(`[^!$%&'()*+,;=:@/A-Za-z0-9._~\[\]-]`)

func isSlash(r rune) bool { return r == '/' || r == '\\' }

// leadsOut reports whether a part of a path goes up, with parameters or without.
func leadsOut(part string) bool { return part == ".." || strings.HasPrefix(part, "..;") }
