package handoff

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// kthreadd is the number of the kernel's thread that is the parent of every process
// that the kernel starts for an event, Linux 4.4 and later. An orphan never becomes
// its child, and nobody inherits a parent: a script that the kernel started is the
// parent of what it calls, unless it calls it by exec.
const kthreadd = 2

// AnyParent is for the linker, where a program is built for a test or a measurement
// that starts it in the kernel's place. The released program has no such switch.
const AnyParent = "-X=devspool/hotplug/handoff.anyParent=yes"

var anyParent string

// kernelIsParent reports whether the kernel started this process. In a PID namespace
// an ordinary process may have the number 2. Where that cannot be ruled out the answer
// is no, and the process does its event by itself.
//
//go:nosplit
//go:norace
func kernelIsParent() bool {
	parent, _, _ := syscall.RawSyscall(syscall.SYS_GETPPID, 0, 0, 0)
	return hasNoMemory(parent) && parent == kthreadd || len(anyParent) > 0
}

// hasNoMemory reports whether a process is a thread of the kernel: only these have no
// memory that could be read. A kernel may lack the call that says so.
//
//go:nosplit
//go:norace
func hasNoMemory(pid uintptr) bool {
	var room byte
	piece := struct {
		base unsafe.Pointer
		size uintptr
	}{unsafe.Pointer(&room), 1}
	at := uintptr(unsafe.Pointer(&piece))
	_, _, errno := syscall.RawSyscall6(unix.SYS_PROCESS_VM_READV, pid, at, 1, at, 1, 0)
	if errno == syscall.ENOSYS {
		return procIsOurs() && kthreaddHasNoProgram()
	}
	return errno == syscall.ESRCH
}

// procIsOurs reports whether /proc shows the PID namespace of this process, since it
// gives this process the number that it has there.
//
//go:nosplit
//go:norace
func procIsOurs() bool {
	var text [12]byte
	n, errno := readLink(unsafe.Pointer(unsafe.StringData("/proc/self\x00")), unsafe.Pointer(&text), uintptr(len(text)))
	if errno != 0 {
		return false
	}
	said := uintptr(0)
	for i := range n {
		said = said*10 + uintptr(*(*byte)(unsafe.Add(unsafe.Pointer(&text), i))-'0')
	}
	pid, _, _ := syscall.RawSyscall(syscall.SYS_GETPID, 0, 0, 0)
	return said == pid
}

//go:nosplit
//go:norace
func kthreaddHasNoProgram() bool {
	var text byte
	_, errno := readLink(unsafe.Pointer(unsafe.StringData("/proc/2/exe\x00")), unsafe.Pointer(&text), 1)
	return errno == syscall.ENOENT
}

//go:nosplit
//go:norace
func readLink(path, text unsafe.Pointer, size uintptr) (n uintptr, errno syscall.Errno) {
	n, _, errno = syscall.RawSyscall6(syscall.SYS_READLINKAT, 0, uintptr(path), uintptr(text), size, 0, 0)
	return n, errno
}
