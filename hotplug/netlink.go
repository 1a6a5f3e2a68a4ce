package hotplug

import (
	"strconv"

	"golang.org/x/sys/unix"

	"devspool/hotplug/uevent"
)

// kernelGroup is the multicast group that the kernel sends uevents to. (Group 2
// is udev's.)
const kernelGroup = 1

// receiveBuffer is what udevd and mdev ask for too: some 300,000 events. It is
// charged only when it is used.
const receiveBuffer = 128 << 20

// socket receives the kernel's uevents.
type socket struct {
	fd  int
	log *Log
	buf []byte

	lost bool // the kernel had to drop events since the flag was last cleared
}

// listen opens the socket. From then on no event is missed.
func listen(log *Log) (*socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, err
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: kernelGroup}); err != nil {
		unix.Close(fd)
		return nil, err
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) != nil {
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
	}
	// The kernel reports twice what was asked for (socket(7)).
	if got, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF); err == nil && got/2 < receiveBuffer {
		log.Print(Warning, "the receive buffer is "+strconv.Itoa(got/2>>10)+" KiB, not "+
			strconv.Itoa(receiveBuffer>>10)+": long bursts may lead to rescans")
	}
	return &socket{fd: fd, log: log, buf: make([]byte, uevent.MaxMessage)}, nil
}

// read appends the events that are waiting, limit at most. Empty is true where
// none was left.
func (s *socket) read(events []*uevent.Event, limit int) (_ []*uevent.Event, empty bool) {
	for range limit {
		n, from, err := unix.Recvfrom(s.fd, s.buf, unix.MSG_TRUNC)
		switch err {
		case nil:
		case unix.EINTR:
			continue
		case unix.ENOBUFS:
			s.lost = true
			continue
		default: // EAGAIN
			return events, true
		}
		if e := s.event(n, from); e != nil {
			events = append(events, e)
		}
	}
	return events, false
}

// event parses one message, or drops what the kernel did not send: any process
// may write to a netlink socket, but only the kernel's port is 0.
func (s *socket) event(n int, from unix.Sockaddr) *uevent.Event {
	sender, ok := from.(*unix.SockaddrNetlink)
	if !ok || sender.Pid != 0 || sender.Groups != kernelGroup {
		s.log.Print(Warning, "dropped a message that the kernel did not send")
		return nil
	}
	if n > len(s.buf) {
		s.log.Print(Err, "dropped a message of "+strconv.Itoa(n)+" bytes: longer than any uevent")
		s.lost = true
		return nil
	}
	e, err := uevent.ParseMessage(s.buf[:n])
	if err != nil {
		s.log.Print(Warning, "dropped a message: "+err.Error())
		return nil
	}
	return e
}
