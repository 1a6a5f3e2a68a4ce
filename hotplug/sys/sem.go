package sys

import (
	"syscall"
	"unsafe"
)

// What Semctl returns of a System V semaphore (semctl(2)).
const (
	SemValue       = 12 // GETVAL: its value
	SemZeroWaiters = 15 // GETZCNT: how many processes wait until it is 0
)

// Semget returns the id of the set of System V semaphores that has a key. It makes none.
func Semget(key int32) (id int, err error) {
	return semget(uintptr(key))
}

// Semctl returns what is asked of the first semaphore in a set.
func Semctl(id, what int) (int, error) {
	return semctl(uintptr(id), uintptr(what))
}

// Semop adds to the first semaphore in a set. It never waits: where the value would
// become less than 0 it returns EAGAIN.
func Semop(id int, add int16) error {
	op := [3]int16{0, add, ipcNoWait} // struct sembuf: number, operation, flags
	return semop(uintptr(id), unsafe.Pointer(&op))
}

// ipcNoWait is IPC_NOWAIT of semop(2), which package unix lacks.
const ipcNoWait = 0o4000

// result returns what a raw system call returned: None and an errno where it failed.
func result(r uintptr, errno syscall.Errno) (int, error) {
	if errno != 0 {
		return None, errno
	}
	return int(r), nil
}
