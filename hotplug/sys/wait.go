package sys

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// childInfo is C's siginfo_t for SIGCHLD (waitid(2)). The pid is aligned as a pointer.
type childInfo struct {
	_   [3]int32 // si_signo, si_errno and si_code, in the order of the architecture
	_   [0]uintptr
	pid int32
	_   [112]byte // at least what is left of the kernel's 128 bytes
}

// EndedChild returns the pid of a child that has ended, or 0. kind and id choose among the
// children, as in waitid(2): unix.P_ALL with 0, unix.P_PID with a pid. The child stays to be
// waited for.
func EndedChild(kind, id int) (pid int) {
	var info childInfo
	err := unix.Waitid(kind, id, (*unix.Siginfo)(unsafe.Pointer(&info)), unix.WEXITED|unix.WNOWAIT|unix.WNOHANG, nil)
	if err != nil {
		return 0
	}
	return int(info.pid)
}
