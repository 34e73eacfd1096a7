package scheduler

import (
	"log/slog"
	"slices"
)

// policy asks the Swapper, cleans its answers, survives its panics, and remembers
// what it said for as long as that holds (R5): a plain Swapper's answer while the
// running set is the same, and a Planner's, which sees more than that set, until
// something happens.
type policy struct {
	swapper Swapper
	planner Planner // the swapper, if it is one
	log     *slog.Logger
	running *running
	swaps   *swaps
	usage   func(model string) Resident // how a running model is used

	epoch    uint64 // answers from an earlier one have expired
	version  uint64 // of the running set in this epoch
	panicked bool   // an answer of this epoch stands for a panic

	// Memory that is used again.
	models    []string
	residents []Resident
}

// answers is what the policy keeps of one target. The zero value with a model has
// no answers.
type answers struct {
	model string
	epoch uint64   // of the list
	list  []answer // to different questions

	// The answer as things are.
	present struct {
		epoch uint64
		evict []string
		err   error
	}
}

// answer is what the Swapper said to one question.
type answer struct {
	running []string // that it was asked about
	loading string   // likewise: a model that counts as loading; "": as things are
	evict   []string // cleaned
	err     error
}

// newPolicy returns a policy that asks swapper about the running set. A Planner is
// shown what usage says of each model.
func newPolicy(swapper Swapper, log *slog.Logger, running *running, swaps *swaps, usage func(string) Resident) policy {
	p := policy{swapper: swapper, log: log, running: running, swaps: swaps, usage: usage, epoch: 1}
	p.planner, _ = swapper.(Planner)
	return p
}

// expire ends the validity of every answer.
func (p *policy) expire() {
	p.epoch++
	p.panicked = false
}

// expireUse notes that the running models may be used otherwise than before, which
// only a Planner sees. No panic is kept as an answer either.
func (p *policy) expireUse() {
	if p.planner != nil || p.panicked {
		p.expire()
	}
}

// sync lets the answers expire if the running set has changed, and returns it.
func (p *policy) sync() []string {
	models := p.running.list()
	if p.version != p.running.version {
		p.version = p.running.version
		p.expire()
	}
	return models
}

// evictionFor returns what has to be evicted for a's model as things are, or why it
// will never run. The caller must not change or keep it.
func (p *policy) evictionFor(a *answers) ([]string, error) {
	p.sync()
	if a.present.epoch != p.epoch {
		now := p.answer(a, p.others(a.model), "")
		a.present.epoch, a.present.evict, a.present.err = p.epoch, now.evict, now.err
	}
	return a.present.evict, a.present.err
}

// suffices reports whether the policy asks for nothing more for a's model once plan
// is carried out, beside a swap that may be nil (R8). What outstanding swaps stop is
// left out, because it will be gone by then, and so is what that swap stops; its
// target counts as loading.
func (p *policy) suffices(a *answers, plan []string, beside *intent) bool {
	models := p.models[:0]
	for _, model := range p.sync() {
		if model != a.model && !slices.Contains(plan, model) && !beside.stops(model) && p.swaps.stopping(model) == nil {
			models = append(models, model)
		}
	}
	loading := ""
	if beside != nil {
		loading = beside.target
		if i, found := slices.BinarySearch(models, loading); !found {
			models = slices.Insert(models, i, loading)
		}
	}
	p.models = models
	answer := p.answer(a, models, loading)
	return answer.err == nil && len(answer.evict) == 0
}

// startSwap tells the Swapper that a swap is about to start. An error refuses it.
func (p *policy) startSwap(target string) (err error) {
	defer refuse(p.log, "OnSwapStart", target, &err)
	p.swapper.OnSwapStart(target, p.others(target))
	return nil
}

// forget lets go of the answers to all questions but one, whose memory is worth
// keeping.
func (a *answers) forget() {
	if cap(a.list) > 1 {
		a.epoch, a.present.epoch, a.list = 0, 0, nil
	}
}

// others returns the running models without one of them.
func (p *policy) others(target string) []string {
	models := p.sync()
	p.models = append(p.models[:0], models...)
	if i, found := slices.BinarySearch(models, target); found {
		p.models = slices.Delete(p.models, i, i+1)
	}
	return p.models
}

// answer returns the Swapper's answer for a's model beside models, and asks for it
// unless it is known. Loading is a model that counts as loading for the sake of the
// question, or "".
func (p *policy) answer(a *answers, models []string, loading string) *answer {
	if a.epoch != p.epoch {
		a.epoch, a.list = p.epoch, a.list[:0]
	}
	// Only a Planner sees what loads, so that for a plain Swapper the question is the
	// same; and so it is for a model that loads as things are.
	if p.planner == nil || p.swaps.of(loading) != nil {
		loading = ""
	}
	for i := range a.list {
		if known := &a.list[i]; known.loading == loading && slices.Equal(known.running, models) {
			return known
		}
	}
	n := len(a.list)
	if n < cap(a.list) {
		a.list = a.list[:n+1] // The slices of the element are used again.
	} else {
		a.list = append(a.list, answer{})
	}
	now := &a.list[n]
	now.loading, now.running = loading, append(now.running[:0], models...)
	now.evict, now.err = p.ask(a.model, now.running, loading, now.evict[:0])
	return now
}

// ask puts a question to the Swapper and appends its cleaned answer to evict: each
// model once, and no model that does not run, the target among them.
func (p *policy) ask(target string, models []string, loading string, evict []string) ([]string, error) {
	answer, err, returned := p.put(target, models, loading)
	p.panicked = p.panicked || !returned
	if err != nil {
		return evict, err
	}
	for _, model := range answer {
		if _, found := slices.BinarySearch(models, model); found && !slices.Contains(evict, model) {
			evict = append(evict, model)
		}
	}
	return evict, nil
}

// put asks the Swapper, and reports whether it returned. A panic is a refusal.
func (p *policy) put(target string, models []string, loading string) (evict []string, err error, returned bool) {
	if p.planner != nil {
		defer refuse(p.log, "Plan", target, &err)
		evict, err = p.planner.Plan(target, p.describe(models, loading))
	} else {
		defer refuse(p.log, "EvictionFor", target, &err)
		evict = p.swapper.EvictionFor(target, models)
	}
	return evict, err, true
}

// describe shows the running models to a Planner.
func (p *policy) describe(models []string, loading string) []Resident {
	p.residents = p.residents[:0]
	for _, model := range models {
		r := p.usage(model)
		r.Model = model
		r.Loading = p.swaps.of(model) != nil || model == loading
		r.Leaving = p.swaps.stopping(model) != nil && model != loading
		p.residents = append(p.residents, r)
	}
	return p.residents
}
