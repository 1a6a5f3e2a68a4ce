package kerneltest

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// FlockHolder returns the process that holds a file locked by flock(2), or 0.
func FlockHolder(path string) int {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	inode := fmt.Sprintf(":%d ", info.Sys().(*syscall.Stat_t).Ino)
	locks, _ := os.ReadFile("/proc/locks")
	for line := range strings.Lines(string(locks)) {
		// 1: FLOCK  ADVISORY  WRITE PID 00:1d:INODE 0 EOF
		if f := strings.Fields(line); len(f) > 5 && f[1] == "FLOCK" && strings.Contains(line, inode) {
			pid, _ := strconv.Atoi(f[4])
			return pid
		}
	}
	return 0
}
