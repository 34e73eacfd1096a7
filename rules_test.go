package scheduler

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

var (
	ruleHeading  = regexp.MustCompile(`(?m)^### (R[0-9]{1,2}) .`)
	ruleCitation = regexp.MustCompile(`\bR[0-9]{1,2}\b`)
)

// TestCitedRulesExist: every rule that a file cites by number has a heading in
// RULES.md.
func TestCitedRulesExist(t *testing.T) {
	rules := rulesOf(t)
	eachTextFile(t, func(path, text string) {
		for _, cited := range ruleCitation.FindAllString(text, -1) {
			if !slices.Contains(rules, cited) {
				t.Errorf("%s cites %s, which RULES.md does not have", path, cited)
			}
		}
	})
}

// TestEveryRuleHasATrace: for every rule there is a trace whose name begins with
// its number.
func TestEveryRuleHasATrace(t *testing.T) {
	for _, rule := range rulesOf(t) {
		var number int
		if _, err := fmt.Sscanf(rule, "R%d", &number); err != nil {
			t.Fatal(err)
		}
		pattern := fmt.Sprintf("testdata/traces/r%02d-*.txt", number)
		if traces, err := filepath.Glob(pattern); err != nil || len(traces) == 0 {
			t.Errorf("%s has no trace %s (%v)", rule, pattern, err)
		}
	}
}

// TestCitationsCanBeFollowed: the rules, the invariants and the costs are in
// RULES.md, and nothing cites another document by section. A reader of the
// repository could not look it up.
func TestCitationsCanBeFollowed(t *testing.T) {
	eachTextFile(t, func(path, text string) {
		for i, line := range strings.Split(text, "\n") {
			if strings.Contains(line, "DESIGN"+".md") || strings.Contains(line, "\u00a7") {
				t.Errorf("%s:%d: cite RULES.md instead: %s", path, i+1, strings.TrimSpace(line))
			}
		}
	})
}

// rulesOf returns the rules that have a heading in RULES.md, each once.
func rulesOf(t *testing.T) (rules []string) {
	for _, heading := range ruleHeading.FindAllStringSubmatch(read(t, "RULES.md"), -1) {
		if slices.Contains(rules, heading[1]) {
			t.Errorf("RULES.md has two headings for %s", heading[1])
		}
		rules = append(rules, heading[1])
	}
	if len(rules) == 0 {
		t.Fatal("RULES.md has no rules")
	}
	return rules
}

// eachTextFile calls fn for every text file of the repository, by path.
func eachTextFile(t *testing.T, fn func(path, text string)) {
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && entry.Name() == ".git":
			return fs.SkipDir
		case entry.Type().IsRegular():
			if text := read(t, path); utf8.ValidString(text) {
				fn(path, text)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
