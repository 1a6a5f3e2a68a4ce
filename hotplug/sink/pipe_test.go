package sink

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/log"
	"devspool/hotplug/scheduler"
	"devspool/nodes"
)

// testPipe returns a Pipe that writes to a pipe, and the other end of that. The test starts
// serve.
func testPipe(t *testing.T, logger *log.Logger) (p *Pipe, reader *os.File) {
	t.Helper()
	var fds [2]int
	hotplugtest.Must(t, unix.Pipe2(fds[:], unix.O_CLOEXEC))
	reader = os.NewFile(uintptr(fds[0]), "reader")
	p = newPipe(fds[1], logger)
	t.Cleanup(func() {
		reader.Close()
		p.Flush(hotplugtest.Patience)
		p.file.Close()
	})
	return p, reader
}

// TestPipe shows what is written, and that Flush waits for it.
func TestPipe(t *testing.T) {
	t.Parallel()
	logger := hotplugtest.NewLog(t)
	p, reader := testPipe(t, logger.Logger)
	go p.serve()
	var want string
	for seqnum := range 100 {
		e, msg := sda(t, seqnum)
		p.Sink().Done(e, &nodes.Plan{})
		p.Sink().Done(e.Late(), &nodes.Plan{Late: true})
		want += msg + "\x00" + msg + "UEVENT_LATE=1\x00\x00"
	}
	hotplugtest.Within(t, "all events", func() { p.Flush(hotplugtest.Patience) })
	got := make([]byte, len(want)+1)
	if n, err := reader.Read(got); err != nil || string(got[:n]) != want {
		t.Errorf("came %q, error %v; want %q", got[:n], err, want)
	}
	if lines := logger.Lines(); len(lines) > 0 {
		t.Errorf("the log has %q", lines)
	}
}

// TestPipeSlow fills the queue while nothing is read: the events that do not fit become one
// gap, whose begin and end the log has; nothing blocks.
func TestPipeSlow(t *testing.T) {
	t.Parallel()
	logger := hotplugtest.NewLog(t)
	p, reader := testPipe(t, logger.Logger)
	plan := &nodes.Plan{}
	done := func(seqnum int) {
		e, _ := sda(t, seqnum)
		p.Sink().Done(e, plan)
	}
	hotplugtest.Within(t, "the queuing", func() {
		for seqnum := 1; seqnum <= pipeQueue+10; seqnum++ {
			done(seqnum)
		}
	})
	<-p.queue // there is room again, but less than half of the queue
	done(pipeQueue + 11)
	for len(p.queue) > pipeQueue/2 {
		<-p.queue
	}
	done(pipeQueue + 12)
	done(pipeQueue + 13)
	last, begins := fmt.Sprint(pipeQueue+12), fmt.Sprint(pipeQueue+1)
	if lines := logger.Lines(); len(lines) != 2 ||
		!strings.Contains(lines[0], "loses events from SEQNUM "+begins) ||
		!strings.Contains(lines[1], "has lost 11 events, up to SEQNUM "+last) {
		t.Errorf("the log has %q", lines)
	}
	go p.serve()
	var got []byte
	buf := make([]byte, 64<<10)
	end := []byte("SEQNUM=" + strconv.Itoa(pipeQueue+13) + "\x00\x00")
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
	if n := bytes.Count(got, []byte("\x00\x00")); n != pipeQueue/2+3 {
		t.Errorf("%d events came, want %d", n, pipeQueue/2+3)
	}
	if !bytes.Contains(got, []byte("UEVENT_GAP=1\x00REASON=11 events were lost")) {
		t.Error("the reader did not get the gap")
	}
}

// TestPipeBlocked shows that Flush waits no longer than its limit for a reader that does not
// read.
func TestPipeBlocked(t *testing.T) {
	t.Parallel()
	p, _ := testPipe(t, hotplugtest.NewLog(t).Logger)
	go p.serve()
	e, _ := sda(t, 1)
	for range pipeQueue {
		p.Sink().Done(e, &nodes.Plan{})
	}
	hotplugtest.Within(t, "the end", func() { p.Flush(50 * time.Millisecond) })
	if len(p.queue) == 0 {
		t.Error("the pipe took everything")
	}
}

// TestPipeBroken shows that the log has one line when the reader has gone, and that nothing
// blocks.
func TestPipeBroken(t *testing.T) {
	t.Parallel()
	logger := hotplugtest.NewLog(t)
	p, reader := testPipe(t, logger.Logger)
	reader.Close()
	go p.serve()
	e, _ := sda(t, 1)
	for range 3 {
		for range pipeQueue {
			p.Sink().Done(e, &nodes.Plan{})
		}
		hotplugtest.Within(t, "the queue", func() { p.Flush(hotplugtest.Patience) })
	}
	if lines := logger.Lines(); len(lines) != 1 || !strings.Contains(lines[0], "no further event is written to descriptor") || !strings.Contains(lines[0], "broken pipe") {
		t.Errorf("the log has %q", lines)
	}
}

// TestPipeGap shows the event that stands for a gap, which is about no device.
func TestPipeGap(t *testing.T) {
	t.Parallel()
	var fds [2]int
	hotplugtest.Must(t, unix.Pipe2(fds[:], unix.O_CLOEXEC))
	defer unix.Close(fds[0])
	logger := hotplugtest.NewLog(t).Logger
	p := NewPipe(fds[1], logger)
	scheduler.New(scheduler.Options{Log: logger, Sinks: []scheduler.Sink{p.Sink()}}).Gap("the kernel dropped events")
	p.Flush(hotplugtest.Patience)
	buf := make([]byte, 4096)
	n, err := unix.Read(fds[0], buf)
	hotplugtest.Must(t, err)
	want := "change@/\x00ACTION=change\x00DEVPATH=/\x00SUBSYSTEM=devspool\x00UEVENT_GAP=1\x00REASON=the kernel dropped events\x00\x00"
	if got := string(buf[:n]); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
