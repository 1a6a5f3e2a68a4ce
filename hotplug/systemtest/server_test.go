package systemtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"devspool/hotplug/kerneltest"
)

// serve starts the helper of e as a kernel does, and waits until it serves the
// helpers after it.
func (b *board) serve(e kerneltest.Event) *exec.Cmd {
	b.Helper()
	cmd := b.helper(e)
	cmd.Stderr = b.null
	if err := b.start(cmd); err != nil {
		b.Fatal(err)
	}
	b.T.Cleanup(func() { cmd.Process.Kill() })
	kerneltest.Until(b.T, patience, "the first helper to serve", func() bool { return b.served() })
	return cmd
}

// served reports whether there is a server's FIFO.
func (b *board) served() bool {
	_, err := os.Stat(b.dev + "/.devspool/helper")
	return err == nil
}

// holds waits until /dev is as wanted: what is handed over is done after the helper
// has ended.
func (b *board) holds(want ...string) {
	b.Helper()
	kerneltest.Eventually(patience, func() bool { return fmt.Sprint(b.snapshot()) == fmt.Sprint(want) })
	b.has(want...)
}

// TestServer has the first helper do the events of all, until it leaves. Meanwhile
// it answers for the loop.
func TestServer(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newJailedBoard(t, "sd.* 0:0 600\n")
	first := b.serve(b.plug(disk(0)))
	for n := 1; n < 4; n++ {
		b.tell(b.plug(disk(n)))
	}
	b.holds("sda block 0600 0:0 8:0", "sdb block 0600 0:0 8:16", "sdc block 0600 0:0 8:32", "sdd block 0600 0:0 8:48")
	b.tell(b.unplug(disk(1)))
	b.holds("sda block 0600 0:0 8:0", "sdc block 0600 0:0 8:32", "sdd block 0600 0:0 8:48")
	if r := b.run("status"); !strings.Contains(r.stdout, "as first of the kernel's helpers") || !strings.Contains(r.stdout, "5 received") {
		t.Errorf("status says %q, %q", r.stdout, r.stderr)
	}
	b.configure("sd.* 0:0 640\n")
	b.scan()
	b.has("sda block 0640 0:0 8:0", "sdc block 0640 0:0 8:32", "sdd block 0640 0:0 8:48")
	b.must(b.run("ctl", "exit"))
	if err := first.Wait(); err != nil || b.served() {
		t.Errorf("the server ended with %v; its FIFO is there: %v", err, b.served())
	}
	if got := b.read(b.dev + "/.devspool/server"); got != "1 5\n" {
		t.Errorf("done were %q", got)
	}
	again := b.helper(disk(0).Event("remove")) // with a number that is done
	again.Env = disk(0).Event("remove").Environ(5)
	b.must(b.finish(again))
	b.has("sda block 0640 0:0 8:0", "sdc block 0640 0:0 8:32", "sdd block 0640 0:0 8:48")
}

// TestServerLeaves waits for the end of a server that nobody needs.
func TestServerLeaves(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newJailedBoard(t, "sdb 0:0 600 @echo $DEVTYPE$PARTN >/etc/log\n")
	first := b.serve(b.plug(partition(disk(0), 3))) // its variables are not the next one's
	b.tell(b.plug(disk(1)))
	if err := first.Wait(); err != nil || b.served() {
		t.Errorf("the server ended with %v; its FIFO is there: %v", err, b.served())
	}
	b.has("sda3 block 0660 0:0 8:3", "sdb block 0600 0:0 8:16")
	if got := b.read(filepath.Dir(b.conf) + "/log"); got != "disk\n" {
		t.Errorf("the command says %q", got)
	}
}

// TestServerDied has the next helper do what a killed server left undone.
func TestServerDied(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newJailedBoard(t, "")
	first := b.serve(b.plug(disk(0)))
	b.holds("sda block 0660 0:0 8:0")
	first.Process.Kill()
	first.Wait()
	b.plug(disk(1)) // nobody hears of these
	b.unplug(disk(0))
	b.serve(b.plug(disk(2)))
	b.holds("sdb block 0660 0:0 8:16", "sdc block 0660 0:0 8:32")
}

// TestServerMountedOver mounts another file system over the server's /dev.
func TestServerMountedOver(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newJailedBoard(t, "")
	first := b.serve(b.plug(disk(0)))
	b.holds("sda block 0660 0:0 8:0")
	over := b.dir + "/over"
	if err := os.Mkdir(over, 0o755); err != nil {
		t.Fatal(err)
	}
	b.jail.Do(func() {
		if err := unix.Mount(over, "/dev", "", unix.MS_BIND, ""); err != nil {
			t.Error(err)
		}
	})
	if err := first.Wait(); err != nil {
		t.Errorf("the server ended with %v", err)
	}
	b.dev = over
	b.has("sda block 0660 0:0 8:0")
	b.serve(b.plug(disk(1)))
	b.holds("sda block 0660 0:0 8:0", "sdb block 0660 0:0 8:16")
}

// TestLoopRelievesServer starts a loop where a server is: that leaves, and later
// helpers do their own events.
func TestLoopRelievesServer(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newJailedBoard(t, "")
	first := b.serve(b.plug(disk(0)))
	l := b.startLoop()
	if err := first.Wait(); err != nil || b.served() {
		t.Errorf("the server ended with %v; its FIFO is there: %v", err, b.served())
	}
	b.tell(b.plug(disk(1)))
	b.has("sda block 0660 0:0 8:0", "sdb block 0660 0:0 8:16")
	if b.served() {
		t.Error("a helper serves beside the loop")
	}
	if code := l.stop(); code != exitDone {
		t.Errorf("the loop ended with %d", code)
	}
}

// TestServerElsewhere is where no helper can serve, or none shall: each does its
// own event.
func TestServerElsewhere(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	t.Run("a full /dev", func(t *testing.T) {
		b := newJailedBoard(t, "")
		if err := unix.Mount("", b.dev, "", unix.MS_REMOUNT, "nr_inodes=6"); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"a", "b", "c"} {
			b.write(b.dev+"/"+name, "")
		}
		b.finish(b.helper(b.plug(disk(0))))
		if b.served() {
			t.Error("a FIFO is there")
		}
	})
	t.Run("read-only", func(t *testing.T) {
		b := newJailedBoard(t, "")
		if err := unix.Mount("", b.dev, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			t.Fatal(err)
		}
		if r := b.finish(b.helper(b.plug(disk(0)))); r.code != exitEvent {
			t.Errorf("exit code %d, %s", r.code, r.stderr)
		}
	})
	t.Run("by hand", func(t *testing.T) {
		b := newJailedBoard(t, "")
		cmd := b.helper(b.plug(disk(0)))
		cmd.Env = disk(0).Event("add").Environ(0)
		cmd.Env = cmd.Env[:len(cmd.Env)-1] // without SEQNUM
		b.must(b.finish(cmd))
		b.has("sda block 0660 0:0 8:0")
		if b.served() {
			t.Error("a FIFO is there")
		}
	})
}

// TestBetweenServers asks on a board whose kernel starts helpers, before, between and
// while they come: settle is the end of their commands, wait that of a device's event.
func TestBetweenServers(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newJailedBoard(t, "sdb 0:0 600 @sleep 1; echo $MDEV >>/etc/log\n")
	kernel := func(name, text string) { b.write(b.tree.Dir+"/kernel/"+name, text+"\n") }
	kernel("uevent_seqnum", "0")
	kernel("uevent_helper", "")
	for _, words := range [][]string{{"status"}, {"settle", "5"}} {
		if r := b.run(words...); r.code != exitEvent || !strings.Contains(r.stderr, "start one with: devspool -d") {
			t.Errorf("%q: exit code %d, %q", words, r.code, r.stderr)
		}
	}
	kernel("uevent_helper", b.program)
	if r := b.run("status"); r.code != exitDone || !strings.Contains(r.stdout, "the kernel's helper") || !strings.Contains(r.stdout, b.program) {
		t.Errorf("status says %q, %q", r.stdout, r.stderr)
	}
	b.must(b.run("settle", "20"))
	if r := b.run("wait", "/dev/sdb", "0.1"); r.code != exitEvent || !strings.Contains(r.stderr, "timed out: still missing: /dev/sdb") {
		t.Errorf("exit code %d, %q", r.code, r.stderr)
	}
	wait := b.command("wait", "/dev/sdb", "20")
	wait.Stderr = b.null
	if err := b.start(wait); err != nil {
		t.Fatal(err)
	}
	first := b.serve(b.plug(disk(0)))
	b.tell(b.plug(disk(1)))
	kernel("uevent_seqnum", "2")
	if err := wait.Wait(); err != nil {
		t.Errorf("wait: %v", err)
	}
	log := filepath.Dir(b.conf) + "/log"
	if got := b.read(log); got != "sdb\n" {
		t.Errorf("at the end of the wait the commands had said %q", got)
	}
	b.unplug(disk(1))
	b.tell(b.plug(disk(1)))
	kernel("uevent_seqnum", "3")
	b.must(b.run("settle", "20", "--quiet", "0"))
	if got := b.read(log); got != "sdb\nsdb\n" {
		t.Errorf("at the end of settle the commands had said %q", got)
	}
	if err := first.Wait(); err != nil {
		t.Error(err)
	}
	b.must(b.run("settle", "0", "--quiet", "0"))
	b.must(b.run("wait", "/dev/sda", "DEVTYPE=disk", "0"))
	b.serve(b.plug(disk(2))).Process.Kill()
	kernel("uevent_seqnum", "4")
	if r := b.run("settle", "2"); r.code != exitEvent || !strings.Contains(r.stderr, "was killed") {
		t.Errorf("after a killed server: exit code %d, %q", r.code, r.stderr)
	}
}
