package daemon

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
)

// BackgroundFD is the descriptor by which a loop in the background tells the
// process that started it that it is ready.
const BackgroundFD = 3

// Background starts args, this program's own command line, as a process in a
// session of its own, and returns when that calls Ready (code 0), or with its exit
// code when it ends before.
func Background(args, environ []string) (code int, err error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return 0, os.NewSyscallError("pipe", err)
	}
	// The path that it was called by first, since killall goes by its name.
	self := sys.LookPath(args[0], environ)
	if !sys.Executable(self) {
		self = "/proc/self/exe"
	}
	pid, err := syscall.ForkExec(self, args, &syscall.ProcAttr{
		Env:   environ,
		Files: []uintptr{0, 1, 2, uintptr(p[1])},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	unix.Close(p[1])
	if err != nil {
		return 0, &os.PathError{Op: "exec", Path: self, Err: err}
	}
	var newline [1]byte
	if n, _ := unix.Read(p[0], newline[:]); n == 1 {
		return 0, nil
	}
	var status unix.WaitStatus
	if err := sys.RetryEINTR(func() error { _, err := unix.Wait4(pid, &status, 0, nil); return err }); err != nil {
		return 0, os.NewSyscallError("wait4", err)
	}
	if status.Signaled() {
		return 128 + int(status.Signal()), nil
	}
	return status.ExitStatus(), nil
}

// Detach lets go of the terminal.
func Detach() {
	if null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0); err == nil {
		for fd := range 3 {
			unix.Dup3(null, fd, 0)
		}
		unix.Close(null)
	}
}

// Ready writes a newline to the descriptor fd and closes it, which tells a
// supervisor that the loop listens and has coldplugged.
func Ready(fd int) {
	unix.Write(fd, []byte("\n"))
	unix.Close(fd)
}
