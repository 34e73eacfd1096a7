package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"example.com/scheduler"
)

// found is the model that a request names, and what had to be read of the body to
// find it.
type found struct {
	name   string
	prefix []byte // of the body
	at, to int    // where in prefix the name stands, as it is written there
	quote  func(name string) ([]byte, error)
}

// errNoModel: the request names no model.
var errNoModel = badRequest("the request names no model")

// findModel finds the model that r names: in its JSON body, its form, or its query.
// It reads the body only as far as it has to. Of a key that comes twice the first
// counts. An error of body itself is returned as it is.
func findModel(r *http.Request, body io.Reader) (*found, error) {
	if name := r.URL.Query().Get("model"); name != "" {
		return &found{name: name}, nil
	}
	if e := r.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return nil, badRequest("a body with a Content-Encoding is not read: send it plain")
	}
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil && r.Header.Get("Content-Type") != "" {
		return nil, badRequest("Content-Type: " + err.Error())
	}
	var read bytes.Buffer
	source := &source{from: io.TeeReader(body, &read)}
	f := &found{quote: func(name string) ([]byte, error) { return []byte(name), nil }}
	switch kind {
	case "multipart/form-data":
		err = f.inParts(source, &read, params["boundary"])
	case "application/x-www-form-urlencoded":
		// What curl -d sends unless it is told otherwise may well be JSON.
		err = f.inFormOrJSON(source, &read)
	default:
		err = f.inJSON(source, &read)
	}
	f.prefix = read.Bytes()
	switch {
	case source.err != nil && !errors.Is(source.err, io.EOF):
		return nil, source.err
	case err != nil:
		return nil, err
	case f.name == "":
		return nil, errNoModel
	}
	return f, nil
}

// source remembers how a reader ended, since parsers wrap or hide it.
type source struct {
	from io.Reader
	err  error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.from.Read(p)
	if err != nil {
		s.err = err
	}
	return n, err
}

// inJSON finds the top-level "model" of a JSON object.
func (f *found) inJSON(body io.Reader, read *bytes.Buffer) error {
	d := json.NewDecoder(body)
	if t, err := d.Token(); err == io.EOF {
		return badRequest("the body is empty")
	} else if err != nil {
		return malformed(err)
	} else if t != json.Delim('{') {
		return badRequest("the body is not a JSON object")
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return malformed(err)
		}
		before := d.InputOffset()
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return malformed(err)
		}
		if key != "model" {
			continue
		}
		if json.Unmarshal(value, &f.name) != nil || value[0] != '"' {
			return badRequest(`"model" is not a string`)
		}
		f.to = int(d.InputOffset())
		f.at = f.to - len(value)
		if f.at < int(before) || f.to > read.Len() {
			return badRequest("the body is not a JSON object")
		}
		f.quote = func(name string) ([]byte, error) { return json.Marshal(name) }
		return nil
	}
	if _, err := d.Token(); err != nil {
		return malformed(err)
	}
	return errNoModel
}

// malformed says what is wrong with JSON.
func malformed(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return badRequest("the JSON body ends too early")
	}
	return badRequest("the body is not JSON: " + err.Error())
}

// inFormOrJSON finds the model in a URL-encoded form, or in JSON that is sent as
// one.
func (f *found) inFormOrJSON(body io.Reader, read *bytes.Buffer) error {
	var first [1]byte
	if _, err := io.ReadFull(body, first[:]); err != nil {
		return badRequest("the body is empty")
	}
	if first[0] == '{' || first[0] == ' ' || first[0] == '\n' || first[0] == '\r' || first[0] == '\t' {
		return f.inJSON(io.MultiReader(bytes.NewReader(first[:]), body), read)
	}
	if _, err := io.Copy(io.Discard, body); err != nil {
		return badRequest("the body cannot be read")
	}
	at := 0
	for pair := range strings.SplitSeq(read.String(), "&") {
		if key, value, _ := strings.Cut(pair, "="); key == "model" {
			name, err := url.QueryUnescape(value)
			if err != nil {
				return badRequest("form: " + err.Error())
			}
			f.name, f.at, f.to = name, at+len("model="), at+len(pair)
			f.quote = func(name string) ([]byte, error) { return []byte(url.QueryEscape(name)), nil }
			return nil
		}
		at += len(pair) + 1
	}
	if !bytes.Contains(read.Bytes(), []byte("=")) {
		return badRequest("the body is not JSON, and not a form")
	}
	return errNoModel
}

// longestName is how long the value of a "model" part may be.
const longestName = 1 << 10

// inParts finds the part "model" of a multipart form.
func (f *found) inParts(body io.Reader, read *bytes.Buffer, boundary string) error {
	if boundary == "" {
		return badRequest("Content-Type: no boundary")
	}
	form := multipart.NewReader(body, boundary)
	for i := 0; ; i++ {
		part, err := form.NextRawPart()
		if err == io.EOF {
			return errNoModel
		} else if err != nil {
			return badRequest("multipart form: " + err.Error())
		}
		if part.FormName() != "model" {
			continue
		}
		value, err := io.ReadAll(io.LimitReader(part, longestName+1))
		if err != nil {
			return badRequest("multipart form: " + err.Error())
		}
		if len(value) > longestName {
			return badRequest(`multipart form: "model" is too long`)
		}
		f.name = string(value)
		f.at, f.to = locate(read.Bytes(), boundary, i, value)
		if f.to == 0 {
			f.quote = func(string) ([]byte, error) {
				return nil, badRequest(`multipart form: "model" cannot be replaced`)
			}
		}
		return nil
	}
}

// locate returns where in body the content of the i-th part stands, which is value.
// It is what ends at the delimiter after the part.
func locate(body []byte, boundary string, i int, value []byte) (at, to int) {
	dashes := []byte("--" + boundary)
	end := 0 // of the last delimiter
	for ended := -1; ended <= i; {
		next := bytes.Index(body[end:], dashes)
		if next < 0 {
			return 0, 0
		}
		to = end + next
		end = to + len(dashes)
		if delimits(body[:to], body[end:], ended < 0) {
			ended++
		}
	}
	to -= len("\r\n")
	at = to - len(value)
	if at < 0 || !bytes.Equal(body[at:to], value) {
		return 0, 0
	}
	return at, to
}

// delimits reports whether a boundary that stands between before and after begins a
// part or ends one: a file may hold it too. Before the first part it has to be a line
// of its own.
func delimits(before, after []byte, first bool) bool {
	if first {
		return (len(before) == 0 || bytes.HasSuffix(before, []byte("\n"))) &&
			bytes.HasPrefix(bytes.TrimLeft(after, " \t"), []byte("\r\n"))
	}
	return bytes.HasSuffix(before, []byte("\r\n")) &&
		(len(after) == 0 || strings.IndexByte(" \t\r\n", after[0]) >= 0 || bytes.HasPrefix(after, []byte("--")))
}

// rename makes r, whose body begins with f.prefix, name another model. The prefix
// is changed, and the length with it.
func (f *found) rename(r *http.Request, name string) error {
	if name == f.name {
		return nil
	}
	if q := r.URL.Query(); q.Get("model") == f.name {
		q.Set("model", name)
		r.URL.RawQuery = q.Encode()
	}
	if f.to == 0 && len(f.prefix) == 0 {
		return nil // It stood in the query.
	}
	text, err := f.quote(name)
	if err != nil {
		return err
	}
	longer := len(text) - (f.to - f.at)
	f.prefix = append(append(append(make([]byte, 0, len(f.prefix)+longer), f.prefix[:f.at]...), text...), f.prefix[f.to:]...)
	if r.ContentLength >= 0 {
		r.ContentLength += int64(longer)
		r.Header.Set("Content-Length", strconv.FormatInt(r.ContentLength, 10))
	}
	return nil
}

// splitUpstream splits the path of /upstream/MODEL/REST, which is escaped as it came,
// and so is the rest. Names may have slashes, escaped or not: the longest that is
// known counts.
//
// The rest never leads out of the base path of the model's URL, whatever it is that
// the model takes for a slash.
func splitUpstream(cfg *config, path string) (model, rest string, err error) {
	path = strings.TrimPrefix(path, "/upstream/")
	end := len(path)
	if end > 3*longestName { // No name is that long, and each try costs its length.
		end = strings.LastIndexByte(path[:3*longestName], '/')
	}
	for ; end > 0; end = strings.LastIndexByte(path[:end], '/') {
		name, err := url.PathUnescape(path[:end])
		model, ok := cfg.resolve(name)
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
