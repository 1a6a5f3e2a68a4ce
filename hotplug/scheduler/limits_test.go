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
	"devspool/hotplug/procfs"
	"devspool/hotplug/scheduler"
	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// TestHalt shows that a road which is halted takes events and begins none, nor a
// command, while what runs goes on; and that all follows in order after Start.
func TestHalt(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := board.New(t, "-sda 0:0 660 @"+hotplugtest.UntilGo+"; touch TMP/ended\n-sda 0:0 660 @echo sda second >>TMP/said\nsd.* 0:0 660 *echo $MDEV $ACTION >>TMP/said\n")
	b.Scheduler.SetJobs(1)
	var ended []string
	b.Done(func(e *uevent.Event, _ *nodes.Plan) { ended = append(ended, e.Action+" "+e.Devname) })
	events := b.Disks(4)
	first := b.Scheduler.Run(scheduler.Events(events[:2]...)) // sda's command runs, sdb's waits for its turn
	b.Scheduler.Pause()
	b.Scheduler.Pause()
	second := b.Scheduler.Run(scheduler.Events(events[2], b.Sys.NewEvent("change", "/devices/block/sda"), b.Sys.NewEvent("change", "/devices/block/sdc"), events[3]))
	hotplugtest.WriteFile(t, filepath.Join(b.Tmp, "go"), "")
	hotplugtest.Eventually(t, "the end of what runs", func() bool { return b.Has("ended") && b.Running() == 0 })
	b.WantNode("sdb", "b8:16 0660")
	b.WantNode("sdc", "")
	b.WantNode("sdd", "")
	if len(b.Said("said")) > 0 || len(ended) > 0 {
		t.Errorf("while halted, %q ran and %q ended", b.Said("said"), ended)
	}
	if b.Scheduler.IsIdle() {
		t.Error("it calls itself idle")
	}
	if !b.Free() {
		t.Error("the lock is held meanwhile")
	}
	b.Sys.Remove("/devices/block/sdd") // what left meanwhile is too late for a node, but not for commands
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

// TestHaltRemoves shows that a device that comes, goes and comes back while the
// road is halted is there at the end, and one that went is not.
func TestHaltRemoves(t *testing.T) {
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

// TestHaltLongChains halts and opens the road, and sends more, while long chains that
// one command held back come to their end in turns: commands that cannot be started end
// in the midst of that. All come to their end, and those of one device in order.
func TestHaltLongChains(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := board.New(t, "-SUBSYSTEM=hub;.* 0:0 660 @"+hotplugtest.UntilGo+"\n-d[0-3] 0:0 660 *TMP/loop\n")
	hotplugtest.Must(t, os.Symlink("loop", filepath.Join(b.Tmp, "loop"))) // no program, and nothing that is missing
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
	opened := make(chan struct{})
	go func() {
		defer close(opened)
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
	hotplugtest.WriteFile(t, filepath.Join(b.Tmp, "go"), "")
	for range 20 {
		batches = append(batches, b.Scheduler.Run(scheduler.Events(some(3)...)))
	}
	for _, batch := range batches {
		b.Wait(batch)
	}
	close(ended)
	<-opened
	b.AtRest()
	if n, want := b.Scheduler.Stats().Failed, uint64(4*seqnum/devices); len(last) != devices+1 || n != want {
		t.Errorf("%d devices, %d commands that could not be started, want %d", len(last), n, want)
	}
}

// TestHaltColdplug is about a device that leaves between a scan, whose word is
// believed while the lock is held, and the start of the road: it gets no node.
func TestHaltColdplug(t *testing.T) {
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

// TestHaltStop shows that a road which is halted comes to its end too.
func TestHaltStop(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := board.New(t, "sda 0:0 660 @"+hotplugtest.UntilGo+"\n")
	b.Scheduler.Run(scheduler.Events(b.Disks(1)...))
	b.Scheduler.Pause()
	hotplugtest.Within(t, "the end", func() { b.Scheduler.Shutdown(0) })
	hotplugtest.Eventually(t, "the end of commands", func() bool { return b.Running() == 0 })
}

// TestSetJobs shows that more commands start at once when more may run, and
// fewer when fewer may; those that run go on.
func TestSetJobs(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := board.New(t, "sd.* 0:0 660 @echo $MDEV >>TMP/begun; until test -e TMP/go.$MDEV; do sleep 0.01; done\n")
	b.Scheduler.SetJobs(1)
	batch := b.Scheduler.Run(scheduler.Events(b.Disks(6)...))
	begun := func(n int) {
		t.Helper()
		hotplugtest.Eventually(t, "the commands", func() bool { return len(b.Said("begun")) >= n })
		if got := len(b.Said("begun")); got != n || b.Running() != n {
			t.Fatalf("%d commands were begun and %d run, want %d", got, b.Running(), n)
		}
	}
	begun(1)
	b.Scheduler.SetJobs(4)
	begun(4)
	b.Scheduler.SetJobs(2)
	for _, name := range []string{"sda", "sdb"} {
		hotplugtest.WriteFile(t, filepath.Join(b.Tmp, "go."+name), "")
	}
	hotplugtest.Eventually(t, "the end of two", func() bool { return b.Running() == 2 })
	if got := len(b.Said("begun")); got != 4 {
		t.Errorf("%d commands were begun, where no other may run", got)
	}
	for _, name := range []string{"sdc", "sdd", "sde", "sdf"} {
		hotplugtest.WriteFile(t, filepath.Join(b.Tmp, "go."+name), "")
	}
	b.Wait(batch)
	b.AtRest()
	if got := b.Said("begun"); len(got) != 6 {
		t.Errorf("ran %q", got)
	}
	b.Scheduler.Shutdown(0)
	b.Scheduler.SetJobs(9)
	if b.Scheduler.Run(scheduler.Events(b.Sys.NewEvent("add", "/devices/block/sda"))); b.Running() > 0 {
		t.Error("after End a command is started")
	}
}

// TestSetRunning lets one command be in state R at once: one that computes keeps
// the next from starting, however many slots are free, those that sleep do not.
func TestSetRunning(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := board.New(t, "sda 0:0 660 @echo $MDEV >>TMP/begun; until test -e TMP/go; do :; done\nsd.* 0:0 660 @echo $MDEV >>TMP/begun; exec sleep 600\n")
	b.Scheduler.SetJobs(9)
	b.Scheduler.SetRunnable(1)
	events := b.Disks(4)
	batch := b.Scheduler.Run(scheduler.Events(events[:1]...))
	hotplugtest.Eventually(t, "the command", func() bool { return b.Computing() == 1 })
	for _, e := range events[1:] {
		b.Scheduler.Run(scheduler.Events(e)) // each is a chance to start one
	}
	b.WantNode("sdd", "b8:48 0660") // nodes are made all the same
	if got := b.Said("begun"); !slices.Equal(got, []string{"sda"}) {
		t.Errorf("beside a command that runs, %q were begun", got)
	}
	hotplugtest.WriteFile(t, filepath.Join(b.Tmp, "go"), "")
	b.Wait(batch)
	hotplugtest.Eventually(t, "those that sleep", func() bool { return len(b.Said("begun")) == 4 && b.Running() == 3 })
	hotplugtest.Within(t, "the end", func() { b.Scheduler.Shutdown(0) })
	b.NoCommands()
}

// TestSetRunningLifted shows that a limit that is lifted holds nobody back.
func TestSetRunningLifted(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := board.New(t, "sd.* 0:0 660 @echo $MDEV >>TMP/begun; until test -e TMP/go; do :; done\n")
	b.Scheduler.SetJobs(2)
	b.Scheduler.SetRunnable(1)
	batch := b.Scheduler.Run(scheduler.Events(b.Disks(3)...))
	hotplugtest.Eventually(t, "the first", func() bool { return len(b.Said("begun")) >= 1 })
	b.Scheduler.SetRunnable(0)
	hotplugtest.Eventually(t, "the second", func() bool { return len(b.Said("begun")) >= 2 })
	hotplugtest.WriteFile(t, filepath.Join(b.Tmp, "go"), "")
	b.Wait(batch)
	b.AtRest()
}

// TestCountRunning counts processes in state R, in the groups of commands alone.
func TestCountRunning(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := board.New(t, "sda 0:0 660 @(until test -e TMP/go; do :; done) & until test -e TMP/go; do :; done; wait\nsdb 0:0 660 @until test -e TMP/go; do sleep 600; done\n")
	events := b.Disks(2)
	b.Scheduler.Run(scheduler.Events(events...))
	hotplugtest.Eventually(t, "two that run", func() bool { return b.Computing() == 2 })
	hotplugtest.WriteFile(t, filepath.Join(b.Tmp, "go"), "")
	hotplugtest.Eventually(t, "none that runs", func() bool { return b.Computing() == 0 })
	if n := procfs.CountRunnable(nil); n != 0 {
		t.Errorf("of no commands, %d run", n)
	}
	if procfs.CountRunnable(map[int]bool{1 << 30: true}) != 0 {
		t.Error("a command that is gone runs")
	}
	hotplugtest.Within(t, "the end", func() { b.Scheduler.Shutdown(0) })
	b.NoCommands()
}
