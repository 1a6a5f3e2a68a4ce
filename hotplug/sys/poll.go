package sys

import (
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Accept calls f with each connection to a listening socket that Polled returned, until the socket
// is closed. The flags are those of accept4(2) besides SOCK_CLOEXEC.
func Accept(listener syscall.RawConn, flags int, f func(fd int)) {
	for {
		var fd int
		var failure error
		err := listener.Read(func(listening uintptr) bool {
			fd, failure = accept(int(listening), unix.SOCK_CLOEXEC|flags)
			return failure != unix.EAGAIN
		})
		if err != nil {
			return
		}
		if failure != nil {
			time.Sleep(100 * time.Millisecond) // too many open files, perhaps
			continue
		}
		f(fd)
	}
}

// Polled gives a descriptor to the runtime's poller, so that a goroutine that waits for it takes
// no thread. The file owns the descriptor; where there is an error it is closed. The name is for
// error messages.
func Polled(fd int, name string) (*os.File, syscall.RawConn, error) {
	if err := unix.SetNonblock(fd, true); err != nil { // the runtime polls no other
		unix.Close(fd)
		return nil, nil, err
	}
	file := os.NewFile(uintptr(fd), name)
	conn, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, nil, err
	}
	return file, conn, nil
}
