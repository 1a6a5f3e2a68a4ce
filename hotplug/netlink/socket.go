// Package netlink receives the kernel's uevents from a netlink socket, many by one
// system call. It tells that events were lost, and does not decide what that means.
package netlink

import (
	"errors"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"devspool/hotplug/log"
	"devspool/hotplug/sys"
	"devspool/hotplug/uevent"
)

// KernelGroup is the multicast group that the kernel sends uevents to. (Group 2
// is udev's.)
const KernelGroup = 1

// receiveBuffer is what udevd and mdev ask for too: some 300,000 events. It is
// charged only when it is used.
const receiveBuffer = 128 << 20

// RecvBatch is how many messages are received by one system call.
const RecvBatch = 32

// ReadTarget is how many events are read at least, if they are there, before they are
// worked off.
const ReadTarget = 1024

// Socket receives the kernel's uevents.
type Socket struct {
	Fd   int
	file *os.File // fd as the runtime's poller knows it
	conn syscall.RawConn
	Log  *log.Logger

	// What recvmmsg(2) is given: for each message its sender and room for it.
	Messages [RecvBatch]message
	vectors  [RecvBatch]unix.Iovec
	Senders  [RecvBatch]unix.RawSockaddrNetlink
	origins  [RecvBatch]credentials
	Room     []byte // batch times uevent.MaxMessage; what is not used takes no memory

	Reading Batch
	Overrun bool        // events were lost, and what is in the socket may be older
	Busy    atomic.Bool // messages were taken, and may not have been worked off
}

// credentials is the control message that tells which process had a message sent
// (SCM_CREDENTIALS in unix(7)): number 0 is the kernel itself.
type credentials struct {
	header unix.Cmsghdr
	who    unix.Ucred
}

// message is C's struct mmsghdr.
type message struct {
	Header unix.Msghdr
	Length uint32
}

// Listen opens the socket. From then on no event is missed.
func Listen(logger *log.Logger) (*Socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: KernelGroup}); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("bind", err)
	}
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1) // or no event counts as the kernel's own
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) != nil {
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
	}
	// The kernel reports twice what was asked for (socket(7)).
	if got, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF); err == nil && got/2 < receiveBuffer {
		logger.Print(log.Warning, "the receive buffer is "+strconv.Itoa(got/2>>10)+" KiB, not "+
			strconv.Itoa(receiveBuffer>>10)+": long bursts may lead to rescans")
	}
	file, conn, err := sys.Polled(fd, "netlink")
	if err != nil {
		return nil, err
	}
	s := &Socket{Fd: fd, file: file, conn: conn, Log: logger, Room: make([]byte, RecvBatch*uevent.MaxMessage)}
	for i := range s.Messages {
		s.vectors[i].Base = &s.Room[i*uevent.MaxMessage]
		s.vectors[i].SetLen(uevent.MaxMessage)
		h := &s.Messages[i].Header
		h.Name = (*byte)(unsafe.Pointer(&s.Senders[i]))
		h.Iov = &s.vectors[i]
		h.SetIovlen(1)
		h.Control = (*byte)(unsafe.Pointer(&s.origins[i]))
	}
	return s, nil
}

func (s *Socket) Close() { s.file.Close() }

// Wake makes follow return, now or as soon as it would wait.
func (s *Socket) Wake() { s.file.SetReadDeadline(sys.Beginning) }

// Follow gives f the events as they come, until f returns false or wake is called.
// They hold until f returns. It waits where all was read.
//
// Were the loop to wait in a system call, the runtime's monitor would have to look
// after it when it is over, at the cost of a hundred events. The runtime's poller
// remembers that something came since it last woke the loop, but only within one
// Read of its own. So all work is done in there: then the poller need not be asked
// in the midst of many events, nor the socket once more after a lone one.
func (s *Socket) Follow(f func(*Batch) (more bool)) error {
	var failed error
	err := s.conn.Read(func(uintptr) (done bool) {
		for {
			s.Busy.Store(true)
			r, err := s.read()
			if failed = err; err != nil || !f(r) {
				return true
			}
			if r.drained() && len(r.Events) <= 1 {
				s.Busy.Store(false)
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
func (s *Socket) read() (*Batch, error) {
	r := &s.Reading
	r.clear()
	n, errno := s.receive()
	for ; errno == 0 || errno == unix.ENOBUFS; n, errno = s.receive() {
		if errno == unix.ENOBUFS {
			s.Overrun = true // but it has dropped nothing of what is there
			continue
		}
		for i := range s.Messages[:n] {
			s.Parse(i)
		}
		if n < RecvBatch || len(r.Events) >= ReadTarget {
			break
		}
	}
	switch errno {
	case 0, unix.EAGAIN, unix.EINTR:
	default:
		return r, os.NewSyscallError("recvmmsg", errno)
	}
	if errno == unix.EAGAIN || errno == 0 && n < RecvBatch {
		r.Drained, r.Lost = !s.Overrun, s.Overrun
		s.Overrun = false
	}
	return r, nil
}

// Pending reports whether there are messages that were not taken yet, or were lost.
// It takes no look at them: a look would use up the error that tells of the loss.
func (s *Socket) Pending() bool {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(s.Fd), Events: unix.POLLIN}}, 0)
	return n != 0 || err != nil
}

// receive takes the messages that are there, batch at most.
func (s *Socket) receive() (n int, errno syscall.Errno) {
	for i := range s.Messages {
		h := &s.Messages[i].Header
		h.Namelen = unix.SizeofSockaddrNetlink
		h.SetControllen(int(unsafe.Sizeof(credentials{})))
	}
	r, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(s.Fd), uintptr(unsafe.Pointer(&s.Messages)), RecvBatch, unix.MSG_DONTWAIT, 0, 0)
	return int(r), errno
}

// Parse parses a message, or drops what the kernel did not send: any process may
// write to a netlink socket, but only the kernel's port is 0.
func (s *Socket) Parse(i int) {
	m := &s.Messages[i]
	if m.Header.Namelen != unix.SizeofSockaddrNetlink || s.Senders[i].Pid != 0 || s.Senders[i].Groups != KernelGroup {
		s.Log.Print(log.Warning, "dropped a message that the kernel did not send")
		return
	}
	if m.Header.Flags&unix.MSG_TRUNC != 0 {
		s.Log.Print(log.Err, "dropped a message longer than "+strconv.Itoa(uevent.MaxMessage)+" bytes, which no uevent is")
		s.Overrun = true
		return
	}
	from := i * uevent.MaxMessage
	e, err := uevent.ParseMessage(s.Room[from : from+int(m.Length)])
	if err != nil {
		s.Log.Print(log.Warning, "dropped a message: "+err.Error())
		return
	}
	o := &s.origins[i]
	kernel := m.Header.Controllen != 0 && o.header.Type == unix.SCM_CREDENTIALS && o.who.Pid == 0
	s.Reading.add(e, kernel)
}

// Batch is what was read from the socket at one time.
type Batch struct {
	Events  []*uevent.Event
	kernel  []bool // of each, whether the kernel sent it of its own accord
	Drained bool   // nothing was left to be read, and nothing was lost before
	Lost    bool   // nothing was left to be read, but the kernel had dropped some before

	later map[uevent.Dev]bool // kept for fresh, and empty but for that
}

func (r *Batch) clear() {
	clear(r.Events) // or they would stay in memory
	*r = Batch{Events: r.Events[:0], kernel: r.kernel[:0], later: r.later}
}

// drained reports whether nothing was left to be read.
func (r *Batch) drained() bool { return r.Drained || r.Lost }

func (r *Batch) add(e *uevent.Event, kernel bool) {
	r.Events = append(r.Events, e)
	r.kernel = append(r.kernel, kernel)
}

// fresh tells of each event whether it is the add of a device that is there, for all
// that anybody can know: the kernel tells of everything in its order, so where all
// was read and it says nothing later of the device, that lives, or its remove is
// still to come. An event that another process had the kernel send is no such proof.
func (r *Batch) Current() []bool {
	fresh := make([]bool, len(r.Events))
	if !r.Drained {
		return fresh
	}
	if r.later == nil {
		r.later = map[uevent.Dev]bool{}
	}
	for i := len(r.Events) - 1; i >= 0; i-- {
		e := r.Events[i]
		fresh[i] = r.kernel[i] && e.Action == uevent.Add && !r.later[e.Dev] && !addIsDelayed(e)
		if i > 0 { // for a lone one a map's first entry would be dear
			r.later[e.Dev] = true
		}
	}
	if len(r.Events) > RecvBatch {
		r.later = nil // a map keeps the memory of the most that it ever held
	}
	clear(r.later)
	return fresh
}

// addIsDelayed reports whether the device of e may have left before the kernel told
// of it: the partitions of a new disk are there some time before their adds are sent,
// and nothing keeps another process from taking one away meanwhile (disk_uevent in
// block/genhd.c, BLKPG_DEL_PARTITION). Its remove was sent before the add then.
func addIsDelayed(e *uevent.Event) bool {
	if !e.Dev.Block {
		return false
	}
	kind, _ := e.Get("DEVTYPE")
	return kind == "partition"
}
