package broker

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"devspool/hotplug/kerneltest"
	"devspool/hotplug/spool"
	"devspool/hotplug/sys"
)

// ages are the kernels that a test pretends to be on.
var ages = []struct {
	name string
	old  old
}{
	{"new", old{}},
	{"4.4", old{openat2: true, tmpfile: true, emptyPath: true, fanotify: true, pidfd: true, dirSize: true}},
	{"no tmpfile", old{tmpfile: true}},
	{"no fanotify", old{fanotify: true}},
	{"no empty path", old{emptyPath: true, fanotify: true, pidfd: true}},
}

func TestPublish(t *testing.T) {
	t.Parallel()
	if !kerneltest.InNamespaces(t, 0) {
		return
	}
	for _, mounted := range []bool{true, false} {
		for _, resident := range []bool{true, false} {
			for _, age := range ages {
				name := age.name + map[bool]string{true: " mounted", false: " plain"}[mounted] + map[bool]string{true: " resident", false: " helper"}[resident]
				t.Run(name, func(t *testing.T) {
					h := newShop(t)
					kerneltest.MountTmpfs(t, "/dev")
					h.must(os.Mkdir("/dev/.devspool", 0o700))
					h.Mount, h.Resident, h.old = mounted, resident, age.old
					testPublish(h)
				})
			}
		}
	}
}

func testPublish(h *shop) {
	s := h.open()
	h.publish(s, 1, 1)
	plain := h.queue(h.Events, "plain", ".nolinks")
	linked := h.queue(h.Events, "linked")
	picky := h.queue(h.Events, "picky", ".filter:subsystem=block\nsubsystem=mem\nN=3\n", ".nolinks")
	compat := h.queue(h.Libudev, "libudev")
	h.publish(s, 2, 4)
	for queue, want := range map[string]string{plain: "2 3 4", linked: "2 3 4", picky: "3", compat: "2 3 4"} {
		h.holds(queue, want)
	}
	names, _ := numbers(h.T, plain)
	if names[1] != names[0]+1 || names[2] != names[0]+2 {
		h.Errorf("the names are %d", names)
	}
	for _, n := range names {
		file := spool.EventName(n)
		one := statOf(h.T, filepath.Join(plain, file))
		if one.Mode != unix.S_IFREG|0o444 {
			h.Errorf("the mode of %s is %o", file, one.Mode)
		}
		for _, queue := range []string{linked, compat} {
			if other := statOf(h.T, filepath.Join(queue, file)); other.Ino != one.Ino {
				h.Errorf("%s is another file in %s", file, queue)
			}
		}
	}
	if entriesOf(compat) != 3 || entriesOf(linked) != 5 || entriesOf(plain) != 4 {
		h.Errorf("%d, %d, %d entries, want 3 events, and twice 2 more", entriesOf(compat), entriesOf(linked), entriesOf(plain))
	}
	for link, want := range map[string]uint64{linkHead: names[0], linkTail: names[2]} {
		if to, _ := os.Readlink(filepath.Join(linked, link)); to != spool.EventName(want) {
			h.Errorf("%s points to %q", link, to)
		}
	}
	text, err := os.ReadFile(filepath.Join(compat, spool.EventName(names[0])))
	h.must(err)
	const want = "change@/devices/virtual/mem/null\nACTION=change\nDEVPATH=/devices/virtual/mem/null\nSUBSYSTEM=mem\nN=2\nDEVNAME=/dev/null\n"
	if string(text) != want {
		h.Errorf("the content is\n%s", text)
	}
	s.Gap(7, "overrun")
	h.holds(picky, "3 lost 7")
	h.holds(compat, "2 3 4 lost 7")
	hidden := filepath.Join(h.Events, ".linked")
	h.must(os.Rename(linked, hidden)) // else head comes back as often as it is removed
	h.publish(s, 0, 0)
	h.must(os.RemoveAll(hidden))
	h.publish(s, 5, 5)
	h.holds(plain, "2 3 4 lost 7 0 5")
	h.must(s.Upkeep())
	h.clean()
}

// A publisher that opens the spool again finds it and continues the count, also where the file
// with the count is gone.
func TestOpenAgain(t *testing.T) {
	t.Parallel()
	if !kerneltest.InNamespaces(t, 0) {
		return
	}
	h := newShop(t)
	first := h.open()
	queue := h.queue(h.Events, "x", ".nolinks")
	h.publish(first, 1, 3)
	second := h.open()
	h.publish(second, 4, 5)
	h.publish(first, 6, 6)
	first.Close()
	second.Close()
	h.must(os.Remove("/dev/.devspool/spool/counter"))
	h.publish(h.open(), 7, 7)
	h.holds(queue, span(1, 7))
	if names, _ := numbers(t, queue); names[6] != names[0]+6 {
		t.Errorf("the names are %d", names)
	}
	mounts := kerneltest.Sh(t, "grep devspool /proc/self/mountinfo")
	if n := strings.Count(mounts, "nosuid,nodev,noexec"); n != 3 || strings.Count(mounts, "\n") != 3 {
		t.Errorf("the mounts are\n%s", mounts)
	}
	for path, mode := range map[string]uint32{"/dev/events": 0o41777, spool.DefaultLibudev: 0o41777, "/dev/.devspool/spool": 0o40700} {
		if st := statOf(t, path); st.Mode != mode {
			t.Errorf("the mode of %s is %o", path, st.Mode)
		}
	}
}

// libudev-zero of old waits for a writer to close the file, and wants an '=' in
// every line.
func TestZero(t *testing.T) {
	t.Parallel()
	if !kerneltest.InNamespaces(t, 0) {
		return
	}
	h := newShop(t)
	h.Zero = true
	s := h.open()
	queue := h.queue(h.Events, "zero", ".nolinks")
	inotify, err := unix.InotifyInit1(unix.IN_NONBLOCK)
	h.must(err)
	_, err = unix.InotifyAddWatch(inotify, queue, unix.IN_CLOSE_WRITE|unix.IN_EXCL_UNLINK|unix.IN_ONLYDIR)
	h.must(err)
	h.publish(s, 1, 2)
	var woken []string
	sys.ReadInotify(inotify, make([]byte, 4096), func(_ *unix.InotifyEvent, name []byte) { woken = append(woken, string(name)) })
	names, _ := numbers(t, queue)
	if len(woken) != 2 || woken[0] != spool.EventName(names[0]) || woken[1] != spool.EventName(names[1]) {
		t.Errorf("woken for %q of %d", woken, names)
	}
	text, err := os.ReadFile(filepath.Join(queue, spool.EventName(names[0])))
	h.must(err)
	for line := range strings.Lines(string(text)) {
		if !strings.Contains(line, "=") {
			t.Errorf("a line without '=': %s", line)
		}
	}
	h.holds(queue, "1 2")
}

func init() { kerneltest.Roles["helpers"] = helpers }

// helpers publishes so many events from one number on, each as a process of its own
// would.
func helpers() {
	from, _ := strconv.Atoi(os.Args[1])
	count, _ := strconv.Atoi(os.Args[2])
	window, _ := strconv.Atoi(os.Args[3])
	for n := from; n < from+count; n++ {
		s, err := Open(Options{Private: "/dev/.devspool", Events: spool.DefaultEvents, Libudev: spool.DefaultLibudev, Mount: true, Window: window})
		if err == nil {
			err = s.Publish(numbered(n), nil)
			s.Close()
		}
		if err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
	}
}

// Helpers and a loop publish at once: numbers ascend in every queue, whatever its
// window, and nothing is lost or comes twice.
func TestPublishersAtOnce(t *testing.T) {
	t.Parallel()
	if !kerneltest.InNamespaces(t, kerneltest.PID) {
		return
	}
	const processes, each = 6, 40
	h := newShop(t)
	h.Window = 40
	s := h.open()
	quick, slow := h.queue(h.Events, "quick", ".nolinks"), h.queue(h.Events, "slow")
	compat := h.queue(h.Libudev, "compat")
	for i := 1; i <= processes; i++ {
		cmd := kerneltest.Actor("helpers", strconv.Itoa(i*each), strconv.Itoa(each), "40")
		h.must(cmd.Start())
		defer func() {
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
		}()
	}
	go h.publish(s, 0, each-1)
	got := map[string]map[string]bool{}
	last := map[string]uint64{}
	for _, q := range []string{quick, slow, compat} {
		got[q] = map[string]bool{}
	}
	h.until("all have arrived", func() bool {
		for q, seen := range got {
			names, values := numbers(t, q)
			if q == slow {
				names, values = names[:min(5, len(names))], values[:min(5, len(names))]
			}
			for i, n := range names {
				if n <= last[q] || seen[values[i]] {
					t.Fatalf("%s: %s comes as %d after %d", filepath.Base(q), values[i], n, last[q])
				}
				last[q], seen[values[i]] = n, true
				h.must(os.Remove(filepath.Join(q, spool.EventName(n))))
			}
		}
		all := (processes + 1) * each
		return len(got[quick]) == all && len(got[slow]) == all && len(got[compat]) == all
	})
	h.must(s.Upkeep())
	h.clean()
}

// When an event is in one queue, the one before it is in all of them.
func TestOrderAcrossQueues(t *testing.T) {
	t.Parallel()
	if !kerneltest.InNamespaces(t, kerneltest.PID) {
		return
	}
	const processes, each = 3, 30
	h := newShop(t)
	s := h.open()
	var queues []int
	for i := range 10 {
		fd, err := unix.Open(h.queue(h.Events, fmt.Sprint("q", i), ".nolinks"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		h.must(err)
		defer unix.Close(fd)
		queues = append(queues, fd)
	}
	for i := range processes {
		cmd := kerneltest.Actor("helpers", strconv.Itoa(i*each), strconv.Itoa(each), "4096")
		h.must(cmd.Start())
		defer cmd.Wait()
		defer cmd.Process.Kill()
	}
	go h.publish(s, 1, each)
	highest := func(queue int) (last uint64) {
		names, err := spool.EventNames(queue)
		h.must(err)
		if len(names) > 0 {
			last, _ = spool.EventNumber(names[len(names)-1])
		}
		return last
	}
	for turn, seen := 0, uint64(0); seen < (processes+1)*each; turn++ {
		seen = highest(queues[turn%len(queues)])
		if last := highest(queues[(turn*7+3)%len(queues)]); last+1 < seen {
			t.Fatalf("%d was seen, and %d is the last in another queue", seen, last)
		}
	}
}

// In an early boot there is no /proc.
func TestWithoutProc(t *testing.T) {
	t.Parallel()
	if !kerneltest.InNamespaces(t, kerneltest.PID) {
		return
	}
	for _, age := range ages[:3] {
		h := newShop(t)
		h.old = age.old
		s := h.open()
		c := h.start(sh("d=" + h.Events + "/x-$$; mkdir $d; echo $d; exec sleep 1000"))
		kerneltest.MountTmpfs(t, "/proc")
		h.publish(s, 1, 2)
		s.Close()
		s = h.open()
		h.publish(s, 3, 4)
		h.holds(c.queue, "1 2 3 4")
		c.kill()
		h.until("the queue is gone", func() bool { return gone(c.queue) })
		s.Close()
		kerneltest.Sh(t, "umount /proc")
	}
}
