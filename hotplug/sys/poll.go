package sys

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

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
