package modules

import (
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
)

// marker is a variable in the environment of the modprobe program. Where it is set that
// program is another copy of ours, which would call itself without end.
const marker = "DEVSPOOL_MODPROBE=1"

// Program returns what runs this system's modprobe program with arguments and waits for
// its end, or nil where there is none besides this one. It is for a process that leaves
// its children to whoever started them.
func Program(environ []string) func(args []string) error {
	if sys.Getenv(environ, "DEVSPOOL_MODPROBE") != "" {
		return nil
	}
	self := sys.FileIDOf("/proc/self/exe")
	for _, dir := range [...]string{"/sbin", "/usr/sbin", "/bin", "/usr/bin"} {
		path := dir + "/modprobe"
		if !sys.Executable(path) || sys.FileIDOf(path) == self {
			continue
		}
		return func(args []string) error { return runProgram(path, args, environ) }
	}
	return nil
}

func runProgram(path string, args, environ []string) error {
	pid, err := syscall.ForkExec(path, append([]string{"modprobe"}, args...), &syscall.ProcAttr{
		Env: append([]string{marker}, environ...), Files: []uintptr{0, 1, 2},
	})
	if err != nil {
		return err
	}
	var status unix.WaitStatus
	if err := sys.RetryEINTR(func() error { _, err := unix.Wait4(pid, &status, 0, nil); return err }); err != nil {
		return err
	}
	if status != 0 {
		return exitError(status)
	}
	return nil
}

// exitError is how the program ended.
type exitError unix.WaitStatus

func (e exitError) Error() string {
	status := unix.WaitStatus(e)
	if status.Signaled() {
		return "the modprobe program was ended by signal " + strconv.Itoa(int(status.Signal()))
	}
	return "the modprobe program ended with exit status " + strconv.Itoa(status.ExitStatus())
}
