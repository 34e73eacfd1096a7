package config

import (
	"maps"
	"os"
	"testing"
	"time"
)

// TestConfigInherits: what a model says itself comes first, even if it is nothing;
// objects are merged.
func TestConfigInherits(t *testing.T) {
	t.Setenv("PROXY_KEY_OFFICE", "xyzzy1")
	t.Setenv("PROXY_KEY_BATCH", "xyzzy2")
	data, err := os.ReadFile("testdata/remote.json")
	if err != nil {
		t.Fatal(err)
	}
	c, err := Parse("remote.json", data)
	if err != nil {
		t.Fatal(err)
	}
	qwen, llama := c.Models["qwen2.5-coder-7b"], c.Models["llama-3.1-8b"]
	if len(qwen.Command) != 5 || qwen.TTL != Duration(30*time.Minute) || qwen.Env["CUDA_VISIBLE_DEVICES"] != "0" || qwen.Remote() {
		t.Errorf("qwen: %+v", qwen)
	}
	env := map[string]string{"CUDA_VISIBLE_DEVICES": "1", "LLAMA_LOG_COLORS": "0"}
	if len(llama.Command) != 5 || llama.TTL != 0 || !maps.Equal(llama.Env, env) {
		t.Errorf("llama: %+v", llama)
	}
	if box := c.Models["workstation"]; !box.Remote() || box.Health != "/health" || box.TTL != Duration(30*time.Minute) {
		t.Errorf("workstation: %+v", box)
	}
	if cloud := c.Models["gpt-4.1"]; !cloud.Remote() || cloud.Health != NoHealth {
		t.Errorf("cloud: %+v", cloud)
	}
}
