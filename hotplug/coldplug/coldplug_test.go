package coldplug

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/hotplugtest/board"
	"devspool/hotplug/scheduler"
	"devspool/hotplug/sysfs"
	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// Coldplug scans, returns when all is done, and reports whether it could be.
func Coldplug(b *board.Board) (ok bool) {
	b.T.Helper()
	ok = b.Wait(Scan(b.Scheduler, b.Sys.FS))
	b.AtRest()
	return ok
}

func TestColdplug(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := board.New(t, "sd.* 0:0 640 >disk/\nSUBSYSTEM=net;eth0 0:0 660 @echo $MDEV $INTERFACE $ACTION >>TMP/said\n")
	b.Sys = hotplugtest.NewMachine(t)
	b.Use(b.Sys.FS)
	Coldplug(b)
	b.WantNode("disk/sda", "b8:0 0640")
	b.WantNode("disk/sda1", "b8:1 0640")
	b.WantNode("sda1", "-> disk/sda1")
	b.WantNode("tty0", "c4:0 0620")
	b.WantNode("null", "") // an input device forged it
	if got := b.Said("said"); !slices.Equal(got, []string{"eth0 eth0 add"}) {
		t.Errorf("the command says %q", got)
	}

	b.Sys.Remove("/devices/pci0/block/sda/sda1")
	b.Sys.Remove("/devices/virtual/tty/tty0")
	b.Sys.Add("/devices/virtual/tty/tty1", "tty", "4:1", "DEVNAME=tty1")
	ok := Coldplug(b)
	b.WantNode("disk/sda", "b8:0 0640")
	b.WantNode("disk/sda1", "")
	b.WantNode("sda1", "")
	b.WantNode("tty0", "")
	b.WantNode("tty1", "c4:1 0660")
	if !ok {
		t.Errorf("failed:\n%s", strings.Join(b.Log.Lines(), "\n"))
	}
}

// TestColdplugUnnumbered shows that devices without numbers are looked at only
// where a rule could care for them.
func TestColdplugUnnumbered(t *testing.T) {
	for _, c := range []struct {
		config string
		want   []string
	}{
		{"sda 0:0 660\n", []string{"sda", "sda1", "tty0"}},
		{"$MODALIAS=.* 0:0 660 @true\n", []string{"sda", "sda1", "eth0", "1-1:1.0", "input5", "tty0"}},
	} {
		b := board.New(t, c.config)
		b.Use(hotplugtest.NewMachine(t).FS)
		b.Start(b.Text, func(o *scheduler.Options) { o.Dev = nil })
		var got []string
		b.Done(func(e *uevent.Event, _ *nodes.Plan) { got = append(got, e.Sysname()) })
		Coldplug(b)
		if !slices.Equal(got, c.want) {
			t.Errorf("%q: events for %q, want %q", c.config, got, c.want)
		}
	}
}

// departedOf returns what departed does, given the devices that a scan finds.
func departedOf(b *board.Board, wanted func(string) bool) (events []*uevent.Event) {
	b.T.Helper()
	found := b.Sys.Scan(wanted)
	hotplugtest.Must(b.T, b.Scheduler.Exclusive(func(v scheduler.View) error {
		events = departed(v, b.Sys.FS, found)
		return nil
	}))
	return events
}

// TestDeparted shows for which devices on record a coldplug makes a remove event,
// and in which order.
func TestDeparted(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := board.New(t, "-if_exists=mask;SUBSYSTEM=.*;.* 0:0 660 @true\n")
	b.Sys = hotplugtest.NewMachine(t)
	b.Use(b.Sys.FS)
	Coldplug(b)
	b.Sys.Remove("/devices/pci0/block/sda/sda1")
	b.Sys.Remove("/devices/pci0/block/sda")
	b.Sys.Remove("/devices/pci0/net/eth0")
	// The same place, another device.
	b.Sys.Remove("/devices/virtual/tty/tty0")
	b.Sys.Add("/devices/virtual/tty/tty0", "tty", "4:64", "DEVNAME=tty0")
	nothing := func(string) bool { return false }
	for name, wanted := range map[string]func(string) bool{"everything": sysfs.Everything, "numbers alone": nothing} {
		var got []string
		for _, e := range departedOf(b, wanted) {
			got = append(got, fmt.Sprint(e.Action, " ", e.Devpath, " ", e.ID(), " ", e.Devname))
		}
		want := []string{
			"remove /devices/virtual/tty/tty0 c4:0 tty0",
			"remove /devices/pci0/net/eth0 +net:eth0 ",
			"remove /devices/pci0/block/sda/sda1 b8:1 sda1",
			"remove /devices/pci0/block/sda b8:0 sda",
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: departed are\n\t%s\nwant\n\t%s", name, strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
		}
	}
	Coldplug(b)
	b.WantNode("sda", "")
	b.WantNode("tty0", "c4:64 0660")
	if events := departedOf(b, sysfs.Everything); len(events) > 0 {
		t.Errorf("after a coldplug departed are %v", events)
	}
}

// TestColdplugAtRest shows that a coldplug of a /dev that is right writes nothing.
func TestColdplugAtRest(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := board.New(t, "sda 0:0 640 >disk/\nsda1 7:6 640\n")
	b.Sys = hotplugtest.NewMachine(t)
	b.Use(b.Sys.FS)
	Coldplug(b)
	before := times(t, b.Dir)
	Coldplug(b)
	if after := times(t, b.Dir); !slices.Equal(after, before) {
		t.Errorf("/dev was written:\n\t%s\nbecame\n\t%s", strings.Join(before, "\n\t"), strings.Join(after, "\n\t"))
	}
}

// times lists all that is in a directory with what changes where it is written.
func times(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	hotplugtest.Must(t, filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil {
			all = append(all, fmt.Sprint(path, " ", info.Mode(), " ", info.ModTime().UnixNano()))
		}
		return err
	}))
	return all
}

// TestColdplugNoSysfs shows that without sysfs nothing is taken for gone.
func TestColdplugNoSysfs(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := board.New(t, "")
	b.Sys.Add("/devices/block/sda", "block", "8:0", "DEVNAME=sda")
	Coldplug(b)
	hotplugtest.Must(t, os.Rename(b.Sys.Path("/devices"), b.Sys.Path("/away")))
	if Coldplug(b) {
		t.Error("it did not fail")
	}
	b.WantNode("sda", "b8:0 0660")
	b.Log.Want("error: no sysfs at", "mount -t sysfs")
}

// TestColdplugMany takes more devices than one turn is for, each with a command.
func TestColdplugMany(t *testing.T) {
	hotplugtest.NeedRoot(t)
	const many = 3*64 + 7
	b := board.New(t, "tty.* 0:0 660 @true\n")
	for i := range many {
		b.Sys.Add(fmt.Sprintf("/devices/virtual/tty/tty%d", i), "tty", fmt.Sprint("4:", i), fmt.Sprint("DEVNAME=tty", i))
	}
	done := 0
	b.Done(func(*uevent.Event, *nodes.Plan) { done++ })
	Coldplug(b)
	if done != many {
		t.Errorf("%d events came to their end, want %d", done, many)
	}
}
