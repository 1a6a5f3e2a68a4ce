// Package daemon is what a process needs to stay in the background: to start there, to leave the
// terminal, to say that it is ready, to release memory, and to reap orphans. It knows nothing of
// events.
package daemon

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
)

// BackgroundFD is the descriptor to which a process in the background writes when it is ready, for the
// process that started it by Background.
const BackgroundFD = 3

// Background starts this program with the command line args, in a session of its own, and returns when
// that process calls Ready (code 0), or with its exit code when it ends before: 128 and more for a
// signal, as in a shell.
func Background(args, environ []string) (code int, err error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return 0, os.NewSyscallError("pipe", err)
	}
	// If possible by the same path as this process, since killall goes by its last part.
	self := sys.LookPath(args[0], environ)
	if !sys.Executable(self) {
		self = "/proc/self/exe"
	}
	pid, err := syscall.ForkExec(self, args, &syscall.ProcAttr{
		Env:   environ,
		Files: []uintptr{0, 1, 2, uintptr(p[1])}, // the last one becomes BackgroundFD
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	unix.Close(p[1])
	if err != nil {
		return 0, sys.PathError("exec", self, err)
	}
	// The only other copy of p[1] is the child's: if that ends, the read returns 0 bytes.
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

// Detach puts /dev/null in the place of standard input, output and error, so that the terminal is free.
// Where there is no /dev/null they stay.
func Detach() {
	if null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0); err == nil {
		for fd := range 3 {
			_ = unix.Dup3(null, fd, 0)
		}
		unix.Close(null)
	}
}

// Ready writes a newline to the descriptor fd and closes it: so a supervisor such as s6 learns that
// the process is ready. The error is EPIPE where no process reads.
func Ready(fd int) error {
	_, err := unix.Write(fd, []byte("\n"))
	unix.Close(fd)
	return err
}
