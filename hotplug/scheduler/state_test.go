package scheduler_test

import (
	"maps"
	"path/filepath"
	"slices"
	"testing"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/hotplugtest/board"
	"devspool/hotplug/scheduler"
	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// TestStates follows events through the states that the package comment shows.
func TestStates(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "sda 0:0 660 @"+hotplugtest.UntilGo+"\n-detach=yes;sdc 0:0 660 @until test -e TMP/end; do sleep 0.01; done\n")
	var ended []string
	b.Done(func(e *uevent.Event, _ *nodes.Plan) { ended = append(ended, e.Devname) })
	want := func(when string, want map[string]string) {
		t.Helper()
		if got := scheduler.States(b.Scheduler); !maps.Equal(got, want) {
			t.Errorf("%s the states are %v, want %v", when, got, want)
		}
	}
	submit := func(events ...*uevent.Event) *scheduler.Batch { return b.Scheduler.Run(scheduler.Events(events...)) }
	const sda, sda1, sdb, sdc = "/devices/block/sda", "/devices/block/sda/sda1", "/devices/block/sdb", "/devices/block/sdc"

	disk := submit(b.Disk("sda", 0))
	b.Sys.Add(sda1, "block", "8:1", "DEVNAME=sda1")
	part := submit(b.Sys.NewEvent("add", sda1))
	submit(b.Disk("sdb", 16)) // it conflicts with nothing and has no command, so it is done
	want("while a command runs", map[string]string{sda: "started", sda1: "waiting"})
	b.Scheduler.Pause()
	other := submit(b.Sys.NewEvent("change", sdb))
	want("after Pause", map[string]string{sda: "started", sda1: "waiting", sdb: "deferred"})
	b.Go()
	b.Wait(disk)
	want("after the end of the command", map[string]string{sda1: "deferred", sdb: "deferred"})
	b.Scheduler.Resume()
	b.Wait(part)
	b.Wait(other)
	want("after Resume", nil)
	b.Wait(submit(b.Disk("sdc", 32)))
	want("after the end of an event whose command is detached", map[string]string{sdc: "detached"})
	hotplugtest.WriteFile(t, filepath.Join(b.Tmp, "end"), "")
	b.AtRest()
	hotplugtest.Eventually(t, "the end of the detached command", func() bool { return len(scheduler.States(b.Scheduler)) == 0 })
	slices.Sort(ended[1:4])
	if want := []string{"sdb", "sda", "sda1", "sdb", "sdc"}; !slices.Equal(ended, want) {
		t.Errorf("at their end were %q, want %q", ended, want)
	}
}

// TestStatsRunning shows that Stats lists commands in the order in which they started.
func TestStatsRunning(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "sd.* 0:0 660 @"+hotplugtest.UntilGo+"\n")
	b.Scheduler.SetJobs(5)
	var want, got []string
	for _, e := range b.Disks(5) {
		b.Scheduler.Run(scheduler.Events(e))
		want = append(want, e.Devpath)
	}
	running := b.Scheduler.Stats().Running
	for i, run := range running {
		got = append(got, run.Devpath)
		if i > 0 && run.Since < running[i-1].Since {
			t.Errorf("command %d is older than the one before it", i)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("the commands run for %q, want %q", got, want)
	}
	b.Go()
	b.AtRest()
}

// TestWithdrawn shows that a sink hears of the end of each event that it was told of: of one that
// another loop has done it is told that there will be none.
func TestWithdrawn(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "")
	received, done, withdrawn := 0, 0, 0
	b.Start("", func(o *scheduler.Options) {
		o.Sinks = append(o.Sinks, scheduler.Sink{Received: func(*uevent.Event) { received++ },
			Done: func(*uevent.Event, *nodes.Plan) { done++ }, Withdrawn: func() { withdrawn++ }})
	})
	null := hotplugtest.NewEvent(t, "ACTION=add", "DEVPATH=/devices/virtual/mem/null", "SUBSYSTEM=mem", "MAJOR=1", "MINOR=3", "DEVNAME=null", "SEQNUM=1")
	b.Wait(b.Scheduler.Run(func(_ scheduler.View, emit func(*uevent.Event, scheduler.Kind)) {
		emit(null, scheduler.Inherited)
		emit(null, scheduler.Reported)
	}))
	if received != 2 || done != 1 || withdrawn != 1 {
		t.Errorf("%d received, %d done, %d withdrawn", received, done, withdrawn)
	}
}
