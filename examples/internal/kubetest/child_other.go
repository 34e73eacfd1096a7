//go:build !linux

package kubetest

import "os/exec"

// endWithParent does nothing: only Linux can be told to end cmd. An interrupt from
// the terminal reaches cmd as well, and the tests stop it when they end.
func endWithParent(*exec.Cmd) {}
