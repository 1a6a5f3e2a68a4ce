package nodes

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls that every event makes. They work on memory and never block, so the
// Go scheduler is not told of them: that would cost a good part of what they do.

// rawName is a name for the kernel: a part of a path, and its NUL.
type rawName [unix.NAME_MAX + 1]byte

// set reports whether name fits.
func (r *rawName) set(name string) bool { return copy(r[:unix.NAME_MAX], name) == len(name) }

func mknodat(at int, name string, mode uint32, dev uint64) error {
	var raw rawName
	if !raw.set(name) {
		return unix.ENAMETOOLONG
	}
	_, _, errno := unix.RawSyscall6(unix.SYS_MKNODAT, uintptr(at), uintptr(unsafe.Pointer(&raw)), uintptr(mode), uintptr(dev), 0, 0)
	return failure(errno)
}

func unlinkat(at int, name string) error {
	var raw rawName
	if !raw.set(name) {
		return unix.ENAMETOOLONG
	}
	_, _, errno := unix.RawSyscall(unix.SYS_UNLINKAT, uintptr(at), uintptr(unsafe.Pointer(&raw)), 0)
	return failure(errno)
}

func write(fd int, text []byte) (int, error) {
	n, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(text))), uintptr(len(text)))
	return int(n), failure(errno)
}

func failure(errno syscall.Errno) error {
	if errno == 0 {
		return nil
	}
	return errno
}
