package systemtest

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"devspool/hotplug/kerneltest"
)

// TestSecondLoop refuses to be one loop too many.
func TestSecondLoop(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "")
	l := b.startLoop()
	if r := b.run("-df"); r.code != exitEvent || strings.Count(r.stderr, "another loop already serves this /dev") != 1 {
		t.Errorf("exit code %d, stderr %q", r.code, r.stderr)
	}
	l.send(b.plug(disk(0)))
	b.has("sda block 0660 0:0 8:0")
}

// TestScanBesideLoop makes what nobody sent an event of, by the loop's hand.
func TestScanBesideLoop(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "sda 0:0 600 @echo $ACTION >>../seen\nsdb 0:0 660 =sdc/\n")
	b.startLoop()
	b.add(disk(0))
	b.scan()
	if got := b.snapshot(); len(got) != 1 {
		t.Errorf("when -s returned, /dev held %q", got)
	}
	if got := b.read(b.dir + "/seen"); got != "add\n" {
		t.Errorf("when -s returned, the commands had seen %q", got)
	}
	b.unplug(disk(0))
	b.scan()
	b.has()
	// What the loop could not do is the scan's failure too.
	b.write(b.dev+"/sdc", "in the way\n")
	b.add(disk(1))
	if r := b.run("-s"); r.code != exitEvent {
		t.Errorf("exit code %d\n%s", r.code, r.stderr)
	}
}

// TestScanBesideDyingLoop has the loop die before it answers.
func TestScanBesideDyingLoop(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "")
	l := b.startLoop()
	if err := l.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	b.add(disk(0))
	scan := b.command("-s")
	var stderr bytes.Buffer
	scan.Stderr = &stderr
	if err := b.start(scan); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(300*time.Millisecond, func() { l.cmd.Process.Kill() })
	r := await(t, scan, &stderr, &stderr)
	if got := b.snapshot(); r.code != exitDone || len(got) != 1 {
		t.Errorf("exit code %d, /dev holds %q\n%s", r.code, got, r.stderr)
	}
}

// TestEndOfLoop tells a loop to end, of which a command hangs.
func TestEndOfLoop(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "sda 0:0 600 @echo $$ >../shell; sleep 600\n")
	l := b.startLoop()
	l.send(b.plug(disk(0)))
	kerneltest.Until(t, patience, "the command", func() bool { return alive(t, b.dir+"/shell") })
	if code := l.stop(); code < 0 {
		t.Error("SIGTERM does not end the loop")
	}
}

// TestPrivateDirectoryIsALink has root's private directory lead elsewhere.
func TestPrivateDirectoryIsALink(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	bothWays(t, "sda 7:7 640\n", disk(0), func(b *board, act func() result) {
		dir, untouched := b.outside()
		b.symlink(dir, ".devspool")
		act()
		untouched()
		if _, err := os.Lstat(filepath.Join(b.dev, "sda")); err != nil {
			b.Errorf("no node: %v", err)
		}
	})
}

// TestLog names in each line of the log what it is about, in one line.
func TestLog(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "-$X=.* 0:0 600 *nosuchprogram\n-$X=.* 0:0 600 @exit 3\n")
	e := kerneltest.Event{Action: "add", Devpath: "/devices/x\x1b[31m\nforged: line", Vars: []string{"SUBSYSTEM=x", "X=a\nforged: value"}}
	cmd := b.helper(e)
	cmd.Args = append(cmd.Args, "-v")
	r := b.finish(cmd)
	for line := range strings.Lines(r.stderr) {
		if strings.HasPrefix(line, "forged") || strings.Contains(line, "\x1b") {
			t.Errorf("the log has a line of the device's: %q", line)
		}
	}
	if !strings.Contains(r.stderr, "nosuchprogram") {
		t.Errorf("the log does not speak of the command:\n%s", r.stderr)
	}
}

// TestLoopAsInit has a loop as the first process of a container: it buries the orphans
// that fall to it, and hears all the same how its own commands end.
func TestLoopAsInit(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	for _, first := range []bool{true, false} {
		b := newBoard(t, "sd.* 0:0 660 @sh -c '(sleep 0.2; exit 3) & (sleep 0.1; exit 4) & exit 7'\n")
		b.init = first
		l := b.startLoop("-v", "-j", "8")
		const disks = 16
		for n := range disks {
			l.send(b.plug(disk(n)))
		}
		ended := func() int { return strings.Count(l.stderr.String(), "exit status 7") }
		kerneltest.Until(t, patience, "the end of all commands", func() bool { return ended() == disks })
		if n := ended(); n != disks {
			t.Errorf("%d commands ended with their status", n)
		}
		if !first {
			continue // the orphans are not its own
		}
		kerneltest.Until(t, patience, "the end of all orphans", func() bool { return len(children(t, l.cmd.Process.Pid)) == 0 })
	}
}

// children returns the children of a process, zombies among them.
func children(t *testing.T, pid int) (all []string) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if fields[1] == strconv.Itoa(pid) {
			all = append(all, string(stat))
		}
	}
	return all
}
