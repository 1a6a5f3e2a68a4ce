package netlink

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/kerneltest"
	"devspool/hotplug/sys"
	"devspool/hotplug/uevent"
)

// TestForged shows that only messages of the kernel are taken: not those that a process sends to the
// socket's own port or to the kernel's group.
func TestForged(t *testing.T) {
	hotplugtest.NeedRoot(t)
	if !kerneltest.InNamespaces(t, kerneltest.Net) {
		return
	}
	logger := hotplugtest.NewLog(t)
	s, err := Listen(logger.Logger)
	hotplugtest.Must(t, err)
	defer s.Close()
	own, err := unix.Getsockname(s.fd)
	hotplugtest.Must(t, err)
	forger, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
	hotplugtest.Must(t, err)
	defer unix.Close(forger)
	forged := []byte("add@/devices/forged\x00ACTION=add\x00DEVPATH=/devices/forged\x00SEQNUM=7\x00")
	for _, to := range []*unix.SockaddrNetlink{
		{Family: unix.AF_NETLINK, Pid: own.(*unix.SockaddrNetlink).Pid},
		{Family: unix.AF_NETLINK, Groups: KernelGroup},
	} {
		hotplugtest.Must(t, unix.Sendto(forger, forged, 0, to))
	}
	hotplugtest.Must(t, hotplugtest.NewInjector(t).Send("add", "/devices/true", "SUBSYSTEM=x"))
	var got []string
	hotplugtest.Within(t, "the kernel's event", func() {
		for len(got) == 0 {
			r, err := s.read()
			if err != nil || r.Lost {
				t.Errorf("lost %v, error %v", r.Lost, err)
				return
			}
			for _, e := range r.Events {
				if !strings.HasPrefix(e.Devpath, "/devices/virtual/block/") { // events of block devices reach every namespace
					got = append(got, e.Devpath)
				}
			}
		}
	})
	if !slices.Equal(got, []string{"/devices/true"}) {
		t.Errorf("events of %q", got)
	}
	if lines := logger.Lines(); strings.Count(strings.Join(lines, "\n"), "the kernel did not send") != 2 {
		t.Errorf("logged %q", lines)
	}
}

// TestParse shows which messages are taken for the kernel's.
func TestParse(t *testing.T) {
	t.Parallel()
	const message = "add@/devices/x\x00ACTION=add\x00DEVPATH=/devices/x\x00SEQNUM=7\x00"
	from := func(port, groups uint32) *unix.RawSockaddrNetlink {
		return &unix.RawSockaddrNetlink{Family: unix.AF_NETLINK, Pid: port, Groups: groups}
	}
	kernel := from(0, KernelGroup)
	for _, c := range []struct {
		name string
		text string
		from *unix.RawSockaddrNetlink // nil for a message without a sender's address
		long bool                     // the kernel cut it off
		log  string
	}{
		{name: "the kernel's", text: message, from: kernel},
		{name: "a process's", text: message, from: from(4711, KernelGroup), log: "the kernel did not send"},
		{name: "of another group", text: message, from: from(0, 2), log: "the kernel did not send"},
		{name: "to no group", text: message, from: from(0, 0), log: "the kernel did not send"},
		{name: "without a sender", text: message, from: nil, log: "the kernel did not send"},
		{name: "too long", text: message, from: kernel, long: true, log: "which no uevent is"},
		{name: "udev's", text: "libudev\x00\xfe\xed\xca\xfe", from: kernel, log: uevent.ErrMalformed.Error()},
		{name: "without a devpath", text: "add@/x\x00ACTION=add\x00", from: kernel, log: uevent.ErrIncomplete.Error()},
		{name: "empty", text: "", from: kernel, log: uevent.ErrMalformed.Error()},
	} {
		logger := hotplugtest.NewLog(t)
		s := newSocket(sys.None, nil, nil, logger.Logger)
		const i = 3
		m := &s.messages[i]
		m.length = uint32(copy(s.buffer[i*uevent.MaxMessage:], c.text))
		if c.from != nil {
			m.header.Namelen, s.senders[i] = unix.SizeofSockaddrNetlink, *c.from
		}
		if c.long {
			m.header.Flags = unix.MSG_TRUNC
		}
		s.parse(i)
		got := s.batch.Events
		if (len(got) == 0) != (c.log != "") || s.overrun != c.long {
			t.Errorf("%s: %v, lost %v", c.name, got, s.overrun)
		}
		if c.log != "" {
			logger.Want(c.log)
		} else if len(logger.Lines()) > 0 {
			t.Errorf("%s: logged %q", c.name, logger.Lines())
		}
		clear(s.buffer)
		if len(got) > 0 && (got[0].Devpath != "/devices/x" || got[0].Seqnum != 7) {
			t.Errorf("%s: the event keeps the buffer: %+v", c.name, got[0])
		}
	}
}

// filterPrefix has the kernel keep messages from a socket that do not begin with prefix.
func filterPrefix(t *testing.T, s *Socket, prefix string) {
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
	hotplugtest.Must(t, unix.SetsockoptSockFprog(s.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program))
	_, err := s.read() // events from before the filter
	hotplugtest.Must(t, err)
}

// TestMany reads more events than one system call receives, in their order.
func TestMany(t *testing.T) {
	hotplugtest.NeedRoot(t)
	if !kerneltest.InNamespaces(t, kerneltest.Net) {
		return
	}
	logger := hotplugtest.NewLog(t)
	s, err := Listen(logger.Logger)
	hotplugtest.Must(t, err)
	defer s.Close()
	kernel := hotplugtest.NewInjector(t)
	const many = readTarget + 3*recvBatch + 7
	filterPrefix(t, s, "add@/devices/virtual/x") // not the events of block devices, which reach every namespace
	for i := range many {
		hotplugtest.Must(t, kernel.Send("add", fmt.Sprint("/devices/virtual/x", i)))
	}
	next, seqnum := 0, uint64(0)
	hotplugtest.Within(t, "the events", func() {
		for next < many {
			r, err := s.read()
			left := many - next
			if err != nil || r.Lost || len(r.Events) != min(left, readTarget) || r.Drained != (left < readTarget) {
				t.Errorf("%d events of %d, drained %v, lost %v, error %v", len(r.Events), left, r.Drained, r.Lost, err)
				return
			}
			for _, e := range r.Events {
				if e.Devpath != fmt.Sprint("/devices/virtual/x", next) || e.Seqnum <= seqnum {
					t.Errorf("event %d is %v", next, e)
				}
				next, seqnum = next+1, e.Seqnum
			}
		}
	})
}

// TestCurrent shows which events are current, by the events beside them.
func TestCurrent(t *testing.T) {
	t.Parallel()
	disk := func(action string, more ...string) *uevent.Event {
		return hotplugtest.NewEvent(t, append(more, "ACTION="+action, "DEVPATH=/devices/sda", "SUBSYSTEM=block", "MAJOR=8", "MINOR=0")...)
	}
	type sent struct {
		event   *uevent.Event
		current bool
	}
	other := hotplugtest.NewEvent(t, "ACTION=add", "DEVPATH=/devices/tty", "SUBSYSTEM=tty", "MAJOR=8", "MINOR=0")
	elsewhere := hotplugtest.NewEvent(t, "ACTION=add", "DEVPATH=/devices/sdz", "SUBSYSTEM=block", "MAJOR=8", "MINOR=0")
	partition := hotplugtest.NewEvent(t, "ACTION=add", "DEVPATH=/devices/sda/sda1", "SUBSYSTEM=block", "MAJOR=8", "MINOR=1", "DEVTYPE=partition")
	for _, c := range []struct {
		name string
		sent []sent
	}{
		{"an add", []sent{{disk("add"), true}}},
		{"a disk and its partition", []sent{{disk("add", "DEVTYPE=disk"), true}, {partition, false}}},
		{"its remove", []sent{{disk("remove"), false}}},
		{"its change", []sent{{disk("change"), false}}},
		{"unplugged", []sent{{disk("add"), false}, {other, true}, {disk("remove"), false}}},
		{"replugged", []sent{{disk("remove"), false}, {disk("add"), true}}},
		{"unplugged, its number given to another device", []sent{{disk("add"), false}, {disk("remove"), false}, {elsewhere, true}}},
		{"added twice", []sent{{disk("add"), false}, {disk("add"), true}}},
	} {
		for _, drained := range []bool{true, false} {
			b := &Batch{Drained: drained}
			var want []bool
			for _, s := range c.sent {
				b.add(s.event, true)
				want = append(want, s.current && drained)
			}
			if got := b.Current(); !slices.Equal(got, want) {
				t.Errorf("%s, drained %v: %v, want %v", c.name, drained, got, want)
			}
		}
		injected := &Batch{Drained: true}
		for _, s := range c.sent {
			injected.add(s.event, false)
		}
		if slices.Contains(injected.Current(), true) {
			t.Errorf("%s: an injected event is current", c.name)
		}
	}
}

// TestCurrentOfKernel shows that events of the kernel are current, not injected ones, and none where
// some were lost.
func TestCurrentOfKernel(t *testing.T) {
	hotplugtest.NeedRoot(t)
	if !kerneltest.InNamespaces(t, kerneltest.Net) {
		return
	}
	s, err := Listen(hotplugtest.NewLog(t).Logger)
	hotplugtest.Must(t, err)
	defer s.Close()
	const null = "/devices/virtual/mem/null"
	injected := func() error {
		return hotplugtest.NewInjector(t).Send("add", null, "SUBSYSTEM=mem", "MAJOR=1", "MINOR=3", "DEVNAME=null")
	}
	// Other processes may cause events at the same time, which do not count here.
	current := func() (current []bool) {
		t.Helper()
		r, err := s.read()
		hotplugtest.Must(t, err)
		for i, is := range r.Current() {
			if r.Events[i].Devpath == null {
				current = append(current, is)
			}
		}
		return current
	}
	synthetic := func() error { return os.WriteFile("/sys"+null+"/uevent", []byte("add"), 0) }
	hotplugtest.Must(t, synthetic())
	if got := current(); !slices.Equal(got, []bool{true}) {
		t.Errorf("of the kernel: %v", got)
	}
	hotplugtest.Must(t, injected())
	if got := current(); !slices.Equal(got, []bool{false}) {
		t.Errorf("injected: %v", got)
	}
	hotplugtest.Must(t, unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4096))
	for range 100 {
		hotplugtest.Must(t, synthetic())
	}
	if got := current(); len(got) == 0 || slices.Contains(got, true) || !s.batch.Lost {
		t.Errorf("from before the loss: %v, lost %v", got, s.batch.Lost)
	}
	hotplugtest.Must(t, synthetic())
	if got := current(); !slices.Equal(got, []bool{true}) {
		t.Errorf("after the loss: %v", got)
	}
}

// TestPendingKeepsLoss shows that Pending does not use up the error by which the kernel reports a
// loss.
func TestPendingKeepsLoss(t *testing.T) {
	hotplugtest.NeedRoot(t)
	if !kerneltest.InNamespaces(t, kerneltest.Net) {
		return
	}
	s, err := Listen(hotplugtest.NewLog(t).Logger)
	hotplugtest.Must(t, err)
	defer s.Close()
	if s.Pending() {
		t.Error("an empty socket is pending")
	}
	hotplugtest.Must(t, unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 1))
	kernel := hotplugtest.NewInjector(t)
	for i := range 500 {
		hotplugtest.Must(t, kernel.Send("change", fmt.Sprint("/devices/virtual/x", i)))
	}
	for range 3 {
		if !s.Pending() {
			t.Error("a full socket is not pending")
		}
	}
	hotplugtest.Within(t, "the loss", func() {
		for lost := false; !lost && !t.Failed(); {
			r, err := s.read()
			if lost = r.Lost; err != nil {
				t.Error(err)
			}
		}
	})
}
