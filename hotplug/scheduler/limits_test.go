package scheduler_test

import (
	"path/filepath"
	"slices"
	"testing"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/hotplugtest/board"
	"devspool/hotplug/procfs"
	"devspool/hotplug/scheduler"
	"devspool/hotplug/uevent"
)

// TestSetJobs shows that more commands start at once when more may run, and
// fewer when fewer may; those that run go on.
func TestSetJobs(t *testing.T) {
	t.Parallel()
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
		t.Error("a command is started after Shutdown")
	}
}

// TestSetRunnable allows one command in state R: one that computes keeps the next from
// starting, however many slots are free, while those that sleep do not.
func TestSetRunnable(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "sda 0:0 660 @echo $MDEV >>TMP/begun; until test -e TMP/go; do :; done\nsd.* 0:0 660 @echo $MDEV >>TMP/begun; exec sleep 600\n")
	b.Scheduler.SetJobs(9)
	b.Scheduler.SetRunnable(1)
	events := b.Disks(4)
	batch := b.Scheduler.Run(scheduler.Events(events[:1]...))
	hotplugtest.Eventually(t, "the command", func() bool { return b.Computing() == 1 })
	for _, e := range events[1:] {
		b.Scheduler.Run(scheduler.Events(e)) // each could start a command
	}
	b.WantNode("sdd", "b8:48 0660") // nodes do not wait for commands
	if got := b.Said("begun"); !slices.Equal(got, []string{"sda"}) {
		t.Errorf("beside a command that runs, %q were begun", got)
	}
	b.Go()
	b.Wait(batch)
	hotplugtest.Eventually(t, "the commands that sleep", func() bool { return len(b.Said("begun")) == 4 && b.Running() == 3 })
	hotplugtest.Within(t, "the end", func() { b.Scheduler.Shutdown(0) })
	b.NoCommands()
}

// TestSetRunnableLifted shows that commands start when the limit is lifted.
func TestSetRunnableLifted(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "sd.* 0:0 660 @echo $MDEV >>TMP/begun; until test -e TMP/go; do :; done\n")
	b.Scheduler.SetJobs(2)
	b.Scheduler.SetRunnable(1)
	batch := b.Scheduler.Run(scheduler.Events(b.Disks(3)...))
	hotplugtest.Eventually(t, "the first", func() bool { return len(b.Said("begun")) >= 1 })
	b.Scheduler.SetRunnable(0)
	hotplugtest.Eventually(t, "the second", func() bool { return len(b.Said("begun")) >= 2 })
	b.Go()
	b.Wait(batch)
	b.AtRest()
}

// TestCountRunnable counts the processes in state R in the process groups of commands.
func TestCountRunnable(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "sda 0:0 660 @(until test -e TMP/go; do :; done) & until test -e TMP/go; do :; done; wait\nsdb 0:0 660 @until test -e TMP/go; do sleep 600; done\n")
	events := b.Disks(2)
	b.Scheduler.Run(scheduler.Events(events...))
	hotplugtest.Eventually(t, "two processes that compute", func() bool { return b.Computing() == 2 })
	b.Go()
	hotplugtest.Eventually(t, "none that computes", func() bool { return b.Computing() == 0 })
	if n := procfs.CountRunnable(nil); n != 0 {
		t.Errorf("of no commands, %d are counted", n)
	}
	if procfs.CountRunnable(map[int]bool{1 << 30: true}) != 0 {
		t.Error("a process that does not exist is counted")
	}
	hotplugtest.Within(t, "the end", func() { b.Scheduler.Shutdown(0) })
	b.NoCommands()
}

// TestFirst shows that commands of which no disk can come wait, and others do not.
func TestFirst(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "(sd.*|tty.*) 0:0 660 *echo $MDEV >>TMP/said\n")
	b.Scheduler.First(true)
	b.Sys.Add("/devices/virtual/tty/tty1", "tty", "4:1", "DEVNAME=tty1")
	tty := b.Sys.NewEvent("add", "/devices/virtual/tty/tty1")
	b.Scheduler.Run(scheduler.Events(append([]*uevent.Event{tty}, b.Disks(2)...)...))
	hotplugtest.Eventually(t, "the commands of disks", func() bool { return len(b.Said("said")) == 2 })
	if b.Scheduler.IsIdle() {
		t.Error("the command of the terminal is not waited for")
	}
	b.Scheduler.First(false)
	hotplugtest.Eventually(t, "the end of the events", b.Scheduler.IsIdle)
	if got := b.Said("said"); len(got) != 3 || got[2] != "tty1" {
		t.Errorf("the commands say %q", got)
	}
}
