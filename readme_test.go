package scheduler

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestReadmeCodeIsTested: every Go block of README.md stands in example_test.go.
func TestReadmeCodeIsTested(t *testing.T) {
	examples := read(t, "example_test.go")
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(read(t, "README.md"), -1)
	if len(blocks) == 0 {
		t.Error("no Go block")
	}
	for _, block := range blocks {
		if !strings.Contains(examples, block[1]) {
			t.Errorf("this does not stand in example_test.go:\n%s", block[1])
		}
	}
}

// TestReadmeNamesTests: every test that README.md names exists.
func TestReadmeNamesTests(t *testing.T) {
	names := regexp.MustCompile(`\b(Test|Fuzz|Benchmark)[A-Z]\w+`).FindAllString(read(t, "README.md"), -1)
	if len(names) == 0 {
		t.Error("no test named")
	}
	known := testFunctions(t, ".", "examples/proxy")
	for _, name := range names {
		if !slices.Contains(known, name) {
			t.Errorf("there is no %s", name)
		}
	}
	for _, path := range regexp.MustCompile(`testdata/traces/[\w-]+\.txt`).FindAllString(read(t, "README.md"), -1) {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
}

// testFunctions returns the names of the functions in the test files of folders.
func testFunctions(t *testing.T, folders ...string) (names []string) {
	for _, folder := range folders {
		files, err := os.ReadDir(folder)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if !strings.HasSuffix(f.Name(), "_test.go") {
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), folder+"/"+f.Name(), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range file.Decls {
				if f, ok := d.(*ast.FuncDecl); ok {
					names = append(names, f.Name.Name)
				}
			}
		}
	}
	return names
}

// read returns what is in a file.
func read(t *testing.T, file string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
