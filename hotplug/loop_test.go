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

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/kerneltest"
	"devspool/hotplug/netlink"
	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// loopOptions returns the options of a loop on the board.
func (b *board) loopOptions() LoopOptions {
	return LoopOptions{Scheduler: b.Scheduler, Config: b.config, Dev: b.dev, Sys: b.sys.FS, Log: b.log.Logger}
}

// listen opens the board's control socket, for a source.
func (b *board) listen(source Source) (*Server, error) {
	return Listen(ServerOptions{Scheduler: b.Scheduler, Config: b.config, Dev: b.dev, Sys: b.sys.FS, Log: b.log.Logger, Source: source})
}

// newLoop makes a loop of the board. end tells it to end, as a signal does.
func (b *board) newLoop() (l *Loop, end func()) {
	b.t.Helper()
	l, err := NewLoop(b.loopOptions())
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		b.t.Skip("NOT TESTED: the loop: needs a netlink socket")
	}
	hotplugtest.Must(b.t, err)
	b.t.Cleanup(func() {
		l.closeControl()
		l.sock.Close()
	})
	return l, l.End
}

// controlled reports whether other processes can ask the loop for work.
func (l *Loop) controlled() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.control != nil
}

// serve runs a loop beside the test, until it is told to stop or the test ends.
func (b *board) serve() (stop func()) {
	b.t.Helper()
	return b.serving(b.newLoop())
}

// serving has a loop serve until stop is called, or the test ends.
func (b *board) serving(l *Loop, end func()) (stop func()) {
	b.t.Helper()
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
		hotplugtest.Within(b.t, "the end of the loop", func() {
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
	hotplugtest.Within(b.t, "the answer", func() { served, err = Delegate(b.other(), b.config.Path()) })
	return served, err
}

// other opens the board's /dev as another process would.
func (b *board) other() *nodes.Dir {
	b.t.Helper()
	d, err := nodes.Open(b.dir)
	hotplugtest.Must(b.t, err)
	b.t.Cleanup(d.Close)
	return d
}

func TestHandOver(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := newBoard(t, "sda 0:0 660 @sleep 0.05; echo $MDEV >>TMP/said\n")
	b.sys.Add("/devices/block/sda", "block", "8:0", "DEVNAME=sda")
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
	hotplugtest.NeedRoot(t)
	b := newBoard(t, "")
	b.sys.Add("/devices/block/sda", "block", "8:0", "DEVNAME=sda")
	hotplugtest.Must(t, os.Mkdir(filepath.Join(b.dir, "sda"), 0o755))
	b.serve()
	if served, err := b.handOver(); !served || err == nil || err.Error() != errLogged.Error() {
		t.Errorf("served %v, error %v", served, err)
	}
	hotplugtest.Must(t, os.Remove(filepath.Join(b.dir, "sda")))
	if served, err := b.handOver(); !served || err != nil {
		t.Errorf("served %v, error %v", served, err)
	}
}

// TestHandOverMany lets many ask at once, more than wait in a listener's queue.
func TestHandOverMany(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := newBoard(t, "sda 0:0 660 @true\n")
	b.sys.Add("/devices/block/sda", "block", "8:0", "DEVNAME=sda")
	b.serve()
	const many = 40
	answers := make(chan error, many)
	for range many {
		d := b.other()
		go func() {
			served, err := Delegate(d, b.config.Path())
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

// TestHandOverAtTheEnd is about a loop that ends before it has answered the
// request: who asked does the work itself.
func TestHandOverAtTheEnd(t *testing.T) {
	hotplugtest.NeedRoot(t)
	for _, c := range []struct {
		name string
		dies func(listener int) // what the loop still does before it ends
	}{
		{"not accepted", func(int) {}},
		{"accepted, not read", func(listener int) {
			fd, _, _ := unix.Accept(listener)
			unix.Close(fd)
		}},
		{"read, not answered", func(listener int) {
			fd, _, _ := unix.Accept(listener)
			var buf [256]byte
			unix.Read(fd, buf[:])
			unix.Close(fd)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBoard(t, "")
			listener := b.deafLoop()
			d := b.other()
			type answer struct {
				served bool
				err    error
			}
			answers := make(chan answer, 1)
			go func() {
				served, err := Delegate(d, b.config.Path())
				answers <- answer{served, err}
			}()
			hotplugtest.Eventually(t, "the request", func() bool {
				fds := []unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}}
				n, _ := unix.Poll(fds, 0)
				return n == 1
			})
			time.Sleep(20 * time.Millisecond) // for the request itself, which nothing shows before accept
			c.dies(listener)
			unix.Close(listener)
			hotplugtest.Within(t, "the answer", func() {
				if a := <-answers; a.served || a.err != nil {
					t.Errorf("served %v, error %v", a.served, a.err)
				}
			})
		})
	}
}

// deafLoop is a socket at the place of a loop's, at which nobody accepts.
func (b *board) deafLoop() (listener int) {
	b.t.Helper()
	d := b.other()
	_, err := d.Lock() // which makes the private directory
	hotplugtest.Must(b.t, err)
	hotplugtest.Must(b.t, d.Unlock())
	addr, dir, err := controlAddress(d)
	hotplugtest.Must(b.t, err)
	defer unix.Close(dir)
	listener, err = controlSocket(0)
	hotplugtest.Must(b.t, err)
	hotplugtest.Must(b.t, unix.Bind(listener, addr))
	hotplugtest.Must(b.t, unix.Listen(listener, 1))
	return listener
}

// TestHandOverWhileEnding is about a loop that is told to end while it works on a
// request: it still comes to the end of that, and answers.
func TestHandOverWhileEnding(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := newBoard(t, "sda 0:0 660 @touch TMP/begun; until test -e TMP/go; do sleep 0.01; done\n")
	b.sys.Add("/devices/block/sda", "block", "8:0", "DEVNAME=sda")
	l, end := b.newLoop()
	ended := make(chan error, 1)
	go func() { ended <- l.Serve() }()
	answer := make(chan bool, 1)
	d := b.other()
	go func() {
		served, err := Delegate(d, b.config.Path())
		answer <- served && err == nil
	}()
	hotplugtest.Eventually(t, "the command", func() bool { return b.has("begun") })
	end()
	select {
	case <-ended:
		t.Error("it did not wait for the command")
	case <-time.After(50 * time.Millisecond):
	}
	hotplugtest.WriteFile(t, filepath.Join(b.tmp, "go"), "")
	hotplugtest.Within(t, "the answer", func() {
		if !<-answer {
			t.Error("not served")
		}
	})
	hotplugtest.Within(t, "the end of the loop", func() { hotplugtest.Must(t, <-ended) })
}

// has reports whether there is a file of that name in board.tmp.
func (b *board) has(name string) bool {
	_, err := os.Stat(filepath.Join(b.tmp, name))
	return err == nil
}

// TestOneLoop shows that a /dev has one loop, and after its end another.
func TestOneLoop(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := newBoard(t, "")
	stop := b.serve()
	for range 2 {
		if _, err := NewLoop(b.another("").loopOptions()); !errors.Is(err, ErrRunning) {
			t.Errorf("a second loop: error %v", err)
		}
	}
	if served, err := b.handOver(); !served || err != nil {
		t.Errorf("after that: served %v, error %v", served, err)
	}
	stop()
	second := b.another("")
	second.serve()
	if served, err := second.handOver(); !served || err != nil {
		t.Errorf("the next loop: served %v, error %v", served, err)
	}
}

// TestBusyLoop is about a loop that is too busy to accept: whoever would be
// another loop must find out without waiting for it, since it holds the lock that
// the first one may need.
func TestBusyLoop(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := newBoard(t, "")
	listener := b.deafLoop()
	defer unix.Close(listener)
	addr, dir, err := controlAddress(b.other())
	hotplugtest.Must(t, err)
	defer unix.Close(dir)
	for range 100 { // until no more go into its queue
		fd, err := controlSocket(unix.SOCK_NONBLOCK)
		hotplugtest.Must(t, err)
		defer unix.Close(fd)
		if unix.Connect(fd, addr) != nil {
			break
		}
	}
	result := make(chan error, 1)
	go func() {
		_, err := b.listen(nil)
		result <- err
	}()
	hotplugtest.Within(t, "the answer of a busy loop", func() {
		if err := <-result; !errors.Is(err, ErrRunning) {
			t.Errorf("error %v", err)
		}
	})
}

// TestStrangeRequests shows that the loop drops who asks for what it does not
// know, says nothing, or hangs up, and serves the others.
func TestStrangeRequests(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := newBoard(t, "")
	b.serve()
	addr, dir, err := controlAddress(b.other())
	hotplugtest.Must(t, err)
	defer unix.Close(dir)
	connect := func() int {
		fd, err := controlSocket(0)
		hotplugtest.Must(t, err)
		hotplugtest.Must(t, unix.Connect(fd, addr))
		return fd
	}
	for _, request := range []string{"nonsense", "coldplug\n", strings.Repeat("x", 5000), "\x00\x00"} {
		fd := connect()
		unix.SendmsgN(fd, []byte(request), nil, nil, unix.MSG_NOSIGNAL)
		hotplugtest.Within(t, "the answer", func() {
			if err := readAnswer(fd, func(string) {}); err == nil || !strings.Contains(err.Error(), "does not know") {
				t.Errorf("%.20q got the answer %v", request, err)
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
	unix.SendmsgN(impatient, []byte("scan\x00"+b.config.Path()), nil, nil, unix.MSG_NOSIGNAL)
	unix.Close(impatient)
	if served, err := b.handOver(); !served || err != nil {
		t.Errorf("served %v, error %v", served, err)
	}
}

// TestLost shows that a loop which lost events scans anew: it adds and removes.
func TestLost(t *testing.T) {
	hotplugtest.NeedRoot(t)
	if !kerneltest.InNamespaces(t, kerneltest.Net) {
		return
	}
	b := newBoard(t, "")
	b.sys.Add("/devices/block/sda", "block", "8:0", "DEVNAME=sda")
	l, end := b.newLoop()
	if !b.coldplug() {
		t.Error("it failed")
	}
	b.sys.Remove("/devices/block/sda")
	b.sys.Add("/devices/block/sdb", "block", "8:16", "DEVNAME=sdb")
	hotplugtest.Must(t, unix.SetsockoptInt(l.sock.Fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 1))
	kernel := hotplugtest.NewInjector(t)
	for i := range 500 {
		hotplugtest.Must(t, kernel.Send("change", fmt.Sprint("/devices/virtual/x", i)))
	}
	stop := b.serving(l, end)
	hotplugtest.Eventually(t, "the scan", func() bool { return b.node("sda") == "" && b.node("sdb") == "b8:16 0660" })
	stop()
	b.log.Want("warning: the kernel dropped events")
}

// TestLostUnsaid is about what is lost after the kernel has said that something was:
// until the last message is taken out of a socket that was full, it drops the others
// without another word. The scan must not come before that.
func TestLostUnsaid(t *testing.T) {
	hotplugtest.NeedRoot(t)
	if !kerneltest.InNamespaces(t, kerneltest.Net) {
		return
	}
	b := newBoard(t, "")
	b.sys.Add("/devices/block/sda", "block", "8:0", "DEVNAME=sda")
	l, end := b.newLoop()
	hotplugtest.Must(t, unix.SetsockoptInt(l.sock.Fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 1<<20))
	kernel := hotplugtest.NewInjector(t)
	left, told := false, false
	b.sinks = append(b.sinks, Sink{
		Gap: func(string) { told = true },
		Done: func(*uevent.Event, *nodes.Plan) { // the first that is done after the loss
			if !told || left {
				return
			}
			left = true
			b.sys.Remove("/devices/block/sda")
			if err := kernel.Send("remove", "/devices/block/sda", "SUBSYSTEM=block", "MAJOR=8", "MINOR=0", "DEVNAME=sda"); err != nil {
				t.Error(err)
			}
		},
	})
	for i := range 3 * netlink.ReadTarget {
		hotplugtest.Must(t, kernel.Send("change", fmt.Sprint("/devices/virtual/x", i)))
	}
	stop := b.serving(l, end)
	hotplugtest.Eventually(t, "the end", func() bool {
		b.Scheduler.Exclusive(func(View) error { return nil }) // what the sink wrote can be read now
		return left && !l.Pending()
	})
	hotplugtest.Eventually(t, "the end of the node", func() bool { return b.node("sda") == "" })
	stop()
	b.log.Want("warning: the kernel dropped events")
}

// TestFreshElsewhere shows that the kernel is not believed of devices that are not in a
// tree which is no sysfs, but which the loop was told to go by.
func TestFreshElsewhere(t *testing.T) {
	hotplugtest.NeedRoot(t)
	if !kerneltest.InNamespaces(t, kerneltest.Net) {
		return
	}
	b := newBoard(t, "")
	b.sys.Add("/devices/block/sda", "block", "8:0", "DEVNAME=sda")
	b.serve()
	hotplugtest.Must(t, os.WriteFile("/sys/devices/virtual/mem/null/uevent", []byte("add"), 0))
	hotplugtest.Must(t, hotplugtest.NewInjector(t).Send("add", "/devices/block/sda", "SUBSYSTEM=block", "MAJOR=8", "MINOR=0", "DEVNAME=sda"))
	hotplugtest.Eventually(t, "the node", func() bool { return b.node("sda") != "" })
	b.wantNode("null", "")
}

// TestLoopRenewed is about a /dev that is mounted over while a loop runs: it makes
// all anew there, and answers there.
func TestLoopRenewed(t *testing.T) {
	hotplugtest.NeedRoot(t)
	for _, lockless := range []bool{false, true} {
		b := newBoard(t, "")
		if lockless {
			hotplugtest.Must(t, os.Mkdir(filepath.Join(b.dir, nodes.Private), 0o755))
		}
		b.sys.Add("/devices/block/sda", "block", "8:0", "DEVNAME=sda")
		b.sys.Add("/devices/block/sdb", "block", "8:16", "DEVNAME=sdb")
		l, _ := b.newLoop()
		if l.controlled() == lockless {
			t.Errorf("lockless %v: controlled %v", lockless, l.controlled())
		}
		hotplugtest.Must(t, os.Rename(b.dir, b.dir+".away"))
		hotplugtest.Must(t, os.Mkdir(b.dir, 0o755))
		b.wait(b.Scheduler.Run(Events(b.sys.NewEvent("add", "/devices/block/sda")))) // any event shows it
		hotplugtest.Eventually(t, "the scan", func() bool { return b.node("sda") != "" && b.node("sdb") != "" })
		if !l.controlled() {
			t.Errorf("lockless %v: on the new /dev nobody listens", lockless)
			continue
		}
		hotplugtest.Must(t, os.Remove(filepath.Join(b.dir, "sda")))
		if served, err := b.handOver(); !served || err != nil {
			t.Errorf("served %v, error %v", served, err)
		}
		b.wantNode("sda", "b8:0 0660")
	}
}

// TestFinish shows that a loop which is told to end lets commands come to their
// end, and begins no other.
func TestFinish(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := newBoard(t, "-sd.* 0:0 660 @sleep 0.05; echo one >>TMP/said\nsd.* 0:0 660 @echo two >>TMP/said\n")
	b.Scheduler.SetJobs(1)
	var events []*uevent.Event
	for i, name := range []string{"sda", "sdb"} {
		b.sys.Add("/devices/block/"+name, "block", fmt.Sprint("8:", i), "DEVNAME="+name)
		events = append(events, b.sys.NewEvent("add", "/devices/block/"+name))
	}
	l, end := b.newLoop()
	b.Scheduler.Run(Events(events...))
	end()
	hotplugtest.Within(t, "the end", func() { hotplugtest.Must(t, l.Serve()) })
	if got := b.said("said"); !slices.Equal(got, []string{"one"}) {
		t.Errorf("the commands say %q", got)
	}
	b.wantNode("sdb", "b8:1 0660")
	hotplugtest.Eventually(t, "the end of commands", func() bool { return b.running() == 0 })
	if n := b.running(); n > 0 || !b.free() {
		t.Errorf("free %v, %d commands", b.free(), n)
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

func TestBackground(t *testing.T) {
	self, err := os.Executable()
	hotplugtest.Must(t, err)
	for _, c := range []struct {
		role string
		code int
	}{{"ready", 0}, {"fails", 3}, {"killed", 128 + 9}} {
		environ := append(os.Environ(), childRole+"="+c.role)
		hotplugtest.Within(t, c.role, func() {
			if code, err := Background([]string{self, "-d"}, environ); code != c.code || err != nil {
				t.Errorf("%s: code %d, error %v, want %d", c.role, code, err, c.code)
			}
		})
	}
}
