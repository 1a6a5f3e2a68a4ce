//go:build !(386 || mips || mipsle || ppc64 || ppc64le || s390x)

package sys

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// These architectures have a system call for each. semget asks for a set of at least one semaphore;
// without IPC_CREAT in the flags, 0, none is made.

func semget(key uintptr) (int, error) {
	r, _, errno := unix.RawSyscall(unix.SYS_SEMGET, key, 1, 0)
	return result(r, errno)
}

func semctl(id, what uintptr) (int, error) {
	r, _, errno := unix.RawSyscall6(unix.SYS_SEMCTL, id, 0, what, 0, 0, 0)
	return result(r, errno)
}

func semop(id uintptr, op unsafe.Pointer) error {
	_, _, errno := unix.RawSyscall(unix.SYS_SEMOP, id, uintptr(op), 1)
	return Failure(errno)
}
