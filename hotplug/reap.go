package hotplug

import (
	"os"
	"os/signal"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// adopts reports whether orphans become children of this process: it is the first
// of its process namespace, such as a container's, or was made their reaper.
func adopts() bool {
	var reaper int32
	unix.RawSyscall(unix.SYS_PRCTL, unix.PR_GET_CHILD_SUBREAPER, uintptr(unsafe.Pointer(&reaper)), 0)
	return unix.Getpid() == 1 || reaper != 0
}

// reap takes the exit statuses of orphans for as long as the process lives, or they
// would stay as zombies. Those of commands it leaves to who waits for them.
func (r *Road) reap() {
	died := make(chan os.Signal, 1)
	signal.Notify(died, syscall.SIGCHLD)
	for ; ; <-died {
		for pid := endedChild(unix.P_ALL, 0); pid != 0; pid = endedChild(unix.P_ALL, 0) {
			if !r.bury(pid) {
				time.Sleep(glance) // it hides those behind it until it is waited for
			}
		}
	}
}

// childInfo is a siginfo_t about a child. The pid is aligned as a pointer.
type childInfo struct {
	_   [3]int32
	_   [0]uintptr
	pid int32
	_   [112]byte
}

// endedChild returns a child that has ended, of those that waitid(2) is to look at, or
// 0. It leaves the status where it is.
func endedChild(kind, id int) (pid int) {
	var info childInfo
	err := unix.Waitid(kind, id, (*unix.Siginfo)(unsafe.Pointer(&info)), unix.WEXITED|unix.WNOWAIT|unix.WNOHANG, nil)
	if err != nil {
		return 0
	}
	return int(info.pid)
}

// bury takes the status of a child, unless it is a command's. The mutex is held
// from before a command is started until it is among those that run.
func (r *Road) bury(pid int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for run := range r.active {
		if run.pid == pid {
			return false
		}
	}
	unix.Wait4(pid, nil, unix.WNOHANG, nil)
	return true
}
