package config

import (
	"slices"
	"testing"
)

// changed returns a configuration of one model, m, with a change, if there is one.
func changed(t *testing.T, change func(c *Config)) *Config {
	t.Helper()
	c := &Config{Models: Models{"m": {Command: []string{"true"}}}}
	if change != nil {
		change(c)
	}
	if err := c.Complete(); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestNeedsRestart(t *testing.T) {
	before := changed(t, nil)
	after := changed(t, func(c *Config) {
		c.Listen = "127.0.0.1:1"
		c.Queue = Queue{MaxQueue: 1, Patience: Seconds(1), Cooldown: Seconds(1), Timeout: Seconds(1)}
		c.MaxBody = 1
	})
	if got := before.NeedsRestart(before); len(got) != 0 {
		t.Errorf("the same: %q", got)
	}
	if got, want := before.NeedsRestart(after), []string{"listen", "queue.maxQueue", "queue.patience", "queue.cooldown"}; !slices.Equal(got, want) {
		t.Errorf("%q, not %q", got, want)
	}
}

// TestKeysChangeProcesses: a file that makes a variable one of a key starts the models
// anew, which have it still.
func TestKeysChangeProcesses(t *testing.T) {
	t.Setenv("PROXY_TEST_KEY", "xyzzy")
	before := changed(t, nil)
	after := changed(t, func(c *Config) { c.Keys = []Key{{Name: "one", KeyEnv: "PROXY_TEST_KEY"}} })
	if before.Models["m"].SameProcess(after.Models["m"]) {
		t.Error("the model keeps its process")
	}
	if same := changed(t, func(c *Config) { c.Models["m"].TTL = 1 }); !before.Models["m"].SameProcess(same.Models["m"]) {
		t.Error("a ttl takes another process")
	}
}
