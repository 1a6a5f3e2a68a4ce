package netlink_test

import (
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/kerneltest"
	"devspool/hotplug/netlink"
)

// TestSender sends messages of all sizes: each comes, in order, to its group alone.
func TestSender(t *testing.T) {
	hotplugtest.NeedRoot(t)
	kerneltest.OwnNetwork(t)
	listener := func(group uint32) (next func() string) {
		fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
		hotplugtest.Must(t, err)
		t.Cleanup(func() { unix.Close(fd) })
		hotplugtest.Must(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20))
		hotplugtest.Must(t, unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: group}))
		return func() string {
			buf := make([]byte, 64<<10)
			n, err := unix.Read(fd, buf)
			if err == unix.EAGAIN {
				return ""
			}
			hotplugtest.Must(t, err)
			return string(buf[:n])
		}
	}
	mine, other := listener(2), listener(4)
	b, err := netlink.NewSender(2)
	hotplugtest.Must(t, err)
	t.Cleanup(b.Close)
	text := func(n int) string { return "libudev\x00" + strconv.Itoa(n) + strings.Repeat("x", n*371%30000) }
	const many = 500
	for n := range many {
		hotplugtest.Must(t, b.Put([]byte(text(n))))
	}
	hotplugtest.Must(t, b.Flush())
	hotplugtest.Must(t, b.Flush())
	for n := range many {
		if got := mine(); got != text(n) {
			t.Fatalf("message %d is %.20q of %d bytes", n, got, len(got))
		}
	}
	if got := mine() + other(); got != "" {
		t.Errorf("besides came %q", got)
	}
}
