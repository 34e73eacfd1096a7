package scheduler

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// policyTest is a policy together with the host and the Swapper that it asks.
type policyTest struct {
	policy
	*runningTest
	asked []string // the questions since the last look at them
	says  func(target string, models []string) ([]string, error)
	used  map[string]Resident
	uses  uint64 // how often used has changed
	log   bytes.Buffer
}

// plainSwapper is a policyTest as a Swapper.
type plainSwapper struct{ *policyTest }

func (s plainSwapper) EvictionFor(target string, running []string) []string {
	s.asked = append(s.asked, fmt.Sprint(target, running))
	evict, _ := s.says(target, running)
	return evict
}

func (s plainSwapper) OnSwapStart(target string, running []string) {
	s.asked = append(s.asked, fmt.Sprint("start ", target, running))
	if s.says != nil {
		s.says(target, running)
	}
}

// plannerSwapper is a policyTest as a Planner. In its questions a model that is
// loading has a "+", and one that is leaving a "-".
type plannerSwapper struct{ plainSwapper }

func (s plannerSwapper) EvictionFor(string, []string) []string {
	panic("a Planner is asked Plan")
}

func (s plannerSwapper) Plan(target string, running []Resident) ([]string, error) {
	var models, shown []string
	for _, r := range running {
		models = append(models, r.Model)
		if shown = append(shown, r.Model); r.Loading {
			shown[len(shown)-1] += "+"
		}
		if r.Leaving {
			shown[len(shown)-1] += "-"
		}
	}
	s.asked = append(s.asked, fmt.Sprint(target, shown))
	return s.says(target, models)
}

// newPolicyTest returns a policy that asks a plain Swapper or a Planner. It evicts
// all.
func newPolicyTest(planner bool, ready ...string) *policyTest {
	p := &policyTest{runningTest: newRunningTest(ready...), used: make(map[string]Resident)}
	p.says = func(_ string, models []string) ([]string, error) { return models, nil }
	var s Swapper = plainSwapper{p}
	if planner {
		s = plannerSwapper{plainSwapper{p}}
	}
	log := slog.New(slog.NewTextHandler(&p.log, nil))
	p.policy = policy{
		swapper: s,
		log:     log,
		running: &p.runningTest.running,
		swaps:   &p.book,
		usage:   func(model string) Resident { return p.used[model] },
		changes: func() uint64 { return p.uses },
		epoch:   1,
	}
	p.policy.planner, _ = s.(Planner)
	return p
}

// use changes how a model is used.
func (p *policyTest) use(model string, waiting int) {
	p.used[model] = Resident{Waiting: waiting}
	p.uses++
}

// nextStep begins a step. What runs may have changed.
func (p *policyTest) nextStep() {
	p.runningTest.expire()
	p.begin()
}

// questions returns what the Swapper was asked since the last time.
func (p *policyTest) questions() string {
	asked := strings.Join(p.asked, ", ")
	p.asked = nil
	return asked
}

// TestPolicyAsksAgain: the policy asks again when the answer may have changed, and only
// then.
func TestPolicyAsksAgain(t *testing.T) {
	for _, test := range []struct {
		name           string
		change         func(p *policyTest)
		plain, planner string
	}{
		{"nothing has happened", func(p *policyTest) {}, "", ""},
		{"the host may run something else, and does not", func(p *policyTest) { p.runningTest.expire() }, "", ""},
		{"a step begins", func(p *policyTest) { p.nextStep() }, "", ""},
		{"a model is used otherwise, in the middle of a step", func(p *policyTest) { p.use("b", 1) }, "", ""},
		{"a model is used otherwise", func(p *policyTest) { p.use("b", 1); p.nextStep() }, "", "a[b c]"},
		{"a model has become ready", func(p *policyTest) { p.states["d"] = StateReady; p.nextStep() }, "a[b c d]", "a[b c d]"},
		{"the target has become ready", func(p *policyTest) { p.states["a"] = StateReady; p.nextStep() }, "a[b c]", "a[b c]"},
		{"a model has stopped", func(p *policyTest) { delete(p.states, "b"); p.nextStep() }, "a[c]", "a[c]"},
		{"a swap has started", func(p *policyTest) {
			p.book.add(intent{"d", []string{"c"}}, epochOfTests, true)
			p.nextStep()
		}, "a[b c d]", "a[b c- d+]"},
		{"a running model is a target", func(p *policyTest) {
			p.book.add(intent{"b", nil}, epochOfTests, true)
			p.nextStep()
		}, "", "a[b+ c]"},
		{"the Swapper has new rules", func(p *policyTest) { p.policy.expire() }, "a[b c]", "a[b c]"},
	} {
		for planner, want := range map[bool]string{false: test.plain, true: test.planner} {
			p := newPolicyTest(planner, "b", "c")
			a := answers{model: "a"}
			p.evictionFor(&a)
			if got := p.questions(); got != "a[b c]" {
				t.Fatalf("at first it is asked %q", got)
			}
			test.change(p)
			for range 2 {
				evict, err := p.evictionFor(&a)
				if want := slices.DeleteFunc(slices.Clone(p.now()), func(model string) bool { return model == "a" }); err != nil || !slices.Equal(evict, want) {
					t.Errorf("%s: Planner %v: the answer is %v, %v, want %v", test.name, planner, evict, err, want)
				}
			}
			if got := p.questions(); got != want {
				t.Errorf("%s: Planner %v: it is asked %q, want %q", test.name, planner, got, want)
			}
		}
	}
}

// TestPolicyCleans: a cleaned answer has each model once, in the Swapper's order, and has
// neither the target nor models that do not run.
func TestPolicyCleans(t *testing.T) {
	for answer, want := range map[string]string{
		"":            "[]",
		"b":           "[b]",
		"c b":         "[c b]",
		"b c b b":     "[b c]",
		"a d c x":     "[c]",
		"stopped b a": "[b]",
	} {
		for _, planner := range []bool{false, true} {
			p := newPolicyTest(planner, "a", "b", "c")
			p.states["stopped"] = StateStopped
			given := strings.Fields(answer)
			p.says = func(string, []string) ([]string, error) { return given, nil }
			evict, err := p.evictionFor(&answers{model: "a"})
			if err != nil || fmt.Sprint(evict) != want {
				t.Errorf("%q: %v, %v, want %s", answer, evict, err, want)
			}
			for i := range evict {
				evict[i] = "changed"
			}
			if strings.Join(given, " ") != answer {
				t.Errorf("%q: the Swapper's own slice was used", answer)
			}
		}
	}
}

// TestPolicyPanics: a panic in a question is a refusal, and is not kept beyond its step
// (R17).
func TestPolicyPanics(t *testing.T) {
	errBroken := errors.New("broken")
	for _, value := range []any{errBroken, "broken"} {
		for _, planner := range []bool{false, true} {
			p := newPolicyTest(planner, "b")
			p.says = func(string, []string) ([]string, error) { panic(value) }
			a := answers{model: "a"}
			for range 2 {
				evict, err := p.evictionFor(&a)
				if !errors.Is(err, ErrPolicy) || !strings.Contains(fmt.Sprint(err), "broken") || len(evict) > 0 {
					t.Errorf("%v, %v", evict, err)
				}
				if value == any(errBroken) && !errors.Is(err, errBroken) {
					t.Errorf("%v does not wrap the value", err)
				}
				if p.suffices(&a, nil, nil) {
					t.Error("a panic means yes")
				}
			}
			if got := p.questions(); got != "a[b]" {
				t.Errorf("in one step it is asked %q", got)
			}
			if got := p.log.String(); strings.Count(got, "level=ERROR") != 1 || !strings.Contains(got, "policy_test.go") {
				t.Errorf("the stack is not logged once at Error: %s", got)
			}
			p.says = func(string, []string) ([]string, error) { return []string{"b"}, nil }
			p.nextStep()
			if evict, err := p.evictionFor(&a); err != nil || fmt.Sprint(evict) != "[b]" {
				t.Errorf("after the panic: %v, %v", evict, err)
			}
			p.questions()
			p.nextStep()
			p.evictionFor(&a)
			if got := p.questions(); got != "" {
				t.Errorf("the panic is long over, and it is asked %q again", got)
			}
		}
	}
}

// TestPlanRefuses: an error of a Planner is the answer.
func TestPlanRefuses(t *testing.T) {
	errHuge := errors.New("too large")
	p := newPolicyTest(true, "b")
	p.says = func(string, []string) ([]string, error) { return []string{"b"}, errHuge }
	a := answers{model: "a"}
	if evict, err := p.evictionFor(&a); !errors.Is(err, errHuge) || len(evict) > 0 {
		t.Errorf("%v, %v", evict, err)
	}
	if p.suffices(&a, []string{"b"}, nil) {
		t.Error("an error means yes")
	}
}

// TestSuffices: the question leaves out what will be gone, and includes the target of the
// other swap (R8). The Swapper asks for nothing more if only x runs.
func TestSuffices(t *testing.T) {
	for _, test := range []struct {
		plan, beside   string
		plain, planner string // the question
		want           bool
	}{
		{"", "", "a[b c t x]", "a[b c t+ x]", false}, // What t stops is left out.
		{"b,c", "", "a[t x]", "a[t+ x]", false},
		{"b,c,t", "", "a[x]", "a[x]", true},
		{"b,t,x", "d<c", "a[d]", "a[d+]", false}, // What d stops is left out.
		{"b,t", "x<c", "a[x]", "a[x+]", true},    // x is loading for the sake of the question.
		{"b,c,t,x", "", "a[]", "a[]", true},
		{"b,c,t,x", "d", "a[d]", "a[d+]", false},
		{"b,c,t", "a", "a[x]", "a[x]", true},         // No model is evicted for itself.
		{"b,c,t,x,y", "y<b", "a[y]", "a[y+]", false}, // y leaves, and yet it would be there.
	} {
		for planner, question := range map[bool]string{false: test.plain, true: test.planner} {
			p := newPolicyTest(planner, "a", "b", "c", "x", "y", "z")
			p.book.add(*parseIntent("t<y,z"), epochOfTests, true)
			p.says = func(_ string, models []string) ([]string, error) {
				return slices.DeleteFunc(slices.Clone(models), func(model string) bool { return model == "x" }), nil
			}
			var beside *intent
			if test.beside != "" {
				beside = parseIntent(test.beside)
			}
			for range 2 {
				if got := p.suffices(&answers{model: "a"}, strings.Split(test.plan, ","), beside); got != test.want {
					t.Errorf("%s suffices beside %s: %v", test.plan, test.beside, got)
				}
				if got := p.questions(); got != question {
					t.Errorf("%s beside %s: it is asked %q, want %q", test.plan, test.beside, got, question)
				}
			}
		}
	}
}

// TestSufficesBesideAll: all of the targets count as loading, whatever stops them.
func TestSufficesBesideAll(t *testing.T) {
	for targets, want := range map[string]string{
		"":             "a[c t+]",
		"d":            "a[c d+ t+]",
		"t,z":          "a[c t+ z+]", // Only one of them loads as things are.
		"A,c,d,t,z,z2": "a[A+ c+ d+ t+ z+ z2+]",
		"a":            "a[c t+]",
		"b,y":          "a[b+ c t+ y+]", // One is in the plan, and one leaves.
	} {
		p := newPolicyTest(true, "a", "b", "c", "y")
		p.book.add(*parseIntent("t<y"), epochOfTests, true)
		a := answers{model: "a"}
		for range 2 {
			if p.sufficesBesideAll(&a, []string{"b"}, strings.FieldsFunc(targets, func(r rune) bool { return r == ',' })) {
				t.Errorf("beside %s: the Swapper evicts all, and the plan suffices", targets)
			}
		}
		if got := p.questions(); got != want {
			t.Errorf("beside %s: it is asked %q, want %q", targets, got, want)
		}
	}
}

// TestAnswerHoldsInItsStep: an answer holds for its step, even if other questions are
// asked in the middle of the step, when models are used differently.
func TestAnswerHoldsInItsStep(t *testing.T) {
	p := newPolicyTest(true, "b", "c")
	a := answers{model: "a"}
	p.evictionFor(&a)
	p.nextStep()
	evict, _ := p.evictionFor(&a)
	p.use("b", 1)
	p.says = func(string, []string) ([]string, error) { return []string{"c"}, nil }
	p.suffices(&a, nil, nil)
	if again, _ := p.evictionFor(&a); fmt.Sprint(again, evict) != "[b c] [b c]" {
		t.Errorf("the answer has become %v, and the earlier result %v", again, evict)
	}
	p.nextStep()
	if evict, _ := p.evictionFor(&a); fmt.Sprint(evict) != "[c]" {
		t.Errorf("in the next step the answer is %v", evict)
	}
}

// TestStamp: a stamp changes with everything that an answer depends on, and with nothing
// else.
func TestStamp(t *testing.T) {
	for _, planner := range []bool{false, true} {
		p := newPolicyTest(planner, "b")
		for i, step := range []struct {
			does func()
			news bool
		}{
			{func() {}, false},
			{func() { p.nextStep() }, false},
			{func() { p.use("b", 1) }, planner},
			{func() { p.states["c"] = StateReady; p.nextStep() }, true},
			{func() { p.book.add(intent{target: "b"}, epochOfTests, true) }, true},
			{func() { p.policy.expire() }, true},
		} {
			before := p.stamp()
			if step.does(); (p.stamp() != before) != step.news {
				t.Errorf("Planner %v: step %d: from %v to %v", planner, i, before, p.stamp())
			}
		}
	}
}

// TestSameQuestion: the same question is asked once. For a plain Swapper it makes no
// difference whether a model counts as loading.
func TestSameQuestion(t *testing.T) {
	for planner, want := range map[bool]string{
		false: "a[b c l], a[c l], a[l]",
		true:  "a[b c l+], a[c l+], a[c+ l+], a[l+]",
	} {
		p := newPolicyTest(planner, "b", "c")
		p.book.add(intent{target: "l"}, epochOfTests, true)
		a := answers{model: "a"}
		for range 2 {
			p.evictionFor(&a)                                                 // b, c and l run
			p.suffices(&a, nil, nil)                                          // likewise
			p.suffices(&a, nil, parseIntent("a"))                             // a is not evicted for itself
			p.suffices(&a, nil, &intent{target: "l"})                         // l is loading anyway
			p.suffices(&a, []string{"b"}, nil)                                // c and l
			p.suffices(&a, nil, &intent{target: "l", evict: []string{"b"}})   // likewise
			p.suffices(&a, []string{"b"}, &intent{target: "c"})               // c counts as loading
			p.suffices(&a, []string{"b", "c"}, nil)                           // l
			p.suffices(&a, []string{"c"}, &intent{"l", []string{"b"}})        // likewise
			p.suffices(&a, []string{"b", "c", "l"}, parseIntent("l<b,c,x,y")) // likewise
		}
		if got := p.questions(); got != want {
			t.Errorf("Planner %v: it is asked %q, want %q", planner, got, want)
		}
	}
}

// TestPlannerSeesUsage: a Planner sees the name and the usage of each running model.
func TestPlannerSeesUsage(t *testing.T) {
	p := newPolicyTest(true, "b", "c")
	p.used["b"] = Resident{InFlight: 1, Waiting: 2, LastUsed: 3}
	want := []Resident{{Model: "b", InFlight: 1, Waiting: 2, LastUsed: 3}, {Model: "c"}}
	if got := p.describe([]string{"b", "c"}, nil); !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// TestStartSwap: the Swapper is told what runs, without the target. A panic refuses the
// swap.
func TestStartSwap(t *testing.T) {
	p := newPolicyTest(false, "a", "b", "c")
	if err := p.startSwap("b", nil); err != nil || p.questions() != "start b[a c]" {
		t.Errorf("told otherwise, or %v", err)
	}
	p.says = func(string, []string) ([]string, error) { panic(errHook) }
	if err := p.startSwap("x", nil); !errors.Is(err, ErrPolicy) || !errors.Is(err, errHook) || p.questions() != "start x[a b c]" {
		t.Errorf("told otherwise, or %v", err)
	}
	if !strings.Contains(p.log.String(), "OnSwapStart") {
		t.Errorf("the log does not name the question: %s", &p.log)
	}
}

// observerSwapper is a policyTest as a PlanObserver.
type observerSwapper struct{ plannerSwapper }

func (s observerSwapper) OnPlanStart(target string, running []Resident, evict []string) {
	s.asked = append(s.asked, fmt.Sprint("start ", target, running, evict))
	if s.says != nil {
		s.says(target, nil)
	}
}

// TestPlanStart tells a PlanObserver how the running models are used, and which of them
// are stopped. A panic refuses.
func TestPlanStart(t *testing.T) {
	p := newPolicyTest(true, "a", "b", "c")
	p.observer = observerSwapper{plannerSwapper{plainSwapper{p}}}
	p.used["c"] = Resident{InFlight: 1, LastUsed: 3}
	epoch := p.epoch
	want := "start b[{a false false 0 0 0} {c false false 1 0 3}] [a]"
	err := p.startSwap("b", []string{"a"})
	if got := p.questions(); err != nil || got != want {
		t.Errorf("%s, %v, want %s", got, err, want)
	}
	if p.epoch == epoch {
		t.Error("the answers hold although the policy may have changed its mind")
	}
	p.says = func(string, []string) ([]string, error) { panic(errHook) }
	if err := p.startSwap("b", nil); !errors.Is(err, ErrPolicy) || !errors.Is(err, errHook) {
		t.Errorf("a panic is %v", err)
	}
	if !strings.Contains(p.log.String(), "OnPlanStart") {
		t.Errorf("the log does not name the question: %s", &p.log)
	}
}

// TestForget: the answers to unusual questions are dropped, and the usual one holds.
func TestForget(t *testing.T) {
	p := newPolicyTest(false, "b", "c")
	a := answers{model: "a"}
	p.evictionFor(&a)
	p.suffices(&a, []string{"b"}, nil)
	if got := p.questions(); got != "a[b c], a[c]" {
		t.Errorf("it is asked %q", got)
	}
	if a.forget(); cap(a.list) != 0 {
		t.Errorf("room for %d answers, want none", cap(a.list))
	}
	if evict, _ := p.evictionFor(&a); fmt.Sprint(evict) != "[b c]" || p.questions() != "" {
		t.Errorf("after that: %v", evict)
	}
	if p.suffices(&a, []string{"b"}, nil); p.questions() != "a[c]" {
		t.Error("an answer is known that was let go of")
	}
}

// TestPolicyAllocatesNothing: neither for a known answer nor for a new one that reuses
// the memory of an old one.
func TestPolicyAllocatesNothing(t *testing.T) {
	p := newPolicyTest(true, "b", "c")
	p.planner = quietPlanner{evict: []string{"b"}}
	a := answers{model: "a"}
	plan := []string{"b"}
	ask := func() {
		p.evictionFor(&a)
		p.suffices(&a, plan, nil)
	}
	if n := testing.AllocsPerRun(100, ask); n != 0 {
		t.Errorf("%v allocations for known answers", n)
	}
	if n := testing.AllocsPerRun(100, func() { p.policy.expire(); ask() }); n != 0 {
		t.Errorf("%v allocations for new answers", n)
	}
}

// quietPlanner always gives the same answer, and allocates nothing.
type quietPlanner struct {
	Planner
	evict []string
}

func (p quietPlanner) Plan(string, []Resident) ([]string, error) { return p.evict, nil }

// TestPolicyAgainstSwapper lets anything happen, and compares each answer with what
// the Swapper would say at that moment.
func TestPolicyAgainstSwapper(t *testing.T) {
	names := strings.Fields("a b c d e f")
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 0))
		p := newPolicyTest(seed%2 == 1)
		// Some pairs exclude each other. For a Planner so do some more while requests
		// wait.
		excludes := func(a, b string) bool { return (a[0]*b[0]+byte(seed))%4 == 0 }
		p.says = func(target string, models []string) (evict []string, err error) {
			for _, model := range models {
				if excludes(target, model) || p.planner != nil && p.used[model].Waiting > 0 {
					evict = append(evict, model)
				}
			}
			return evict, nil
		}
		all := make(map[string]*answers)
		for _, name := range names {
			all[name] = &answers{model: name}
		}
		for range 300 {
			name := names[r.IntN(len(names))]
			a := all[name]
			switch r.IntN(6) {
			case 0:
				p.states[name] = []ProcessState{StateStopped, StateReady}[r.IntN(2)]
				p.nextStep()
			case 1:
				p.use(name, r.IntN(2))
				p.nextStep()
			case 2:
				if s := p.book.of(name); s != nil {
					p.book.remove(s)
				} else if i := (intent{name, []string{names[r.IntN(len(names))]}}); i.evict[0] != name && len(p.book.colliding(&i, nil)) == 0 {
					p.book.add(i, epochOfTests, true)
				}
				p.nextStep()
			case 3:
				a.forget()
			case 4:
				running := slices.DeleteFunc(slices.Clone(p.now()), func(model string) bool { return model == name })
				want, _ := p.says(name, running)
				if got, err := p.evictionFor(a); err != nil || !slices.Equal(got, want) {
					t.Fatalf("seed %d: for %s beside %v: %v, %v, want %v", seed, name, running, got, err, want)
				}
			case 5:
				plan := names[:r.IntN(len(names))]
				left := slices.DeleteFunc(slices.Clone(p.now()), func(model string) bool {
					return model == name || slices.Contains(plan, model) || p.book.stopping(model) != nil
				})
				more, _ := p.says(name, left)
				if got := p.suffices(a, plan, nil); got != (len(more) == 0) {
					t.Fatalf("seed %d: %v suffices for %s: %v, although it asks for %v", seed, plan, name, got, more)
				}
			}
		}
	}
}

// TestRefuse: a panic becomes an error, and nothing else does (R17).
func TestRefuse(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	ask := func(question func() error) (err error) {
		defer refuse(log, "Limits", "a", &err)
		return question()
	}
	for _, want := range []error{nil, errLoad} {
		if err := ask(func() error { return want }); err != want {
			t.Errorf("%v became %v", want, err)
		}
	}
	if out.Len() > 0 {
		t.Errorf("logged without a panic: %s", &out)
	}
	err := ask(func() error { panic(errHook) })
	if want := `scheduler: refused by the policy: Limits for "a" panicked: panic on purpose`; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	if !errors.Is(err, ErrPolicy) || !errors.Is(err, errHook) {
		t.Errorf("%v does not wrap both", err)
	}
	for _, part := range []string{"level=ERROR", "question=Limits", "model=a", "panic on purpose", "policy_test.go"} {
		if !strings.Contains(out.String(), part) {
			t.Errorf("the log has no %q: %s", part, &out)
		}
	}
}

// TestPanicError wraps the reason, and the value if that is an error.
func TestPanicError(t *testing.T) {
	for _, test := range []struct {
		value any
		want  string
	}{
		{errHook, "scheduler: shut down: panic on purpose"},
		{"text", "scheduler: shut down: text"},
		{7, "scheduler: shut down: 7"},
	} {
		err := panicError(ErrShutdown, test.value)
		cause, isError := test.value.(error)
		if err.Error() != test.want || !errors.Is(err, ErrShutdown) || isError && !errors.Is(err, cause) {
			t.Errorf("%#v: %v, want %s", test.value, err, test.want)
		}
	}
}

// TestAnswersAreBounded: all answers of one step are kept, and never more than that,
// however many different questions there are over time.
func TestAnswersAreBounded(t *testing.T) {
	p := newPolicyTest(true, "b", "c")
	a := answers{model: "a"}
	for range 2 {
		for i := range 1000 {
			p.suffices(&a, nil, &intent{target: fmt.Sprint("x", i)})
			p.suffices(&a, nil, &intent{target: fmt.Sprint("y", i)})
			p.nextStep()
		}
	}
	if len(a.list) > 2 {
		t.Errorf("%d answers, want 2", len(a.list))
	}
	p.questions()
	for range 2 {
		for i := range 100 {
			p.suffices(&a, nil, &intent{target: fmt.Sprint("x", i)})
		}
	}
	if asked := strings.Count(p.questions(), "a["); asked != 100 || len(a.list) != 100 {
		t.Errorf("%d questions and %d answers, want 100", asked, len(a.list))
	}
}
