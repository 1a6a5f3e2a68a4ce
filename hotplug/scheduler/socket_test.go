package scheduler_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/hotplugtest/board"
	"devspool/hotplug/scheduler"
	"devspool/hotplug/uevent"
)

// abstract returns an abstract address that no other test has.
func abstract(t *testing.T) string { return fmt.Sprintf("@devspool/%d/%s", os.Getpid(), t.Name()) }

// TestSocket sends events to sockets with a path and with an abstract name.
func TestSocket(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "-sda 0:0 660 @socket:TMP/box\nsda 0:0 660 *socket:"+abstract(t)+"\n")
	path, named := hotplugtest.NewMailbox(t, filepath.Join(b.Tmp, "box")), hotplugtest.NewMailbox(t, abstract(t))
	b.Run(b.Disks(1)...)
	b.WantNode("sda", "b8:0 0660")
	want := "add@/devices/block/sda\x00ACTION=add\x00DEVPATH=/devices/block/sda\x00SUBSYSTEM=block\x00MAJOR=8\x00MINOR=0\x00DEVNAME=sda\x00"
	for _, m := range []*hotplugtest.Mailbox{path, named} {
		if got := m.Next(); got != want {
			t.Errorf("came: %q, want %q", got, want)
		}
	}
	b.Sys.Remove("/devices/block/sda")
	b.Run(hotplugtest.NewEvent(t, "ACTION=remove", "DEVPATH=/devices/block/sda", "SUBSYSTEM=block", "MAJOR=8", "MINOR=0", "DEVNAME=sda"))
	b.WantNode("sda", "") // after the event was sent
	if got := named.Next(); !strings.HasPrefix(got, "remove@/devices/block/sda\x00ACTION=remove\x00") {
		t.Errorf("came: %q", got)
	}
	if got := path.Next() + named.Next(); got != "" {
		t.Errorf("came too: %q", got)
	}
}

// TestSocketOrder shows that an event is sent at its place among the commands.
func TestSocketOrder(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	const step = "@touch TMP/at%d; until test -e TMP/go%d; do sleep 0.01; done\n"
	to := abstract(t)
	b := board.New(t, fmt.Sprintf("-sda 0:0 660 "+step, 1, 1)+"-sda 0:0 660 @socket:"+to+"\n"+
		fmt.Sprintf("-sda 0:0 660 "+step, 2, 2)+"sda 0:0 660 @socket:"+to+"\n")
	m := hotplugtest.NewMailbox(t, to)
	batch := b.Scheduler.Run(scheduler.Events(b.Disks(1)...))
	for n := range 2 {
		hotplugtest.Eventually(t, "a command", func() bool { return b.Said(fmt.Sprint("at", n+1)) != nil })
		if n == 1 && m.Next() == "" {
			t.Error("nothing came before the second command")
		}
		if got := m.Next(); got != "" {
			t.Errorf("while command %d runs came %q", n+1, got)
		}
		hotplugtest.WriteFile(t, filepath.Join(b.Tmp, fmt.Sprint("go", n+1)), "")
	}
	b.Wait(batch)
	b.AtRest()
	if m.Next() == "" {
		t.Error("nothing came at the end")
	}
}

// TestSocketNeedsNoSlot shows that an event is sent while commands take all slots.
func TestSocketNeedsNoSlot(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	to := abstract(t)
	b := board.New(t, "sda 0:0 660 @"+hotplugtest.UntilGo+"\n.* 0:0 660 *socket:"+to+"\n")
	m := hotplugtest.NewMailbox(t, to)
	b.Scheduler.SetJobs(1)
	b.Sys.Add("/devices/block/sda", "block", "8:0", "DEVNAME=sda")
	b.Sys.Add("/devices/block/sdb", "block", "8:16", "DEVNAME=sdb")
	hung := b.Scheduler.Run(scheduler.Events(b.Sys.NewEvent("add", "/devices/block/sda")))
	b.Wait(b.Scheduler.Run(scheduler.Events(b.Sys.NewEvent("add", "/devices/block/sdb"))))
	if m.Next() == "" {
		t.Error("nothing came")
	}
	b.Go()
	b.Wait(hung)
	b.AtRest()
}

// TestSocketWithoutListener shows that a socket which is missing, or whose listener does not
// read, is no failure: only a verbose log has a line.
func TestSocketWithoutListener(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	to := abstract(t)
	b := board.New(t, "-sda 0:0 660 *socket:TMP/missing\n-sda 0:0 660 *socket:"+to+"\nsda 0:0 660 *socket:"+to+"2\n")
	m := hotplugtest.NewMailbox(t, to)
	b.Sys.Add("/devices/block/sda", "block", "8:0", "DEVNAME=sda")
	const many = 1000 // more than a socket holds
	var all []*uevent.Event
	for range many {
		all = append(all, b.Sys.NewEvent("change", "/devices/block/sda"))
	}
	if !b.Run(all...) {
		t.Error("a failure of a listener counts as one of the event")
	}
	came := 0
	for m.Next() != "" {
		came++
	}
	if came == 0 || came == many {
		t.Errorf("%d of %d came", came, many)
	}
	b.Log.Want("info: not sent", "/devices/block/sda", "mdev.conf:1: socket:", "no such file")
	b.Log.Want("info: not sent", "mdev.conf:2: socket:"+to, "temporarily unavailable")
	b.Log.Want("info: not sent", "mdev.conf:3: socket:"+to+"2", "connection refused")
}
