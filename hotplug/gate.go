package hotplug

import (
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// gate is where the loop waits: an epoll of its own within the one of the runtime.
//
// Were the loop to wait in a system call, the runtime's monitor would have to look
// after it when it is over, at the cost of a hundred events. Were the socket itself
// in the runtime's epoll, a thread would wake for each event that comes while the
// loop is at work. Here nothing wakes but the loop, once.
type gate struct {
	file  *os.File
	epoll syscall.RawConn
	fd    int
	sock  int
}

// open makes a gate that any of three descriptors opens: sock when there is something
// to read, alarm likewise, and mounts, unless it is -1, when it has changed.
func (g *gate) open(sock, alarm, mounts int) error {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	g.fd, g.sock = fd, sock
	if g.file, g.epoll, err = polled(fd, "epoll"); err != nil {
		return err
	}
	for _, end := range []struct {
		fd     int
		events uint32
	}{{sock, unix.EPOLLONESHOT}, {alarm, unix.EPOLLIN}, {mounts, unix.EPOLLPRI}} {
		if end.fd < 0 {
			continue
		}
		if err := g.watch(unix.EPOLL_CTL_ADD, end.fd, end.events); err != nil {
			return err
		}
	}
	return nil
}

func (g *gate) close() { g.file.Close() }

func (g *gate) watch(op, fd int, events uint32) error {
	event := unix.EpollEvent{Events: events, Fd: int32(fd)}
	_, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(g.fd), uintptr(op), uintptr(fd), uintptr(unsafe.Pointer(&event)), 0, 0)
	if errno != 0 {
		return os.NewSyscallError("epoll_ctl", errno)
	}
	return nil
}

// wait returns which descriptor has opened the gate.
func (g *gate) wait() (fd int, err error) {
	if err := g.watch(unix.EPOLL_CTL_MOD, g.sock, unix.EPOLLIN|unix.EPOLLONESHOT); err != nil {
		return none, err
	}
	var event unix.EpollEvent
	err = g.epoll.Read(func(epoll uintptr) bool {
		n, _, _ := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, epoll, uintptr(unsafe.Pointer(&event)), 1, 0, 0, 0)
		return n == 1
	})
	return int(event.Fd), err
}
