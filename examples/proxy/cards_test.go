//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"example.com/scheduler/examples/internal/demo"
)

// cardRole is the first argument that makes the test binary a model that takes memory of
// cards: its placement and what a demo model takes follow.
const cardRole = "test-card-model"

func init() { roles[cardRole] = cardModel }

// cardMemory is how much memory each card of the test has.
const cardMemory = 24

// cardModel is a demo model that enters in the ledger what it takes of which cards, as its
// environment says, for as long as it lives.
func cardModel(args []string) error {
	cards := strings.Split(os.Getenv("CUDA_VISIBLE_DEVICES"), ",")
	if len(cards) == 1 && cards[0] != args[0] {
		return fmt.Errorf("placement %s, but card %s", args[0], cards[0])
	}
	entry, err := enter(os.Getenv("LEDGER"), cards, os.Getenv("MEMORY"))
	if err != nil {
		return err
	}
	defer os.Remove(entry)
	return demo.Main(append(args[1:], "-load", "20ms", "-delay", "0s"))
}

// enter writes that this process takes so much of each of cards, unless that is more than
// there is. Then it leaves a file named over, and returns an error.
func enter(ledger string, cards []string, memory string) (entry string, err error) {
	lock, err := os.Create(filepath.Join(ledger, "lock"))
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", err
	}
	entry = filepath.Join(ledger, fmt.Sprintf("%d.entry", os.Getpid()))
	if err := os.WriteFile(entry, []byte(memory+" "+strings.Join(cards, " ")), 0o666); err != nil {
		return "", err
	}
	used := make(map[string]int)
	entries, _ := filepath.Glob(filepath.Join(ledger, "*.entry"))
	for _, other := range entries {
		text, _ := os.ReadFile(other) // It may have gone by now.
		words := strings.Fields(string(text))
		for i, card := range words {
			if n, _ := strconv.Atoi(words[0]); i > 0 {
				used[card] += n
			}
		}
	}
	for card, n := range used {
		if n > cardMemory {
			os.WriteFile(filepath.Join(ledger, "over"), fmt.Appendf(nil, "%d of card %s are taken", n, card), 0o666)
			return "", fmt.Errorf("out of memory on card %s", card)
		}
	}
	return entry, nil
}

// twoCards is a configuration of a model that needs both cards, two that need one each, and
// an embedder that goes anywhere.
func twoCards(t *testing.T) (file, ledger string) {
	ledger = t.TempDir()
	placement := func(cards string, memory int) map[string]any {
		p := map[string]any{"env": map[string]string{"CUDA_VISIBLE_DEVICES": cards, "MEMORY": fmt.Sprint(memory)}}
		for card := range strings.SplitSeq(cards, ",") {
			p["gpu"+card] = memory
		}
		return p
	}
	either := func(memory int) map[string]any {
		return map[string]any{"placements": []any{placement("0", memory), placement("1", memory)}}
	}
	text, err := json.Marshal(map[string]any{
		"defaults": map[string]any{
			"command": []string{self(t), cardRole, "${PLACEMENT}", "-port", "${PORT}", "-name", "${MODEL}"},
			"env":     map[string]string{"LEDGER": ledger},
		},
		"models": map[string]any{"large": map[string]any{}, "chat": map[string]any{}, "code": map[string]any{}, "embed": map[string]any{}},
		"budget": map[string]any{
			"capacity": map[string]any{"gpu0": cardMemory, "gpu1": cardMemory},
			"models":   map[string]any{"large": map[string]any{"placements": []any{placement("0,1", 22)}}, "embed": either(2)},
			"default":  either(20),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return writeConfig(t, string(text)), ledger
}

// TestTwoCards: nothing that fits is evicted, and no card ever has more on it than fits.
func TestTwoCards(t *testing.T) {
	t.Parallel() // It mostly waits.
	file, ledger := twoCards(t)
	p := startProxyProcess(t, "-config", file)
	client := newClient(t)
	ask := func(model string) {
		if code, text, err := chat(client, p.url, model, false); err != nil || code != 200 || !strings.Contains(text, "This is "+model) {
			t.Errorf("%s: %d %s %v", model, code, text, err)
		}
	}
	for _, step := range []struct {
		model, ready string
		evictions    uint64
	}{
		{"embed", "embed", 0},
		{"code", "code embed", 0},
		{"chat", "chat code embed", 0},
		{"embed", "chat code embed", 0},
		{"large", "embed large", 2},
		{"chat", "chat embed", 3},
		{"code", "chat code embed", 3},
		{"chat", "chat code embed", 3},
	} {
		ask(step.model)
		s := statusOf(t, client, p.url)
		var ready []string
		for _, m := range s.Models {
			if m.State == "ready" {
				ready = append(ready, m.Model)
			}
		}
		if got := strings.Join(ready, " "); got != step.ready || s.Scheduler.Counters["evictions"] != step.evictions {
			t.Errorf("%s: ready are %s, not %s; %d evictions, not %d", step.model, got, step.ready, s.Scheduler.Counters["evictions"], step.evictions)
		}
	}
	var all sync.WaitGroup
	for seed := range uint64(4) {
		all.Go(func() {
			r := rand.New(rand.NewPCG(seed, 1))
			for range 12 {
				ask([]string{"large", "chat", "code", "embed"}[r.IntN(4)])
			}
		})
	}
	all.Wait()
	if over, err := os.ReadFile(filepath.Join(ledger, "over")); err == nil {
		t.Errorf("%s\n%s", over, &p.stderr)
	}
	if starts := strings.Count(p.stderr.String(), "msg=\"model ready\" model=embed"); starts != 1 {
		t.Errorf("the embedder, for which there always is room, was loaded %d times", starts)
	}
	if code := p.end(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d\n%s", code, &p.stderr)
	}
	if left, _ := filepath.Glob(filepath.Join(ledger, "*.entry")); len(left) != 0 {
		t.Errorf("%q are left", left)
	}
}
