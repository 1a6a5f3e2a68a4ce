package broker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/kerneltest"
	"devspool/hotplug/spool"
	"devspool/hotplug/sys"
	"devspool/hotplug/uevent"
)

// small is an event that libudev-compat was seen to take whole.
const small = "add@/devices/virtual/mem/null\nACTION=add\nDEVPATH=/devices/virtual/mem/null\nSUBSYSTEM=mem\nSEQNUM=1234\nDEVNAME=null\n" +
	"MAJOR=1\nMINOR=3\nDEVLINKS=/dev/char/1:3 /dev/blackhole\nTAGS=:mytag:\nID_SERIAL=ABC123\nUSEC_INITIALIZED=123450000\n"

const patience = 20 * time.Second

func TestFit(t *testing.T) {
	t.Parallel()
	const head = "add@/devices/x\nACTION=add\nDEVPATH=/devices/x\n"
	long := strings.Repeat("0123456789", 50)
	several := func(n int, line string) string { return strings.Repeat(line+"\n", n) }
	for _, test := range []struct {
		name, text, want string
		cut              []string
	}{
		{"small", small, small, nil},
		{"two links have room", head + "DEVLINKS=/" + long + " /" + long + "\n", head + "DEVLINKS=/" + long + " /" + long + "\n", nil},
		{"the third has not", head + "DEVLINKS=/" + long + " /" + long + " /x" + long + "\n",
			head + "DEVLINKS=/" + long + " /" + long + "\n", []string{"DEVLINKS"}},
		{"one that is too long", head + "DEVLINKS=/" + long + long + long + "\nA=1\n", head + "DEVLINKS=\nA=1\n", []string{"DEVLINKS"}},
		{"tags", head + "TAGS=:" + strings.Repeat("tag:", 300) + "\n", head + "TAGS=:" + strings.Repeat("tag:", 255) + "\n", []string{"TAGS"}},
		{"the old devpath", head + "DEVPATH_OLD=/" + long + long + long + "\nA=1\n", head + "A=1\n", []string{"DEVPATH_OLD"}},
		{"bytes, and the known ones come first", head + several(7, "A="+long) + "B=" + long + "\nC=1\nDEVNAME=null\n",
			head + several(7, "A="+long) + "C=1\nDEVNAME=null\n", []string{"B"}},
		{"keys, and the known ones come first", head + several(117, "A=1") + "B=1\nDEVNAME=null\n",
			head + several(117, "A=1") + "DEVNAME=null\n", []string{"B"}},
	} {
		got, cut, err := FitLibudev([]byte(test.text))
		if err != nil || string(got) != test.want || !slices.Equal(cut, test.cut) {
			t.Errorf("%s: cut %v, error %v\n%s", test.name, cut, err, got)
		}
		if bad := compatRefuses(got); bad != "" {
			t.Errorf("%s: %s", test.name, bad)
		}
	}
	if _, _, err := FitLibudev([]byte("add@/" + long + long + long + "\n")); err != ErrTooLong {
		t.Errorf("a devpath that is too long: error %v", err)
	}
}

// compatRefuses says why libudev-compat would drop an event, or returns "".
func compatRefuses(text []byte) string {
	header, rest, _ := strings.Cut(string(text), "\n")
	lines := strings.Split(strings.TrimSuffix(rest, "\n"), "\n")
	switch {
	case len(text) >= 8192:
		return "8192 bytes or more"
	case len(rest) >= 4000:
		return "4000 bytes of properties or more"
	case len(lines) > 120:
		return "more than 120 keys"
	case !strings.Contains(header, "@"):
		return "no header"
	}
	for _, line := range lines {
		switch key, value, _ := strings.Cut(line, "="); key {
		case "DEVPATH", "DEVLINKS", "TAGS":
			if len(value) >= 1024 {
				return key + " has 1024 bytes or more"
			}
		}
	}
	return ""
}

// FuzzFit gives libudev-compat events of hostile devices.
func FuzzFit(f *testing.F) {
	f.Add("/devices/x", "/dev/a /dev/b", ":a:", "A=1 B=2", uint(300))
	f.Fuzz(func(t *testing.T, devpath, links, tags, others string, times uint) {
		env := []string{"ACTION=add", "DEVPATH=" + devpath}
		for i, kv := range strings.Fields(strings.Repeat(others+" ", int(times%300))) {
			env = append(env, string(rune('A'+i%26))+kv+"=")
		}
		e, err := uevent.FromEnviron(env)
		if err != nil {
			return
		}
		text, _, err := FitLibudev(spool.Append(nil, e, []string{"DEVLINKS=" + links, "TAGS=" + tags}))
		if err == nil {
			if bad := compatRefuses(text); bad != "" {
				t.Fatalf("%s: %q", bad, text)
			}
		}
	})
}

// compatClient speaks the protocol of libudev-compat's monitor: what that makes,
// waits for, reads and drops, it does.
type compatClient struct {
	*testing.T
	path            string
	inotify, epoll  int
	socket, devices int // a pair: what was read, and what the application gets
	dropped         []string
}

func newCompatClient(t *testing.T, slot int) *compatClient {
	c := &compatClient{T: t, path: fmt.Sprintf("%s/libudev-%d-%d", spool.DefaultLibudev, os.Getpid(), slot)}
	var err error
	check := func() {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	err = os.Mkdir(c.path, 0o700)
	check()
	c.inotify, err = unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	check()
	c.arm()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	check()
	c.socket, c.devices = pair[0], pair[1]
	c.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	check()
	for _, fd := range []int{c.inotify, c.devices} {
		err = unix.EpollCtl(c.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
		check()
	}
	t.Cleanup(func() {
		sys.CloseAll(&c.inotify, &c.epoll, &c.socket, &c.devices)
		os.RemoveAll(c.path)
	})
	return c
}

// arm asks for the next name that appears.
func (c *compatClient) arm() {
	c.Helper()
	if _, err := unix.InotifyAddWatch(c.inotify, c.path, unix.IN_CREATE|unix.IN_ONESHOT); err != nil {
		c.Fatal(err)
	}
}

// receive returns the next event that reaches the application, or "" where none
// comes in time.
func (c *compatClient) receive(limit time.Duration) string {
	c.Helper()
	buf := make([]byte, 8192)
	for deadline := time.Now().Add(limit); ; {
		if n, err := unix.Read(c.devices, buf); err == nil {
			return string(buf[:n])
		}
		var fired [2]unix.EpollEvent
		n, err := unix.EpollWait(c.epoll, fired[:], int(time.Until(deadline).Milliseconds()))
		if err == unix.EINTR {
			continue
		}
		if n <= 0 {
			return ""
		}
		if fired[0].Fd == int32(c.inotify) {
			unix.Read(c.inotify, buf)
			c.arm()
			c.drain()
		}
	}
}

// drain pushes all that is in the directory, in the order of its text, through the
// socket, and removes it, whether or not the socket took it.
func (c *compatClient) drain() {
	c.Helper()
	entries, err := os.ReadDir(c.path)
	if err != nil {
		c.Fatal(err)
	}
	if len(entries) > libudevWindow {
		c.Errorf("%d unread files, the socket is to have no more than %d", len(entries), libudevWindow)
	}
	for _, e := range entries { // sorted
		name := filepath.Join(c.path, e.Name())
		if !e.Type().IsRegular() || len(e.Name()) != 20 {
			c.Fatalf("%s hangs the library, or is taken for an event", e)
		}
		st := statOf(c.T, name)
		text, err := os.ReadFile(name)
		if err != nil || st.Mode != unix.S_IFREG|0o444 {
			c.Fatalf("%s has mode %o, error %v", name, st.Mode, err)
		}
		if why := compatRefuses(text); why != "" {
			c.dropped = append(c.dropped, why)
		} else if _, err := unix.Write(c.socket, text); err != nil {
			c.dropped = append(c.dropped, err.Error())
		}
		if err := os.Remove(name); err != nil {
			c.Fatal(err)
		}
	}
}

// TestLibudevCompat floods a client that speaks the library's protocol with 5,000
// small events, and with large ones: all arrive, in order.
func TestLibudevCompat(t *testing.T) {
	t.Parallel()
	if !kerneltest.InNamespaces(t, 0) {
		return
	}
	for slot, size := range []int{1, 900, 3700} {
		h := newShop(t)
		s := h.open()
		c := newCompatClient(t, slot)
		events := 5000
		if testing.Short() {
			events = 500
		}
		more := []string{"DEVNAME=null", "ID_PAD=" + strings.Repeat("x", size), "DEVLINKS=/dev/a /dev/b", "TAGS=:a:"}
		published := make(chan error, 1)
		go func() {
			for n := range events {
				if err := s.Publish(numbered(n), more); err != nil {
					published <- err
					return
				}
			}
			published <- nil
		}()
		for n := range events {
			text := c.receive(patience)
			p, err := spool.Parse([]byte(text))
			if got, _ := p.Get("N"); err != nil || got != strconv.Itoa(n) {
				t.Fatalf("events of %d bytes: in place of %d came %.300q", size, n, text)
			}
		}
		h.must(<-published)
		if text := c.receive(0); text != "" || len(c.dropped) > 0 {
			t.Errorf("events of %d bytes: one more is %q, dropped %v", size, text, c.dropped)
		}
		s.Close()
	}
}

// TestLibudevCompatLimits publishes what the library would drop in silence.
func TestLibudevCompatLimits(t *testing.T) {
	t.Parallel()
	if !kerneltest.InNamespaces(t, 0) {
		return
	}
	h := newShop(t)
	s := h.open()
	c := newCompatClient(t, 0)
	long := strings.Repeat("0123456789", 60)
	var links, tags, keys []string
	for i := range 100 {
		links = append(links, fmt.Sprintf("/dev/disk/by-id/scsi-0123456789-part%d", i))
		tags = append(tags, fmt.Sprintf("tag-of-many-%d", i))
		keys = append(keys, fmt.Sprintf("KEY%d=", i), fmt.Sprintf("ID_%d=%s", i, long))
	}
	h.must(s.Publish(numbered(1), append(keys, "DEVLINKS="+strings.Join(links, " "), "TAGS=:"+strings.Join(tags, ":")+":", "USEC_INITIALIZED=1")))
	path := "/devices"
	for range 20 {
		path += "/" + long[:100]
	}
	h.must(s.Put(spool.Packet{Action: "add", Devpath: path, Env: []string{"N=2"}}))
	h.must(s.Publish(numbered(3), nil))
	p, err := spool.Parse([]byte(c.receive(patience)))
	h.must(err)
	for key, want := range map[string]string{"N": "1", "SUBSYSTEM": "mem", "USEC_INITIALIZED": "1", "KEY0": "", "ID_0": long} {
		if got, ok := p.Get(key); !ok || got != want {
			t.Errorf("%s is %q", key, got)
		}
	}
	given, _ := p.Get("DEVLINKS")
	if got := strings.Fields(given); len(got) < 20 || !slices.Equal(got, links[:len(got)]) {
		t.Errorf("DEVLINKS is %q", given)
	}
	if p, err = spool.Parse([]byte(c.receive(patience))); err != nil {
		t.Fatal(err)
	}
	if n, _ := p.Get("N"); n != "3" {
		t.Errorf("what has too long a devpath was given: %.100q", p)
	}
	if len(c.dropped) > 0 {
		t.Errorf("dropped: %v", c.dropped)
	}
	if !h.said("libudev-compat") {
		t.Error("nothing is said of what was cut and left out")
	}
}

// The place of libudev-compat's producer is no queue, and stays.
func TestGlobal(t *testing.T) {
	t.Parallel()
	if !kerneltest.InNamespaces(t, 0) {
		return
	}
	h := newShop(t)
	s := h.open()
	global := spool.DefaultLibudev + "/global"
	h.must(os.Mkdir(global, 0o750))
	other := h.queue(h.Libudev, "x")
	h.publish(s, 1, 1)
	h.must(s.Upkeep())
	time.Sleep(2 * graceLive)
	h.publish(s, 2, 2)
	h.holds(other, "1 2")
	if n := entriesOf(global); n != 0 {
		t.Errorf("it holds %d entries", n)
	}
}

// envCompat names the file of a real libudev-compat to test with. No distribution's
// packages hold one.
const envCompat = "DEVSPOOL_LIBUDEV_COMPAT"

// TestRealLibudevCompat has a program that uses the real library listen to a flood.
func TestRealLibudevCompat(t *testing.T) {
	t.Parallel()
	library := os.Getenv(envCompat)
	if library == "" {
		t.Skip(envCompat + " names no libudev-compat")
	}
	if !kerneltest.InNamespaces(t, 0) {
		return
	}
	monitor := filepath.Join(t.TempDir(), "monitor")
	if out, err := exec.Command(kerneltest.Need(t, "gcc"), "-o", monitor, "testdata/monitor.c", "-ldl").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	h := newShop(t)
	s := h.open()
	const events = 2000
	var out bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, monitor, library, strconv.Itoa(events))
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	h.must(cmd.Start())
	if !kerneltest.Eventually(patience, func() bool { return entriesOf(spool.DefaultLibudev) > 0 }) {
		kerneltest.Cannot(t, "%s makes no queue in %s", library, spool.DefaultLibudev)
	}
	var want strings.Builder
	for n := range events {
		e := numbered(n)
		e.SetDefault("SEQNUM", strconv.Itoa(1000+n))
		h.must(s.Publish(e, []string{"DEVNAME=null", "MAJOR=1", "MINOR=3", "TAGS=:a:", "DEVLINKS=/dev/x"}))
		fmt.Fprintf(&want, "change mem %d %d\n", 1000+n, n)
	}
	err := cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 77 {
		kerneltest.Cannot(t, "%s cannot be used: %s", library, &out)
	}
	if err != nil || out.String() != want.String() {
		t.Errorf("%v: the library's program got\n%.2000s", err, &out)
	}
}
