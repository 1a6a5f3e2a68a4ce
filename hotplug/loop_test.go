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

	"devspool/hotplug/kerneltest"
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
	b.t.Cleanup(func() {
		l.unclaim()
		l.sock.close()
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
	within(b.t, "the answer", func() { served, err = HandOver(&Road{Dev: b.other()}) })
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
	if served, err := b.handOver(); !served || err == nil || err.Error() != errLogged.Error() {
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
			served, err := HandOver(&Road{Dev: d})
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

// TestHandOverAtTheEnd is about a loop that ends before it has answered the
// request: who asked does the work itself.
func TestHandOverAtTheEnd(t *testing.T) {
	needRoot(t)
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
				served, err := HandOver(&Road{Dev: d})
				answers <- answer{served, err}
			}()
			eventually(t, "the request", func() bool {
				fds := []unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}}
				n, _ := unix.Poll(fds, 0)
				return n == 1
			})
			time.Sleep(20 * time.Millisecond) // for the request itself, which nothing shows before accept
			c.dies(listener)
			unix.Close(listener)
			within(t, "the answer", func() {
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
	must(b.t, err)
	must(b.t, d.Unlock())
	addr, dir, err := controlAddress(d)
	must(b.t, err)
	defer unix.Close(dir)
	listener, err = controlSocket(0)
	must(b.t, err)
	must(b.t, unix.Bind(listener, addr))
	must(b.t, unix.Listen(listener, 1))
	return listener
}

// TestHandOverWhileEnding is about a loop that is told to end while it works on a
// request: it still comes to the end of that, and answers.
func TestHandOverWhileEnding(t *testing.T) {
	needRoot(t)
	b := newBoard(t, "sda 0:0 660 @touch TMP/begun; until test -e TMP/go; do sleep 0.01; done\n")
	b.sys.add("/devices/block/sda", "block", "8:0", "DEVNAME=sda")
	l, end := b.newLoop()
	ended := make(chan error, 1)
	go func() { ended <- l.Serve() }()
	answer := make(chan bool, 1)
	d := b.other()
	go func() {
		served, err := HandOver(&Road{Dev: d})
		answer <- served && err == nil
	}()
	eventually(t, "the command", func() bool { return b.has("begun") })
	end()
	select {
	case <-ended:
		t.Error("it did not wait for the command")
	case <-time.After(50 * time.Millisecond):
	}
	writeFile(t, filepath.Join(b.tmp, "go"), "")
	within(t, "the answer", func() {
		if !<-answer {
			t.Error("not served")
		}
	})
	within(t, "the end of the loop", func() { must(t, <-ended) })
}

// has reports whether there is a file of that name in board.tmp.
func (b *board) has(name string) bool {
	_, err := os.Stat(filepath.Join(b.tmp, name))
	return err == nil
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
	listener := b.deafLoop()
	defer unix.Close(listener)
	addr, dir, err := controlAddress(b.other())
	must(t, err)
	defer unix.Close(dir)
	for range 100 { // until no more go into its queue
		fd, err := controlSocket(unix.SOCK_NONBLOCK)
		must(t, err)
		defer unix.Close(fd)
		if unix.Connect(fd, addr) != nil {
			break
		}
	}
	result := make(chan error, 1)
	go func() {
		_, err := openControl(b.Road, nil)
		result <- err
	}()
	within(t, "the answer of a busy loop", func() {
		if err := <-result; !errors.Is(err, ErrRunning) {
			t.Errorf("error %v", err)
		}
	})
}

// TestStrangeRequests shows that the loop drops who asks for what it does not
// know, says nothing, or hangs up, and serves the others.
func TestStrangeRequests(t *testing.T) {
	needRoot(t)
	b := newBoard(t, "")
	b.serve()
	addr, dir, err := controlAddress(b.other())
	must(t, err)
	defer unix.Close(dir)
	connect := func() int {
		fd, err := controlSocket(0)
		must(t, err)
		must(t, unix.Connect(fd, addr))
		return fd
	}
	for _, request := range []string{"nonsense", "coldplug\n", strings.Repeat("x", 5000), "\x00\x00"} {
		fd := connect()
		unix.SendmsgN(fd, []byte(request), nil, nil, unix.MSG_NOSIGNAL)
		within(t, "the answer", func() {
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
	unix.SendmsgN(impatient, []byte("scan\x00"+b.Conf), nil, nil, unix.MSG_NOSIGNAL)
	unix.Close(impatient)
	if served, err := b.handOver(); !served || err != nil {
		t.Errorf("served %v, error %v", served, err)
	}
}

// TestLost shows that a loop which lost events scans anew: it adds and removes.
func TestLost(t *testing.T) {
	needRoot(t)
	if !kerneltest.InNamespaces(t, kerneltest.Net) {
		return
	}
	b := newBoard(t, "")
	b.sys.add("/devices/block/sda", "block", "8:0", "DEVNAME=sda")
	l, end := b.newLoop()
	if !b.coldplug() {
		t.Error("it failed")
	}
	b.sys.remove("/devices/block/sda")
	b.sys.add("/devices/block/sdb", "block", "8:16", "DEVNAME=sdb")
	must(t, unix.SetsockoptInt(l.sock.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 1))
	kernel := newInjector(t)
	for i := range 500 {
		must(t, kernel.Send("change", fmt.Sprint("/devices/virtual/x", i)))
	}
	stop := b.serving(l, end)
	eventually(t, "the scan", func() bool { return b.node("sda") == "" && b.node("sdb") == "b8:16 0660" })
	stop()
	b.log.want("warning: the kernel dropped events")
}

// TestLostUnsaid is about what is lost after the kernel has said that something was:
// until the last message is taken out of a socket that was full, it drops the others
// without another word. The scan must not come before that.
func TestLostUnsaid(t *testing.T) {
	needRoot(t)
	if !kerneltest.InNamespaces(t, kerneltest.Net) {
		return
	}
	b := newBoard(t, "")
	b.sys.add("/devices/block/sda", "block", "8:0", "DEVNAME=sda")
	l, end := b.newLoop()
	must(t, unix.SetsockoptInt(l.sock.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 1<<20))
	kernel := newInjector(t)
	left, told := false, false
	b.Listeners = append(b.Listeners, Listener{
		Gap: func(string) { told = true },
		Done: func(*uevent.Event, *nodes.Plan) { // the first that is done after the loss
			if !told || left {
				return
			}
			left = true
			b.sys.remove("/devices/block/sda")
			if err := kernel.Send("remove", "/devices/block/sda", "SUBSYSTEM=block", "MAJOR=8", "MINOR=0", "DEVNAME=sda"); err != nil {
				t.Error(err)
			}
		},
	})
	for i := range 3 * most {
		must(t, kernel.Send("change", fmt.Sprint("/devices/virtual/x", i)))
	}
	stop := b.serving(l, end)
	eventually(t, "the end", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return left && !l.pending()
	})
	eventually(t, "the end of the node", func() bool { return b.node("sda") == "" })
	stop()
	b.log.want("warning: the kernel dropped events")
}

func newInjector(t *testing.T) *kerneltest.Injector {
	t.Helper()
	kernel, err := kerneltest.NewInjector()
	must(t, err)
	t.Cleanup(func() { kernel.Close() })
	return kernel
}

// TestForged shows that only the kernel is believed: not a process that sends to
// the loop's own port or to everybody who listens to the kernel.
func TestForged(t *testing.T) {
	needRoot(t)
	if !kerneltest.InNamespaces(t, kerneltest.Net) {
		return
	}
	log := newLog(t)
	s, err := listen(log.Log)
	must(t, err)
	defer s.close()
	own, err := unix.Getsockname(s.fd)
	must(t, err)
	liar, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
	must(t, err)
	defer unix.Close(liar)
	forged := []byte("add@/devices/forged\x00ACTION=add\x00DEVPATH=/devices/forged\x00SEQNUM=7\x00")
	for _, to := range []*unix.SockaddrNetlink{
		{Family: unix.AF_NETLINK, Pid: own.(*unix.SockaddrNetlink).Pid},
		{Family: unix.AF_NETLINK, Groups: kernelGroup},
	} {
		must(t, unix.Sendto(liar, forged, 0, to))
	}
	must(t, newInjector(t).Send("add", "/devices/true", "SUBSYSTEM=x"))
	var got []string
	within(t, "the kernel's event", func() {
		for len(got) == 0 {
			r, err := s.read()
			if err != nil || r.lost {
				t.Errorf("lost %v, error %v", r.lost, err)
				return
			}
			for _, e := range r.events {
				if !strings.HasPrefix(e.Devpath, "/devices/virtual/block/") { // whose events reach every namespace
					got = append(got, e.Devpath)
				}
			}
		}
	})
	if !slices.Equal(got, []string{"/devices/true"}) {
		t.Errorf("events of %q", got)
	}
	if lines := log.lines(); strings.Count(strings.Join(lines, "\n"), "the kernel did not send") != 2 {
		t.Errorf("logged %q", lines)
	}
}

// hearOnly has the kernel keep from a socket what does not begin with prefix.
func hearOnly(t *testing.T, s *socket, prefix string) {
	t.Helper()
	var filter []unix.SockFilter
	for i := range len(prefix) {
		filter = append(filter,
			unix.SockFilter{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: uint32(i)},
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(prefix[i]), Jf: uint8(2*(len(prefix)-i) - 1)})
	}
	filter = append(filter,
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: uevent.MaxMessage},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0})
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	must(t, unix.SetsockoptSockFprog(s.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program))
	_, err := s.read() // what came before
	must(t, err)
}

// TestMany reads more events than one system call takes, in their order.
func TestMany(t *testing.T) {
	needRoot(t)
	if !kerneltest.InNamespaces(t, kerneltest.Net) {
		return
	}
	log := newLog(t)
	s, err := listen(log.Log)
	must(t, err)
	defer s.close()
	kernel := newInjector(t)
	const many = most + 3*batch + 7
	hearOnly(t, s, "add@/devices/virtual/x") // block devices' events reach every namespace
	for i := range many {
		must(t, kernel.Send("add", fmt.Sprint("/devices/virtual/x", i)))
	}
	next, seqnum := 0, uint64(0)
	within(t, "the events", func() {
		for next < many {
			r, err := s.read()
			left := many - next
			if err != nil || r.lost || len(r.events) != min(left, most) || r.complete != (left < most) {
				t.Errorf("%d events of %d, complete %v, lost %v, error %v", len(r.events), left, r.complete, r.lost, err)
				return
			}
			for _, e := range r.events {
				if e.Devpath != fmt.Sprint("/devices/virtual/x", next) || e.Seqnum <= seqnum {
					t.Errorf("event %d is %v", next, e)
				}
				next, seqnum = next+1, e.Seqnum
			}
		}
	})
}

// TestFresh is about what can be known of a device without asking /sys.
func TestFresh(t *testing.T) {
	disk := func(action string, more ...string) *uevent.Event {
		return newEvent(t, append(more, "ACTION="+action, "DEVPATH=/devices/sda", "SUBSYSTEM=block", "MAJOR=8", "MINOR=0")...)
	}
	type said struct {
		event *uevent.Event
		fresh bool
	}
	other := newEvent(t, "ACTION=add", "DEVPATH=/devices/tty", "SUBSYSTEM=tty", "MAJOR=8", "MINOR=0")
	elsewhere := newEvent(t, "ACTION=add", "DEVPATH=/devices/sdz", "SUBSYSTEM=block", "MAJOR=8", "MINOR=0")
	partition := newEvent(t, "ACTION=add", "DEVPATH=/devices/sda/sda1", "SUBSYSTEM=block", "MAJOR=8", "MINOR=1", "DEVTYPE=partition")
	for _, c := range []struct {
		name string
		said []said
	}{
		{"an add", []said{{disk("add"), true}}},
		{"a disk and its partition", []said{{disk("add", "DEVTYPE=disk"), true}, {partition, false}}},
		{"its remove", []said{{disk("remove"), false}}},
		{"its change", []said{{disk("change"), false}}},
		{"unplugged", []said{{disk("add"), false}, {other, true}, {disk("remove"), false}}},
		{"replugged", []said{{disk("remove"), false}, {disk("add"), true}}},
		{"unplugged, its number another's", []said{{disk("add"), false}, {disk("remove"), false}, {elsewhere, true}}},
		{"added twice", []said{{disk("add"), false}, {disk("add"), true}}},
	} {
		for _, complete := range []bool{true, false} {
			r := &reading{complete: complete}
			var want []bool
			for _, s := range c.said {
				r.add(s.event, true)
				want = append(want, s.fresh && complete)
			}
			if got := r.fresh(); !slices.Equal(got, want) {
				t.Errorf("%s, complete %v: %v, want %v", c.name, complete, got, want)
			}
		}
		injected := &reading{complete: true}
		for _, s := range c.said {
			injected.add(s.event, false)
		}
		if slices.Contains(injected.fresh(), true) {
			t.Errorf("%s: believed of somebody who is not the kernel", c.name)
		}
	}
}

// TestFreshOfKernel shows whose word counts: the kernel's own, if nothing was lost.
func TestFreshOfKernel(t *testing.T) {
	needRoot(t)
	if !kerneltest.InNamespaces(t, kerneltest.Net) {
		return
	}
	s, err := listen(newLog(t).Log)
	must(t, err)
	defer s.close()
	const null = "/devices/virtual/mem/null"
	injected := func() error {
		return newInjector(t).Send("add", null, "SUBSYSTEM=mem", "MAJOR=1", "MINOR=3", "DEVNAME=null")
	}
	// Others may have events sent at the same time, which count for nothing here.
	fresh := func() (fresh []bool) {
		t.Helper()
		r, err := s.read()
		must(t, err)
		for i, is := range r.fresh() {
			if r.events[i].Devpath == null {
				fresh = append(fresh, is)
			}
		}
		return fresh
	}
	synthetic := func() error { return os.WriteFile("/sys"+null+"/uevent", []byte("add"), 0) }
	must(t, synthetic())
	if got := fresh(); !slices.Equal(got, []bool{true}) {
		t.Errorf("the kernel's: %v", got)
	}
	must(t, injected())
	if got := fresh(); !slices.Equal(got, []bool{false}) {
		t.Errorf("another's: %v", got)
	}
	must(t, unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4096))
	for range 100 {
		must(t, synthetic())
	}
	if got := fresh(); len(got) == 0 || slices.Contains(got, true) || !s.reading.lost {
		t.Errorf("from before the loss: %v, lost %v", got, s.reading.lost)
	}
	must(t, synthetic())
	if got := fresh(); !slices.Equal(got, []bool{true}) {
		t.Errorf("after the loss: %v", got)
	}
}

// TestFreshElsewhere shows that the kernel is not believed of devices that are not in a
// tree which is no sysfs, but which the loop was told to go by.
func TestFreshElsewhere(t *testing.T) {
	needRoot(t)
	if !kerneltest.InNamespaces(t, kerneltest.Net) {
		return
	}
	b := newBoard(t, "")
	b.sys.add("/devices/block/sda", "block", "8:0", "DEVNAME=sda")
	b.serve()
	must(t, os.WriteFile("/sys/devices/virtual/mem/null/uevent", []byte("add"), 0))
	must(t, newInjector(t).Send("add", "/devices/block/sda", "SUBSYSTEM=block", "MAJOR=8", "MINOR=0", "DEVNAME=sda"))
	eventually(t, "the node", func() bool { return b.node("sda") != "" })
	b.wantNode("null", "")
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
		b.sys.add("/devices/block/sdb", "block", "8:16", "DEVNAME=sdb")
		l, _ := b.newLoop()
		if l.controlled() == lockless {
			t.Errorf("lockless %v: controlled %v", lockless, l.controlled())
		}
		must(t, os.Rename(b.dir, b.dir+".away"))
		must(t, os.Mkdir(b.dir, 0o755))
		b.wait(b.Run([]*uevent.Event{b.sys.event("add", "/devices/block/sda")})) // any event shows it
		eventually(t, "the scan", func() bool { return b.node("sda") != "" && b.node("sdb") != "" })
		if !l.controlled() {
			t.Errorf("lockless %v: on the new /dev nobody listens", lockless)
			continue
		}
		must(t, os.Remove(filepath.Join(b.dir, "sda")))
		if served, err := b.handOver(); !served || err != nil {
			t.Errorf("served %v, error %v", served, err)
		}
		b.wantNode("sda", "b8:0 0660")
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
	within(t, "the end of what flies", b.flights.Wait)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.locked || len(b.active) > 0 {
		t.Errorf("locked %v, %d commands", b.locked, len(b.active))
	}
}

// TestSocketEvent shows which messages the loop believes.
func TestSocketEvent(t *testing.T) {
	const message = "add@/devices/x\x00ACTION=add\x00DEVPATH=/devices/x\x00SEQNUM=7\x00"
	from := func(port, groups uint32) *unix.RawSockaddrNetlink {
		return &unix.RawSockaddrNetlink{Family: unix.AF_NETLINK, Pid: port, Groups: groups}
	}
	kernel := from(0, kernelGroup)
	for _, c := range []struct {
		name string
		text string
		from *unix.RawSockaddrNetlink // nil for a sender without an address
		long bool                     // the kernel had to cut it off
		log  string
	}{
		{name: "the kernel's", text: message, from: kernel},
		{name: "a process's", text: message, from: from(4711, kernelGroup), log: "the kernel did not send"},
		{name: "of another group", text: message, from: from(0, 2), log: "the kernel did not send"},
		{name: "to nobody in particular", text: message, from: from(0, 0), log: "the kernel did not send"},
		{name: "of nobody", text: message, from: nil, log: "the kernel did not send"},
		{name: "too long", text: message, from: kernel, long: true, log: "which no uevent is"},
		{name: "udev's", text: "libudev\x00\xfe\xed\xca\xfe", from: kernel, log: uevent.ErrMalformed.Error()},
		{name: "without a devpath", text: "add@/x\x00ACTION=add\x00", from: kernel, log: uevent.ErrIncomplete.Error()},
		{name: "empty", text: "", from: kernel, log: uevent.ErrMalformed.Error()},
	} {
		log := newLog(t)
		s := &socket{log: log.Log, room: make([]byte, batch*uevent.MaxMessage)}
		const i = 3
		m := &s.messages[i]
		m.length = uint32(copy(s.room[i*uevent.MaxMessage:], c.text))
		if c.from != nil {
			m.header.Namelen, s.senders[i] = unix.SizeofSockaddrNetlink, *c.from
		}
		if c.long {
			m.header.Flags = unix.MSG_TRUNC
		}
		s.take(i)
		got := s.reading.events
		if (len(got) == 0) != (c.log != "") || s.behind != c.long {
			t.Errorf("%s: %v, lost %v", c.name, got, s.behind)
		}
		if c.log != "" {
			log.want(c.log)
		} else if len(log.lines()) > 0 {
			t.Errorf("%s: logged %q", c.name, log.lines())
		}
		clear(s.room)
		if len(got) > 0 && (got[0].Devpath != "/devices/x" || got[0].Seqnum != 7) {
			t.Errorf("%s: the event keeps the buffer: %+v", c.name, got[0])
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

// TestLostSeen shows that whoever asks whether events are to come does not use up
// the word of the kernel that some were lost.
func TestLostSeen(t *testing.T) {
	needRoot(t)
	if !kerneltest.InNamespaces(t, kerneltest.Net) {
		return
	}
	s, err := listen(newLog(t).Log)
	must(t, err)
	defer s.close()
	if s.ready() {
		t.Error("an empty socket is ready")
	}
	must(t, unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 1))
	kernel := newInjector(t)
	for i := range 500 {
		must(t, kernel.Send("change", fmt.Sprint("/devices/virtual/x", i)))
	}
	for range 3 {
		if !s.ready() {
			t.Error("a full socket is not ready")
		}
	}
	within(t, "the loss", func() {
		for lost := false; !lost && !t.Failed(); {
			r, err := s.read()
			if lost = r.lost; err != nil {
				t.Error(err)
			}
		}
	})
}
