package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"example.com/scheduler"
)

// policy makes a Swapper. Ready reports whether a model is ready.
type policy struct {
	name string
	make func(models []string, ready func(model string) bool) (scheduler.Swapper, error)
}

// groupPolicy is a policy of groups. With none, one model runs at a time.
func groupPolicy(name string, groups ...scheduler.Group) policy {
	return policy{name, func([]string, func(string) bool) (scheduler.Swapper, error) {
		return scheduler.NewGroupSwapper(groups...)
	}}
}

// budgetPolicy is a policy of a budget.
func budgetPolicy(name string, b scheduler.Budget) policy {
	return policy{name, func(_ []string, ready func(string) bool) (scheduler.Swapper, error) {
		b.Ready = ready
		return scheduler.NewBudgetSwapper(b)
	}}
}

// alonePolicy lets one model run at a time.
func alonePolicy() policy { return groupPolicy("alone") }

// lruPolicy lets n models run, and stops the one that was used least recently.
func lruPolicy(n int) policy {
	return policy{fmt.Sprint("lru:", n), func([]string, func(string) bool) (scheduler.Swapper, error) {
		return scheduler.NewLRUSwapper(n)
	}}
}

// togetherPolicy lets all models run together: nothing is better for those who wait.
func togetherPolicy() policy {
	return policy{"together", func(models []string, _ func(string) bool) (scheduler.Swapper, error) {
		return scheduler.NewGroupSwapper(scheduler.Group{Name: "all", Members: slices.Clone(models)})
	}}
}

// parsePolicy returns the policy that text names. Own is that of the workload or of the
// configuration.
func parsePolicy(text string, own policy) (policy, error) {
	switch {
	case text == "own" || text == own.name:
		return own, nil
	case text == "alone":
		return alonePolicy(), nil
	case text == "together":
		return togetherPolicy(), nil
	}
	if number, ok := strings.CutPrefix(text, "lru:"); ok {
		if n, err := strconv.Atoi(number); err == nil && n > 0 && n <= maxModels {
			return lruPolicy(n), nil
		}
		return policy{}, fmt.Errorf("policy %q: want lru:N with N from 1 to %d", text, maxModels)
	}
	return policy{}, fmt.Errorf("no policy %.40q; there are own, alone, together and lru:N", text)
}
