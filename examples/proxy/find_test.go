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
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"example.com/scheduler"
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

// findIn finds the model in a body, and returns what it left of the body.
func findIn(kind, body string) (f *found, rest string, err error) {
	left := strings.NewReader(body)
	f, err = findModel(namingRequest(kind, len(body)), left)
	return f, body[len(body)-left.Len():], err
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
	{"twice", "", `{"model":"a","model":"b"}`, "a", ""},
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
	{"cut after a comma", "", `{"x":1,`, "", "ends too early"},
	{"cut after the name", "", `{"model":"a"`, "a", ""},
	{"nonsense after the name", "", `{"model":"a"]`, "a", ""},
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
	{"huge name", "", `{"model":"` + strings.Repeat("x", 1<<16) + `"}`, strings.Repeat("x", 1<<16), ""},
	{"deep first", "", `{"x":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `,"model":"a"}`, "a", ""},
	{"too deep", "", `{"x":` + strings.Repeat("[", 1<<20), "", "not JSON"},
	{"deep name", "", `{"model":` + strings.Repeat(`{"model":`, 1<<20), "", "not JSON"},

	{"part first", partsType, parts("model", "a", "file/x.wav", "RIFF"), "a", ""},
	{"part last", partsType, parts("n", "1", "file/x.wav", "RIFF\r\n\r\n\x00", "model", "a"), "a", ""},
	{"part twice", partsType, parts("model", "a", "model", "b"), "a", ""},
	{"part after a preamble", partsType, "--B is the boundary\r\n--Bye\r\n" + parts("model", "a"), "a", ""},
	{"part after a mere line feed", partsType, "preamble\n" + parts("model", "a", "model", "b"), "a", ""},
	{"space after the boundary", partsType, strings.ReplaceAll(parts("n", "1", "model", "a"), "--B\r\n", "--B \t\r\n"), "a", ""},
	{"part missing", partsType, parts("n", "1", "file/model", "model"), "", "names no model"},
	{"part empty", partsType, parts("model", ""), "", "names no model"},
	{"part at its longest", partsType, parts("model", strings.Repeat("x", longestName)), strings.Repeat("x", longestName), ""},
	{"part too long", partsType, parts("model", strings.Repeat("x", longestName+1)), "", "too long"},
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
	{"form twice", formType, "model=a&model=b", "a", ""},
	{"form without", formType, "n=1", "", "names no model"},
	{"form without value", formType, "model", "", "names no model"},
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
			f, rest, err := findIn(tt.kind, tt.body)
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
			if string(f.prefix)+rest != tt.body {
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
		body := iotest.DataErrReader(iotest.OneByteReader(strings.NewReader(tt.body)))
		f, err := findModel(namingRequest(tt.kind, len(tt.body)), body)
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%s: %v", tt.name, err)
			}
		} else if err != nil || f.name != tt.model {
			t.Errorf("%s: %v, %v", tt.name, f, err)
		}
	}
}

// TestFindInQuery: the body is not even looked at, whatever its coding.
func TestFindInQuery(t *testing.T) {
	r := namingRequest("", 2)
	r.URL.RawQuery = "n=1&model=org%2Fa"
	r.Header.Set("Content-Encoding", "gzip")
	f, err := findModel(r, iotest.ErrReader(errors.New("was read")))
	if err != nil || f.name != "org/a" || len(f.prefix) != 0 {
		t.Errorf("%+v, %v", f, err)
	}
}

func TestFindEncoded(t *testing.T) {
	for coding, ok := range map[string]bool{"gzip": false, "br": false, "Identity": true, "": true} {
		r := namingRequest("", 0)
		r.Header.Set("Content-Encoding", coding)
		_, err := findModel(r, strings.NewReader(`{"model":"a"}`))
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
		f, err := findModel(namingRequest(kind, 1<<20), body)
		if err != nil || f.name != "a" || string(f.prefix) != piece {
			t.Errorf("%s: %+v, %v", kind, f, err)
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
		if _, err := findModel(namingRequest(kind, 1<<20), body); err != broken {
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
		{"JSON escapes", "", `{"a":"a","model":%s,"model":"a"}`, `"\u0061\/"`, ""},
		{"parts", partsType, parts("n", "1", "model", "%s", "x", "a"), "a", ""},
		{"parts after a preamble", partsType, "a\n" + parts("model", "%s", "model", "a"), "a", ""},
		{"parts after a file", partsType, parts("f/x", modelInFile, "model", "%s", "x", "a"), "a", ""},
		{"parts, a name of lines", partsType, parts("f/x", "\r\n\r\na", "model", "%s", "x", "a"), "\r\n\r\na", ""},
		{"form", formType, "n=1&model=%s&x=a", "a%2f", ""},
	} {
		body := strings.Replace(tt.body, "%s", tt.text, 1)
		r := namingRequest(tt.kind, len(body))
		left := strings.NewReader(body)
		f, err := findModel(r, left)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if err := f.rename(r, name); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		rest := body[len(body)-left.Len():]
		want := strings.Replace(tt.body, "%s", quoted[tt.kind], 1)
		if got := string(f.prefix) + rest; got != want {
			t.Errorf("%s:\n%q, not\n%q", tt.name, got, want)
		}
		if r.ContentLength != int64(len(want)) || r.Header.Get("Content-Length") != strconv.Itoa(len(want)) {
			t.Errorf("%s: length %d, %s, not %d", tt.name, r.ContentLength, r.Header.Get("Content-Length"), len(want))
		}
	}
}

// TestRenameToTheSame changes nothing, not even how the name is written.
func TestRenameToTheSame(t *testing.T) {
	const body = `{"model":"\u0061"}`
	r := namingRequest("", len(body))
	f, err := findModel(r, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.rename(r, "a"); err != nil || string(f.prefix) != body || r.ContentLength != int64(len(body)) {
		t.Errorf("%q, %d, %v", f.prefix, r.ContentLength, err)
	}
}

// TestRenameOfUnknownLength leaves it unknown.
func TestRenameOfUnknownLength(t *testing.T) {
	r := namingRequest("", 0)
	r.ContentLength = -1
	r.Header.Del("Content-Length")
	f, err := findModel(r, strings.NewReader(`{"model":"a"}`))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.rename(r, "bc"); err != nil || string(f.prefix) != `{"model":"bc"}` || r.ContentLength != -1 || r.Header.Get("Content-Length") != "" {
		t.Errorf("%q, %d, %v, %v", f.prefix, r.ContentLength, r.Header, err)
	}
}

// TestRenameInQuery leaves the body alone.
func TestRenameInQuery(t *testing.T) {
	r := namingRequest("", 5)
	r.URL.RawQuery = "model=a&n=1"
	f, err := findModel(r, strings.NewReader("model"))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.rename(r, "b c"); err != nil {
		t.Fatal(err)
	}
	want := url.Values{"model": {"b c"}, "n": {"1"}}
	if !reflect.DeepEqual(r.URL.Query(), want) || len(f.prefix) != 0 || r.ContentLength != 5 {
		t.Errorf("%v, %q, %d", r.URL.Query(), f.prefix, r.ContentLength)
	}
}

// TestRenameRefused: parts whose lines end in a mere line feed are read, but not
// changed.
func TestRenameRefused(t *testing.T) {
	body := strings.ReplaceAll(parts("model", "a"), "\r\n", "\n")
	f, _, err := findIn(partsType, body)
	if err != nil || f.name != "a" {
		t.Fatalf("%+v, %v", f, err)
	}
	var bad badRequestError
	if err := f.rename(namingRequest(partsType, len(body)), "b"); !errors.As(err, &bad) || string(f.prefix) != body {
		t.Errorf("%q, %v", f.prefix, err)
	}
}

func TestSplitUpstream(t *testing.T) {
	cfg := &config{
		Models:  modelConfigs{"a": {}, "org": {}, "org/a": {}, "ü b": {}, "deep/er/x": {}},
		aliases: map[string]string{"x/y": "a", "gpt": "org/a"},
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
	cfg := &config{Models: modelConfigs{"a": {}}}
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
		f, rest, err := findIn("application/json", string(body))
		keys := modelKeys(body)
		if json.Valid(body) && len(keys) <= 1 && (len(keys) == 0 || keys[0] == "model") {
			var whole struct{ Model string }
			if json.Unmarshal(body, &whole) != nil {
				whole.Model = ""
			}
			if (err == nil) != (whole.Model != "") || err == nil && f.name != whole.Model {
				t.Fatalf("found %+v, %v, not %q", f, err, whole.Model)
			}
		}
		if err != nil {
			return
		}
		if string(f.prefix)+rest != string(body) {
			t.Fatalf("%q + %q is not the body", f.prefix, rest)
		}
		r := namingRequest("", len(body))
		if err := f.rename(r, name); err != nil {
			t.Fatal(err)
		}
		renamed := string(f.prefix) + rest
		if r.ContentLength != int64(len(renamed)) {
			t.Fatalf("length %d, not %d", r.ContentLength, len(renamed))
		}
		again, _, err := findIn("application/json", renamed)
		if name == "" && f.name != "" {
			if err != errNoModel {
				t.Fatalf("%q: %v", renamed, err)
			}
			return
		}
		if err != nil || again.name != name || string(again.prefix[:again.at]) != string(body[:f.at]) {
			t.Fatalf("%q: %+v, %v", renamed, again, err)
		}
	})
}

// contents returns the contents of all parts, and which is the first that is named
// "model".
func contents(body, boundary string) (all []string, model int, err error) {
	model = -1
	form := multipart.NewReader(strings.NewReader(body), boundary)
	for {
		part, err := form.NextRawPart()
		if err == io.EOF {
			return all, model, nil
		} else if err != nil {
			return all, model, err
		}
		content, err := io.ReadAll(part)
		if err != nil {
			return all, model, err
		}
		if model < 0 && part.FormName() == "model" {
			model = len(all)
		}
		all = append(all, string(content))
	}
}

// FuzzFindParts: as FuzzFind, with any boundary and a file that may hold it.
func FuzzFindParts(f *testing.F) {
	f.Add("B", "RIFF", "a", false)
	f.Add("B", modelInFile, "a", true)
	f.Add("B", "x\r\n--B\r\nContent-Disposition: form-data; name=model\r\n\r\n", "a", true)
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
		f, rest, err := findIn(kind, body)
		if plain && (err == nil) != (name != "" && len(name) <= longestName) {
			t.Fatalf("%q: %v", body, err)
		}
		if err != nil {
			return
		}
		if plain && f.name != name || string(f.prefix)+rest != body {
			t.Fatalf("%q: %+v, %q", body, f, rest)
		}
		want, model, wantErr := contents(body, boundary)
		if model < 0 || want[model] != f.name {
			t.Fatalf("%q: found %q, not part %d of %q", body, f.name, model, want)
		}
		r := namingRequest(kind, len(body))
		if err := f.rename(r, "new"); err != nil {
			if plain || string(f.prefix)+rest != body {
				t.Fatalf("%q: %v", body, err)
			}
			return
		}
		want[model] = "new"
		renamed := string(f.prefix) + rest
		got, _, gotErr := contents(renamed, boundary)
		if !reflect.DeepEqual(got, want) || fmt.Sprint(gotErr) != fmt.Sprint(wantErr) || r.ContentLength != int64(len(renamed)) {
			t.Fatalf("%q became %q: %v, %v", body, renamed, gotErr, wantErr)
		}
	})
}
