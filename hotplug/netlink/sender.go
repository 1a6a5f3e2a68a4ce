package netlink

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
)

// Sender multicasts messages to groups of the uevent family, in its network namespace.
// Any number of goroutines may use it.
type Sender struct{ fd int }

// NewSender opens the socket. To send needs CAP_NET_ADMIN.
func NewSender() (*Sender, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	return &Sender{fd}, nil
}

// Close closes the socket. It may be called again.
func (s *Sender) Close() { sys.CloseAll(&s.fd) }

// Send sends a message to a group, given as its bit: of a mask with two, the kernel
// serves the lower alone. It never waits. That nobody listens is no error.
func (s *Sender) Send(group uint32, msg []byte) error {
	to := unix.RawSockaddrNetlink{Family: unix.AF_NETLINK, Groups: group}
	_, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(s.fd), uintptr(unsafe.Pointer(unsafe.SliceData(msg))), uintptr(len(msg)),
		unix.MSG_DONTWAIT, uintptr(unsafe.Pointer(&to)), unix.SizeofSockaddrNetlink)
	if errno == unix.ECONNREFUSED {
		return nil
	}
	return sys.Failure(errno)
}
