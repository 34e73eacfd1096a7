package main

import (
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestReadme: the commands of README.md can be carried out, its example shows what that
// command writes, and its table has every flag.
func TestReadme(t *testing.T) {
	data, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(data), "\\\n", "")
	commands := regexp.MustCompile(`(?m)^    (\$ )?go run ./examples/simulate *([^#\n]*)`).FindAllStringSubmatch(text, -1)
	if len(commands) < 5 {
		t.Fatalf("%d commands", len(commands))
	}
	for _, c := range commands {
		args := strings.Fields(c[2])
		if _, err := parseOptions(args, io.Discard); err != nil {
			t.Errorf("%s: %v", strings.TrimSpace(c[0]), err)
		}
		if c[1] == "" {
			continue
		}
		shown := regexp.MustCompile(`(?m)^    |^$`).ReplaceAllString(text[strings.Index(text, c[0])+len(c[0])+1:], "")
		if !strings.HasPrefix(shown, output(t, args...)) {
			t.Errorf("README.md does not show what this writes now: %s", strings.TrimSpace(c[0]))
		}
	}
	var usage strings.Builder
	parseOptions([]string{"-h"}, &usage)
	for _, flag := range regexp.MustCompile(`(?m)^  (-[a-z]+)`).FindAllStringSubmatch(usage.String(), -1) {
		if !strings.Contains(text, "`"+flag[1]) {
			t.Errorf("README.md does not have %s", flag[1])
		}
	}
}
