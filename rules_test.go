package scheduler

import (
	"fmt"
	"io/fs"
	"os"
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
	pageCitation = regexp.MustCompile(`\b[A-Z]+\.md\b`)
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

// TestEveryRuleIsCited: the code says where each rule is.
func TestEveryRuleIsCited(t *testing.T) {
	cited := make(map[string]bool)
	eachTextFile(t, func(path, text string) {
		if strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") && !strings.Contains(path, "/") {
			for _, rule := range ruleCitation.FindAllString(text, -1) {
				cited[rule] = true
			}
		}
	})
	for _, rule := range rulesOf(t) {
		if !cited[rule] {
			t.Errorf("no file of the package cites %s", rule)
		}
	}
}

// TestContributingNamesTheFiles: the map of the files is complete.
func TestContributingNamesTheFiles(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	page := read(t, "CONTRIBUTING.md")
	for _, file := range files {
		if !strings.HasSuffix(file, "_test.go") && !strings.Contains(page, "`"+file+"`") {
			t.Errorf("CONTRIBUTING.md does not name %s", file)
		}
	}
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

// TestCitationsCanBeFollowed: every page that a file cites is in the repository, and
// nothing is cited by the section sign. The rules, the invariants and the costs are
// in RULES.md, where a reader can look them up.
func TestCitationsCanBeFollowed(t *testing.T) {
	eachTextFile(t, func(path, text string) {
		if strings.Contains(text, "\u00a7") {
			t.Errorf("%s cites a section: cite RULES.md instead", path)
		}
		for _, page := range pageCitation.FindAllString(text, -1) {
			if _, err := os.Stat(page); err != nil {
				t.Errorf("%s cites %s: %v", path, page, err)
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
