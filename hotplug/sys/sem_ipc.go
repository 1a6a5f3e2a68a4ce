//go:build 386 || mips || mipsle || ppc64 || ppc64le || s390x

package sys

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls that ipc(2) stands for. These architectures have calls of their own for
// semaphores only since Linux 5.1, and none for semop.
const (
	ipcSemop  = 1
	ipcSemget = 2
	ipcSemctl = 3
)

func semget(key uintptr) (int, error) {
	r, _, errno := unix.RawSyscall6(unix.SYS_IPC, ipcSemget, key, 1, 0, 0, 0)
	return result(r, errno)
}

func semctl(id, what uintptr) (int, error) {
	var argument uintptr // a union semun, by its address; what is asked for here uses none
	r, _, errno := unix.RawSyscall6(unix.SYS_IPC, ipcSemctl, id, 0, what, uintptr(unsafe.Pointer(&argument)), 0)
	return result(r, errno)
}

func semop(id uintptr, op unsafe.Pointer) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_IPC, ipcSemop, id, 1, 0, uintptr(op), 0)
	return Failure(errno)
}
