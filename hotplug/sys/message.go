package sys

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Receive receives a message into data, and what comes with it into control, with the flags of
// recvmsg(2). It returns the lengths of both, and in got the flags of what came. Where from is not
// nil it becomes the sender's address, on a netlink socket. Package unix has the same, with
// each kind of address that there is, for 8 kB.
func Receive(fd int, data, control []byte, from *unix.RawSockaddrNetlink, flags int) (n, controlled, got int, err error) {
	vector := unix.Iovec{Base: unsafe.SliceData(data)}
	vector.SetLen(len(data))
	h := unix.Msghdr{Iov: &vector, Control: unsafe.SliceData(control)}
	h.SetIovlen(1)
	h.SetControllen(len(control))
	if from != nil {
		h.Name, h.Namelen = (*byte)(unsafe.Pointer(from)), unix.SizeofSockaddrNetlink
	}
	r, _, errno := unix.Syscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&h)), uintptr(flags))
	if errno != 0 {
		return 0, 0, 0, errno
	}
	return int(r), int(h.Controllen), int(h.Flags), nil
}

// accept accepts a connection with the flags of accept4(2), whoever it is from.
func accept(listening, flags int) (int, error) {
	fd, _, errno := unix.Syscall6(unix.SYS_ACCEPT4, uintptr(listening), 0, 0, uintptr(flags), 0, 0)
	if errno != 0 {
		return None, errno
	}
	return int(fd), nil
}
