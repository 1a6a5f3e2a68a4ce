package sys

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// childInfo is a siginfo_t about a child. The pid is aligned as a pointer.
type childInfo struct {
	_   [3]int32
	_   [0]uintptr
	pid int32
	_   [112]byte
}

// EndedChild returns a child that has ended, of those that waitid(2) is to look at, or
// 0. It leaves the status where it is.
func EndedChild(kind, id int) (pid int) {
	var info childInfo
	err := unix.Waitid(kind, id, (*unix.Siginfo)(unsafe.Pointer(&info)), unix.WEXITED|unix.WNOWAIT|unix.WNOHANG, nil)
	if err != nil {
		return 0
	}
	return int(info.pid)
}
