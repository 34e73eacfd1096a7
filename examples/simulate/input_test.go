package main

import (
	"bytes"
	"encoding/csv"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// failure returns the error of a command.
func failure(t *testing.T, args ...string) error {
	t.Helper()
	var out, notes bytes.Buffer
	err := command(args, &out, &notes)
	if err == nil {
		t.Errorf("simulate %q: no error; it writes\n%s", args, &out)
		return errors.New("")
	}
	if errors.Is(err, errUsage) {
		err = errors.New(notes.String())
	}
	if len(err.Error()) > 4000 {
		t.Errorf("simulate %.80q: an error of %d bytes", args, len(err.Error()))
	}
	return err
}

// file writes a file and returns its name.
func file(t *testing.T, content string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestBadFlags: a flag that cannot be used is named in the error, with what is wanted.
func TestBadFlags(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"-nonsense", "not defined: -nonsense"},
		{"more", `unexpected argument "more"`},
		{"-workload nonsense", "-list shows which there are"},
		{"-workload zipf -trace x.csv", "-trace and -workload exclude each other"},
		{"-trace x.csv -models a,b", "a trace names its models"},
		{"-trace /nonexistent/x.csv", "no such file"},
		{"-config /nonexistent/x.json", "no such file"},
		{"-for -1h", "-for -1h0m0s; want more than 0s"},
		{"-for 999999h", "at most"},
		{"-for soon", "invalid value"},
		{"-seed -1", "invalid value"},
		{"-rate 0x", `-rate: "0" is not a factor`},
		{"-rate NaN", "is not a factor"},
		{"-rate -2x", "is not a factor"},
		{"-rate 1e300x", "is not a factor"},
		{"-workload zipf -rate 1000000x", "requests would come in"},
		{"-workload hot-and-rare -rate 1000000", "a rate of"},
		{"-workload agents -rate 2", "no rate to set"},
		{"-service soon", `-service: "soon" is not a duration`},
		{"-service 9999h", "want 0s to"},
		{"-service 9999999h", "is not a duration"},
		{"-service -1s", "want 0s to"},
		{"-service 1000000x", "a service of"},
		{"-load other=3s", `no model "other"; there are hot, rare`},
		{"-load 3s,4s", "3s and 4s are for all models"},
		{"-load =3s", "want VALUE, MODEL=VALUE"},
		{"-load 3s,", "want VALUE, MODEL=VALUE"},
		{"-places 0", "0 places; want 1 to"},
		{"-places many", `"many" is not a number`},
		{"-places 99999999999999999999", "is not a number"},
		{"-max-queue -1", "-max-queue -1; want 0 or more"},
		{"-patience now", `-patience: "now" is not a duration`},
		{"-patience 0,", "-patience"},
		{"-policy best", `no policy "best"; there are own`},
		{"-policy lru:0", "want lru:N"},
		{"-tenants maybe", "want on, off or on,off"},
		{"-models a", "needs 2 models, not 1"},
		{"-models a,a", `two models are called "a"`},
		{"-models ,a", "the name is empty"},
		{"-window 1,2", "-window is for -svg"},
		{"-svg x.svg -window 2,1", "want two times such as 30m,90m"},
		{"-svg x.svg -window 1", "want two times such as 30m,90m"},
		{"-svg x.svg -patience 0,1s", "-svg shows one variant, and there are 2"},
		{"-svg /nonexistent/x.svg -for 1m", "no such file"},
		{"-csv /nonexistent/x.csv -for 1m", "no such file"},
		{"-policy own,own,own,own,own,own,own,own,own -patience 0,0,0,0,0,0,0,0", "at most 64 are possible"},
	} {
		if err := failure(t, strings.Fields(c.args)...); !strings.Contains(err.Error(), c.want) {
			t.Errorf("simulate %s: error %q, want one with %q", c.args, err, c.want)
		}
	}
	if err := command([]string{"-h"}, io.Discard, io.Discard); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("-h: %v", err)
	}
}

// TestBadTraces: the error of a trace says in which line it is.
func TestBadTraces(t *testing.T) {
	many := new(strings.Builder)
	for i := range maxModels + 1 {
		fmt.Fprintf(many, "%d,m%d,1\n", i, i)
	}
	for _, c := range []struct{ content, want string }{
		{"", "there is no request"},
		{"# nothing\n\n", "there is no request"},
		{"arrival,model,service\n", "there is no request"},
		{"0,a,1\narrival,model,service\n", `line 2: arrival: "arrival" is not a number`},
		{"0,a\n", "line 1: 2 fields; want 3"},
		{"a,b\n", "line 1: 2 fields; want 3"},
		{"0,a,1,2\n", "line 1: 4 fields; want 3"},
		{"# one\n0,a,1\n5,a,1\n3,a,1\n", "line 4: arrival: 3s is before"},
		{"-1,a,1\n", "is not a number"},
		{"0,a,NaN\n", `service: "NaN" is not a number`},
		{"0,a,Inf\n", "is not a number"},
		{"0,a,1e300\n", "is not a number of seconds from 0"},
		{"1e300,a,1\n0,a,1\n", `line 1: arrival: "1e300" is not a number of seconds`},
		{"0,a,\n", `service: "" is not a number`},
		{"0,,1\n", "line 1: model: the name is empty"},
		{"0," + strings.Repeat("x", 1000) + ",1\n", "longer than"},
		{"0,\xff\xfe,1\n", "not UTF-8"},
		{"0,\"a,1\n0,b,1\n", "line 1:"},
		{"0,a\"b,1\n", "line 1:"},
		{"\x00\x01\x02", "line 1: 1 fields"},
		{strings.Repeat("9", 100_000), "line 1: 1 fields"},
		{many.String(), "line 10001: model: more than 10,000 models"},
	} {
		if err := failure(t, "-trace", file(t, c.content)); !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.40q: error %q, want one with %q", c.content, err, c.want)
		}
	}
	many.Reset()
	for i := range svgMost + 1 {
		fmt.Fprintf(many, "%d,m%d,1\n", i, i)
	}
	if err := failure(t, "-trace", file(t, many.String()), "-svg", filepath.Join(t.TempDir(), "x.svg")); !strings.Contains(err.Error(), "at most 100 are possible") {
		t.Error(err)
	}
	if err := failure(t, "-trace", t.TempDir()); !strings.Contains(err.Error(), "directory") {
		t.Errorf("a folder: %v", err)
	}
}

// TestBadConfigs: the error of a configuration says what is wrong with it.
func TestBadConfigs(t *testing.T) {
	const a = `"models": {"a": {"command": ["x"]}}`
	for _, c := range []struct{ content, want string }{
		{"", "the file is empty"},
		{"{", "the file ends"},
		{"{" + a + ",\n\n\"groups\": 3}", "file:3: groups: must be a list"},
		{strings.Repeat(" ", maxConfig+1), "more than"},
		{`{"maxRunning": -1, ` + a + `}`, "maxRunning: must not be negative"},
		{`{"budget": {"capacity": {"gpu": 4}, "models": {"a": {"placements": [{"gpu": 5}]}}}, ` + a + `}`, "the pool has only 4"},
		{`{` + a + `}`, "needs 2 models, not 1"},
	} {
		if err := failure(t, "-config", file(t, c.content)); !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.60q: error %q, want one with %q", c.content, err, c.want)
		}
	}
	if err := failure(t, "-trace", file(t, "0,x,1\n"), "-config", file(t, "{"+a+"}")); !strings.Contains(err.Error(), `no model "x"; there are a`) {
		t.Error(err)
	}
}

// TestConfig: what a configuration says is used, and the rest does not matter.
func TestConfig(t *testing.T) {
	config := file(t, `{
		"listen": ":1", "queue": {"maxQueue": 3, "patience": 60},
		"defaults": {"concurrency": 2},
		"models": {
			"a": {"command": ["x"], "priority": 5, "capacity": 7},
			"b": {"command": ["x"], "concurrency": 9},
			"c": {"url": "http://elsewhere"}
		}
	}`)
	o, err := parseOptions([]string{"-config", config, "-workload", "zipf"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	w, base, err := o.prepare()
	if err != nil {
		t.Fatal(err)
	}
	if base.options.MaxQueue != 3 || o.patience != "1m0s" {
		t.Errorf("maxQueue %d, patience %s", base.options.MaxQueue, o.patience)
	}
	a, b := w.models[0], w.models[1]
	if a.priority != 5 || a.capacity != 7 || a.places != 2 || b.places != 9 {
		t.Errorf("models %+v", w.models)
	}
	policy, err := w.policy.make(w.names(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if evict := policy.EvictionFor("a", []string{"b", "c"}); len(evict) != 1 || evict[0] != "b" {
		t.Errorf("a stops %v; c is elsewhere", evict)
	}
}

// TestPictures: the two pictures of README.md are what the commands in there make.
func TestPictures(t *testing.T) {
	for name, args := range map[string][]string{
		"endless.svg": {"-patience", "-1"},
		"default.svg": {},
	} {
		made := filepath.Join(t.TempDir(), name)
		output(t, append(args, "-for", "1h", "-svg", made)...)
		got, err := os.ReadFile(made)
		if err != nil {
			t.Fatal(err)
		}
		compare(t, name, string(got))
	}
}

// TestHostileNames: names come from files. They can neither break a picture nor write to
// a terminal.
func TestHostileNames(t *testing.T) {
	var trace strings.Builder
	w := csv.NewWriter(&trace)
	for i, name := range []string{"<script>", `"&'`, "\x1b[2J", "\t\r\n\x01", strings.Repeat("ü", 90), "%s%n"} {
		w.Write([]string{strconv.Itoa(i * 40), name, "30"})
	}
	w.Flush()
	picture := filepath.Join(t.TempDir(), "picture.svg")
	text := output(t, "-trace", file(t, trace.String()), "-svg", picture, "-each", "-window", "1s,10m")
	if i := strings.IndexFunc(text, func(r rune) bool { return r < ' ' && r != '\n' }); i >= 0 {
		t.Errorf("the table has a control character:\n%q", text[i:])
	}
	svg, err := os.ReadFile(picture)
	if err != nil {
		t.Fatal(err)
	}
	for d := xml.NewDecoder(bytes.NewReader(svg)); ; {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "script" {
			t.Error("a name is an element")
		}
	}
}

// TestCSV: there is a line for each request, and its times agree with the table.
func TestCSV(t *testing.T) {
	name := filepath.Join(t.TempDir(), "requests.csv")
	table := output(t, "-workload", "flood", "-for", "10m", "-tenants", "on,off", "-csv", name)
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(lines[0], ","); got != "patience,policy,tenants,model,tenant,arrived,waited,service,end" {
		t.Errorf("heading %s", got)
	}
	counts := make(map[string]int)
	for _, line := range lines[1:] {
		counts[line[2]]++
	}
	for _, n := range counts {
		if !strings.Contains(table, thousands(n)) {
			t.Errorf("%d lines, but the table is\n%s", n, table)
		}
	}
}

// FuzzTrace: no trace makes the simulation fail, or panic.
func FuzzTrace(f *testing.F) {
	f.Add("0,a,1\n0.5,b,2\n")
	f.Add("arrival,model,service\n0,a,1\n# comment\n3,a,0\n")
	f.Add("0,\"a\"\"b\",1e3\n1e-9,a,0\n")
	f.Fuzz(func(t *testing.T, text string) {
		w, err := parseTrace(strings.NewReader(text))
		if err != nil || len(w.sources[0].arrivals) > 1000 {
			return
		}
		if err := w.check(); err != nil {
			t.Fatal(err)
		}
		if _, err := (&run{workload: w, policy: w.policy, seed: 1, length: maxTime}).simulate(); err != nil {
			t.Error(err)
		}
	})
}

// TestProgress: a long run says every two seconds how far it is.
func TestProgress(t *testing.T) {
	var notes strings.Builder
	now := time.Unix(0, 0)
	tell := progress(&notes, "patience default", 4*time.Hour, func() time.Time { return now })
	for minute := range 5 {
		tell(time.Duration(minute) * time.Minute)
		now = now.Add(time.Second)
	}
	if want := "patience default: 2m of 4h\npatience default: 4m of 4h\n"; notes.String() != want {
		t.Errorf("progress:\n%swant:\n%s", &notes, want)
	}
}

// TestStories: the picture says in words why the rare model waited.
func TestStories(t *testing.T) {
	svg, err := os.ReadFile("endless.svg")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"longest wait 54", "hot was busy for 54", "later requests for hot went first", "prefers-color-scheme:dark", ">requests that wait<", ">50m<"} {
		if !strings.Contains(string(svg), want) {
			t.Errorf("the picture does not say %q", want)
		}
	}
}

// TestConfigPolicies: each way to say which models run together has its policy.
func TestConfigPolicies(t *testing.T) {
	for _, c := range []struct{ content, name, want string }{
		{`"groups": [{"name": "g", "members": ["a", "b"], "exclusive": true}]`, "groups", "[c]"},
		{`"sets": {"names": {"x": "a", "y": "c"}, "expressions": {"s": "x & y"}}`, "sets", "[b]"},
		{`"budget": {"capacity": {"gpu": 3}, "default": {"placements": [{"gpu": 1}]}}`, "budget", "[]"},
		{`"maxRunning": 1`, "lru:1", "[b c]"},
	} {
		s, err := readSettings(file(t, `{"models": {"a": {"command": ["x"]}, "b": {"command": ["x"]}, "c": {"command": ["x"]}}, `+c.content+"}"))
		if err != nil {
			t.Fatal(err)
		}
		p := s.policy()
		policy, err := p.make(s.names(), func(string) bool { return false })
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(policy.EvictionFor("a", []string{"b", "c"})); p.name != c.name || got != c.want {
			t.Errorf("%s: policy %s stops %s, want %s to stop %s", c.content, p.name, got, c.name, c.want)
		}
	}
}
