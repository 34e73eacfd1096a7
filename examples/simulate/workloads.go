package main

import (
	"fmt"
	"math"
	"time"

	"example.com/scheduler"
)

// builtIn is a workload that is made for some models.
type builtIn struct {
	name   string
	about  string
	models []string // the usual names
	any    bool     // it takes any number of models, of which there is at least one
	length time.Duration
	build  func(w *workload, names []string)
}

// builtIns are the workloads that there are.
var builtIns = []builtIn{
	{"two-hot", "two models that are wanted all the time, and room for one of them",
		[]string{"red", "blue"}, false, 4 * time.Hour, twoHot},
	{"hot-and-rare", "a model that is never idle, a model that is asked for six times an hour, and room for one",
		[]string{"hot", "rare"}, false, 4 * time.Hour, hotAndRare},
	{"big-and-small", "one big model against four small ones, in 48 GB",
		[]string{"big", "small-1", "small-2", "small-3", "small-4"}, false, 4 * time.Hour, bigAndSmall},
	{"zipf", "many models of falling popularity, and room for four",
		numbered("model-", 20), true, 4 * time.Hour, zipf},
	{"bursts", "four models that get nothing, and then twenty requests within ten seconds",
		numbered("model-", 4), true, 4 * time.Hour, bursts},
	{"agents", "twelve agents that ask three models in turn, and room for one",
		[]string{"planner", "coder", "critic"}, true, 4 * time.Hour, agents},
	{"two-groups", "embedders of 2 s beside language models of 20 s, one of each at a time",
		[]string{"embed-1", "embed-2", "llm-1", "llm-2", "llm-3", "llm-4"}, false, 4 * time.Hour, twoGroups},
	{"nightly-batch", "a batch of 5,000 requests after one hour, beside interactive callers, and room for one model",
		[]string{"large", "chat"}, false, 6 * time.Hour, nightlyBatch},
	{"flood", "sixteen tenants, and one more with three hundred requests at a time",
		[]string{"model"}, false, 2 * time.Hour, flood},
	{"impatient", "callers of three models that leave after half a minute, on average, and come back",
		[]string{"red", "green", "blue"}, true, 4 * time.Hour, impatient},
}

// numbered returns n names.
func numbered(prefix string, n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf("%s%02d", prefix, i+1))
	}
	return names
}

// make makes the workload for models of those names, or of its own if there are none.
func (b *builtIn) make(names []string) (*workload, error) {
	switch {
	case len(names) == 0:
		names = b.models
	case !b.any && len(names) < len(b.models):
		return nil, fmt.Errorf("workload %s needs %d models, not %d", b.name, len(b.models), len(names))
	case !b.any:
		names = names[:len(b.models)]
	}
	w := &workload{name: b.name, about: b.about, policy: alonePolicy()}
	b.build(w, names)
	return w, nil
}

// add adds models that are alike.
func (w *workload) add(load, service time.Duration, places int, names ...string) {
	for _, name := range names {
		w.models = append(w.models, model{name: name, load: load, service: service, places: places, law: exponential})
	}
}

// ask adds a source.
func (w *workload) ask(s source, chain ...string) {
	s.chain = chain
	w.sources = append(w.sources, s)
}

func twoHot(w *workload, names []string) {
	w.add(20*time.Second, 5*time.Second, 4, names...)
	for _, name := range names {
		w.ask(source{rate: 0.3}, name)
	}
}

func hotAndRare(w *workload, names []string) {
	w.add(20*time.Second, 5*time.Second, 4, names...)
	w.ask(source{callers: 12, think: 5 * time.Second}, names[0])
	w.ask(source{rate: 6.0 / 3600}, names[1])
}

func bigAndSmall(w *workload, names []string) {
	w.add(60*time.Second, 10*time.Second, 4, names[0])
	w.add(10*time.Second, 4*time.Second, 4, names[1:]...)
	budget := scheduler.Budget{Capacity: map[string]int64{"gpu": 48}, Models: make(map[string]scheduler.Footprint)}
	for i, m := range w.models {
		gb, rate := int64(12), 0.1
		if i == 0 {
			gb, rate = 40, 0.03
		}
		budget.Models[m.name] = scheduler.Footprint{
			Placements: []scheduler.Placement{{"gpu": gb}},
			Reload:     m.load.Seconds(),
		}
		w.ask(source{rate: rate}, m.name)
	}
	w.policy = budgetPolicy("budget", budget)
}

func zipf(w *workload, names []string) {
	w.add(10*time.Second, 3*time.Second, 8, names...)
	sum := 0.0
	for i := range names {
		sum += 1 / float64(i+1)
	}
	for i, name := range names {
		w.ask(source{rate: 0.3 / float64(i+1) / sum}, name)
	}
	w.policy = lruPolicy(4)
}

func bursts(w *workload, names []string) {
	w.add(20*time.Second, 4*time.Second, 4, names...)
	for _, name := range names {
		w.ask(source{rate: 0.1, burst: 20, within: 10 * time.Second}, name)
	}
}

func agents(w *workload, names []string) {
	w.add(15*time.Second, 8*time.Second, 4, names...)
	w.ask(source{callers: 12, think: 30 * time.Second}, names...)
}

func twoGroups(w *workload, names []string) {
	small, big := names[:2], names[2:]
	w.add(2*time.Second, 2*time.Second, 20, small...)
	w.add(20*time.Second, 20*time.Second, 4, big...)
	for _, name := range small {
		w.ask(source{rate: 3}, name)
	}
	for _, name := range big {
		w.ask(source{callers: 6, think: 10 * time.Second}, name)
	}
	w.policy = groupPolicy("groups",
		scheduler.Group{Name: "embedders", Members: small, Swap: true},
		scheduler.Group{Name: "language models", Members: big, Swap: true})
}

func nightlyBatch(w *workload, names []string) {
	w.add(30*time.Second, 5*time.Second, 8, names...)
	w.ask(source{tenant: "batch", batch: 5000, at: time.Hour}, names[0])
	for _, name := range names {
		w.ask(source{tenant: "interactive", callers: 6, think: time.Minute}, name)
	}
}

func flood(w *workload, names []string) {
	w.add(20*time.Second, 2*time.Second, 4, names...)
	w.ask(source{tenant: "flood", callers: 300}, names[0])
	for i := range 16 {
		w.ask(source{tenant: fmt.Sprintf("tenant-%02d", i+1), callers: 1, think: 20 * time.Second}, names[0])
	}
}

func impatient(w *workload, names []string) {
	w.add(20*time.Second, 5*time.Second, 4, names...)
	for _, name := range names {
		w.ask(source{callers: 8, think: 20 * time.Second, timeout: 30 * time.Second, back: 5 * time.Second}, name)
	}
}

// scaleRate multiplies the rate of all open loops.
func (w *workload) scaleRate(factor float64) {
	for i := range w.sources {
		w.sources[i].rate *= factor
	}
}

// rate returns the rate of all open loops together.
func (w *workload) rate() (sum float64) {
	for i := range w.sources {
		sum += w.sources[i].rate
	}
	return sum
}

// scaled multiplies a time. What would be too long stays so long that check refuses it.
func scaled(d time.Duration, factor float64) time.Duration {
	return time.Duration(math.Min(float64(d)*factor, float64(2*maxDuration)))
}
