package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// ownGroup lets cmd lead a process group, and lets the kernel kill it when the
// proxy is gone, however that came about.
//
// The kernel does so when the thread that has started cmd ends, which is why
// startJob keeps that thread. The time between fork and prctl is covered: package
// syscall then looks whether its parent is still there. Not covered is what cmd
// starts in turn, unless it sees to that itself as most servers do for their
// workers, and a program with set-user-ID or capabilities of its own, for which
// the kernel forgets it. A service manager that ends the whole control group of
// the proxy, as systemd does, covers these too.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// allZombies reports whether the members of a group are all dead, and only not
// waited for yet: the parent of an orphan may take its time. It is false if there
// are none to be seen.
func allZombies(pgid int) bool {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	zombies := false
	for _, file := range stats {
		stat, err := os.ReadFile(file)
		if err != nil {
			continue // It is gone.
		}
		s := string(stat)
		f := strings.Fields(s[strings.LastIndexByte(s, ')')+1:]) // The name before may hold anything.
		if len(f) < 18 || f[2] != strconv.Itoa(pgid) {
			continue
		}
		// The first thread of a process that lives on in others is a zombie too.
		if state, threads := f[0], f[17]; state != "Z" && state != "X" || threads > "1" {
			return false
		}
		zombies = true
	}
	return zombies
}
