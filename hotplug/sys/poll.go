package sys

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Polled gives a descriptor to the runtime's poller: so a goroutine can wait for it,
// and no thread has to. The file closes it; where there is an error it is closed.
func Polled(fd int, name string) (*os.File, syscall.RawConn, error) {
	unix.SetNonblock(fd, true) // or the runtime would not poll it
	file := os.NewFile(uintptr(fd), name)
	conn, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, nil, err
	}
	return file, conn, nil
}
