package loop

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/coldplug"
	"devspool/hotplug/control"
	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/hotplugtest/board"
	"devspool/hotplug/kerneltest"
	"devspool/hotplug/log"
	"devspool/hotplug/netlink"
	"devspool/hotplug/scheduler"
	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// loopOptions returns the options of a loop on the board.
func loopOptions(b *board.Board) Options {
	return Options{Scheduler: b.Scheduler, Config: b.Config, Dev: b.Dev, Sys: b.Sys.FS, Log: b.Log.Logger}
}

// newLoop makes a loop on the board.
func newLoop(b *board.Board) *Loop {
	b.T.Helper()
	l, err := New(loopOptions(b))
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		b.T.Skip("NOT TESTED: the loop: needs a netlink socket")
	}
	hotplugtest.Must(b.T, err)
	b.T.Cleanup(func() {
		l.closeControl()
		l.sock.Close()
	})
	return l
}

// isControlled reports whether the loop has a control socket.
func isControlled(l *Loop) bool {
	l.controlLock.Lock()
	defer l.controlLock.Unlock()
	return l.control != nil
}

// serve runs a new loop beside the test; see runLoop.
func serve(b *board.Board) (stop func()) {
	b.T.Helper()
	return runLoop(b, newLoop(b))
}

// runLoop has a loop serve until stop is called or the test ends. stop may be called twice.
func runLoop(b *board.Board, l *Loop) (stop func()) {
	b.T.Helper()
	served := make(chan error, 1)
	go func() { served <- l.Serve() }()
	stopped := false
	stop = func() {
		b.T.Helper()
		if stopped {
			return
		}
		stopped = true
		l.End()
		hotplugtest.Within(b.T, "the end of the loop", func() {
			if err := <-served; err != nil {
				b.T.Error(err)
			}
		})
	}
	b.T.Cleanup(stop)
	return stop
}

// delegate asks the board's loop for a scan, as another process does.
func delegate(b *board.Board) (served bool, err error) {
	b.T.Helper()
	hotplugtest.Within(b.T, "the answer", func() { served, err = control.Delegate(b.Other(), b.Config.Path()) })
	return served, err
}

// TestDelegate asks for scans before, while, and after a loop serves.
func TestDelegate(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "sda 0:0 660 @sleep 0.05; echo $MDEV >>TMP/said\n")
	b.Sys.Add("/devices/block/sda", "block", "8:0", "DEVNAME=sda")
	if served, err := delegate(b); served || err != nil {
		t.Errorf("without a loop: served %v, error %v", served, err)
	}
	stop := serve(b)
	for i := range 3 {
		if served, err := delegate(b); !served || err != nil {
			t.Fatalf("served %v, error %v", served, err)
		}
		b.WantNode("sda", "b8:0 0660")
		if got := b.Said("said"); len(got) != i+1 {
			t.Errorf("an answer before the commands were done: %q", got)
		}
	}
	stop()
	if served, err := delegate(b); served || err != nil {
		t.Errorf("after the loop: served %v, error %v", served, err)
	}
}

// TestDelegateFailed shows that a request reports the failures of its own scan, not earlier ones.
func TestDelegateFailed(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "")
	b.Sys.Add("/devices/block/sda", "block", "8:0", "DEVNAME=sda")
	hotplugtest.Must(t, os.Mkdir(filepath.Join(b.Dir, "sda"), 0o755))
	serve(b)
	if served, err := delegate(b); !served || err == nil || !strings.Contains(err.Error(), "its log says what") {
		t.Errorf("served %v, error %v", served, err)
	}
	hotplugtest.Must(t, os.Remove(filepath.Join(b.Dir, "sda")))
	if served, err := delegate(b); !served || err != nil {
		t.Errorf("served %v, error %v", served, err)
	}
}

// TestDelegateMany makes many requests at once, more than the socket's queue holds.
func TestDelegateMany(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "sda 0:0 660 @true\n")
	b.Sys.Add("/devices/block/sda", "block", "8:0", "DEVNAME=sda")
	serve(b)
	const many = 40
	answers := make(chan error, many)
	for range many {
		d := b.Other()
		go func() {
			served, err := control.Delegate(d, b.Config.Path())
			if !served {
				err = errors.Join(err, errors.New("not served"))
			}
			answers <- err
		}()
	}
	hotplugtest.Within(t, "the answers", func() {
		for range many {
			if err := <-answers; err != nil {
				t.Error(err)
			}
		}
	})
}

// TestDelegateWhileEnding is about a loop that is told to end during a request: it completes that,
// and answers.
func TestDelegateWhileEnding(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "sda 0:0 660 @touch TMP/begun; until test -e TMP/go; do sleep 0.01; done\n")
	b.Sys.Add("/devices/block/sda", "block", "8:0", "DEVNAME=sda")
	l := newLoop(b)
	ended := make(chan error, 1)
	go func() { ended <- l.Serve() }()
	answer := make(chan bool, 1)
	d := b.Other()
	go func() {
		served, err := control.Delegate(d, b.Config.Path())
		answer <- served && err == nil
	}()
	hotplugtest.Eventually(t, "the command", func() bool { return b.Has("begun") })
	l.End()
	select {
	case <-ended:
		t.Error("it did not wait for the command")
	case <-time.After(50 * time.Millisecond):
	}
	hotplugtest.WriteFile(t, filepath.Join(b.Tmp, "go"), "")
	hotplugtest.Within(t, "the answer", func() {
		if !<-answer {
			t.Error("not served")
		}
	})
	hotplugtest.Within(t, "the end of the loop", func() { hotplugtest.Must(t, <-ended) })
}

// TestOneLoop shows that a /dev has one loop at a time.
func TestOneLoop(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "")
	stop := serve(b)
	for range 2 {
		if _, err := New(loopOptions(b.Another(""))); !errors.Is(err, control.ErrRunning) {
			t.Errorf("a second loop: error %v", err)
		}
	}
	if served, err := delegate(b); !served || err != nil {
		t.Errorf("after refused loops: served %v, error %v", served, err)
	}
	stop()
	second := b.Another("")
	serve(second)
	if served, err := delegate(second); !served || err != nil {
		t.Errorf("the next loop: served %v, error %v", served, err)
	}
}

// TestLost shows that a loop scans /sys anew where events were lost, and adds and removes nodes.
func TestLost(t *testing.T) {
	hotplugtest.NeedRoot(t)
	if !kerneltest.InNamespaces(t, kerneltest.Net) {
		return
	}
	b := board.New(t, "")
	b.Sys.Add("/devices/block/sda", "block", "8:0", "DEVNAME=sda")
	l := newLoop(b)
	if !b.Wait(coldplug.Scan(b.Scheduler, b.Sys.FS)) {
		t.Error("it failed")
	}
	b.Sys.Remove("/devices/block/sda")
	b.Sys.Add("/devices/block/sdb", "block", "8:16", "DEVNAME=sdb")
	limitBuffer(t, 1)
	kernel := hotplugtest.NewInjector(t)
	for i := range 500 {
		hotplugtest.Must(t, kernel.Send("change", fmt.Sprint("/devices/virtual/x", i)))
	}
	stop := runLoop(b, l)
	hotplugtest.Eventually(t, "the scan", func() bool { return b.Node("sda") == "" && b.Node("sdb") == "b8:16 0660" })
	stop()
	b.Log.Want("warning: the kernel dropped events")
}

// limitBuffer sets the size of the receive buffer of the process's only socket in the kernel's
// group, which must be the loop's.
func limitBuffer(t *testing.T, size int) {
	t.Helper()
	for fd := range 100 {
		address, err := unix.Getsockname(fd)
		if a, is := address.(*unix.SockaddrNetlink); err == nil && is && a.Groups == netlink.KernelGroup {
			hotplugtest.Must(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size))
			return
		}
	}
	t.Fatal("no socket in the kernel's group")
}

// TestLostAfterOverrun is about events that are lost after the kernel has reported a loss: until the
// socket is drained it drops events without another report. The scan must come after that.
func TestLostAfterOverrun(t *testing.T) {
	hotplugtest.NeedRoot(t)
	if !kerneltest.InNamespaces(t, kerneltest.Net) {
		return
	}
	b := board.New(t, "")
	b.Sys.Add("/devices/block/sda", "block", "8:0", "DEVNAME=sda")
	l := newLoop(b)
	limitBuffer(t, 1<<20)
	kernel := hotplugtest.NewInjector(t)
	var removed, lost atomic.Bool
	b.Sinks = append(b.Sinks, scheduler.Sink{
		Gap: func(string) { lost.Store(true) },
		Done: func(*uevent.Event, *nodes.Plan) { // the first that is done after the loss
			if !lost.Load() || removed.Load() {
				return
			}
			removed.Store(true)
			b.Sys.Remove("/devices/block/sda")
			if err := kernel.Send("remove", "/devices/block/sda", "SUBSYSTEM=block", "MAJOR=8", "MINOR=0", "DEVNAME=sda"); err != nil {
				t.Error(err)
			}
		},
	})
	const many = 3 * 1024 // more than one batch of the socket has
	for i := range many {
		hotplugtest.Must(t, kernel.Send("change", fmt.Sprint("/devices/virtual/x", i)))
	}
	stop := runLoop(b, l)
	hotplugtest.Eventually(t, "the end", func() bool {
		return removed.Load() && !l.Pending()
	})
	hotplugtest.Eventually(t, "the end of the node", func() bool { return b.Node("sda") == "" })
	stop()
	b.Log.Want("warning: the kernel dropped events")
}

// TestCurrentElsewhere shows that with a tree in place of the kernel's sysfs no event is current: the
// kernel's devices are not in the tree.
func TestCurrentElsewhere(t *testing.T) {
	hotplugtest.NeedRoot(t)
	if !kerneltest.InNamespaces(t, kerneltest.Net) {
		return
	}
	b := board.New(t, "")
	b.Sys.Add("/devices/block/sda", "block", "8:0", "DEVNAME=sda")
	serve(b)
	hotplugtest.Must(t, os.WriteFile("/sys/devices/virtual/mem/null/uevent", []byte("add"), 0))
	hotplugtest.Must(t, hotplugtest.NewInjector(t).Send("add", "/devices/block/sda", "SUBSYSTEM=block", "MAJOR=8", "MINOR=0", "DEVNAME=sda"))
	hotplugtest.Eventually(t, "the node", func() bool { return b.Node("sda") != "" })
	b.WantNode("null", "")
}

// TestRemounted is about a /dev that is mounted over while a loop runs: the loop makes the nodes there
// too, and its control socket.
func TestRemounted(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	for _, lockless := range []bool{false, true} {
		b := board.New(t, "")
		if lockless {
			hotplugtest.Must(t, os.Mkdir(filepath.Join(b.Dir, nodes.Private), 0o755))
		}
		b.Sys.Add("/devices/block/sda", "block", "8:0", "DEVNAME=sda")
		b.Sys.Add("/devices/block/sdb", "block", "8:16", "DEVNAME=sdb")
		l := newLoop(b)
		if isControlled(l) == lockless {
			t.Errorf("lockless %v: controlled %v", lockless, isControlled(l))
		}
		hotplugtest.Must(t, os.Rename(b.Dir, b.Dir+".away"))
		hotplugtest.Must(t, os.Mkdir(b.Dir, 0o755))
		b.Wait(b.Scheduler.Run(scheduler.Events(b.Sys.NewEvent("add", "/devices/block/sda")))) // any event notices the mount
		hotplugtest.Eventually(t, "the scan", func() bool { return b.Node("sda") != "" && b.Node("sdb") != "" })
		if !isControlled(l) {
			t.Errorf("lockless %v: there is no control socket on the new /dev", lockless)
			continue
		}
		hotplugtest.Must(t, os.Remove(filepath.Join(b.Dir, "sda")))
		if served, err := delegate(b); !served || err != nil {
			t.Errorf("served %v, error %v", served, err)
		}
		b.WantNode("sda", "b8:0 0660")
	}
}

// TestEnd shows that a loop which is told to end waits for running commands, and starts no other.
func TestEnd(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "-sd.* 0:0 660 @sleep 0.05; echo one >>TMP/said\nsd.* 0:0 660 @echo two >>TMP/said\n")
	b.Scheduler.SetJobs(1)
	var events []*uevent.Event
	for i, name := range []string{"sda", "sdb"} {
		b.Sys.Add("/devices/block/"+name, "block", fmt.Sprint("8:", i), "DEVNAME="+name)
		events = append(events, b.Sys.NewEvent("add", "/devices/block/"+name))
	}
	l := newLoop(b)
	b.Scheduler.Run(scheduler.Events(events...))
	l.End()
	hotplugtest.Within(t, "the end", func() { hotplugtest.Must(t, l.Serve()) })
	if got := b.Said("said"); !slices.Equal(got, []string{"one"}) {
		t.Errorf("the commands say %q", got)
	}
	b.WantNode("sdb", "b8:1 0660")
	hotplugtest.Eventually(t, "the end of commands", func() bool { return b.Running() == 0 })
	if n := b.Running(); n > 0 || !b.Free() {
		t.Errorf("free %v, %d commands", b.Free(), n)
	}
}

// TestColdplugByKernel asks a loop on this machine's sysfs for a coldplug: the answer comes after the
// end of every command that its events run.
func TestColdplugByKernel(t *testing.T) {
	hotplugtest.NeedRoot(t)
	if !kerneltest.InNamespaces(t, kerneltest.Net) {
		return
	}
	if err := os.WriteFile("/sys/devices/virtual/mem/null/uevent", []byte("change"), 0); errors.Is(err, fs.ErrPermission) {
		t.Skip("NOT TESTED: TestColdplugByKernel: needs a sysfs to write to")
	}
	b := board.New(t, "-.* 0:0 660 @sleep 0.01; echo $DEVPATH $SYNTH_UUID >>TMP/said\n.* 0:0 660\n")
	b.Use("/sys")
	b.Log.SetLevel(log.Info)
	b.Scheduler.SetJobs(8)
	serve(b)
	// Devices of others have events too. What a coldplug asks for has an identifier, and is most.
	seen := map[string]bool{"": true}
	coldplug := func() {
		devpaths, before := b.Sys.FS.Walk(), time.Now()
		if a := askFor(b, "coldplug", "0.1"); a.Err != nil {
			t.Fatalf("%v\n%s", a.Err, strings.Join(b.Log.Lines(), "\n"))
		}
		runs, uuid := map[string]map[string]bool{}, ""
		for _, line := range b.Said("said") {
			devpath, of, _ := strings.Cut(line, " ")
			if runs[of] == nil {
				runs[of] = map[string]bool{}
			}
			if runs[of][devpath] = true; !seen[of] && (uuid == "" || len(runs[of]) > len(runs[uuid])) {
				uuid = of
			}
		}
		seen[uuid] = true
		ran := runs[uuid]
		t.Logf("%d commands in %v", len(ran), time.Since(before))
		silent := 0
		for _, devpath := range devpaths {
			switch _, err := os.Stat("/sys" + devpath); {
			case ran[devpath], err != nil: // it may be gone
			case b.Log.Has("sent none: " + devpath):
				silent++
			default:
				t.Errorf("no command for %s has ended before the answer", devpath)
			}
		}
		if len(ran) < 50 || silent > len(ran) {
			t.Errorf("%d commands, %d devices are silent", len(ran), silent)
		}
	}
	coldplug()
	b.WantNode("null", "c1:3 0660")
	coldplug()
	hotplugtest.Eventually(t, "the end of commands", func() bool { return b.Running() == 0 })
}

// TestSequence shows that each gap in the sequence numbers leads to a comparison of /dev with /sys.
func TestSequence(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "")
	events := b.Disks(2)
	b.Run(events[0])
	l := &Loop{Options: loopOptions(b)}
	idle := func() bool { return false }
	l.auditor = coldplug.Auditor{Scheduler: b.Scheduler, Sys: b.Sys.FS, Pending: idle, Delay: time.Nanosecond, Pause: time.Nanosecond}
	event := func(seqnum string) []*uevent.Event {
		return []*uevent.Event{hotplugtest.NewEvent(t, "ACTION=change", "DEVPATH=/devices/x", "SEQNUM="+seqnum)}
	}
	gaps := func() int {
		return strings.Count(strings.Join(b.Log.Lines(), "\n"), "did not come: comparing with /sys")
	}
	b.Log.SetLevel(log.Info)
	for _, seqnum := range []string{"7", "8", "9", "8", "10"} {
		l.checkSequence(event(seqnum))
	}
	if gaps() > 0 {
		t.Error("a gap where no number is missing")
	}
	b.WantNode("sdb", "")
	l.checkSequence(event("12"))
	b.Log.Want("sequence numbers 11 to 11 did not come")
	hotplugtest.Eventually(t, "the comparison", func() bool { return b.Node("sdb") != "" })
	l.checkSequence(event("14"))
	l.checkSequence(event("16"))
	if gaps() != 3 {
		t.Errorf("logged %q", b.Log.Lines())
	}
}

// askFor makes a request as another process does, and returns its answer.
func askFor(b *board.Board, words ...string) (a hotplugtest.Answer) {
	b.T.Helper()
	hotplugtest.Within(b.T, "the answer to "+strings.Join(words, " "), func() {
		a.Err = control.Ask(b.Other(), words, func(line string) { a.Lines = append(a.Lines, line) })
	})
	return a
}
