package hotplug

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"devspool/nodes"
)

// TestLog shows the lines of the log: whatever they are about, one for each call.
func TestLog(t *testing.T) {
	log := newLog(t)
	hostile := newEvent(t, "ACTION=add\x1b[2J", "DEVPATH=/devices/a\n7 devspool: error: forged")
	log.Print(Err, "a")
	log.Print(Warning, "a\nb\r\x00\x1b[0m\x7f")
	log.Print(Info, "ü \\ \xff")
	log.Event(Err, "failed", hostile, "why\nnot")
	log.Event(Info, "done", newEvent(t, "ACTION=add", "DEVPATH=/devices/a"), "")
	want := []string{
		"error: a",
		`warning: a\x0ab\x0d\x00\x1b[0m\x7f`,
		"info: ü \\ \xff",
		`error: failed: add\x1b[2J /devices/a\x0a7 devspool: error: forged: why\x0anot`,
		"info: done: add /devices/a",
	}
	if got := log.lines(); !slices.Equal(got, want) {
		t.Errorf("the log holds\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	log.SetLevel(Notice)
	log.Print(Info, "x")
	log.Event(Info, "x", hostile, "")
	log.Event(Warning, "y", newEvent(t, "ACTION=add", "DEVPATH=/devices/a"), "")
	if got := log.lines()[len(want):]; !slices.Equal(got, []string{"warning: y: add /devices/a"}) {
		t.Errorf("not verbose, it adds %q", got)
	}
}

// TestLogFile shows that the log goes to a file only where the board has made it.
func TestLogFile(t *testing.T) {
	dir := t.TempDir()
	if File(filepath.Join(dir, "missing"), 7) != nil {
		t.Error("a log without a file")
	}
	writeFile(t, filepath.Join(dir, "victim"), "")
	must(t, os.Symlink("victim", filepath.Join(dir, "link")))
	if File(filepath.Join(dir, "link"), 7) != nil {
		t.Error("a link is followed")
	}
	path := filepath.Join(dir, "mdev.log")
	writeFile(t, path, "before\n")
	for n := range uint64(2) {
		log := File(path, n)
		log.Print(Info, "x")
	}
	if got := contents(t, path); got != "before\n0 devspool: info: x\n1 devspool: info: x\n" {
		t.Errorf("it holds %q", got)
	}
}

// TestSyslog has a daemon that comes late, does not read, leaves, and comes again: the
// log never waits for it, and says what it lost.
func TestSyslog(t *testing.T) {
	address := filepath.Join(t.TempDir(), "log")
	other := newLog(t)
	null, err := os.Open("/dev/null")
	must(t, err)
	defer null.Close()
	log := syslogAt(address, func() *Log { return other.Log })
	within(t, "all of it", func() {
		log.Print(Err, "nobody")
		daemon := newMailbox(t, address)
		said := func(want string) {
			t.Helper()
			if got := daemon.next(); got != strings.ReplaceAll(want, "PID", strconv.Itoa(os.Getpid())) {
				t.Errorf("syslog got %q, want %q", got, want)
			}
		}
		log.Print(Err, "first\n<0>")
		said(`<27>devspool[PID]: error: first\x0a<0>`)
		const many = 10_000
		for range many {
			log.Print(Notice, "x")
		}
		took := 0
		for daemon.next() != "" {
			took++
		}
		log.Print(Info, "hidden")
		log.Print(Warning, "after")
		said("<28>devspool[PID]: warning: syslog took no lines for a while: " + strconv.Itoa(many-took) + " are lost")
		said("<28>devspool[PID]: warning: after")
		said("")

		for range many {
			log.Print(Notice, "x")
		}
		must(t, unix.Dup3(int(null.Fd()), daemon.fd, 0)) // which closes it
		log.Print(Notice, "refused")
		must(t, os.Remove(address))
		log.Print(Notice, "removed")
		daemon = newMailbox(t, address)
		log.Print(Notice, "again")
		if got := daemon.next(); !strings.Contains(got, " are lost") {
			t.Errorf("syslog got %q", got)
		}
		said("<29>devspool[PID]: notice: again")
	})
	if got := other.lines(); !slices.Equal(got, []string{"error: nobody", "notice: refused", "notice: removed"}) {
		t.Errorf("elsewhere went %q", got)
	}
}

// TestLogTogether shows that lines of several goroutines stay whole.
func TestLogTogether(t *testing.T) {
	log := newLog(t)
	line := strings.Repeat("x", 300)
	var writing sync.WaitGroup
	for range 8 {
		writing.Go(func() {
			for range 50 {
				log.Print(Err, line)
			}
		})
	}
	writing.Wait()
	lines := log.lines()
	if len(lines) != 8*50 {
		t.Errorf("%d lines", len(lines))
	}
	for _, got := range lines {
		if got != "error: "+line {
			t.Fatalf("%q", got)
		}
	}
}

func TestLevels(t *testing.T) {
	for level, want := range map[Level]string{Err: "error", Warning: "warning", Info: "info"} {
		if level.String() != want {
			t.Errorf("%d is %q", level, level)
		}
	}
}

// TestTable compares the table with what it should show, but for the time.
func TestTable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "table")
	file, err := os.Create(path)
	must(t, err)
	defer file.Close()
	table := NewTable(int(file.Fd()))
	disk := newEvent(t, "ACTION=add", "DEVPATH=/devices/block/sr0", "SUBSYSTEM=block", "MAJOR=11", "MINOR=0", "DEVNAME=sr0")
	net := newEvent(t, "ACTION=move", "DEVPATH=/devices/net/a\nb", "SUBSYSTEM=net")
	made := &nodes.Plan{
		Event: disk, Work: nodes.Make,
		Nodes:    []nodes.Node{{Path: "disk/sr0", Mode: 0o640, UID: 7, GID: 24}},
		Links:    []nodes.Link{{Path: "sr0", Target: "disk/sr0"}},
		Commands: []nodes.Command{{Text: "logger $MDEV"}},
		Firmware: "a.bin",
	}
	table.Row(disk, made)
	table.Row(net, &nodes.Plan{Event: net})
	table.Row(disk, &nodes.Plan{Event: disk, Work: nodes.Clear, Nodes: []nodes.Node{{Path: strings.Repeat("long/", 6) + "sr0"}}})
	table.Row(disk, &nodes.Plan{Event: disk, Late: true, Commands: []nodes.Command{{Text: "true"}}})
	want := []string{
		"ACTION  DEVICE   NODE                   MODE  OWNER   DEVPATH, AND WHAT ELSE WAS DONE",
		"add     b11:0    disk/sr0               0640  7:24    /devices/block/sr0  sr0 -> disk/sr0  run: logger $MDEV  firmware: a.bin",
		`move    net      -                                    /devices/net/a\x0ab`,
		"add     b11:0    long/long/long/long/long/long/sr0                /devices/block/sr0",
		"add     b11:0    -                                    /devices/block/sr0  (too late: /sys says otherwise)  run: true",
	}
	var got []string
	for line := range strings.Lines(contents(t, path)) {
		got = append(got, strings.TrimSuffix(line[columns[0].width+1:], "\n"))
	}
	if !slices.Equal(got, want) {
		t.Errorf("the table is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestTableHeads shows that the heads come back where many rows have gone by.
func TestTableHeads(t *testing.T) {
	path := filepath.Join(t.TempDir(), "table")
	file, err := os.Create(path)
	must(t, err)
	defer file.Close()
	table := NewTable(int(file.Fd()))
	for range 101 {
		table.Row(newEvent(t, "ACTION=add", "DEVPATH=/devices/x"), &nodes.Plan{})
	}
	if got := strings.Count(contents(t, path), "ACTION"); got != 3 {
		t.Errorf("%d heads", got)
	}
}
