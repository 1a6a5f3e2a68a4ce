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

// IsSubreaper reports whether orphans become children of this process: it is the first
// of its process namespace, such as a container's, or was made their reaper.
func IsSubreaper() bool {
	var reaper int32
	unix.RawSyscall(unix.SYS_PRCTL, unix.PR_GET_CHILD_SUBREAPER, uintptr(unsafe.Pointer(&reaper)), 0)
	return unix.Getpid() == 1 || reaper != 0
}

// Reap takes the exit statuses of orphans for as long as the process lives, or they would
// stay as zombies. Commands are waited for by their own goroutines: isCommand tells which
// children are that, from before they can end.
func Reap(isCommand func(pid int) bool) {
	died := make(chan os.Signal, 1)
	signal.Notify(died, syscall.SIGCHLD)
	for ; ; <-died {
		for pid := sys.EndedChild(unix.P_ALL, 0); pid != 0; pid = sys.EndedChild(unix.P_ALL, 0) {
			if isCommand(pid) {
				time.Sleep(sys.PollInterval) // it hides those behind it until it is waited for
			} else {
				unix.Wait4(pid, nil, unix.WNOHANG, nil)
			}
		}
	}
}
