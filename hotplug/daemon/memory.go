package daemon

import (
	"runtime/debug"

	"golang.org/x/sys/unix"

	"devspool/hotplug/procfs"
	"devspool/hotplug/sys"
)

// ReleaseMemory returns to the system what an idle process does not need: free memory, and the pages
// of the program, which the kernel reads from its file again on use.
func ReleaseMemory() {
	// Free memory first: to collect it runs code, whose pages would come back.
	debug.FreeOSMemory()
	smaps, _ := sys.ReadFile("/proc/self/smaps")
	for _, part := range procfs.FileMappings(smaps) {
		// Where this fails the pages stay, which costs memory and nothing else.
		unix.RawSyscall(unix.SYS_MADVISE, part.From, part.To-part.From, unix.MADV_DONTNEED)
	}
}
