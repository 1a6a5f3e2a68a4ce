package systemtest

import (
	"bufio"
	"encoding/binary"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/kerneltest"
)

// TestPassOn compares what the kernel says with what others are told when all is
// done: it is the same.
func TestPassOn(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "sda 0:0 660 @until test -e ../go; do sleep 0.01; done\n")
	listen := func(groups uint32) *kerneltest.Listener {
		l, err := kerneltest.ListenTo(groups)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l
	}
	reader, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	b.files = []*os.File{to}
	l := b.startLoop("-O", "12", "-o", "4")
	to.Close()
	kernel, four, eight := listen(1), listen(4), listen(8)

	l.send(b.plug(disk(0)))
	b.plug(disk(1))
	b.unplug(disk(1))
	l.send(disk(1).Event("add")) // too late: nobody is to hear of it
	l.send(b.plug(disk(2)))
	next := func(from *kerneltest.Listener) string {
		t.Helper()
		for {
			msg, err := from.Next(patience)
			if err != nil {
				t.Fatal(err)
			}
			if !strange(devpathOf(string(msg))) {
				return string(msg)
			}
		}
	}
	records := bufio.NewReader(reader)
	written := func() string {
		t.Helper()
		_ = reader.SetReadDeadline(time.Now().Add(patience))
		for record := ""; ; {
			part, err := records.ReadString(0)
			if err != nil {
				t.Fatal(err)
			}
			if part != "\x00" { // which ends a record
				record += part
				continue
			}
			if !strange(devpathOf(record)) {
				return record
			}
			record = ""
		}
	}
	first, _, third := next(kernel), next(kernel), next(kernel)
	want := []string{third, first} // the command of the first hangs
	for i, msg := range want {
		if i == 1 {
			b.has("sda block 0660 0:0 8:0", "sdc block 0660 0:0 8:32")
			b.write(b.dir+"/go", "")
		}
		for _, from := range []*kerneltest.Listener{four, eight} {
			if got := next(from); got != msg {
				t.Errorf("event %d: came %q, want %q", i, got, msg)
			}
		}
		if got := written(); got != msg {
			t.Errorf("event %d: written was %q, want %q", i, got, msg)
		}
	}
	if code := l.stop(); code != exitDone {
		t.Errorf("exit code %d\n%s", code, l.stderr)
	}
	for _, from := range []*kerneltest.Listener{four, eight} {
		for msg, err := from.Next(time.Millisecond); err == nil; msg, err = from.Next(time.Millisecond) {
			if !strange(devpathOf(string(msg))) {
				t.Errorf("came too: %q", msg)
			}
		}
	}
}

// TestConfigChanges rewrites the config of a running loop in several ways. A
// broken one is not used.
func TestConfigChanges(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newJailedBoard(t, "sda 0:0 600\n")
	l := b.startLoop()
	e := b.plug(disk(0))
	becomes := func(how, mode string) {
		t.Helper()
		kerneltest.Until(t, patience, how, func() bool {
			l.send(e)
			return len(b.snapshot()) == 1 && b.snapshot()[0] == "sda block "+mode+" 0:0 8:0"
		})
	}
	becomes("at the start", "0600")
	b.configure("sda 0:0 640\n")
	becomes("written in place", "0640")
	b.write(b.conf+"~", "sda 0:0 644\n")
	if err := os.Rename(b.conf+"~", b.conf); err != nil {
		t.Fatal(err)
	}
	becomes("renamed over", "0644")
	b.configure("sd( 0:0 666\nsda 0:0 666\n")
	if r := b.run("ctl", "reload"); r.code != exitEvent || !strings.Contains(r.stderr, "the old config stays") {
		t.Errorf("reload of a broken one: exit code %d, stderr %q", r.code, r.stderr)
	}
	becomes("broken", "0644")
	os.Remove(b.conf)
	becomes("removed, so that the default holds", "0660")
	b.configure("sda 0:0 604\n")
	becomes("made again", "0604")
	l.stop()
	if n := strings.Count(l.stderr.String(), "the config was read anew"); n != 4 {
		t.Errorf("it was read anew %d times, not 4:\n%s", n, l.stderr)
	}
}

// TestUdevControl steers a loop as udevcontrol did.
func TestUdevControl(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "")
	l := b.startLoop("--udevcontrol")
	tell := func(kind uint32, n int32) {
		t.Helper()
		msg := make([]byte, 292)
		copy(msg, "udevd_103")
		binary.NativeEndian.PutUint32(msg[32:], kind)
		binary.NativeEndian.PutUint32(msg[36:], uint32(n))
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if err := unix.Sendto(fd, msg, 0, &unix.SockaddrUnix{Name: "@/org/kernel/udev/udevd"}); err != nil {
			t.Fatal(err)
		}
	}
	says := func(line string) {
		t.Helper()
		kerneltest.Until(t, patience, line, func() bool { return strings.Contains(b.run("status").stdout, line) })
	}
	tell(4, 7)
	tell(1, 0)
	says("queue: stopped")
	says("7 at most")
	l.send(b.plug(disk(0)))
	kerneltest.Until(t, patience, "the event to wait", func() bool { return !strings.Contains(b.run("status").stdout, "under way: 0") })
	b.has()
	tell(2, 0)
	says("under way: 0")
	b.has("sda block 0660 0:0 8:0")

	other := newBoard(t, "")
	if r := other.run("-df", "--udevcontrol"); r.code != exitEvent || !strings.Contains(r.stderr, "/org/kernel/udev/udevd: a udevd, or another loop, listens there") {
		t.Errorf("a second one: exit code %d, stderr %q", r.code, r.stderr)
	}
}
