package main

import "time"

// config is the configuration file. README.md beside this file explains every
// field.
type config struct {
	Listen       string        `json:"listen"` // "127.0.0.1:8080"
	Hosts        []string      `json:"hosts"`  // further Host headers that are ours while on loopback
	Keys         []keyConfig   `json:"keys"`   // none: everybody may
	Models       modelConfigs  `json:"models"` // by name
	Groups       []groupConfig `json:"groups"`
	Queue        queueConfig   `json:"queue"`
	MaxBody      size          `json:"maxBody"`      // of one request; "64MiB"
	MaxHeld      size          `json:"maxHeld"`      // over all waiting requests; "256MiB"
	DrainTimeout duration      `json:"drainTimeout"` // how long requests in flight may go on at the end; "30s"
	Preload      []string      `json:"preload"`      // models to load at the start, in this order
}

// modelConfig is one model.
type modelConfig struct {
	Command     []string          `json:"command"`     // "${PORT}" and "${MODEL}" are replaced in every word
	StopCommand []string          `json:"stopCommand"` // run instead of SIGTERM; "${PID}" too
	Env         map[string]string `json:"env"`         // added to the environment of the proxy
	Dir         string            `json:"dir"`         // working directory
	URL         string            `json:"url"`         // where it answers; "http://127.0.0.1:${PORT}"
	Health      string            `json:"health"`      // path that answers 200 when ready; "/health"
	LoadTimeout duration          `json:"loadTimeout"` // "5m"
	StopTimeout duration          `json:"stopTimeout"` // SIGTERM to SIGKILL; "10s"
	TTL         duration          `json:"ttl"`         // idle for so long: unloaded; 0: never

	Aliases      []string `json:"aliases"`
	Description  string   `json:"description"`
	Unlisted     bool     `json:"unlisted"`     // not in /v1/models
	UseModelName string   `json:"useModelName"` // what the model is called in the body that it gets

	Priority         int      `json:"priority"`
	Concurrency      int      `json:"concurrency"` // 0: no limit
	Capacity         int      `json:"capacity"`    // 0: no limit
	SendLoadingState bool     `json:"sendLoadingState"`
	QueueTimeout     duration `json:"queueTimeout"` // 0: that of queue
}

// modelConfigs are the models by name.
type modelConfigs map[string]*modelConfig

// groupConfig is a group of models that share memory: see scheduler.Group.
type groupConfig struct {
	Name       string   `json:"name"`
	Members    []string `json:"members"`
	Swap       bool     `json:"swap"`
	Exclusive  bool     `json:"exclusive"`
	Persistent bool     `json:"persistent"`
}

// queueConfig is what scheduler.FIFOOptions has, and a time-out.
type queueConfig struct {
	MaxQueue int      `json:"maxQueue"` // waiting requests in all; 0: no bound
	Timeout  duration `json:"timeout"`  // how long a request may wait; 0: no bound
	Patience duration `json:"patience"` // see scheduler.FIFOOptions; 0: 10m; negative: off
	Cooldown duration `json:"cooldown"` // 0: off
}

// keyConfig is an API key. Exactly one of Key and KeyEnv is set.
type keyConfig struct {
	Name        string `json:"name"`
	Key         string `json:"key"`
	KeyEnv      string `json:"keyEnv"`      // environment variable that holds the key
	Priority    int    `json:"priority"`    // added to that of the model
	MinPriority int    `json:"minPriority"` // bounds of X-Priority
	MaxPriority int    `json:"maxPriority"`
}

// duration is written "1m30s" in the file; a plain number is seconds.
type duration time.Duration

// size is a number of bytes, written 1048576 or "1MiB".
type size int64
