// Package netlink receives the kernel's uevents from a netlink socket, many by one system
// call. It reports that events were lost, and never decides what that means.
package netlink

import (
	"errors"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"devspool/hotplug/log"
	"devspool/hotplug/sys"
	"devspool/hotplug/uevent"
)

// KernelGroup is the multicast group that the kernel sends uevents to, as a bit of a mask. (udev
// sends to group 2.)
const KernelGroup = 1

// receiveBuffer is the size of the socket's receive buffer in bytes, the same as udevd's and
// mdev's: some 300,000 events. The kernel takes memory only for messages that are queued.
const receiveBuffer = 128 << 20

// recvBatch is how many messages one system call receives at most.
const recvBatch = 32

// readTarget is how many queued events are read before they are handed on.
const readTarget = 1024

// Socket receives the kernel's uevents. Follow reads; other goroutines may call Pending, Wake and
// Close.
type Socket struct {
	fd   int
	file *os.File        // owns fd
	conn syscall.RawConn // of file, to wait by the runtime's poller
	log  *log.Logger

	// The arguments of recvmmsg(2): for each message its buffer, its sender's address, and its
	// sender's credentials.
	messages [recvBatch]message
	vectors  [recvBatch]unix.Iovec
	senders  [recvBatch]unix.RawSockaddrNetlink
	control  [recvBatch]credentials
	buffer   []byte // uevent.MaxMessage for each; pages that are never used take no memory

	batch   Batch
	overrun bool        // the kernel dropped events, and older ones may still be queued
	busy    atomic.Bool // messages were taken, and their events may not have been handed on
}

// credentials is the control message with a sender's credentials (SCM_CREDENTIALS in unix(7)).
// Process 0 is the kernel itself. An event that a process injects by a netlink socket of its own
// has the credentials of that process.
type credentials struct {
	_      sys.NotComparable
	header unix.Cmsghdr
	sender unix.Ucred
}

// message is C's struct mmsghdr.
type message struct {
	_      sys.NotComparable
	header unix.Msghdr
	length uint32 // in bytes, of what was received or sent: the kernel fills it in
}

// Listen opens the socket. No event that the kernel sends from then on is missed.
func Listen(logger *log.Logger) (*Socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	// Before bind: without its sender's credentials no event counts as current.
	err = os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1))
	if err == nil {
		err = os.NewSyscallError("bind", unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: KernelGroup}))
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	enlargeBuffer(fd, logger)
	return Adopt(fd, logger)
}

// Adopt returns the Socket of a descriptor that another process got by Listen. What is queued
// there comes first.
func Adopt(fd int, logger *log.Logger) (*Socket, error) {
	file, conn, err := sys.Polled(fd, "netlink")
	if err != nil {
		return nil, err
	}
	return newSocket(fd, file, conn, logger), nil
}

// Fd returns the socket's descriptor.
func (s *Socket) Fd() int { return s.fd }

// enlargeBuffer sets the size of the receive buffer, as far as this process may: over
// net.core.rmem_max only root can.
func enlargeBuffer(fd int, logger *log.Logger) {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) == nil {
		return
	}
	err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
	size, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
	if size /= 2; err != nil || size < receiveBuffer { // the kernel doubles the size, for its own data
		logger.Print(log.Warning, "the receive buffer is "+strconv.Itoa(size>>10)+" KiB, not "+
			strconv.Itoa(receiveBuffer>>10)+": long bursts may lead to rescans")
	}
}

// newSocket prepares the arguments of recvmmsg(2) once for all calls: a piece of the buffer for
// each message, and room for the sender's address and credentials.
func newSocket(fd int, file *os.File, conn syscall.RawConn, logger *log.Logger) *Socket {
	s := &Socket{fd: fd, file: file, conn: conn, log: logger, buffer: make([]byte, recvBatch*uevent.MaxMessage)}
	for i := range s.messages {
		s.vectors[i].Base = &s.buffer[i*uevent.MaxMessage]
		s.vectors[i].SetLen(uevent.MaxMessage)
		h := &s.messages[i].header
		h.Name = (*byte)(unsafe.Pointer(&s.senders[i]))
		h.Iov = &s.vectors[i]
		h.SetIovlen(1)
		h.Control = (*byte)(unsafe.Pointer(&s.control[i]))
	}
	return s
}

// Close closes the socket, which has Follow return an error.
func (s *Socket) Close() { s.file.Close() }

// Wake has Follow return: at once where it waits, or else where it would wait next.
func (s *Socket) Wake() { s.file.SetReadDeadline(time.Now()) }

// Follow waits for events and calls f with each batch, until f returns false or Wake is called. A
// batch is valid until f returns. The error is that of a system call that failed.
//
// All work is done within one Read of the runtime's poller, for speed. Were the goroutine to wait
// in a system call, the runtime's monitor would have to look after it when that ends, which costs
// as much as a hundred events. And only within one Read does the poller remember that messages
// came since it last woke the goroutine: so it need not be asked in the midst of many events, nor
// the socket be read once more after a single one.
func (s *Socket) Follow(f func(*Batch) (more bool)) error {
	var failure error
	err := s.conn.Read(func(uintptr) (done bool) {
		for {
			s.busy.Store(true)
			b, err := s.read()
			if failure = err; err != nil || !f(b) {
				return true
			}
			if b.drained() && len(b.Events) <= 1 {
				s.busy.Store(false)
				return false
			}
		}
	})
	if failure != nil || errors.Is(err, os.ErrDeadlineExceeded) {
		return failure
	}
	return err
}

// read returns the queued events, none where there are none. The batch is valid until the next
// call.
//
// After an overrun the kernel queues nothing until the socket is drained, and reports ENOBUFS
// once, before the old messages. So a loss is reported only when the socket is drained.
func (s *Socket) read() (*Batch, error) {
	b := &s.batch
	b.clear()
	n, errno := s.receive()
	for ; errno == 0 || errno == unix.ENOBUFS; n, errno = s.receive() {
		if errno == unix.ENOBUFS {
			s.overrun = true // the messages that are queued are whole
			continue
		}
		for i := range s.messages[:n] {
			s.parse(i)
		}
		if n < recvBatch || len(b.Events) >= readTarget {
			break
		}
	}
	switch errno {
	case 0, unix.EAGAIN, unix.EINTR:
	default:
		return b, os.NewSyscallError("recvmmsg", errno)
	}
	if errno == unix.EAGAIN || errno == 0 && n < recvBatch {
		b.Drained, b.Lost = !s.overrun, s.overrun
		s.overrun = false
	}
	return b, nil
}

// Pending reports whether events are queued, or were taken and may not have been handed on, or
// were lost. It only polls the socket: to read it would use up the error that reports a loss.
func (s *Socket) Pending() bool {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}}, 0)
	return n != 0 || err != nil || s.busy.Load() // in this order: busy is set before the socket is read
}

// receive takes the queued messages, recvBatch at most, and returns how many it took.
func (s *Socket) receive() (n int, errno syscall.Errno) {
	for i := range s.messages {
		h := &s.messages[i].header
		h.Namelen = unix.SizeofSockaddrNetlink
		h.SetControllen(int(unsafe.Sizeof(credentials{})))
	}
	r, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&s.messages)), recvBatch, unix.MSG_DONTWAIT, 0, 0)
	return int(r), errno
}

// parse adds the event of message i to the batch. It drops a message that the kernel did not send:
// any process may write to a netlink socket, but only the kernel's port is 0.
func (s *Socket) parse(i int) {
	m := &s.messages[i]
	if m.header.Namelen != unix.SizeofSockaddrNetlink || s.senders[i].Pid != 0 || s.senders[i].Groups != KernelGroup {
		s.log.Print(log.Warning, "dropped a message that the kernel did not send")
		return
	}
	if m.header.Flags&unix.MSG_TRUNC != 0 {
		s.log.Print(log.Err, "dropped a message longer than "+strconv.Itoa(uevent.MaxMessage)+" bytes, which no uevent is")
		s.overrun = true // an event may be lost with it, so it counts as dropped
		return
	}
	from := i * uevent.MaxMessage
	e, err := uevent.ParseMessage(s.buffer[from : from+int(m.length)])
	if err != nil {
		s.log.Print(log.Warning, "dropped a message: "+err.Error())
		return
	}
	c := &s.control[i]
	s.batch.add(e, m.header.Controllen != 0 && c.header.Type == unix.SCM_CREDENTIALS && c.sender.Pid == 0)
}

// Batch is a number of events in the order in which the kernel sent them. Drained and Lost are both
// false where the socket may hold more.
type Batch struct {
	Events  []*uevent.Event
	Drained bool // the socket was empty after these, and nothing was lost
	Lost    bool // the socket was empty after these, but the kernel dropped events

	byKernel []bool              // of each event: the kernel made it, and no process injected it
	later    map[uevent.Dev]bool // for Current, and empty outside of it
}

// clear empties the batch, and keeps the memory of its slices for the next one.
func (b *Batch) clear() {
	clear(b.Events) // or they would stay in memory
	*b = Batch{Events: b.Events[:0], byKernel: b.byKernel[:0], later: b.later}
}

// drained reports whether the socket was empty after these events.
func (b *Batch) drained() bool { return b.Drained || b.Lost }

// add keeps Events and byKernel of one length, as Current needs it.
func (b *Batch) add(e *uevent.Event, byKernel bool) {
	b.Events = append(b.Events, e)
	b.byKernel = append(b.byKernel, byKernel)
}

// Current reports of each event whether it is current: an add of the kernel itself, with nothing
// later about the device in a fully drained socket. The device is present, or its remove is still
// to be sent; /sys need not be asked. An injected event proves nothing.
func (b *Batch) Current() []bool {
	current := make([]bool, len(b.Events))
	if !b.Drained {
		return current
	}
	if b.later == nil {
		b.later = map[uevent.Dev]bool{}
	}
	for i := len(b.Events) - 1; i >= 0; i-- {
		e := b.Events[i]
		current[i] = b.byKernel[i] && e.Action == uevent.Add && !b.later[e.Dev] && !addIsDelayed(e)
		if i > 0 { // the first entry of a map is dear for a single event
			b.later[e.Dev] = true
		}
	}
	if len(b.Events) > recvBatch {
		b.later = nil // a map keeps the memory of the most entries that it ever had
	}
	clear(b.later)
	return current
}

// addIsDelayed reports whether the device of an add may have been removed before the add was sent.
// The partitions of a new disk exist some time before their adds are sent, and another process may
// remove one meanwhile (disk_uevent in block/genhd.c, BLKPG_DEL_PARTITION): then its remove was
// sent first.
func addIsDelayed(e *uevent.Event) bool {
	if !e.Dev.Block {
		return false
	}
	kind, _ := e.Get("DEVTYPE")
	return kind == "partition"
}
