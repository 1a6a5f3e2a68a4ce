package kerneltest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
)

// Injector sends uevents to the kernel, which gives each the next SEQNUM and multicasts it in the
// network namespace of the Injector only (Linux 4.18). A listener can tell them from the kernel's own
// events by the sender's credentials, and by nothing else.
//
// It needs CAP_SYS_ADMIN over the network namespace. One goroutine may use it at a time.
type Injector struct {
	fd    int
	reply [4096]byte
}

// NewInjector opens an Injector in the calling thread's network namespace.
func NewInjector() (*Injector, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	// Connected to port 0, which is the kernel, so that write(2) sends to it.
	if err := unix.Connect(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("connect", err)
	}
	return &Injector{fd: fd}, nil
}

// Close closes the socket.
func (in *Injector) Close() error { return unix.Close(in.fd) }

// Send sends one event and waits until the kernel acknowledges it. Then the event is in the receive
// buffer of every listener that had room.
func (in *Injector) Send(action, devpath string, kv ...string) error {
	return in.Inject(Event{Action: action, Devpath: devpath, Vars: kv})
}

// Inject sends an Event as Send does.
func (in *Injector) Inject(e Event) error {
	msg := Message(e)
	flags := uint16(unix.NLM_F_REQUEST | unix.NLM_F_ACK)
	binary.NativeEndian.PutUint16(msg[6:], flags)
	if err := in.Write(msg); err != nil {
		return err
	}
	if err := in.awaitAnswer(); err != nil {
		return fmt.Errorf("inject %s: %w", e, err)
	}
	return nil
}

// Write sends a message of Message by one system call, as benchmarks need it. The kernel does not
// acknowledge it; Refused returns its error.
func (in *Injector) Write(msg []byte) error {
	for {
		_, err := unix.Write(in.fd, msg)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.ENOMEM):
			time.Sleep(time.Millisecond) // the kernel is out of memory for the moment
		default:
			return os.NewSyscallError("write", err)
		}
	}
}

// Refused returns the error of the first message of Write since the last call that the kernel refused,
// or nil. It does not wait.
func (in *Injector) Refused() error {
	var refused error
	for {
		n, _, err := unix.Recvfrom(in.fd, in.reply[:], unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			return refused
		case err != nil:
			return os.NewSyscallError("recvfrom", err)
		case refused == nil:
			refused = answer(in.reply[:n])
		}
	}
}

// awaitAnswer waits for the answer to one message.
func (in *Injector) awaitAnswer() error {
	n, err := sys.ReadBlocking(in.fd, in.reply[:])
	if err != nil {
		return os.NewSyscallError("read", err)
	}
	return answer(in.reply[:n])
}

// answer returns the error in a netlink error message, which is also the acknowledgement, with 0
// (netlink(7)).
func answer(msg []byte) error {
	const header = unix.SizeofNlMsghdr
	if len(msg) < header+4 || binary.NativeEndian.Uint16(msg[4:]) != unix.NLMSG_ERROR {
		return errors.New("not a netlink error message")
	}
	if code := int32(binary.NativeEndian.Uint32(msg[header:])); code != 0 {
		return unix.Errno(-code)
	}
	return nil
}

// Message returns the netlink message that injects e. Write may send it more than once.
func Message(e Event) []byte {
	msg := make([]byte, unix.SizeofNlMsghdr, 512)
	msg = append(msg, e.Action+"@"+e.Devpath+"\x00"...)
	msg = append(msg, "ACTION="+e.Action+"\x00DEVPATH="+e.Devpath+"\x00"...)
	for _, kv := range e.Vars {
		msg = append(msg, kv...)
		msg = append(msg, 0)
	}
	binary.NativeEndian.PutUint32(msg[0:], uint32(len(msg)))
	binary.NativeEndian.PutUint16(msg[4:], unix.NLMSG_MIN_TYPE)
	binary.NativeEndian.PutUint16(msg[6:], unix.NLM_F_REQUEST)
	return msg
}

// Listener receives the messages that the kernel multicasts, as a device manager does.
type Listener struct {
	fd  int
	buf []byte
}

// NewListener opens a Listener of the kernel's group in the calling thread's network namespace.
func NewListener() (*Listener, error) { return ListenTo(1) }

// ListenTo opens a Listener of a mask of groups.
func ListenTo(groups uint32) (*Listener, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("bind", err)
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 128<<20) // for long bursts, as root
	return &Listener{fd: fd, buf: make([]byte, 8192)}, nil
}

// Close closes the socket.
func (l *Listener) Close() error { return unix.Close(l.fd) }

// Next waits for the next message and returns it, valid until the next call. The error is
// os.ErrDeadlineExceeded where none comes within timeout.
func (l *Listener) Next(timeout time.Duration) ([]byte, error) {
	poll := []unix.PollFd{{Fd: int32(l.fd), Events: unix.POLLIN}}
	n := 0
	err := sys.RetryEINTR(func() (err error) { n, err = unix.Poll(poll, int(timeout.Milliseconds())); return err })
	if err != nil {
		return nil, os.NewSyscallError("poll", err)
	}
	if n == 0 {
		return nil, os.ErrDeadlineExceeded
	}
	if n, err = sys.ReadBlocking(l.fd, l.buf); err != nil {
		return nil, os.NewSyscallError("read", err)
	}
	return l.buf[:n], nil
}

// Seqnum returns the SEQNUM of a message, or 0.
func Seqnum(msg []byte) uint64 {
	_, rest, _ := bytes.Cut(msg, []byte("\x00SEQNUM="))
	digits, _, _ := bytes.Cut(rest, []byte{0})
	n, err := strconv.ParseUint(string(digits), 10, 64)
	if err != nil {
		return 0
	}
	return n
}
