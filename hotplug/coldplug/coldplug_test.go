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

// scan scans /sys, waits for the end of all events, and reports whether everything succeeded.
func scan(b *board.Board) (ok bool) {
	b.T.Helper()
	ok = b.Wait(Scan(b.Scheduler, b.Sys.FS))
	b.AtRest()
	return ok
}

// TestScan shows what a scan of a new /dev makes, and a second one after devices have come
// and gone.
func TestScan(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "sd.* 0:0 640 >disk/\nSUBSYSTEM=net;eth0 0:0 660 @echo $MDEV $INTERFACE $ACTION >>TMP/said\n")
	b.Sys = hotplugtest.NewMachine(t)
	b.Use(b.Sys.FS)
	scan(b)
	b.WantNode("disk/sda", "b8:0 0640")
	b.WantNode("disk/sda1", "b8:1 0640")
	b.WantNode("sda1", "-> disk/sda1")
	b.WantNode("tty0", "c4:0 0620")
	b.WantNode("null", "") // a device has forged the line
	if got := b.Said("said"); !slices.Equal(got, []string{"eth0 eth0 add"}) {
		t.Errorf("the command says %q", got)
	}

	b.Sys.Remove("/devices/pci0/block/sda/sda1")
	b.Sys.Remove("/devices/virtual/tty/tty0")
	b.Sys.Add("/devices/virtual/tty/tty1", "tty", "4:1", "DEVNAME=tty1")
	ok := scan(b)
	b.WantNode("disk/sda", "b8:0 0640")
	b.WantNode("disk/sda1", "")
	b.WantNode("sda1", "")
	b.WantNode("tty0", "")
	b.WantNode("tty1", "c4:1 0660")
	if !ok {
		t.Errorf("failed:\n%s", strings.Join(b.Log.Lines(), "\n"))
	}
}

// TestScanUnnumbered shows that a scan leaves out devices without numbers where no rule can
// match them.
func TestScanUnnumbered(t *testing.T) {
	t.Parallel()
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
		scan(b)
		if !slices.Equal(got, c.want) {
			t.Errorf("%q: events for %q, want %q", c.config, got, c.want)
		}
	}
}

// departedOf returns the events of departed, given the devices that a scan finds.
func departedOf(b *board.Board, wanted func(_, _ string) bool) (events []*uevent.Event) {
	b.T.Helper()
	found := b.Sys.Scan(wanted)
	hotplugtest.Must(b.T, b.Scheduler.Exclusive(func(v scheduler.View) error {
		events = departed(v, b.Sys.FS, found)
		return nil
	}))
	return events
}

// TestDeparted shows for which devices on record a scan makes a remove event, and in which
// order.
func TestDeparted(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "-if_exists=mask;SUBSYSTEM=.*;.* 0:0 660 @true\n")
	b.Sys = hotplugtest.NewMachine(t)
	b.Use(b.Sys.FS)
	scan(b)
	b.Sys.Remove("/devices/pci0/block/sda/sda1")
	b.Sys.Remove("/devices/pci0/block/sda")
	b.Sys.Remove("/devices/pci0/net/eth0")
	// Another device with the same devpath.
	b.Sys.Remove("/devices/virtual/tty/tty0")
	b.Sys.Add("/devices/virtual/tty/tty0", "tty", "4:64", "DEVNAME=tty0")
	for name, wanted := range map[string]func(_, _ string) bool{"everything": sysfs.Everything, "numbers alone": sysfs.Nothing} {
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
	scan(b)
	b.WantNode("sda", "")
	b.WantNode("tty0", "c4:64 0660")
	if events := departedOf(b, sysfs.Everything); len(events) > 0 {
		t.Errorf("after a scan departed are %v", events)
	}
}

// TestScanWritesNothing shows that a scan does not write to a /dev that is right.
func TestScanWritesNothing(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "sda 0:0 640 >disk/\nsda1 7:6 640\n")
	b.Sys = hotplugtest.NewMachine(t)
	b.Use(b.Sys.FS)
	scan(b)
	before := times(t, b.Dir)
	scan(b)
	if after := times(t, b.Dir); !slices.Equal(after, before) {
		t.Errorf("/dev was written:\n\t%s\nbecame\n\t%s", strings.Join(before, "\n\t"), strings.Join(after, "\n\t"))
	}
}

// times returns the path, mode and modification time of each file in a directory.
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

// TestScanWithoutSysfs shows that a scan fails without a sysfs, and takes no device for gone.
func TestScanWithoutSysfs(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "")
	b.Disks(1)
	scan(b)
	hotplugtest.Must(t, os.Rename(b.Sys.Path("/devices"), b.Sys.Path("/away")))
	if scan(b) {
		t.Error("it did not fail")
	}
	b.WantNode("sda", "b8:0 0660")
	b.Log.Want("error: no sysfs at", "mount -t sysfs")
}

// TestScanMany scans more devices than one slice takes, each with a command.
func TestScanMany(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	const many = 3*64 + 7
	b := board.New(t, "tty.* 0:0 660 @true\n")
	for i := range many {
		b.Sys.Add(fmt.Sprintf("/devices/virtual/tty/tty%d", i), "tty", fmt.Sprint("4:", i), fmt.Sprint("DEVNAME=tty", i))
	}
	done := 0
	b.Done(func(*uevent.Event, *nodes.Plan) { done++ })
	scan(b)
	if done != many {
		t.Errorf("%d events are done, want %d", done, many)
	}
}
