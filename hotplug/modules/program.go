package modules

import (
	"devspool/hotplug/sys"
)

// FindProgram returns this system's modprobe program, or "" where there is none besides
// this one.
func FindProgram() string {
	self := sys.FileIDOf("/proc/self/exe")
	for _, path := range [...]string{"/sbin/modprobe", "/usr/sbin/modprobe", "/bin/modprobe", "/usr/bin/modprobe"} {
		if sys.Executable(path) && sys.FileIDOf(path) != self {
			return path
		}
	}
	return ""
}
