package coldplug

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/hotplugtest/board"
	"devspool/hotplug/scheduler"
	"devspool/hotplug/sys"
	"devspool/hotplug/sysfs"
)

// auditor returns one for the board's Scheduler.
func auditor(b *board.Board) *Auditor {
	return &Auditor{Scheduler: b.Scheduler, Sys: b.Sys.FS, Pending: func() bool { return false }, Pause: time.Nanosecond}
}

// TestAudit makes up for an add and a remove of which nobody told, once.
func TestAudit(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := board.New(t, "null 0:0 666 !\nsd.* 0:0 660 *echo $MDEV $ACTION >>TMP/said\n")
	gaps := 0
	b.Sinks = append(b.Sinks, scheduler.Sink{Gap: func(string) { gaps++ }})
	b.Run(b.Disks(2)...)
	b.Sys.Remove("/devices/block/sda")
	b.Sys.Add("/devices/block/sdz", "block", "8:99", "DEVNAME=sdz")
	b.Sys.Add("/devices/virtual/mem/null", "mem", "1:3", "DEVNAME=null") // which has no node
	for range 3 {
		auditor(b).Audit()
		hotplugtest.Eventually(t, "the end of it", b.Scheduler.IsIdle)
	}
	b.AtRest()
	b.WantNode("sda", "")
	b.WantNode("sdb", "b8:16 0660")
	b.WantNode("sdz", "b8:99 0660")
	b.WantNode("null", "")
	got := b.Said("said")[2:]
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
	b := board.New(t, "")
	b.Run(b.Disks(2)...)
	b.Sys.Remove("/devices/block/sda")
	b.Sys.Remove("/devices/block/sdb")
	b.Sys.Add("/devices/other/block/sdx", "block", "8:0", "DEVNAME=sdx") // sda's numbers
	b.Sys.Add("/devices/block/sdb", "block", "8:80", "DEVNAME=sdb")      // sdb's place
	auditor(b).Audit()
	b.AtRest()
	b.WantNode("sda", "")
	b.WantNode("sdx", "b8:0 0660")
	b.WantNode("sdb", "b8:80 0660")
}

// TestAuditUnderWay leaves devices alone of which events are under way, and what
// came right by itself between the two looks.
func TestAuditUnderWay(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := board.New(t, "sd.* 0:0 660 *"+hotplugtest.UntilGo+"; echo $MDEV $ACTION >>TMP/said\n")
	events := b.Disks(3)
	hotplugtest.WriteFile(t, filepath.Join(b.Tmp, "go"), "")
	b.Run(events[:2]...)
	b.Sys.Remove("/devices/block/sda")
	b.Scheduler.Pause()
	remove := hotplugtest.NewEvent(t, "ACTION=remove", "DEVPATH=/devices/block/sda", "SUBSYSTEM=block", "MAJOR=8", "MINOR=0", "DEVNAME=sda")
	b.Scheduler.Run(scheduler.Events(remove, events[2]))
	if got := auditor(b).diff(); len(got) > 0 {
		t.Errorf("differences: %d", len(got))
	}
	auditor(b).Audit()
	b.Scheduler.Resume()
	hotplugtest.Eventually(t, "the end", b.Scheduler.IsIdle)
	b.AtRest()
	// What is merely late: it comes while the Auditor waits for what is pending.
	b.Sys.Add("/devices/block/sdz", "block", "8:99", "DEVNAME=sdz")
	asked := 0
	a := auditor(b)
	a.Pending = func() bool {
		if asked++; asked == 3 {
			b.Run(b.Sys.NewEvent("add", "/devices/block/sdz"))
		}
		return asked < 3
	}
	a.Audit()
	hotplugtest.Eventually(t, "the end", b.Scheduler.IsIdle)
	b.AtRest()
	got := b.Said("said")
	slices.Sort(got)
	if !slices.Equal(got, []string{"sda add", "sda remove", "sdb add", "sdc add", "sdz add"}) || b.Scheduler.Stats().Gaps > 0 {
		t.Errorf("the commands say %q, %d gaps", got, b.Scheduler.Stats().Gaps)
	}
}

// TestAuditWithoutSysfs shows that where there is no sysfs nothing is said to be lost.
func TestAuditWithoutSysfs(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := board.New(t, "")
	b.Run(b.Disks(1)...)
	b.Use(sysfs.FS(filepath.Join(b.Tmp, "nothing")))
	auditor(b).Audit()
	b.WantNode("sda", "b8:0 0660")
	b.Start("", func(o *scheduler.Options) { o.Dev = nil })
	auditor(b).Audit()
}

// TestRequest shows that a request leads to a comparison, and those that follow within a
// minute to one more, at its end.
func TestRequest(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := board.New(t, "")
	a := auditor(b)
	a.Delay = 50 * time.Millisecond
	a.last = -sys.Time(2 * auditEvery) // long ago
	for range 2 {
		a.Request()
	}
	hotplugtest.Eventually(t, "the comparison", func() bool { return !a.requested.Load() })
	for range 2 {
		a.Request()
	}
	time.Sleep(20 * sys.PollInterval)
	if !a.requested.Load() {
		t.Error("the next comparison came within a minute")
	}
}
