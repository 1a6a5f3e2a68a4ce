package hotplug

import (
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/log"
	"devspool/hotplug/sys"
	"devspool/hotplug/sysfs"
	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// Rebroadcast sends each event at its end to netlink groups, in the form of the
// kernel's messages: to programs that are to hear of a device when its node is
// there and its commands are done.
type Rebroadcast struct {
	log    *log.Logger
	fd     int
	groups []*unix.SockaddrNetlink // one each: of a mask with two, the kernel serves the lower alone
	buf    []byte
	said   map[error]bool

	// Sys, where set, tells the number of the kernel's last event, which those of a scan
	// are sent with: libudev-zero refuses an event that has none.
	Sys sysfs.FS
}

// NewRebroadcast opens a socket to send to the groups in mask, of which the
// kernel's own (1) must not be one, or each event would come back to us. Sending
// needs CAP_NET_ADMIN.
func NewRebroadcast(mask uint32, logger *log.Logger) (*Rebroadcast, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	b := &Rebroadcast{log: logger, fd: fd, said: map[error]bool{}}
	for bit := uint32(1); bit != 0; bit <<= 1 {
		if mask&bit != 0 {
			b.groups = append(b.groups, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: bit})
		}
	}
	return b, nil
}

// Sink returns what sends each event, late or not, and gaps too, as events with
// UEVENT_GAP=1. It does not block.
func (b *Rebroadcast) Sink() Sink { return sinkOf(b.send) }

// sinkOf returns a Sink that sends events, and gaps as events.
func sinkOf(send func(*uevent.Event)) Sink {
	return Sink{
		Done: func(e *uevent.Event, _ *nodes.Plan) { send(e) },
		Gap:  func(why string) { send(uevent.Gap("REASON=" + why)) },
	}
}

func (b *Rebroadcast) send(e *uevent.Event) {
	b.buf = e.AppendMessage(b.buf[:0])
	if e.Seqnum == 0 && b.Sys != "" {
		b.buf = append(b.buf, "SEQNUM="+strconv.FormatUint(max(1, b.Sys.Seqnum()), 10)+"\x00"...)
	}
	for _, group := range b.groups {
		err := unix.Sendto(b.fd, b.buf, unix.MSG_DONTWAIT, group)
		if err == nil || err == unix.ECONNREFUSED || b.said[err] { // refused: nobody listens
			continue
		}
		b.said[err] = true
		b.log.Event(log.Warning, "not sent to group "+strconv.Itoa(int(group.Groups)), e, err.Error())
	}
}

// outputQueue is how many events wait for the reader of an Output.
const outputQueue = 4096

// Output writes each event at its end to a descriptor: the kernel's message and a
// further NUL. A reader that is too slow loses events, which the log tells.
type Output struct {
	log     *log.Logger
	name    string
	file    *os.File
	queue   chan []byte
	flush   chan chan struct{}
	dropped int // events since the queue was full
}

// NewOutput returns an Output to fd, which it uses alone from then on.
func NewOutput(fd int, logger *log.Logger) *Output {
	o := newOutput(fd, logger)
	go o.serve()
	return o
}

func newOutput(fd int, logger *log.Logger) *Output {
	name := "descriptor " + strconv.Itoa(fd)
	return &Output{
		log: logger, name: name, file: os.NewFile(uintptr(fd), name),
		queue: make(chan []byte, outputQueue), flush: make(chan chan struct{}),
	}
}

// Sink returns what queues each event, late or not, and gaps too, as events with
// UEVENT_GAP=1. It does not block.
func (o *Output) Sink() Sink { return sinkOf(o.send) }

func (o *Output) send(e *uevent.Event) {
	// Once it was full, the queue has to be half empty, so that there is one gap
	// and not many.
	if waiting := len(o.queue); waiting == outputQueue || o.dropped > 0 && waiting > outputQueue/2 {
		if o.dropped == 0 {
			o.log.Print(log.Warning, "the reader of "+o.name+" is too slow: it loses events from SEQNUM "+strconv.FormatUint(e.Seqnum, 10))
		}
		o.dropped++
		return
	}
	if o.dropped > 0 {
		o.log.Print(log.Warning, "the reader of "+o.name+" has lost "+strconv.Itoa(o.dropped)+" events, up to SEQNUM "+strconv.FormatUint(e.Seqnum, 10))
		o.put(uevent.Gap("REASON=" + strconv.Itoa(o.dropped) + " events were lost, since the reader is too slow"))
		o.dropped = 0
	}
	o.put(e)
}

// put queues an event. There is room for it.
func (o *Output) put(e *uevent.Event) {
	o.queue <- append(e.AppendMessage(make([]byte, 0, 512)), 0)
}

// Flush waits until the reader has taken what is queued, for limit at most.
func (o *Output) Flush(limit time.Duration) {
	over, done := sys.After(limit), make(chan struct{})
	select {
	case o.flush <- done:
	case <-over:
		return
	}
	select {
	case <-done:
	case <-over:
	}
}

// serve writes what is queued, and waits for the reader where it must.
func (o *Output) serve() {
	broken := false
	write := func(msg []byte) {
		if broken {
			return
		}
		if _, err := o.file.Write(msg); err != nil {
			broken = true
			o.log.Print(log.Warning, "no further event is written to "+o.name+": "+err.Error())
		}
	}
	for {
		select {
		case msg := <-o.queue:
			write(msg)
		case done := <-o.flush:
			for len(o.queue) > 0 {
				write(<-o.queue)
			}
			close(done)
		}
	}
}
