package systemtest

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/kerneltest"
)

// contains returns a function that reports whether a file in the board's directory has a
// text in it.
func (b *board) contains(name, text string) func() bool {
	return func() bool {
		content, err := os.ReadFile(filepath.Join(b.dir, name))
		return err == nil && strings.Contains(string(content), text)
	}
}

// hangs is a command that writes its number to a file, named like the device, and runs for
// ever. It holds nothing of the process that started it.
func hangs(dir string) string {
	return "@echo $$ >" + dir + "/pid.$MDEV; exec sleep 600 >/dev/null 2>&1"
}

// killCommand ends the command that hangs for a device.
func (b *board) killCommand(name string) {
	b.Helper()
	if err := unix.Kill(int(number(b, strings.TrimSpace(b.read(b.dir+"/pid."+name)))), unix.SIGKILL); err != nil {
		b.Fatal(err)
	}
}

// TestLongCommands has as many commands as there are slots run on and on. The command
// of another device, and the remove that ends one of them, run all the same; the loop
// can be settled, and says once what is wrong.
func TestLongCommands(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "")
	b.configure("-sda 0:0 660 $kill $(cat " + b.dir + "/pid.sda); echo removed >" + b.dir + "/removed\n" +
		"sd[abcd] 0:0 660 " + hangs(b.dir) + "\n" +
		"sde 0:0 660 @echo done >" + b.dir + "/done\n")
	l := b.startLoop("-j", "4")
	for n := range 5 {
		l.send(b.plug(disk(n)))
	}
	kerneltest.Until(t, patience, "the command of sda", b.contains("pid.sda", "\n"))
	since := time.Now()
	l.send(b.unplug(disk(0)))
	kerneltest.Until(t, patience, "the remove whose command ends the add's", b.contains("removed", "removed"))
	if took := time.Since(since); took > 6*time.Second {
		t.Errorf("the command of the remove ran %v after that of the add", took)
	}
	kerneltest.Until(t, patience, "the end of that", func() bool { return !alive(t, b.dir+"/pid.sda") }) // it was sent a signal
	kerneltest.Until(t, patience, "a fifth device's command", b.contains("done", "done"))
	b.must(b.run("settle", "10"))
	if got := b.status("commands"); !strings.Contains(got, "3 running, 3 of them for long") {
		t.Errorf("status says %q", got)
	}
	if n := strings.Count(l.stderr.String(), "still runs"); n != 1 {
		t.Errorf("the log says it %d times:\n%s", n, l.stderr)
	}
	if !strings.Contains(l.stderr.String(), "mdev.conf:2") {
		t.Errorf("the log names no line:\n%s", l.stderr)
	}
	l.kill()
}

// TestScanWithLongCommands scans by hand where more commands hang than there are slots.
// The command of another device runs all the same, while the scan waits for those, and
// counts them as failures.
func TestScanWithLongCommands(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "")
	b.configure("patience=1; 0:0 660\ntimeout=3;sd[a-e] 0:0 660 " + hangs(b.dir) + "\nsdf 0:0 660 @echo done >" + b.dir + "/done\n")
	for n := range 6 {
		b.add(disk(n))
	}
	var log transcript
	cmd := b.command("-s", "-j", "4")
	cmd.Stderr = &log
	if err := b.start(cmd); err != nil {
		t.Fatal(err)
	}
	kerneltest.Until(t, patience, "a sixth device's command", b.contains("done", "done"))
	if strings.Contains(log.String(), "killed") {
		t.Errorf("it ran when others had been killed:\n%s", &log)
	}
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != exitEvent || strings.Count(log.String(), "ran longer than 3 s") != 5 {
		t.Errorf("exit code %d\n%s", code, &log)
	}
}

// TestManyLongCommands has more commands run on and on than the loop lets run without a
// slot. The others keep theirs, and the oldest of them follows when one of those ends.
func TestManyLongCommands(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	const many, most = 70, 64
	b := newBoard(t, "")
	b.configure("patience=1; 0:0 660\nsd.* 0:0 660 " + hangs(b.dir) + "\n")
	l := b.startLoop("-j", "70")
	for n := range many {
		l.send(b.plug(disk(n)))
	}
	becomes := func(what string, running int) {
		t.Helper()
		want, commands := fmt.Sprintf("%d started, %d running, %d of them for long", many, running, most), ""
		if !kerneltest.Eventually(patience, func() bool { commands = b.status("commands"); return strings.Contains(commands, want) }) {
			t.Fatalf("%s: status says %q, want %q", what, commands, want)
		}
		if got := b.status("under way"); !strings.HasPrefix(got, fmt.Sprint(running-most)+",") {
			t.Errorf("%s: under way are %q, want %d", what, got, running-most)
		}
	}
	becomes("all hang", many)
	b.killCommand("sdc")
	becomes("one has ended", many-1)
	b.killCommand("sdd")
	becomes("another has", many-2)
	l.kill()
}

// TestDetachedCommands shows that nothing waits for the command of a rule that says so: not
// the commands after it, nor the end of the process that started it, which it outlives.
func TestDetachedCommands(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newJailedBoard(t, "")
	b.configure("-detach=yes;sda 0:0 660 " + hangs(b.dir) + "\n" +
		"-sda 0:0 660 @echo $MDEV >>" + b.dir + "/done\nsda 0:0 660 *echo $ACTION >>" + b.dir + "/done\n")
	check := func(how string) {
		t.Helper()
		kerneltest.Until(t, patience, how+": the command", b.contains("pid.sda", "\n"))
		if got := b.read(b.dir + "/done"); got != "sda\nadd\n" || !alive(t, b.dir+"/pid.sda") {
			t.Errorf("%s: the commands after it say %q; it is there: %v", how, got, alive(t, b.dir+"/pid.sda"))
		}
		os.Remove(b.dir + "/done")
		os.Remove(b.dir + "/pid.sda")
	}
	e := b.plug(disk(0))
	b.scan()
	check("a scan by hand")
	b.must(b.finish(b.byHand(e)))
	check("a helper by hand")
	if err := b.serve(e).Wait(); err != nil {
		t.Error(err)
	}
	check("the kernel's helper")
	l := b.startLoop()
	since := time.Now()
	if code := l.stop(); code != exitDone || time.Since(since) > 5*time.Second {
		t.Errorf("exit code %d after %v", code, time.Since(since))
	}
	check("a loop")
}

// TestReadyWithLongCommand starts a loop in the background where a command of its scan
// hangs: it gets ready all the same.
func TestReadyWithLongCommand(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "")
	b.configure("patience=1; 0:0 660\nsda 0:0 660 " + hangs(b.dir) + "\n")
	b.add(disk(0))
	ready, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer ready.Close()
	cmd := b.command("-d", "-D", "3")
	cmd.ExtraFiles = []*os.File{write}
	b.must(b.finish(cmd))
	write.Close()
	_ = ready.SetReadDeadline(time.Now().Add(patience))
	reader := bufio.NewReader(ready)
	if line, err := reader.ReadString('\n'); err != nil {
		t.Errorf("it wrote %q, %v", line, err)
	}
	if n, err := reader.ReadByte(); err == nil || os.IsTimeout(err) {
		t.Errorf("the descriptor is not closed: %q, %v", n, err)
	}
	if !alive(t, b.dir+"/pid.sda") {
		t.Error("it waited for the command, or has ended it")
	}
	for _, fd := range []string{"3", "4", "5", "6", "7", "8", "9"} {
		pid := strings.TrimSpace(b.read(b.dir + "/pid.sda"))
		if to, err := os.Readlink("/proc/" + pid + "/fd/" + fd); err == nil {
			t.Errorf("the command has inherited descriptor %s: %s", fd, to)
		}
	}
}

// TestLeaderWithLongCommand has the first of the kernel's helpers run a command for long:
// the events of other devices are not delayed, settle and status do not wait for it, and
// its time limit holds.
func TestLeaderWithLongCommand(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newJailedBoard(t, "")
	b.configure("patience=1; 0:0 660\ntimeout=3;sda 0:0 660 " + hangs(b.dir) + "\nsd.* 0:0 660 @echo $MDEV >>" + b.dir + "/done\n")
	b.write(b.dev+"/mdev.log", "")
	first := b.serve(b.plug(disk(0)))
	kerneltest.Until(t, patience, "the command", b.contains("pid.sda", "\n"))
	since := time.Now()
	b.tell(b.plug(disk(1)))
	kerneltest.Until(t, patience, "the command of sdb", b.contains("done", "sdb"))
	if took := time.Since(since); took > time.Second {
		t.Errorf("that of sdb ran after %v", took)
	}
	b.must(b.run("settle", "10", "--quiet", "0"))
	if took := time.Since(since); !alive(t, b.dir+"/pid.sda") {
		t.Errorf("settle took %v, as long as the command", took)
	}
	if got := b.status("commands"); !strings.Contains(got, "1 running, 1 of them for long") {
		t.Errorf("status says %q", got)
	}
	kerneltest.Until(t, patience, "the time limit", func() bool { return !alive(t, b.dir+"/pid.sda") })
	if err := first.Wait(); err != nil || b.served() {
		t.Errorf("the leader ended with %v; its FIFO is there: %v", err, b.served())
	}
	if log := b.read(b.dev + "/mdev.log"); !strings.Contains(log, "ran longer than 3 s") {
		t.Errorf("the log says\n%s", log)
	}
}

// TestLoopRelievesLongCommand starts a loop where the first of the kernel's helpers runs a
// command for long. The leader makes way before that has ended, and still keeps its limit.
func TestLoopRelievesLongCommand(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newJailedBoard(t, "")
	b.configure("patience=1; 0:0 660\ntimeout=4;if_exists=mask;sda 0:0 660 " + hangs(b.dir) + "\n")
	first := b.serve(b.plug(disk(0)))
	kerneltest.Until(t, patience, "the command", b.contains("pid.sda", "\n"))
	l := b.startLoop()
	if !alive(t, b.dir+"/pid.sda") {
		t.Error("the loop waited for the command, or it was killed")
	}
	if r := b.run("status"); !strings.Contains(r.stdout, "as loop") || strings.Contains(r.stdout, "for long") {
		t.Errorf("status says %q", r.stdout)
	}
	since := time.Now()
	if err := first.Wait(); err != nil || time.Since(since) > 6*time.Second {
		t.Errorf("the leader ended with %v after %v", err, time.Since(since))
	}
	kerneltest.Until(t, patience, "the time limit", func() bool { return !alive(t, b.dir+"/pid.sda") })
	l.stop()
}

// TestPausedLeaderEnds tells the first of the kernel's helpers to end while its queue is
// stopped: it does, at once.
func TestPausedLeaderEnds(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newJailedBoard(t, "")
	first := b.serve(b.plug(disk(0)))
	b.must(b.run("ctl", "stop"))
	b.tell(b.plug(disk(1)))
	kerneltest.Until(t, patience, "the event", func() bool { return strings.HasPrefix(b.status("under way"), "1") })
	since := time.Now()
	b.must(b.run("ctl", "exit"))
	if took := time.Since(since); took > 5*time.Second {
		t.Errorf("it answered after %v", took)
	}
	if err := first.Wait(); err != nil {
		t.Error(err)
	}
	b.scan()
	b.has("sda block 0660 0:0 8:0", "sdb block 0660 0:0 8:16")
}
