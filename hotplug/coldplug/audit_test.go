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

// newAuditor returns an Auditor for the Scheduler of a board.
func newAuditor(b *board.Board) *Auditor {
	return &Auditor{Scheduler: b.Scheduler, Sys: b.Sys.FS, Pending: func() bool { return false }, Pause: time.Nanosecond}
}

// TestAudit shows that an audit makes up for an add and a remove whose events were lost, and
// a second one for nothing more.
func TestAudit(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "null 0:0 666 !\nsd.* 0:0 660 *echo $MDEV $ACTION >>TMP/said\n")
	gaps := 0
	b.Sinks = append(b.Sinks, scheduler.Sink{Gap: func(string) { gaps++ }})
	b.Run(b.Disks(2)...)
	b.Sys.Remove("/devices/block/sda")
	b.Sys.Add("/devices/block/sdz", "block", "8:99", "DEVNAME=sdz")
	b.Sys.Add("/devices/virtual/mem/null", "mem", "1:3", "DEVNAME=null") // a rule wants no node
	for range 3 {
		newAuditor(b).Audit()
		hotplugtest.Eventually(t, "the end of the events", b.Scheduler.IsIdle)
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
		t.Errorf("sinks got %d gaps, counted are %d", gaps, counted)
	}
}

// TestAuditReplaced shows an audit after a device left and another one got its numbers or
// its devpath, both without events.
func TestAuditReplaced(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "")
	b.Run(b.Disks(2)...)
	b.Sys.Remove("/devices/block/sda")
	b.Sys.Remove("/devices/block/sdb")
	b.Sys.Add("/devices/other/block/sdx", "block", "8:0", "DEVNAME=sdx") // the numbers of sda
	b.Sys.Add("/devices/block/sdb", "block", "8:80", "DEVNAME=sdb")      // the devpath of sdb
	newAuditor(b).Audit()
	b.AtRest()
	b.WantNode("sda", "")
	b.WantNode("sdx", "b8:0 0660")
	b.WantNode("sdb", "b8:80 0660")
}

// TestAuditPending shows that an audit leaves out devices with events under way, and those
// whose event comes between the two looks.
func TestAuditPending(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "sd.* 0:0 660 *"+hotplugtest.UntilGo+"; echo $MDEV $ACTION >>TMP/said\n")
	events := b.Disks(3)
	b.Go()
	b.Run(events[:2]...)
	remove := b.Unplug("/devices/block/sda")
	b.Scheduler.Pause()
	b.Scheduler.Run(scheduler.Events(remove, events[2]))
	if got := newAuditor(b).diff(); len(got) > 0 {
		t.Errorf("differences: %d", len(got))
	}
	newAuditor(b).Audit()
	b.Scheduler.Resume()
	hotplugtest.Eventually(t, "the end of the events", b.Scheduler.IsIdle)
	b.AtRest()
	// This event is not lost: it comes while the Auditor waits for pending ones.
	b.Sys.Add("/devices/block/sdz", "block", "8:99", "DEVNAME=sdz")
	asked := 0
	a := newAuditor(b)
	a.Pending = func() bool {
		if asked++; asked == 3 {
			b.Run(b.Sys.NewEvent("add", "/devices/block/sdz"))
		}
		return asked < 3
	}
	a.Audit()
	hotplugtest.Eventually(t, "the end of the events", b.Scheduler.IsIdle)
	b.AtRest()
	got := b.Said("said")
	slices.Sort(got)
	if !slices.Equal(got, []string{"sda add", "sda remove", "sdb add", "sdc add", "sdz add"}) || b.Scheduler.Stats().Gaps > 0 {
		t.Errorf("the commands say %q, %d gaps", got, b.Scheduler.Stats().Gaps)
	}
}

// TestAuditWithoutSysfs shows that an audit does nothing without a sysfs, and nothing in a
// dry run.
func TestAuditWithoutSysfs(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "")
	b.Run(b.Disks(1)...)
	b.Use(sysfs.FS(filepath.Join(b.Tmp, "nothing")))
	newAuditor(b).Audit()
	b.WantNode("sda", "b8:0 0660")
	b.Start("", func(o *scheduler.Options) { o.Dev = nil })
	newAuditor(b).Audit()
}

// TestRequest shows that requests lead to one audit, and those that follow to one more, which
// waits for the end of auditInterval.
func TestRequest(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "")
	a := newAuditor(b)
	a.Delay = 50 * time.Millisecond
	a.last = -sys.Time(2 * auditInterval) // long ago
	for range 2 {
		a.Request()
	}
	hotplugtest.Eventually(t, "the audit", func() bool { return !a.requested.Load() })
	for range 2 {
		a.Request()
	}
	time.Sleep(20 * sys.PollInterval)
	if !a.requested.Load() {
		t.Error("the next audit came too early")
	}
}
