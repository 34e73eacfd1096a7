package config

import (
	"fmt"
	"math"
	"math/big"
	"regexp"
	"strconv"
)

// quantityForm is a decimal number, and one of the suffixes of Kubernetes or an exponent.
var quantityForm = regexp.MustCompile(`^\+?([0-9]+\.?[0-9]*|\.[0-9]+)(?:([eE][-+]?[0-9]+)|([numkMGTPE]|[KMGTPE]i|))$`)

// quantityUnits are the suffixes.
var quantityUnits = map[string]*big.Rat{
	"n": big.NewRat(1, 1e9), "u": big.NewRat(1, 1e6), "m": big.NewRat(1, 1e3), "": big.NewRat(1, 1),
	"k": big.NewRat(1e3, 1), "M": big.NewRat(1e6, 1), "G": big.NewRat(1e9, 1),
	"T": big.NewRat(1e12, 1), "P": big.NewRat(1e15, 1), "E": big.NewRat(1e18, 1),
	"Ki": big.NewRat(1<<10, 1), "Mi": big.NewRat(1<<20, 1), "Gi": big.NewRat(1<<30, 1),
	"Ti": big.NewRat(1<<40, 1), "Pi": big.NewRat(1<<50, 1), "Ei": big.NewRat(1<<60, 1),
}

// ParseQuantity returns the amount that Kubernetes writes as s, such as "4", "16Gi",
// "500m" or "1e3". What is not whole is rounded down, and what is more than an int64 can
// hold is the most that it can. Amounts below 0 are errors.
func ParseQuantity(s string) (int64, error) {
	parts := quantityForm.FindStringSubmatch(s)
	if parts == nil || len(s) > 64 {
		return 0, fmt.Errorf("%q is not a quantity such as 4 or 16Gi", Shorten(s))
	}
	n, ok := new(big.Rat).SetString(parts[1])
	if !ok {
		return 0, fmt.Errorf("%q is not a quantity such as 4 or 16Gi", Shorten(s))
	}
	if parts[2] == "" {
		n.Mul(n, quantityUnits[parts[3]])
	} else {
		n.Mul(n, power(parts[2][1:]))
	}
	whole := new(big.Int).Quo(n.Num(), n.Denom())
	if !whole.IsInt64() {
		return math.MaxInt64, nil
	}
	return whole.Int64(), nil
}

// power returns 10 to the exponent, as far as that makes a difference for a number of
// at most 64 characters.
func power(exponent string) *big.Rat {
	const most = 100
	e, err := strconv.Atoi(exponent)
	if err != nil { // It has more digits than an int.
		e = most
		if exponent[0] == '-' {
			e = -most
		}
	}
	p := new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(min(max(e, -e), most))), nil))
	if e < 0 {
		p.Inv(p)
	}
	return p
}
