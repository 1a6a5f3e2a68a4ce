package netlink

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
)

// What a Sender keeps at most: so many messages, and of all but the last so many bytes.
const (
	sendBatch = 32
	sendBytes = 16 << 10
)

// Sender multicasts messages to one group of the uevent family, in its network namespace, many
// by one system call. One goroutine may use it at a time.
type Sender struct {
	Group uint32 // as its bit

	fd       int
	refused  error  // why the kernel lets this process send nothing
	n        int    // messages that wait
	text     []byte // of these, one after the other
	messages [sendBatch]message
	vectors  [sendBatch]unix.Iovec // the lengths, and in Flush the places: append moves text until then
}

// NewSender opens a socket for a group, given as its bit: of a mask with two, the kernel serves
// the lower alone. To send needs CAP_NET_ADMIN; where this process does not have it Flush says so.
func NewSender(group uint32) (*Sender, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	// Connected, so that the kernel need not look at an address with each message.
	return &Sender{Group: group, fd: fd, refused: unix.Connect(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: group})}, nil
}

// Close closes the socket. It may be called again.
func (s *Sender) Close() { sys.CloseAll(&s.fd) }

// Put takes on a message. It may send it, with those before, and returns what Flush does.
func (s *Sender) Put(msg []byte) error {
	s.text = append(s.text, msg...)
	s.vectors[s.n].SetLen(len(msg))
	if s.n++; s.n < sendBatch && len(s.text) < sendBytes {
		return nil
	}
	return s.Flush()
}

// Flush sends what Put has taken on. It never waits. That nobody listens is no error; after one the
// rest is sent.
func (s *Sender) Flush() error {
	rest := s.text
	for i := range s.n {
		v, h := &s.vectors[i], &s.messages[i].header
		v.Base, h.Iov = unsafe.SliceData(rest), v
		h.SetIovlen(1)
		rest = rest[v.Len:]
	}
	err := s.refused
	for sent := 0; sent < s.n && s.refused == nil; {
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&s.messages[sent])), uintptr(s.n-sent), unix.MSG_DONTWAIT, 0, 0)
		if errno != 0 {
			n = 1 // the first one failed
			// ECONNREFUSED says that nobody listens.
			if errno != unix.ECONNREFUSED {
				err = errno
			}
		}
		sent += int(n)
	}
	s.n, s.text = 0, s.text[:0]
	return err
}
