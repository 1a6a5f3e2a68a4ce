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
	smaps, _ := ReadFile("/proc/self/smaps")
	for _, part := range programParts(smaps) {
		unix.RawSyscall(unix.SYS_MADVISE, part.from, part.to-part.from, unix.MADV_DONTNEED)
	}
}

// part is a range of addresses.
type part struct{ from, to uintptr }

// programParts finds in the text of /proc/self/smaps (proc_pid_smaps(5)) what is
// mapped from files, cannot be written, and has no page that differs from the
// file: none that a linker changed before it took away the right to write.
func programParts(smaps string) (parts []part) {
	candidate := false // whether the last of parts may still turn out to differ
	for line := range strings.Lines(smaps) {
		key, value, _ := strings.Cut(line, ":")
		switch {
		case strings.Contains(key, "-"): // the addresses begin the next mapping
			var p part
			if p, candidate = programPart(line); candidate {
				parts = append(parts, p)
			}
		case candidate && (key == "Anonymous" || key == "Swap") && strings.TrimSpace(value) != "0 kB":
			parts = parts[:len(parts)-1]
			candidate = false
		}
	}
	return parts
}

// programPart reads the first line about a mapping, as in /proc/self/maps
// (proc_pid_maps(5)). Ok is false for one of no file, or that is shared or can be
// written.
func programPart(line string) (p part, ok bool) {
	const (
		addresses   = 0
		permissions = 1
		inode       = 4
	)
	fields := strings.Fields(line)
	if len(fields) <= inode || fields[inode] == "0" || len(fields[permissions]) != len("r-xp") ||
		fields[permissions][1] != '-' || fields[permissions][3] != 'p' {
		return part{}, false
	}
	first, last, _ := strings.Cut(fields[addresses], "-")
	from, err1 := strconv.ParseUint(first, 16, strconv.IntSize)
	to, err2 := strconv.ParseUint(last, 16, strconv.IntSize)
	return part{uintptr(from), uintptr(to)}, err1 == nil && err2 == nil && from < to
}
