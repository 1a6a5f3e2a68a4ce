package loop

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
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

// newLoop makes a loop of the board. end tells it to end, as a signal does.
func newLoop(b *board.Board) (l *Loop, end func()) {
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
	return l, l.End
}

// controlled reports whether other processes can ask the loop for work.
func isControlled(l *Loop) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.control != nil
}

// serve runs a loop beside the test, until it is told to stop or the test ends.
func serve(b *board.Board) (stop func()) {
	b.T.Helper()
	l, end := newLoop(b)
	return runLoop(b, l, end)
}

// runLoop has a loop serve until stop is called, or the test ends.
func runLoop(b *board.Board, l *Loop, end func()) (stop func()) {
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
		end()
		hotplugtest.Within(b.T, "the end of the loop", func() {
			if err := <-served; err != nil {
				b.T.Error(err)
			}
		})
	}
	b.T.Cleanup(stop)
	return stop
}

// handOver asks the board's loop, as another process would, for a coldplug.
func handOver(b *board.Board) (served bool, err error) {
	b.T.Helper()
	hotplugtest.Within(b.T, "the answer", func() { served, err = control.Delegate(b.Other(), b.Config.Path()) })
	return served, err
}

func TestHandOver(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := board.New(t, "sda 0:0 660 @sleep 0.05; echo $MDEV >>TMP/said\n")
	b.Sys.Add("/devices/block/sda", "block", "8:0", "DEVNAME=sda")
	if served, err := handOver(b); served || err != nil {
		t.Errorf("without a loop: served %v, error %v", served, err)
	}
	stop := serve(b)
	for i := range 3 {
		if served, err := handOver(b); !served || err != nil {
			t.Fatalf("served %v, error %v", served, err)
		}
		b.WantNode("sda", "b8:0 0660")
		if got := b.Said("said"); len(got) != i+1 {
			t.Errorf("an answer before the commands were done: %q", got)
		}
	}
	stop()
	if served, err := handOver(b); served || err != nil {
		t.Errorf("after the loop: served %v, error %v", served, err)
	}
}

// TestHandOverFailed shows that who asks hears of what could not be done, and of
// no failure of an earlier time.
func TestHandOverFailed(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := board.New(t, "")
	b.Sys.Add("/devices/block/sda", "block", "8:0", "DEVNAME=sda")
	hotplugtest.Must(t, os.Mkdir(filepath.Join(b.Dir, "sda"), 0o755))
	serve(b)
	if served, err := handOver(b); !served || err == nil || err.Error() != control.ErrLogged.Error() {
		t.Errorf("served %v, error %v", served, err)
	}
	hotplugtest.Must(t, os.Remove(filepath.Join(b.Dir, "sda")))
	if served, err := handOver(b); !served || err != nil {
		t.Errorf("served %v, error %v", served, err)
	}
}

// TestHandOverMany lets many ask at once, more than wait in a listener's queue.
func TestHandOverMany(t *testing.T) {
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

// TestHandOverWhileEnding is about a loop that is told to end while it works on a
// request: it still comes to the end of that, and answers.
func TestHandOverWhileEnding(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := board.New(t, "sda 0:0 660 @touch TMP/begun; until test -e TMP/go; do sleep 0.01; done\n")
	b.Sys.Add("/devices/block/sda", "block", "8:0", "DEVNAME=sda")
	l, end := newLoop(b)
	ended := make(chan error, 1)
	go func() { ended <- l.Serve() }()
	answer := make(chan bool, 1)
	d := b.Other()
	go func() {
		served, err := control.Delegate(d, b.Config.Path())
		answer <- served && err == nil
	}()
	hotplugtest.Eventually(t, "the command", func() bool { return b.Has("begun") })
	end()
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

// TestOneLoop shows that a /dev has one loop, and after its end another.
func TestOneLoop(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := board.New(t, "")
	stop := serve(b)
	for range 2 {
		if _, err := New(loopOptions(b.Another(""))); !errors.Is(err, control.ErrRunning) {
			t.Errorf("a second loop: error %v", err)
		}
	}
	if served, err := handOver(b); !served || err != nil {
		t.Errorf("after that: served %v, error %v", served, err)
	}
	stop()
	second := b.Another("")
	serve(second)
	if served, err := handOver(second); !served || err != nil {
		t.Errorf("the next loop: served %v, error %v", served, err)
	}
}

// TestLost shows that a loop which lost events scans anew: it adds and removes.
func TestLost(t *testing.T) {
	hotplugtest.NeedRoot(t)
	if !kerneltest.InNamespaces(t, kerneltest.Net) {
		return
	}
	b := board.New(t, "")
	b.Sys.Add("/devices/block/sda", "block", "8:0", "DEVNAME=sda")
	l, end := newLoop(b)
	if !b.Wait(coldplug.Scan(b.Scheduler, b.Sys.FS)) {
		t.Error("it failed")
	}
	b.Sys.Remove("/devices/block/sda")
	b.Sys.Add("/devices/block/sdb", "block", "8:16", "DEVNAME=sdb")
	hotplugtest.Must(t, unix.SetsockoptInt(l.sock.Fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 1))
	kernel := hotplugtest.NewInjector(t)
	for i := range 500 {
		hotplugtest.Must(t, kernel.Send("change", fmt.Sprint("/devices/virtual/x", i)))
	}
	stop := runLoop(b, l, end)
	hotplugtest.Eventually(t, "the scan", func() bool { return b.Node("sda") == "" && b.Node("sdb") == "b8:16 0660" })
	stop()
	b.Log.Want("warning: the kernel dropped events")
}

// TestLostUnsaid is about what is lost after the kernel has said that something was:
// until the last message is taken out of a socket that was full, it drops the others
// without another word. The scan must not come before that.
func TestLostUnsaid(t *testing.T) {
	hotplugtest.NeedRoot(t)
	if !kerneltest.InNamespaces(t, kerneltest.Net) {
		return
	}
	b := board.New(t, "")
	b.Sys.Add("/devices/block/sda", "block", "8:0", "DEVNAME=sda")
	l, end := newLoop(b)
	hotplugtest.Must(t, unix.SetsockoptInt(l.sock.Fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 1<<20))
	kernel := hotplugtest.NewInjector(t)
	left, told := false, false
	b.Sinks = append(b.Sinks, scheduler.Sink{
		Gap: func(string) { told = true },
		Done: func(*uevent.Event, *nodes.Plan) { // the first that is done after the loss
			if !told || left {
				return
			}
			left = true
			b.Sys.Remove("/devices/block/sda")
			if err := kernel.Send("remove", "/devices/block/sda", "SUBSYSTEM=block", "MAJOR=8", "MINOR=0", "DEVNAME=sda"); err != nil {
				t.Error(err)
			}
		},
	})
	for i := range 3 * netlink.ReadTarget {
		hotplugtest.Must(t, kernel.Send("change", fmt.Sprint("/devices/virtual/x", i)))
	}
	stop := runLoop(b, l, end)
	hotplugtest.Eventually(t, "the end", func() bool {
		b.Scheduler.Exclusive(func(scheduler.View) error { return nil }) // what the sink wrote can be read now
		return left && !l.Pending()
	})
	hotplugtest.Eventually(t, "the end of the node", func() bool { return b.Node("sda") == "" })
	stop()
	b.Log.Want("warning: the kernel dropped events")
}

// TestFreshElsewhere shows that the kernel is not believed of devices that are not in a
// tree which is no sysfs, but which the loop was told to go by.
func TestFreshElsewhere(t *testing.T) {
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

// TestLoopRenewed is about a /dev that is mounted over while a loop runs: it makes
// all anew there, and answers there.
func TestLoopRenewed(t *testing.T) {
	hotplugtest.NeedRoot(t)
	for _, lockless := range []bool{false, true} {
		b := board.New(t, "")
		if lockless {
			hotplugtest.Must(t, os.Mkdir(filepath.Join(b.Dir, nodes.Private), 0o755))
		}
		b.Sys.Add("/devices/block/sda", "block", "8:0", "DEVNAME=sda")
		b.Sys.Add("/devices/block/sdb", "block", "8:16", "DEVNAME=sdb")
		l, _ := newLoop(b)
		if isControlled(l) == lockless {
			t.Errorf("lockless %v: controlled %v", lockless, isControlled(l))
		}
		hotplugtest.Must(t, os.Rename(b.Dir, b.Dir+".away"))
		hotplugtest.Must(t, os.Mkdir(b.Dir, 0o755))
		b.Wait(b.Scheduler.Run(scheduler.Events(b.Sys.NewEvent("add", "/devices/block/sda")))) // any event shows it
		hotplugtest.Eventually(t, "the scan", func() bool { return b.Node("sda") != "" && b.Node("sdb") != "" })
		if !isControlled(l) {
			t.Errorf("lockless %v: on the new /dev nobody listens", lockless)
			continue
		}
		hotplugtest.Must(t, os.Remove(filepath.Join(b.Dir, "sda")))
		if served, err := handOver(b); !served || err != nil {
			t.Errorf("served %v, error %v", served, err)
		}
		b.WantNode("sda", "b8:0 0660")
	}
}

// TestFinish shows that a loop which is told to end lets commands come to their
// end, and begins no other.
func TestFinish(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := board.New(t, "-sd.* 0:0 660 @sleep 0.05; echo one >>TMP/said\nsd.* 0:0 660 @echo two >>TMP/said\n")
	b.Scheduler.SetJobs(1)
	var events []*uevent.Event
	for i, name := range []string{"sda", "sdb"} {
		b.Sys.Add("/devices/block/"+name, "block", fmt.Sprint("8:", i), "DEVNAME="+name)
		events = append(events, b.Sys.NewEvent("add", "/devices/block/"+name))
	}
	l, end := newLoop(b)
	b.Scheduler.Run(scheduler.Events(events...))
	end()
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

// TestSocketEvent shows which messages the loop believes.
func TestSocketEvent(t *testing.T) {
	const message = "add@/devices/x\x00ACTION=add\x00DEVPATH=/devices/x\x00SEQNUM=7\x00"
	from := func(port, groups uint32) *unix.RawSockaddrNetlink {
		return &unix.RawSockaddrNetlink{Family: unix.AF_NETLINK, Pid: port, Groups: groups}
	}
	kernel := from(0, netlink.KernelGroup)
	for _, c := range []struct {
		name string
		text string
		from *unix.RawSockaddrNetlink // nil for a sender without an address
		long bool                     // the kernel had to cut it off
		log  string
	}{
		{name: "the kernel's", text: message, from: kernel},
		{name: "a process's", text: message, from: from(4711, netlink.KernelGroup), log: "the kernel did not send"},
		{name: "of another group", text: message, from: from(0, 2), log: "the kernel did not send"},
		{name: "to nobody in particular", text: message, from: from(0, 0), log: "the kernel did not send"},
		{name: "of nobody", text: message, from: nil, log: "the kernel did not send"},
		{name: "too long", text: message, from: kernel, long: true, log: "which no uevent is"},
		{name: "udev's", text: "libudev\x00\xfe\xed\xca\xfe", from: kernel, log: uevent.ErrMalformed.Error()},
		{name: "without a devpath", text: "add@/x\x00ACTION=add\x00", from: kernel, log: uevent.ErrIncomplete.Error()},
		{name: "empty", text: "", from: kernel, log: uevent.ErrMalformed.Error()},
	} {
		logger := hotplugtest.NewLog(t)
		s := &netlink.Socket{Log: logger.Logger, Room: make([]byte, netlink.RecvBatch*uevent.MaxMessage)}
		const i = 3
		m := &s.Messages[i]
		m.Length = uint32(copy(s.Room[i*uevent.MaxMessage:], c.text))
		if c.from != nil {
			m.Header.Namelen, s.Senders[i] = unix.SizeofSockaddrNetlink, *c.from
		}
		if c.long {
			m.Header.Flags = unix.MSG_TRUNC
		}
		s.Parse(i)
		got := s.Reading.Events
		if (len(got) == 0) != (c.log != "") || s.Overrun != c.long {
			t.Errorf("%s: %v, lost %v", c.name, got, s.Overrun)
		}
		if c.log != "" {
			logger.Want(c.log)
		} else if len(logger.Lines()) > 0 {
			t.Errorf("%s: logged %q", c.name, logger.Lines())
		}
		clear(s.Room)
		if len(got) > 0 && (got[0].Devpath != "/devices/x" || got[0].Seqnum != 7) {
			t.Errorf("%s: the event keeps the buffer: %+v", c.name, got[0])
		}
	}
}

// TestColdplugByKernel asks a loop on this machine's sysfs for a coldplug: when
// there is an answer, every command of its events has ended.
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
	before := time.Now()
	a := askFor(b, "coldplug", "0.1")
	if a.Err != nil {
		t.Fatalf("%v\n%s", a.Err, strings.Join(b.Log.Lines(), "\n"))
	}
	said := b.Said("said")
	t.Logf("%d commands in %v", len(said), time.Since(before))
	if b.Running() > 0 || !b.Scheduler.IsIdle() {
		t.Error("there is an answer before the end")
	}
	silent := 0
	for _, devpath := range b.Sys.FS.Walk() {
		if b.Log.Has("sent none: " + devpath) {
			silent++
			continue
		}
		if !slices.ContainsFunc(said, func(l string) bool { return strings.HasPrefix(l, devpath+" ") }) {
			t.Errorf("no command ran for %s", devpath)
		}
	}
	if len(said) < 50 || silent > len(said) {
		t.Errorf("%d commands, %d devices are silent", len(said), silent)
	}
	b.WantNode("null", "c1:3 0660")
	if again := askFor(b, "coldplug", "0.1"); again.Err != nil || len(b.Said("said")) < 2*len(said)-2 {
		t.Errorf("once more: %v, %d commands", again.Err, len(b.Said("said")))
	}
	hotplugtest.Eventually(t, "the end of commands", func() bool { return b.Running() == 0 })
}

// TestSequence shows that each gap in the sequence numbers is noticed, and leads to a
// comparison of /dev with /sys.
func TestSequence(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := board.New(t, "")
	events := b.Disks(2)
	b.Run(events[0])
	l := &Loop{Options: loopOptions(b), sock: &netlink.Socket{Fd: -1}}
	l.auditor = coldplug.Auditor{Scheduler: b.Scheduler, Sys: b.Sys.FS, Pending: l.Pending, Delay: time.Nanosecond, Pause: time.Nanosecond}
	event := func(seqnum string) []*uevent.Event {
		return []*uevent.Event{hotplugtest.NewEvent(t, "ACTION=change", "DEVPATH=/devices/x", "SEQNUM="+seqnum)}
	}
	looks := func() int {
		return strings.Count(strings.Join(b.Log.Lines(), "\n"), "did not come: comparing with /sys")
	}
	b.Log.SetLevel(log.Info)
	for _, seqnum := range []string{"7", "8", "9", "8", "10"} {
		l.checkSequence(event(seqnum))
	}
	if looks() > 0 {
		t.Error("it looks where no number is missing")
	}
	b.WantNode("sdb", "")
	l.checkSequence(event("12"))
	b.Log.Want("sequence numbers 11 to 11 did not come")
	hotplugtest.Eventually(t, "the comparison", func() bool { return b.Node("sdb") != "" })
	l.checkSequence(event("14"))
	l.checkSequence(event("16"))
	if looks() != 3 {
		t.Errorf("logged %q", b.Log.Lines())
	}
}

// askFor makes a request as another process would, and returns its answer.
func askFor(b *board.Board, words ...string) (a hotplugtest.Answer) {
	b.T.Helper()
	hotplugtest.Within(b.T, "the answer to "+strings.Join(words, " "), func() {
		a.Err = control.Ask(b.Other(), words, func(line string) { a.Lines = append(a.Lines, line) })
	})
	return a
}
