package systemtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"devspool/hotplug/kerneltest"
)

// mounts returns what is mounted below the board's /dev.
func (b *board) mounts() []string {
	b.Helper()
	cmd := exec.Command("/bin/cat", "/proc/self/mountinfo")
	cmd.Stdin = b.null // a jail may have none to open
	r := b.finish(cmd)
	var below []string
	for line := range strings.Lines(r.stdout) {
		if f := strings.Fields(line); len(f) > 4 && strings.Contains(f[4], "/dev/") {
			for _, name := range []string{"/dev/events", "/dev/.devspool/spool", "/dev/metadata/udev/events"} {
				if strings.HasSuffix(f[4], name) {
					below = append(below, name)
				}
			}
		}
	}
	return below
}

// stickyQueue makes a queue that needs no owner.
func (b *board) stickyQueue(name string, files ...string) string {
	b.Helper()
	return b.stickyQueueIn(filepath.Join(b.dev, "events"), name, files...)
}

func (b *board) stickyQueueIn(root, name string, files ...string) string {
	b.Helper()
	path, hidden := filepath.Join(root, name), filepath.Join(root, "."+name)
	if err := os.MkdirAll(hidden, 0o755); err != nil {
		b.Fatal(err)
	}
	for _, file := range append(files, ".sticky") {
		b.write(filepath.Join(hidden, file), "")
	}
	if err := os.Rename(hidden, path); err != nil {
		b.Fatal(err)
	}
	return path
}

// unread returns the text of all events in a queue.
func (b *board) unread(queue string) string {
	b.Helper()
	files, err := filepath.Glob(queue + "/0*")
	if err != nil {
		b.Fatal(err)
	}
	var text strings.Builder
	for _, file := range files {
		text.WriteString(b.read(file))
	}
	return text.String()
}

// TestNoMountByHand does an event as a script does. Nothing is mounted, and nothing
// is made for clients that are not there.
func TestNoMountByHand(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newJailedBoard(t, "sda 0:0 660\n")
	b.must(b.finish(b.byHand(b.plug(disk(0)))))
	if m := b.mounts(); len(m) > 0 {
		t.Errorf("mounted: %q", m)
	}
	if _, err := os.Lstat(filepath.Join(b.dev, "events")); err == nil {
		t.Error("there is an events directory")
	}

	// Who has made a queue gets the event all the same.
	queue := b.stickyQueue("x")
	b.must(b.finish(b.byHand(b.plug(disk(1)))))
	if text := b.unread(queue); !strings.Contains(text, "/sdb") {
		t.Errorf("the queue holds %q", text)
	}
	if m := b.mounts(); len(m) > 0 {
		t.Errorf("mounted: %q", m)
	}
}

// byHand returns the process that a script would start for e.
func (b *board) byHand(e kerneltest.Event) *exec.Cmd {
	cmd := b.command(e.Subsystem())
	cmd.Env = slices.DeleteFunc(e.Environ(0), func(kv string) bool { return strings.HasPrefix(kv, "SEQNUM=") })
	return cmd
}

// TestMountsGo looks at what a loop leaves: nothing, where no client is left; all of
// it, where one is, or where it is killed. The next loop takes that over.
func TestMountsGo(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newJailedBoard(t, "sda 0:0 660\n")
	counted := func(when string, want int) {
		t.Helper()
		if m := b.mounts(); len(m) != want {
			t.Errorf("%s: mounted is %q, want %d", when, m, want)
		}
	}
	l := b.startLoop("--libudev")
	counted("a loop runs", 3)
	l.stop()
	counted("it was stopped", 0)

	l = b.startLoop()
	b.must(b.run("ctl", "exit"))
	l.stop()
	counted("ctl exit", 0)

	l = b.startLoop()
	l.kill()
	counted("it was killed", 2)
	l = b.startLoop()
	counted("the next has begun", 2)
	var queue string
	b.jail.Do(func() { queue = b.stickyQueueIn("/dev/events", "x") })
	l.stop()
	counted("a queue is left", 2)
	if !strings.Contains(l.stderr.String(), "stay mounted for the next start") {
		t.Errorf("the log does not say so:\n%s", l.stderr)
	}
	l = b.startLoop()
	counted("the next has begun", 2)
	l.send(b.plug(disk(0)))
	kerneltest.Until(t, patience, "an event in the queue", func() (ok bool) {
		b.jail.Do(func() { ok = strings.Contains(b.unread(queue), "/sda") })
		return ok
	})
	b.jail.Do(func() { os.RemoveAll(queue) })
	l.stop()
	counted("the queue has gone", 0)
}

// TestQueueBeforeLoop makes a queue before there is a loop. It is not hidden.
func TestQueueBeforeLoop(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newJailedBoard(t, "sda 0:0 660\n")
	queue := b.stickyQueue("x")
	l := b.startLoop()
	l.send(b.plug(disk(0)))
	kerneltest.Until(t, patience, "an event in the queue", func() bool {
		return strings.Contains(b.unread(queue), "/sda")
	})
	l.stop()
	if m := b.mounts(); len(m) > 0 {
		t.Errorf("mounted: %q", m)
	}
	if !strings.Contains(l.stderr.String(), "serving the queues that are in /dev/events") {
		t.Errorf("the log does not say so:\n%s", l.stderr)
	}
}

// TestGapBetweenLoops has events come while no loop listens.
func TestGapBetweenLoops(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	for _, how := range []string{"TERM", "KILL"} {
		t.Run(how, func(t *testing.T) {
			b := newBoard(t, "sda 0:0 660\n")
			events := filepath.Join(b.dev, "events")
			kernel := filepath.Join(b.tree.Dir, "kernel")
			if err := os.MkdirAll(kernel, 0o755); err != nil {
				t.Fatal(err)
			}
			last := func(n string) { b.write(kernel+"/uevent_seqnum", n+"\n") }
			queue := b.stickyQueue("x")
			end := func(l *loop) {
				if how == "KILL" {
					l.kill()
				} else {
					l.stop()
				}
			}
			last("7")
			l := b.startLoop("--events", events)
			end(l)
			l = b.startLoop("--events", events)
			if text := b.unread(queue); strings.Contains(text, "UEVENT_GAP") {
				t.Errorf("a gap where no event came: %q", text)
			}
			end(l)
			last("9")
			b.startLoop("--events", events)
			if text := b.unread(queue); strings.Count(text, "UEVENT_GAP=1") != 1 || !strings.Contains(text, "from 8 to 9") {
				t.Errorf("the queue holds %q", text)
			}
		})
	}
}

// TestScanHasNumbers reads what libudev-zero 1.x is sent of a scan: it refuses an
// event without SEQNUM.
func TestScanHasNumbers(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "sda 0:0 660\n")
	b.add(disk(0))
	four, err := kerneltest.ListenTo(4)
	if err != nil {
		t.Fatal(err)
	}
	defer four.Close()
	b.startLoop("-O", "4")
	msg, err := four.Next(patience)
	if err != nil || !strings.Contains(string(msg), "\x00SEQNUM=1\x00") {
		t.Errorf("came %q, error %v", msg, err)
	}
}

// TestZeroRing has more events than a window holds come to a client of libudev-zero
// 0.5.2, which removes none.
func TestZeroRing(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	const events = 9000
	b := newBoard(t, "sda 0:0 660\n")
	queue := b.stickyQueue("x", ".ring")
	inotify, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(inotify)
	if _, err := unix.InotifyAddWatch(inotify, queue, unix.IN_CLOSE_WRITE); err != nil {
		t.Fatal(err)
	}
	l := b.startLoop("--events", filepath.Join(b.dev, "events"), "--libudev-zero")
	e := b.plug(disk(0)).With("ACTION=change")
	heard := 0
	var buf [64 << 10]byte
	hear := func() {
		for {
			n, err := unix.Read(inotify, buf[:])
			if err != nil || n <= 0 {
				return
			}
			for rest := buf[:n]; len(rest) > 0; heard++ {
				size := unix.SizeofInotifyEvent + int(rest[12])
				rest = rest[size:]
			}
		}
	}
	for sent := 1; sent <= events; sent++ {
		l.send(e)
		if sent%50 == 0 {
			kerneltest.Until(t, patience, "those that were sent", func() bool { hear(); return heard >= sent })
		}
	}
	if files, _ := filepath.Glob(queue + "/0*"); len(files) > 4096 {
		t.Errorf("%d files lie there", len(files))
	}
}
