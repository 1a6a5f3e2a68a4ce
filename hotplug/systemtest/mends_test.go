package systemtest

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"devspool/hotplug/kerneltest"
)

// TestMends shows what the program does where BusyBox does something else, or
// fails: for a scan and for helpers alike, and that a remove leaves nothing.
func TestMends(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	bang := kerneltest.Device{Devpath: "/devices/virtual/block/cciss!c0d0", Subsystem: "block", Block: true, Major: 104}
	kernels := kerneltest.Device{
		Devpath: "/devices/virtual/mem/null", Subsystem: "mem", Devname: "null", Major: 1, Minor: 3, Extra: []string{"DEVMODE=0666"},
	}
	for _, c := range []struct {
		name, conf string
		device     kerneltest.Device
		want       []string
	}{
		{"only rules with -", "-sda 1:1 666\n", disk(0), []string{"sda block 0666 1:1 8:0"}},
		{"a rule that only looks on", "-.* 1:1 666 *true\n", disk(0), []string{"sda block 0660 0:0 8:0"}},
		{"a rule that only looks on, and the kernel's mode", "-.* 1:1 600 *true\n", kernels, []string{"null char 0666 0:0 1:3"}},
		{"a rule before one that looks on", "-sd.* 1:1 640 >disk/\n-tag=x;.* 0:0 600\n", disk(0), []string{
			"disk dir 0755 0:0", "disk/sda block 0640 1:1 8:0", "sda link -> disk/sda"}},
		{"numbers", "@8,0 1:1 666 =disk/\n", disk(0), []string{"disk dir 0755 0:0", "disk/sda block 0666 1:1 8:0"}},
		{"rule for add", "ACTION=add;sda 1:1 666 =disk/\n", disk(0), []string{"disk dir 0755 0:0", "disk/sda block 0666 1:1 8:0"}},
		{"link of a nested name", "input/event0 0:0 600 >ev/0\n", input(0), []string{
			"ev dir 0755 0:0", "ev/0 char 0600 0:0 13:64", "input dir 0755 0:0", "input/event0 link -> ../ev/0"}},
		{"name with !", "", bang, []string{"cciss dir 0755 0:0", "cciss/c0d0 block 0660 0:0 104:0"}},
		{"name with ! is matched with it", "cciss!(.*) 0:0 600 =cciss/%1\n", bang, []string{"cciss dir 0755 0:0", "cciss/c0d0 block 0600 0:0 104:0"}},
		{"set-id bits", "sda 1:1 6755\n", disk(0), []string{"sda block 6755 1:1 8:0"}},
		{"the kernel's mode", "", kernels, []string{"null char 0666 0:0 1:3"}},
		{"a rule before the kernel's mode", "null 0:0 600\n", kernels, []string{"null char 0600 0:0 1:3"}},
		{"bad expression", "sd(a 0:0 600\nsda 1:1 640\n", disk(0), []string{"sda block 0640 1:1 8:0"}},
		{"unknown names", "sda nobodyatall:nogroupatall 640\n", disk(0), []string{"sda block 0640 0:0 8:0"}},
		{"bad mode", "sda 1:1 9z9\n", disk(0), []string{"sda block 0660 1:1 8:0"}},
		{"carriage returns", "# x\r\nsda 1:1 640\r\nsdb 1:1 600\r\n", disk(0), []string{"sda block 0640 1:1 8:0"}},
		{"comment after a target", "sda 1:1 640 =disk/x # comment\n", disk(0), []string{"disk dir 0755 0:0", "disk/x block 0640 1:1 8:0"}},
		{"empty group", "sd(x*)a 1:1 640 =d%1/\n", disk(0), []string{"d dir 0755 0:0", "d/sda block 0640 1:1 8:0"}},
		{"target with /dev/", "input/(.*) 0:0 600 >/dev/.//in/%1\n", input(0), []string{
			"in dir 0755 0:0", "in/event0 char 0600 0:0 13:64", "input dir 0755 0:0", "input/event0 link -> ../in/event0"}},
		{"directory with /dev/", "sda 1:1 640 =/dev//disk/\n", disk(0), []string{"disk dir 0755 0:0", "disk/sda block 0640 1:1 8:0"}},
		{"target elsewhere", "sda 1:1 640 =/devices/x\n", disk(0), []string{"sda block 0640 1:1 8:0"}},
		{"no newline at the end", "sda 1:1 640", disk(0), []string{"sda block 0640 1:1 8:0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			bothWays(t, c.conf, c.device, func(b *board, act func() result) {
				act()
				b.has(c.want...)
				b.finish(b.helper(b.unplug(c.device)))
				b.has()
			})
		})
	}
}

// TestScanRunsCommandsOfAll has a scan run the commands of devices without
// numbers, with all their variables, and of parents before their children.
func TestScanRunsCommandsOfAll(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "")
	words, file := b.witness("seen")
	b.configure("$MODALIAS=.* 0:0 660 @" + words + " \"$MODALIAS\"\nDEVTYPE=usb_interface;.* 0:0 660 @" + words + " DEVTYPE\n")
	usb := kerneltest.Device{Devpath: "/devices/pci0/usb1", Subsystem: "usb", Bus: true, Extra: []string{"MODALIAS=usb:v1"}}
	iface := kerneltest.Device{Devpath: usb.Devpath + "/1-0:1.0", Subsystem: "usb", Bus: true, Devtype: "usb_interface"}
	b.add(usb, iface)
	b.must(b.run("-s", "-j", "1"))
	if got := args(b.testimonies(file)); len(got) != 2 || got[0][0] != "usb:v1" || got[1][0] != "DEVTYPE" {
		t.Errorf("commands ran with %q", got)
	}
}

// TestRootLink has a link for the device that / is on, of the right type.
func TestRootLink(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	var st unix.Stat_t
	if err := unix.Stat("/", &st); err != nil {
		t.Fatal(err)
	}
	if unix.Major(st.Dev) == 0 {
		kerneltest.Cannot(t, "/ is not on a block device")
	}
	b := newBoard(t, "")
	root := disk(0)
	root.Major, root.Minor = unix.Major(st.Dev), unix.Minor(st.Dev)
	double := terminal(0)
	double.Major, double.Minor = root.Major, root.Minor
	b.add(double, root)
	b.scan()
	if text, err := os.Readlink(filepath.Join(b.dev, "root")); err != nil || text != "sda" {
		t.Errorf("root leads to %q, %v", text, err)
	}
}

// TestMovedDevice has a device take its node along to another devpath.
func TestMovedDevice(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "")
	old := disk(0)
	b.tell(b.plug(old))
	b.unplug(old)
	moved := old
	moved.Devpath = "/devices/elsewhere/block/sda"
	b.plug(moved)
	b.tell(moved.Event("move").With("DEVPATH_OLD=" + old.Devpath))
	b.has("sda block 0660 0:0 8:0")
	b.tell(b.unplug(moved))
	b.has()
}

// TestDevMountedOver mounts another file system over /dev while the loop runs.
func TestDevMountedOver(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "")
	b.add(disk(0), disk(1))
	l := b.startLoop("--events", b.dev+"/events")
	b.has("sda block 0660 0:0 8:0", "sdb block 0660 0:0 8:16")
	kerneltest.MountTmpfs(t, b.dev)
	l.send(b.plug(disk(2)))
	b.has("sda block 0660 0:0 8:0", "sdb block 0660 0:0 8:16", "sdc block 0660 0:0 8:32")
	queue := b.queue(b.dev+"/events", nil)
	l.send(b.plug(disk(3)))
	kerneltest.Until(t, patience, "its event in a queue there", func() bool { return len(unread(t, queue)) == 1 })
}

// TestDaemonGoesToTheBackground returns when coldplug is done and leaves a loop.
func TestDaemonGoesToTheBackground(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "")
	b.add(disk(0))
	b.must(b.run("-d"))
	if got := b.snapshot(); !slices.Equal(got, []string{"sda block 0660 0:0 8:0"}) {
		t.Errorf("when -d returned, /dev held %q", got)
	}
	in, err := kerneltest.NewInjector()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if err := in.Inject(b.plug(disk(1))); err != nil {
		t.Fatal(err)
	}
	b.has("sda block 0660 0:0 8:0", "sdb block 0660 0:0 8:16")
}

// TestForgedMessages sends what looks like a uevent but is not the kernel's.
func TestForgedMessages(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "$FORGED=.* 0:0 600 *echo $FORGED >>../seen\n")
	b.startLoop()
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	forged := func(word string) []byte {
		return []byte("change@/devices/x\x00ACTION=change\x00DEVPATH=/devices/x\x00SUBSYSTEM=x\x00FORGED=" + word + "\x00SEQNUM=1\x00")
	}
	// To the group that the kernel multicasts to, and straight to the loop's port.
	if err := unix.Sendto(fd, forged("multicast"), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1}); err != nil {
		t.Fatal(err)
	}
	sent := 0
	sockets, err := kerneltest.UeventSockets("self")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sockets {
		sent++
		_ = unix.Sendto(fd, forged("unicast"), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: s.Port})
	}
	if sent == 0 {
		t.Error("found no port of the loop's")
	}
	in, err := kerneltest.NewInjector()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if err := in.Send("change", "/devices/x", "SUBSYSTEM=x", "FORGED=kernel"); err != nil {
		t.Fatal(err)
	}
	kerneltest.Until(t, patience, "the kernel's event", func() bool {
		text, _ := os.ReadFile(b.dir + "/seen")
		return strings.Contains(string(text), "kernel\n")
	})
	if got := b.read(b.dir + "/seen"); got != "kernel\n" {
		t.Errorf("events taken: %q", got)
	}
}
