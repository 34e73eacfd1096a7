package main

import (
	"bytes"
	"math"
	"strconv"
	"strings"
)

// exposition writes metrics as Prometheus reads them: its text format, version
// 0.0.4. A family is written whole before the next one begins.
type exposition struct {
	bytes.Buffer
	family string // the present one
}

// begin starts a family. Kind is counter, gauge or histogram; help is one line.
func (e *exposition) begin(kind, family, help string) {
	e.family = family
	e.WriteString("# HELP " + family + " " + helpEscapes.Replace(help) + "\n")
	e.WriteString("# TYPE " + family + " " + kind + "\n")
}

// sample writes one value of the present family. Labels are names and values in
// turn.
func (e *exposition) sample(value float64, labels ...string) {
	e.line("", value, labels)
}

// single writes a family that has one sample.
func (e *exposition) single(kind, family, help string, value float64) {
	e.begin(kind, family, help)
	e.sample(value)
}

// histogram writes what h has counted as samples of the present family.
func (e *exposition) histogram(h *histogram, labels ...string) {
	total := uint64(0)
	for i, n := range h.counts {
		total += n
		bound := math.Inf(1)
		if i < len(h.bounds) {
			bound = h.bounds[i]
		}
		e.line("_bucket", float64(total), append(labels[:len(labels):len(labels)], "le", number(bound)))
	}
	e.line("_sum", h.sum, labels)
	e.line("_count", float64(total), labels)
}

func (e *exposition) line(suffix string, value float64, labels []string) {
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

var (
	helpEscapes  = strings.NewReplacer(`\`, `\\`, "\n", `\n`)
	labelEscapes = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)
)

// number writes a value, without an exponent as long as a person would.
func number(v float64) string {
	switch size := math.Abs(v); {
	case math.IsInf(v, 1):
		return "+Inf"
	case size >= 1e-6 && size < 1<<53:
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}

// histogram counts values by size.
type histogram struct {
	bounds []float64 // upper ones, ascending; beyond the last there is one more
	counts []uint64  // one for each bound, and one for what is beyond
	sum    float64
}

func newHistogram(bounds []float64) *histogram {
	return &histogram{bounds: bounds, counts: make([]uint64, len(bounds)+1)}
}

// observe counts v.
func (h *histogram) observe(v float64) {
	i := 0
	for i < len(h.bounds) && v > h.bounds[i] {
		i++
	}
	h.counts[i]++
	h.sum += v
}
