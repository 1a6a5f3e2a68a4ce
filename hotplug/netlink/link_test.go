package netlink_test

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/kerneltest"
	"devspool/hotplug/netlink"
)

// TestRenameLink renames an interface in a network namespace of the test's own, and shows
// what is refused.
func TestRenameLink(t *testing.T) {
	hotplugtest.NeedRoot(t)
	kerneltest.OwnNetwork(t)
	kerneltest.Need(t, "ip")
	kerneltest.Sh(t, "ip link add one0 type dummy 2>/dev/null || ip link add one0 type veth peer name two0")
	link, err := net.InterfaceByName("one0")
	hotplugtest.Must(t, err)
	for _, c := range []struct {
		index int
		name  string
		want  error
	}{
		{link.Index, "wan0", nil},
		{link.Index, "wan0", nil},
		{link.Index, "lo", unix.EEXIST},
		{link.Index, "", unix.EINVAL},
		{link.Index, "a b", unix.EINVAL},
		{link.Index, "a/b", unix.EINVAL},
		{link.Index, "wan%d", unix.EINVAL},
		{link.Index, "sixteen-letters0", unix.EINVAL},
		{link.Index, "fifteen-letters", nil},
		{1 << 30, "none0", unix.ENODEV},
	} {
		if err := netlink.RenameLink(c.index, c.name); err != c.want {
			t.Errorf("%d to %q: %v, want %v", c.index, c.name, err, c.want)
		}
	}
	if now, err := net.InterfaceByIndex(link.Index); err != nil || now.Name != "fifteen-letters" {
		t.Errorf("it is called %v, %v", now, err)
	}
}
