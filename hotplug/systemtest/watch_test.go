package systemtest

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/kerneltest"
)

// watcher is a running devspool watch --json.
type watcher struct {
	*board
	cmd    *exec.Cmd
	events *json.Decoder
	out    *os.File
}

// watch starts a watcher and returns when its queue is there.
func (b *board) watch(conditions ...string) *watcher {
	b.Helper()
	out, to, err := os.Pipe()
	if err != nil {
		b.Fatal(err)
	}
	defer to.Close()
	w := &watcher{board: b, cmd: b.command(append([]string{"watch", "--json"}, conditions...)...), events: json.NewDecoder(out), out: out}
	w.cmd.Stdout, w.cmd.Stderr = to, to
	before := b.queues()
	if err := b.start(w.cmd); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { w.cmd.Process.Kill(); w.cmd.Wait(); out.Close() })
	kerneltest.Until(b, patience, "the watcher's queue", func() bool { return b.queues() > before })
	return w
}

// queues returns how many queues there are.
func (b *board) queues() int {
	b.Helper()
	r := b.run("event", "ls")
	b.must(r)
	return strings.Count(r.stdout, "\n") - 1
}

// expect waits for an event that says all of want.
func (w *watcher) expect(want map[string]string) {
	w.Helper()
	w.out.SetReadDeadline(time.Now().Add(patience))
	var got map[string]string
	for got == nil || strange(got["DEVPATH"]) {
		got = nil
		if err := w.events.Decode(&got); err != nil {
			w.Fatalf("no %v: %v", want, err)
		}
	}
	for key, value := range want {
		if got[key] != value {
			w.Errorf("%s is %q, want %q; of %v", key, got[key], value, got)
		}
	}
}

// TestWatch has clients hear of a loop's events, and then of helpers', when the
// node and its links are there. A client that is killed leaves nothing.
func TestWatch(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newJailedBoard(t, "sda 0:0 660 >card\n")
	l := b.startLoop()
	all, some := b.watch(), b.watch("ACTION=remove")
	l.send(b.plug(disk(0)))
	all.expect(map[string]string{"ACTION": "add", "SUBSYSTEM": "block", "DEVPATH": disk(0).Devpath, "DEVNAME": "/dev/card", "DEVLINKS": "/dev/sda"})
	l.send(b.unplug(disk(0)))
	for _, w := range []*watcher{all, some} {
		w.expect(map[string]string{"ACTION": "remove", "DEVPATH": disk(0).Devpath})
	}
	some.cmd.Process.Kill()
	kerneltest.Until(t, patience, "the killed client's queue goes", func() bool { return b.queues() == 1 })
	b.jail.Do(func() {
		if err := unix.Mkfifo("/dev/events/fifo", 0o644); err != nil {
			t.Error(err)
		}
	})
	const want = "1, 0 of them behind, 1 refused"
	kerneltest.Until(t, patience, "status says "+want, func() bool { return b.status("queues") == want })
	if code := l.stop(); code != exitDone {
		t.Errorf("exit code %d\n%s", code, l.stderr)
	}

	b.tell(b.plug(disk(1)))
	all.expect(map[string]string{"ACTION": "add", "DEVPATH": disk(1).Devpath, "DEVNAME": "/dev/sdb"})
	script := b.command() // that has more in its environment than others are to know
	script.Env = []string{"ACTION=change", "DEVPATH=" + disk(1).Devpath, "SECRET=x"}
	b.must(b.finish(script))
	all.expect(map[string]string{"ACTION": "change", "MAJOR": "8", "DEVNAME": "/dev/sdb", "SECRET": "", "PATH": ""})
	put := b.command("event", "put", "-n", "17")
	put.Stdin = pipeOf(t, "change@/devices/x\n")
	b.must(b.finish(put))
	all.expect(map[string]string{"ACTION": "change", "DEVPATH": "/devices/x", "SEQNUM": "17"})

	all.cmd.Process.Signal(os.Interrupt)
	if err := all.cmd.Wait(); err != nil {
		t.Errorf("an interrupted watch: %v", err)
	}
	if n := b.queues(); n != 0 {
		t.Errorf("%d queues are left", n)
	}
}

// TestTags has rules tag devices: clients and commands are told, the first of helpers
// does as the loop does, and what a device says by itself is no tag.
func TestTags(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newJailedBoard(t, "-tag=seat;DISKSEQ=.;.* 0:0 660\n-tag=a.b;sd[bc] 0:0 660 *echo $ACTION $TAGS >>/etc/log\n")
	l := b.startLoop()
	all, seat, ab := b.watch(), b.watch("tag=seat"), b.watch("tag=a.b")
	forger := disk(30)
	forger.Extra = []string{"TAGS=:seat:"}
	l.send(b.plug(forger)) // no rule gives it any
	all.expect(map[string]string{"DEVPATH": forger.Devpath, "TAGS": ""})
	forged := b.plug(disk(0))
	forged.Vars = append(forged.Vars, "TAGS=:a.b:")
	l.send(forged)
	for _, w := range []*watcher{all, seat} {
		w.expect(map[string]string{"DEVPATH": disk(0).Devpath, "TAGS": ":seat:"})
	}
	everybody := func(action string, n int) {
		t.Helper()
		for _, w := range []*watcher{all, seat, ab} {
			w.expect(map[string]string{"ACTION": action, "DEVPATH": disk(n).Devpath, "TAGS": ":seat:a.b:"})
		}
	}
	l.send(b.plug(disk(1)))
	everybody("add", 1)
	l.send(b.unplug(disk(1)))
	everybody("remove", 1)
	if code := l.stop(); code != exitDone {
		t.Errorf("exit code %d\n%s", code, l.stderr)
	}
	b.serve(b.plug(disk(2)))
	everybody("add", 2)
	if got := b.read(filepath.Dir(b.conf) + "/log"); got != "add :seat:a.b:\nremove :seat:a.b:\nadd :seat:a.b:\n" {
		t.Errorf("the commands say %q", got)
	}
}

// queue makes a queue of this process's, with these files in it.
func (b *board) queue(root string, files map[string]string) string {
	b.Helper()
	name := "q-" + strconv.Itoa(os.Getpid())
	hidden := root + "/." + name
	err := os.Mkdir(hidden, 0o700)
	for file, text := range files {
		b.write(hidden+"/"+file, text)
	}
	if err == nil {
		err = os.Rename(hidden, root+"/"+name)
	}
	if err != nil {
		b.Fatal(err)
	}
	return root + "/" + name
}

// unread returns the names of a queue's events.
func unread(t *testing.T, queue string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(queue)
	if err != nil {
		t.Error(err)
	}
	for _, e := range entries {
		if len(e.Name()) != 20 {
			continue
		}
		// The kernel tells every namespace of other tests' loop devices.
		if text, err := os.ReadFile(queue + "/" + e.Name()); err != nil || !strings.Contains(string(text), "/devices/virtual/block/") {
			names = append(names, e.Name())
		}
	}
	return names
}

// TestLibudevBesideLoop has a helper, which the kernel gives no options, tell also the
// clients that the loop was told to let in.
func TestLibudevBesideLoop(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newJailedBoard(t, "")
	b.startLoop("--libudev")
	var queue string
	b.jail.Do(func() { queue = b.queue("/dev/metadata/udev/events", nil) })
	b.tell(b.plug(disk(0)))
	b.jail.Do(func() {
		if names := unread(t, queue); len(names) != 1 {
			t.Errorf("of the helper's event it is told %q", names)
		}
	})
}

// TestServerFeeds has the server of the kernel's helpers stay until a client whose
// queue was full has read.
func TestServerFeeds(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newJailedBoard(t, "")
	first := b.serve(b.plug(disk(0)))
	inside := func(do func()) {
		t.Helper()
		b.jail.Do(do)
	}
	kerneltest.Until(t, patience, "the roots", func() (there bool) {
		inside(func() { _, err := os.Stat("/dev/events"); there = err == nil })
		return there
	})
	const window = 4096
	full := map[string]string{".nolinks": ""}
	for n := range window {
		full["junk"+strconv.Itoa(n)] = ""
	}
	var queue string
	inside(func() { queue = b.queue("/dev/events", full) })
	b.tell(b.plug(disk(1)))
	b.holds("sda block 0660 0:0 8:0", "sdb block 0660 0:0 8:16")
	time.Sleep(3 * time.Second) // longer than a server stays that has nothing to do
	if !b.served() {
		t.Fatal("the server has left, though an event is held back")
	}
	inside(func() {
		if names := unread(t, queue); len(names) > 0 {
			t.Errorf("a full queue got %q", names)
		}
		for n := range 10 {
			os.Remove(queue + "/junk" + strconv.Itoa(n))
		}
	})
	kerneltest.Until(t, patience, "the event", func() (there bool) {
		inside(func() { there = len(unread(t, queue)) > 0 })
		return there
	})
	if err := first.Wait(); err != nil || b.served() {
		t.Errorf("the server ended with %v; its FIFO is there: %v", err, b.served())
	}
}

// pipeOf returns a file from which text is read.
func pipeOf(t *testing.T, text string) *os.File {
	t.Helper()
	read, write, err := os.Pipe()
	if err == nil {
		_, err = write.WriteString(text)
	}
	if err != nil {
		t.Fatal(err)
	}
	write.Close()
	t.Cleanup(func() { read.Close() })
	return read
}
