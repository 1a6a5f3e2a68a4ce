package hotplug

import (
	"runtime/debug"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// giveBack returns to the system what a process that has nothing to do does not
// need: free memory, and the pages of the program, which is read from its file
// again where it is needed again.
func giveBack() {
	debug.FreeOSMemory()
	maps, _ := ReadFile("/proc/self/maps")
	for line := range strings.Lines(maps) {
		if from, to, ours := programPart(line); ours {
			unix.RawSyscall(unix.SYS_MADVISE, from, to-from, unix.MADV_DONTNEED)
		}
	}
}

// programPart returns the addresses of a line of /proc/self/maps (proc_pid_maps(5))
// that is about a part of a file which nobody can have changed in memory.
func programPart(line string) (from, to uintptr, ok bool) {
	const (
		addresses   = 0
		permissions = 1
		inode       = 4
	)
	fields := strings.Fields(line)
	if len(fields) <= inode || fields[inode] == "0" || len(fields[permissions]) != len("r-xp") ||
		fields[permissions][1] != '-' || fields[permissions][3] != 'p' {
		return 0, 0, false
	}
	first, last, _ := strings.Cut(fields[addresses], "-")
	a, err1 := strconv.ParseUint(first, 16, strconv.IntSize)
	b, err2 := strconv.ParseUint(last, 16, strconv.IntSize)
	return uintptr(a), uintptr(b), err1 == nil && err2 == nil && a < b
}
