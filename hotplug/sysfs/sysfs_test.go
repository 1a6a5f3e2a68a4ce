package sysfs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/sysfs"
	"devspool/hotplug/uevent"
)

// TestScan shows which devices a scan lists, by what is wanted of those without numbers.
func TestScan(t *testing.T) {
	t.Parallel()
	s := hotplugtest.NewMachine(t)
	for _, c := range []struct {
		name   string
		wanted func(_, _ string) bool
		want   []string
	}{
		{"numbers alone", sysfs.Nothing, []string{"/devices/pci0/block/sda block b8:0", "/devices/pci0/block/sda/sda1 block b8:1", "/devices/virtual/tty/tty0  c4:0"}},
		{"one", func(of, name string) bool { return name == "" || of == "net" && name == "eth0" }, []string{"/devices/pci0/block/sda block b8:0",
			"/devices/pci0/block/sda/sda1 block b8:1", "/devices/pci0/net/eth0 net c0:0", "/devices/virtual/tty/tty0  c4:0"}},
		{"everything", sysfs.Everything, []string{"/devices/pci0/block/sda block b8:0", "/devices/pci0/block/sda/sda1 block b8:1", "/devices/pci0/net/eth0 net c0:0",
			"/devices/usb1/1-1/1-1:1.0 usb c0:0", "/devices/usb1/input/input5 input c0:0", "/devices/virtual/tty/tty0 tty c4:0"}},
	} {
		var got []string
		for _, d := range s.Scan(c.wanted) {
			got = append(got, fmt.Sprint(d.Devpath, " ", d.Subsystem, " ", d.Dev))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: scan finds\n\t%s\nwant\n\t%s", c.name, strings.Join(got, "\n\t"), strings.Join(c.want, "\n\t"))
		}
	}
	if got := (sysfs.FS(s.Path("/nothing"))).Scan(sysfs.Everything); len(got) > 0 {
		t.Errorf("where there is no sysfs, it finds %v", got)
	}
}

// TestEvent makes the events of devices from their uevent files.
func TestEvent(t *testing.T) {
	t.Parallel()
	s := hotplugtest.NewMachine(t)
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

// TestFind names a device in every way that Find knows.
func TestFind(t *testing.T) {
	t.Parallel()
	s := hotplugtest.NewMachine(t)
	hotplugtest.Must(t, os.Symlink("../../../pci0", s.Path("/devices/pci0/net/eth0/device")))
	hotplugtest.Must(t, os.Symlink("../devices/pci0/block/sda", s.Path("/block")))
	hotplugtest.WriteFile(t, s.Path("/devices/pci0/uevent"), "DRIVER=x\n")
	for _, c := range []struct{ name, want string }{
		{"/devices/pci0/block/sda", "/devices/pci0/block/sda"},
		{"devices/pci0/block/sda/", "/devices/pci0/block/sda"},
		{s.Path("/devices/pci0/block/sda"), "/devices/pci0/block/sda"},
		{s.Path("/class/block/sda"), "/devices/pci0/block/sda"},
		{s.Path("/class/block/sda/"), "/devices/pci0/block/sda"},
		{"/class/net/eth0", "/devices/pci0/net/eth0"},
		{s.Path("/dev/block/8:1"), "/devices/pci0/block/sda/sda1"},
		{s.Path("/bus/usb/devices/1-1:1.0"), "/devices/usb1/1-1/1-1:1.0"},
		{s.Path("/class/block/sda/sda1"), "/devices/pci0/block/sda/sda1"}, // a link above it
		{s.Path("/class/net/eth0/device"), "/devices/pci0"},               // a link that stays in devices
	} {
		events, err := s.Events(uevent.Add, c.name, "/nowhere")
		if err != nil || len(events) != 1 || events[0].Devpath != c.want {
			t.Errorf("%s: %v, error %v, want %s", c.name, events, err, c.want)
		}
	}
	for _, name := range []string{"/devices/nothing", s.Path("/class/net"), "/", "..", "/dev/nothing-of-this-name"} {
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
	t.Parallel()
	var st unix.Stat_t
	if err := unix.Stat("/dev/null", &st); err != nil || st.Rdev != unix.Mkdev(1, 3) {
		t.Skip("NOT TESTED: a device named by its node: needs /dev/null")
	}
	s := hotplugtest.NewSysfs(t)
	s.Add("/devices/virtual/mem/null", "mem", "1:3", "DEVNAME=null")
	events, err := s.Events(uevent.Add, "/dev/null", "/nowhere")
	if err != nil || events[0].Devpath != "/devices/virtual/mem/null" {
		t.Errorf("%v, error %v", events, err)
	}
}

// TestStale shows which events come too late, by what /sys holds.
func TestStale(t *testing.T) {
	t.Parallel()
	s := hotplugtest.NewMachine(t)
	// sdx is a device whose directory has outlived it; sdy has lost its link and still has its
	// attribute, as a device has for a moment that is being removed.
	s.Add("/devices/pci0/block/sdx", "block", "8:240")
	hotplugtest.Must(t, os.Remove(s.Path("/devices/pci0/block/sdx/dev")))
	hotplugtest.Must(t, os.Remove(s.Path("/dev/block/8:240")))
	s.Add("/devices/pci0/block/sdy", "block", "8:224")
	hotplugtest.Must(t, os.Remove(s.Path("/dev/block/8:224")))
	with, without := sysfs.NewPresence(s.FS), sysfs.NewPresence(sysfs.FS(s.Path("/nothing")))
	with.Refresh()
	without.Refresh()
	for _, c := range []struct {
		action, devpath, numbers string
		stale, staleWithout      bool // with this /sys, and with none
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
		e := hotplugtest.NewEvent(t, env...)
		if got := with.Stale(e); got != c.stale {
			t.Errorf("%v: stale is %v", env, got)
		}
		if got := without.Stale(e); got != c.staleWithout {
			t.Errorf("%v: without sysfs stale is %v", env, got)
		}
	}
}

// TestPresenceWithoutLinks is about a sysfs without links from numbers: the dev attribute decides
// there.
func TestPresenceWithoutLinks(t *testing.T) {
	t.Parallel()
	s := hotplugtest.NewMachine(t)
	hotplugtest.Must(t, os.RemoveAll(s.Path("/dev")))
	p := sysfs.NewPresence(s.FS)
	p.Refresh()
	disk := uevent.Dev{Block: true, Major: 8}
	if !p.Has("/devices/pci0/block/sda", disk) || p.Has("/devices/pci0/block/sdb", disk) || p.Has("/devices/pci0/block/sda/sda1", disk) {
		t.Error("it does not go by the attribute")
	}
}

// TestPresenceRefresh has a sysfs appear where there was none, and then another one in its place.
// It is not parallel: it counts the descriptors of the process.
func TestPresenceRefresh(t *testing.T) {
	first, second := hotplugtest.NewMachine(t), hotplugtest.NewSysfs(t)
	place := filepath.Join(t.TempDir(), "sys")
	p := sysfs.NewPresence(sysfs.FS(place))
	isPresent := func() bool {
		p.Refresh()
		return p.Has("/devices/pci0/block/sda", uevent.Dev{Block: true, Major: 8})
	}
	if isPresent() {
		t.Error("a device is present where there is no sysfs")
	}
	hotplugtest.Must(t, os.Symlink(first.Path(""), place))
	before := 0
	for i := range 20 {
		if !isPresent() {
			t.Error("a device of the first sysfs is not present")
		}
		if fds := openDescriptors(t); i == 0 {
			before = fds
		} else if fds > before {
			t.Fatalf("%d descriptors are open, %d were", fds, before)
		}
	}
	hotplugtest.Must(t, os.Remove(place))
	hotplugtest.Must(t, os.Symlink(second.Path(""), place))
	if isPresent() {
		t.Error("a device of the first sysfs is still present")
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

// TestIsLinkTo shows which links lead to a devpath.
func TestIsLinkTo(t *testing.T) {
	t.Parallel()
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
		if got := sysfs.IsLinkTo([]byte(c.link), c.devpath); got != c.want {
			t.Errorf("%q leads to %q: %v", c.link, c.devpath, got)
		}
	}
}

// TestComplete adds to events what sysfs says of their devices.
func TestComplete(t *testing.T) {
	t.Parallel()
	s := hotplugtest.NewMachine(t)
	for _, c := range []struct{ env, want string }{
		{"ACTION=add DEVPATH=/devices/pci0/block/sda", "ACTION=add DEVPATH=/devices/pci0/block/sda SUBSYSTEM=block MAJOR=8 MINOR=0 DEVNAME=sda DEVTYPE=disk"},
		{"ACTION=change DEVPATH=/devices/pci0/block/sda DEVNAME=mine", "ACTION=change DEVPATH=/devices/pci0/block/sda DEVNAME=mine SUBSYSTEM=block MAJOR=8 MINOR=0 DEVTYPE=disk"},
		{"ACTION=add DEVPATH=/devices/pci0/block/sda MAJOR=8 MINOR=0", "ACTION=add DEVPATH=/devices/pci0/block/sda MAJOR=8 MINOR=0 SUBSYSTEM=block DEVNAME=sda DEVTYPE=disk"},
		{"ACTION=add DEVPATH=/devices/pci0/block/sda MAJOR=8 MINOR=0 DEVNAME=sda", "ACTION=add DEVPATH=/devices/pci0/block/sda MAJOR=8 MINOR=0 DEVNAME=sda"},
		{"ACTION=add DEVPATH=/dev/block/8:0", "ACTION=add DEVPATH=/devices/pci0/block/sda SUBSYSTEM=block MAJOR=8 MINOR=0 DEVNAME=sda DEVTYPE=disk"},
		{"ACTION=add DEVPATH=/devices/nothing", "ACTION=add DEVPATH=/devices/nothing"},
	} {
		e := hotplugtest.NewEvent(t, strings.Fields(c.env)...)
		if s.Complete(e); strings.Join(slices.Collect(e.Env()), " ") != c.want {
			t.Errorf("%s: %q", c.env, slices.Collect(e.Env()))
		}
		if strings.Contains(c.want, "MAJOR=8") && e.Dev.IsZero() {
			t.Errorf("%s: the field has no numbers", c.env)
		}
	}
}

// TestDevpathOf shows which devpath a link leads to.
func TestDevpathOf(t *testing.T) {
	t.Parallel()
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
		if got := sysfs.DevpathOf(c.link); got != c.want {
			t.Errorf("the link %q leads to %q, want %q", c.link, got, c.want)
		}
	}
}
