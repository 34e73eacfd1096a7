package main

import (
	"encoding/csv"
	"errors"
	"os"
	"slices"
	"strconv"
	"time"
)

// csvRecorder writes a line for each request, in the order in which they are answered.
type csvRecorder struct {
	file    *os.File
	out     *csv.Writer
	variant []string
	line    []string
}

// createCSV creates the file and writes its heading.
func createCSV(name string, dimensions []string) (*csvRecorder, error) {
	file, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	r := &csvRecorder{file: file, out: csv.NewWriter(file)}
	r.out.Write(append(slices.Clone(dimensions), "model", "tenant", "arrived", "waited", "service", "end"))
	return r, nil
}

// close writes what has not been written yet. It returns the first error of all writes.
func (r *csvRecorder) close() error {
	r.out.Flush()
	return errors.Join(r.out.Error(), r.file.Close())
}

func (r *csvRecorder) look(*host) {}

// answer implements recorder. Times are seconds. An error of a write is told by close.
func (r *csvRecorder) answer(h *host, c *caller, o end) {
	r.line = append(r.line[:0], r.variant...)
	r.line = append(r.line, c.process.name, c.from.tenant, decimal(c.arrived), decimal(h.now-c.arrived), decimal(c.service), string(o))
	r.out.Write(r.line)
}

// decimal writes a time in seconds, to the millisecond.
func decimal(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', 3, 64) }
