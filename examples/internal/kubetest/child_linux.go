package kubetest

import (
	"os/exec"
	"syscall"
)

// endWithParent lets the kernel kill cmd when this process is gone, however that
// came about. An interrupt from the terminal does not reach cmd before.
func endWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
