package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// options are what the flags say.
type options struct {
	workload, trace, config string
	models                  string
	length                  time.Duration
	seed                    uint64
	rate                    string
	service, load, places   values
	shared                  bool
	maxQueue                int
	patience                string
	patienceSet             bool
	policy                  string
	tenants                 string
	svg, window, csv        string
	each                    bool
	list                    bool
}

// errUsage is an error that the flag package has told already.
var errUsage = errors.New("usage")

// parseOptions reads the flags.
func parseOptions(args []string, out io.Writer) (*options, error) {
	o := new(options)
	f := flag.NewFlagSet("simulate", flag.ContinueOnError)
	f.SetOutput(out)
	f.StringVar(&o.workload, "workload", "hot-and-rare", "`name` of a workload: see -list")
	f.BoolVar(&o.list, "list", false, "list the workloads")
	f.StringVar(&o.trace, "trace", "", "`file` of requests instead: arrival in seconds, model, service in seconds")
	f.StringVar(&o.config, "config", "", "configuration `file` of examples/proxy, for which models run together, and limits")
	f.StringVar(&o.models, "models", "", "`names` of the models that the workload is for, such as a,b,c")
	f.DurationVar(&o.length, "for", 0, "`time` in which callers come; 0: that of the workload")
	f.Uint64Var(&o.seed, "seed", 1, "`number` that decides everything that is random")
	f.StringVar(&o.rate, "rate", "", "how often requests come: `rate` such as 2x, or 0.5 for so many per second in all")
	f.Var(&o.service, "service", "service `times`, such as 2x, or 5s,embed=100ms")
	f.Var(&o.load, "load", "load `times`, such as 2x, or 20s,embed=2s")
	f.Var(&o.places, "places", "how many requests a model serves at full speed: `numbers` such as 4,embed=32")
	f.BoolVar(&o.shared, "shared", false, "further requests do not wait for a place, but all share them and are slower")
	f.IntVar(&o.maxQueue, "max-queue", 0, "how many requests may wait in all; 0: no bound")
	f.StringVar(&o.patience, "patience", "0", "`times` to compare, such as 0,30s,60s,-1; 0: the default, -1: endless")
	f.StringVar(&o.policy, "policy", "own", "`policies` to compare: own, alone, together, lru:N")
	f.StringVar(&o.tenants, "tenants", "on", "`on,off` to compare with and without tenants")
	f.StringVar(&o.svg, "svg", "", "`file` for a timeline; not with several variants")
	f.StringVar(&o.window, "window", "", "the part of the time that the timeline shows: `from,to` such as 30m,90m")
	f.StringVar(&o.csv, "csv", "", "`file` for a line for each request")
	f.BoolVar(&o.each, "each", false, "show each model too")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil, err
		}
		return nil, errUsage
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	set := func(name string) (is bool) {
		f.Visit(func(g *flag.Flag) { is = is || g.Name == name })
		return is
	}
	o.patienceSet = set("patience")
	return o, o.check(set)
}

// check returns an error for flags that do not go together.
func (o *options) check(set func(name string) bool) error {
	switch {
	case o.trace != "" && set("workload"):
		return errors.New("-trace and -workload exclude each other")
	case o.trace != "" && set("models"):
		return errors.New("-models is for built-in workloads; a trace names its models")
	case o.length < 0 || o.length > maxTime:
		return fmt.Errorf("-for %v; want more than 0s, and at most %v", o.length, maxTime)
	case o.maxQueue < 0:
		return fmt.Errorf("-max-queue %d; want 0 or more", o.maxQueue)
	case o.window != "" && o.svg == "":
		return errors.New("-window is for -svg")
	}
	return nil
}

// dimensions are what the variants differ in. The last one is left out where there is one
// tenant.
var dimensions = []string{"patience", "policy", "tenants"}

// variants returns a run for each combination of what is compared, and how each is
// called.
func (o *options) variants(w *workload, base run) (runs []run, names [][]string, err error) {
	for _, patience := range strings.Split(o.patience, ",") {
		p, err := parseTime(patience)
		if err != nil {
			return nil, nil, fmt.Errorf("-patience: %w", err)
		}
		for _, text := range strings.Split(o.policy, ",") {
			policy, err := parsePolicy(text, w.policy)
			if err != nil {
				return nil, nil, fmt.Errorf("-policy: %w", err)
			}
			for _, tenants := range strings.Split(o.tenants, ",") {
				if tenants != "on" && tenants != "off" {
					return nil, nil, fmt.Errorf("-tenants %q: want on, off or on,off", tenants)
				}
				r := base
				r.workload, r.policy, r.tenants = w, policy, tenants == "on"
				r.options.Patience = p
				runs = append(runs, r)
				name := []string{patienceName(p), policy.name, tenants}
				if len(w.tenants()) < 2 {
					name = name[:2] // Whether the scheduler knows tenants does not matter.
				}
				names = append(names, name)
			}
		}
	}
	if len(runs) > maxVariants {
		return nil, nil, fmt.Errorf("%d variants; at most %d are possible", len(runs), maxVariants)
	}
	if len(runs) > 1 && o.svg != "" {
		return nil, nil, fmt.Errorf("-svg shows one variant, and there are %d", len(runs))
	}
	return runs, names, nil
}

// maxVariants bounds how many variants are compared.
const maxVariants = 64

// change changes the workload as the flags say.
func (o *options) change(w *workload) error {
	if o.rate != "" {
		if err := w.changeRate(o.rate); err != nil {
			return fmt.Errorf("-rate: %w", err)
		}
	}
	if err := w.changeService(&o.service); err != nil {
		return fmt.Errorf("-service: %w", err)
	}
	if err := o.load.each(w, func(_ int, m *model, text string) error { return changeTime(&m.load, text) }); err != nil {
		return fmt.Errorf("-load: %w", err)
	}
	err := o.places.each(w, func(_ int, m *model, text string) (err error) {
		if m.places, err = strconv.Atoi(text); err != nil {
			return fmt.Errorf("%.40q is not a number", text)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("-places: %w", err)
	}
	for i := range w.models {
		w.models[i].shared = o.shared
	}
	return w.check()
}

// shown returns the part of the time that the timeline shows.
func (o *options) shown(length time.Duration) (from, to time.Duration, err error) {
	if o.window == "" {
		return 0, length, nil
	}
	first, second, found := strings.Cut(o.window, ",")
	if found {
		if from, err = parseTime(first); err == nil {
			to, err = parseTime(second)
		}
	}
	if !found || err != nil || from < 0 || to <= from || to > maxTime {
		return 0, 0, fmt.Errorf("-window %.60q; want two times such as 30m,90m", o.window)
	}
	return from, to, nil
}

// listWorkloads writes what workloads there are.
func listWorkloads(out io.Writer) {
	for i := range builtIns {
		fmt.Fprintf(out, "%-14s %s\n", builtIns[i].name, builtIns[i].about)
	}
}

// find returns the workload of that name.
func find(name string) (*builtIn, error) {
	i := slices.IndexFunc(builtIns, func(b builtIn) bool { return b.name == name })
	if i < 0 {
		return nil, fmt.Errorf("no workload %.40q; -list shows which there are", name)
	}
	return &builtIns[i], nil
}
