package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

var updateGolden = flag.Bool("update", false, "rewrite the golden files")

func TestExpand(t *testing.T) {
	vars := map[string]string{"PORT": "8081", "MODEL": "org/alpha"}
	tests := []struct {
		word, want, err string
	}{
		{word: "", want: ""},
		{word: "--port", want: "--port"},
		{word: "${PORT}", want: "8081"},
		{word: "http://h:${PORT}/${MODEL}/${PORT}", want: "http://h:8081/org/alpha/8081"},
		{word: "$PORT $ $$ $} {} }", want: "$PORT $ $$ $} {} }"},
		{word: "$${PORT}", want: "${PORT}"},
		{word: "$${", want: "${"},
		{word: "$$${PORT}", want: "$${PORT}"},
		{word: "$${${PORT}}", want: "${8081}"},
		{word: "a${PORT", err: `a "${" without its "}"; "$${" stands for a plain "${"`},
		{word: "${PID}", err: `${PID} is not known here; known: MODEL, PORT; "$${" stands for a plain "${"`},
		{word: "${}", err: `${} is not known here; known: MODEL, PORT; "$${" stands for a plain "${"`},
	}
	for _, tt := range tests {
		got, err := Expand(tt.word, vars)
		if got != tt.want || errorText(err) != tt.err {
			t.Errorf("expand(%q) = %q, %v, want %q, %s", tt.word, got, err, tt.want, tt.err)
		}
	}
}

func TestDuration(t *testing.T) {
	tests := []struct {
		text string
		want time.Duration
		back string
	}{
		{"90", 90 * time.Second, "1m30s"},
		{"1m30s", 90 * time.Second, "1m30s"},
		{"0", 0, "0s"},
		{"-1s", -time.Second, "-1s"},
		{"-1", -time.Second, "-1s"},
		{"0.25", 250 * time.Millisecond, "250ms"},
	}
	for _, tt := range tests {
		var d, again Duration
		if err := d.UnmarshalText([]byte(tt.text)); err != nil || time.Duration(d) != tt.want {
			t.Errorf("%q is %v, %v, want %v", tt.text, d, err, tt.want)
		}
		text, _ := d.MarshalText()
		if err := again.UnmarshalText(text); err != nil || string(text) != tt.back || again != d {
			t.Errorf("%q is written %q and read back as %v, %v", tt.text, text, again, err)
		}
	}
	for _, bad := range []string{"", "s", "-", "1x", "1e3", "1 m", "1m30", "9223372037", "0x1", "1.2.3", "true"} {
		var d Duration
		if err := d.UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q is %v, want an error", bad, d)
		}
	}
}

func TestSize(t *testing.T) {
	tests := []struct {
		text string
		want int64
		back string
	}{
		{"0", 0, "0"},
		{"1", 1, "1"},
		{"7B", 7, "7"},
		{"1048576", 1 << 20, "1MiB"},
		{"64MiB", 64 << 20, "64MiB"},
		{"64 mib", 64 << 20, "64MiB"},
		{"1GB", 1e9, "1GB"},
		{"2TB", 2e12, "2TB"},
		{"3kb", 3000, "3KB"},
		{"23.5GiB", 47 << 29, "24064MiB"},
		{"64M", 64 << 20, "64MiB"},
		{"1025KiB", 1025 << 10, "1025KiB"},
		{"9223372036854775807", math.MaxInt64, "9223372036854775807"},
	}
	for _, tt := range tests {
		var s, again Size
		if err := s.UnmarshalText([]byte(tt.text)); err != nil || int64(s) != tt.want {
			t.Errorf("%q is %v, %v, want %v", tt.text, s, err, tt.want)
		}
		text, _ := s.MarshalText()
		if err := again.UnmarshalText(text); err != nil || string(text) != tt.back || again != s {
			t.Errorf("%q is written %q and read back as %v, %v", tt.text, text, again, err)
		}
	}
	for _, bad := range []string{"", "B", "MiB", "-1", "1.5", "1e6", "64iB", "1MiBB", "9223372036854775808", "8388608TiB", "0x10"} {
		var s Size
		if err := s.UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q is %v, want an error", bad, s)
		}
	}
}

func TestValidOrigin(t *testing.T) {
	for origin, want := range map[string]bool{
		"https://chat.lan":        true,
		"http://localhost:3000":   true,
		"http://[::1]:3000":       true,
		"app://obsidian.md":       true,
		"chrome-extension://abcd": true,
		"http://a:443":            true,
		"":                        false,
		"*":                       false,
		"null":                    false,
		"chat.lan":                false,
		"https://":                false,
		"https://*.lan":           false,
		"https://chat.lan/":       false,
		"https://chat.lan/path":   false,
		"https://chat.lan?q":      false,
		"https://user@chat.lan":   false,
		"HTTPS://chat.lan":        false,
		"https://Chat.lan":        false,
		"https://chät.lan":        false,
		"https://chat.lan:443":    false,
		"http://chat.lan:80":      false,
		"http://chat.lan:":        false,
		"http://chat.lan:99999":   false,
		"https://a https://b":     false,
	} {
		if validOrigin(origin) != want {
			t.Errorf("%q: %v", origin, !want)
		}
	}
}

func TestConfigFiles(t *testing.T) {
	t.Setenv("PROXY_KEY_OFFICE", "xyzzy1")
	t.Setenv("PROXY_KEY_BATCH", "xyzzy2")
	t.Chdir("testdata")
	files, err := filepath.Glob("*.json")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(file, ".json"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			_, err = Parse(file, data)
			compareGolden(t, strings.TrimSuffix(file, ".json")+".err", errorText(err))
			for _, secret := range []string{"xyzzy", "abra", "hokus", "simsala", "12345"} {
				if strings.Contains(errorText(err), secret) {
					t.Errorf("the error tells a secret: %s", secret)
				}
			}
		})
	}
}

// compareGolden compares got with the text in file; no file stands for no text.
func compareGolden(t *testing.T, file, got string) {
	t.Helper()
	if got != "" {
		got += "\n"
	}
	if *updateGolden {
		os.Remove(file)
		if got != "" {
			if err := os.WriteFile(file, []byte(got), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
}

// minimal is a configuration of one model, and more of it.
func minimal(more string) string {
	return `{"models": {"alpha": {"command": ["true"]` + more + `}}}`
}

func TestConfigText(t *testing.T) {
	tests := []struct {
		name, text, err string
	}{
		{name: "minimal", text: minimal("")},
		{name: "white space around", text: "\r\n\t " + minimal("") + "\n \n"},
		{name: "empty", text: "", err: "f.json:1: the file is empty"},
		{name: "only white space", text: "\n\n", err: "f.json:1: the file is empty"},
		{name: "byte order mark", text: "\ufeff" + minimal(""), err: "f.json:1: the file begins with a byte order mark; save it as UTF-8 without one"},
		{name: "UTF-16", text: "\xff\xfe{\x00}\x00", err: "f.json:1: the file is not UTF-8 here"},
		{name: "Latin-1", text: "\n" + minimal(`, "description": "`+"\xe9"+`"`), err: "f.json:2: the file is not UTF-8 here"},
		{name: "half a surrogate", text: minimal(`, "description": "\ud800"`), err: `f.json:1: models.alpha.description: has "\ufffd", which stands for text that was broken`},
		{name: "as large as may be", text: minimal("") + strings.Repeat(" ", maxConfig-len(minimal("")))},
		{name: "too large", text: minimal("") + strings.Repeat(" ", maxConfig), err: "f.json:1: the file has 1048620 bytes; a configuration has at most 1MiB"},
		{name: "very deep", text: strings.Repeat("[", maxConfig), err: "f.json:1: objects and lists are more than 16 deep"},
		{name: "null", text: "null", err: "f.json:1: must be an object, not null"},
		{name: "a second value", text: minimal("") + "\n{}", err: "f.json:2: the configuration has ended before this"},
		{name: "a second value at once", text: minimal("") + "{}", err: "f.json:1: the configuration has ended before this"},
		{name: "wrong end", text: `{"models": {]`, err: "f.json:1: models: ']' cannot stand here"},
		{name: "list not closed", text: `{"preload": [`, err: "f.json:1: the file ends in the middle"},
		{name: "ends in a string", text: `{"preload": ["a`, err: "f.json:1: the file ends in the middle"},
		{name: "ends in a word", text: `{"preload": tru`, err: "f.json:1: the file ends in the middle"},
		{name: "ends after a comma", text: "{\"preload\": [],\n", err: "f.json:1: the file ends in the middle"},
		{name: "no comma in a list", text: `{"preload": ["a" "b"]}`, err: "f.json:1: preload[1]: a comma or a colon is missing before this"},
		{name: "no colon", text: `{"preload" []}`, err: "f.json:1: preload: a comma or a colon is missing before this"},
		{name: "a comma for a colon", text: `{"preload", []}`, err: "f.json:1: preload: '[' cannot stand here"},
		{name: "comma after a list", text: `{"preload": ["a",]}`, err: "f.json:1: preload[1]: a comma too many before this"},
		{name: "folder of Windows", text: minimal(`, "dir": "C:\models"`), err: `f.json:1: models.alpha.dir: a string that does not end, or needs "\\" before a character in it`},
		{name: "no quotes", text: minimal(`, ttl: 5`), err: `f.json:1: models.alpha: 't' cannot stand here`},
		{name: "other quotes", text: minimal(`, "ttl": '5m'`), err: `f.json:1: models.alpha.ttl: '\'' cannot stand here`},
		{name: "typographic quotes", text: minimal(`, "ttl": “5m”`), err: `f.json:1: models.alpha.ttl: '“' cannot stand here`},
		{name: "not a number", text: minimal(`, "ttl": NaN`), err: `f.json:1: models.alpha.ttl: 'N' cannot stand here`},
		{name: "key not text", text: `{1: 2}`, err: "f.json:1: '1' cannot stand here"},
		{name: "no value", text: "{\"preload\":\n}", err: "f.json:2: preload: '}' cannot stand here"},
		{name: "no object", text: "}", err: "f.json:1: '}' cannot stand here"},
		{name: "two commas", text: "{\"preload\": [\n\"a\",\n,]}", err: "f.json:3: preload[1]: ',' cannot stand here"},
		{name: "long text", text: minimal(`, "ttl": "` + strings.Repeat("x", 1000) + `"`), err: `f.json:1: models.alpha.ttl: must be a duration such as "1m30s", not "` + strings.Repeat("x", 40) + `…"`},
		{name: "long name", text: minimal(`, "` + strings.Repeat("x", 1000) + `": 1`), err: `f.json:1: models.alpha["` + strings.Repeat("x", 40) + `…"]: unknown field`},
		{name: "name of a group", text: `{"models": {"a": {"command": ["true"]}}, "groups": [{"name": "g", "members": ["` + strings.Repeat("x", 1000) + `"]}]}`, err: `f.json:1: groups[0].members[0]: there is no model "` + strings.Repeat("x", 40) + `…"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := Parse("f.json", []byte(tt.text))
			if errorText(err) != tt.err {
				t.Errorf("got:  %v\nwant: %s", err, tt.err)
			}
			if (c == nil) != (err != nil) {
				t.Errorf("config %v with error %v", c, err)
			}
		})
	}
}

func TestConfigDefaults(t *testing.T) {
	c, err := Parse("f.json", []byte(minimal("")))
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{
		Listen:       "127.0.0.1:8080",
		MaxBody:      64 << 20,
		MaxHeld:      256 << 20,
		DrainTimeout: Duration(30 * time.Second),
		Queue:        Queue{WebsocketGrace: Duration(5 * time.Minute)},
		Models: Models{"alpha": {
			Command:     []string{"true"},
			URL:         "http://127.0.0.1:${PORT}",
			Health:      "/health",
			LoadTimeout: Duration(5 * time.Minute),
			StopTimeout: Duration(10 * time.Second),

			QueueTimeout: Duration(10 * time.Minute),
			Timeouts:     Timeouts{FirstByte: Duration(time.Hour), Idle: Duration(10 * time.Minute), Busy: Duration(time.Hour)},
		}},
		aliases: map[string]string{},
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
	made := &Config{Models: Models{"alpha": {Command: []string{"true"}}}}
	if err := made.Complete(); err != nil || !reflect.DeepEqual(made, want) {
		t.Errorf("complete: %+v, %v\nwant %+v", made, err, want)
	}
}

func TestConfigFields(t *testing.T) {
	const text = `{
		"listen": ":80", "hosts": ["proxy.lan"],
		"keys": [
			{"name": "alice", "key": "xyzzy", "priority": 1, "minPriority": -2, "maxPriority": 3},
			{"name": "bob", "keyEnv": "PROXY_KEY_BOB"}
		],
		"models": {"org/alpha": {
			"command": ["a", "${PORT}"], "stopCommand": ["b", "${PID}"], "env": {"K": "${MODEL}"},
			"dir": "/tmp", "url": "https://h:1/${MODEL}", "health": "/h?q=1",
			"loadTimeout": 1.5, "stopTimeout": "2s", "ttl": "3s",
			"aliases": ["a"], "description": "d", "unlisted": true, "useModelName": "n",
			"priority": -4, "concurrency": 5, "capacity": 6, "sendLoadingState": true, "queueTimeout": 7,
			"timeouts": {"firstByte": "8s", "idle": -1, "busy": "9s"}, "passive": ["/metrics", "/static/"], "busy": "/queue#running"
		}},
		"groups": [{"name": "g", "members": ["org/alpha"], "swap": true, "exclusive": true, "persistent": true}],
		"queue": {"maxQueue": 8, "timeout": 9, "patience": -1, "cooldown": "10s", "websocketGrace": -1},
		"maxBody": 11, "maxHeld": "12 kb", "drainTimeout": "13s", "preload": ["org/alpha"]
	}`
	t.Setenv("PROXY_KEY_BOB", "plugh")
	c, err := Parse("f.json", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{
		Listen: ":80", Hosts: []string{"proxy.lan"},
		Keys: []Key{
			{Name: "alice", Key: "xyzzy", Priority: 1, MinPriority: -2, MaxPriority: 3},
			{Name: "bob", KeyEnv: "PROXY_KEY_BOB"},
		},
		Models: Models{"org/alpha": {
			Command: []string{"a", "${PORT}"}, StopCommand: []string{"b", "${PID}"}, Env: map[string]string{"K": "${MODEL}"},
			Dir: "/tmp", URL: "https://h:1/${MODEL}", Health: "/h?q=1",
			LoadTimeout: Duration(1500 * time.Millisecond), StopTimeout: Seconds(2), TTL: Seconds(3),
			Aliases: []string{"a"}, Description: "d", Unlisted: true, UseModelName: "n",
			Priority: -4, Concurrency: 5, Capacity: 6, SendLoadingState: true, QueueTimeout: Seconds(7),
			Timeouts: Timeouts{FirstByte: Seconds(8), Idle: Seconds(-1), Busy: Seconds(9)}, Passive: []string{"/metrics", "/static/"}, Busy: "/queue#running", secretEnv: []string{"PROXY_KEY_BOB"},
		}},
		Groups:  []Group{{Name: "g", Members: []string{"org/alpha"}, Swap: true, Exclusive: true, Persistent: true}},
		Queue:   Queue{MaxQueue: 8, Timeout: Seconds(9), Patience: Seconds(-1), Cooldown: Seconds(10), WebsocketGrace: Seconds(-1)},
		MaxBody: 11, MaxHeld: 12000, DrainTimeout: Seconds(13), Preload: []string{"org/alpha"},
		aliases: map[string]string{"a": "org/alpha"},
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
	if a, b := c.Keys[0].Value(), c.Keys[1].Value(); a != "xyzzy" || b != "plugh" {
		t.Errorf("keys are %q and %q", a, b)
	}
}

func TestConfigComplete(t *testing.T) {
	c := &Config{
		Models: Models{"alpha": {Command: []string{"true"}, TTL: -1}, "b.c": {}},
		Groups: []Group{{Name: "g", Members: []string{"alpha", "beta"}}},
	}
	const want = `models.alpha.ttl: must not be negative
models["b.c"].command: must name a program
groups[0].members[1]: there is no model "beta"`
	if err := c.Complete(); errorText(err) != want {
		t.Errorf("got:\n%v\nwant:\n%s", err, want)
	}
}

func TestConfigDir(t *testing.T) {
	folder := t.TempDir()
	tests := []struct{ dir, want string }{
		{"", ""},
		{"models", filepath.Join(folder, "models")},
		{"../models", filepath.Join(filepath.Dir(folder), "models")},
		{".", folder},
		{folder, folder},
	}
	for _, tt := range tests {
		text := minimal(`, "dir": ` + strconv.Quote(tt.dir))
		c, err := Parse(filepath.Join(folder, "f.json"), []byte(text))
		if err != nil || c.Models["alpha"].Dir != tt.want {
			t.Errorf("dir %q: %+v, %v, want %q", tt.dir, c, err, tt.want)
		}
	}
	t.Chdir(folder)
	c, err := Parse("f.json", []byte(minimal(`, "dir": "models"`)))
	if err != nil || !filepath.IsAbs(c.Models["alpha"].Dir) {
		t.Errorf("beside a file without a folder: %+v, %v", c, err)
	}
}

func TestConfigQuestions(t *testing.T) {
	c, err := Parse("f.json", []byte(`{
		"models": {
			"alpha": {"command": ["true"], "aliases": ["a", "org/a"], "queueTimeout": "1m"},
			"beta": {"command": ["true"], "loadTimeout": "1h"},
			"gamma": {"command": ["true"], "queueTimeout": -1}
		},
		"queue": {"timeout": "2m"}
	}`))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"alpha": "alpha", "a": "alpha", "org/a": "alpha", "beta": "beta", "b": "", "": ""} {
		if model, ok := c.Resolve(name); model != want || ok != (want != "") {
			t.Errorf("resolve(%q) = %q, %v, want %q", name, model, ok, want)
		}
	}
	for model, want := range map[string]time.Duration{"alpha": time.Minute, "beta": 2 * time.Minute, "gamma": -time.Second} {
		if d := time.Duration(c.Models[model].QueueTimeout); d != want {
			t.Errorf("queueTimeout of %q: %v, want %v", model, d, want)
		}
	}
	c, err = Parse("f.json", []byte(`{"models": {"fast": {"command": ["true"]}, "slow": {"command": ["true"], "loadTimeout": "1h"}}}`))
	if err != nil || c.Models["fast"].QueueTimeout != Seconds(600) || c.Models["slow"].QueueTimeout != Seconds(3600) {
		t.Errorf("by default: %+v, %v", c, err)
	}
}

func TestConfigSwapper(t *testing.T) {
	c, err := Parse("f.json", []byte(`{
		"models": {"alpha": {"command": ["true"]}, "beta": {"command": ["true"]}, "gamma": {"command": ["true"]}},
		"groups": [{"name": "g", "members": ["alpha", "beta"], "swap": true}]
	}`))
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.Policy().Planner(nil)
	if err != nil {
		t.Fatal(err)
	}
	if evict := s.EvictionFor("alpha", []string{"beta", "gamma"}); !slices.Equal(evict, []string{"beta"}) {
		t.Errorf("alpha stops %q", evict)
	}
}

// FuzzConfig: no text makes Parse panic, and what it accepts says the same
// when it is written back.
func FuzzConfig(f *testing.F) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(minimal(`, "ttl": 0.1, "aliases": [], "env": {}, "dir": "x"`)))
	f.Add([]byte(podFile(`"pod": ` + aPod + `, "port": "", "service": "${MODEL}"`)))
	f.Add([]byte(podFile(`"podFile": "a.json"`)))
	f.Setenv("PROXY_KEY_OFFICE", "xyzzy1")
	f.Setenv("PROXY_KEY_BATCH", "xyzzy2")
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("dir/f.json", data)
		if err != nil {
			if c != nil || err.Error() == "" {
				t.Fatalf("config %v with error %q", c, err)
			}
			return
		}
		text := written(t, c)
		again, err := Parse("dir/f.json", text)
		if err != nil {
			t.Fatalf("%s\nis written back as\n%s\n%v", data, text, err)
		}
		if !reflect.DeepEqual(c, again) {
			t.Fatalf("%+v\nis written back as\n%s\n%+v", c, text, again)
		}
	})
}

// written encodes c as a file, with its keys and without fields that are not there.
func written(t *testing.T, c *Config) []byte {
	t.Helper()
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var tree map[string]any
	if err := dec.Decode(&tree); err != nil {
		t.Fatal(err)
	}
	for i, k := range c.Keys {
		tree["keys"].([]any)[i].(map[string]any)["key"] = string(k.Key)
	}
	dropNull(tree)
	text, err = json.MarshalIndent(tree, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// MarshalJSON writes p as it is in a file.
func (p Placement) MarshalJSON() ([]byte, error) {
	all := map[string]any{"env": p.Env}
	for pool, n := range p.Takes {
		all[pool] = n
	}
	return json.Marshal(all)
}

func dropNull(tree map[string]any) {
	for key, value := range tree {
		switch value := value.(type) {
		case nil:
			delete(tree, key)
		case map[string]any:
			dropNull(value)
		case []any:
			for _, item := range value {
				if item, ok := item.(map[string]any); ok {
					dropNull(item)
				}
			}
		}
	}
}

func TestSecretIsNeverShown(t *testing.T) {
	k := Key{Name: "alice", Key: "xyzzy"}
	for _, shown := range everyWay(k, &k, []Key{k}, &Config{Keys: []Key{k}}) {
		if !strings.Contains(shown, hidden) || strings.Contains(shown, "xyzzy") {
			t.Errorf("shown: %s", shown)
		}
	}
}

// everyWay prints, logs and encodes values.
func everyWay(values ...any) []string {
	var all []string
	for _, v := range values {
		var text, logged strings.Builder
		slog.New(slog.NewTextHandler(&text, nil)).Info("", "v", v)
		slog.New(slog.NewJSONHandler(&logged, nil)).Info("", "v", v)
		encoded, _ := json.Marshal(v)
		all = append(all, text.String(), logged.String(), string(encoded))
		for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
			all = append(all, fmt.Sprintf(verb, v))
		}
	}
	return all
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
