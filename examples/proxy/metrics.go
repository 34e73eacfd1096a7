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

// modelMetrics counts for one model. The times are those of requests that it has served.
type modelMetrics struct {
	answers    map[answerKey]uint64
	waits      *histogram // arrival to grant
	firstBytes *histogram // arrival to the first byte of the answer
	durations  *histogram // arrival to the end of the answer
	loads      *histogram
	outcomes   map[string]uint64 // of loads
}

// answerKey is what answers are counted by.
type answerKey struct{ code, reason string }

var (
	// requestBounds reach from a request served at once to the patience of a person.
	requestBounds = []float64{.001, .01, .1, .5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600}
	// loadBounds reach from a small model in the page cache to a big one on a slow
	// disk.
	loadBounds = []float64{.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600}
)

func newMetrics() *metrics {
	m := &metrics{started: time.Now()}
	m.configure(nil)
	return m
}

func newModelMetrics() *modelMetrics {
	return &modelMetrics{
		answers:    make(map[answerKey]uint64),
		waits:      newHistogram(requestBounds),
		firstBytes: newHistogram(requestBounds),
		durations:  newHistogram(requestBounds),
		loads:      newHistogram(loadBounds),
		outcomes:   make(map[string]uint64),
	}
}

// configure makes the models of a configuration those that are counted by name.
// What was counted for others is forgotten.
func (m *metrics) configure(models modelConfigs) {
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
	code := "other"
	if v.status >= 100 && v.status <= 599 {
		code = codes[v.status-100]
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	of := m.of(v.model)
	of.answers[answerKey{code, v.reason}]++
	if !v.granted {
		return
	}
	of.waits.observe(v.waited.Seconds())
	of.durations.observe(v.took.Seconds())
	if v.first > 0 && (v.reason == "" || v.reason == leftReason) { // Else it is the proxy's.
		of.firstBytes.observe(v.first.Seconds())
	}
}

// codes are the HTTP statuses from 100 as text.
var codes = func() (codes [500]string) {
	for i := range codes {
		codes[i] = strconv.Itoa(100 + i)
	}
	return codes
}()

// loaded counts a load that has ended after d.
func (m *metrics) loaded(model, outcome string, d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	of := m.of(model)
	of.outcomes[outcome]++
	if outcome == loadReady {
		of.loads.observe(d.Seconds())
	}
}

// How loads end.
const (
	loadReady     = "ready"
	loadFailed    = "failed"
	loadCancelled = "cancelled"
)

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
	var e exposition
	writeCounters(&e, s.Scheduler.Counters)
	writeScheduler(&e, s.Scheduler)
	writeModels(&e, s)
	m.write(&e)
	e.single("gauge", "modelproxy_held_bytes", "Size of the request bodies held while their requests wait.", float64(held))
	e.single("gauge", "process_start_time_seconds", "When the proxy was started, since 1970.", float64(m.started.UnixMilli())/1000)
	e.begin("gauge", "modelproxy_build_info", "Of what the proxy was built; always 1.")
	version, revision := build()
	e.sample(1, "version", version, "revision", revision, "go", runtime.Version())
	return e.Bytes()
}

// writeCounters writes what the scheduler has counted.
func writeCounters(e *exposition, c scheduler.Counters) {
	e.begin("counter", "modelproxy_scheduler_requests_total", "Requests that the scheduler has done with, by outcome.")
	for _, outcome := range []struct {
		name  string
		count uint64
	}{
		{"granted", c.Granted},
		{"failed", c.Failed},
		{"refused", c.Refused},
		{"cancelled", c.Cancelled},
	} {
		e.sample(float64(outcome.count), "outcome", outcome.name)
	}
	for _, counter := range []struct {
		family, help string
		count        uint64
	}{
		{"modelproxy_scheduler_swaps_started_total", "Swaps started.", c.Swaps},
		{"modelproxy_scheduler_swaps_failed_total", "Swaps that reported an error or left a model that is not ready.", c.SwapsFailed},
		{"modelproxy_scheduler_swaps_abandoned_total", "Swaps given up because of an unload or because nobody waited.", c.SwapsAbandoned},
		{"modelproxy_scheduler_evictions_total", "Models that swaps have stopped.", c.Evictions},
		{"modelproxy_scheduler_ignored_total", "Reports of a lease or a swap never issued or already ended.", c.Ignored},
	} {
		e.single("counter", counter.family, counter.help, float64(counter.count))
	}
}

// writeScheduler writes how the scheduler as a whole is doing.
func writeScheduler(e *exposition, s scheduler.Snapshot) {
	var oldest time.Duration
	for _, w := range s.Waiting {
		oldest = max(oldest, w.Age)
	}
	for _, gauge := range []struct {
		family, help string
		value        float64
	}{
		{"modelproxy_scheduler_oldest_wait_seconds", "How long the oldest waiting request has waited.", oldest.Seconds()},
		{"modelproxy_scheduler_swaps_outstanding", "Swaps that have not ended.", float64(len(s.Swaps))},
		{"modelproxy_scheduler_reservations", "Models that hold a reservation.", float64(len(s.Reserved))},
	} {
		e.single("gauge", gauge.family, gauge.help, gauge.value)
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
func writeModels(e *exposition, s status) {
	known := make(map[string]scheduler.ModelStatus)
	for _, m := range s.Scheduler.Models {
		known[m.Model] = m
	}
	for _, gauge := range []struct {
		family, help string
		value        func(scheduler.ModelStatus) float64
	}{
		{"modelproxy_scheduler_waiting_requests", "Requests that wait.",
			func(m scheduler.ModelStatus) float64 { return float64(m.Waiting) }},
		{"modelproxy_scheduler_in_flight_requests", "Requests that are being served.",
			func(m scheduler.ModelStatus) float64 { return float64(m.InFlight) }},
		{"modelproxy_scheduler_cool_down_seconds", "How long the model goes on to refuse requests after a failed load.",
			func(m scheduler.ModelStatus) float64 { return m.CoolingDown.Seconds() }},
		{"modelproxy_scheduler_drain_seconds", "How long the model takes to finish what it has once it is closed.",
			func(m scheduler.ModelStatus) float64 { return m.Drain.Seconds() }},
		{"modelproxy_scheduler_closed", "Whether a reservation has closed the model to newcomers.",
			func(m scheduler.ModelStatus) float64 { return indicator(m.Closed) }},
	} {
		e.begin("gauge", gauge.family, gauge.help)
		for _, m := range s.Models {
			e.sample(gauge.value(known[m.Model]), "model", m.Model)
		}
	}
	e.begin("gauge", "modelproxy_model_state", "1 for the state that the model's process is in, 0 for the others.")
	for _, m := range s.Models {
		for _, state := range states {
			e.sample(indicator(m.State == state), "model", m.Model, "state", string(state))
		}
	}
}

// write writes what m has counted.
func (m *metrics) write(e *exposition) {
	m.mu.Lock()
	defer m.mu.Unlock()
	names := slices.Sorted(maps.Keys(m.models))
	e.begin("counter", "modelproxy_answers_total", "Requests answered, by model, HTTP status and the reason for an error. "+
		"No model: none was named, or none is called so. 499: the caller left.")
	for _, name := range names {
		answers := m.models[name].answers
		for _, a := range slices.SortedFunc(maps.Keys(answers), compareAnswers) {
			e.sample(float64(answers[a]), "model", name, "code", a.code, "reason", a.reason)
		}
	}
	names = slices.DeleteFunc(names, func(name string) bool { return name == "" })
	for _, family := range []struct {
		name, help string
		of         func(*modelMetrics) *histogram
	}{
		{"modelproxy_wait_seconds", "Time from a request's arrival to its grant.",
			func(m *modelMetrics) *histogram { return m.waits }},
		{"modelproxy_first_byte_seconds", "Time from the arrival of a request to the first byte of the model's answer.",
			func(m *modelMetrics) *histogram { return m.firstBytes }},
		{"modelproxy_request_seconds", "Time from the arrival of a request that was granted to the end of its answer.",
			func(m *modelMetrics) *histogram { return m.durations }},
		{"modelproxy_load_seconds", "How long loads took that left the model ready, with what had to be stopped first.",
			func(m *modelMetrics) *histogram { return m.loads }},
	} {
		e.begin("histogram", family.name, family.help)
		for _, name := range names {
			e.histogram(family.of(m.models[name]), "model", name)
		}
	}
	e.begin("counter", "modelproxy_loads_total", "Loads that have ended, by model and outcome.")
	for _, name := range names {
		for _, outcome := range []string{loadReady, loadFailed, loadCancelled} {
			e.sample(float64(m.models[name].outcomes[outcome]), "model", name, "outcome", outcome)
		}
	}
}

// compareAnswers orders answers as they are written.
func compareAnswers(a, b answerKey) int {
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
