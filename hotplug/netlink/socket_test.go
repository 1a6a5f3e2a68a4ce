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
	"devspool/hotplug/uevent"
)

// TestForged shows that only the kernel is believed: not a process that sends to
// the loop's own port or to everybody who listens to the kernel.
func TestForged(t *testing.T) {
	hotplugtest.NeedRoot(t)
	if !kerneltest.InNamespaces(t, kerneltest.Net) {
		return
	}
	logger := hotplugtest.NewLog(t)
	s, err := Listen(logger.Logger)
	hotplugtest.Must(t, err)
	defer s.Close()
	own, err := unix.Getsockname(s.Fd)
	hotplugtest.Must(t, err)
	liar, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
	hotplugtest.Must(t, err)
	defer unix.Close(liar)
	forged := []byte("add@/devices/forged\x00ACTION=add\x00DEVPATH=/devices/forged\x00SEQNUM=7\x00")
	for _, to := range []*unix.SockaddrNetlink{
		{Family: unix.AF_NETLINK, Pid: own.(*unix.SockaddrNetlink).Pid},
		{Family: unix.AF_NETLINK, Groups: KernelGroup},
	} {
		hotplugtest.Must(t, unix.Sendto(liar, forged, 0, to))
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
				if !strings.HasPrefix(e.Devpath, "/devices/virtual/block/") { // whose events reach every namespace
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

// hearOnly has the kernel keep from a socket what does not begin with prefix.
func hearOnly(t *testing.T, s *Socket, prefix string) {
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
	hotplugtest.Must(t, unix.SetsockoptSockFprog(s.Fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program))
	_, err := s.read() // what came before
	hotplugtest.Must(t, err)
}

// TestMany reads more events than one system call takes, in their order.
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
	const many = ReadTarget + 3*RecvBatch + 7
	hearOnly(t, s, "add@/devices/virtual/x") // block devices' events reach every namespace
	for i := range many {
		hotplugtest.Must(t, kernel.Send("add", fmt.Sprint("/devices/virtual/x", i)))
	}
	next, seqnum := 0, uint64(0)
	hotplugtest.Within(t, "the events", func() {
		for next < many {
			r, err := s.read()
			left := many - next
			if err != nil || r.Lost || len(r.Events) != min(left, ReadTarget) || r.Drained != (left < ReadTarget) {
				t.Errorf("%d events of %d, complete %v, lost %v, error %v", len(r.Events), left, r.Drained, r.Lost, err)
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

// TestFresh is about what can be known of a device without asking /sys.
func TestFresh(t *testing.T) {
	disk := func(action string, more ...string) *uevent.Event {
		return hotplugtest.NewEvent(t, append(more, "ACTION="+action, "DEVPATH=/devices/sda", "SUBSYSTEM=block", "MAJOR=8", "MINOR=0")...)
	}
	type said struct {
		event *uevent.Event
		fresh bool
	}
	other := hotplugtest.NewEvent(t, "ACTION=add", "DEVPATH=/devices/tty", "SUBSYSTEM=tty", "MAJOR=8", "MINOR=0")
	elsewhere := hotplugtest.NewEvent(t, "ACTION=add", "DEVPATH=/devices/sdz", "SUBSYSTEM=block", "MAJOR=8", "MINOR=0")
	partition := hotplugtest.NewEvent(t, "ACTION=add", "DEVPATH=/devices/sda/sda1", "SUBSYSTEM=block", "MAJOR=8", "MINOR=1", "DEVTYPE=partition")
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
			r := &Batch{Drained: complete}
			var want []bool
			for _, s := range c.said {
				r.add(s.event, true)
				want = append(want, s.fresh && complete)
			}
			if got := r.Current(); !slices.Equal(got, want) {
				t.Errorf("%s, complete %v: %v, want %v", c.name, complete, got, want)
			}
		}
		injected := &Batch{Drained: true}
		for _, s := range c.said {
			injected.add(s.event, false)
		}
		if slices.Contains(injected.Current(), true) {
			t.Errorf("%s: believed of somebody who is not the kernel", c.name)
		}
	}
}

// TestFreshOfKernel shows whose word counts: the kernel's own, if nothing was lost.
func TestFreshOfKernel(t *testing.T) {
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
	// Others may have events sent at the same time, which count for nothing here.
	fresh := func() (fresh []bool) {
		t.Helper()
		r, err := s.read()
		hotplugtest.Must(t, err)
		for i, is := range r.Current() {
			if r.Events[i].Devpath == null {
				fresh = append(fresh, is)
			}
		}
		return fresh
	}
	synthetic := func() error { return os.WriteFile("/sys"+null+"/uevent", []byte("add"), 0) }
	hotplugtest.Must(t, synthetic())
	if got := fresh(); !slices.Equal(got, []bool{true}) {
		t.Errorf("the kernel's: %v", got)
	}
	hotplugtest.Must(t, injected())
	if got := fresh(); !slices.Equal(got, []bool{false}) {
		t.Errorf("another's: %v", got)
	}
	hotplugtest.Must(t, unix.SetsockoptInt(s.Fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4096))
	for range 100 {
		hotplugtest.Must(t, synthetic())
	}
	if got := fresh(); len(got) == 0 || slices.Contains(got, true) || !s.Reading.Lost {
		t.Errorf("from before the loss: %v, lost %v", got, s.Reading.Lost)
	}
	hotplugtest.Must(t, synthetic())
	if got := fresh(); !slices.Equal(got, []bool{true}) {
		t.Errorf("after the loss: %v", got)
	}
}

// TestLostSeen shows that whoever asks whether events are to come does not use up
// the word of the kernel that some were lost.
func TestLostSeen(t *testing.T) {
	hotplugtest.NeedRoot(t)
	if !kerneltest.InNamespaces(t, kerneltest.Net) {
		return
	}
	s, err := Listen(hotplugtest.NewLog(t).Logger)
	hotplugtest.Must(t, err)
	defer s.Close()
	if s.Pending() {
		t.Error("an empty socket is ready")
	}
	hotplugtest.Must(t, unix.SetsockoptInt(s.Fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 1))
	kernel := hotplugtest.NewInjector(t)
	for i := range 500 {
		hotplugtest.Must(t, kernel.Send("change", fmt.Sprint("/devices/virtual/x", i)))
	}
	for range 3 {
		if !s.Pending() {
			t.Error("a full socket is not ready")
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
