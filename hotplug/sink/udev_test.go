//go:build !noudev

package sink

import (
	"slices"
	"testing"

	"devspool/hotplug/hotplugtest"
	"devspool/nodes"
)

// TestDeviceOf: libudev's clients are told of all links that a device claims, and of none by
// its numbers.
func TestDeviceOf(t *testing.T) {
	p := &nodes.Plan{
		Event: hotplugtest.NewEvent(t, "ACTION=add", "DEVPATH=/devices/x", "SUBSYSTEM=block", "MAJOR=8", "MINOR=0", "DEVNAME=sda"),
		Nodes: []nodes.Node{{Path: "disk/sda"}},
		Links: []nodes.Link{{Path: "block/8:0"}, {Path: "disk/by-id/a", Priority: -5}, {Path: "disk/by-label/shared", Priority: -5}},
		Tags:  []nodes.Tag{{Name: "seat"}},
		Lost:  []string{"disk/by-label/shared"},
	}
	for _, p := range []*nodes.Plan{p.Actual(), p.Actual().Actual()} {
		d := DeviceOf(p)
		slices.Sort(d.Links)
		if !slices.Equal(d.Links, []string{"disk/by-id/a", "disk/by-label/shared"}) || d.Priority != -5 || d.Node != "disk/sda" || !slices.Equal(d.Tags, []string{"seat"}) {
			t.Errorf("told: %+v", d)
		}
	}
	if actual := p.Actual(); len(actual.Links) != 2 {
		t.Errorf("it has %v", actual.Links)
	}
}
