package helper

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/control"
	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/hotplugtest/board"
	"devspool/hotplug/sys"
	"devspool/nodes"
)

// asking makes a request by Ask, and does not wait for the answer.
func asking(b *board.Board, words ...string) <-chan hotplugtest.Answer {
	b.T.Helper()
	dev := b.Other()
	answers := make(chan hotplugtest.Answer, 1)
	go func() {
		var a hotplugtest.Answer
		a.Err = Ask(dev, b.Sys.FS, words, nil, func(line string) { a.Lines = append(a.Lines, line) })
		answers <- a
	}()
	return answers
}

// ask makes a request by Ask, and returns the answer.
func ask(b *board.Board, words ...string) (a hotplugtest.Answer) {
	b.T.Helper()
	hotplugtest.Within(b.T, "the answer to "+strings.Join(words, " "), func() { a = <-asking(b, words...) })
	return a
}

// refuses fails the test where the answer is not an error with the text want.
func refuses(b *board.Board, want string, words ...string) {
	b.T.Helper()
	if a := ask(b, words...); a.Err == nil || a.Err.Error() != want {
		b.T.Errorf("%q: the answer is %q, %v, want %q", words, a.Lines, a.Err, want)
	}
}

// kernelSays sets the files in which the kernel tells its helper and its last SEQNUM.
func kernelSays(b *board.Board, helper, seqnum string) {
	b.T.Helper()
	for name, text := range map[string]string{"uevent_helper": helper, "uevent_seqnum": seqnum} {
		name = filepath.Join(string(b.Sys.FS), "kernel", name)
		hotplugtest.WriteFile(b.T, name+".new", text+"\n")
		hotplugtest.Must(b.T, os.Rename(name+".new", name))
	}
}

// leaveState writes the text of the leader's lock, and returns its path.
func leaveState(b *board.Board, text string) string {
	b.T.Helper()
	_, err := b.Dev.LockDev() // which makes the private directory
	hotplugtest.Must(b.T, err)
	hotplugtest.Must(b.T, b.Dev.UnlockDev())
	path := filepath.Join(b.Dir, nodes.Private, leaderLock)
	hotplugtest.WriteFile(b.T, path, text)
	return path
}

// TestWaitUnserved waits where no loop and no helper serves.
func TestWaitUnserved(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "")
	all := []string{"wait", "20", "/dev/sda", "/devices/block/sda", "DEVNAME=sda"}
	answers := asking(b, all...)
	hotplugtest.Still(t, "without the device", answers)
	b.Run(b.Disks(1)...)
	hotplugtest.Ends(t, "all", answers)
	all[1] = "0"
	hotplugtest.Ends(t, "at once", asking(b, all...))
	refuses(b, "timed out: still missing: ID=x", "wait", "0.05", "/dev/sda", "ID=x")
	refuses(b, `cannot wait for "sda"; name a path below /dev, a devpath, or KEY=VALUE of an event`, "wait", "20", "sda")
	for _, words := range [][]string{{"settle", "20", "0"}, {"status"}, {"ping"}} {
		refuses(b, control.ErrNoLoop.Error(), words...)
	}
}

// TestWaitUnservedPropertyLost is about a property of a device that is removed while another target is
// still missing.
func TestWaitUnservedPropertyLost(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "")
	b.Sys.Add("/devices/block/sda", "block", "8:0", "DEVNAME=sda", "ID=x")
	answers := asking(b, "wait", "20", "ID=x", "DEVNAME=sdb")
	time.Sleep(20 * sys.PollInterval)
	b.Sys.Remove("/devices/block/sda")
	b.Sys.Add("/devices/block/sdb", "block", "8:16", "DEVNAME=sdb")
	select {
	case a := <-answers:
		t.Errorf("there is an answer: %v", a.Err)
	case <-time.After(3 * scanInterval):
	}
	b.Sys.Add("/devices/block/sda", "block", "8:0", "DEVNAME=sda", "ID=x")
	hotplugtest.Ends(t, "both", answers)
}

// TestSettleBetweenLeaders settles where the kernel starts helpers, and none runs.
func TestSettleBetweenLeaders(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "")
	kernelSays(b, "/sbin/devspool", "7")
	hotplugtest.Ends(t, "where no helper ever ran", asking(b, "settle", "20", "0"))
	refuses(b, "timed out: events have just come", "settle", "0", "0")
	refuses(b, control.ErrNoLoop.Error(), "ping")
	lock := leaveState(b, "1 3\n5 7\n")
	hotplugtest.Ends(t, "where all is done", asking(b, "settle", "0", "0"))
	refuses(b, "timed out: events are still coming", "settle", "0.1", "20")

	answers := asking(b, "settle", "20", "1")
	start := time.Now()
	for n := range 6 {
		leaveState(b, "1 1"+string(rune('0'+n))+"\n")
		kernelSays(b, "/sbin/devspool", "1"+string(rune('0'+n)))
		time.Sleep(200 * time.Millisecond)
	}
	hotplugtest.Ends(t, "the quiet time", answers)
	if took := time.Since(start); took < 2*time.Second {
		t.Errorf("events came for a second, but it took %v", took)
	}

	leaveState(b, stateServing)
	fd, err := unix.Open(lock, unix.O_RDONLY, 0)
	hotplugtest.Must(t, err)
	defer unix.Close(fd)
	hotplugtest.Must(t, unix.Flock(fd, unix.LOCK_EX))
	for _, words := range [][]string{{"settle", "0.1", "0"}, {"status"}} {
		refuses(b, "timed out: a helper is running, and does not answer", words...)
	}
	answers = asking(b, "settle", "20", "0")
	hotplugtest.Still(t, "while a helper works", answers)
	leaveState(b, "1 15\n")
	hotplugtest.Must(t, unix.Flock(fd, unix.LOCK_UN))
	hotplugtest.Ends(t, "after it", answers)

	leaveState(b, stateServing)
	refuses(b, "timed out: "+leaderDied, "settle", "1", "0")
	if a := ask(b, "status"); !slices.Contains(a.Lines, "last error: "+leaderDied) || a.Err != nil {
		t.Errorf("status: %q, %v", a.Lines, a.Err)
	}
}

// TestLeaderComes shows that a wait asks a leader that comes, and polls again where that leaves without
// an answer.
func TestLeaderComes(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "")
	kernelSays(b, "/sbin/devspool", "7")
	leaveState(b, "1 7\n")
	wait := asking(b, "wait", "20", "/dev/sda")
	source := &fakeSource{}
	source.pending.Store(true)
	c, err := control.Listen(control.Options{Scheduler: b.Scheduler, Config: b.Config, Dev: b.Dev, Sys: b.Sys.FS, Log: b.Log.Logger, Source: source})
	hotplugtest.Must(t, err)
	hotplugtest.Still(t, "without the device", wait)
	b.Run(b.Disks(1)...)
	hotplugtest.Still(t, "while events are pending", wait) // which only the leader knows
	source.pending.Store(false)
	hotplugtest.Ends(t, "the device", wait)
	c.Close()

	listener, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	hotplugtest.Must(t, err)
	address := filepath.Join(b.Dir, nodes.Private, "control")
	hotplugtest.Must(t, unix.Bind(listener, &unix.SockaddrUnix{Name: address}))
	hotplugtest.Must(t, unix.Listen(listener, 1))
	wait = asking(b, "wait", "20", "/dev/sdz")
	time.Sleep(20 * sys.PollInterval)
	hotplugtest.Must(t, unix.Close(listener)) // with the request in it
	b.Sys.Add("/devices/block/sdz", "block", "8:99", "DEVNAME=sdz")
	b.Run(b.Sys.NewEvent("add", "/devices/block/sdz"))
	hotplugtest.Ends(t, "the device after a leader that left", wait)
}

// TestWaitBetweenLeaders waits for a node that the kernel makes, and for the end of its event.
func TestWaitBetweenLeaders(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "")
	kernelSays(b, "/sbin/devspool", "7")
	leaveState(b, "1 6\n")
	b.Run(b.Disks(1)...)
	answers := asking(b, "wait", "20", "/dev/sda")
	start := time.Now()
	hotplugtest.Ends(t, "the node", answers)
	if took := time.Since(start); took < handOverTime {
		t.Errorf("the helper had %v to come", took)
	}
	hotplugtest.Ends(t, "the node is there", asking(b, "wait", "0", "/dev/sda"))
}

// TestStatusBetweenLeaders shows the status where the kernel starts helpers, and none runs.
func TestStatusBetweenLeaders(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "")
	kernelSays(b, "/sbin/devspool", "7")
	leaveState(b, "1 3\n5 6\n")
	want := []string{
		"serving: " + b.Dir + ", as the kernel's helper, which runs for events only: /sbin/devspool",
		"events: the last has SEQNUM 7, the last that was done 6",
		"under way: 0",
	}
	if a := ask(b, "status"); !slices.Equal(a.Lines, want) || a.Err != nil {
		t.Errorf("status: %q, %v", a.Lines, a.Err)
	}
	kernelSays(b, "", "7")
	refuses(b, control.ErrNoLoop.Error(), "status")
}

// TestLeaderPending shows that events which are still to be handed over are pending for a while, and not
// for ever: other network namespaces use SEQNUMs too.
func TestLeaderPending(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "")
	l := &leader{Options: helperOptions(b)}
	if l.Pending() {
		t.Error("pending, while the kernel does not say what it sent")
	}
	kernelSays(b, "", "5")
	start := time.Now()
	first := l.Pending()
	if took := time.Since(start); !first && took < handOverTime {
		t.Error("an event that was just sent is not pending")
	}
	b.Run(hotplugtest.NewEvent(t, "ACTION=change", "DEVPATH=/devices/x", "SEQNUM=5"))
	if l.Pending() {
		t.Error("it came, and is pending")
	}
	kernelSays(b, "", "7")
	start = time.Now()
	hotplugtest.Eventually(t, "the end of it", func() bool { return !l.Pending() })
	if took := time.Since(start); took < handOverTime {
		t.Errorf("not pending any more after %v", took)
	}
}

// fakeSource is a source that has pending events for as long as the test says.
type fakeSource struct{ pending atomic.Bool }

func (s *fakeSource) Name() string              { return "a test" }
func (s *fakeSource) Pending() bool             { return s.pending.Load() }
func (s *fakeSource) Stop(gone <-chan struct{}) { <-gone }
