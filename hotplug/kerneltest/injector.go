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
)

// Injector sends uevents to the kernel, which gives each the next SEQNUM and
// multicasts it in the caller's network namespace, and there only (Linux 4.18). A
// listener can tell them from events of real devices by their sender's credentials only.
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
	// Connected to port 0, the kernel, so that a plain write will do.
	if err := unix.Connect(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("connect", err)
	}
	return &Injector{fd: fd}, nil
}

// Close closes the socket.
func (in *Injector) Close() error { return unix.Close(in.fd) }

// Send sends one event and waits for the kernel's word that it went out. When it
// returns, the event is in the receive buffer of every listener that had room.
func (in *Injector) Send(action, devpath string, kv ...string) error {
	return in.Inject(Event{Action: action, Devpath: devpath, Vars: kv})
}

// Inject is Send for an Event.
func (in *Injector) Inject(e Event) error {
	msg := Message(e)
	flags := uint16(unix.NLM_F_REQUEST | unix.NLM_F_ACK)
	binary.NativeEndian.PutUint16(msg[6:], flags)
	if err := in.Write(msg); err != nil {
		return err
	}
	if err := in.acknowledged(); err != nil {
		return fmt.Errorf("inject %s: %w", e, err)
	}
	return nil
}

// Write sends a message that Message made. It is the road for benchmarks: one
// system call, and the kernel's answer is asked for only by Refused.
func (in *Injector) Write(msg []byte) error {
	for {
		_, err := unix.Write(in.fd, msg)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.ENOMEM):
			time.Sleep(time.Millisecond) // the kernel is short of memory for the moment
		default:
			return os.NewSyscallError("write", err)
		}
	}
}

// Refused returns the error of a message since the last call that the kernel did
// not take, or nil. It does not wait.
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

// acknowledged waits for the answer to one message.
func (in *Injector) acknowledged() error {
	n, err := ignoringEINTR(func() (int, error) { return unix.Read(in.fd, in.reply[:]) })
	if err != nil {
		return os.NewSyscallError("read", err)
	}
	return answer(in.reply[:n])
}

// answer reads a netlink error message, in which 0 stands for success.
func answer(msg []byte) error {
	const header = unix.SizeofNlMsghdr
	if len(msg) < header+4 || binary.NativeEndian.Uint16(msg[4:]) != unix.NLMSG_ERROR {
		return errors.New("not an answer of the kernel")
	}
	if code := int32(binary.NativeEndian.Uint32(msg[header:])); code != 0 {
		return unix.Errno(-code)
	}
	return nil
}

// Message returns the netlink message that injects e. It can be sent any number of times.
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

// Listener receives what the kernel multicasts, as a device manager does.
type Listener struct {
	fd  int
	buf []byte
}

// NewListener opens a Listener in the calling thread's network namespace.
func NewListener() (*Listener, error) { return ListenTo(1) }

// ListenTo opens a Listener of other groups than the kernel's.
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

// Next waits for the next message and returns it, valid until the next call. It
// returns os.ErrDeadlineExceeded when none comes in time.
func (l *Listener) Next(timeout time.Duration) ([]byte, error) {
	poll := []unix.PollFd{{Fd: int32(l.fd), Events: unix.POLLIN}}
	n, err := ignoringEINTR(func() (int, error) { return unix.Poll(poll, int(timeout.Milliseconds())) })
	if err != nil {
		return nil, os.NewSyscallError("poll", err)
	}
	if n == 0 {
		return nil, os.ErrDeadlineExceeded
	}
	n, err = ignoringEINTR(func() (int, error) { return unix.Read(l.fd, l.buf) })
	if err != nil {
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

func ignoringEINTR(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}
