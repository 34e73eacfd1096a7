package config

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// The forms of names in Kubernetes.
var (
	labelForm     = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)              // RFC 1123
	qualifiedForm = regexp.MustCompile(`^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)$`) // the part of a key after the "/"
	subdomainForm = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)
)

// isLabel reports whether s is a DNS label of at most so many characters.
func isLabel(s string, most int) bool { return len(s) <= most && labelForm.MatchString(s) }

// labelRule says what [isLabel] asks for.
func labelRule(most int) string {
	return fmt.Sprintf(`at most %d small letters, digits and "-", beginning and ending with a letter or a digit`, most)
}

// isLabelValue reports whether s may be the value of a label of Kubernetes.
func isLabelValue(s string) bool {
	return s == "" || len(s) <= 63 && qualifiedForm.MatchString(s)
}

// isKey reports whether s may be the key of a label of Kubernetes, or the name of a
// resource: a name, and perhaps a domain and "/" in front of it.
func isKey(s string) bool {
	domain, name, found := strings.Cut(s, "/")
	if !found {
		domain, name = "x", s
	}
	return len(name) <= 63 && qualifiedForm.MatchString(name) && len(domain) <= 253 && subdomainForm.MatchString(domain)
}

// sortedKeys returns the keys of m in order.
func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
