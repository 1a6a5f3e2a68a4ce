package hotplug

import (
	"os"

	"golang.org/x/sys/unix"

	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// send gives an event to the socket that c names, as one datagram in the form of
// the kernel's messages. Whether anybody listens there, and has room for it, is
// not our concern.
func (r *Road) send(e *uevent.Event, c nodes.Command) {
	if err := sendDatagram(c.Socket, e.AppendMessage(nil)); err != nil {
		r.Log.Event(Info, "not sent", e, c.Rule.String()+": "+c.Text+": "+err.Error())
	}
}

// sendDatagram never waits.
func sendDatagram(address string, msg []byte) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	return unix.Sendto(fd, msg, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, &unix.SockaddrUnix{Name: address})
}
