package modules

import (
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
)

// programs is where the modprobe program may lie.
const programs = "/sbin/modprobe /usr/sbin/modprobe /bin/modprobe /usr/bin/modprobe"

// FindProgram returns this system's modprobe program, or "" where there is none besides
// this one. /sbin/modprobe may be a link to this program, which would call itself without end.
func FindProgram() string {
	self := sys.FileIDOf("/proc/self/exe")
	for _, path := range strings.Fields(programs) {
		if sys.Executable(path) && sys.FileIDOf(path) != self {
			return path
		}
	}
	return ""
}

// RunProgram runs the modprobe program at path, and returns an error where its exit code is
// not 0. What it says goes to our standard error. (Package os/exec would cost the program
// 200 kB.)
func RunProgram(path string, args, environ []string) error {
	pid, err := syscall.ForkExec(path, append([]string{"modprobe"}, args...),
		&syscall.ProcAttr{Env: environ, Files: []uintptr{0, 1, 2}})
	if err != nil {
		return err
	}
	var status unix.WaitStatus
	err = sys.RetryEINTR(func() error { _, err := unix.Wait4(pid, &status, 0, nil); return err })
	if err == nil && status != 0 { // ECHILD: a reaper of orphans was faster, and /sys will tell
		return reason("the modprobe program ended with status " + strconv.Itoa(status.ExitStatus()))
	}
	return nil
}
