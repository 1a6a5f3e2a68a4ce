package procfs

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// FlockHolder returns the pid of the process that holds a flock(2) lock on a file, or 0. locks is
// the text of /proc/locks (proc_locks(5)); dev and ino identify the file, as in stat(2). To try
// the lock instead would hold it for a moment, which other processes could see.
func FlockHolder(locks string, dev, ino uint64) int {
	for line := range strings.Lines(locks) {
		// 1: FLOCK ADVISORY WRITE PID MAJOR:MINOR:INODE START END; MAJOR and MINOR are hexadecimal
		f := strings.Fields(line)
		if len(f) < 6 || f[1] != "FLOCK" {
			continue
		}
		file := strings.Split(f[5], ":")
		if len(file) != 3 || file[2] != strconv.FormatUint(ino, 10) {
			continue
		}
		major, err1 := strconv.ParseUint(file[0], 16, 32)
		minor, err2 := strconv.ParseUint(file[1], 16, 32)
		pid, err3 := strconv.Atoi(f[4])
		if err1 == nil && err2 == nil && err3 == nil && unix.Mkdev(uint32(major), uint32(minor)) == dev {
			return max(0, pid)
		}
	}
	return 0
}
