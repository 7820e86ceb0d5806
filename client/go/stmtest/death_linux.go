package stmtest

import (
	"os/exec"
	"syscall"
)

// dieWithUs has the kernel end it with the thread that starts it.
func dieWithUs(process *exec.Cmd) {
	process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
