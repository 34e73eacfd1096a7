package scheduler

import (
	"fmt"
	"math/big"
	"strings"
)

// byteUnits are the units of ParseBytes, in lower case.
var byteUnits = map[string]int64{
	"": 1, "b": 1,
	"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40,
	"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40,
	"kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12,
}

// ParseBytes returns the number of bytes that s says, for configuration files: a decimal
// number with an optional fraction, and a unit. "23.5GiB" is 23.5 × 2³⁰, and "23.5GB" is
// 23.5 × 10⁹. The units are B, KiB, MiB, GiB and TiB, in which K, M, G and T alone stand
// for the same, and kB, MB, GB and TB. Case does not matter, and there may be a space
// before the unit. A fraction of a byte is dropped. ParseBytes returns an error for
// anything else: nothing, a sign, an exponent, or more than an int64 can hold.
func ParseBytes(s string) (int64, error) {
	number := strings.TrimRight(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
	unit, known := byteUnits[strings.ToLower(s[len(number):])]
	number = strings.TrimSuffix(number, " ")
	if !known || len(number) > 40 || !isDecimal(number) {
		return 0, fmt.Errorf("scheduler: %.60q is not a size such as 23.5GiB", s)
	}
	n, ok := new(big.Rat).SetString(number)
	if !ok {
		return 0, fmt.Errorf("scheduler: %.60q is not a size such as 23.5GiB", s)
	}
	n.Mul(n, new(big.Rat).SetInt64(unit))
	bytes := new(big.Int).Quo(n.Num(), n.Denom())
	if !bytes.IsInt64() {
		return 0, fmt.Errorf("scheduler: %.60q is too large", s)
	}
	return bytes.Int64(), nil
}

// isDecimal reports whether s is digits, at most one point, and digits again.
func isDecimal(s string) bool {
	whole, fraction, point := strings.Cut(s, ".")
	return isDigits(whole) && (!point || isDigits(fraction))
}

// isDigits reports whether s is one digit or more.
func isDigits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }
