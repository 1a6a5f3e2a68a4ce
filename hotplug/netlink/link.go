package netlink

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
)

// renaming is a message RTM_SETLINK that gives an interface a name (rtnetlink(7)). The parts need no
// padding between them: each is a multiple of four bytes long.
type renaming struct {
	unix.NlMsghdr
	unix.IfInfomsg
	unix.RtAttr
	name [unix.IFNAMSIZ]byte
}

// RenameLink gives the network interface of that index, in this process's network
// namespace, a name. Its errors are errnos: EEXIST where the name is another's, EBUSY where
// a kernel before 6.2 has the interface up, ENODEV where there is none, EINVAL for no name.
func RenameLink(index int, name string) error {
	m := renaming{NlMsghdr: unix.NlMsghdr{Type: unix.RTM_SETLINK, Flags: unix.NLM_F_REQUEST | unix.NLM_F_ACK}}
	m.NlMsghdr.Len, m.IfInfomsg.Index = uint32(unsafe.Sizeof(m)), int32(index)
	m.RtAttr = unix.RtAttr{Len: uint16(unsafe.Sizeof(m.RtAttr) + unsafe.Sizeof(m.name)), Type: unix.IFLA_IFNAME}
	for i := range len(name) {
		if name[i] == '%' { // the kernel would put a number there
			return unix.EINVAL
		}
	}
	// The last byte stays NUL: IFNAMSIZ counts it, so a name has 15 bytes at most.
	if name == "" || copy(m.name[:unix.IFNAMSIZ-1], name) < len(name) {
		return unix.EINVAL
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	text := unsafe.Slice((*byte)(unsafe.Pointer(&m)), unsafe.Sizeof(m))
	if _, err := sys.Write(fd, text); err != nil { // without an address it goes to the kernel
		return err
	}
	var answer struct {
		unix.NlMsghdr
		unix.NlMsgerr
	}
	// The kernel answers with NLMSG_ERROR in any case; 0 in it says that all went well.
	n, err := unix.Read(fd, unsafe.Slice((*byte)(unsafe.Pointer(&answer)), unsafe.Sizeof(answer)))
	switch {
	case err != nil:
		return err
	case n < int(unsafe.Sizeof(answer.NlMsghdr))+4 || answer.NlMsghdr.Type != unix.NLMSG_ERROR:
		return unix.EPROTO
	}
	return sys.Failure(unix.Errno(-answer.Error))
}
