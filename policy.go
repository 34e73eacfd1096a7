package scheduler

import (
	"fmt"
	"log/slog"
	"slices"
)

// policy asks the Swapper, cleans its answers, survives its panics, and remembers its
// answers for as long as they hold (R5). A plain Swapper's answer holds while the running
// set stays the same. A Planner sees more than that set, so its answers hold only until
// something changes.
type policy struct {
	swapper  Swapper
	planner  Planner      // the swapper, if it is one
	observer PlanObserver // likewise
	log      *slog.Logger
	running  *running
	swaps    *swaps
	usage    func(model string) Resident // how a running model is used
	changes  func() uint64               // grows whenever usage changes

	epoch    uint64 // answers from an earlier one have expired
	step     uint64 // answers given in it hold until it ends
	version  uint64 // of the running set in this epoch
	panicked bool   // an answer of this epoch stands for a panic

	// Memory that is reused.
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
	next    int      // index in the list: questions tend to come in the same order again
	present answer   // to the question about things as they are; its running set is not kept
}

// answer is what the Swapper said to one question.
type answer struct {
	running []string // the set that it was asked about
	loading []string // models that were supposed to be loading; nil: none
	evict   []string // cleaned
	err     error

	epoch uint64 // in which it was given
	step  uint64 // in which it was given or last found to hold
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
	return p.changes() + p.swaps.changes + p.running.news
}

// holds reports whether an answer still holds. It holds until the end of the step in
// which it was given, even if a Planner would give another one by then. After that it
// holds for as long as nothing changes that the Swapper sees.
func (p *policy) holds(a *answer) bool {
	if a.epoch != p.epoch || a.step != p.step && a.used != p.uses() {
		return false
	}
	a.step = p.step
	return true
}

// sync returns the running set. If the set has changed, all answers expire.
func (p *policy) sync() []string {
	models := p.running.list()
	if p.version != p.running.version {
		p.version = p.running.version
		p.expire()
	}
	return models
}

// evictionFor returns what has to be evicted for a's model as things are, or an error if
// the model can never run. The caller must not change or keep the result.
func (p *policy) evictionFor(a *answers) ([]string, error) {
	p.sync()
	if !p.holds(&a.present) {
		p.give(&a.present, a.model, p.others(a.model), nil)
	}
	return a.present.evict, a.present.err
}

// suffices reports whether plan is enough for a's model: once the models in it have
// stopped, the policy asks for nothing more (R8). What outstanding swaps stop is left
// out, because it will be gone by then. If beside is not nil, what that swap stops is
// left out too, and its target counts as loading.
func (p *policy) suffices(a *answers, plan []string, beside *intent) bool {
	if beside == nil {
		return p.asksNoMore(a, plan, nil, nil, true)
	}
	return p.asksNoMore(a, plan, beside.evict, []string{beside.target}, true)
}

// sufficesYet is like suffices, but what outstanding swaps stop still counts as running.
func (p *policy) sufficesYet(a *answers, plan []string) bool {
	return p.asksNoMore(a, plan, nil, nil, false)
}

// sufficesBesideAll is like suffices, but all of targets, which are sorted, count as
// loading, and nothing is left out for them. Because an answer only grows with the
// running set, a plan that suffices here suffices beside any one of them.
func (p *policy) sufficesBesideAll(a *answers, plan, targets []string) bool {
	return p.asksNoMore(a, plan, nil, targets, true)
}

// asksNoMore asks about the running models without plan and stop, and with load, which is
// sorted and counts as loading. Gone says whether what outstanding swaps stop is left out
// too.
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
		case supposed: // Even if a swap stops it.
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

// supposed returns those of load that a Planner is told are loading although they are
// not. A plain Swapper is not told about loads.
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

// startSwap tells the Swapper that a swap is about to start that stops evict. An error
// refuses it. A Swapper with a memory may answer otherwise from then on, even if the same models run:
// the target of a swap that only stops others runs already.
func (p *policy) startSwap(target string, evict []string) (err error) {
	if p.observer != nil {
		defer refuse(p.log, "OnPlanStart", target, &err)
		p.observer.OnPlanStart(target, p.describe(p.others(target), nil), evict)
	} else {
		defer refuse(p.log, "OnSwapStart", target, &err)
		p.swapper.OnSwapStart(target, p.others(target))
	}
	p.expire()
	return nil
}

// forget drops all answers except present, whose memory is worth keeping.
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

// answer returns the Swapper's answer for a's model beside models, and asks only if the
// answer is not known. For the sake of the question, the models in loading count as
// loading.
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

// give asks a question, and keeps the answer from this step on.
func (p *policy) give(now *answer, target string, models, loading []string) {
	now.epoch, now.step, now.used = p.epoch, p.step, p.uses()
	now.evict, now.err = p.ask(target, models, loading, now.evict[:0])
}

// to returns the entry for a question. If the question is new, its answer has yet to be
// given. The list is only as long as the number of questions in one step: while a
// reservation stands, the waiting models may change without end, and the questions with
// them.
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
		a.list = a.list[:n+1] // The slices of the element are reused.
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

// ask puts a question to the Swapper and appends its cleaned answer to evict: each model
// once, and no model that is not in models, such as the target.
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

// put asks the Swapper, and reports whether it returned. A panic counts as a refusal.
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
