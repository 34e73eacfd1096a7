package main

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// values is a flag that sets something for all models or for single ones:
// VALUE[,MODEL=VALUE]...
type values struct {
	all    string
	models map[string]string
}

// Set implements flag.Value.
func (v *values) Set(text string) error {
	*v = values{models: make(map[string]string)}
	for part := range strings.SplitSeq(text, ",") {
		i := strings.LastIndex(part, "=")
		switch {
		case part == "" || i == 0 || i == len(part)-1:
			return fmt.Errorf("want VALUE, MODEL=VALUE, or several of them with commas between")
		case i > 0:
			v.models[part[:i]] = part[i+1:]
		case v.all != "":
			return fmt.Errorf("%s and %s are for all models; say for which model one of them is: MODEL=%s", v.all, part, part)
		default:
			v.all = part
		}
	}
	return nil
}

func (v *values) String() string { return v.all }

// each calls set for each model that the flag is about, with its value.
func (v *values) each(w *workload, set func(i int, m *model, text string) error) error {
	names := w.names()
	for _, name := range slices.Sorted(maps.Keys(v.models)) {
		if !slices.Contains(names, name) {
			return fmt.Errorf("no model %.60q; there are %s", name, shorten(strings.Join(names, ", "), 300))
		}
	}
	for i := range w.models {
		m := &w.models[i]
		text, ok := v.models[m.name]
		if !ok {
			text = v.all
		}
		if text == "" {
			continue
		}
		if err := set(i, m, text); err != nil {
			return err
		}
	}
	return nil
}

// changeTime changes a time as text says: 30s, or 2x for twice as long.
func changeTime(d *time.Duration, text string) error {
	if factor, ok := strings.CutSuffix(text, "x"); ok {
		f, err := parseFactor(factor)
		if err == nil {
			*d = scaled(*d, f)
		}
		return err
	}
	t, err := parseTime(text)
	if err != nil {
		return err
	}
	if t < 0 || t > maxDuration {
		return fmt.Errorf("%v; want 0s to %v", t, maxDuration)
	}
	*d = t
	return nil
}

// parseFactor reads a factor.
func parseFactor(text string) (float64, error) {
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || !(f > 0 && f <= 1e6) {
		return 0, fmt.Errorf("%.40q is not a factor such as 1.5", text)
	}
	return f, nil
}

// changeRate changes the rate at which requests come, as text says: 2x for twice as many,
// or a number for so many per second in all.
func (w *workload) changeRate(text string) error {
	factor, multiplies := strings.CutSuffix(text, "x")
	f, err := parseFactor(factor)
	if err != nil {
		return err
	}
	now := w.rate()
	for i := range w.sources {
		if n := len(w.sources[i].arrivals); n > 0 {
			now += float64(n) / math.Max(1e-9, w.sources[i].arrivals[n-1].at.Seconds())
		}
	}
	if !multiplies {
		if now == 0 {
			return fmt.Errorf("there is no rate to set: all callers of this workload come back after they were served")
		}
		f /= now
	}
	w.scaleRate(f)
	for i := range w.sources {
		w.sources[i].stretch(f)
	}
	return nil
}

// changeService changes how long requests take, in a trace too.
func (w *workload) changeService(v *values) error {
	recorded := make(map[int32]string)
	err := v.each(w, func(i int, m *model, text string) error {
		recorded[int32(i)] = text
		return changeTime(&m.service, text)
	})
	if err != nil {
		return err
	}
	for i := range w.sources {
		for j := range w.sources[i].arrivals {
			a := &w.sources[i].arrivals[j]
			if text, ok := recorded[a.model]; ok {
				if err := changeTime(&a.service, text); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
