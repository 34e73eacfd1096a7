package scheduler

import (
	"fmt"
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
	changes func() uint64               // grows whenever that changes

	epoch    uint64 // answers from an earlier one have expired
	step     uint64 // answers that have been given in it hold until it ends
	version  uint64 // of the running set in this epoch
	panicked bool   // an answer of this epoch stands for a panic

	// Memory that is used again.
	models    []string
	loading   []string
	residents []Resident
}

// answers is what the policy keeps of one target. The zero value with a model has
// no answers.
type answers struct {
	model   string
	epoch   uint64   // of the list
	list    []answer // to different questions
	next    int      // of the list: the next question is often the same as after the latest one before
	present answer   // as things are; what it was asked about is not kept
}

// answer is what the Swapper said to one question.
type answer struct {
	running []string // that it was asked about
	loading []string // likewise: models that are supposed to load; nil: as things are
	evict   []string // cleaned
	err     error

	epoch uint64 // in which it was given
	step  uint64 // in which it was given, or has last been found to hold
	used  uint64 // policy.uses when it was given
}

// expire ends the validity of every answer.
func (p *policy) expire() {
	p.epoch++
	p.panicked = false
}

// begin begins a step. No panic is kept as an answer beyond the step before.
func (p *policy) begin() {
	p.step++
	if p.panicked {
		p.expire()
	}
}

// uses grows whenever something changes that only a Planner sees.
func (p *policy) uses() uint64 {
	if p.planner == nil {
		return 0
	}
	return p.changes() + p.swaps.changes
}

// holds reports whether an answer still holds: until the end of the step in which it
// was given, whatever a Planner would say in the middle of it, and beyond that for as
// long as nothing has changed that the Swapper sees.
func (p *policy) holds(a *answer) bool {
	if a.epoch != p.epoch || a.step != p.step && a.used != p.uses() {
		return false
	}
	a.step = p.step
	return true
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
	if !p.holds(&a.present) {
		p.give(&a.present, a.model, p.others(a.model), nil)
	}
	return a.present.evict, a.present.err
}

// suffices reports whether the policy asks for nothing more for a's model once plan
// is carried out, beside a swap that may be nil (R8). What outstanding swaps stop is
// left out, because it will be gone by then, and so is what that swap stops; its
// target counts as loading.
func (p *policy) suffices(a *answers, plan []string, beside *intent) bool {
	if beside == nil {
		return p.asksNoMore(a, plan, nil, nil, true)
	}
	return p.asksNoMore(a, plan, beside.evict, []string{beside.target}, true)
}

// sufficesYet is suffices as long as what outstanding swaps stop is still there.
func (p *policy) sufficesYet(a *answers, plan []string) bool {
	return p.asksNoMore(a, plan, nil, nil, false)
}

// sufficesBesideAll is suffices beside the loads of all targets, sorted, whatever they
// stop. Since an answer only grows with the running set, a plan that suffices then
// suffices beside any one of them.
func (p *policy) sufficesBesideAll(a *answers, plan, targets []string) bool {
	return p.asksNoMore(a, plan, nil, targets, true)
}

// asksNoMore asks about the running models without those that stop, and with those
// that are supposed to load, which are sorted. Gone says whether what outstanding swaps
// stop is left out too.
func (p *policy) asksNoMore(a *answers, plan, stop, load []string, gone bool) bool {
	models, targets := p.models[:0], load
	asIs := true
	for _, model := range p.sync() {
		for len(targets) > 0 && targets[0] < model {
			if targets[0] != a.model {
				models, asIs = append(models, targets[0]), false
			}
			targets = targets[1:]
		}
		supposed := len(targets) > 0 && targets[0] == model
		if supposed {
			targets = targets[1:]
		}
		switch {
		case model == a.model:
		case supposed: // Whatever stops it.
			models = append(models, model)
		case slices.Contains(plan, model) || slices.Contains(stop, model) || gone && p.swaps.stopping(model) != nil:
			asIs = false
		default:
			models = append(models, model)
		}
	}
	for _, model := range targets {
		if model != a.model {
			models, asIs = append(models, model), false
		}
	}
	loading := p.supposed(a.model, load)
	if asIs && len(loading) == 0 {
		evict, err := p.evictionFor(a)
		return err == nil && len(evict) == 0
	}
	p.models = models
	answer := p.answer(a, models, loading)
	return answer.err == nil && len(answer.evict) == 0
}

// supposed returns what of load the Swapper sees to load that does not load anyway.
// Only a Planner sees any of it.
func (p *policy) supposed(target string, load []string) []string {
	p.loading = p.loading[:0]
	if p.planner != nil {
		for _, model := range load {
			if model != target && p.swaps.of(model) == nil {
				p.loading = append(p.loading, model)
			}
		}
	}
	return p.loading
}

// stamp is the state of everything that a question about sufficing depends on.
type stamp struct{ epoch, swaps, uses uint64 }

// stamp returns the present one.
func (p *policy) stamp() stamp {
	p.sync()
	return stamp{p.epoch, p.swaps.changes, p.uses()}
}

// startSwap tells the Swapper that a swap is about to start. An error refuses it. A
// Swapper with a memory may answer otherwise from then on, even if the same models run:
// the target of a swap that only stops others runs already.
func (p *policy) startSwap(target string) (err error) {
	defer refuse(p.log, "OnSwapStart", target, &err)
	p.swapper.OnSwapStart(target, p.others(target))
	p.expire()
	return nil
}

// forget lets go of the answers to all questions but the usual one, whose memory is
// worth keeping.
func (a *answers) forget() { a.epoch, a.list, a.next = 0, nil, 0 }

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
// unless it is known. Models in loading are supposed to load for the sake of the
// question.
func (p *policy) answer(a *answers, models, loading []string) *answer {
	if a.epoch != p.epoch {
		a.epoch, a.list, a.next = p.epoch, a.list[:0], 0
	}
	now := a.to(models, loading, p.step)
	if !p.holds(now) {
		p.give(now, a.model, now.running, loading)
	}
	return now
}

// give asks a question and makes the answer hold from this step on.
func (p *policy) give(now *answer, target string, models, loading []string) {
	now.epoch, now.step, now.used = p.epoch, p.step, p.uses()
	now.evict, now.err = p.ask(target, models, loading, now.evict[:0])
}

// to returns the answer to a question, which has yet to be given if there is none. The
// list is as long as there were questions in one step: while a reservation stands and
// nothing else runs, who waits, and with that the questions, may change without end.
func (a *answers) to(models, loading []string, step uint64) *answer {
	n, oldest := len(a.list), 0
	for i := range n {
		if i += a.next; i >= n {
			i -= n
		}
		known := &a.list[i]
		if slices.Equal(known.loading, loading) && slices.Equal(known.running, models) {
			a.next = i + 1
			return known
		}
		if known.step < a.list[oldest].step {
			oldest = i
		}
	}
	i := n
	switch {
	case n < cap(a.list):
		a.list = a.list[:n+1] // The slices of the element are used again.
	case n > 0 && a.list[oldest].step != step:
		i = oldest
	default:
		a.list = append(a.list, answer{})
	}
	a.next = i + 1
	now := &a.list[i]
	now.loading, now.running, now.epoch = append(now.loading[:0], loading...), append(now.running[:0], models...), 0
	return now
}

// ask puts a question to the Swapper and appends its cleaned answer to evict: each
// model once, and no model that does not run, the target among them.
func (p *policy) ask(target string, models, loading, evict []string) ([]string, error) {
	answer, err, returned := p.put(target, models, loading)
	switch {
	case !returned:
		p.panicked = true
		return evict, err
	case err != nil:
		return evict, fmt.Errorf("%w: %q: %w", ErrPolicy, target, err)
	}
	for _, model := range answer {
		if _, found := slices.BinarySearch(models, model); found && !slices.Contains(evict, model) {
			evict = append(evict, model)
		}
	}
	return evict, nil
}

// put asks the Swapper, and reports whether it returned. A panic is a refusal.
func (p *policy) put(target string, models, loading []string) (evict []string, err error, returned bool) {
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
func (p *policy) describe(models, loading []string) []Resident {
	p.residents = p.residents[:0]
	for _, model := range models {
		r := p.usage(model)
		_, supposed := slices.BinarySearch(loading, model)
		r.Model = model
		r.Loading = supposed || p.swaps.of(model) != nil
		r.Leaving = !supposed && p.swaps.stopping(model) != nil
		p.residents = append(p.residents, r)
	}
	return p.residents
}
