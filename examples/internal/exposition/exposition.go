// Package exposition writes metrics in the text format of Prometheus, version 0.0.4.
package exposition

import (
	"bytes"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Text is metrics as Prometheus reads them. A family is written whole before the next one
// begins. The zero value is empty.
type Text struct {
	bytes.Buffer
	family string // the present one
}

// Begin starts a family. Kind is counter, gauge or histogram; help is one
// line without a backslash.
func (e *Text) Begin(kind, family, help string) {
	e.family = family
	e.WriteString("# HELP " + family + " " + help + "\n")
	e.WriteString("# TYPE " + family + " " + kind + "\n")
}

// Sample writes one value of the present family. Labels are names and values in
// turn.
func (e *Text) Sample(value float64, labels ...string) {
	e.line("", value, labels)
}

// Histogram writes what h has counted as samples of the present family.
func (e *Text) Histogram(h *Histogram, labels ...string) {
	total := uint64(0)
	for i, n := range h.counts {
		total += n
		bound := math.Inf(1)
		if i < len(bounds) {
			bound = bounds[i]
		}
		e.line("_bucket", float64(total), append(labels[:len(labels):len(labels)], "le", number(bound)))
	}
	e.line("_sum", h.sum, labels)
	e.line("_count", float64(total), labels)
}

func (e *Text) line(suffix string, value float64, labels []string) {
	e.WriteString(e.family + suffix)
	separator := "{"
	for i := 0; i < len(labels); i += 2 {
		e.WriteString(separator + labels[i] + `="` + labelEscapes.Replace(labels[i+1]) + `"`)
		separator = ","
	}
	if len(labels) > 0 {
		e.WriteString("}")
	}
	e.WriteString(" " + number(value) + "\n")
}

var labelEscapes = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)

// number writes a value.
func number(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

// bounds are the upper bounds of what a histogram tells apart, in seconds: from a
// request served at once to the load of a big model from a slow disk. Beyond them there
// is one more.
var bounds = [...]float64{.001, .01, .1, .5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600}

// Histogram counts times by length.
type Histogram struct {
	counts [len(bounds) + 1]uint64
	sum    float64
}

// Observe counts d.
func (h *Histogram) Observe(d time.Duration) {
	i, _ := slices.BinarySearch(bounds[:], d.Seconds())
	h.counts[i]++
	h.sum += d.Seconds()
}
