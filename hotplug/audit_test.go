package hotplug

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/sysfs"
)

// auditor returns one for the board's Scheduler.
func auditor(b *board) *Auditor {
	return &Auditor{Scheduler: b.Scheduler, Sys: b.sys.FS, Pending: func() bool { return false }}
}

// TestAudit makes up for an add and a remove of which nobody told, once.
func TestAudit(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := newBoard(t, "null 0:0 666 !\nsd.* 0:0 660 *echo $MDEV $ACTION >>TMP/said\n")
	gaps := 0
	b.sinks = append(b.sinks, Sink{Gap: func(string) { gaps++ }})
	b.run(b.disks(2)...)
	b.sys.Remove("/devices/block/sda")
	b.sys.Add("/devices/block/sdz", "block", "8:99", "DEVNAME=sdz")
	b.sys.Add("/devices/virtual/mem/null", "mem", "1:3", "DEVNAME=null") // which has no node
	for range 3 {
		auditor(b).Audit(0)
		hotplugtest.Eventually(t, "the end of it", b.Scheduler.IsIdle)
	}
	b.atRest()
	b.wantNode("sda", "")
	b.wantNode("sdb", "b8:16 0660")
	b.wantNode("sdz", "b8:99 0660")
	b.wantNode("null", "")
	got := b.said("said")[2:]
	slices.Sort(got)
	if !slices.Equal(got, []string{"sda remove", "sdz add"}) {
		t.Errorf("the commands say %q", got)
	}
	if counted := b.Scheduler.Stats().Gaps; gaps != 1 || counted != 1 {
		t.Errorf("listeners heard of %d gaps, counted are %d", gaps, counted)
	}
}

// TestAuditSwap is about a device that left unheard, and another that got its
// numbers or its place.
func TestAuditSwap(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := newBoard(t, "")
	b.run(b.disks(2)...)
	b.sys.Remove("/devices/block/sda")
	b.sys.Remove("/devices/block/sdb")
	b.sys.Add("/devices/other/block/sdx", "block", "8:0", "DEVNAME=sdx") // sda's numbers
	b.sys.Add("/devices/block/sdb", "block", "8:80", "DEVNAME=sdb")      // sdb's place
	auditor(b).Audit(0)
	b.atRest()
	b.wantNode("sda", "")
	b.wantNode("sdx", "b8:0 0660")
	b.wantNode("sdb", "b8:80 0660")
}

// TestAuditUnderWay leaves devices alone of which events are under way, and what
// came right by itself between the two looks.
func TestAuditUnderWay(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := newBoard(t, "sd.* 0:0 660 *"+untilGo+"; echo $MDEV $ACTION >>TMP/said\n")
	events := b.disks(3)
	hotplugtest.WriteFile(t, filepath.Join(b.tmp, "go"), "")
	b.run(events[:2]...)
	b.sys.Remove("/devices/block/sda")
	b.Scheduler.Pause()
	remove := hotplugtest.NewEvent(t, "ACTION=remove", "DEVPATH=/devices/block/sda", "SUBSYSTEM=block", "MAJOR=8", "MINOR=0", "DEVNAME=sda")
	b.Scheduler.Run(Events(remove, events[2]))
	if got := auditor(b).diff(); len(got) > 0 {
		t.Errorf("differences: %d", len(got))
	}
	auditor(b).Audit(0)
	b.Scheduler.Resume()
	hotplugtest.Eventually(t, "the end", b.Scheduler.IsIdle)
	b.atRest()
	// What is merely late: it comes while the Auditor waits for what is pending.
	b.sys.Add("/devices/block/sdz", "block", "8:99", "DEVNAME=sdz")
	asked := 0
	a := auditor(b)
	a.Pending = func() bool {
		if asked++; asked == 3 {
			b.run(b.sys.NewEvent("add", "/devices/block/sdz"))
		}
		return asked < 3
	}
	a.Audit(time.Millisecond)
	hotplugtest.Eventually(t, "the end", b.Scheduler.IsIdle)
	b.atRest()
	got := b.said("said")
	slices.Sort(got)
	if !slices.Equal(got, []string{"sda add", "sda remove", "sdb add", "sdc add", "sdz add"}) || b.Scheduler.Stats().Gaps > 0 {
		t.Errorf("the commands say %q, %d gaps", got, b.Scheduler.Stats().Gaps)
	}
}

// TestAuditWithoutSysfs shows that where there is no sysfs nothing is said to be lost.
func TestAuditWithoutSysfs(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := newBoard(t, "")
	b.run(b.disks(1)...)
	b.use(sysfs.FS(filepath.Join(b.tmp, "nothing")))
	auditor(b).Audit(0)
	b.wantNode("sda", "b8:0 0660")
	b.start("", func(o *Options) { o.Dev = nil })
	auditor(b).Audit(0)
}
