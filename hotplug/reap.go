package hotplug

import (
	"os"
	"os/signal"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
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
		for pid := sys.EndedChild(unix.P_ALL, 0); pid != 0; pid = sys.EndedChild(unix.P_ALL, 0) {
			if !r.bury(pid) {
				time.Sleep(sys.PollInterval) // it hides those behind it until it is waited for
			}
		}
	}
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
