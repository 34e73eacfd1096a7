//go:build unix && !linux

package main

import (
	"os/exec"
	"syscall"
)

// ownGroup lets cmd lead a process group. If the proxy is killed, the group goes
// on: only Linux can be told to end it then.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
}

// allZombies reports that it does not know.
func allZombies(pgid int) bool { return false }
