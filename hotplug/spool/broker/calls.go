package broker

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"devspool/hotplug/spool"
	"devspool/hotplug/sys"
)

// The calls that every event makes. They work on memory and do not block, so the
// Go scheduler is not told of them: that would cost a tenth of what they do.

// nameless opens a new file without a name in a directory.
func nameless(dir int, mode uint32) (int, error) {
	dot := [2]byte{'.'}
	fd, _, errno := unix.RawSyscall6(unix.SYS_OPENAT, uintptr(dir), uintptr(unsafe.Pointer(&dot)),
		unix.O_TMPFILE|unix.O_WRONLY|unix.O_CLOEXEC|unix.O_LARGEFILE, uintptr(mode), 0, 0)
	return int(fd), sys.Failure(errno)
}

// rawName is an event's name for the kernel, with its NUL; those in held are the longest.
type rawName [2*spool.NameLength + 1]byte

func raw(name string) (text rawName) {
	copy(text[:len(text)-1], name)
	return text
}

// linkFD gives a file without a name one in a directory.
func linkFD(fd, dir int, name string) error {
	text := raw(name)
	var empty byte
	_, _, errno := unix.RawSyscall6(unix.SYS_LINKAT, uintptr(fd), uintptr(unsafe.Pointer(&empty)),
		uintptr(dir), uintptr(unsafe.Pointer(&text)), unix.AT_EMPTY_PATH, 0)
	return sys.Failure(errno)
}

func unlinkat(dir int, name string) {
	text := raw(name)
	unix.RawSyscall(unix.SYS_UNLINKAT, uintptr(dir), uintptr(unsafe.Pointer(&text)), 0)
}

// flock takes a lock, and only where somebody has it waits as a system call does
// that blocks.
func flock(fd int) error {
	_, _, errno := unix.RawSyscall(unix.SYS_FLOCK, uintptr(fd), unix.LOCK_EX|unix.LOCK_NB, 0)
	if errno != unix.EWOULDBLOCK && errno != unix.EINTR {
		return sys.Failure(errno)
	}
	return sys.RetryEINTR(func() error { return unix.Flock(fd, unix.LOCK_EX) })
}

func unlock(fd int) { unix.RawSyscall(unix.SYS_FLOCK, uintptr(fd), unix.LOCK_UN, 0) }
