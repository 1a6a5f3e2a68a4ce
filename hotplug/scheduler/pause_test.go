package scheduler_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"devspool/hotplug/coldplug"
	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/hotplugtest/board"
	"devspool/hotplug/scheduler"
	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// TestPause shows that a paused scheduler accepts events but starts none, and no command,
// while commands that run go on; and that everything follows in order after Resume.
func TestPause(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "-sda 0:0 660 @"+hotplugtest.UntilGo+"; touch TMP/ended\n-sda 0:0 660 @echo sda second >>TMP/said\nsd.* 0:0 660 *echo $MDEV $ACTION >>TMP/said\n")
	b.Scheduler.SetJobs(1)
	var ended []string
	b.Done(func(e *uevent.Event, _ *nodes.Plan) { ended = append(ended, e.Action+" "+e.Devname) })
	events := b.Disks(4)
	first := b.Scheduler.Run(scheduler.Events(events[:2]...)) // the command of sda runs, that of sdb waits for a slot
	b.Scheduler.Pause()
	b.Scheduler.Pause()
	second := b.Scheduler.Run(scheduler.Events(events[2], b.Sys.NewEvent("change", "/devices/block/sda"), b.Sys.NewEvent("change", "/devices/block/sdc"), events[3]))
	b.Go()
	hotplugtest.Eventually(t, "the end of what runs", func() bool { return b.Has("ended") && b.Running() == 0 })
	b.WantNode("sdb", "b8:16 0660")
	b.WantNode("sdc", "")
	b.WantNode("sdd", "")
	if len(b.Said("said")) > 0 || len(ended) > 0 {
		t.Errorf("while paused, %q ran and %q ended", b.Said("said"), ended)
	}
	if b.Scheduler.IsIdle() {
		t.Error("it is idle while events are deferred")
	}
	if !b.Free() {
		t.Error("/dev is locked meanwhile")
	}
	b.Sys.Remove("/devices/block/sdd") // too late for a node, but not for commands
	b.Scheduler.Resume()
	b.Wait(first)
	b.Wait(second)
	b.AtRest()
	b.WantNode("sdc", "b8:32 0660")
	b.WantNode("sdd", "")
	want := []string{"sdb add", "sda second", "sda add", "sda change", "sdc add", "sdc change", "sdd add"}
	got := b.Said("said")
	for _, device := range []string{"sda", "sdb", "sdc", "sdd"} {
		of := func(lines []string) []string {
			return slices.DeleteFunc(slices.Clone(lines), func(s string) bool { return !strings.HasPrefix(s, device) })
		}
		if !slices.Equal(of(got), of(want)) {
			t.Errorf("of %s ran %q, want %q", device, of(got), of(want))
		}
	}
	if len(got) != len(want) || len(ended) != 6 {
		t.Errorf("ran %q, ended %q", got, ended)
	}
	b.Scheduler.Resume() // once more does nothing
	b.AtRest()
}

// TestPauseRemoves shows that a device which goes and comes back while the scheduler is
// paused has its node in the end, and that one which goes has not.
func TestPauseRemoves(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "")
	events := b.Disks(2)
	b.Run(events...)
	b.Scheduler.Pause()
	var batches []*scheduler.Batch
	for _, name := range []string{"sda", "sdb"} {
		remove := b.Sys.NewEvent("remove", "/devices/block/"+name)
		b.Sys.Remove("/devices/block/" + name)
		batches = append(batches, b.Scheduler.Run(scheduler.Events(remove)))
	}
	b.Sys.Add("/devices/block/sda", "block", "8:0", "DEVNAME=sda")
	batches = append(batches, b.Scheduler.Run(scheduler.Events(events[:1]...)))
	b.WantNode("sdb", "b8:16 0660")
	b.Scheduler.Resume()
	for _, batch := range batches {
		b.Wait(batch)
	}
	b.AtRest()
	b.WantNode("sda", "b8:0 0660")
	b.WantNode("sdb", "")
}

// TestPauseLongChains pauses and resumes the scheduler, and submits more, while long chains of
// events that one command has blocked are released slice by slice. Commands that cannot
// start end in the midst of that. All events are done in the end, those of one device in
// order.
func TestPauseLongChains(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "-SUBSYSTEM=hub;.* 0:0 660 @"+hotplugtest.UntilGo+"\n-d[0-3] 0:0 660 *TMP/loop\n")
	hotplugtest.Must(t, os.Symlink("loop", filepath.Join(b.Tmp, "loop"))) // an error that is not taken for a missing program
	const devices, rounds = 40, 3 * scheduler.SliceSize
	last := map[string]uint64{}
	b.Done(func(e *uevent.Event, _ *nodes.Plan) {
		if e.Seqnum <= last[e.Devpath] {
			t.Errorf("%s: %d after %d", e.Devpath, e.Seqnum, last[e.Devpath])
		}
		last[e.Devpath] = e.Seqnum
	})
	seqnum := 0
	some := func(n int) (events []*uevent.Event) {
		for range n {
			for i := range devices {
				seqnum++
				events = append(events, hotplugtest.NewEvent(t, "ACTION=change", fmt.Sprint("DEVPATH=/devices/hub/d", i), "SUBSYSTEM=port", fmt.Sprint("SEQNUM=", seqnum)))
			}
		}
		return events
	}
	batches := []*scheduler.Batch{b.Scheduler.Run(scheduler.Events(hotplugtest.NewEvent(t, "ACTION=add", "DEVPATH=/devices/hub", "SUBSYSTEM=hub", "SEQNUM=1")))}
	batches = append(batches, b.Scheduler.Run(scheduler.Events(some(rounds)...)))
	ended := make(chan struct{})
	resumed := make(chan struct{})
	go func() {
		defer close(resumed)
		for {
			b.Scheduler.Pause()
			b.Scheduler.Resume()
			select {
			case <-ended:
				return
			default:
			}
		}
	}()
	b.Go()
	for range 20 {
		batches = append(batches, b.Scheduler.Run(scheduler.Events(some(3)...)))
	}
	for _, batch := range batches {
		b.Wait(batch)
	}
	close(ended)
	<-resumed
	b.AtRest()
	if n, want := b.Scheduler.Stats().Failed, uint64(4*seqnum/devices); len(last) != devices+1 || n != want {
		t.Errorf("%d devices, %d commands that could not be started, want %d", len(last), n, want)
	}
}

// TestPauseScan shows that a device which leaves between a scan, whose events are current
// while /dev is locked, and Resume gets no node.
func TestPauseScan(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "")
	b.Disks(2)
	b.Scheduler.Pause()
	batch := coldplug.Scan(b.Scheduler, b.Sys.FS)
	b.WantNode("sda", "")
	b.Sys.Remove("/devices/block/sda")
	b.Scheduler.Resume()
	b.Wait(batch)
	b.AtRest()
	b.WantNode("sda", "")
	b.WantNode("sdb", "b8:16 0660")
}

// TestPauseShutdown shows that a paused scheduler can be shut down.
func TestPauseShutdown(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "sda 0:0 660 @"+hotplugtest.UntilGo+"\n")
	b.Scheduler.Run(scheduler.Events(b.Disks(1)...))
	b.Scheduler.Pause()
	hotplugtest.Within(t, "the end", func() { b.Scheduler.Shutdown(0) })
	hotplugtest.Eventually(t, "the end of commands", func() bool { return b.Running() == 0 })
}
