package broker

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"devspool/hotplug/kerneltest"
	"devspool/hotplug/spool"
)

func init() { kerneltest.Roles["publisher"] = publisher }

// publisher opens the spool, says on which thread it is, and when it is told to
// publishes one event.
func publisher() {
	runtime.LockOSThread()
	o := Options{Private: "/dev/.devspool", Events: spool.DefaultEvents, Libudev: spool.DefaultLibudev, Mount: true, Window: 6}
	o.old.tmpfile = os.Args[2] == "true"
	s, err := Open(o)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	n, _ := strconv.Atoi(os.Args[1])
	fmt.Println(unix.Gettid())
	var b [1]byte
	unix.Read(0, b[:])
	if err := s.Publish(numbered(n), nil); err != nil {
		os.Stderr.WriteString(err.Error())
	}
}

// A publisher is killed before and after each of its system calls. Each queue has
// the event, whole, or is told that it may be missing; nothing is left behind, and
// nothing comes twice.
func TestKilledAnywhere(t *testing.T) {
	t.Parallel()
	if kerneltest.InNamespaces(t, kerneltest.PID) {
		testKilledAnywhere(t, false)
	}
}

// The same without O_TMPFILE.
func TestKilledAnywhereOldKernel(t *testing.T) {
	t.Parallel()
	if kerneltest.InNamespaces(t, kerneltest.PID) {
		testKilledAnywhere(t, true)
	}
}

func testKilledAnywhere(t *testing.T, noTmpfile bool) {
	h := newShop(t)
	kerneltest.MountTmpfs(t, "/dev")
	h.must(os.Mkdir("/dev/.devspool", 0o700))
	h.Resident, h.Window = false, 6
	h.open().Close()
	queues := []string{
		h.queue(h.Events, "plain", ".nolinks"), h.queue(h.Events, "linked"),
		h.queue(h.Events, "full", ".nolinks"), h.queue(h.Libudev, "compat"),
	}
	stops := 1
	for ; crash(h, queues, stops, noTmpfile); stops++ {
		if stops > 1000 {
			t.Fatal("the publisher does not come to its end")
		}
	}
	t.Logf("killed at %d places", stops-1)
	if stops < 40 {
		t.Errorf("that is too few")
	}
}

// crash kills a publisher at one place, and reports whether it came that far.
func crash(h *shop, queues []string, place int, without bool) (killed bool) {
	h.Helper()
	s := h.open()
	h.publish(s, 1, 0)
	for range 4 { // one queue is almost full, and becomes so with this event
		h.publish(s, 0, 0)
	}
	for i, q := range queues {
		if i != 2 {
			h.take(q, 100)
		}
	}
	h.must(s.Upkeep())
	h.publish(s, 0, 0)
	s.Close()
	for i, q := range queues {
		if i != 2 {
			h.take(q, 100)
		}
	}
	killed = killAt(h, place, without)
	s = h.open()
	defer s.Close()
	h.publish(s, 2000, 2000)
	var all []string
	for i, q := range queues {
		var got []string
		for range 10 {
			got = append(got, h.take(q, 100)...)
			h.must(s.Upkeep())
		}
		text := strings.Join(got, " ")
		if i == 2 {
			text = strings.TrimPrefix(text, "0 0 0 0 0 ")
		}
		all = append(all, text)
		// What is told of twice was on its way to who was behind.
		text = strings.Replace(text, "lost 1 lost 1", "lost 1", 1)
		if text != "1000 2000" && text != "1000 lost 1 2000" && text != "lost 1 2000" && text != "2000" {
			h.Errorf("killed at %d: %s got %s", place, filepath.Base(q), text)
		}
	}
	if joined := strings.Join(all, ","); strings.Contains(joined, "1000") {
		for i, text := range all {
			if text == "2000" {
				h.Errorf("killed at %d: of queue %d nothing is told: %s", place, i, joined)
			}
		}
	}
	if n := entriesOf(queues[1]); n != 0 {
		h.Errorf("killed at %d: %d entries are left", place, n)
	}
	h.must(s.Upkeep())
	h.clean()
	return killed
}

// killAt has a publisher publish 1000 and kills it when it has stopped so often at
// the entry or the end of a system call. It reports false where it ended before.
func killAt(h *shop, place int, without bool) bool {
	h.Helper()
	runtime.LockOSThread() // a tracee obeys one thread only
	defer runtime.UnlockOSThread()
	cmd := kerneltest.Actor("publisher", "1000", fmt.Sprint(without))
	in, err := cmd.StdinPipe()
	h.must(err)
	out, err := cmd.StdoutPipe()
	h.must(err)
	h.must(cmd.Start())
	defer cmd.Wait()
	line, err := bufio.NewReader(out).ReadString('\n')
	h.must(err)
	tid, err := strconv.Atoi(strings.TrimSpace(line))
	h.must(err)
	h.must(unix.PtraceSeize(tid))
	h.must(unix.PtraceInterrupt(tid))
	var status unix.WaitStatus
	wait := func() bool {
		_, err := unix.Wait4(tid, &status, unix.WALL, nil)
		return err == nil && status.Stopped()
	}
	if !wait() {
		h.Fatal("the publisher does not stop")
	}
	h.must(unix.PtraceSetOptions(tid, unix.PTRACE_O_TRACESYSGOOD))
	h.must(unix.PtraceSyscall(tid, 0))
	in.Write([]byte{'\n'})
	const call = unix.SIGTRAP | 0x80
	for seen := 0; wait(); {
		signal := 0
		switch stop := status.StopSignal(); {
		case stop == call:
			if seen++; seen > place {
				h.must(unix.Kill(cmd.Process.Pid, unix.SIGKILL))
				for wait() {
				}
				return true
			}
		case stop != unix.SIGTRAP:
			signal = int(stop)
		}
		if unix.PtraceSyscall(tid, signal) != nil {
			break
		}
	}
	return false
}
