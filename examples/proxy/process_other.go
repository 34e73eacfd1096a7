//go:build !unix

package main

import (
	"math"
	"os"
	"os/exec"
)

// Where there are no process groups, only the process itself is ended.

func ownGroup(cmd *exec.Cmd) {}

// terminateGroup does what can be done: there is no signal that asks.
func terminateGroup(p *os.Process) { p.Kill() }

func killGroup(p *os.Process) { p.Kill() }

func groupLives(p *os.Process) bool { return false }

// fileLimit returns that there is none.
func fileLimit() uint64 { return math.MaxUint64 }
