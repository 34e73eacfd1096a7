package scheduler

import (
	"cmp"
	"go/ast"
	"go/doc/comment"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// hostFile is the host that the documentation quotes.
const hostFile = "examples/minimal/main.go"

// TestReadmeCodeIsCompiled: every Go block of README.md is in a file that is compiled.
func TestReadmeCodeIsCompiled(t *testing.T) {
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(read(t, "README.md"), -1)
	if len(blocks) == 0 {
		t.Error("README.md has no Go block")
	}
	for _, block := range blocks {
		if !isQuoted(t, block[1], "example_test.go", hostFile, "examples/minimal/fake_test.go") {
			t.Errorf("README.md quotes this from no file:\n%s", block[1])
		}
	}
}

// TestPackageDocIsCompiled: every block of code in the package doc is in the host that
// it quotes.
func TestPackageDocIsCompiled(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "scheduler.go", nil, parser.ParseComments|parser.PackageClauseOnly)
	if err != nil {
		t.Fatal(err)
	}
	blocks := 0
	for _, block := range new(comment.Parser).Parse(file.Doc.Text()).Content {
		if code, ok := block.(*comment.Code); ok {
			blocks++
			if !isQuoted(t, code.Text, hostFile) {
				t.Errorf("%s does not have this:\n%s", hostFile, code.Text)
			}
		}
	}
	if blocks == 0 {
		t.Error("the package doc has no code")
	}
}

// isQuoted reports whether one of the files has the code, which may be indented there.
func isQuoted(t *testing.T, code string, files ...string) bool {
	indented := regexp.MustCompile(`(?m)^(.)`).ReplaceAllString(code, "\t$1")
	return slices.ContainsFunc(files, func(file string) bool {
		text := read(t, file)
		return strings.Contains(text, code) || strings.Contains(text, indented)
	})
}

// TestReadmeNamesTests: every test, benchmark, example and trace that README.md names
// exists.
func TestReadmeNamesTests(t *testing.T) {
	names := regexp.MustCompile(`\b(Test|Fuzz|Benchmark|Example)(_[a-z]|[A-Z])\w+`).FindAllString(read(t, "README.md"), -1)
	if len(names) == 0 {
		t.Error("README.md names no test")
	}
	known := testFunctions(t, ".", "examples/minimal", "examples/proxy")
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

// TestLinks: every link of a page within the repository leads to a file, and to a heading
// if it names one.
func TestLinks(t *testing.T) {
	links := regexp.MustCompile(`\]\(([^):#]*)(#[^)]*)?\)`)
	for _, page := range []string{"README.md", "RULES.md", "CONTRIBUTING.md"} {
		for _, link := range links.FindAllStringSubmatch(read(t, page), -1) {
			file, anchor := cmp.Or(link[1], page), strings.TrimPrefix(link[2], "#")
			if _, err := os.Stat(file); err != nil {
				t.Errorf("%s: %v", page, err)
			} else if anchor != "" && !slices.Contains(anchorsOf(read(t, file)), anchor) {
				t.Errorf("%s: %s has no heading #%s", page, file, anchor)
			}
		}
	}
}

// anchorsOf returns the names of the headings of a page in links.
func anchorsOf(page string) (anchors []string) {
	punctuation := regexp.MustCompile(`[^\w\- ]`)
	for _, heading := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(page, -1) {
		name := punctuation.ReplaceAllString(strings.ToLower(heading[1]), "")
		anchors = append(anchors, strings.ReplaceAll(name, " ", "-"))
	}
	return anchors
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
