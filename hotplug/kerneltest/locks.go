package kerneltest

import (
	"os"
	"syscall"

	"devspool/hotplug/procfs"
)

// FlockHolder returns the pid of the process that holds the file at path locked by flock(2), or 0.
func FlockHolder(path string) int {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	locks, _ := os.ReadFile("/proc/locks")
	st := info.Sys().(*syscall.Stat_t)
	return procfs.FlockHolder(string(locks), st.Dev, st.Ino)
}
