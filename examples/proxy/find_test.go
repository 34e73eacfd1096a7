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
	"net/http/httptest"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"example.com/scheduler"
	"example.com/scheduler/examples/internal/config"
)

const formType = "application/x-www-form-urlencoded"

// namingRequest makes a request whose body is elsewhere.
func namingRequest(kind string, length int) *http.Request {
	r := httptest.NewRequest("POST", "/v1/completions?n=1", nil)
	r.ContentLength = int64(length)
	r.Header.Set("Content-Length", strconv.Itoa(length))
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	return r
}

// bodyOf makes the body of r that comes from a reader, with room for all of it.
func bodyOf(r *http.Request, from io.Reader) *body {
	f := &front{stalled: patience}
	r.Body = io.NopCloser(from)
	return f.newBody(httptest.NewRecorder(), r, &config.Config{MaxBody: 64 << 20, MaxHeld: 64 << 20})
}

// findIn finds the model in a body, and returns what a model would then read.
func findIn(kind, body string) (f *finder, passed string, err error) {
	r := namingRequest(kind, len(body))
	b := bodyOf(r, strings.NewReader(body))
	if f, err = findModel(r, b); err != nil {
		return f, "", err
	}
	text, err := io.ReadAll(b)
	return f, string(text), err
}

// parts makes a multipart form with the boundary B. A name with a slash is a file.
func parts(pairs ...string) string {
	var b strings.Builder
	for i := 0; i < len(pairs); i += 2 {
		name, file, isFile := strings.Cut(pairs[i], "/")
		fmt.Fprintf(&b, "--B\r\nContent-Disposition: form-data; name=%q", name)
		if isFile {
			fmt.Fprintf(&b, "; filename=%q\r\nContent-Type: audio/wav", file)
		}
		fmt.Fprintf(&b, "\r\n\r\n%s\r\n", pairs[i+1])
	}
	return b.String() + "--B--\r\n"
}

const partsType = `multipart/form-data; boundary=B`

// modelInFile is a file that holds what looks like a part, but begins no line.
const modelInFile = "RIFF--B\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\na\r\n--BB\r\n--B-\r\n\n--B\nx"

var findTests = []struct {
	name, kind, body string
	model            string
	err              string // part of it
}{
	{"first", "application/json", `{"model":"a","x":1}`, "a", ""},
	{"last", "application/json; charset=utf-8", `{"x":[1,{"y":2}],"z":null, "model" : "a" }`, "a", ""},
	{"no type", "", `{"model":"a"}`, "a", ""},
	{"space around", "", " \r\n\t{ \"model\"\n:\t\"a\" } ", "a", ""},
	{"nested first", "", `{"x":{"model":"b"},"y":[{"model":"c"}],"z":"model","model":"a"}`, "a", ""},
	{"only nested", "", `{"x":{"model":"b"}}`, "", "names no model"},
	{"as a value", "", `{"x":"model","y":"a"}`, "", "names no model"},
	{"escapes", "", `{"x":"\"model\":\"b\"","model":"\u00fc\n\"\ud83d\ude00\/"}`, "ü\n\"😀/", ""},
	{"escaped key", "", `{"m\u006fdel":"a"}`, "a", ""},
	{"lone surrogate", "", `{"model":"\ud83d"}`, "\uFFFD", ""},
	{"not UTF-8", "", "{\"model\":\"\xff\"}", "\uFFFD", ""},
	{"twice", "", `{"model":"a","model":"b"}`, "", "twice"},
	{"twice, the same", "", `{"model":"a","x":1,"m\u006fdel":"a"}`, "", "twice"},
	{"twice, not a string", "", `{"model":"a","model":1}`, "", "not a string"},
	{"twice, far apart", "", `{"model":"a","x":"` + strings.Repeat("x", 1<<20) + `","model":"b"}`, "", "twice"},
	{"once more below", "", `{"model":"a","x":{"model":"b"},"y":[{"model":"c"}]}`, "a", ""},
	{"twice, the first empty", "", `{"model":"","model":"b"}`, "", "names no model"},
	{"other case", "", `{"Model":"b","MODEL":"c","model":"a"}`, "a", ""},
	{"only other case", "", `{"Model":"b"}`, "", "names no model"},
	{"a number", "", `{"model":1}`, "", "not a string"},
	{"null", "", `{"model":null}`, "", "not a string"},
	{"an object", "", `{"model":{"model":"a"}}`, "", "not a string"},
	{"an array", "", `{"model":["a"]}`, "", "not a string"},
	{"empty name", "", `{"model":""}`, "", "names no model"},
	{"no keys", "", `{}`, "", "names no model"},
	{"no body", "", ``, "", "empty"},
	{"only space", "", " \n", "", "empty"},
	{"cut in a key", "", `{"mod`, "", "ends too early"},
	{"cut after a key", "", `{"model"`, "", "ends too early"},
	{"cut in the name", "", `{"model":"a`, "", "ends too early"},
	{"cut after a value", "", `{"x":1`, "", "ends too early"},
	{"cut in a value", "", `{"x":"\`, "", "ends too early"},
	{"cut after a comma", "", `{"x":1,`, "", "ends too early"},
	{"cut after the name", "", `{"model":"a"`, "", "ends too early"},
	{"cut after its member", "", `{"model":"a",`, "a", ""},
	{"nonsense after the name", "", `{"model":"a"],`, "", "not JSON"},
	{"nonsense after its member", "", `{"model":"a",]`, "a", ""},
	{"escaped key, much space", "", `{"model":"a","m\u006fdel"` + strings.Repeat(" ", 1<<16) + `:"b"}`, "", "twice"},
	{"nonsense before the name", "", `{"x":tru,"model":"a"}`, "", "not JSON"},
	{"no comma", "", `{"x":1 "model":"a"}`, "", "not JSON"},
	{"no colon", "", `{"model" "a"}`, "", "not JSON"},
	{"number as a key", "", `{1:2,"model":"a"}`, "", "not JSON"},
	{"array", "", `[{"model":"a"}]`, "", "not a JSON object"},
	{"string", "", `"model"`, "", "not a JSON object"},
	{"text", "text/plain", `model=a`, "", "not JSON"},
	{"byte order mark", "", "\uFEFF" + `{"model":"a"}`, "", "not JSON"},
	{"huge value first", "", `{"x":"` + strings.Repeat("x", 1<<20) + `","model":"a"}`, "a", ""},
	{"huge number first", "", `{"x":1` + strings.Repeat("0", 1<<16) + `,"model":"a"}`, "a", ""},
	{"huge key first", "", `{"` + strings.Repeat("x", 1<<20) + `":1,"model":"a"}`, "a", ""},
	{"name at its longest", "", `{"model":"` + strings.Repeat(`\u0061`, longestName) + `"}`, strings.Repeat("a", longestName), ""},
	{"name too long", "", `{"model":"` + strings.Repeat("x", longestName+1) + `"}`, "", "longer than"},
	{"huge name", "", `{"model":"` + strings.Repeat("x", 1<<16) + `"}`, "", "longer than"},
	{"deep first", "", `{"x":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `,"model":"a"}`, "a", ""},
	{"deep and cut", "", `{"x":` + strings.Repeat("[", 1<<20), "", "ends too early"},
	{"deep name", "", `{"model":` + strings.Repeat(`{"model":`, 1<<20), "", "ends too early"},

	{"part first", partsType, parts("model", "a", "file/x.wav", "RIFF"), "a", ""},
	{"part last", partsType, parts("n", "1", "file/x.wav", "RIFF\r\n\r\n\x00", "model", "a"), "a", ""},
	{"part twice", partsType, parts("model", "a", "model", "b"), "", "twice"},
	{"part twice, far apart", partsType, parts("model", "a", "file/x.wav", strings.Repeat("x", 1<<20), "model", "a"), "", "twice"},
	{"part after another name", partsType, parts("models", "b", "model", "a", "model2", "b"), "a", ""},
	{"part after a preamble", partsType, "--B is the boundary\r\n--Bye\r\n" + parts("model", "a"), "a", ""},
	{"part with mere line feeds", partsType, strings.ReplaceAll(parts("model", "a"), "\r\n", "\n"), "", "multipart form"},
	{"part without a head", partsType, "--B\r\n\r\nx\r\n" + parts("model", "a"), "a", ""},
	{"part without anything", partsType, "--B\r\n\r\n" + parts("model", "a"), "a", ""},
	{"part with a long head", partsType, "--B\r\nX: " + strings.Repeat("x", longestHead), "", "too long"},
	{"delimiter with more in its line", partsType, "--B\r\n\r\n\r\n--B x\r\n" + parts("model", "a"), "", "delimiter"},
	{"space after the boundary", partsType, strings.ReplaceAll(parts("n", "1", "model", "a"), "--B\r\n", "--B \t\r\n"), "a", ""},
	{"part missing", partsType, parts("n", "1", "file/model", "model"), "", "names no model"},
	{"part empty", partsType, parts("model", ""), "", "names no model"},
	{"part at its longest", partsType, parts("model", strings.Repeat("x", longestName)), strings.Repeat("x", longestName), ""},
	{"part too long", partsType, parts("model", strings.Repeat("x", longestName+1)), "", "longer than"},
	{"part in a file", partsType, parts("file/x.wav", modelInFile), "", "names no model"},
	{"part after that file", partsType, parts("file/x.wav", modelInFile, "model", "a", "n", "a"), "a", ""},
	{"part before that file", partsType, parts("model", "a", "file/x.wav", modelInFile), "a", ""},
	{"part encoded", partsType, "--B\r\nContent-Disposition: form-data; name=model\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=61\r\n--B--", "=61", ""},
	{"part cut", partsType, "--B\r\nContent-Disposition: form-data; name=model\r\n\r\na\r\n--", "", "multipart form"},
	{"head cut", partsType, "--B\r\nContent-Dispo", "", "multipart form"},
	{"no parts", partsType, "--B--\r\n", "", "names no model"},
	{"no boundary in it", partsType, `{"model":"a"}`, "", "multipart form"},
	{"no boundary", "multipart/form-data", parts("model", "a"), "", "no boundary"},
	{"bad type", "multipart/form-data; boundary=", parts("model", "a"), "", "Content-Type"},

	{"form", formType, "model=a&n=1", "a", ""},
	{"form last", formType, "n=1&xmodel=b&model=a", "a", ""},
	{"form escapes", formType, "n=%26model%3Db&model=org%2Fa+b", "org/a b", ""},
	{"form twice", formType, "model=a&model=b", "", "twice"},
	{"form twice, far apart", formType, "model=a&x=" + strings.Repeat("x", 1<<15) + "&mod%65l=b", "", "twice"},
	{"form with a long name", formType, "model=" + strings.Repeat("x", longestName+1) + "&n=1", "", "longer than"},
	{"form with a longest name", formType, "n=1&model=" + strings.Repeat("%61", longestName), strings.Repeat("a", longestName), ""},
	{"form that is long", formType, "model=a&x=" + strings.Repeat("x", longestPairs), "", "longer than"},
	{"form without", formType, "n=1", "", "names no model"},
	{"form without value", formType, "model", "", "not a form"},
	{"form with an empty value", formType, "model=&n=1", "", "names no model"},
	{"form with a bad escape", formType, "model=%zz", "", "form: "},
	{"form empty", formType, "", "", "empty"},
	{"curl -d", formType, `{"x":"&model=b","model":"a"}`, "a", ""},
	{"curl -d @file", formType, "\n {\"model\":\"a\"}\n", "a", ""},
	{"curl -d, cut", formType, `{"model":`, "", "ends too early"},
}

// TestFind: what is found, and that nothing of the body is lost.
func TestFind(t *testing.T) {
	for _, tt := range findTests {
		t.Run(tt.name, func(t *testing.T) {
			f, passed, err := findIn(tt.kind, tt.body)
			if tt.err != "" {
				var bad badRequestError
				if !errors.As(err, &bad) || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("%v, not an error of %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if f.name != tt.model {
				t.Errorf("found %q, not %q", f.name, tt.model)
			}
			if passed != tt.body {
				t.Error("the body has changed")
			}
		})
	}
}

// TestFindInPieces: how the body arrives does not matter.
func TestFindInPieces(t *testing.T) {
	for _, tt := range findTests {
		if len(tt.body) > 1<<12 {
			continue
		}
		r := namingRequest(tt.kind, len(tt.body))
		b := bodyOf(r, iotest.DataErrReader(iotest.OneByteReader(strings.NewReader(tt.body))))
		f, err := findModel(r, b)
		if err == nil {
			_, err = io.Copy(io.Discard, b)
		}
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%s: %v", tt.name, err)
			}
		} else if err != nil || f.name != tt.model {
			t.Errorf("%s: %v, %v", tt.name, f, err)
		}
	}
}

// TestFindInQuery: what the query names goes, unless the body names another. A body that
// cannot be read is not looked at.
func TestFindInQuery(t *testing.T) {
	long := strings.Repeat("x", longestName+1)
	for _, tt := range []struct{ query, kind, coding, body, model, err string }{
		{"n=1&model=org%2Fa", "", "gzip", "\x1f\x8b", "org/a", ""},
		{"model=a", "", "", "", "a", ""},
		{"model=a", "audio/wav", "", "RIFF", "a", ""},
		{"model=a", "", "", `{"x":1}`, "a", ""},
		{"model=a", "", "", `{"x":`, "a", ""},
		{"model=a", "", "", `{"model":"a"}`, "a", ""},
		{"model=a", "", "", `{"model":"b"}`, "", "the query names"},
		{"model=a", "", "", `{"x":"` + long + `","model":"b"}`, "", "the query names"},
		{"model=a", formType, "", `model=b`, "", "the query names"},
		{"model=a", partsType, "", parts("file/x", long, "model", "b"), "", "the query names"},
		{"model=a&model=b", "", "", "", "", "two models"},
		{"model=a&model=a", "", "", "", "a", ""},
		{"model=" + long, "", "", "", "", "longer than"},
	} {
		r := namingRequest(tt.kind, len(tt.body))
		r.URL.RawQuery = tt.query
		r.Header.Set("Content-Encoding", tt.coding)
		f, err := findModel(r, bodyOf(r, strings.NewReader(tt.body)))
		if tt.err != "" {
			var bad badRequestError
			if !errors.As(err, &bad) || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%s, %.60q: %v, not an error of %q", tt.query, tt.body, err, tt.err)
			}
		} else if err != nil || f.name != tt.model {
			t.Errorf("%s, %.60q: %+v, %v", tt.query, tt.body, f, err)
		}
	}
}

func TestFindEncoded(t *testing.T) {
	for coding, ok := range map[string]bool{"gzip": false, "br": false, "Identity": true, "": true} {
		r := namingRequest("", 0)
		r.Header.Set("Content-Encoding", coding)
		_, err := findModel(r, bodyOf(r, strings.NewReader(`{"model":"a"}`)))
		if ok != (err == nil) {
			t.Errorf("%q: %v", coding, err)
		}
	}
}

// TestFindReadsNoFurther than the piece in which the name ends.
func TestFindReadsNoFurther(t *testing.T) {
	for kind, piece := range map[string]string{
		"application/json": `{"n":1,"model":"a",`,
		formType:           `{"n":1,"model":"a",`,
		partsType:          strings.TrimSuffix(parts("n", "1", "model", "a"), "--\r\n") + "\r\nContent",
	} {
		body := io.MultiReader(strings.NewReader(piece), iotest.ErrReader(errors.New("read too far")))
		r := namingRequest(kind, 1<<20)
		b := bodyOf(r, body)
		f, err := findModel(r, b)
		if err != nil || f.name != "a" || len(b.held) != 1 || string(b.held[0]) != piece {
			t.Errorf("%s: %+v, %q, %v", kind, f, b.held, err)
		}
	}
}

// TestFindBroken: an error of the connection stays what it is.
func TestFindBroken(t *testing.T) {
	broken := &http.MaxBytesError{Limit: 7}
	for kind, piece := range map[string]string{
		"application/json": `{"n":1,"mod`, formType: `model=a`, partsType: "--B\r\nContent",
	} {
		body := io.MultiReader(strings.NewReader(piece), iotest.ErrReader(broken))
		r := namingRequest(kind, 1<<20)
		if _, err := findModel(r, bodyOf(r, body)); err != broken {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

// TestRename: the body differs in the name only, and its length is told.
func TestRename(t *testing.T) {
	const name = `org/ü "b" & c`
	quoted := map[string]string{"": `"org/ü \"b\" \u0026 c"`, partsType: name, formType: url.QueryEscape(name)}
	for _, tt := range []struct{ name, kind, body, text, want string }{
		{"JSON", "", `{"n":1, "model" : %s , "x":"a"}`, `"a"`, ""},
		{"JSON escapes", "", `{"a":"a","model":%s,"Model":"a"}`, `"\u0061\/"`, ""},
		{"JSON after much", "", `{"a":"` + strings.Repeat("a", 1<<18) + `","model":%s,"x":"` + strings.Repeat("a", 1<<18) + `"}`, `"a"`, ""},
		{"parts", partsType, parts("n", "1", "model", "%s", "x", "a"), "a", ""},
		{"parts after a preamble", partsType, "a\r\n" + parts("model", "%s", "x", "a"), "a", ""},
		{"parts after a file", partsType, parts("f/x", modelInFile, "model", "%s", "x", "a"), "a", ""},
		{"parts, a name of lines", partsType, parts("f/x", "\r\n\r\na", "model", "%s", "x", "a"), "\r\n\r\na", ""},
		{"form", formType, "n=1&model=%s&x=a", "a%2f", ""},
	} {
		body := strings.Replace(tt.body, "%s", tt.text, 1)
		r := namingRequest(tt.kind, len(body))
		b := bodyOf(r, strings.NewReader(body))
		f, err := findModel(r, b)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		f.rename(r, b, name)
		want := strings.Replace(tt.body, "%s", quoted[tt.kind], 1)
		if got, err := io.ReadAll(b); string(got) != want || err != nil {
			t.Errorf("%s:\n%q, not\n%q, %v", tt.name, got, want, err)
		}
		if r.ContentLength != int64(len(want)) || r.Header.Get("Content-Length") != strconv.Itoa(len(want)) {
			t.Errorf("%s: length %d, %s, not %d", tt.name, r.ContentLength, r.Header.Get("Content-Length"), len(want))
		}
	}
}

// TestRenameLittle: what need not change does not.
func TestRenameLittle(t *testing.T) {
	for _, tt := range []struct {
		what, query, body string
		length            int64
		name              string
		newQuery, newBody string
		newLength         int64
	}{
		{"the same name, however it is written", "n=1", `{"model":"\u0061"}`, 18, "a", "n=1", `{"model":"\u0061"}`, 18},
		{"an unknown length", "n=1", `{"model":"a"}`, -1, "bc", "n=1", `{"model":"bc"}`, -1},
		{"only in the query", "n=1&model=a", "model", 5, "b c", "model=b+c&n=1", "model", 5},
		{"in both", "model=a", `{"model":"a"}`, 13, "bc", "model=bc", `{"model":"bc"}`, 14},
	} {
		r := namingRequest("", len(tt.body))
		r.URL.RawQuery, r.ContentLength = tt.query, tt.length
		b := bodyOf(r, strings.NewReader(tt.body))
		f, err := findModel(r, b)
		if err != nil {
			t.Fatal(err)
		}
		f.rename(r, b, tt.name)
		got, err := io.ReadAll(b)
		if r.URL.RawQuery != tt.newQuery || string(got) != tt.newBody || err != nil || r.ContentLength != tt.newLength {
			t.Errorf("%s: %q, %q, %v, %d", tt.what, r.URL.RawQuery, got, err, r.ContentLength)
		}
	}
}

func TestSplitUpstream(t *testing.T) {
	cfg := &config.Config{Models: config.Models{
		"a": {Aliases: []string{"x/y"}}, "org": {}, "org/a": {Aliases: []string{"gpt"}}, "ü b": {}, "deep/er/x": {},
	}}
	for _, m := range cfg.Models {
		m.Command = []string{"true"}
	}
	if err := cfg.Complete(); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ path, model, rest string }{
		{"a", "a", "/"},
		{"a/", "a", "/"},
		{"a/v1/chat", "a", "/v1/chat"},
		{"a//v1", "a", "//v1"},
		{"a/v1%2Fchat%2fx", "a", "/v1%2Fchat%2fx"},
		{"a/x%2Fy\"<ü", "a", "/x%2Fy%22%3C%C3%BC"},
		{"a/./v1/...", "a", "/./v1/..."},
		{"a%2Fv1", "", ""},
		{strings.Repeat("a/", 20_000), "a", "/" + strings.Repeat("a/", 19_999)},
		{"a/org/a", "a", "/org/a"},
		{"org/b", "org", "/b"},
		{"org/a", "org/a", "/"},
		{"org/a/b/", "org/a", "/b/"},
		{"org%2Fa/v1", "org/a", "/v1"},
		{"%C3%BC%20b/x%20y", "ü b", "/x%20y"},
		{"x/y/z", "a", "/z"},
		{"gpt/v1", "org/a", "/v1"},
		{"deep/er/x/v1", "deep/er/x", "/v1"},
		{"deep/er", "", ""},
		{"ab/v1", "", ""},
		{"A/v1", "", ""},
		{"/a", "", ""},
		{"", "", ""},
	} {
		u, err := url.Parse("/upstream/" + tt.path)
		if err != nil {
			t.Fatal(err)
		}
		model, rest, err := splitUpstream(cfg, rawPath(u))
		if model != tt.model || rest != tt.rest || errors.Is(err, scheduler.ErrModelNotFound) != (tt.model == "") {
			t.Errorf("%s: %q, %q, %v", tt.path, model, rest, err)
		}
	}
}

// TestSplitUpstreamStaysInside: no way of writing ".." leads out of the base path.
func TestSplitUpstreamStaysInside(t *testing.T) {
	cfg := &config.Config{Models: config.Models{"a": {}}}
	for _, rest := range []string{
		"..", "../", "x/../../y", "%2e%2e/x", "x/%2E./y", "x%2F..%2fy", "x%2f%2e%2e", `..\x`, "x%5C..%5cy", "..;a=b/x", "..%3b/x",
	} {
		var bad badRequestError
		if model, _, err := splitUpstream(cfg, "/upstream/a/"+rest); !errors.As(err, &bad) {
			t.Errorf("%s: %q, %v", rest, model, err)
		}
	}
	if _, rest, err := splitUpstream(cfg, "/upstream/a/%252e%252e/..x/x.."); err != nil || rest != "/%252e%252e/..x/x.." {
		t.Errorf("%q, %v", rest, err)
	}
}

// modelKeys returns the keys of a JSON object that might be taken for "model".
func modelKeys(body []byte) (keys []string) {
	d := json.NewDecoder(bytes.NewReader(body))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil
	}
	for d.More() {
		key, err := d.Token()
		var value json.RawMessage
		if err != nil || d.Decode(&value) != nil {
			return keys
		}
		if key := key.(string); strings.EqualFold(key, "model") {
			keys = append(keys, key)
		}
	}
	return keys
}

// renamed finds the model in a body, gives it another name, and returns what a model
// would then read.
func renamed(t *testing.T, kind, body, name string) string {
	r := namingRequest(kind, len(body))
	b := bodyOf(r, strings.NewReader(body))
	f, err := findModel(r, b)
	if err != nil {
		t.Fatal(err)
	}
	f.rename(r, b, name)
	text, err := io.ReadAll(b)
	if err != nil || r.ContentLength != int64(len(text)) {
		t.Fatalf("%q: %v, length %d, not %d", text, err, r.ContentLength, len(text))
	}
	return string(text)
}

// FuzzFind compares with what decoding the whole body finds, and changes the name
// and back.
func FuzzFind(f *testing.F) {
	for _, tt := range findTests {
		if tt.kind != partsType && len(tt.body) < 1<<10 {
			f.Add([]byte(tt.body), "b")
		}
	}
	f.Fuzz(func(t *testing.T, body []byte, name string) {
		name = strings.ToValidUTF8(name, "?")
		f, passed, err := findIn("application/json", string(body))
		keys := modelKeys(body)
		if json.Valid(body) && (len(keys) == 0 || len(keys) == 1 && keys[0] == "model") {
			var whole struct{ Model string }
			if json.Unmarshal(body, &whole) != nil || len(whole.Model) > longestName {
				whole.Model = ""
			}
			if (err == nil) != (whole.Model != "") || err == nil && f.name != whole.Model {
				t.Fatalf("found %+v, %v, not %q", f, err, whole.Model)
			}
		}
		if json.Valid(body) && slices.Index(keys, "model") != lastIndex(keys, "model") && err == nil {
			t.Fatalf("%q names a model twice", body)
		}
		if err != nil {
			return
		}
		if passed != string(body) {
			t.Fatalf("%q is not the body", passed)
		}
		changed := renamed(t, "application/json", string(body), name)
		again, _, err := findIn("application/json", changed)
		if name == "" || len(name) > longestName {
			if err == nil {
				t.Fatalf("%q: %+v", changed, again)
			}
			return
		}
		if err != nil || again.name != name || changed[:again.at] != string(body[:f.at]) || changed[again.to:] != string(body[f.to:]) {
			t.Fatalf("%q: %+v, %v", changed, again, err)
		}
	})
}

// lastIndex is slices.Index from the end.
func lastIndex(list []string, s string) int {
	for i := len(list) - 1; i >= 0; i-- {
		if list[i] == s {
			return i
		}
	}
	return -1
}

// contents returns the contents of all parts, and which of them are named "model".
func contents(body, boundary string) (all []string, models []int, err error) {
	form := multipart.NewReader(strings.NewReader(body), boundary)
	for {
		part, err := form.NextRawPart()
		if err == io.EOF {
			return all, models, nil
		} else if err != nil {
			return all, models, err
		}
		content, err := io.ReadAll(part)
		if err != nil {
			return all, models, err
		}
		if part.FormName() == "model" {
			models = append(models, len(all))
		}
		all = append(all, string(content))
	}
}

// FuzzFindParts: as FuzzFind, with any boundary and a file that may hold it.
func FuzzFindParts(f *testing.F) {
	f.Add("B", "RIFF", "a", false)
	f.Add("B", modelInFile, "a", true)
	f.Add("B", "x\r\n--B\r\nContent-Disposition: form-data; name=model\r\n\r\n", "a", true)
	f.Add("B", "--B\r\nContent-Disposition: form-data; name=model\r\n\r\n", "a", false)
	f.Add("--", "--\r\n----\r\n\r\n", "--", true)
	f.Add("b b", "\r\n--b", "\r\n--b bb", false)
	f.Fuzz(func(t *testing.T, boundary, file, name string, fileFirst bool) {
		kind := mime.FormatMediaType("multipart/form-data", map[string]string{"boundary": boundary})
		var b bytes.Buffer
		w := multipart.NewWriter(&b)
		if kind == "" || w.SetBoundary(boundary) != nil {
			t.Skip()
		}
		fields := []string{"model", name, "file", file, "n", "1"}
		if fileFirst {
			fields = []string{"file", file, "model", name, "n", "1"}
		}
		for i := 0; i < len(fields); i += 2 {
			if err := w.WriteField(fields[i], fields[i+1]); err != nil {
				t.Fatal(err)
			}
		}
		w.Close()
		body := b.String()
		plain := !strings.Contains(file+"\n"+name, "--"+boundary) // The form holds what was put in.
		f, passed, err := findIn(kind, body)
		if plain && (err == nil) != (name != "" && len(name) <= longestName) {
			t.Fatalf("%q: %v", body, err)
		}
		if err != nil {
			return
		}
		if plain && f.name != name || passed != body {
			t.Fatalf("%q: %+v, %q", body, f, passed)
		}
		want, models, wantErr := contents(body, boundary)
		if len(models) != 1 || want[models[0]] != f.name {
			t.Fatalf("%q: found %q, not parts %d of %q", body, f.name, models, want)
		}
		want[models[0]] = "new"
		changed := renamed(t, kind, body, "new")
		got, _, gotErr := contents(changed, boundary)
		if !reflect.DeepEqual(got, want) || fmt.Sprint(gotErr) != fmt.Sprint(wantErr) {
			t.Fatalf("%q became %q: %v, %v", body, changed, gotErr, wantErr)
		}
	})
}
