package scheduler

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// parts are the files of the parts. They know nothing of the layers above them.
var parts = []string{
	"queue.go", "class.go", "lease.go", "swaps.go", "running.go", "policy.go", "panic.go",
	"price.go", "deadline.go", "cooldown.go", "position.go", "step.go", "model.go",
}

// TestPartsKnowNothingAbove: no part mentions the FIFO. A part has its own piece of a
// model's record, and a pointer to the record, owner, which it may return but not follow.
// So it cannot touch the piece of another part.
func TestPartsKnowNothingAbove(t *testing.T) {
	for _, name := range parts {
		fset, file := parse(t, name)
		handsBack := make(map[ast.Expr]bool)
		ast.Inspect(file, func(n ast.Node) bool {
			if n == nil {
				return true
			}
			at := fset.Position(n.Pos())
			switch n := n.(type) {
			case *ast.Ident:
				if n.Name == "FIFO" {
					t.Errorf("%v: a part mentions the FIFO", at)
				}
			case *ast.Field:
				if len(n.Names) == 1 && n.Names[0].Name == "owner" {
					handsBack[n.Type] = true
				}
			case *ast.ArrayType:
				handsBack[n.Elt] = true
			case *ast.CallExpr:
				for _, arg := range n.Args {
					handsBack[arg] = true
				}
			case *ast.StarExpr:
				if x, ok := n.X.(*ast.Ident); ok && x.Name == "model" && !handsBack[n] && name != "model.go" {
					t.Errorf("%v: a part uses the record of a model", at)
				}
			case *ast.SelectorExpr:
				if n.Sel.Name == "owner" && !handsBack[n] && name != "model.go" {
					t.Errorf("%v: a part follows the pointer to a record", at)
				}
			}
			return true
		})
	}
}

// TestPartsHaveTests: each part has a test file of the same name.
func TestPartsHaveTests(t *testing.T) {
	for _, name := range parts {
		if _, err := os.Stat(strings.TrimSuffix(name, ".go") + "_test.go"); err != nil {
			t.Error(err)
		}
	}
}

// TestFIFOIsMadeOfParts: it has few fields besides them.
func TestFIFOIsMadeOfParts(t *testing.T) {
	fset, file := parse(t, "fifo.go")
	fields := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok || spec.Name.Name != "FIFO" {
			return true
		}
		for _, f := range spec.Type.(*ast.StructType).Fields.List {
			fields += max(1, len(f.Names))
		}
		if most := 18; fields > most {
			t.Errorf("%v: FIFO has %d fields, want at most %d", fset.Position(spec.Pos()), fields, most)
		}
		return false
	})
	if fields == 0 {
		t.Error("fifo.go has no struct FIFO")
	}
}

// TestFilesAreShort: no file has more than 400 lines, except tests.
func TestFilesAreShort(t *testing.T) {
	names, err := filepath.Glob("*.go")
	if err != nil || !slices.Contains(names, "fifo.go") {
		t.Fatalf("the files are %v, %v", names, err)
	}
	for _, name := range names {
		if n := strings.Count(read(t, name), "\n"); n > 400 && !strings.HasSuffix(name, "_test.go") {
			t.Errorf("%s has %d lines", name, n)
		}
	}
}

// parse parses a file.
func parse(t *testing.T, name string) (*token.FileSet, *ast.File) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	return fset, file
}
