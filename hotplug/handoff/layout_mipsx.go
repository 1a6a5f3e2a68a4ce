//go:build mips || mipsle

package handoff

import "syscall"

// How the kernel lays out what the entry gives it.
const (
	sysFstat   = syscall.SYS_FSTAT64
	sigHandler = 1  // the word of struct sigaction that says what to do; the flags come first
	sigsetSize = 16 // bytes of a set of signals
)
