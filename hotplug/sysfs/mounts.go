package sysfs

import (
	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
)

// WatchMounts calls f, in a goroutine of its own, at once and whenever a file system was mounted or
// unmounted, until stop is called. Without /proc it never calls f.
func WatchMounts(f func()) (stop func()) {
	fd, err := unix.Open("/proc/self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return func() {}
	}
	file, mounts, err := sys.Polled(fd, "mountinfo")
	if err != nil {
		return func() {}
	}
	// The kernel reports a change of the mounts as EPOLLERR, by which the runtime's poller
	// wakes a goroutine that waits to read.
	go mounts.Read(func(fd uintptr) (done bool) {
		f() // the call at once covers mounts from before the watch
		return false
	})
	return func() { file.Close() }
}
