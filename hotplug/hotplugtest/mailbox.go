package hotplugtest

import (
	"testing"

	"golang.org/x/sys/unix"
)

// Mailbox is a datagram socket, in the place of another program that listens.
type Mailbox struct {
	t  *testing.T
	Fd int // non-blocking
}

// NewMailbox returns a Mailbox at an address: a path, or @ and an abstract name.
func NewMailbox(t *testing.T, address string) *Mailbox {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	Must(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	Must(t, unix.Bind(fd, &unix.SockaddrUnix{Name: address}))
	return &Mailbox{t, fd}
}

// Next returns the next datagram, or "" where none has come.
func (m *Mailbox) Next() string {
	m.t.Helper()
	buf := make([]byte, 64<<10)
	n, err := unix.Read(m.Fd, buf)
	if err == unix.EAGAIN {
		return ""
	}
	Must(m.t, err)
	return string(buf[:n])
}
