package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
)

// table writes the results of several variants side by side, a column for each.
func table(out io.Writer, results []*result) error {
	var text strings.Builder
	t := tabwriter.NewWriter(&text, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(name string, cell func(r *result) string) {
		// The first column is aligned to the left by the spaces that fill it up.
		fmt.Fprintf(t, "%-*s\t", nameWidth, name)
		for _, r := range results {
			fmt.Fprint(t, cell(r), "\t")
		}
		fmt.Fprintln(t)
	}
	for i := range results[0].variant {
		row(dimensions[i], func(r *result) string { return r.variant[i] })
	}
	row("", func(*result) string { return "" })
	row("requests", func(r *result) string { return thousands(r.requests) })
	row("served", func(r *result) string { return thousands(r.served) })
	row("refused", func(r *result) string { return thousands(r.refused) })
	row("left", func(r *result) string { return thousands(r.left) })
	row("served per hour", func(r *result) string { return strconv.FormatFloat(r.perHour(), 'f', 1, 64) })
	row("swaps", func(r *result) string { return thousands(r.swaps) })
	row("time loading", func(r *result) string {
		return fmt.Sprintf("%.1f %%", 100*r.loading.Seconds()/max(r.length.Seconds(), 1e-9))
	})
	row("wait: mean", func(r *result) string { return seconds(r.waits.mean()) })
	for _, q := range []struct {
		name string
		part float64
	}{{"p50", 0.5}, {"p95", 0.95}, {"p99", 0.99}} {
		row("      "+q.name, func(r *result) string { return seconds(r.waits.quantile(q.part).Seconds()) })
	}
	row("      longest", func(r *result) string { return seconds(r.waits.longest.Seconds()) })
	worstRows(row, "worst model", (*result).worstModel)
	if len(results[0].tenants) > 1 {
		worstRows(row, "worst tenant", (*result).worstTenant)
	}
	t.Flush()
	return write(out, text.String())
}

// nameWidth is the width of the first column.
const nameWidth = 16

// write writes the lines of a table without the spaces around them.
func write(out io.Writer, table string) error {
	for line := range strings.Lines(table) {
		line = strings.TrimPrefix(strings.TrimRight(line, " \n"), "  ")
		if _, err := fmt.Fprintln(out, line); err != nil {
			return err
		}
	}
	return nil
}

// worstRows writes who is served worst.
func worstRows(row func(string, func(*result) string), name string, of func(*result) worst) {
	row(name, func(r *result) string { return shorten(of(r).name, 24) })
	row("      p99", func(r *result) string { return seconds(of(r).p99.Seconds()) })
	row("      longest", func(r *result) string { return seconds(of(r).longest.Seconds()) })
}

// each writes a line for each model, and for each tenant if there are several.
func each(out io.Writer, r *result) error {
	var text strings.Builder
	t := tabwriter.NewWriter(&text, 0, 0, 2, ' ', tabwriter.AlignRight)
	line := func(name string, w *tally) {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t\n", shorten(name, 40), thousands(w.n), seconds(w.mean()),
			seconds(w.quantile(0.5).Seconds()), seconds(w.quantile(0.99).Seconds()), seconds(w.longest.Seconds()))
	}
	fmt.Fprint(t, "model\trequests\tmean\tp50\tp99\tlongest\t\n")
	for _, p := range r.models {
		line(p.name, &p.waits)
	}
	if len(r.tenants) > 1 {
		fmt.Fprint(t, "tenant\t\t\t\t\t\t\n")
		for _, one := range r.tenants {
			line(one.name, &one.waits)
		}
	}
	t.Flush()
	return write(out, text.String())
}

// thousands writes n in groups of three digits.
func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// seconds writes a time with as many digits as matter.
func seconds(s float64) string {
	switch {
	case s < 100:
		return strconv.FormatFloat(s, 'f', 1, 64) + " s"
	case s < 6000:
		return strconv.FormatFloat(s/60, 'f', 1, 64) + " min"
	}
	return strconv.FormatFloat(s/3600, 'f', 1, 64) + " h"
}

// shortDuration writes a duration without parts that are zero: 10m, not 10m0s.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// shorten cuts a name that is longer than n characters, and replaces what cannot be
// printed: names come from files, and go to terminals and pictures.
func shorten(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '·'
	}, s)
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}
