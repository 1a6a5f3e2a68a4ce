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

// The most that a Bulk keeps.
const (
	bulkMessages = 32
	bulkBytes    = 16 << 10
)

// Bulk multicasts messages to one group of the uevent family, many by one system call. One
// goroutine may use it at a time.
type Bulk struct {
	fd       int
	refused  error // why the kernel lets this process send nothing
	n, used  int   // messages that wait, and their bytes
	messages [bulkMessages]message
	vectors  [bulkMessages]unix.Iovec
	text     [bulkBytes]byte
}

// NewBulk opens the socket for a group, given as its bit. To send needs CAP_NET_ADMIN; that it is
// missing Flush tells.
func NewBulk(group uint32) (*Bulk, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	// Connected, so that the kernel need not look at an address with each message.
	b := &Bulk{fd: fd, refused: unix.Connect(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: group})}
	for i := range b.messages {
		b.messages[i].header.Iov = &b.vectors[i]
		b.messages[i].header.SetIovlen(1)
	}
	return b, nil
}

// Close closes the socket. It may be called again.
func (b *Bulk) Close() { sys.CloseAll(&b.fd) }

// Put takes on a message of 8 KiB at most. It may send those before, and returns what Flush does.
func (b *Bulk) Put(msg []byte) (err error) {
	if b.n == bulkMessages || b.used+len(msg) > bulkBytes {
		err = b.Flush()
	}
	b.vectors[b.n].Base = &b.text[b.used]
	b.vectors[b.n].SetLen(copy(b.text[b.used:], msg))
	b.n, b.used = b.n+1, b.used+len(msg)
	return err
}

// Flush sends what Put has taken on. It never waits. That nobody listens is no error; after one the
// rest is sent.
func (b *Bulk) Flush() error {
	err := b.refused
	for sent := 0; sent < b.n && b.refused == nil; {
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(b.fd), uintptr(unsafe.Pointer(&b.messages[sent])), uintptr(b.n-sent), unix.MSG_DONTWAIT, 0, 0)
		if errno != 0 {
			n = 1 // the first one failed
			if errno != unix.ECONNREFUSED {
				err = errno
			}
		}
		sent += int(n)
	}
	b.n, b.used = 0, 0
	return err
}
