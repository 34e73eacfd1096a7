package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Bounds of a trace.
const (
	maxTraceBytes = 1 << 30
	maxArrivals   = 20_000_000
)

// What models of a trace are like, unless flags say something else.
const (
	traceLoad   = 20 * time.Second
	tracePlaces = 4
)

// readTrace reads a file of arrivals: in each line the second of the arrival, the model,
// and the seconds that its service takes. Lines that begin with # are comments, and the
// first line may be a heading.
func readTrace(file string) (*workload, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	w, err := parseTrace(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	w.name = shorten(filepath.Base(file), 60)
	w.about = fmt.Sprintf("%s requests for %d models, as they were recorded", thousands(len(w.sources[0].arrivals)), len(w.models))
	return w, nil
}

// parseTrace reads what readTrace does.
func parseTrace(in io.Reader) (*workload, error) {
	limited := &io.LimitedReader{R: in, N: maxTraceBytes}
	r := csv.NewReader(limited)
	r.Comment, r.FieldsPerRecord, r.ReuseRecord = '#', -1, true
	t := traceReader{workload: &workload{policy: alonePolicy()}, models: make(map[string]int32)}
	for line, first := 0, true; ; first = false {
		fields, err := r.Read()
		if limited.N == 0 {
			return nil, fmt.Errorf("the file has more than %d bytes", maxTraceBytes)
		}
		if err == io.EOF {
			break
		}
		var broken *csv.ParseError
		if errors.As(err, &broken) {
			return nil, fmt.Errorf("line %d: %w", broken.StartLine, broken.Err)
		}
		if err != nil {
			return nil, err
		}
		line, _ = r.FieldPos(0)
		if err := t.add(fields); err != nil && !(first && heading(fields)) {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
	}
	if len(t.arrivals) == 0 {
		return nil, errors.New("there is no request in the file")
	}
	t.workload.sources = []source{{arrivals: t.arrivals}}
	return t.workload, nil
}

// heading reports whether a line names its fields.
func heading(fields []string) bool {
	_, err := strconv.ParseFloat(fields[0], 64)
	return len(fields) == 3 && err != nil
}

// traceReader collects the arrivals of a trace.
type traceReader struct {
	workload *workload
	models   map[string]int32 // indices
	arrivals []arrival
	last     time.Duration
}

// add adds one arrival.
func (t *traceReader) add(fields []string) error {
	if len(fields) != 3 {
		return fmt.Errorf("%d fields; want 3: arrival in seconds, model, service in seconds", len(fields))
	}
	at, err := parseSeconds(fields[0], maxTime)
	if err != nil {
		return fmt.Errorf("arrival: %w", err)
	}
	if at < t.last {
		return fmt.Errorf("arrival: %v is before the one of the line before, %v", at, t.last)
	}
	model, err := t.model(strings.TrimSpace(fields[1]))
	if err != nil {
		return err
	}
	service, err := parseSeconds(fields[2], maxDuration)
	if err != nil {
		return fmt.Errorf("service: %w", err)
	}
	if len(t.arrivals) == maxArrivals {
		return fmt.Errorf("more than %s requests", thousands(maxArrivals))
	}
	t.last = at
	t.arrivals = append(t.arrivals, arrival{at, service, model})
	return nil
}

// model returns the index of a model, which is added if it is new.
func (t *traceReader) model(name string) (int32, error) {
	if i, ok := t.models[name]; ok {
		return i, nil
	}
	switch {
	case name == "":
		return 0, errors.New("model: the name is empty")
	case len(name) > maxName:
		return 0, fmt.Errorf("model: the name is longer than %d bytes", maxName)
	case !utf8.ValidString(name):
		return 0, errors.New("model: the name is not UTF-8")
	case len(t.models) == maxModels:
		return 0, fmt.Errorf("model: more than %s models", thousands(maxModels))
	}
	name = strings.Clone(name) // Not the whole line.
	i := int32(len(t.models))
	t.models[name] = i
	t.workload.models = append(t.workload.models, model{name: name, load: traceLoad, places: tracePlaces})
	return i, nil
}

// parseSeconds reads a number of seconds, from 0 to most.
func parseSeconds(text string, most time.Duration) (time.Duration, error) {
	s, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	if err != nil || !(s >= 0 && s <= most.Seconds()) {
		return 0, fmt.Errorf("%.40q is not a number of seconds from 0 to %.0f", text, most.Seconds())
	}
	return time.Duration(s * float64(time.Second)), nil
}

// stretch changes the rate at which the requests of a trace come, and keeps their order.
func (s *source) stretch(factor float64) {
	for i := range s.arrivals {
		at := float64(s.arrivals[i].at) / factor
		s.arrivals[i].at = time.Duration(min(at, float64(2*maxTime)))
	}
}
