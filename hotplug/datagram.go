package hotplug

import (
	"devspool/hotplug/log"
	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// send gives an event to the socket that c names, as one datagram in the form of
// the kernel's messages. Whether anybody listens there, and has room for it, is
// not our concern.
func (r *Road) send(e *uevent.Event, c nodes.Command) {
	if err := log.SendDatagram(c.Socket, e.AppendMessage(nil)); err != nil {
		r.Log.Event(log.Info, "not sent", e, c.Rule.String()+": "+c.Text+": "+err.Error())
	}
}
