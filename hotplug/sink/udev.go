//go:build !noudev

package sink

import (
	"devspool/hotplug/udev"
	"devspool/nodes"
)

// DeviceOf returns what libudev's clients are told of a device besides its event.
func DeviceOf(p *nodes.Plan) (d udev.Device) {
	if len(p.Nodes) > 0 {
		d.Node = p.Nodes[0].Path
	}
	for _, l := range p.Links {
		d.Links = append(d.Links, l.Path)
		if l.Priority != 0 {
			d.Priority = l.Priority
		}
	}
	for _, t := range p.Tags {
		d.Tags = append(d.Tags, t.Name)
	}
	d.Properties = p.Properties
	return d
}
