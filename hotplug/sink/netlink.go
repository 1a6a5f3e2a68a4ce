package sink

import (
	"strconv"
	"strings"
	"time"

	"devspool/hotplug/log"
	"devspool/hotplug/netlink"
	"devspool/hotplug/scheduler"
	"devspool/hotplug/sysfs"
	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// Netlink sends each event at its end to netlink groups, in the form of the kernel's
// messages: for programs that want an event when the node of its device is there and its
// commands have ended.
type Netlink struct {
	log     *log.Logger
	senders []*netlink.Sender // one for each group
	buf     []byte            // the last message; the pacer copies what has to wait
	logged  map[error]bool    // errors that the log has a line of; guarded by the pacer's mutex
	pacer   pacer

	// Sys, where set, gives the SEQNUM of the kernel's last event. Events without one, as
	// those of a scan, are sent with it: libudev-zero refuses an event that has none.
	Sys sysfs.FS
}

// NewNetlink opens sockets to send to the groups of mask, a bit each. The kernel's own group
// (1) must not be among them, or each event would come back to us. Sending needs
// CAP_NET_ADMIN.
func NewNetlink(mask uint32, logger *log.Logger) (*Netlink, error) {
	b := &Netlink{log: logger, logged: map[error]bool{}}
	b.pacer = pacer{groups: mask, send: b.multicast}
	for bit := uint32(1); bit != 0; bit <<= 1 { // until it is shifted out
		if mask&bit == 0 {
			continue
		}
		sender, err := netlink.NewSender(bit)
		if err != nil {
			return nil, err
		}
		b.senders = append(b.senders, sender)
	}
	return b, nil
}

// Sink returns a Sink that sends each event, late ones too, and each gap as an event with
// UEVENT_GAP=1. It does not block: of a burst some wait, see pacer.
func (b *Netlink) Sink() scheduler.Sink { return sinkOf(b.send) }

// sinkOf returns a Sink that hands each event to send, and each gap as an event.
func sinkOf(send func(*uevent.Event)) scheduler.Sink {
	return scheduler.Sink{
		Done: func(e *uevent.Event, _ *nodes.Plan) { send(e) },
		Gap:  func(why string) { send(uevent.Gap("REASON=" + why)) },
	}
}

// send gives an event to the pacer, which sends it to each group now or later.
func (b *Netlink) send(e *uevent.Event) {
	b.buf = e.AppendMessage(b.buf[:0])
	if e.Seqnum == 0 && b.Sys != "" {
		b.buf = append(b.buf, "SEQNUM="+strconv.FormatUint(max(1, b.Sys.Seqnum()), 10)+"\x00"...)
	}
	b.pacer.put(b.buf)
}

// Flush sends what waits for its turn, within limit.
func (b *Netlink) Flush(limit time.Duration) { b.pacer.flush(limit) }

// multicast sends one message to each group. It logs a failure once for each error. The pacer calls
// it with its mutex locked.
func (b *Netlink) multicast(msg []byte) {
	for _, s := range b.senders {
		err := s.Put(msg)
		if err == nil {
			err = s.Flush()
		}
		if err == nil || b.logged[err] {
			continue
		}
		b.logged[err] = true
		head, _, _ := strings.Cut(string(msg), "\x00") // action@devpath
		b.log.Print(log.Warning, "not sent to group "+strconv.Itoa(int(s.Group))+": "+head+": "+err.Error())
	}
}
