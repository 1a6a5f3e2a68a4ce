package hotplug

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"devspool/hotplug/uevent"
)

// newMachine makes a small /sys: a disk with a partition, a tty, a network
// interface, an input device that forges lines, a USB interface on a bus.
func newMachine(t *testing.T) *sysfs {
	t.Helper()
	s := newSysfs(t)
	s.add("/devices/pci0/block/sda", "block", "8:0", "DEVNAME=sda", "DEVTYPE=disk")
	s.add("/devices/pci0/block/sda/sda1", "block", "8:1", "DEVNAME=sda1", "DEVTYPE=partition")
	s.add("/devices/virtual/tty/tty0", "tty", "4:0", "DEVNAME=tty0", "DEVMODE=0620")
	s.add("/devices/pci0/net/eth0", "net", "", "INTERFACE=eth0", "IFINDEX=2")
	s.add("/devices/usb1/input/input5", "input", "", `NAME="evil`, "MAJOR=1", "MINOR=3", `DEVNAME=null"`, "PRODUCT=3/1/2")
	s.add("/devices/usb1/1-1/1-1:1.0", "", "", "MODALIAS=usb:v1d6b", "DEVTYPE=usb_interface")
	must(t, os.MkdirAll(s.path("/bus/usb/devices"), 0o755))
	must(t, os.MkdirAll(s.path("/bus/usb/drivers"), 0o755))
	s.link("/bus/usb/devices/1-1:1.0", "/devices/usb1/1-1/1-1:1.0")
	must(t, os.Symlink("../../../bus/usb", s.path("/devices/usb1/1-1/1-1:1.0/subsystem")))
	// What is no device.
	writeFile(t, s.path("/class/net/bonding_masters"), "")
	must(t, os.Symlink("../../module/x", s.path("/class/net/odd")))
	must(t, os.Symlink("../../devices/pci0/block/sda", s.path("/dev/block/odd")))
	return s
}

func TestScan(t *testing.T) {
	s := newMachine(t)
	for _, c := range []struct {
		name   string
		wanted func(string) bool
		want   []string
	}{
		{"numbers alone", func(string) bool { return false }, []string{"/devices/pci0/block/sda block b8:0", "/devices/pci0/block/sda/sda1 block b8:1", "/devices/virtual/tty/tty0  c4:0"}},
		{"one", func(name string) bool { return name == "" || name == "eth0" }, []string{"/devices/pci0/block/sda block b8:0",
			"/devices/pci0/block/sda/sda1 block b8:1", "/devices/pci0/net/eth0 net c0:0", "/devices/virtual/tty/tty0  c4:0"}},
		{"everything", everything, []string{"/devices/pci0/block/sda block b8:0", "/devices/pci0/block/sda/sda1 block b8:1", "/devices/pci0/net/eth0 net c0:0",
			"/devices/usb1/1-1/1-1:1.0 usb c0:0", "/devices/usb1/input/input5 input c0:0", "/devices/virtual/tty/tty0 tty c4:0"}},
	} {
		var got []string
		for _, d := range s.scan(c.wanted) {
			got = append(got, fmt.Sprint(d.devpath, " ", d.subsystem, " ", d.dev))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: scan finds\n\t%s\nwant\n\t%s", c.name, strings.Join(got, "\n\t"), strings.Join(c.want, "\n\t"))
		}
	}
	if got := (Sysfs(s.path("/nothing"))).scan(everything); len(got) > 0 {
		t.Errorf("where there is no sysfs, it finds %v", got)
	}
}

func TestSysfsEvent(t *testing.T) {
	s := newMachine(t)
	for _, c := range []struct{ devpath, want string }{
		{"/devices/pci0/block/sda1", ""},
		{"/devices/pci0/block/sda", "ACTION=add DEVPATH=/devices/pci0/block/sda SUBSYSTEM=block MAJOR=8 MINOR=0 DEVNAME=sda DEVTYPE=disk"},
		{"/devices/virtual/tty/tty0", "ACTION=add DEVPATH=/devices/virtual/tty/tty0 SUBSYSTEM=tty MAJOR=4 MINOR=0 DEVNAME=tty0 DEVMODE=0620"},
		{"/devices/usb1/input/input5", `ACTION=add DEVPATH=/devices/usb1/input/input5 SUBSYSTEM=input NAME="evil PRODUCT=3/1/2`},
		{"/devices/usb1/1-1/1-1:1.0", "ACTION=add DEVPATH=/devices/usb1/1-1/1-1:1.0 SUBSYSTEM=usb MODALIAS=usb:v1d6b DEVTYPE=usb_interface"},
	} {
		e, err := s.Event(uevent.Add, c.devpath)
		if c.want == "" {
			if err == nil {
				t.Errorf("%s: there is an event: %v", c.devpath, e)
			}
			continue
		}
		if err != nil || strings.Join(slices.Collect(e.Env()), " ") != c.want {
			t.Errorf("%s: %v, error %v, want %s", c.devpath, e, err, c.want)
		}
	}
}

// TestFind names one device in all the ways that a person may.
func TestFind(t *testing.T) {
	s := newMachine(t)
	must(t, os.Symlink("../../../pci0", s.path("/devices/pci0/net/eth0/device")))
	must(t, os.Symlink("../devices/pci0/block/sda", s.path("/block")))
	writeFile(t, s.path("/devices/pci0/uevent"), "DRIVER=x\n")
	for _, c := range []struct{ name, want string }{
		{"/devices/pci0/block/sda", "/devices/pci0/block/sda"},
		{"devices/pci0/block/sda/", "/devices/pci0/block/sda"},
		{s.path("/devices/pci0/block/sda"), "/devices/pci0/block/sda"},
		{s.path("/class/block/sda"), "/devices/pci0/block/sda"},
		{s.path("/class/block/sda/"), "/devices/pci0/block/sda"},
		{"/class/net/eth0", "/devices/pci0/net/eth0"},
		{s.path("/dev/block/8:1"), "/devices/pci0/block/sda/sda1"},
		{s.path("/bus/usb/devices/1-1:1.0"), "/devices/usb1/1-1/1-1:1.0"},
		{s.path("/class/block/sda/sda1"), "/devices/pci0/block/sda/sda1"}, // a link above it
		{s.path("/class/net/eth0/device"), "/devices/pci0"},               // a link that stays in devices
	} {
		events, err := s.Events(uevent.Add, c.name, "/nowhere")
		if err != nil || len(events) != 1 || events[0].Devpath != c.want {
			t.Errorf("%s: %v, error %v, want %s", c.name, events, err, c.want)
		}
	}
	for _, name := range []string{"/devices/nothing", s.path("/class/net"), "/", "..", "/dev/nothing-of-this-name"} {
		if events, err := s.Events(uevent.Add, name, "/nowhere"); err == nil {
			t.Errorf("%s: %v", name, events[0])
		}
	}
	all, err := s.Events(uevent.Remove, "", "/nowhere")
	if err != nil || len(all) != 6 || all[0].Action != uevent.Remove {
		t.Errorf("all: %d events, error %v", len(all), err)
	}
}

// TestFindNode names a device by its node.
func TestFindNode(t *testing.T) {
	var st unix.Stat_t
	if err := unix.Stat("/dev/null", &st); err != nil || st.Rdev != unix.Mkdev(1, 3) {
		t.Skip("NOT TESTED: a device named by its node: needs /dev/null")
	}
	s := newSysfs(t)
	s.add("/devices/virtual/mem/null", "mem", "1:3", "DEVNAME=null")
	events, err := s.Events(uevent.Add, "/dev/null", "/nowhere")
	if err != nil || events[0].Devpath != "/devices/virtual/mem/null" {
		t.Errorf("%v, error %v", events, err)
	}
}

// TestGone shows which events come too late, by what /sys holds.
func TestGone(t *testing.T) {
	s := newMachine(t)
	// A device whose directory has outlived it, and one whose link has gone before
	// its attribute, as the link of a device that leaves does.
	s.add("/devices/pci0/block/sdx", "block", "8:240")
	must(t, os.Remove(s.path("/devices/pci0/block/sdx/dev")))
	must(t, os.Remove(s.path("/dev/block/8:240")))
	s.add("/devices/pci0/block/sdy", "block", "8:224")
	must(t, os.Remove(s.path("/dev/block/8:224")))
	with, without := newCensus(s.Sysfs), newCensus(Sysfs(s.path("/nothing")))
	with.refresh()
	without.refresh()
	for _, c := range []struct {
		action, devpath, numbers string
		gone, goneWithout        bool // with this /sys, and with none
	}{
		{"add", "/devices/pci0/block/sda", "8:0", false, false},
		{"move", "/devices/pci0/block/sda", "8:0", false, false},
		{"add", "/devices/pci0/block/sda", "8:16", true, false}, // other numbers
		{"add", "/devices/pci0/block/sdb", "8:16", true, false},
		{"move", "/devices/pci0/block/sdb", "8:16", true, false},
		{"add", "/devices/pci0/block/sdb", "8:0", true, false}, // another's numbers
		{"add", "/devices/pci0/block/sdx", "8:240", true, false},
		{"add", "/devices/pci0/block/sdy", "8:224", true, false},
		{"change", "/devices/pci0/block/sdb", "8:16", false, false},
		{"add", "/devices/pci0/net/eth1", "", false, false},
		{"remove", "/devices/pci0/block/sda", "8:0", true, false},
		{"remove", "/devices/pci0/block/sda", "8:16", false, false},
		{"remove", "/devices/pci0/block/sda", "", true, false},
		{"remove", "/devices/pci0/block/sdb", "8:16", false, false},
		{"remove", "/devices/pci0/block/sdx", "8:240", false, false},
		{"remove", "/devices/pci0/net/eth0", "", false, false}, // has no numbers to live by
	} {
		env := []string{"ACTION=" + c.action, "DEVPATH=" + c.devpath, "SUBSYSTEM=block"}
		if major, minor, has := strings.Cut(c.numbers, ":"); has {
			env = append(env, "MAJOR="+major, "MINOR="+minor)
		}
		e := newEvent(t, env...)
		if got := with.gone(e); got != c.gone {
			t.Errorf("%v: gone is %v", env, got)
		}
		if got := without.gone(e); got != c.goneWithout {
			t.Errorf("%v: without sysfs gone is %v", env, got)
		}
	}
}

// TestCensusWithoutLinks is about a sysfs that has no links from numbers: the dev
// attribute tells.
func TestCensusWithoutLinks(t *testing.T) {
	s := newMachine(t)
	must(t, os.RemoveAll(s.path("/dev")))
	c := newCensus(s.Sysfs)
	c.refresh()
	disk := uevent.Dev{Block: true, Major: 8}
	if !c.lives("/devices/pci0/block/sda", disk) || c.lives("/devices/pci0/block/sdb", disk) || c.lives("/devices/pci0/block/sda/sda1", disk) {
		t.Error("it does not go by the attribute")
	}
}

// TestCensusRefresh mounts, so to say, a sysfs where there was none, and another
// one over it.
func TestCensusRefresh(t *testing.T) {
	first, second := newMachine(t), newSysfs(t)
	place := filepath.Join(t.TempDir(), "sys")
	c := newCensus(Sysfs(place))
	lives := func() bool {
		c.refresh()
		return c.lives("/devices/pci0/block/sda", uevent.Dev{Block: true, Major: 8})
	}
	if lives() {
		t.Error("a device lives where there is no sysfs")
	}
	must(t, os.Symlink(first.path(""), place))
	before := 0
	for i := range 20 {
		if !lives() {
			t.Error("the first sysfs is not seen")
		}
		if fds := openDescriptors(t); i == 0 {
			before = fds
		} else if fds > before {
			t.Fatalf("%d descriptors are open, %d were", fds, before)
		}
	}
	must(t, os.Remove(place))
	must(t, os.Symlink(second.path(""), place))
	if lives() {
		t.Error("the first sysfs is still asked")
	}
}

func openDescriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("NOT TESTED: leaks of descriptors: needs /proc")
	}
	return len(entries)
}

func TestIsLinkTo(t *testing.T) {
	for _, c := range []struct {
		link, devpath string
		want          bool
	}{
		{"../../devices/block/sda", "/devices/block/sda", true},
		{"devices/block/sda", "/devices/block/sda", false},
		{"../../devices/block/sda1", "/devices/block/sda", false},
		{"../../devices/x/devices/block/sda", "/devices/block/sda", false},
		{"../../devices/block/sda", "/devices/block/sdb", false},
		{"", "/devices/block/sda", false},
	} {
		if got := isLinkTo([]byte(c.link), c.devpath); got != c.want {
			t.Errorf("isLinkTo(%q, %q) is %v", c.link, c.devpath, got)
		}
	}
}

// TestComplete gives a script's event what sysfs says of the device.
func TestComplete(t *testing.T) {
	s := newMachine(t)
	for _, c := range []struct{ env, want string }{
		{"ACTION=add DEVPATH=/devices/pci0/block/sda", "ACTION=add DEVPATH=/devices/pci0/block/sda SUBSYSTEM=block MAJOR=8 MINOR=0 DEVNAME=sda DEVTYPE=disk"},
		{"ACTION=change DEVPATH=/devices/pci0/block/sda DEVNAME=mine", "ACTION=change DEVPATH=/devices/pci0/block/sda DEVNAME=mine SUBSYSTEM=block MAJOR=8 MINOR=0 DEVTYPE=disk"},
		{"ACTION=add DEVPATH=/devices/pci0/block/sda MAJOR=8 MINOR=0", "ACTION=add DEVPATH=/devices/pci0/block/sda MAJOR=8 MINOR=0 SUBSYSTEM=block DEVNAME=sda DEVTYPE=disk"},
		{"ACTION=add DEVPATH=/devices/pci0/block/sda MAJOR=8 MINOR=0 DEVNAME=sda", "ACTION=add DEVPATH=/devices/pci0/block/sda MAJOR=8 MINOR=0 DEVNAME=sda"},
		{"ACTION=add DEVPATH=/dev/block/8:0", "ACTION=add DEVPATH=/devices/pci0/block/sda SUBSYSTEM=block MAJOR=8 MINOR=0 DEVNAME=sda DEVTYPE=disk"},
		{"ACTION=add DEVPATH=/devices/nothing", "ACTION=add DEVPATH=/devices/nothing"},
	} {
		e := newEvent(t, strings.Fields(c.env)...)
		if s.Complete(e); strings.Join(slices.Collect(e.Env()), " ") != c.want {
			t.Errorf("%s: %q", c.env, slices.Collect(e.Env()))
		}
		if strings.Contains(c.want, "MAJOR=8") && e.Dev.IsZero() {
			t.Errorf("%s: the field has no numbers", c.env)
		}
	}
}

func TestDevpathOf(t *testing.T) {
	for _, c := range []struct{ link, want string }{
		{"../../devices/pci0/block/sda", "/devices/pci0/block/sda"},
		{"../../../devices/x", "/devices/x"},
		{"devices/x", "/devices/x"},
		{"../../../0000:00:03.0", ""},
		{"../../module/x", ""},
		{"../../devicesx/y", ""},
		{"/sys/devices/x", ""},
		{"", ""},
	} {
		if got := devpathOf(c.link); got != c.want {
			t.Errorf("devpathOf(%q) is %q, want %q", c.link, got, c.want)
		}
	}
}

// TestReadDir shows that a directory longer than one read comes back whole.
func TestReadDir(t *testing.T) {
	dir := t.TempDir()
	const many = 1500
	for i := range many {
		must(t, os.Mkdir(fmt.Sprintf("%s/a-name-that-is-long-enough-%d", dir, i), 0o755))
	}
	if got := readDir(dir); len(got) != many {
		t.Errorf("%d names, want %d", len(got), many)
	}
}
