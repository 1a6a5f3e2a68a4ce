//go:build !386 && !arm && !mips && !mipsle

package handoff

import "syscall"

// How the kernel lays out what the entry gives it.
const (
	sysFstat   = syscall.SYS_FSTAT
	sigHandler = 0 // the word of struct sigaction that says what to do
	sigsetSize = 8 // bytes of a set of signals
)
