package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"math"
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
		got, err := expand(tt.word, vars)
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
		var d, again duration
		if err := d.UnmarshalText([]byte(tt.text)); err != nil || time.Duration(d) != tt.want {
			t.Errorf("%q is %v, %v, want %v", tt.text, d, err, tt.want)
		}
		text, _ := d.MarshalText()
		if err := again.UnmarshalText(text); err != nil || string(text) != tt.back || again != d {
			t.Errorf("%q is written %q and read back as %v, %v", tt.text, text, again, err)
		}
	}
	for _, bad := range []string{"", "s", "-", "1x", "1e3", "1 m", "1m30", "9223372037", "0x1", "1.2.3", "true"} {
		var d duration
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
		{"1025KiB", 1025 << 10, "1025KiB"},
		{"9223372036854775807", math.MaxInt64, "9223372036854775807"},
	}
	for _, tt := range tests {
		var s, again size
		if err := s.UnmarshalText([]byte(tt.text)); err != nil || int64(s) != tt.want {
			t.Errorf("%q is %v, %v, want %v", tt.text, s, err, tt.want)
		}
		text, _ := s.MarshalText()
		if err := again.UnmarshalText(text); err != nil || string(text) != tt.back || again != s {
			t.Errorf("%q is written %q and read back as %v, %v", tt.text, text, again, err)
		}
	}
	for _, bad := range []string{"", "B", "MiB", "-1", "1.5MiB", "1e6", "64M", "64iB", "1MiBB", "9223372036854775808", "8388608TiB", "0x10"} {
		var s size
		if err := s.UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q is %v, want an error", bad, s)
		}
	}
}

func TestSecretIsNeverShown(t *testing.T) {
	k := keyConfig{Name: "alice", Key: "xyzzy"}
	for _, shown := range everyWay(k, &k, []keyConfig{k}, &config{Keys: []keyConfig{k}}) {
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
