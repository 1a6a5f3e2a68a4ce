package log_test

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/log"
)

// TestLines shows that each call writes one line, whatever the names in it hold.
func TestLines(t *testing.T) {
	t.Parallel()
	logger := hotplugtest.NewLog(t)
	hostile := hotplugtest.NewEvent(t, "ACTION=add\x1b[2J", "DEVPATH=/devices/a\n7 devspool: error: forged")
	logger.Print(log.Err, "a")
	logger.Print(log.Warning, "a\nb\r\x00\x1b[0m\x7f")
	logger.Print(log.Info, "ü \\ \xff")
	logger.Event(log.Err, "failed", hostile, "why\nnot")
	logger.Event(log.Info, "done", hotplugtest.NewEvent(t, "ACTION=add", "DEVPATH=/devices/a"), "")
	want := []string{
		"error: a",
		`warning: a\x0ab\x0d\x00\x1b[0m\x7f`,
		"info: ü \\ \xff",
		`error: failed: add\x1b[2J /devices/a\x0a7 devspool: error: forged: why\x0anot`,
		"info: done: add /devices/a",
	}
	if got := logger.Lines(); !slices.Equal(got, want) {
		t.Errorf("the log holds\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	logger.SetLevel(log.Notice)
	logger.Print(log.Info, "x")
	logger.Event(log.Info, "x", hostile, "")
	logger.Event(log.Warning, "y", hotplugtest.NewEvent(t, "ACTION=add", "DEVPATH=/devices/a"), "")
	if got := logger.Lines()[len(want):]; !slices.Equal(got, []string{"warning: y: add /devices/a"}) {
		t.Errorf("at level notice it adds %q", got)
	}
}

// TestFile shows that the log goes to a file only where there is one, and follows no link.
func TestFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if log.File(filepath.Join(dir, "missing"), 7) != nil {
		t.Error("a log without a file")
	}
	hotplugtest.WriteFile(t, filepath.Join(dir, "victim"), "")
	hotplugtest.Must(t, os.Symlink("victim", filepath.Join(dir, "link")))
	if log.File(filepath.Join(dir, "link"), 7) != nil {
		t.Error("a link is followed")
	}
	path := filepath.Join(dir, "mdev.log")
	hotplugtest.WriteFile(t, path, "before\n")
	for n := range uint64(2) {
		logger := log.File(path, n)
		logger.Print(log.Info, "x")
	}
	if got := hotplugtest.Contents(t, path); got != "before\n0 devspool: info: x\n1 devspool: info: x\n" {
		t.Errorf("it holds %q", got)
	}
}

// TestSyslog has a daemon that starts late, does not read, ends, and starts again: the log never
// waits for it, and says how many lines it lost.
func TestSyslog(t *testing.T) {
	t.Parallel()
	address := filepath.Join(t.TempDir(), "log")
	other := hotplugtest.NewLog(t)
	null, err := os.Open("/dev/null")
	hotplugtest.Must(t, err)
	defer null.Close()
	logger := log.SyslogAt(address, func() *log.Logger { return other.Logger })
	hotplugtest.Within(t, "all of it", func() {
		logger.Print(log.Err, "nobody")
		daemon := hotplugtest.NewMailbox(t, address)
		said := func(want string) {
			t.Helper()
			if got := daemon.Next(); got != strings.ReplaceAll(want, "PID", strconv.Itoa(os.Getpid())) {
				t.Errorf("syslog got %q, want %q", got, want)
			}
		}
		logger.Print(log.Err, "first\n<0>")
		said(`<27>devspool[PID]: error: first\x0a<0>`)
		const many = 10_000
		for range many {
			logger.Print(log.Notice, "x")
		}
		took := 0
		for daemon.Next() != "" {
			took++
		}
		logger.Print(log.Info, "hidden")
		logger.Print(log.Warning, "after")
		said("<28>devspool[PID]: warning: syslog took no lines for a while: " + strconv.Itoa(many-took) + " are lost")
		said("<28>devspool[PID]: warning: after")
		said("")

		for range many {
			logger.Print(log.Notice, "x")
		}
		hotplugtest.Must(t, unix.Dup3(int(null.Fd()), daemon.Fd, 0)) // which closes it
		logger.Print(log.Notice, "refused")
		hotplugtest.Must(t, os.Remove(address))
		logger.Print(log.Notice, "removed")
		daemon = hotplugtest.NewMailbox(t, address)
		logger.Print(log.Notice, "again")
		if got := daemon.Next(); !strings.Contains(got, " are lost") {
			t.Errorf("syslog got %q", got)
		}
		said("<29>devspool[PID]: notice: again")
	})
	if got := other.Lines(); !slices.Equal(got, []string{"error: nobody", "notice: refused", "notice: removed"}) {
		t.Errorf("the other log holds %q", got)
	}
}

// TestConcurrentLines shows that lines of several goroutines stay whole.
func TestConcurrentLines(t *testing.T) {
	t.Parallel()
	logger := hotplugtest.NewLog(t)
	line := strings.Repeat("x", 300)
	var writing sync.WaitGroup
	for range 8 {
		writing.Go(func() {
			for range 50 {
				logger.Print(log.Err, line)
			}
		})
	}
	writing.Wait()
	lines := logger.Lines()
	if len(lines) != 8*50 {
		t.Errorf("%d lines", len(lines))
	}
	for _, got := range lines {
		if got != "error: "+line {
			t.Fatalf("%q", got)
		}
	}
}

// TestLevels shows the names of levels, and what is parsed as one.
func TestLevels(t *testing.T) {
	t.Parallel()
	for level, want := range map[log.Level]string{log.Err: "error", log.Warning: "warning", log.Notice: "notice", log.Info: "info"} {
		if level.String() != want {
			t.Errorf("%d is %q", level, level)
		}
	}
	for text, want := range map[string]log.Level{
		"error": log.Err, "err": log.Err, "warning": log.Warning, "notice": log.Notice, "info": log.Info, "debug": log.Info,
		"0": log.Err, "3": log.Err, "4": log.Warning, "7": log.Info, "8": 0, "-1": 0, "": 0, "loud": 0,
	} {
		if got, ok := log.ParseLevel(text); got != want || ok != (want != 0) {
			t.Errorf("%q is %v, %v", text, got, ok)
		}
	}
}
