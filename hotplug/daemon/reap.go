package daemon

import (
	"os"
	"os/signal"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
)

// IsSubreaper reports whether orphans become children of this process: it is the first process of its
// namespace, as in a container, or was made their reaper (PR_SET_CHILD_SUBREAPER in prctl(2)).
func IsSubreaper() bool {
	var reaper int32
	unix.RawSyscall(unix.SYS_PRCTL, unix.PR_GET_CHILD_SUBREAPER, uintptr(unsafe.Pointer(&reaper)), 0)
	return unix.Getpid() == 1 || reaper != 0
}

// Reap waits for orphans until the process ends, or they would stay as zombies. It leaves commands to
// the goroutines that wait for them: isCommand reports whether a child is one, and must know it before
// the child can end.
func Reap(isCommand func(pid int) bool) {
	died := make(chan os.Signal, 1)
	signal.Notify(died, syscall.SIGCHLD)
	// The first look is at once, for children that ended before. One signal may stand for several.
	for ; ; <-died {
		for pid := sys.EndedChild(unix.P_ALL, 0); pid != 0; pid = sys.EndedChild(unix.P_ALL, 0) {
			if isCommand(pid) {
				time.Sleep(sys.PollInterval) // until it is waited for, waitid shows no other
			} else {
				_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
			}
		}
	}
}
