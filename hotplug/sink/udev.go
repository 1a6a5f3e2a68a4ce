//go:build !noudev

package sink

import (
	"strings"

	"devspool/hotplug/sysfs"
	"devspool/hotplug/udev"
	"devspool/nodes"
)

// DeviceOf returns what libudev's clients are told of a device besides its event.
func DeviceOf(p *nodes.Plan) (d udev.Device) {
	if len(p.Nodes) > 0 {
		d.Node = p.Nodes[0].Path
	}
	own := sysfs.KindDir(p.Event.Dev.Block) + "/" // udevd makes block/8:0, and tells nobody
	for _, l := range p.Links {
		if !strings.HasPrefix(l.Path, own) {
			udev.Add(&d.Links, l.Path)
		}
		// udevd has one priority for a device, not one for each link.
		if l.Priority != 0 {
			d.Priority = l.Priority
		}
	}
	udev.Add(&d.Links, p.Claimed...)
	for _, t := range p.Tags {
		udev.Add(&d.Tags, t.Name)
	}
	d.Properties, d.Persist = p.Properties, p.Persist
	return d
}
