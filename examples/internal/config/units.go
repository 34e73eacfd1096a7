package config

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"time"

	"example.com/scheduler"
)

// Secret is text that is never shown: neither printed, nor logged, nor encoded.
type Secret string

const hidden = "(hidden)"

// String does not tell it.
func (Secret) String() string { return hidden }

// GoString does not tell it.
func (Secret) GoString() string { return hidden }

// MarshalText does not tell it.
func (Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// Duration is written "1m30s" in the file; a plain number is seconds.
type Duration time.Duration

// Bound returns d as the length of a wait, of which a negative one never ends.
func (d Duration) Bound() time.Duration {
	if d < 0 {
		return math.MaxInt64
	}
	return time.Duration(d)
}

// Seconds returns n seconds.
func Seconds(n int) Duration { return Duration(time.Duration(n) * time.Second) }

// UnmarshalText reads either way of writing it.
func (d *Duration) UnmarshalText(text []byte) error {
	s := string(text)
	if strings.Trim(s, "+-.0123456789") == "" {
		s += "s"
	}
	v, err := time.ParseDuration(s)
	if err != nil {
		return errors.New(`must be a duration such as "1m30s"`)
	}
	*d = Duration(v)
	return nil
}

// MarshalText writes it as "1m30s".
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// String writes it as "1m30s".
func (d Duration) String() string { return time.Duration(d).String() }

// Size is a number of bytes, or of anything else, written 1048576 or "1MiB".
type Size int64

// UnmarshalText reads what [scheduler.ParseBytes] does. Only bytes have fractions.
func (s *Size) UnmarshalText(text []byte) error {
	n, err := scheduler.ParseBytes(string(text))
	if err != nil || strings.Trim(string(text), ".0123456789") == "" && strings.Contains(string(text), ".") {
		return errors.New(`must be a size such as "64MiB"`)
	}
	*s = Size(n)
	return nil
}

// sizeUnits are the units that String writes, those that it prefers first.
var sizeUnits = []struct {
	name  string
	bytes uint64
}{
	{"TiB", 1 << 40}, {"TB", 1e12}, {"GiB", 1 << 30}, {"GB", 1e9}, {"MiB", 1 << 20}, {"MB", 1e6}, {"KiB", 1 << 10}, {"KB", 1e3},
}

// MarshalText writes it as "1MiB".
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// String writes it as "1MiB".
func (s Size) String() string {
	n := uint64(s)
	for _, u := range sizeUnits {
		if n >= u.bytes && n%u.bytes == 0 {
			return strconv.FormatUint(n/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}
