package sink

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/hotplugtest/board"
	"devspool/hotplug/kerneltest"
	"devspool/hotplug/log"
	"devspool/hotplug/reload"
	"devspool/hotplug/scheduler"
	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// group is a listener of netlink groups, as libudev-zero is one of 4.
type group struct {
	t  *testing.T
	fd int
}

func newGroup(t *testing.T, mask uint32) *group {
	t.Helper()
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	hotplugtest.Must(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	hotplugtest.Must(t, unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: mask}))
	return &group{t, fd}
}

// next returns what came next and to which group, or "".
func (g *group) next() string {
	g.t.Helper()
	buf := make([]byte, 64<<10)
	n, from, err := unix.Recvfrom(g.fd, buf, 0)
	if err == unix.EAGAIN {
		return ""
	}
	hotplugtest.Must(g.t, err)
	return fmt.Sprintf("%d: %s", from.(*unix.SockaddrNetlink).Groups, buf[:n])
}

// sda is an event as the kernel sends it, and its message.
func sda(t *testing.T, seqnum int) (*uevent.Event, string) {
	t.Helper()
	env := []string{"ACTION=add", "DEVPATH=/devices/block/sda", "SUBSYSTEM=block", "MAJOR=8", "MINOR=0", "DEVNAME=sda", "SEQNUM=" + strconv.Itoa(seqnum)}
	return hotplugtest.NewEvent(t, env...), "add@/devices/block/sda\x00" + strings.Join(env, "\x00") + "\x00"
}

func newRebroadcast(t *testing.T, mask uint32, logger *log.Logger) *Netlink {
	t.Helper()
	b, err := NewNetlink(mask, logger)
	hotplugtest.Must(t, err)
	t.Cleanup(func() { b.sender.Close() })
	return b
}

func TestRebroadcast(t *testing.T) {
	kerneltest.OwnNetwork(t)
	logger := hotplugtest.NewLog(t)
	kernel, udev, zero := newGroup(t, 1), newGroup(t, 2), newGroup(t, 4)
	e, msg := sda(t, 7)
	newRebroadcast(t, 4, logger.Logger).Sink().Done(e, &nodes.Plan{})
	newRebroadcast(t, 6, logger.Logger).Sink().Done(e, &nodes.Plan{})
	for _, c := range []struct {
		name string
		*group
		want []string
	}{
		{"1", kernel, nil},
		{"2", udev, []string{"2: " + msg}},
		{"4", zero, []string{"4: " + msg, "4: " + msg}},
	} {
		var got []string
		for m := c.next(); m != ""; m = c.next() {
			got = append(got, m)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("to group %s came %q, want %q", c.name, got, c.want)
		}
	}
	newRebroadcast(t, 4, logger.Logger).Sink().Done(e.Late(), &nodes.Plan{Late: true})
	if got := zero.next(); got != "4: "+msg+"UEVENT_LATE=1\x00" {
		t.Errorf("of an event that came too late: %q", got)
	}
	if lines := logger.Lines(); len(lines) > 0 {
		t.Errorf("it says %q", lines)
	}
}

// TestRebroadcastUnheard is about groups with no listener, or one that does not read.
func TestRebroadcastUnheard(t *testing.T) {
	kerneltest.OwnNetwork(t)
	logger := hotplugtest.NewLog(t)
	b := newRebroadcast(t, 12, logger.Logger)
	deaf := newGroup(t, 8)
	hotplugtest.Must(t, unix.SetsockoptInt(deaf.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4096))
	e, _ := sda(t, 7)
	hotplugtest.Within(t, "the sending", func() {
		for range 1000 {
			b.Sink().Done(e, &nodes.Plan{})
		}
	})
	if _, err := unix.Read(deaf.fd, make([]byte, 4096)); err != unix.ENOBUFS {
		t.Errorf("the listener's buffer did not overrun: %v", err)
	}
	if lines := logger.Lines(); len(lines) > 0 {
		t.Errorf("it says %q", lines)
	}
}

// TestRebroadcastForbidden sends as nobody.
func TestRebroadcastForbidden(t *testing.T) {
	kerneltest.OwnNetwork(t)
	logger := hotplugtest.NewLog(t)
	b := newRebroadcast(t, 6, logger.Logger)
	as := func(uid uintptr) {
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uid, uid, 0); errno != 0 {
			t.Fatal(errno)
		}
	}
	as(65534)
	e, _ := sda(t, 7)
	for range 3 {
		b.Sink().Done(e, &nodes.Plan{})
	}
	as(0)
	if lines := logger.Lines(); len(lines) != 1 || !strings.Contains(lines[0], "warning: not sent to group 2: add /devices/block/sda: operation not permitted") {
		t.Errorf("it says %q", lines)
	}
}

// TestRebroadcastAtTheEnd shows that an event is told of when its node is there
// and its command has run, and not before.
func TestRebroadcastAtTheEnd(t *testing.T) {
	kerneltest.OwnNetwork(t)
	b := board.New(t, "sda 0:0 660 @until test -e TMP/go; do sleep 0.01; done; echo x >TMP/ran\n")
	g := newGroup(t, 4)
	b.Done(newRebroadcast(t, 4, b.Log.Logger).Sink().Done)
	b.Sys.Add("/devices/block/sda", "block", "8:0", "DEVNAME=sda")
	e, msg := sda(t, 7)
	batch := b.Scheduler.Run(scheduler.Events(e))
	b.WantNode("sda", "b8:0 0660")
	if got := g.next(); got != "" {
		t.Errorf("before its command has run: %q", got)
	}
	hotplugtest.WriteFile(t, filepath.Join(b.Tmp, "go"), "")
	b.Wait(batch)
	if got := g.next(); got != "4: "+msg {
		t.Errorf("came %q, want %q", got, msg)
	}
	if b.Said("ran") == nil {
		t.Error("the command has not run")
	}
}

// testPipe returns a Pipe to a pipe, and where to read. serve starts its writer.
func testPipe(t *testing.T, logger *log.Logger) (o *Pipe, reader *os.File) {
	t.Helper()
	var p [2]int
	hotplugtest.Must(t, unix.Pipe2(p[:], unix.O_CLOEXEC))
	reader = os.NewFile(uintptr(p[0]), "reader")
	o = newPipe(p[1], logger)
	t.Cleanup(func() {
		reader.Close()
		o.Flush(hotplugtest.Patience)
		o.file.Close()
	})
	return o, reader
}

func TestOutput(t *testing.T) {
	logger := hotplugtest.NewLog(t)
	o, reader := testPipe(t, logger.Logger)
	go o.serve()
	var want string
	for seqnum := range 100 {
		e, msg := sda(t, seqnum)
		o.Sink().Done(e, &nodes.Plan{})
		o.Sink().Done(e.Late(), &nodes.Plan{Late: true})
		want += msg + "\x00" + msg + "UEVENT_LATE=1\x00\x00"
	}
	hotplugtest.Within(t, "all events", func() { o.Flush(hotplugtest.Patience) })
	got := make([]byte, len(want)+1)
	if n, err := reader.Read(got); err != nil || string(got[:n]) != want {
		t.Errorf("came %q, error %v; want %q", got[:n], err, want)
	}
	if lines := logger.Lines(); len(lines) > 0 {
		t.Errorf("it says %q", lines)
	}
}

// TestOutputSlow fills the queue while nobody reads: what no longer fits is one
// gap, of which the log tells the begin and the end; nothing waits.
func TestOutputSlow(t *testing.T) {
	logger := hotplugtest.NewLog(t)
	o, reader := testPipe(t, logger.Logger)
	plan := &nodes.Plan{}
	done := func(seqnum int) {
		e, _ := sda(t, seqnum)
		o.Sink().Done(e, plan)
	}
	hotplugtest.Within(t, "the queuing", func() {
		for seqnum := 1; seqnum <= outputQueue+10; seqnum++ {
			done(seqnum)
		}
	})
	<-o.queue // there is room again, but not enough
	done(outputQueue + 11)
	for len(o.queue) > outputQueue/2 {
		<-o.queue
	}
	done(outputQueue + 12)
	done(outputQueue + 13)
	last, begins := fmt.Sprint(outputQueue+12), fmt.Sprint(outputQueue+1)
	if lines := logger.Lines(); len(lines) != 2 ||
		!strings.Contains(lines[0], "loses events from SEQNUM "+begins) ||
		!strings.Contains(lines[1], "has lost 11 events, up to SEQNUM "+last) {
		t.Errorf("it says %q", lines)
	}
	go o.serve()
	var got []byte
	buf := make([]byte, 64<<10)
	end := []byte("SEQNUM=" + strconv.Itoa(outputQueue+13) + "\x00\x00")
	hotplugtest.Within(t, "the rest", func() {
		for !bytes.HasSuffix(got, end) {
			n, err := reader.Read(buf)
			if err != nil {
				t.Error(err)
				return
			}
			got = append(got, buf[:n]...)
		}
	})
	// Half of the queue, the gap in their place, and two more.
	if n := bytes.Count(got, []byte("\x00\x00")); n != outputQueue/2+3 {
		t.Errorf("%d events came, want %d", n, outputQueue/2+3)
	}
	if !bytes.Contains(got, []byte("UEVENT_GAP=1\x00REASON=11 events were lost")) {
		t.Error("the reader is not told of its loss")
	}
}

// TestOutputBlocked gives a reader that does not read more than a pipe holds: who
// ends waits for it no longer than it said.
func TestOutputBlocked(t *testing.T) {
	o, _ := testPipe(t, hotplugtest.NewLog(t).Logger)
	go o.serve()
	e, _ := sda(t, 1)
	for range outputQueue {
		o.Sink().Done(e, &nodes.Plan{})
	}
	hotplugtest.Within(t, "the end", func() { o.Flush(reload.Debounce) })
	if len(o.queue) == 0 {
		t.Error("the pipe took everything")
	}
}

// TestOutputBroken is about a reader that goes: the log says so once, and nothing
// else changes.
func TestOutputBroken(t *testing.T) {
	logger := hotplugtest.NewLog(t)
	o, reader := testPipe(t, logger.Logger)
	reader.Close()
	go o.serve()
	e, _ := sda(t, 1)
	for range 3 {
		for range outputQueue {
			o.Sink().Done(e, &nodes.Plan{})
		}
		hotplugtest.Within(t, "the queue", func() { o.Flush(hotplugtest.Patience) })
	}
	if lines := logger.Lines(); len(lines) != 1 || !strings.Contains(lines[0], "no further event is written to descriptor") || !strings.Contains(lines[0], "broken pipe") {
		t.Errorf("it says %q", lines)
	}
}

// TestGapIsTold shows that listeners hear of lost events, as an event that no
// device could be taken for.
func TestGapIsTold(t *testing.T) {
	var p [2]int
	hotplugtest.Must(t, unix.Pipe2(p[:], unix.O_CLOEXEC))
	defer unix.Close(p[0])
	logger := hotplugtest.NewLog(t).Logger
	o := NewPipe(p[1], logger)
	scheduler.New(scheduler.Options{Log: logger, Sinks: []scheduler.Sink{o.Sink()}}).Gap("the kernel dropped events")
	o.Flush(hotplugtest.Patience)
	buf := make([]byte, 4096)
	n, err := unix.Read(p[0], buf)
	hotplugtest.Must(t, err)
	want := "change@/\x00ACTION=change\x00DEVPATH=/\x00SUBSYSTEM=devspool\x00UEVENT_GAP=1\x00REASON=the kernel dropped events\x00\x00"
	if got := string(buf[:n]); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
