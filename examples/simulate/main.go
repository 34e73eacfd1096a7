// Command simulate shows what a set-up of package scheduler does to its callers before it
// is used. It runs the scheduler in virtual time, hours in a second. README.md describes
// it.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

func main() {
	switch err := command(os.Args[1:], os.Stdout, os.Stderr); {
	case err == nil || errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errUsage):
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "simulate:", err)
		os.Exit(1)
	}
}

// command does what the flags say. What it finds goes to out, notes go to notes.
func command(args []string, out, notes io.Writer) error {
	o, err := parseOptions(args, notes)
	if err != nil {
		return err
	}
	if o.list {
		listWorkloads(out)
		return nil
	}
	w, base, err := o.prepare()
	if err != nil {
		return err
	}
	runs, names, err := o.variants(w, base)
	if err != nil {
		return err
	}
	results, err := o.simulate(runs, names, notes)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s: %s\n%s of virtual time, seed %d\n\n", w.name, w.about, shortDuration(base.length), o.seed)
	if err := table(out, results); err != nil {
		return err
	}
	if !o.each {
		return nil
	}
	for i, r := range results {
		fmt.Fprintf(out, "\n%s\n", label(names[i]))
		if err := each(out, r); err != nil {
			return err
		}
	}
	return nil
}

// prepare returns the workload, and what all variants have in common.
func (o *options) prepare() (*workload, run, error) {
	base := run{seed: o.seed}
	var c *settings
	var err error
	if o.config != "" {
		if c, err = readSettings(o.config); err != nil {
			return nil, base, err
		}
		base.options.MaxQueue = c.Queue.MaxQueue
	}
	w, length, err := o.source(c)
	if err != nil {
		return nil, base, err
	}
	if base.length = length; o.length > 0 {
		base.length = o.length
	}
	if c != nil {
		if err := c.applyTo(w); err != nil {
			return nil, base, fmt.Errorf("%s: %w", o.config, err)
		}
		if !o.patienceSet {
			o.patience = time.Duration(c.Queue.Patience).String()
		}
	}
	if o.maxQueue > 0 {
		base.options.MaxQueue = o.maxQueue
	}
	if err := o.change(w); err != nil {
		return nil, base, err
	}
	if o.trace != "" && o.length == 0 {
		arrivals := w.sources[0].arrivals
		base.length = max(time.Second, arrivals[len(arrivals)-1].at)
	}
	if n := w.rate() * base.length.Seconds(); n > maxRequests {
		return nil, base, fmt.Errorf("about %.0e requests would come in %v; at most %.0e are possible", n, base.length, maxRequests)
	}
	return w, base, nil
}

// maxRequests bounds how many requests come at a rate: an hour of work, or so.
const maxRequests = 1e9

// source returns the workload before anything is changed in it, and how long it is.
func (o *options) source(c *settings) (*workload, time.Duration, error) {
	if o.trace != "" {
		w, err := readTrace(o.trace)
		return w, 0, err
	}
	b, err := find(o.workload)
	if err != nil {
		return nil, 0, err
	}
	var names []string
	if o.models != "" {
		names = strings.Split(o.models, ",")
	} else if c != nil {
		names = c.names()
	}
	w, err := b.make(names)
	return w, b.length, err
}

// simulate carries out all runs.
func (o *options) simulate(runs []run, names [][]string, notes io.Writer) (results []*result, err error) {
	var lines *csvRecorder
	if o.csv != "" {
		if lines, err = createCSV(o.csv, dimensions[:len(names[0])]); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, lines.close()) }()
	}
	for i := range runs {
		r := &runs[i]
		r.progress = progress(notes, label(names[i]), r.length, time.Now)
		if lines != nil {
			lines.variant = names[i]
			r.recorders = append(r.recorders, lines)
		}
		res, err := o.simulateOne(r, names[i])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", label(names[i]), err)
		}
		results = append(results, res)
	}
	return results, nil
}

// simulateOne carries out one run, and draws its picture if that is wanted.
func (o *options) simulateOne(r *run, names []string) (*result, error) {
	var picture *timeline
	if o.svg != "" {
		if n := len(r.workload.models); n > svgMost {
			return nil, fmt.Errorf("a picture of %d models would be too high; at most %d are possible", n, svgMost)
		}
		from, to, err := o.shown(r.length)
		if err != nil {
			return nil, err
		}
		picture = newTimeline(from, to)
		r.recorders = append(r.recorders, picture)
	}
	res, err := r.simulate()
	if err != nil {
		return nil, err
	}
	res.variant = names
	if picture != nil {
		return res, o.write(picture, r, names)
	}
	return res, nil
}

// write writes the picture of a run.
func (o *options) write(t *timeline, r *run, names []string) error {
	svg := t.draw(r.workload.name+": "+label(names), strings.ToUpper(r.workload.about[:1])+r.workload.about[1:]+".")
	return os.WriteFile(o.svg, []byte(svg), 0o644)
}

// label says in one line what a variant is.
func label(names []string) string {
	parts := slices.Clone(names)
	for i, name := range names {
		parts[i] = dimensions[i] + " " + name
	}
	return strings.Join(parts, ", ")
}

// progress returns a function that says now and then how far a run is.
func progress(notes io.Writer, label string, length time.Duration, clock func() time.Time) func(time.Duration) {
	const often = 2 * time.Second
	next := clock().Add(often)
	return func(now time.Duration) {
		if real := clock(); !real.Before(next) {
			next = real.Add(often)
			fmt.Fprintf(notes, "%s: %s of %s\n", label, shortDuration(now.Round(time.Second)), shortDuration(length))
		}
	}
}
