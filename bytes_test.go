package scheduler

import (
	"strings"
	"testing"
)

func TestParseBytes(t *testing.T) {
	for s, want := range map[string]int64{
		"0": 0, "7": 7, "7B": 7, "7 b": 7, "1KiB": 1024, "1k": 1024, "1kB": 1000, "1KB": 1000, "1 MiB": 1 << 20, "2mb": 2e6,
		"23.5GiB": 23<<30 + 1<<29, "23.5gb": 235e8, "24G": 24 << 30, "1.5 TiB": 3 << 39, "1TB": 1e12,
		"0.1B": 0, "0.0009765625KiB": 1, "1.9999": 1, "9223372036854775807": 1<<63 - 1, "8388607.9999999TiB": 1<<63 - 109952,
	} {
		if got, err := ParseBytes(s); got != want || err != nil {
			t.Errorf("%q is %d, %v, want %d", s, got, err, want)
		}
	}
	for _, s := range []string{
		"", " ", "GiB", " 1", "1  GiB", "1GiB ", "-1", "+1", "1e3", "0x10", "1_000", "1,5GiB", ".5GiB", "5.GiB", "1.2.3", "1/2",
		"1GGiB", "1 giga", "1EiB", "NaN", "Inf", "∞", "１GiB", "1\nGiB", "8388608TiB", "9223372036854775808", strings.Repeat("9", 1<<20), "1" + strings.Repeat("B", 1<<20),
	} {
		got, err := ParseBytes(s)
		if err == nil {
			t.Errorf("%.60q is %d", s, got)
		} else if len(err.Error()) > 400 {
			t.Errorf("an error of %d bytes", len(err.Error()))
		}
	}
}

func FuzzParseBytes(f *testing.F) {
	f.Add("23.5GiB")
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := ParseBytes(s); n < 0 || err != nil && n != 0 {
			t.Errorf("%q is %d, %v", s, n, err)
		}
	})
}
