package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing them")

// TestGolden: the tables of all workloads are as they were. A change of a rule shows here.
// Read the difference before you commit it.
func TestGolden(t *testing.T) {
	for i := range builtIns {
		name := builtIns[i].name
		t.Run(name, func(t *testing.T) {
			compared := []string{"-patience", "0,60s,-1"}
			switch name {
			case "flood", "nightly-batch":
				compared = []string{"-tenants", "on,off"}
			case "zipf":
				compared = []string{"-policy", "own,alone,lru:10,together"}
			}
			golden(t, name, append(compared, "-workload", name, "-for", "3h")...)
		})
	}
	t.Run("list", func(t *testing.T) { golden(t, "list", "-list") })
	t.Run("azure", func(t *testing.T) {
		golden(t, "azure", "-trace", "testdata/azure_llm_2023.csv", "-places", "16", "-patience", "0,60s,-1", "-each")
	})
	t.Run("servegen", func(t *testing.T) {
		golden(t, "servegen", "-trace", "testdata/servegen_clients.csv", "-config", "testdata/config.json",
			"-load", "20s,m-large=45s", "-policy", "own,alone,together", "-each")
	})
	t.Run("shared", func(t *testing.T) {
		golden(t, "shared", "-workload", "two-hot", "-shared", "-rate", "0.8x", "-service", "2x,red=3s", "-places", "3,red=6")
	})
}

// golden compares what a command writes with a file.
func golden(t *testing.T, name string, args ...string) {
	t.Helper()
	got := output(t, args...)
	compare(t, filepath.Join("testdata", "golden", name+".txt"), got)
}

// compare compares a text with a file.
func compare(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is different (go test -update writes it):\n%s", file, difference(string(want), got))
	}
}

// difference returns the lines in which two texts differ.
func difference(want, got string) string {
	var b strings.Builder
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range max(len(w), len(g)) {
		var x, y string
		if i < len(w) {
			x = w[i]
		}
		if i < len(g) {
			y = g[i]
		}
		if x != y {
			b.WriteString("- " + x + "\n+ " + y + "\n")
		}
	}
	return b.String()
}

// output returns what a command writes.
func output(t *testing.T, args ...string) string {
	t.Helper()
	var out, notes bytes.Buffer
	if err := command(args, &out, &notes); err != nil {
		t.Fatalf("simulate %s: %v\n%s", strings.Join(args, " "), err, &notes)
	}
	return out.String()
}

// TestSameSeedSameRun: a seed decides everything, and another seed gives another run.
func TestSameSeedSameRun(t *testing.T) {
	file := filepath.Join(t.TempDir(), "requests.csv")
	runs := make([]string, 3)
	for i, seed := range []string{"7", "7", "8"} {
		runs[i] = output(t, "-workload", "impatient", "-for", "1h", "-seed", seed, "-csv", file, "-each")
		lines, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		runs[i] += string(lines)
	}
	if runs[0] != runs[1] {
		t.Errorf("the same seed gives different runs:\n%s", difference(runs[0], runs[1]))
	}
	if runs[0] == runs[2] {
		t.Error("another seed gives the same run")
	}
}
