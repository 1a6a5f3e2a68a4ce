package systemtest

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"devspool/hotplug/kerneltest"
)

// ask has the loop do what args say, which must end well.
func (b *board) ask(args ...string) string {
	b.Helper()
	r := b.run(args...)
	b.must(r)
	return r.stdout
}

// status returns a line of the loop's status.
func (b *board) status(name string) string {
	b.Helper()
	for line := range strings.Lines(b.ask("status")) {
		if rest, ok := strings.CutPrefix(line, name+": "); ok {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}

// events returns how many events the loop has received, and how many are done.
// The machine's own devices may have added some, which reach every namespace.
func (b *board) events() (received, done int) {
	b.Helper()
	text := b.status("events")
	if n, err := fmt.Sscanf(text, "%d received, %d done", &received, &done); n != 2 {
		b.Fatalf("events: %q, %v", text, err)
	}
	return received, done
}

// flooded is what the devpaths of flood's devices begin with.
const flooded = "/devices/virtual/x"

// flood sends many events of a hundred devices in turn, without waiting for the
// kernel's word. Their SUBSYSTEM counts those of each device.
func (l *loop) flood(many int) {
	l.Helper()
	const devices = 100
	for i := range many {
		e := kerneltest.Event{Action: "change", Devpath: fmt.Sprint(flooded, i%devices), Vars: []string{fmt.Sprint("SUBSYSTEM=", i/devices)}}
		if i == 7 {
			e = e.With("HANG=1")
		}
		if err := l.inject.Write(kerneltest.Message(e)); err != nil {
			l.Fatal(err)
		}
	}
	if err := l.inject.Refused(); err != nil {
		kerneltest.Cannot(l, "%v", err)
	}
}

// TestBurst sends 300,000 events while a command hangs: none is lost, those of a
// device keep their order, and only the device of that command waits.
func TestBurst(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	many := 300_000
	if testing.Short() {
		many = 30_000
	}
	b := newBoard(t, "patience=0;$HANG=1 0:0 660 *until test -e ../go; do sleep 0.05; done\n")
	rows, err := os.Create(filepath.Join(b.dir, "rows"))
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	l := b.startLoopTo(rows, "-t")
	l.flood(many)
	held := many / 100 // the events of the device whose command hangs
	kerneltest.Until(t, 6*patience, "all other events", func() bool {
		received, done := b.events()
		return received >= many && done == received-held
	})
	b.write(b.dir+"/go", "")
	b.ask("settle", "100", "--quiet", "0")
	if code := l.stop(); code != exitDone || strings.Contains(l.stderr.String(), "dropped") {
		t.Errorf("the loop ended with %d\n%s", code, head(l.stderr.String(), 20))
	}
	next := map[string]int{}
	file, err := os.Open(rows.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		f := strings.Fields(lines.Text())
		if len(f) < 5 || !strings.HasPrefix(f[4], flooded) {
			continue // of the machine's own devices, whose events reach every namespace
		}
		devpath := f[4]
		if n := next[devpath]; f[2] != strconv.Itoa(n) {
			t.Fatalf("event %s of %s came to its end when %d was to", f[2], devpath, n)
		}
		next[devpath]++
	}
	for i := range 100 {
		if n := next[fmt.Sprint(flooded, i)]; n != many/100 {
			t.Errorf("of x%d, %d events came to their end, want %d", i, n, many/100)
		}
	}
}

// resident returns how much memory the loop has, in KiB.
func (l *loop) resident() int {
	l.Helper()
	text := l.read(fmt.Sprintf("/proc/%d/status", l.cmd.Process.Pid))
	m := regexp.MustCompile(`VmRSS:\s*(\d+) kB`).FindStringSubmatch(text)
	if m == nil {
		l.Fatalf("no VmRSS in:\n%s", text)
	}
	return int(number(l, m[1]))
}

// TestMemoryBack shows that a hundred thousand events which had to wait leave the
// loop hardly larger than it was: Go's runtime keeps its books of the heap that
// there was, but not the heap, and their text did not lie in it.
func TestMemoryBack(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	const first, many, slack = 2000, 100_000, 2 << 10
	b := newBoard(t, "")
	l := b.startLoop()
	// What is taken once is taken by the first events. They wait too: so the loop has their
	// memory until they may go on, however long that takes, and gives it back after that.
	hold := func(events, sum int) (resident int) {
		b.ask("ctl", "stop")
		l.flood(events)
		kerneltest.Until(t, 2*patience, "the events", func() bool { received, _ := b.events(); return received >= sum })
		return l.resident()
	}
	busy, idle := hold(first, first), 0
	b.ask("ctl", "start")
	b.ask("settle", "100", "--quiet", "0")
	kerneltest.Until(t, patience, "the memory of the first events", func() bool { idle = l.resident(); return idle < busy })
	full := hold(many, first+many)
	if full < idle+2*slack {
		t.Errorf("with %d events waiting it has %d KiB, idle %d", many, full, idle)
	}
	b.ask("ctl", "start")
	received, _ := b.events()
	b.ask("settle", "100", "--quiet", "0")
	if _, done := b.events(); done < received { // others' devices may have had more events since
		t.Errorf("after settle %d events of %d are done", done, received)
	}
	back := 0
	if !kerneltest.Eventually(patience, func() bool { back = l.resident(); return back <= idle+slack }) {
		t.Errorf("afterwards it has %d KiB, idle %d, full %d", back, idle, full)
	}
	t.Logf("idle %d KiB, full %d, afterwards %d", idle, full, back)
}

// TestAllHang has every slot for commands taken by one that hangs: what needs none
// goes on.
func TestAllHang(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "sd[a-d] 0:0 600 @echo $MDEV >>../begun; sleep 600\nsde 0:0 640 @touch ../sde\n")
	l := b.startLoop("-j", "4")
	for n := range 5 {
		l.send(b.plug(disk(n)))
	}
	kerneltest.Until(t, patience, "the commands", func() bool {
		return strings.HasPrefix(b.status("commands"), "4 started, 4 running, 4 at most")
	})
	l.send(b.plug(disk(5)))
	l.send(b.plug(disk(6)))
	l.send(b.unplug(disk(6)))
	want := []string{"sde block 0640 0:0 8:64", "sdf block 0660 0:0 8:80"}
	for n := range 4 {
		want = append(want, fmt.Sprintf("sd%s block 0600 0:0 8:%d", letters(n), 16*n))
	}
	slices.Sort(want)
	b.has(want...)
	if _, err := os.Stat(b.dir + "/sde"); err == nil {
		t.Error("a fifth command ran")
	}
	r := b.run("settle", "0.3")
	if r.code != exitEvent || strings.Count(r.stdout, "\nrunning: ") != 4 {
		t.Errorf("settle: exit code %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	b.ask("ctl", "children-max", "5")
	kerneltest.Until(t, patience, "the fifth", func() bool { _, err := os.Stat(b.dir + "/sde"); return err == nil })
	l.kill()
}

// TestNothingLeft ends a loop whose commands run, also one that nothing waits for any more,
// and looks for what it leaves after ten seconds.
func TestNothingLeft(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	command := "@sleep 600 & echo $! >../child.$MDEV; echo $$ >../shell.$MDEV; wait\n"
	b := newBoard(t, "patience=1;sda 0:0 600 "+command+"patience=0;sdb 0:0 600 "+command)
	l := b.startLoop()
	l.send(b.plug(disk(0)))
	l.send(b.plug(disk(1)))
	files := []string{"child.sda", "shell.sda", "child.sdb", "shell.sdb"}
	for _, file := range files {
		kerneltest.Until(t, patience, file, func() bool { return alive(t, filepath.Join(b.dir, file)) })
	}
	kerneltest.Until(t, patience, "the end of the patience with one", func() bool {
		return strings.Contains(b.status("commands"), "2 running, 1 of them for long")
	})
	control := b.dev + "/.devspool/control"
	if _, err := os.Stat(control); err != nil {
		t.Error(err)
	}
	since := time.Now()
	if code := l.stop(); code != exitDone || time.Since(since) < 9*time.Second {
		t.Errorf("the loop ended with %d after %v\n%s", code, time.Since(since), l.stderr)
	}
	for _, file := range files {
		kerneltest.Until(t, patience, "the end of "+file, func() bool { return !alive(t, filepath.Join(b.dir, file)) })
	}
	if _, err := os.Lstat(control); err == nil {
		t.Error("the control socket is left")
	}
	if r := b.run("status"); r.code != exitEvent || !strings.Contains(r.stderr, "no loop serves this /dev") {
		t.Errorf("status without a loop: exit code %d, %s", r.code, r.stderr)
	}
}

// TestNoZombies shows that commands which have ended are buried.
func TestNoZombies(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "sd.* 0:0 600 @exit 1\nttyS.* 0:0 600 @kill $$\n")
	l := b.startLoop()
	for n := range 20 {
		l.send(b.plug(disk(n)))
		l.send(b.plug(terminal(n)))
	}
	b.ask("settle", "20", "--quiet", "0")
	if got := b.status("commands"); !strings.HasPrefix(got, "40 started, 0 running") {
		t.Errorf("commands: %s", got)
	}
	children := b.read(fmt.Sprintf("/proc/%d/task/%[1]d/children", l.cmd.Process.Pid))
	if strings.TrimSpace(children) != "" {
		t.Errorf("children are left: %s", children)
	}
}

// TestSignals has signals read the config anew and tell how things stand.
func TestSignals(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "sda 0:0 600\n")
	l := b.startLoop()
	said := func(words ...string) func() bool {
		return func() bool {
			text := l.stderr.String()
			for _, word := range words {
				if !strings.Contains(text, word) {
					return false
				}
			}
			return true
		}
	}
	signal := func(s syscall.Signal) {
		if err := l.cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	l.send(b.plug(disk(0)))
	b.has("sda block 0600 0:0 8:0")
	signal(syscall.SIGUSR1)
	kerneltest.Until(t, patience, "the status", said("notice: events: ", "notice: queue: open", "notice: gaps: 0"))
	b.configure("sda 0:0 640\n")
	signal(syscall.SIGHUP)
	kerneltest.Until(t, patience, "the new config", said("the config was read anew"))
	l.send(disk(0).Event("add"))
	b.has("sda block 0640 0:0 8:0")
	b.configure("sda 0:0 604\nsdb 0:0 9\n")
	signal(syscall.SIGHUP)
	kerneltest.Until(t, patience, "the refusal", said("error: "+b.conf+":2:", "the old config stays"))
	l.send(disk(0).Event("add"))
	if r := b.run("ctl", "reload"); r.code != exitEvent || !strings.Contains(r.stderr, b.conf+":2:") {
		t.Errorf("exit code %d, %s", r.code, r.stderr)
	}
	if err := os.Remove(b.conf); err != nil {
		t.Fatal(err)
	}
	if r := b.run("ctl", "reload"); r.code != exitEvent || !strings.Contains(r.stderr, "no such file") {
		t.Errorf("exit code %d, %s", r.code, r.stderr)
	}
	b.ask("settle", "20", "--quiet", "0")
	b.has("sda block 0640 0:0 8:0")
	b.configure("sda 0:0 604\n")
	b.ask("ctl", "reload")
	l.send(disk(0).Event("add"))
	b.has("sda block 0604 0:0 8:0")
	if code := l.stop(); code != exitDone {
		t.Errorf("the loop ended with %d", code)
	}
}

// TestWaitAndSettle is what a boot script does: it waits for one device, and for
// the end of all.
func TestWaitAndSettle(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "sda 0:0 600 >disk/first @sleep 0.2; touch ../done\n")
	l := b.startLoop()
	var out bytes.Buffer
	wait := b.command("wait", "/dev/disk/first", "DISKSEQ=1", "20")
	wait.Stdout, wait.Stderr = &out, &out
	if err := b.start(wait); err != nil {
		t.Fatal(err)
	}
	l.send(b.plug(disk(1)))
	b.has("sdb block 0660 0:0 8:16")
	l.send(b.plug(disk(0)))
	b.must(await(b, wait, &out, &out))
	if _, err := os.Stat(b.dir + "/done"); err != nil {
		t.Error("it did not wait for the command")
	}
	b.ask("wait", "/dev/disk/first", "/dev/sdb", disk(1).Devpath, "0")
	if r := b.run("wait", "/dev/sdz", "0.1"); r.code != exitEvent || !strings.Contains(r.stderr, "still missing: /dev/sdz") {
		t.Errorf("exit code %d, %s", r.code, r.stderr)
	}
	for range 4 {
		l.send(disk(0).Event("add"))
	}
	b.ask("settle")
	if received, done := b.events(); received < 6 || done != received {
		t.Errorf("after settle %d events of %d are done", done, received)
	}
	b.add(disk(2))
	b.ask("coldplug") // which on a tree that is no sysfs is a scan
	if _, err := os.Stat(b.dev + "/sdc"); err != nil {
		t.Error(err)
	}
	b.ask("ctl", "ping")
	b.ask("ctl", "exit")
	kerneltest.Until(t, patience, "the end", func() bool { return b.run("ctl", "ping").code == exitEvent })
	b.ask("wait", "/dev/sdc", "0") // without a loop too
}
