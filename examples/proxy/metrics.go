package main

import (
	"cmp"
	"maps"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"time"

	"example.com/scheduler"
	"example.com/scheduler/examples/internal/config"
	"example.com/scheduler/examples/internal/exposition"
)

// metrics counts what the scheduler's Snapshot does not. Its methods may be called
// from any goroutine.
//
// The number of series is bounded by the configuration, whatever callers send: a
// model that is not configured is counted under the name "", an HTTP status that
// is none under "other", and reasons and outcomes are constants of this program.
type metrics struct {
	started time.Time

	mu     sync.Mutex
	models map[string]*modelMetrics // the configured ones, and ""
}

// modelMetrics counts for one model.
type modelMetrics struct {
	answers map[answerKey]uint64
	loads   map[string]uint64 // by outcome
	times   [len(times)]exposition.Histogram
}

// answerKey is what answers are counted by. Code 0 is an HTTP status that is none.
type answerKey struct {
	code   int
	reason string
}

// What is measured.
const (
	waitTime = iota
	firstByteTime
	requestTime
	loadTime
)

// times are what is measured, as Prometheus is told of it.
var times = [...]struct{ family, help string }{
	waitTime:      {"modelproxy_wait_seconds", "Time from the arrival of a request to its grant."},
	firstByteTime: {"modelproxy_first_byte_seconds", "Time from the arrival of a request to the first byte of the model's answer."},
	requestTime:   {"modelproxy_request_seconds", "Time from the arrival of a request that was granted to the end of its answer."},
	loadTime:      {"modelproxy_load_seconds", "How long loads took that left the model ready, with what had to be stopped first."},
}

// How loads end.
const (
	loadReady     = "ready"
	loadFailed    = "failed"
	loadCancelled = "cancelled"
)

func newMetrics() *metrics {
	m := &metrics{started: time.Now()}
	m.configure(nil)
	return m
}

func newModelMetrics() *modelMetrics {
	return &modelMetrics{answers: make(map[answerKey]uint64), loads: make(map[string]uint64)}
}

// configure makes the models of a configuration those that are counted by name.
// What was counted for others is forgotten.
func (m *metrics) configure(models config.Models) {
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.models
	m.models = map[string]*modelMetrics{"": cmp.Or(old[""], newModelMetrics())}
	for name := range models {
		m.models[name] = cmp.Or(old[name], newModelMetrics())
	}
}

// count counts a request that has been answered.
func (m *metrics) count(v *visit) {
	m.mu.Lock()
	defer m.mu.Unlock()
	of := m.of(v.model)
	code := v.status
	if code < 100 || code > 599 {
		code = 0
	}
	of.answers[answerKey{code, v.reason}]++
	if !v.granted {
		return
	}
	of.times[waitTime].Observe(v.waited)
	of.times[requestTime].Observe(v.took)
	if v.first > 0 && (v.reason == "" || v.reason == leftReason) { // Else it may be the proxy's.
		of.times[firstByteTime].Observe(v.first)
	}
}

// loaded counts a load that has ended after d.
func (m *metrics) loaded(model, outcome string, d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	of := m.of(model)
	of.loads[outcome]++
	if outcome == loadReady {
		of.times[loadTime].Observe(d)
	}
}

// of returns what is counted for model.
func (m *metrics) of(model string) *modelMetrics {
	if known := m.models[model]; known != nil {
		return known
	}
	return m.models[""]
}

// text writes everything that there is to know, s too, as Prometheus reads it.
// Held is the size of the bodies that are held for waiting requests.
func (m *metrics) text(s status, held int64) []byte {
	var e exposition.Text
	writeScheduler(&e, s.Scheduler)
	writeModels(&e, s)
	writePools(&e, s.Pools)
	m.write(&e)
	e.Begin("gauge", "modelproxy_held_bytes", "Size of the request bodies held while their requests wait.")
	e.Sample(float64(held))
	e.Begin("gauge", "process_start_time_seconds", "When the proxy was started, since 1970.")
	e.Sample(float64(m.started.UnixMilli()) / 1000)
	e.Begin("gauge", "modelproxy_build_info", "Of what the proxy was built; always 1.")
	version, revision := build()
	e.Sample(1, "version", version, "revision", revision, "go", runtime.Version())
	return e.Bytes()
}

// writeScheduler writes what the scheduler has counted, and how it is doing as a whole.
func writeScheduler(e *exposition.Text, s scheduler.Snapshot) {
	c := s.Counters
	e.Begin("counter", "modelproxy_scheduler_requests_total", "Requests that the scheduler has done with, by outcome.")
	e.Sample(float64(c.Granted), "outcome", "granted")
	e.Sample(float64(c.Failed), "outcome", "failed")
	e.Sample(float64(c.Refused), "outcome", "refused")
	e.Sample(float64(c.Cancelled), "outcome", "cancelled")
	var oldest time.Duration
	for _, w := range s.Waiting {
		oldest = max(oldest, w.Age)
	}
	for _, family := range []struct {
		kind, name, help string
		value            float64
	}{
		{"counter", "swaps_started_total", "Swaps started.", float64(c.Swaps)},
		{"counter", "swaps_failed_total", "Swaps that reported an error or left a model that is not ready.", float64(c.SwapsFailed)},
		{"counter", "swaps_abandoned_total", "Swaps given up because of an unload or because nobody waited.", float64(c.SwapsAbandoned)},
		{"counter", "evictions_total", "Models that swaps have stopped.", float64(c.Evictions)},
		{"counter", "ignored_total", "Reports of a lease or a swap never issued or already ended.", float64(c.Ignored)},
		{"gauge", "oldest_wait_seconds", "How long the oldest waiting request has waited.", oldest.Seconds()},
		{"gauge", "swaps_outstanding", "Swaps that have not ended.", float64(len(s.Swaps))},
		{"gauge", "reservations", "Models that hold a reservation.", float64(len(s.Reserved))},
	} {
		e.Begin(family.kind, "modelproxy_scheduler_"+family.name, family.help)
		e.Sample(family.value)
	}
}

// states are the states of a process.
var states = []scheduler.ProcessState{
	scheduler.StateStopped,
	scheduler.StateStarting,
	scheduler.StateReady,
	scheduler.StateStopping,
	scheduler.StateShutdown,
}

// writeModels writes how each model is doing.
func writeModels(e *exposition.Text, s status) {
	known := make(map[string]scheduler.ModelStatus)
	for _, m := range s.Scheduler.Models {
		known[m.Model] = m
	}
	gauge := func(name, help string, value func(scheduler.ModelStatus) float64) {
		e.Begin("gauge", "modelproxy_scheduler_"+name, help)
		for _, m := range s.Models {
			e.Sample(value(known[m.Model]), "model", m.Model)
		}
	}
	gauge("waiting_requests", "Requests that wait.",
		func(m scheduler.ModelStatus) float64 { return float64(m.Waiting) })
	gauge("in_flight_requests", "Requests that are being served.",
		func(m scheduler.ModelStatus) float64 { return float64(m.InFlight) })
	gauge("cool_down_seconds", "How long the model goes on to refuse requests after a failed load.",
		func(m scheduler.ModelStatus) float64 { return m.CoolingDown.Seconds() })
	gauge("drain_seconds", "How long the model takes to finish what it has once it is closed.",
		func(m scheduler.ModelStatus) float64 { return m.Drain.Seconds() })
	gauge("closed", "Whether a reservation has closed the model to newcomers.",
		func(m scheduler.ModelStatus) float64 { return indicator(m.Closed) })
	e.Begin("gauge", "modelproxy_model_state", "1 for the state that the model's process is in, 0 for the others.")
	for _, m := range s.Models {
		for _, state := range states {
			e.Sample(indicator(m.State == state), "model", m.Model, "state", string(state))
		}
	}
}

// write writes what m has counted.
func (m *metrics) write(e *exposition.Text) {
	m.mu.Lock()
	defer m.mu.Unlock()
	names := slices.Sorted(maps.Keys(m.models))
	e.Begin("counter", "modelproxy_answers_total", "Requests answered, by model, HTTP status and the reason for an error. "+
		"No model: none was named, or none is called so. 499: the caller left.")
	for _, name := range names {
		answers := m.models[name].answers
		for _, a := range slices.SortedFunc(maps.Keys(answers), answerKey.compare) {
			code := "other"
			if a.code != 0 {
				code = strconv.Itoa(a.code)
			}
			e.Sample(float64(answers[a]), "model", name, "code", code, "reason", a.reason)
		}
	}
	names = slices.DeleteFunc(names, func(name string) bool { return name == "" })
	for i, t := range times {
		e.Begin("histogram", t.family, t.help)
		for _, name := range names {
			e.Histogram(&m.models[name].times[i], "model", name)
		}
	}
	e.Begin("counter", "modelproxy_loads_total", "Loads that have ended, by model and outcome.")
	for _, name := range names {
		for _, outcome := range []string{loadReady, loadFailed, loadCancelled} {
			e.Sample(float64(m.models[name].loads[outcome]), "model", name, "outcome", outcome)
		}
	}
}

// compare orders answers as they are written.
func (a answerKey) compare(b answerKey) int {
	return cmp.Or(cmp.Compare(a.code, b.code), cmp.Compare(a.reason, b.reason))
}

func indicator(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// build returns the version and the revision of the source, as far as the build has
// recorded them.
func build() (version, revision string) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "", ""
	}
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" {
			revision = setting.Value
		}
	}
	return info.Main.Version, revision
}
