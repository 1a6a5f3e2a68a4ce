package sink

import (
	"strconv"

	"devspool/hotplug/log"
	"devspool/hotplug/netlink"
	"devspool/hotplug/scheduler"
	"devspool/hotplug/sysfs"
	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// Netlink sends each event at its end to netlink groups, in the form of the
// kernel's messages: to programs that are to hear of a device when its node is
// there and its commands are done.
type Netlink struct {
	log    *log.Logger
	sender *netlink.Sender
	groups []uint32 // one bit each: of a mask with two, the kernel serves the lower alone
	buf    []byte
	said   map[error]bool

	// Sys, where set, tells the number of the kernel's last event, which those of a scan
	// are sent with: libudev-zero refuses an event that has none.
	Sys sysfs.FS
}

// NewNetlink opens a socket to send to the groups in mask, of which the
// kernel's own (1) must not be one, or each event would come back to us. Sending
// needs CAP_NET_ADMIN.
func NewNetlink(mask uint32, logger *log.Logger) (*Netlink, error) {
	sender, err := netlink.NewSender()
	if err != nil {
		return nil, err
	}
	b := &Netlink{log: logger, sender: sender, said: map[error]bool{}}
	for bit := uint32(1); bit != 0; bit <<= 1 {
		if mask&bit != 0 {
			b.groups = append(b.groups, bit)
		}
	}
	return b, nil
}

// Sink returns what sends each event, late or not, and gaps too, as events with
// UEVENT_GAP=1. It does not block.
func (b *Netlink) Sink() scheduler.Sink { return sinkOf(b.send) }

// sinkOf returns a Sink that sends events, and gaps as events.
func sinkOf(send func(*uevent.Event)) scheduler.Sink {
	return scheduler.Sink{
		Done: func(e *uevent.Event, _ *nodes.Plan) { send(e) },
		Gap:  func(why string) { send(uevent.Gap("REASON=" + why)) },
	}
}

func (b *Netlink) send(e *uevent.Event) {
	b.buf = e.AppendMessage(b.buf[:0])
	if e.Seqnum == 0 && b.Sys != "" {
		b.buf = append(b.buf, "SEQNUM="+strconv.FormatUint(max(1, b.Sys.Seqnum()), 10)+"\x00"...)
	}
	for _, group := range b.groups {
		err := b.sender.Send(group, b.buf)
		if err == nil || b.said[err] {
			continue
		}
		b.said[err] = true
		b.log.Event(log.Warning, "not sent to group "+strconv.Itoa(int(group)), e, err.Error())
	}
}
