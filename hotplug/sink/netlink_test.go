package sink

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/hotplugtest/board"
	"devspool/hotplug/kerneltest"
	"devspool/hotplug/log"
	"devspool/hotplug/scheduler"
	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// group is a socket that listens to netlink groups, as libudev-zero listens to 4.
type group struct {
	t  *testing.T
	fd int
}

// newGroup returns a group that listens to the groups of a mask.
func newGroup(t *testing.T, mask uint32) *group {
	t.Helper()
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	hotplugtest.Must(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	hotplugtest.Must(t, unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: mask}))
	return &group{t, fd}
}

// next returns the next message and the group that it was sent to, or "" for none.
func (g *group) next() string {
	g.t.Helper()
	buf := make([]byte, 64<<10)
	n, from, err := unix.Recvfrom(g.fd, buf, 0)
	if err == unix.EAGAIN {
		return ""
	}
	hotplugtest.Must(g.t, err)
	return fmt.Sprintf("%d: %s", from.(*unix.SockaddrNetlink).Groups, buf[:n])
}

// sda returns an event and its message.
func sda(t *testing.T, seqnum int) (*uevent.Event, string) {
	t.Helper()
	env := []string{"ACTION=add", "DEVPATH=/devices/block/sda", "SUBSYSTEM=block", "MAJOR=8", "MINOR=0", "DEVNAME=sda", "SEQNUM=" + strconv.Itoa(seqnum)}
	return hotplugtest.NewEvent(t, env...), "add@/devices/block/sda\x00" + strings.Join(env, "\x00") + "\x00"
}

// newNetlink returns a Netlink that is closed when the test ends.
func newNetlink(t *testing.T, mask uint32, logger *log.Logger) *Netlink {
	t.Helper()
	b, err := NewNetlink(mask, logger)
	hotplugtest.Must(t, err)
	t.Cleanup(func() {
		b.Flush(hotplugtest.Patience)
		for _, s := range b.senders {
			s.Close()
		}
	})
	return b
}

// TestNetlink shows which groups get an event, and that late ones are sent too.
func TestNetlink(t *testing.T) {
	kerneltest.OwnNetwork(t)
	logger := hotplugtest.NewLog(t)
	kernel, udev, zero := newGroup(t, 1), newGroup(t, 2), newGroup(t, 4)
	e, msg := sda(t, 7)
	newNetlink(t, 4, logger.Logger).Sink().Done(e, &nodes.Plan{})
	newNetlink(t, 6, logger.Logger).Sink().Done(e, &nodes.Plan{})
	for _, c := range []struct {
		name string
		*group
		want []string
	}{
		{"1", kernel, nil},
		{"2", udev, []string{"2: " + msg}},
		{"4", zero, []string{"4: " + msg, "4: " + msg}},
	} {
		var got []string
		for m := c.next(); m != ""; m = c.next() {
			if strings.Contains(m, e.Devpath) { // the kernel tells every namespace of the machine's devices
				got = append(got, m)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("group %s got %q, want %q", c.name, got, c.want)
		}
	}
	newNetlink(t, 4, logger.Logger).Sink().Done(e.Late(), &nodes.Plan{Late: true})
	if got := zero.next(); got != "4: "+msg+"UEVENT_LATE=1\x00" {
		t.Errorf("of a late event came %q", got)
	}
	if lines := logger.Lines(); len(lines) > 0 {
		t.Errorf("the log has %q", lines)
	}
}

// TestNetlinkWithoutListener shows that a group without a listener, and one whose listener
// does not read, are no failure.
func TestNetlinkWithoutListener(t *testing.T) {
	kerneltest.OwnNetwork(t)
	logger := hotplugtest.NewLog(t)
	b := newNetlink(t, 12, logger.Logger)
	deaf := newGroup(t, 8)
	hotplugtest.Must(t, unix.SetsockoptInt(deaf.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4096))
	e, _ := sda(t, 7)
	hotplugtest.Within(t, "the sending", func() {
		for range 1000 {
			b.Sink().Done(e, &nodes.Plan{})
		}
	})
	if _, err := unix.Read(deaf.fd, make([]byte, 4096)); err != unix.ENOBUFS {
		t.Errorf("the listener's buffer did not overrun: %v", err)
	}
	if lines := logger.Lines(); len(lines) > 0 {
		t.Errorf("the log has %q", lines)
	}
}

// TestNetlinkForbidden shows that the log has one line where sending is not allowed.
func TestNetlinkForbidden(t *testing.T) {
	kerneltest.OwnNetwork(t)
	logger := hotplugtest.NewLog(t)
	as := func(uid uintptr) {
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uid, uid, 0); errno != 0 {
			t.Fatal(errno)
		}
	}
	as(65534)
	b := newNetlink(t, 6, logger.Logger)
	e, _ := sda(t, 7)
	for range 3 {
		b.Sink().Done(e, &nodes.Plan{})
	}
	as(0)
	if lines := logger.Lines(); len(lines) != 1 || !strings.Contains(lines[0], "warning: not sent to group 2: add@/devices/block/sda: operation not permitted") {
		t.Errorf("the log has %q", lines)
	}
}

// TestNetlinkAtTheEnd shows that an event is sent after its node was made and its command
// has run.
func TestNetlinkAtTheEnd(t *testing.T) {
	kerneltest.OwnNetwork(t)
	b := board.New(t, "sda 0:0 660 @"+hotplugtest.UntilGo+"; echo x >TMP/ran\n")
	g := newGroup(t, 4)
	b.Done(newNetlink(t, 4, b.Log.Logger).Sink().Done)
	b.Sys.Add("/devices/block/sda", "block", "8:0", "DEVNAME=sda")
	e, msg := sda(t, 7)
	batch := b.Scheduler.Run(scheduler.Events(e))
	b.WantNode("sda", "b8:0 0660")
	if got := g.next(); got != "" {
		t.Errorf("before its command has run came %q", got)
	}
	b.Go()
	b.Wait(batch)
	if got := g.next(); got != "4: "+msg {
		t.Errorf("came %q, want %q", got, msg)
	}
	if b.Said("ran") == nil {
		t.Error("the command has not run")
	}
}
