package udev

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/sys"
	"devspool/hotplug/uevent"
)

func TestIdentify(t *testing.T) {
	for _, c := range []struct{ want, vars string }{
		{"b8:0", "DEVPATH=/devices/x SUBSYSTEM=block MAJOR=8 MINOR=0"},
		{"c1:3", "DEVPATH=/devices/x SUBSYSTEM=mem MAJOR=1 MINOR=3"},
		{"n2", "DEVPATH=/devices/virtual/net/x SUBSYSTEM=net IFINDEX=2"},
		{"+net:x", "DEVPATH=/devices/virtual/net/x SUBSYSTEM=net IFINDEX=../2"},
		{"+usb:1-1", "DEVPATH=/devices/usb1/1-1 SUBSYSTEM=usb"},
		{"+pci:0000:00:02.0", "DEVPATH=/devices/0000:00:02.0 SUBSYSTEM=pci"},
		{"+input:input!x", "DEVPATH=/devices/input!x SUBSYSTEM=input"},
		{"+drivers:usb:hub", "DEVPATH=/bus/usb/drivers/hub SUBSYSTEM=drivers"},
		{"+module:ext4", "DEVPATH=/module/ext4 SUBSYSTEM=module"},
		{"", "DEVPATH=/devices/x"},
		{"", "DEVPATH=/devices/x SUBSYSTEM=a/../b"},
		{"", "DEVPATH=/devices/x SUBSYSTEM=" + strings.Repeat("x", 300)},
	} {
		if got := Identify(hotplugtest.NewEvent(t, append(strings.Fields(c.vars), "ACTION=add")...)); got != c.want {
			t.Errorf("%s is %q, want %q", c.vars, got, c.want)
		}
	}
}

// TestDatabase takes a disk through its life.
func TestDatabase(t *testing.T) {
	d := newDesk(t)
	add := Device{Links: []string{"disk/by-id/a", "b"}, Priority: 10, Properties: []string{"ID_BUS=usb", ".PRIVATE=1", "BAD", "=x", "NL=a\nS:forged"},
		Tags: []string{"systemd", "seat", "seat", "../x", "a:b", ""}}
	d.Done(disk(t, "add"), add)
	const text = "S:disk/by-id/a\nS:b\nL:10\nI:TIME\nE:ID_BUS=usb\nE:NL=a\nG:systemd\nG:seat\nQ:systemd\nQ:seat\nV:1\n"
	d.want("data/b8:0", text)
	d.want("tags/systemd/b8:0", "")
	first := d.file("data/b8:0")
	for name, mode := range map[string]os.FileMode{"data/b8:0": 0o644, "tags/seat/b8:0": 0o444} {
		if st, err := os.Stat(filepath.Join(d.run, name)); err != nil || st.Mode() != mode {
			t.Errorf("%s: %v, %v", name, st.Mode(), err)
		}
	}

	// An event that says the same again writes nothing.
	before, _ := os.Stat(filepath.Join(d.run, "data/b8:0"))
	d.Done(disk(t, "change"), add)
	if after, _ := os.Stat(filepath.Join(d.run, "data/b8:0")); !os.SameFile(before, after) {
		t.Error("the same was written again")
	}

	// The time of the first event is kept, over a restart too, and a tag that was is told of.
	d.restart(nil)
	d.Done(disk(t, "change"), Device{Links: []string{"b"}, Tags: []string{"systemd"}, Persist: true})
	d.want("data/b8:0", "S:b\nI:TIME\nG:systemd\nG:seat\nQ:systemd\nV:1\n")
	if since := lineOf(first, "I:"); since != lineOf(d.file("data/b8:0"), "I:") {
		t.Errorf("%s became %s", since, d.file("data/b8:0"))
	}
	if st, _ := os.Stat(filepath.Join(d.run, "data/b8:0")); st.Mode() != 0o644|os.ModeSticky {
		t.Errorf("to persist it has mode %v", st.Mode())
	}

	// An event that no rule is about adds to what is known.
	d.Done(disk(t, "bind"), Device{Keep: true, Properties: []string{"MORE=1"}})
	d.want("data/b8:0", "S:b\nI:TIME\nE:MORE=1\nG:systemd\nG:seat\nQ:systemd\nV:1\n")
	if r, known := Lookup(d.run, "b8:0"); !known || sys.Getenv(r.Properties, "MORE") != "1" || sys.Getenv(r.Properties, "MOR") != "" {
		t.Errorf("known: %v %+v", known, r)
	}

	// A late event changes nothing.
	d.Done(disk(t, "remove", uevent.LateKey+"=1"), Device{})
	d.want("tags/seat/b8:0", "")
	d.Done(disk(t, "remove"), Device{})
	d.want("data/b8:0", "absent")
	d.want("tags/seat/b8:0", "absent")
	d.Done(disk(t, "add", uevent.LateKey+"=1"), add)
	d.want("data/b8:0", "absent")
	d.quiet()
}

func lineOf(text, head string) string {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, head) {
			return line
		}
	}
	return ""
}

// TestKinds: which devices have a file.
func TestKinds(t *testing.T) {
	d := newDesk(t)
	d.Done(disk(t, "add"), Device{})
	d.want("data/b8:0", "")
	net := []string{"ACTION=add", "DEVPATH=/devices/virtual/net/veth0", "SUBSYSTEM=net", "IFINDEX=5", "INTERFACE=veth0"}
	d.Done(hotplugtest.NewEvent(t, net...), Device{Links: []string{"x"}})
	d.want("data/n5", "I:TIME\nV:1\n")
	usb := []string{"DEVPATH=/devices/usb1/1-1", "SUBSYSTEM=usb"}
	d.Done(hotplugtest.NewEvent(t, append(usb, "ACTION=add")...), Device{})
	d.want("data/+usb:1-1", "absent")
	d.Done(hotplugtest.NewEvent(t, append(usb, "ACTION=add")...), Device{Properties: []string{"A=1"}, Tags: []string{"x"}})
	d.want("data/+usb:1-1", "I:TIME\nE:A=1\nG:x\nQ:x\nV:1\n")
	d.Done(hotplugtest.NewEvent(t, "ACTION=move", "DEVPATH=/devices/usb1/1-2", "DEVPATH_OLD=/devices/usb1/1-1", "SUBSYSTEM=usb"),
		Device{Properties: []string{"A=1"}})
	d.want("data/+usb:1-1", "absent")
	d.want("tags/x/+usb:1-1", "absent")
	d.want("data/+usb:1-2", "I:TIME\nE:A=1\nV:1\n")
	d.quiet()
}

// TestForeignFiles: what another process makes and removes while the loop runs is seen in the turn
// after, though the loop looks for no file of which it knows that it is not there.
func TestForeignFiles(t *testing.T) {
	d := newDesk(t)
	d.restart(&hotplugtest.Manager{})
	d.Cleanup(d.Close)
	turns := turns{d.Udev}
	event := func(action string, n int) *uevent.Event {
		return hotplugtest.NewEvent(t, "ACTION="+action, "DEVPATH=/devices/usb1/1-"+strconv.Itoa(n), "SUBSYSTEM=usb", "SEQNUM=7")
	}
	tick := func() { time.Sleep(20 * time.Millisecond) } // of the kernel's clock, by which files get their times
	turns.Done(event("add", 1), Device{})
	turns.Done(event("add", 2), Device{Tags: []string{"a"}})
	tick()
	hotplugtest.WriteFile(t, d.run+"/data/+usb:1-1", "I:5\nG:old\nV:1\n")
	hotplugtest.Must(t, os.Remove(d.run+"/data/+usb:1-2"))
	for n := range 2 {
		turns.Done(event("change", n+1), Device{Tags: []string{"b"}})
	}
	d.want("data/+usb:1-1", "I:TIME\nG:old\nG:b\nQ:b\nV:1\n")
	if got := lineOf(d.file("data/+usb:1-1"), "I:"); got != "I:5\n" {
		t.Errorf("another's %q was lost", got)
	}
	d.want("data/+usb:1-2", "I:TIME\nG:b\nQ:b\nV:1\n")

	// In the turn itself it is overlooked, and a remove looks all the same.
	d.Done(event("change", 3), Device{Tags: []string{"b"}})
	hotplugtest.WriteFile(t, d.run+"/data/+usb:1-4", "E:A=1\n")
	d.Done(event("remove", 4), Device{})
	d.want("data/+usb:1-4", "absent")
	d.Idle()
	d.quiet()
}

// TestManyFiles: of more names than the table can tell apart each has its record.
func TestManyFiles(t *testing.T) {
	d := newDesk(t)
	d.restart(&hotplugtest.Manager{})
	d.Cleanup(d.Close)
	const many = 3000
	for round := range 2 {
		for n := range many {
			e := hotplugtest.NewEvent(t, "ACTION=change", "DEVPATH=/devices/x/"+strconv.Itoa(n), "SUBSYSTEM=x", "SEQNUM=7")
			d.Done(e, Device{Keep: round > 0, Properties: []string{"R" + strconv.Itoa(round) + "=" + strconv.Itoa(n)}})
		}
		d.Idle()
	}
	for _, n := range []string{"0", "1500", "2999"} {
		d.want("data/+x:"+n, "I:TIME\nE:R0="+n+"\nE:R1="+n+"\nV:1\n")
	}
	d.quiet()
}

// TestSweep: a scan removes what is of no device, and what a killed process left.
func TestSweep(t *testing.T) {
	d := newDesk(t)
	d.sys.Add("/devices/virtual/block/x", "block", "8:0")
	d.Done(disk(t, "add"), Device{Tags: []string{"a"}})
	d.Done(hotplugtest.NewEvent(t, "ACTION=add", "DEVPATH=/devices/y", "SUBSYSTEM=mem", "MAJOR=1", "MINOR=9"), Device{Tags: []string{"a", "b"}})
	d.Done(hotplugtest.NewEvent(t, "ACTION=add", "DEVPATH=/devices/1-1", "SUBSYSTEM=usb"), Device{Tags: []string{"a"}})
	d.Done(hotplugtest.NewEvent(t, "ACTION=add", "DEVPATH=/devices/1-2", "SUBSYSTEM=usb"), Device{Tags: []string{"a"}})
	d.Done(hotplugtest.NewEvent(t, "ACTION=add", "DEVPATH=/devices/net/e", "SUBSYSTEM=net", "IFINDEX=3"), Device{Tags: []string{"a"}})
	d.Done(hotplugtest.NewEvent(t, "ACTION=add", "DEVPATH=/devices/net/f", "SUBSYSTEM=net", "IFINDEX=4"), Device{Tags: []string{"a"}})
	hotplugtest.WriteFile(t, d.sys.Path("/bus/usb/devices/1-1/uevent"), "")
	hotplugtest.WriteFile(t, d.sys.Path("/class/net/e/ifindex"), "3\n")
	// Of the living process 1, of none, of one that had our number, and udevd's.
	for _, name := range []string{".#devspool-1", ".#devspool-99999999", d.db.scratch, ".#b8:0AbCdEf"} {
		hotplugtest.WriteFile(t, d.run+"/data/"+name, "half")
	}
	hotplugtest.WriteFile(t, d.run+"/tags/c/b9:9", "")
	d.Sweep()
	if got := names(t, d.run+"/data"); got != "+usb:1-1 .#devspool-1 b8:0 n3" {
		t.Errorf("left: %s", got)
	}
	for dir, want := range map[string]string{"a": "+usb:1-1 b8:0 n3", "b": "", "c": ""} {
		if got := names(t, d.run+"/tags/"+dir); got != want {
			t.Errorf("left with tag %s: %q, want %q", dir, got, want)
		}
	}
	hotplugtest.Must(t, os.RemoveAll(d.sys.Path("/devices")))
	d.Sweep()
	if got := names(t, d.run+"/data"); got != "+usb:1-1 .#devspool-1 b8:0 n3" {
		t.Errorf("without a /sys left: %s", got)
	}
}

func names(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	hotplugtest.Must(t, err)
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return strings.Join(all, " ")
}

// TestStrangers: nothing is written by way of a link, nor into another user's directory.
func TestStrangers(t *testing.T) {
	d := newDesk(t)
	victim := filepath.Join(t.TempDir(), "victim")
	hotplugtest.WriteFile(t, victim, "E:READ=1\n")
	hotplugtest.Must(t, os.Symlink(victim, d.run+"/data/b8:0"))
	hotplugtest.Must(t, os.Symlink(victim, d.run+"/data/"+d.db.scratch))
	hotplugtest.Must(t, os.Symlink(filepath.Dir(victim), d.run+"/tags/a"))
	d.Done(disk(t, "add"), Device{Tags: []string{"a"}, Properties: []string{"X=1"}})
	d.want("data/b8:0", "I:TIME\nE:X=1\nG:a\nQ:a\nV:1\n")
	if got := hotplugtest.Contents(t, victim); got != "E:READ=1\n" {
		t.Errorf("the file at the link's end holds %q", got)
	}
	if _, err := os.Lstat(filepath.Dir(victim) + "/b8:0"); err == nil {
		t.Error("a tag's file was made at a link's end")
	}
	d.log.Want("the database is not up to date")

	hotplugtest.Must(t, os.Mkdir(d.run+"/tags/b", 0o755))
	hotplugtest.Must(t, os.Chown(d.run+"/tags/b", 65534, 65534))
	d.Done(disk(t, "change"), Device{Tags: []string{"b"}})
	if names(t, d.run+"/tags/b") != "" {
		t.Error("a file was made in nobody's directory")
	}
	for _, wrong := range []func(){
		func() { hotplugtest.Must(t, os.Chmod(d.run, 0o777)) },
		func() { hotplugtest.Must(t, os.Chown(d.run, 65534, 0)) },
		func() {
			hotplugtest.Must(t, os.Rename(d.run, d.run+".old"))
			hotplugtest.Must(t, os.Symlink(d.run+".old", d.run))
		},
	} {
		hotplugtest.Must(t, os.Chmod(d.run, 0o755))
		wrong()
		if u, err := New(Options{Run: d.run, Sys: d.sys.FS, Log: d.log.Logger}); err == nil {
			u.Close()
			t.Error("opened what another user may write to, or a link")
		}
		hotplugtest.Must(t, os.Lchown(d.run, 0, 0))
	}
}

// TestReopen goes on where something was mounted.
func TestReopen(t *testing.T) {
	d := newDesk(t)
	d.Done(disk(t, "add"), Device{})
	hotplugtest.Must(t, d.Reopen())
	d.want("data/b8:0", "")
	hotplugtest.Must(t, os.Rename(d.run, d.run+".old"))
	hotplugtest.Must(t, d.Reopen())
	d.want("data/b8:0", "absent")
	d.Done(disk(t, "add"), Device{})
	d.want("data/b8:0", "")
}

// BenchmarkDone is what an event costs: of a device with a record that stays, and with one
// that comes and goes.
func BenchmarkDone(b *testing.B) {
	if unix.Geteuid() != 0 {
		b.Skip("needs root")
	}
	dir, err := os.MkdirTemp("/dev/shm", "udev")
	if err != nil {
		b.Skip(err)
	}
	defer os.RemoveAll(dir)
	u, err := New(Options{Run: dir + "/udev", Sys: "/sys"})
	if err != nil {
		b.Fatal(err)
	}
	defer u.Close()
	add, remove := disk(b, "add"), disk(b, "remove")
	b.Run("same", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			u.Done(add, Device{})
		}
	})
	b.Run("same with links", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			u.Done(add, Device{Links: []string{"disk/by-id/x"}, Properties: []string{"ID_BUS=usb"}})
		}
	})
	b.Run("add and remove", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			u.Done(add, Device{})
			u.Done(remove, Device{})
		}
	})
	b.Run("without a file", func(b *testing.B) {
		usb, _ := uevent.FromEnviron([]string{"ACTION=add", "DEVPATH=/devices/usb1/1-1", "SUBSYSTEM=usb", "SEQNUM=7"})
		b.ReportAllocs()
		for b.Loop() {
			u.Done(usb, Device{})
		}
	})
}
