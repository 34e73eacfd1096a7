package scheduler

import (
	"fmt"
	"maps"
	"slices"
)

// refAnswer is what the Swapper said to one question.
type refAnswer struct {
	evict []string
	err   error
}

// refQuestion asks a question about model and returns its refusal if it panics
// (R17).
func refQuestion(name, model string, ask func()) (err error) {
	defer func() {
		switch value := recover().(type) {
		case nil:
		case error:
			err = fmt.Errorf("%w: %s for %q panicked: %w", ErrPolicy, name, model, value)
		default:
			err = fmt.Errorf("%w: %s for %q panicked: %v", ErrPolicy, name, model, value)
		}
	}()
	ask()
	return nil
}

// askOf asks for the priority and the tenant of a request that has just arrived.
func (r *reference) askOf(q *refRequest) error {
	if r.opts.Priority != nil {
		if err := refQuestion("Priority", q.Model, func() { q.priority = r.opts.Priority(q.HandlerReq) }); err != nil {
			return err
		}
	}
	if r.opts.Tenant != nil {
		return refQuestion("Tenant", q.Model, func() { q.tenant = r.opts.Tenant(q.HandlerReq) })
	}
	return nil
}

// limits asks for the limits of model.
func (r *reference) limits(model string) (limits Limits, err error) {
	if r.opts.Limits != nil {
		err = refQuestion("Limits", model, func() { limits = r.opts.Limits(model) })
	}
	return limits, err
}

// paused reports whether model is paused. If the question fails, it counts as paused.
func (r *reference) paused(model string) bool {
	limits, err := r.limits(model)
	return err != nil || limits.Paused
}

// slotFree reports whether Concurrency lets model serve one more.
func (r *reference) slotFree(model string) bool {
	limits, err := r.limits(model)
	c := limits.Concurrency
	return err == nil && (c <= 0 || r.inFlight(model) < c || r.commits == faultNoConcurrency)
}

// unable returns why model cannot serve at all, for any request (R17, R19).
func (r *reference) unable(model string) error {
	if _, known := r.eff.ModelState(model); !known {
		return refNamed(ErrModelNotFound, model)
	}
	_, err := r.limits(model)
	return err
}

// ask asks the Swapper what has to be evicted for target as things are.
func (r *reference) ask(target string) ([]string, error) {
	return r.askAbout(target, r.residents(r.running(target)))
}

// askAbout asks the Swapper about a target and a running set, of which some may count as
// loading for the sake of the question. Within a step, and until a swap starts, it asks
// each question once.
func (r *reference) askAbout(target string, running []Resident, loading ...string) ([]string, error) {
	var names []string
	for _, m := range running {
		names = append(names, m.Model)
	}
	_, planner := r.swapper.(Planner)
	loading = slices.DeleteFunc(slices.Clone(loading), func(model string) bool {
		return !planner || model == target || r.outstanding(model) != nil
	})
	slices.Sort(loading)
	key := fmt.Sprintf("%q %q %q", target, names, loading)
	answer, asked := r.answers[key]
	if !asked {
		answer = r.askSwapper(target, running, names)
		r.answers[key] = answer
	}
	return answer.evict, answer.err
}

// askSwapper asks the Swapper. An error or a panic is a refusal.
func (r *reference) askSwapper(target string, running []Resident, names []string) (answer refAnswer) {
	planner, ok := r.swapper.(Planner)
	if !ok {
		answer.err = refQuestion("EvictionFor", target, func() { answer.evict = r.swapper.EvictionFor(target, names) })
	} else {
		var refusal error
		answer.err = refQuestion("Plan", target, func() { answer.evict, refusal = planner.Plan(target, running) })
		if refusal != nil {
			answer.err = fmt.Errorf("%w: %q: %w", ErrPolicy, target, refusal)
		}
	}
	if answer.err != nil && r.commits == faultPanicIsNobody {
		return refAnswer{}
	}
	if answer.err != nil {
		return refAnswer{err: answer.err}
	}
	return refAnswer{evict: r.clean(answer.evict, names)}
}

// clean returns the models of an answer that run, each once.
func (r *reference) clean(evict, running []string) []string {
	var clean []string
	for _, model := range evict {
		if slices.Contains(running, model) && !slices.Contains(clean, model) {
			clean = append(clean, model)
		}
	}
	return clean
}

// host returns what the host said of its models, when it was first asked in this step or
// since the latest effect that stops something. What CancelSwap has done is known when the
// swap reports (R17).
func (r *reference) host() map[string]ProcessState {
	if r.said == nil {
		r.said = maps.Clone(r.eff.RunningModels())
	}
	return r.said
}

// running returns the running models without target, sorted.
func (r *reference) running(target string) []string {
	set := make(map[string]bool)
	for model, state := range r.host() {
		set[model] = state != StateStopped && state != StateShutdown
	}
	for _, swap := range r.swaps {
		set[swap.model] = true
	}
	set[target] = false
	maps.DeleteFunc(set, func(_ string, in bool) bool { return !in })
	return slices.Sorted(maps.Keys(set))
}

// residents returns the running models as a Planner sees them.
func (r *reference) residents(running []string) []Resident {
	var residents []Resident
	for _, model := range running {
		m := Resident{
			Model:    model,
			Loading:  r.outstanding(model) != nil,
			Leaving:  r.stoppedBy(model) != nil,
			InFlight: r.inFlight(model),
			Waiting:  len(r.waitingFor(model)),
		}
		if r.models[model] != nil {
			m.LastUsed = r.models[model].lastUsed
		}
		residents = append(residents, m)
	}
	return residents
}
