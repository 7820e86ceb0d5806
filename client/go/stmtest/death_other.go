//go:build !linux

package stmtest

import "os/exec"

// dieWithUs has nothing to say here: a daemon in memory ends with its standard input, one with a DataDir by Stop.
func dieWithUs(*exec.Cmd) {}
