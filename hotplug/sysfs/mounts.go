package sysfs

import (
	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
)

// WatchMounts calls f whenever something was mounted or unmounted, until stop is
// called. Without /proc it never does.
func WatchMounts(f func()) (stop func()) {
	fd, err := unix.Open("/proc/self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return func() {}
	}
	file, mounts, err := sys.Polled(fd, "mountinfo")
	if err != nil {
		return func() {}
	}
	go mounts.Read(func(fd uintptr) (done bool) {
		f() // and once at the start, for what was mounted before the watch began
		return false
	})
	return func() { file.Close() }
}
