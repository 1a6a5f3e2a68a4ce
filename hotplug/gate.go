package hotplug

import (
	"golang.org/x/sys/unix"
)

// watchMounts calls f whenever something was mounted or unmounted, until stop is
// called. Without /proc it never does.
func watchMounts(f func()) (stop func()) {
	fd, err := unix.Open("/proc/self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return func() {}
	}
	file, conn, err := polled(fd, "mountinfo")
	if err != nil {
		return func() {}
	}
	go func() {
		for {
			changed := false
			err := conn.Read(func(uintptr) bool {
				if !changed {
					changed = true
					return false
				}
				return true
			})
			if err != nil {
				return
			}
			f()
		}
	}()
	return func() { file.Close() }
}
