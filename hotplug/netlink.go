package hotplug

import (
	"errors"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"devspool/hotplug/uevent"
)

// kernelGroup is the multicast group that the kernel sends uevents to. (Group 2
// is udev's.)
const kernelGroup = 1

// receiveBuffer is what udevd and mdev ask for too: some 300,000 events. It is
// charged only when it is used.
const receiveBuffer = 128 << 20

// batch is how many messages are received by one system call.
const batch = 32

// most is how many events are read at least, if they are there, before they are
// worked off.
const most = 1024

// socket receives the kernel's uevents.
type socket struct {
	fd   int
	file *os.File // fd as the runtime's poller knows it
	conn syscall.RawConn
	log  *Log

	// What recvmmsg(2) is given: for each message its sender and room for it.
	messages [batch]message
	vectors  [batch]unix.Iovec
	senders  [batch]unix.RawSockaddrNetlink
	origins  [batch]origin
	room     []byte // batch times uevent.MaxMessage; what is not used takes no memory

	reading reading
	behind  bool        // events were lost, and what is in the socket may be older
	busy    atomic.Bool // messages were taken, and may not have been worked off
}

// origin is the control message that tells which process had a message sent
// (SCM_CREDENTIALS in unix(7)): number 0 is the kernel itself.
type origin struct {
	header unix.Cmsghdr
	who    unix.Ucred
}

// message is C's struct mmsghdr.
type message struct {
	header unix.Msghdr
	length uint32
}

// listen opens the socket. From then on no event is missed.
func listen(log *Log) (*socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: kernelGroup}); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("bind", err)
	}
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1) // or no event counts as the kernel's own
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) != nil {
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
	}
	// The kernel reports twice what was asked for (socket(7)).
	if got, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF); err == nil && got/2 < receiveBuffer {
		log.Print(Warning, "the receive buffer is "+strconv.Itoa(got/2>>10)+" KiB, not "+
			strconv.Itoa(receiveBuffer>>10)+": long bursts may lead to rescans")
	}
	file, conn, err := polled(fd, "netlink")
	if err != nil {
		return nil, err
	}
	s := &socket{fd: fd, file: file, conn: conn, log: log, room: make([]byte, batch*uevent.MaxMessage)}
	for i := range s.messages {
		s.vectors[i].Base = &s.room[i*uevent.MaxMessage]
		s.vectors[i].SetLen(uevent.MaxMessage)
		h := &s.messages[i].header
		h.Name = (*byte)(unsafe.Pointer(&s.senders[i]))
		h.Iov = &s.vectors[i]
		h.SetIovlen(1)
		h.Control = (*byte)(unsafe.Pointer(&s.origins[i]))
	}
	return s, nil
}

func (s *socket) close() { s.file.Close() }

// wake makes follow return, now or as soon as it would wait.
func (s *socket) wake() { s.file.SetReadDeadline(beginning) }

// follow gives f the events as they come, until f returns false or wake is called.
// They hold until f returns. It waits where all was read.
//
// Were the loop to wait in a system call, the runtime's monitor would have to look
// after it when it is over, at the cost of a hundred events. The runtime's poller
// remembers that something came since it last woke the loop, but only within one
// Read of its own. So all work is done in there: then the poller need not be asked
// in the midst of many events, nor the socket once more after a lone one.
func (s *socket) follow(f func(*reading) (more bool)) error {
	var failed error
	err := s.conn.Read(func(uintptr) (done bool) {
		for {
			s.busy.Store(true)
			r, err := s.read()
			if failed = err; err != nil || !f(r) {
				return true
			}
			if r.drained() && len(r.events) <= 1 {
				s.busy.Store(false)
				return false
			}
		}
	})
	if failed != nil || errors.Is(err, os.ErrDeadlineExceeded) {
		return failed
	}
	return err
}

// read returns the events that are there. What it returns holds until the next call.
//
// A socket that was full takes nothing more until all is read, and the error that
// tells of it comes once, and first. So a loss is told of at the end of that.
func (s *socket) read() (*reading, error) {
	r := &s.reading
	r.clear()
	n, errno := s.receive()
	for ; errno == 0 || errno == unix.ENOBUFS; n, errno = s.receive() {
		if errno == unix.ENOBUFS {
			s.behind = true // but it has dropped nothing of what is there
			continue
		}
		for i := range s.messages[:n] {
			s.take(i)
		}
		if n < batch || len(r.events) >= most {
			break
		}
	}
	switch errno {
	case 0, unix.EAGAIN, unix.EINTR:
	default:
		return r, os.NewSyscallError("recvmmsg", errno)
	}
	if errno == unix.EAGAIN || errno == 0 && n < batch {
		r.complete, r.lost = !s.behind, s.behind
		s.behind = false
	}
	return r, nil
}

// ready reports whether there are messages that were not taken yet, or were lost.
// It takes no look at them: a look would use up the error that tells of the loss.
func (s *socket) ready() bool {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}}, 0)
	return n != 0 || err != nil
}

// receive takes the messages that are there, batch at most.
func (s *socket) receive() (n int, errno syscall.Errno) {
	for i := range s.messages {
		h := &s.messages[i].header
		h.Namelen = unix.SizeofSockaddrNetlink
		h.SetControllen(int(unsafe.Sizeof(origin{})))
	}
	r, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&s.messages)), batch, unix.MSG_DONTWAIT, 0, 0)
	return int(r), errno
}

// take parses a message, or drops what the kernel did not send: any process may
// write to a netlink socket, but only the kernel's port is 0.
func (s *socket) take(i int) {
	m := &s.messages[i]
	if m.header.Namelen != unix.SizeofSockaddrNetlink || s.senders[i].Pid != 0 || s.senders[i].Groups != kernelGroup {
		s.log.Print(Warning, "dropped a message that the kernel did not send")
		return
	}
	if m.header.Flags&unix.MSG_TRUNC != 0 {
		s.log.Print(Err, "dropped a message longer than "+strconv.Itoa(uevent.MaxMessage)+" bytes, which no uevent is")
		s.behind = true
		return
	}
	from := i * uevent.MaxMessage
	e, err := uevent.ParseMessage(s.room[from : from+int(m.length)])
	if err != nil {
		s.log.Print(Warning, "dropped a message: "+err.Error())
		return
	}
	o := &s.origins[i]
	kernel := m.header.Controllen != 0 && o.header.Type == unix.SCM_CREDENTIALS && o.who.Pid == 0
	s.reading.add(e, kernel)
}

// reading is what was read from the socket at one time.
type reading struct {
	events   []*uevent.Event
	kernel   []bool // of each, whether the kernel sent it of its own accord
	complete bool   // nothing was left to be read, and nothing was lost before
	lost     bool   // nothing was left to be read, but the kernel had dropped some before

	later map[uevent.Dev]bool // kept for fresh, and empty but for that
}

func (r *reading) clear() {
	clear(r.events) // or they would stay in memory
	*r = reading{events: r.events[:0], kernel: r.kernel[:0], later: r.later}
}

// drained reports whether nothing was left to be read.
func (r *reading) drained() bool { return r.complete || r.lost }

func (r *reading) add(e *uevent.Event, kernel bool) {
	r.events = append(r.events, e)
	r.kernel = append(r.kernel, kernel)
}

// fresh tells of each event whether it is the add of a device that is there, for all
// that anybody can know: the kernel tells of everything in its order, so where all
// was read and it says nothing later of the device, that lives, or its remove is
// still to come. An event that another process had the kernel send is no such proof.
func (r *reading) fresh() []bool {
	fresh := make([]bool, len(r.events))
	if !r.complete {
		return fresh
	}
	if r.later == nil {
		r.later = map[uevent.Dev]bool{}
	}
	for i := len(r.events) - 1; i >= 0; i-- {
		e := r.events[i]
		fresh[i] = r.kernel[i] && e.Action == uevent.Add && !r.later[e.Dev] && !announcedLater(e)
		if i > 0 { // for a lone one a map's first entry would be dear
			r.later[e.Dev] = true
		}
	}
	if len(r.events) > batch {
		r.later = nil // a map keeps the memory of the most that it ever held
	}
	clear(r.later)
	return fresh
}

// announcedLater reports whether the device of e may have left before the kernel told
// of it: the partitions of a new disk are there some time before their adds are sent,
// and nothing keeps another process from taking one away meanwhile (disk_uevent in
// block/genhd.c, BLKPG_DEL_PARTITION). Its remove was sent before the add then.
func announcedLater(e *uevent.Event) bool {
	if !e.Dev.Block {
		return false
	}
	kind, _ := e.Get("DEVTYPE")
	return kind == "partition"
}
