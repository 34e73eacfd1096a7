package config

import (
	"math"
	"strings"
	"testing"
)

func TestParseQuantity(t *testing.T) {
	for _, tt := range []struct {
		text string
		want int64
	}{
		{"0", 0}, {"4", 4}, {"+4", 4}, {"0004", 4}, {"4.", 4}, {".5", 0}, {"1.5", 1},
		{"999m", 0}, {"1000m", 1}, {"3920m", 3}, {"1u", 0}, {"2000000u", 2}, {"5000000000n", 5},
		{"2k", 2000}, {"3M", 3e6}, {"4G", 4e9}, {"5T", 5e12}, {"6P", 6e15}, {"7E", 7e18},
		{"2Ki", 2 << 10}, {"3Mi", 3 << 20}, {"16Gi", 16 << 30}, {"5Ti", 5 << 40}, {"6Pi", 6 << 50}, {"7Ei", 7 << 60},
		{"1.5Gi", 3 << 29}, {"65536512Ki", 65536512 << 10}, {"0.1Ki", 102},
		{"1e3", 1000}, {"1E3", 1000}, {"12e-1", 1}, {"1.5e3", 1500}, {"1e+3", 1000}, {"1e-400", 0}, {"0e400", 0},
		{"9223372036854775807", math.MaxInt64}, {"9223372036854775808", math.MaxInt64}, {"8Ei", math.MaxInt64},
		{"12E", math.MaxInt64}, {"1e19", math.MaxInt64}, {"1e999999999999999999999999", math.MaxInt64},
		{"1e-999999999999999999999999", 0}, {"1e999999999", math.MaxInt64}, {"1e-999999999", 0},
	} {
		if n, err := ParseQuantity(tt.text); err != nil || n != tt.want {
			t.Errorf("%q is %d, %v, want %d", tt.text, n, err, tt.want)
		}
	}
	for _, text := range []string{
		"", " ", "4 ", " 4", "-1", "-0", "Gi", ".", "+", "e3", "1e", "1e1.5", "1ee3", "4GB", "4gi", "4KI", "4K",
		"4Gii", "4i", "1,5", "0x10", "1_000", "Inf", "NaN", "4\n", "٤", strings.Repeat("1", 65),
	} {
		if n, err := ParseQuantity(text); err == nil {
			t.Errorf("%q is %d, want an error", text, n)
		}
	}
}

func FuzzParseQuantity(f *testing.F) {
	for _, text := range []string{"4", "16Gi", "500m", "1e3", "12E", ".5e-3", "-1"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, err := ParseQuantity(text)
		if n < 0 || err != nil && n != 0 {
			t.Fatalf("%q is %d, %v", text, n, err)
		}
		if more, wrong := ParseQuantity("1" + text); err == nil && wrong == nil && more < n {
			t.Fatalf("%q is %d, but with a 1 in front %d", text, n, more)
		}
	})
}
