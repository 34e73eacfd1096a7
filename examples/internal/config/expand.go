package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Expand replaces every "${NAME}" in word by vars["NAME"]. "$${" stands for a plain
// "${"; every other "$" stays as it is, so that the words of a shell script need no
// care unless it writes "${". Errors do not tell the word, which may hold a secret.
func Expand(word string, vars map[string]string) (string, error) {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(word, "${")
		if !found {
			b.WriteString(word)
			return b.String(), nil
		}
		if plain, escaped := strings.CutSuffix(before, "$"); escaped {
			b.WriteString(plain + "${")
			word = after
			continue
		}
		name, rest, closed := strings.Cut(after, "}")
		if !closed {
			return "", errors.New(`a "${" without its "}"; "$${" stands for a plain "${"`)
		}
		value, known := vars[name]
		if !known {
			names := strings.Join(slices.Sorted(maps.Keys(vars)), ", ")
			return "", fmt.Errorf(`${%s} is not known here; known: %s; "$${" stands for a plain "${"`, Shorten(name), names)
		}
		b.WriteString(before + value)
		word = rest
	}
}

// Shorten cuts what a message quotes.
func Shorten(s string) string {
	const most = 40
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}
