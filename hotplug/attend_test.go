package hotplug

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/sys"
	"devspool/nodes"
)

// attending asks as a process does that needs no loop.
func attending(b *board, words ...string) <-chan answer {
	b.t.Helper()
	dev := b.other()
	answers := make(chan answer, 1)
	go func() {
		var a answer
		a.err = AskAnyway(dev, b.sys.FS, words, func(line string) { a.lines = append(a.lines, line) })
		answers <- a
	}()
	return answers
}

func attend(b *board, words ...string) (a answer) {
	b.t.Helper()
	hotplugtest.Within(b.t, "the answer to "+strings.Join(words, " "), func() { a = <-attending(b, words...) })
	return a
}

// refuses fails the test where the answer is not an error with this text.
func refuses(b *board, want string, words ...string) {
	b.t.Helper()
	if a := attend(b, words...); a.err == nil || a.err.Error() != want {
		b.t.Errorf("%q: the answer is %q, %v, want %q", words, a.lines, a.err, want)
	}
}

// kernelSays sets what the kernel says of its helpers.
func kernelSays(b *board, helper, seqnum string) {
	b.t.Helper()
	for name, text := range map[string]string{"uevent_helper": helper, "uevent_seqnum": seqnum} {
		name = filepath.Join(string(b.sys.FS), "kernel", name)
		hotplugtest.WriteFile(b.t, name+".new", text+"\n")
		hotplugtest.Must(b.t, os.Rename(name+".new", name))
	}
}

// serverLeft writes what a server leaves, and returns its path.
func serverLeft(b *board, text string) string {
	b.t.Helper()
	_, err := b.dev.Lock() // which makes the private directory
	hotplugtest.Must(b.t, err)
	hotplugtest.Must(b.t, b.dev.Unlock())
	path := filepath.Join(b.dir, nodes.Private, leaderLock)
	hotplugtest.WriteFile(b.t, path, text)
	return path
}

// TestWaitAlone waits where there is no loop and no helper.
func TestWaitAlone(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := newBoard(t, "")
	all := []string{"wait", "20", "/dev/sda", "/devices/block/sda", "DEVNAME=sda"}
	answers := attending(b, all...)
	still(t, "without the device", answers)
	b.run(b.disks(1)...)
	ends(t, "all", answers)
	all[1] = "0"
	ends(t, "at once", attending(b, all...))
	refuses(b, "timed out: not there: ID=x", "wait", "0.05", "/dev/sda", "ID=x")
	refuses(b, `cannot wait for "sda"; name a path below /dev, a devpath, or KEY=VALUE of an event`, "wait", "20", "sda")
	for _, words := range [][]string{{"settle", "20", "0"}, {"status"}, {"ping"}} {
		refuses(b, ErrNoLoop.Error(), words...)
	}
}

// TestWaitAloneTakenBack is about a property of a device that goes while others
// are waited for.
func TestWaitAloneTakenBack(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := newBoard(t, "")
	b.sys.Add("/devices/block/sda", "block", "8:0", "DEVNAME=sda", "ID=x")
	answers := attending(b, "wait", "20", "ID=x", "DEVNAME=sdb")
	time.Sleep(20 * sys.PollInterval)
	b.sys.Remove("/devices/block/sda")
	b.sys.Add("/devices/block/sdb", "block", "8:16", "DEVNAME=sdb")
	select {
	case a := <-answers:
		t.Errorf("there is an answer: %v", a.err)
	case <-time.After(3 * scanInterval):
	}
	b.sys.Add("/devices/block/sda", "block", "8:0", "DEVNAME=sda", "ID=x")
	ends(t, "both", answers)
}

// TestSettleBetweenServers settles where the kernel starts helpers, and none runs.
func TestSettleBetweenServers(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := newBoard(t, "")
	kernelSays(b, "/sbin/devspool", "7")
	ends(t, "where no helper ever ran", attending(b, "settle", "20", "0"))
	refuses(b, "timed out: events have just come", "settle", "0", "0")
	refuses(b, ErrNoLoop.Error(), "ping")
	lock := serverLeft(b, "1 3\n5 7\n")
	ends(t, "where all is done", attending(b, "settle", "0", "0"))
	refuses(b, "timed out: events still come", "settle", "0.1", "20")

	answers := attending(b, "settle", "20", "1")
	start := time.Now()
	for n := range 6 {
		serverLeft(b, "1 1"+string(rune('0'+n))+"\n")
		kernelSays(b, "/sbin/devspool", "1"+string(rune('0'+n)))
		time.Sleep(200 * time.Millisecond)
	}
	ends(t, "silence", answers)
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
	still(t, "while a helper works", answers)
	serverLeft(b, "1 15\n")
	hotplugtest.Must(t, unix.Flock(fd, unix.LOCK_UN))
	ends(t, "after it", answers)

	serverLeft(b, serving)
	refuses(b, "timed out: "+leaderDied, "settle", "1", "0")
	if a := attend(b, "status"); !slices.Contains(a.lines, "last error: "+leaderDied) || a.err != nil {
		t.Errorf("status: %q, %v", a.lines, a.err)
	}
}

// TestServerComes has who waits ask a server that comes, and look on where it
// leaves without an answer.
func TestServerComes(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := newBoard(t, "")
	kernelSays(b, "/sbin/devspool", "7")
	serverLeft(b, "1 7\n")
	wait := attending(b, "wait", "20", "/dev/sda")
	source := &fakeSource{}
	source.coming.Store(true)
	c, err := listen(b, source)
	hotplugtest.Must(t, err)
	still(t, "without the device", wait)
	b.run(b.disks(1)...)
	still(t, "while events come", wait) // which only the server knows
	source.coming.Store(false)
	ends(t, "the device", wait)
	c.Close()

	addr, dir, err := controlAddress(b.other())
	hotplugtest.Must(t, err)
	defer unix.Close(dir)
	listener, err := listenAt(addr)
	hotplugtest.Must(t, err)
	wait = attending(b, "wait", "20", "/dev/sdz")
	time.Sleep(20 * sys.PollInterval)
	hotplugtest.Must(t, listener.Close()) // with the request in it
	b.sys.Add("/devices/block/sdz", "block", "8:99", "DEVNAME=sdz")
	b.run(b.sys.NewEvent("add", "/devices/block/sdz"))
	ends(t, "a server that left", wait)
}

// TestWaitBetweenServers waits for a node that the kernel makes, and for the end of
// its event.
func TestWaitBetweenServers(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := newBoard(t, "")
	kernelSays(b, "/sbin/devspool", "7")
	serverLeft(b, "1 6\n")
	b.run(b.disks(1)...)
	answers := attending(b, "wait", "20", "/dev/sda")
	start := time.Now()
	ends(t, "the node", answers)
	if took := time.Since(start); took < handOverTime {
		t.Errorf("the helper had %v to come", took)
	}
	ends(t, "the node is there", attending(b, "wait", "0", "/dev/sda"))
}

// TestStatusBetweenServers tells how the board is set up.
func TestStatusBetweenServers(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := newBoard(t, "")
	kernelSays(b, "/sbin/devspool", "7")
	serverLeft(b, "1 3\n5 6\n")
	want := []string{
		"serving: " + b.dir + ", as the kernel's helper, which runs for events only: /sbin/devspool",
		"events: the last has SEQNUM 7, the last that was done 6",
		"under way: 0",
	}
	if a := attend(b, "status"); !slices.Equal(a.lines, want) || a.err != nil {
		t.Errorf("status: %q, %v", a.lines, a.err)
	}
	kernelSays(b, "", "7")
	refuses(b, ErrNoLoop.Error(), "status")
}

// TestServerPending shows that a server knows of events that are still to be handed
// over, and does not wait for ever for numbers that are used up elsewhere.
func TestServerPending(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := newBoard(t, "")
	s := &leader{HelperOptions: helper(b)}
	if s.Pending() {
		t.Error("pending, while the kernel does not say what it sent")
	}
	kernelSays(b, "", "5")
	start := time.Now()
	first := s.Pending()
	if took := time.Since(start); !first && took < handOverTime {
		t.Error("an event that was just sent is not pending")
	}
	b.run(hotplugtest.NewEvent(t, "ACTION=change", "DEVPATH=/devices/x", "SEQNUM=5"))
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
