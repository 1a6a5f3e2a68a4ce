package hotplug

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// newLoop makes the board's Road a loop's. end tells it to end, as a signal does.
func (b *board) newLoop() (l *Loop, end func()) {
	b.t.Helper()
	l, err := NewLoop(b.Road)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		b.t.Skip("NOT TESTED: the loop: needs a netlink socket")
	}
	must(b.t, err)
	var p [2]int
	must(b.t, unix.Pipe2(p[:], unix.O_CLOEXEC))
	l.signals = p[0]
	b.t.Cleanup(func() {
		unix.Close(p[0])
		unix.Close(p[1])
		unix.Close(l.sock.fd)
	})
	return l, func() { unix.Write(p[1], []byte{0}) }
}

// serve runs a loop beside the test, until it is told to stop or the test ends.
func (b *board) serve() (stop func()) {
	b.t.Helper()
	l, end := b.newLoop()
	served := make(chan error, 1)
	go func() { served <- l.Serve() }()
	stopped := false
	stop = func() {
		b.t.Helper()
		if stopped {
			return
		}
		stopped = true
		end()
		within(b.t, "the end of the loop", func() {
			if err := <-served; err != nil {
				b.t.Error(err)
			}
		})
	}
	b.t.Cleanup(stop)
	return stop
}

// handOver asks the board's loop, as another process would, for a coldplug.
func (b *board) handOver() (served bool, err error) {
	b.t.Helper()
	within(b.t, "the answer", func() { served, err = HandOver(b.other()) })
	return served, err
}

// other opens the board's /dev as another process would.
func (b *board) other() *nodes.Dir {
	b.t.Helper()
	d, err := nodes.Open(b.dir)
	must(b.t, err)
	b.t.Cleanup(d.Close)
	return d
}

func TestHandOver(t *testing.T) {
	needRoot(t)
	b := newBoard(t, "sda 0:0 660 @sleep 0.05; echo $MDEV >>TMP/said\n")
	b.sys.add("/devices/block/sda", "block", "8:0", "DEVNAME=sda")
	if served, err := b.handOver(); served || err != nil {
		t.Errorf("without a loop: served %v, error %v", served, err)
	}
	stop := b.serve()
	for i := range 3 {
		if served, err := b.handOver(); !served || err != nil {
			t.Fatalf("served %v, error %v", served, err)
		}
		b.wantNode("sda", "b8:0 0660")
		if got := b.said("said"); len(got) != i+1 {
			t.Errorf("an answer before the commands were done: %q", got)
		}
	}
	stop()
	if served, err := b.handOver(); served || err != nil {
		t.Errorf("after the loop: served %v, error %v", served, err)
	}
}

// TestHandOverFailed shows that who asks hears of what could not be done, and of
// no failure of an earlier time.
func TestHandOverFailed(t *testing.T) {
	needRoot(t)
	b := newBoard(t, "")
	b.sys.add("/devices/block/sda", "block", "8:0", "DEVNAME=sda")
	must(t, os.Mkdir(filepath.Join(b.dir, "sda"), 0o755))
	b.serve()
	if served, err := b.handOver(); !served || err == nil || err.Error() != answerFailed {
		t.Errorf("served %v, error %v", served, err)
	}
	must(t, os.Remove(filepath.Join(b.dir, "sda")))
	if served, err := b.handOver(); !served || err != nil {
		t.Errorf("served %v, error %v", served, err)
	}
}

// TestHandOverMany lets many ask at once, more than wait in a listener's queue.
func TestHandOverMany(t *testing.T) {
	needRoot(t)
	b := newBoard(t, "sda 0:0 660 @true\n")
	b.sys.add("/devices/block/sda", "block", "8:0", "DEVNAME=sda")
	b.serve()
	const many = 40
	answers := make(chan error, many)
	for range many {
		d := b.other()
		go func() {
			served, err := HandOver(d)
			if !served {
				err = errors.Join(err, errors.New("not served"))
			}
			answers <- err
		}()
	}
	within(t, "the answers", func() {
		for range many {
			if err := <-answers; err != nil {
				t.Error(err)
			}
		}
	})
}

// TestHandOverAtTheEnd is about a loop that ends before it has read the request:
// who asked does the work itself.
func TestHandOverAtTheEnd(t *testing.T) {
	needRoot(t)
	for _, c := range []struct {
		name  string
		until func(l *Loop) bool // how far the loop comes
	}{
		{"not accepted", func(l *Loop) bool { return true }},
		{"accepted, not read", func(l *Loop) bool { l.control.accept(); return len(l.control.conns) == 1 }},
		{"read, not answered", func(l *Loop) bool {
			l.control.accept()
			return len(l.control.conns) == 1 && l.control.serve(l.control.conns[0])
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBoard(t, "")
			l, _ := b.newLoop()
			d := b.other()
			type answer struct {
				served bool
				err    error
			}
			answers := make(chan answer, 1)
			go func() {
				served, err := HandOver(d)
				answers <- answer{served, err}
			}()
			eventually(t, "the request", func() bool {
				fds := []unix.PollFd{{Fd: int32(l.control.fd), Events: unix.POLLIN}}
				n, _ := unix.Poll(fds, 0)
				return n == 1
			})
			time.Sleep(20 * time.Millisecond) // for the request itself, which nothing shows before accept
			eventually(t, "the loop", func() bool { return c.until(l) })
			l.finish()
			within(t, "the answer", func() {
				if a := <-answers; a.served || a.err != nil {
					t.Errorf("served %v, error %v", a.served, a.err)
				}
			})
		})
	}
}

// TestOneLoop shows that a /dev has one loop, and after its end another.
func TestOneLoop(t *testing.T) {
	needRoot(t)
	b := newBoard(t, "")
	stop := b.serve()
	for range 2 {
		if _, err := NewLoop(b.road("")); !errors.Is(err, ErrRunning) {
			t.Errorf("a second loop: error %v", err)
		}
	}
	if served, err := b.handOver(); !served || err != nil {
		t.Errorf("after that: served %v, error %v", served, err)
	}
	stop()
	second := &board{Road: b.road(""), t: t, sys: b.sys, log: b.log, dir: b.dir, tmp: b.tmp}
	second.serve()
	if served, err := second.handOver(); !served || err != nil {
		t.Errorf("the next loop: served %v, error %v", served, err)
	}
}

// TestBusyLoop is about a loop that is too busy to accept: whoever would be
// another loop must find out without waiting for it, since it holds the lock that
// the first one may need.
func TestBusyLoop(t *testing.T) {
	needRoot(t)
	b := newBoard(t, "")
	l, _ := b.newLoop()
	addr, release, err := controlAddress(b.other())
	must(t, err)
	defer release()
	for range 100 { // until no more go into its queue
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		must(t, err)
		defer unix.Close(fd)
		if unix.Connect(fd, addr) != nil {
			break
		}
	}
	d := b.other()
	result := make(chan error, 1)
	go func() {
		_, err := openControl(d)
		result <- err
	}()
	select {
	case err := <-result:
		if !errors.Is(err, ErrRunning) {
			t.Errorf("error %v", err)
		}
	case <-time.After(time.Second):
		t.Error("it waits for the busy loop")
	}
	l.control.close()
	if t.Failed() {
		<-result
	}
}

// TestStrangeRequests shows that the loop drops who asks for what it does not
// know, says nothing, or hangs up, and serves the others.
func TestStrangeRequests(t *testing.T) {
	needRoot(t)
	b := newBoard(t, "")
	b.serve()
	addr, release, err := controlAddress(b.other())
	must(t, err)
	defer release()
	connect := func() int {
		fd, err := controlSocket()
		must(t, err)
		must(t, unix.Connect(fd, addr))
		return fd
	}
	for _, request := range []string{"nonsense", "coldplug\n", strings.Repeat("x", 5000), ""} {
		fd := connect()
		unix.SendmsgN(fd, []byte(request), nil, nil, unix.MSG_NOSIGNAL)
		var buf [1]byte
		within(t, "the end of the connection", func() {
			if n, _ := unix.Read(fd, buf[:]); n > 0 {
				t.Errorf("%.20q got an answer", request)
			}
		})
		unix.Close(fd)
	}
	for range 5 {
		unix.Close(connect())
	}
	silent := connect()
	defer unix.Close(silent)
	impatient := connect()
	unix.SendmsgN(impatient, []byte(requestColdplug), nil, nil, unix.MSG_NOSIGNAL)
	unix.Close(impatient)
	if served, err := b.handOver(); !served || err != nil {
		t.Errorf("served %v, error %v", served, err)
	}
}

// TestLost shows that a loop which lost events scans anew: it adds and removes.
func TestLost(t *testing.T) {
	needRoot(t)
	b := newBoard(t, "")
	b.sys.add("/devices/block/sda", "block", "8:0", "DEVNAME=sda")
	l, _ := b.newLoop()
	l.Coldplug()
	b.sys.remove("/devices/block/sda")
	b.sys.add("/devices/block/sdb", "block", "8:16", "DEVNAME=sdb")
	l.sock.lost = true
	eventually(t, "the scan", func() bool { return l.work() && !l.sock.lost })
	b.wantNode("sda", "")
	b.wantNode("sdb", "b8:16 0660")
	b.log.want("warning: the kernel dropped events")
}

// TestLoopRenewed is about a /dev that is mounted over while a loop runs: it makes
// all anew there, and answers there.
func TestLoopRenewed(t *testing.T) {
	needRoot(t)
	for _, lockless := range []bool{false, true} {
		b := newBoard(t, "")
		if lockless {
			must(t, os.Mkdir(filepath.Join(b.dir, nodes.Private), 0o755))
		}
		b.sys.add("/devices/block/sda", "block", "8:0", "DEVNAME=sda")
		l, _ := b.newLoop()
		if (l.control == nil) != lockless {
			t.Errorf("lockless %v: control %v", lockless, l.control)
		}
		must(t, os.Rename(b.dir, b.dir+".away"))
		must(t, os.Mkdir(b.dir, 0o755))
		b.Run([]*uevent.Event{b.sys.event("add", "/devices/block/sda")}) // any event shows it
		must(t, os.Remove(filepath.Join(b.dir, "sda")))
		eventually(t, "the scan", func() bool { l.work(); return b.node("sda") != "" })
		if l.control == nil {
			t.Errorf("lockless %v: on the new /dev nobody listens", lockless)
			continue
		}
		served := make(chan bool, 1)
		d := b.other()
		go func() {
			is, _ := HandOver(d)
			served <- is
		}()
		eventually(t, "an answer", func() bool {
			_, err := l.wait(0)
			must(t, err)
			l.work()
			select {
			case is := <-served:
				return is
			default:
				return false
			}
		})
	}
}

// TestFinish shows that a loop which is told to end lets commands come to their
// end, and begins no other.
func TestFinish(t *testing.T) {
	needRoot(t)
	b := newBoard(t, "-sd.* 0:0 660 @sleep 0.05; echo one >>TMP/said\nsd.* 0:0 660 @echo two >>TMP/said\n")
	b.Jobs = 1
	var events []*uevent.Event
	for i, name := range []string{"sda", "sdb"} {
		b.sys.add("/devices/block/"+name, "block", fmt.Sprint("8:", i), "DEVNAME="+name)
		events = append(events, b.sys.event("add", "/devices/block/"+name))
	}
	l, end := b.newLoop()
	b.Run(events)
	end()
	within(t, "the end", func() { must(t, l.Serve()) })
	if got := b.said("said"); !slices.Equal(got, []string{"one"}) {
		t.Errorf("the commands say %q", got)
	}
	b.wantNode("sdb", "b8:1 0660")
	if b.locked || len(b.active) > 0 || b.flying > 0 {
		t.Errorf("locked %v, %d commands, %d parts", b.locked, len(b.active), b.flying)
	}
}

// TestSocketEvent shows which messages the loop believes.
func TestSocketEvent(t *testing.T) {
	const message = "add@/devices/x\x00ACTION=add\x00DEVPATH=/devices/x\x00SEQNUM=7\x00"
	kernel := &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: kernelGroup}
	for _, c := range []struct {
		name string
		text string
		from unix.Sockaddr
		n    int // the length that the kernel reports, where it is not the text's
		log  string
		lost bool
	}{
		{name: "the kernel's", text: message, from: kernel},
		{name: "a process's", text: message, from: &unix.SockaddrNetlink{Pid: 4711, Groups: kernelGroup}, log: "the kernel did not send"},
		{name: "of another group", text: message, from: &unix.SockaddrNetlink{Groups: 2}, log: "the kernel did not send"},
		{name: "to nobody in particular", text: message, from: &unix.SockaddrNetlink{}, log: "the kernel did not send"},
		{name: "of no family", text: message, from: nil, log: "the kernel did not send"},
		{name: "too long", text: message, from: kernel, n: uevent.MaxMessage + 1, log: "longer than any uevent", lost: true},
		{name: "udev's", text: "libudev\x00\xfe\xed\xca\xfe", from: kernel, log: uevent.ErrMalformed.Error()},
		{name: "without a devpath", text: "add@/x\x00ACTION=add\x00", from: kernel, log: uevent.ErrIncomplete.Error()},
		{name: "empty", text: "", from: kernel, log: uevent.ErrMalformed.Error()},
	} {
		log := newLog(t)
		s := &socket{log: log.Log, buf: make([]byte, uevent.MaxMessage)}
		n := copy(s.buf, c.text)
		if c.n > 0 {
			n = c.n
		}
		e := s.event(n, c.from)
		if (e == nil) != (c.log != "") || s.lost != c.lost {
			t.Errorf("%s: %v, lost %v", c.name, e, s.lost)
		}
		if c.log != "" {
			log.want(c.log)
		} else if len(log.lines()) > 0 {
			t.Errorf("%s: logged %q", c.name, log.lines())
		}
		clear(s.buf)
		if e != nil && (e.Devpath != "/devices/x" || e.Seqnum != 7) {
			t.Errorf("%s: the event keeps the buffer: %+v", c.name, e)
		}
	}
}

func TestBackground(t *testing.T) {
	self, err := os.Executable()
	must(t, err)
	for _, c := range []struct {
		role string
		code int
	}{{"ready", 0}, {"fails", 3}, {"killed", 128 + 9}} {
		environ := append(os.Environ(), childRole+"="+c.role)
		within(t, c.role, func() {
			if code, err := Background([]string{self, "-d"}, environ); code != c.code || err != nil {
				t.Errorf("%s: code %d, error %v, want %d", c.role, code, err, c.code)
			}
		})
	}
}
