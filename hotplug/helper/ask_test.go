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

// attending asks as a process does that needs no loop.
func attending(b *board.Board, words ...string) <-chan hotplugtest.Answer {
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

func attend(b *board.Board, words ...string) (a hotplugtest.Answer) {
	b.T.Helper()
	hotplugtest.Within(b.T, "the answer to "+strings.Join(words, " "), func() { a = <-attending(b, words...) })
	return a
}

// refuses fails the test where the answer is not an error with this text.
func refuses(b *board.Board, want string, words ...string) {
	b.T.Helper()
	if a := attend(b, words...); a.Err == nil || a.Err.Error() != want {
		b.T.Errorf("%q: the answer is %q, %v, want %q", words, a.Lines, a.Err, want)
	}
}

// kernelSays sets what the kernel says of its helpers.
func kernelSays(b *board.Board, helper, seqnum string) {
	b.T.Helper()
	for name, text := range map[string]string{"uevent_helper": helper, "uevent_seqnum": seqnum} {
		name = filepath.Join(string(b.Sys.FS), "kernel", name)
		hotplugtest.WriteFile(b.T, name+".new", text+"\n")
		hotplugtest.Must(b.T, os.Rename(name+".new", name))
	}
}

// serverLeft writes what a server leaves, and returns its path.
func serverLeft(b *board.Board, text string) string {
	b.T.Helper()
	_, err := b.Dev.LockDev() // which makes the private directory
	hotplugtest.Must(b.T, err)
	hotplugtest.Must(b.T, b.Dev.UnlockDev())
	path := filepath.Join(b.Dir, nodes.Private, leaderLock)
	hotplugtest.WriteFile(b.T, path, text)
	return path
}

// TestWaitAlone waits where there is no loop and no helper.
func TestWaitAlone(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := board.New(t, "")
	all := []string{"wait", "20", "/dev/sda", "/devices/block/sda", "DEVNAME=sda"}
	answers := attending(b, all...)
	hotplugtest.Still(t, "without the device", answers)
	b.Run(b.Disks(1)...)
	hotplugtest.Ends(t, "all", answers)
	all[1] = "0"
	hotplugtest.Ends(t, "at once", attending(b, all...))
	refuses(b, "timed out: not there: ID=x", "wait", "0.05", "/dev/sda", "ID=x")
	refuses(b, `cannot wait for "sda"; name a path below /dev, a devpath, or KEY=VALUE of an event`, "wait", "20", "sda")
	for _, words := range [][]string{{"settle", "20", "0"}, {"status"}, {"ping"}} {
		refuses(b, control.ErrNoLoop.Error(), words...)
	}
}

// TestWaitAloneTakenBack is about a property of a device that goes while others
// are waited for.
func TestWaitAloneTakenBack(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := board.New(t, "")
	b.Sys.Add("/devices/block/sda", "block", "8:0", "DEVNAME=sda", "ID=x")
	answers := attending(b, "wait", "20", "ID=x", "DEVNAME=sdb")
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

// TestSettleBetweenServers settles where the kernel starts helpers, and none runs.
func TestSettleBetweenServers(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := board.New(t, "")
	kernelSays(b, "/sbin/devspool", "7")
	hotplugtest.Ends(t, "where no helper ever ran", attending(b, "settle", "20", "0"))
	refuses(b, "timed out: events have just come", "settle", "0", "0")
	refuses(b, control.ErrNoLoop.Error(), "ping")
	lock := serverLeft(b, "1 3\n5 7\n")
	hotplugtest.Ends(t, "where all is done", attending(b, "settle", "0", "0"))
	refuses(b, "timed out: events still come", "settle", "0.1", "20")

	answers := attending(b, "settle", "20", "1")
	start := time.Now()
	for n := range 6 {
		serverLeft(b, "1 1"+string(rune('0'+n))+"\n")
		kernelSays(b, "/sbin/devspool", "1"+string(rune('0'+n)))
		time.Sleep(200 * time.Millisecond)
	}
	hotplugtest.Ends(t, "silence", answers)
	if took := time.Since(start); took < 2*time.Second {
		t.Errorf("events came for a second, but it took %v", took)
	}

	serverLeft(b, serving)
	fd, err := unix.Open(lock, unix.O_RDONLY, 0)
	hotplugtest.Must(t, err)
	defer unix.Close(fd)
	hotplugtest.Must(t, unix.Flock(fd, unix.LOCK_EX))
	for _, words := range [][]string{{"settle", "0.1", "0"}, {"status"}} {
		refuses(b, "timed out: a helper is running, and does not answer", words...)
	}
	answers = attending(b, "settle", "20", "0")
	hotplugtest.Still(t, "while a helper works", answers)
	serverLeft(b, "1 15\n")
	hotplugtest.Must(t, unix.Flock(fd, unix.LOCK_UN))
	hotplugtest.Ends(t, "after it", answers)

	serverLeft(b, serving)
	refuses(b, "timed out: "+leaderDied, "settle", "1", "0")
	if a := attend(b, "status"); !slices.Contains(a.Lines, "last error: "+leaderDied) || a.Err != nil {
		t.Errorf("status: %q, %v", a.Lines, a.Err)
	}
}

// TestServerComes has who waits ask a server that comes, and look on where it
// leaves without an answer.
func TestServerComes(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := board.New(t, "")
	kernelSays(b, "/sbin/devspool", "7")
	serverLeft(b, "1 7\n")
	wait := attending(b, "wait", "20", "/dev/sda")
	source := &fakeSource{}
	source.coming.Store(true)
	c, err := control.Listen(control.Options{Scheduler: b.Scheduler, Config: b.Config, Dev: b.Dev, Sys: b.Sys.FS, Log: b.Log.Logger, Source: source})
	hotplugtest.Must(t, err)
	hotplugtest.Still(t, "without the device", wait)
	b.Run(b.Disks(1)...)
	hotplugtest.Still(t, "while events come", wait) // which only the server knows
	source.coming.Store(false)
	hotplugtest.Ends(t, "the device", wait)
	c.Close()

	listener, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	hotplugtest.Must(t, err)
	address := filepath.Join(b.Dir, nodes.Private, "control")
	hotplugtest.Must(t, unix.Bind(listener, &unix.SockaddrUnix{Name: address}))
	hotplugtest.Must(t, unix.Listen(listener, 1))
	wait = attending(b, "wait", "20", "/dev/sdz")
	time.Sleep(20 * sys.PollInterval)
	hotplugtest.Must(t, unix.Close(listener)) // with the request in it
	b.Sys.Add("/devices/block/sdz", "block", "8:99", "DEVNAME=sdz")
	b.Run(b.Sys.NewEvent("add", "/devices/block/sdz"))
	hotplugtest.Ends(t, "a server that left", wait)
}

// TestWaitBetweenServers waits for a node that the kernel makes, and for the end of
// its event.
func TestWaitBetweenServers(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := board.New(t, "")
	kernelSays(b, "/sbin/devspool", "7")
	serverLeft(b, "1 6\n")
	b.Run(b.Disks(1)...)
	answers := attending(b, "wait", "20", "/dev/sda")
	start := time.Now()
	hotplugtest.Ends(t, "the node", answers)
	if took := time.Since(start); took < handOverTime {
		t.Errorf("the helper had %v to come", took)
	}
	hotplugtest.Ends(t, "the node is there", attending(b, "wait", "0", "/dev/sda"))
}

// TestStatusBetweenServers tells how the board is set up.
func TestStatusBetweenServers(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := board.New(t, "")
	kernelSays(b, "/sbin/devspool", "7")
	serverLeft(b, "1 3\n5 6\n")
	want := []string{
		"serving: " + b.Dir + ", as the kernel's helper, which runs for events only: /sbin/devspool",
		"events: the last has SEQNUM 7, the last that was done 6",
		"under way: 0",
	}
	if a := attend(b, "status"); !slices.Equal(a.Lines, want) || a.Err != nil {
		t.Errorf("status: %q, %v", a.Lines, a.Err)
	}
	kernelSays(b, "", "7")
	refuses(b, control.ErrNoLoop.Error(), "status")
}

// TestServerPending shows that a server knows of events that are still to be handed
// over, and does not wait for ever for numbers that are used up elsewhere.
func TestServerPending(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := board.New(t, "")
	s := &leader{Options: helper(b)}
	if s.Pending() {
		t.Error("pending, while the kernel does not say what it sent")
	}
	kernelSays(b, "", "5")
	start := time.Now()
	first := s.Pending()
	if took := time.Since(start); !first && took < handOverTime {
		t.Error("an event that was just sent is not pending")
	}
	b.Run(hotplugtest.NewEvent(t, "ACTION=change", "DEVPATH=/devices/x", "SEQNUM=5"))
	if s.Pending() {
		t.Error("it came, and is pending")
	}
	kernelSays(b, "", "7")
	start = time.Now()
	hotplugtest.Eventually(t, "the end of it", func() bool { return !s.Pending() })
	if took := time.Since(start); took < handOverTime {
		t.Errorf("given up after %v", took)
	}
}

// fakeSource is a source of events that are on their way for as long as the test says.
type fakeSource struct{ coming atomic.Bool }

func (s *fakeSource) Name() string              { return "a test" }
func (s *fakeSource) Pending() bool             { return s.coming.Load() }
func (s *fakeSource) Stop(gone <-chan struct{}) { <-gone }
