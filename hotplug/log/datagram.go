package log

import (
	"os"

	"golang.org/x/sys/unix"
)

// SendDatagram sends msg to the Unix socket at address, from a socket of its own. It never waits:
// the error is EAGAIN where the receiver's queue is full.
func SendDatagram(address string, msg []byte) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	return unix.Sendto(fd, msg, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, &unix.SockaddrUnix{Name: address})
}
