package scheduler_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"devspool/hotplug/coldplug"
	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/hotplugtest/board"
	"devspool/hotplug/kerneltest"
	"devspool/hotplug/scheduler"
	"devspool/hotplug/sysfs"
	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// TestRunNodes runs events without commands, some of which come too late.
func TestRunNodes(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "sda 0:0 640 >disk/\n")
	var ended []string
	b.Done(func(e *uevent.Event, p *nodes.Plan) {
		ended = append(ended, fmt.Sprint(e.Action, " ", e.Sysname(), " ", !p.Late))
	})
	add := b.Disk("sda", 0)
	b.Sys.Add("/devices/block/sda/sda1", "block", "8:1", "DEVNAME=sda1")
	ok := b.Run(add, b.Sys.NewEvent("add", "/devices/block/sda/sda1"), b.Sys.NewEvent("change", "/devices/block/sda"))
	b.WantNode("disk/sda", "b8:0 0640")
	b.WantNode("sda", "-> disk/sda")
	b.WantNode("sda1", "b8:1 0660")
	remove := b.Sys.NewEvent("remove", "/devices/block/sda/sda1")
	ok = b.Run(remove) && ok // the device exists
	b.WantNode("sda1", "b8:1 0660")
	b.Sys.Remove("/devices/block/sda/sda1")
	ok = b.Run(remove) && ok
	b.WantNode("sda1", "")
	ok = b.Run(b.Unplug("/devices/block/sda")) && ok
	b.WantNode("sda", "")
	b.WantNode("disk", "")
	ok = b.Run(add) && ok // the device has gone
	b.WantNode("sda", "")
	want := []string{"add sda true", "add sda1 true", "change sda true", "remove sda1 false", "remove sda1 true", "remove sda true", "add sda false"}
	if !slices.Equal(ended, want) {
		t.Errorf("at their end were %q, want %q", ended, want)
	}
	if !ok {
		t.Errorf("failed:\n%s", strings.Join(b.Log.Lines(), "\n"))
	}
}

// TestRunCurrent shows that events which are Current get their nodes though /sys has no such
// device, and no others, in more events than one slice takes.
func TestRunCurrent(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "")
	var events []*uevent.Event
	var current []bool
	for i := range 2*scheduler.SliceSize + 3 {
		events = append(events, hotplugtest.NewEvent(t, "ACTION=add", fmt.Sprint("DEVPATH=/devices/d", i),
			"MAJOR=240", fmt.Sprint("MINOR=", i), fmt.Sprint("DEVNAME=d", i)))
		current = append(current, i%3 == 0)
	}
	b.Wait(b.Scheduler.Run(func(_ scheduler.View, yield func(*uevent.Event, scheduler.Kind)) {
		for i, e := range events {
			yield(e, map[bool]scheduler.Kind{true: scheduler.Current, false: scheduler.Reported}[current[i]])
		}
	}))
	for i, is := range current {
		if got := b.Node(fmt.Sprint("d", i)); (got != "") != is {
			t.Errorf("d%d is %q, current %v", i, got, is)
		}
	}
}

// TestRunIsNotIdle shows that a scheduler is not idle between two slices of one Run, when
// other goroutines may ask.
func TestRunIsNotIdle(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "")
	slices, idle := 0, 0
	b.Sinks = append(b.Sinks, scheduler.Sink{SliceEnd: func() { // the mutex is held
		if slices++; scheduler.IsIdleLocked(b.Scheduler) {
			idle++
		}
	}})
	var events []*uevent.Event
	for i := range 3 * scheduler.SliceSize {
		events = append(events, hotplugtest.NewEvent(t, "ACTION=change", fmt.Sprint("DEVPATH=/devices/d", i)))
	}
	b.Run(events...)
	if slices != 3 || idle > 0 {
		t.Errorf("idle at the end of %d slices of %d", idle, slices)
	}
	if !b.Scheduler.IsIdle() {
		t.Error("not idle at the end")
	}
}

// TestRunWithoutSysfs shows that before sysfs is mounted the event alone decides.
func TestRunWithoutSysfs(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "")
	b.Use(sysfs.FS(filepath.Join(b.Tmp, "nothing")))
	env := []string{"ACTION=add", "DEVPATH=/devices/virtual/mem/null", "SUBSYSTEM=mem", "MAJOR=1", "MINOR=3", "DEVNAME=null", "DEVMODE=0666"}
	b.Run(hotplugtest.NewEvent(t, env...))
	b.WantNode("null", "c1:3 0666")
	env[0] = "ACTION=remove"
	b.Run(hotplugtest.NewEvent(t, env...))
	b.WantNode("null", "")
}

// TestCommandOrder shows when commands run: after an add has made its node, before a remove
// removes it, and one after the other.
func TestCommandOrder(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	look := `test -b sda && echo %s yes >>TMP/said || echo %s no >>TMP/said`
	rule := func(when, what string) string { return "-sda 0:0 660 " + when + fmt.Sprintf(look, what, what) + "\n" }
	b := board.New(t, rule("@", "add")+rule("*", "always")+rule("$", "remove"))
	b.Run(b.Disk("sda", 0))
	b.Run(b.Unplug("/devices/block/sda"))
	want := []string{"add yes", "always yes", "always yes", "remove yes"}
	if got := b.Said("said"); !slices.Equal(got, want) {
		t.Errorf("the commands say %q, want %q", got, want)
	}
	b.WantNode("sda", "")
}

// TestConflictsWait shows that the event of a partition waits for the command of its disk,
// while that of another disk does not.
func TestConflictsWait(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "sda 0:0 660 @"+hotplugtest.UntilGo+"; echo sda >>TMP/said\nsd.* 0:0 660 @echo $MDEV >>TMP/said\n")
	for i, name := range []string{"sda", "sda/sda1", "sdb"} {
		b.Sys.Add("/devices/block/"+name, "block", fmt.Sprint("8:", i), "DEVNAME="+filepath.Base(name))
	}
	batch := b.Scheduler.Run(scheduler.Events(b.Sys.NewEvent("add", "/devices/block/sda"), b.Sys.NewEvent("add", "/devices/block/sda/sda1"), b.Sys.NewEvent("add", "/devices/block/sdb")))
	b.WantNode("sda", "b8:0 0660")
	b.WantNode("sda1", "")
	b.WantNode("sdb", "b8:2 0660")
	if !b.Free() {
		t.Error("/dev is locked while commands run")
	}
	hotplugtest.Eventually(t, "the command of sdb", func() bool { return slices.Equal(b.Said("said"), []string{"sdb"}) })
	b.Go()
	b.Wait(batch)
	b.WantNode("sda1", "b8:1 0660")
	if got := b.Said("said"); !slices.Equal(got, []string{"sdb", "sda", "sda1"}) {
		t.Errorf("the commands say %q", got)
	}
	b.AtRest()
}

// TestJobs shows that as many commands run at once as there are slots, and no more.
func TestJobs(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	for _, jobs := range []int{1, 3} {
		b := board.New(t, "-sd.* 0:0 660 @TMP/job\n-sd.* 0:0 660 @TMP/job\n")
		b.Scheduler.SetJobs(jobs)
		hotplugtest.Script(t, filepath.Join(b.Tmp, "job"), "#!/bin/sh\necho + >>"+b.Tmp+"/said; sleep 0.02; echo - >>"+b.Tmp+"/said\n")
		const disks = 8
		b.Run(b.Disks(disks)...)
		running, most, said := 0, 0, b.Said("said")
		for _, line := range said {
			if line == "+" {
				running++
			} else {
				running--
			}
			most = max(most, running)
		}
		if most != jobs || len(said) != 2*2*disks {
			t.Errorf("%d commands ran at once, want %d; %d lines, want %d", most, jobs, len(said), 2*2*disks)
		}
	}
}

// TestLockAfterFailedStart shows that /dev is unlocked after commands that cannot start,
// whatever follows them; a remove removes its nodes then.
func TestLockAfterFailedStart(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	for _, c := range []struct {
		name, config string
		runs         bool // a command still runs when the test checks
	}{
		{"on remove", "sda 0:0 660 &missing\n", false},
		{"with another that waits for it", "sda 0:0 660 +missing\n", false},
		{"before one that runs", "sda 0:0 660 &missing\nsda1 0:0 660 $" + hotplugtest.UntilGo + "\n", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := board.New(t, c.config)
			add := b.Disk("sda", 0)
			b.Sys.Add("/devices/block/sda/sda1", "block", "8:1", "DEVNAME=sda1")
			ok := b.Run(add, b.Sys.NewEvent("add", "/devices/block/sda/sda1"))
			disk, part := b.Sys.NewEvent("remove", "/devices/block/sda"), b.Sys.NewEvent("remove", "/devices/block/sda/sda1")
			b.Sys.Remove("/devices/block/sda/sda1")
			b.Sys.Remove("/devices/block/sda")
			batch := b.Scheduler.Run(scheduler.Events(disk, part))
			if !b.Free() {
				t.Error("/dev is locked")
			}
			if idle := b.Scheduler.IsIdle(); idle == c.runs {
				t.Errorf("idle is %v", idle)
			}
			b.Go()
			if !b.Wait(batch) && ok {
				t.Error("a missing program counts as a failure")
			}
			b.AtRest()
			b.WantNode("sda", "")
			b.WantNode("sda1", "")
			b.Log.Want("command ended", "missing")
		})
	}
}

// TestReturned shows that a device which comes back while the command of its remove runs
// keeps its node.
func TestReturned(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "sda 0:0 660 $"+hotplugtest.UntilGo+"\n")
	b.Run(b.Disks(1)...)
	leaving := b.Scheduler.Run(scheduler.Events(b.Unplug("/devices/block/sda")))
	returning := b.Scheduler.Run(scheduler.Events(b.Disks(1)...))
	b.Go()
	b.Wait(leaving)
	b.Wait(returning)
	b.WantNode("sda", "b8:0 0660")
	b.Log.Want("node kept", "sda")
	b.AtRest()
}

// TestIfExists shows which commands run on the first add of a device, on a second one, and
// on one after a remove.
func TestIfExists(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	for _, c := range []struct {
		exists string
		again  []string // what runs the second time
		failed bool
	}{
		{"run", []string{"1", "2"}, false},
		{"mask", []string{"2"}, false},
		{"report", []string{"2"}, true},
		{"error", nil, true},
	} {
		b := board.New(t, "-if_exists="+c.exists+";sda 0:0 660 @echo 1 >>TMP/said\n-sda 0:0 660 @echo 2 >>TMP/said\n")
		add := b.Disk("sda", 0)
		ok := b.Run(add)
		if got := b.Said("said"); !slices.Equal(got, []string{"1", "2"}) || !ok {
			t.Errorf("%s: the first time ran %q", c.exists, got)
		}
		ok = b.Run(add)
		if got := b.Said("said")[2:]; !slices.Equal(got, c.again) || ok == c.failed {
			t.Errorf("%s: the second time ran %q", c.exists, got)
		}
		b.Run(b.Unplug("/devices/block/sda"))
		before := len(b.Said("said"))
		b.Run(b.Disk("sda", 0))
		if got := b.Said("said")[before:]; !slices.Equal(got, []string{"1", "2"}) {
			t.Errorf("%s: after a remove ran %q", c.exists, got)
		}
	}
}

// TestIfExistsRenamed shows that after a network interface was renamed, the next one with
// the old name counts as a new device.
func TestIfExistsRenamed(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "if_exists=mask;eth0|lan0 0:0 660 @echo $INTERFACE >>TMP/said\n")
	add := func(name string) *uevent.Event {
		return hotplugtest.NewEvent(t, "ACTION=add", "DEVPATH=/devices/net/"+name, "SUBSYSTEM=net", "INTERFACE="+name)
	}
	b.Run(add("eth0"))
	b.Run(hotplugtest.NewEvent(t, "ACTION=move", "DEVPATH=/devices/net/lan0", "DEVPATH_OLD=/devices/net/eth0", "SUBSYSTEM=net", "INTERFACE=lan0"))
	b.Run(add("lan0")) // as a scan does; it is set up already
	b.Run(add("eth0")) // another one
	if got := b.Said("said"); !slices.Equal(got, []string{"eth0", "eth0"}) {
		t.Errorf("the commands ran for %q", got)
	}
}

// TestDryRun shows that without a /dev nothing is made and nothing runs.
func TestDryRun(t *testing.T) {
	t.Parallel()
	b := board.New(t, "sda 0:0 660 @touch TMP/said\n")
	b.Start(b.Text, func(o *scheduler.Options) { o.Dev = nil })
	var plans []string
	b.Done(func(_ *uevent.Event, p *nodes.Plan) { plans = append(plans, p.String()) })
	b.Sys.Add("/devices/block/sda", "block", "8:0", "DEVNAME=sda", "FIRMWARE=x")
	b.Run(b.Sys.NewEvent("add", "/devices/block/sda"))
	b.Wait(coldplug.Scan(b.Scheduler, b.Sys.FS))
	b.WantNode("sda", "")
	if len(plans) != 2 || len(b.Said("said")) > 0 {
		t.Errorf("plans %q, commands %q", plans, b.Said("said"))
	}
	entries, err := os.ReadDir(b.Dir)
	if err != nil || len(entries) > 0 {
		t.Errorf("/dev holds %v, error %v", entries, err)
	}
}

// TestReassign shows that a path which two devices want goes to the other one when the first
// leaves, and that its commands do not run again.
func TestReassign(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "sd[ab] 0:0 660 =disk @echo $DEVNAME >>TMP/said\n")
	b.Run(b.Disk("sdb", 16), b.Disk("sda", 0))
	b.WantNode("disk", "b8:16 0660")
	b.Run(b.Unplug("/devices/block/sdb"))
	b.WantNode("disk", "b8:0 0660")
	if got := b.Said("said"); len(got) != 2 {
		t.Errorf("the commands ran again: %q", got)
	}
}

// TestReassignWithoutSysfs shows the same before sysfs is mounted.
func TestReassignWithoutSysfs(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "sd[ab] 0:0 660 =disk\n")
	b.Use(sysfs.FS(filepath.Join(b.Tmp, "nothing")))
	event := func(action, name, minor string) *uevent.Event {
		return hotplugtest.NewEvent(t, "ACTION="+action, "DEVPATH=/devices/block/"+name, "SUBSYSTEM=block", "MAJOR=8", "MINOR="+minor, "DEVNAME="+name)
	}
	b.Run(event("add", "sda", "0"), event("add", "sdb", "16"))
	b.Run(event("remove", "sdb", "16"))
	b.WantNode("disk", "b8:0 0660")
}

// TestLockless shows what happens without a private directory, and so without a lock: nodes
// are made, and the log has one warning. When another /dev has room for a lock, it is used.
func TestLockless(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "")
	hotplugtest.Must(t, os.Mkdir(filepath.Join(b.Dir, nodes.Private), 0o755))
	b.Sys.Add("/devices/block/sda", "block", "8:0", "DEVNAME=sda")
	for range 3 {
		if !b.Run(b.Sys.NewEvent("add", "/devices/block/sda")) {
			t.Error("it failed")
		}
	}
	b.WantNode("sda", "b8:0 0660")
	count := 0
	for _, line := range b.Log.Lines() {
		if strings.HasPrefix(line, "warning: no lock") {
			count++
		}
	}
	if count != 1 {
		t.Errorf("%d warnings in\n%s", count, strings.Join(b.Log.Lines(), "\n"))
	}
	remounted := make(chan bool, 9)
	b.Scheduler.OnRemount(func() { remounted <- true })
	hotplugtest.Must(t, os.Rename(b.Dir, b.Dir+".away"))
	hotplugtest.Must(t, os.Mkdir(b.Dir, 0o755))
	for range 2 {
		b.Run(b.Sys.NewEvent("add", "/devices/block/sda"))
	}
	hotplugtest.Within(t, "the call of OnRemount", func() { <-remounted })
	if len(remounted) > 0 || scheduler.IsLockless(b.Scheduler) {
		t.Errorf("on a new /dev: remounted %d times more, lockless %v", len(remounted), scheduler.IsLockless(b.Scheduler))
	}
}

// TestFaults shows that a refused wish of a rule fails the event, and prevents nothing else.
func TestFaults(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "(sda) 0:0 660 =a/%1/%1\n")
	env := []string{"ACTION=add", "DEVPATH=/devices/block/sda", "SUBSYSTEM=block", "MAJOR=8", "MINOR=0", "DEVNAME=sda", "FIRMWARE=../../etc/shadow"}
	b.Use(sysfs.FS(filepath.Join(b.Tmp, "nothing")))
	if b.Run(hotplugtest.NewEvent(t, env...)) {
		t.Error("it did not fail")
	}
	b.Log.Want("error: refused", "/devices/block/sda", "firmware")
	if !b.Run(hotplugtest.NewEvent(t, env[:len(env)-1]...)) {
		t.Error("a batch fails for what another one could not do")
	}
	b.WantNode("a/sda/sda", "b8:0 0660")
}

// TestFailedNode shows that each node which cannot be made has a line of the log.
func TestFailedNode(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "-sda 0:0 660 =a\n-sda 0:0 660 =b\n")
	for _, name := range []string{"a", "b"} {
		hotplugtest.Must(t, os.Mkdir(filepath.Join(b.Dir, name), 0o755))
	}
	b.Sys.Add("/devices/block/sda", "block", "8:0", "DEVNAME=sda")
	if b.Run(b.Sys.NewEvent("add", "/devices/block/sda")) {
		t.Error("it did not fail")
	}
	b.Log.Want("error: failed: add /devices/block/sda: replace a: is a directory")
	b.Log.Want("error: failed: add /devices/block/sda: replace b: is a directory")
}

// TestStorm runs many events of few devices, with commands that end in random order. In the
// end /dev is the same as one that a scan makes.
func TestStorm(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	config := "sd[a-c] 0:0 640 >disk/ @sleep 0.00$SEQNUM\nsd.* 0:0 660 *true\n"
	b := board.New(t, config)
	b.Scheduler.SetJobs(8)
	paths := []string{"/devices/block/sda", "/devices/block/sda/sda1", "/devices/block/sda/sda2", "/devices/block/sdb", "/devices/block/sdc"}
	exists := map[string]bool{}
	var events []*uevent.Event
	var batches []*scheduler.Batch
	for i := range 150 {
		n := i * 7 % len(paths)
		path := paths[n]
		if !exists[path] {
			b.Sys.Add(path, "block", fmt.Sprint("8:", n), "DEVNAME="+filepath.Base(path), fmt.Sprint("SEQNUM=", i%10))
		}
		action := map[bool]string{true: "remove", false: "add"}[exists[path]]
		events = append(events, b.Sys.NewEvent(action, path))
		if exists[path] && i < 140 {
			hotplugtest.Must(t, os.RemoveAll(b.Sys.Path(path+"/dev")))
			os.Remove(b.Sys.Path(fmt.Sprint("/dev/block/8:", n)))
			os.Remove(b.Sys.Path("/class/block/" + filepath.Base(path)))
			os.Remove(b.Sys.Path(path + "/subsystem"))
			exists[path] = false
		} else {
			exists[path] = true
		}
		if i%20 == 19 {
			batches = append(batches, b.Scheduler.Run(scheduler.Events(events...)))
			events = nil
		}
	}
	for _, batch := range append(batches, b.Scheduler.Run(scheduler.Events(events...))) {
		if !b.Wait(batch) {
			t.Error("it failed")
		}
	}
	b.AtRest()
	scanned := board.New(t, config)
	scanned.Sys = b.Sys
	scanned.Use(b.Sys.FS)
	scanned.Wait(coldplug.Scan(scanned.Scheduler, scanned.Sys.FS))
	for _, path := range paths {
		name := filepath.Base(path)
		b.WantNode(name, scanned.Node(name))
		b.WantNode("disk/"+name, scanned.Node("disk/"+name))
	}
}

// TestBatches shows that a batch ends when its own events are done, and fails only for
// these.
func TestBatches(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "sda 0:0 660 @"+hotplugtest.UntilGo+"\nsdb 0:0 660\n")
	hotplugtest.Must(t, os.MkdirAll(filepath.Join(b.Dir, "sdb/full"), 0o755)) // a directory that no node can replace
	slow := b.Scheduler.Run(scheduler.Events(b.Disk("sda", 0)))
	quick := b.Scheduler.Run(scheduler.Events(b.Disk("sdb", 16)))
	behind := b.Scheduler.Run(scheduler.Events(b.Sys.NewEvent("change", "/devices/block/sda")))
	none := b.Scheduler.Run(scheduler.Events())
	if b.Wait(quick) {
		t.Error("the quick one did not fail")
	}
	if !b.Wait(none) {
		t.Error("a batch of nothing fails")
	}
	for name, batch := range map[string]*scheduler.Batch{"slow": slow, "behind": behind} {
		if batch.EndsWithin(0) {
			t.Errorf("the %s one is at its end", name)
		}
	}
	b.Go()
	for name, batch := range map[string]*scheduler.Batch{"slow": slow, "behind": behind} {
		for range 2 { // a second Wait gets the same answer
			if !b.Wait(batch) {
				t.Errorf("the %s one fails for what another could not do", name)
			}
		}
	}
	b.AtRest()
}

// TestBatchesAtOnce uses a Scheduler from several goroutines at once.
func TestBatchesAtOnce(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "tty.* 0:0 660 @echo $MDEV >>TMP/said\n")
	const many, each = 8, 12
	ended := 0 // Done is never called by two goroutines at once
	b.Done(func(*uevent.Event, *nodes.Plan) { ended++ })
	var users sync.WaitGroup
	for u := range many {
		var events []*uevent.Event
		for i := range each {
			n := u*each + i
			devpath := fmt.Sprint("/devices/virtual/tty/tty", n)
			b.Sys.Add(devpath, "tty", fmt.Sprint("4:", n), fmt.Sprint("DEVNAME=tty", n))
			events = append(events, b.Sys.NewEvent("add", devpath))
		}
		users.Go(func() {
			for _, e := range events {
				if !b.Scheduler.Run(scheduler.Events(e)).Wait() {
					t.Error("a batch failed")
				}
			}
		})
	}
	users.Go(func() {
		if !coldplug.Scan(b.Scheduler, b.Sys.FS).Wait() {
			t.Error("a coldplug failed")
		}
	})
	hotplugtest.Within(t, "the events", users.Wait)
	b.AtRest()
	if said := len(b.Said("said")); ended != 2*many*each || said != ended {
		t.Errorf("%d events, %d commands, want %d", ended, said, 2*many*each)
	}
}

// TestShutdown shows that Shutdown lets commands end that are quick enough, kills the others
// with all that they have started, and that no further command starts.
func TestShutdown(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	for _, c := range []struct {
		name    string
		command string
		limit   time.Duration
		killed  bool
	}{
		{"quick", "until test -e TMP/stopped; do sleep 0.01; done", hotplugtest.Patience, false},
		{"slow", "sleep 600", 50 * time.Millisecond, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := board.New(t, "-sd.* 0:0 660 @TMP/job\nsd.* 0:0 660 @touch TMP/next\n")
			b.Scheduler.SetJobs(2)
			hotplugtest.Script(t, filepath.Join(b.Tmp, "job"), strings.ReplaceAll("#!/bin/sh\necho $$ >>TMP/pids\n"+c.command+" &\necho $! >>TMP/pids\nwait\n", "TMP", b.Tmp))
			b.Scheduler.Run(scheduler.Events(b.Disks(3)...))
			hotplugtest.Eventually(t, "the commands", func() bool { return len(b.Said("pids")) == 4 })
			start := time.Now()
			go func() {
				for jobs := 1; jobs > 0; time.Sleep(time.Millisecond) {
					jobs = b.Scheduler.Stats().Jobs
				}
				os.WriteFile(filepath.Join(b.Tmp, "stopped"), nil, 0o644)
			}()
			hotplugtest.Within(t, "the end", func() { b.Scheduler.Shutdown(c.limit) })
			if took := time.Since(start); c.killed && took < c.limit {
				t.Errorf("it ended after %v", took)
			}
			for _, text := range b.Said("pids") {
				pid, err := strconv.Atoi(text)
				hotplugtest.Must(t, err)
				hotplugtest.Eventually(t, "the end of a process", func() bool { return !hotplugtest.Alive(pid) })
			}
			hotplugtest.Eventually(t, "the end of commands", func() bool { return b.Running() == 0 })
			if len(b.Said("pids")) != 4 || b.Has("next") {
				t.Error("another command was started")
			}
			if b.Log.Has("killed") != c.killed {
				t.Errorf("logged %q", b.Log.Lines())
			}
			b.Scheduler.Run(scheduler.Events(b.Disk("sdd", 48)))
			if len(b.Said("pids")) != 4 {
				t.Error("another command was started")
			}
			if !b.Free() {
				t.Error("/dev is locked")
			}
		})
	}
}

// randomEvents returns n events of few devices that come, change, are moved below each other
// and go. The variable SLEEP is how many milliseconds the command of the event takes.
func randomEvents(t *testing.T, random *rand.Rand, n int) (events []*uevent.Event) {
	homes := []string{"/devices/a", "/devices/a/b", "/devices/a/b/c", "/devices/a/d", "/devices/e", "/devices/e/f"}
	place := slices.Clone(homes)
	exists := make([]bool, len(homes))
	for seqnum := range n {
		d := random.IntN(len(homes))
		env := []string{
			"SUBSYSTEM=block", "MAJOR=8", fmt.Sprint("MINOR=", d), fmt.Sprintf("DEVNAME=n%d%s", d, []string{"", "x"}[random.IntN(2)]),
			fmt.Sprint("SEQNUM=", seqnum+1), fmt.Sprint("SLEEP=", random.IntN(8)),
		}
		switch {
		case !exists[d]:
			exists[d], place[d] = true, homes[d]
			env = append(env, "ACTION=add", "DEVPATH="+place[d])
		case random.IntN(3) == 0:
			env = append(env, "ACTION=change", "DEVPATH="+place[d])
		case random.IntN(2) == 0:
			old := place[d]
			place[d] = fmt.Sprintf("%s/m%d", homes[random.IntN(len(homes))], d)
			env = append(env, "ACTION=move", "DEVPATH="+place[d], "DEVPATH_OLD="+old)
		default:
			exists[d] = false
			env = append(env, "ACTION=remove", "DEVPATH="+place[d])
		}
		events = append(events, hotplugtest.NewEvent(t, env...))
	}
	return events
}

// TestModel compares a scheduler that runs as much as possible side by side with one that
// runs the same events one after the other. In the end /dev is the same, and of two events
// that conflict the command of the later one begins when that of the earlier one has ended.
func TestModel(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	const rule = "n([0-5]).* 0:0 640 >by/%1"
	for range 6 {
		seed := rand.Uint64()
		random := rand.New(rand.NewPCG(seed, 2))
		events := randomEvents(t, random, 80)

		serial := board.New(t, rule+"\n")
		serial.Use(sysfs.FS(serial.Tmp + "/nothing")) // the events alone decide then
		for _, e := range events {
			serial.Run(e)
		}

		b := board.New(t, rule+" *echo begin $SEQNUM >>TMP/log; sleep 0.00$SLEEP; echo end $SEQNUM >>TMP/log\n")
		b.Use(serial.Sys.FS)
		b.Scheduler.SetJobs(1 + random.IntN(12))
		var batches []*scheduler.Batch
		for rest := events; len(rest) > 0; {
			n := 1 + random.IntN(len(rest))
			batches = append(batches, b.Scheduler.Run(scheduler.Events(rest[:n]...)))
			rest = rest[n:]
		}
		for _, batch := range batches {
			b.Wait(batch)
		}
		b.AtRest()

		want, err := kerneltest.Snapshot(serial.Dir)
		hotplugtest.Must(t, err)
		got, err := kerneltest.Snapshot(b.Dir)
		hotplugtest.Must(t, err)
		if diff := kerneltest.Diff(want, got); diff != "" {
			t.Errorf("seed %d: /dev differs (-serial +side by side):\n%s", seed, diff)
		}
		at := map[string]int{}
		for i, line := range b.Said("log") {
			at[line] = i
		}
		if len(at) != 2*len(events) {
			t.Errorf("seed %d: %d lines of %d commands", seed, len(at), len(events))
		}
		for i, later := range events {
			for _, earlier := range events[:i] {
				if scheduler.Conflict(earlier, later) &&
					at[fmt.Sprint("end ", earlier.Seqnum)] > at[fmt.Sprint("begin ", later.Seqnum)] {
					t.Errorf("seed %d: the command of %v began before the end of that of %v", seed, later, earlier)
				}
			}
		}
	}
}
