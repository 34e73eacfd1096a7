//go:build unix

package main

import (
	"errors"
	"math"
	"os"
	"syscall"
)

// terminateGroup asks all processes of the group that p leads to end.
func terminateGroup(p *os.Process) { syscall.Kill(-p.Pid, syscall.SIGTERM) }

// killGroup ends all processes of the group that p leads.
func killGroup(p *os.Process) { syscall.Kill(-p.Pid, syscall.SIGKILL) }

// groupLives reports whether the group that p has led holds any memory. A zombie
// does not.
func groupLives(p *os.Process) bool {
	reap(p.Pid)
	if errors.Is(syscall.Kill(-p.Pid, 0), syscall.ESRCH) {
		return false
	}
	return !allZombies(p.Pid)
}

// fileLimit returns how many files the proxy may have open. At the start, Go has
// raised that as far as it may.
func fileLimit() uint64 {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return math.MaxUint64
	}
	return uint64(limit.Cur)
}

// reap waits for those members of a group that are children of the proxy. The
// leader has been waited for; they are orphans, which come to the proxy if it is
// the first process of its container.
func reap(pgid int) {
	for {
		pid, err := syscall.Wait4(-pgid, nil, syscall.WNOHANG, nil)
		if pid <= 0 && !errors.Is(err, syscall.EINTR) {
			return
		}
	}
}
