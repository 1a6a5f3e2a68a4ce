package control

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"devspool/conf"
	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/hotplugtest/board"
	"devspool/hotplug/log"
	"devspool/hotplug/reload"
	"devspool/hotplug/scheduler"
	"devspool/hotplug/uevent"
)

// line returns the text after name in the only status line that begins with it.
func line(t *testing.T, lines []string, name string) string {
	t.Helper()
	var found []string
	for _, l := range lines {
		if rest, ok := strings.CutPrefix(l, name+": "); ok {
			found = append(found, rest)
		}
	}
	if len(found) != 1 {
		t.Errorf("%d lines of %s in %q", len(found), name, lines)
		return ""
	}
	return found[0]
}

// TestStatus follows the status of a scheduler through waiting, running and failed events.
func TestStatus(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "sda 0:0 660 @"+hotplugtest.UntilGo+"\nsdb 0:0 660 @exit 3\nsd.* 0:0 660 @"+hotplugtest.UntilGo+"\n")
	b.Scheduler.SetJobs(2)
	wants := func(want map[string]string) {
		t.Helper()
		lines := Status(b.Scheduler, b.Config)
		for name, text := range want {
			if got := line(t, lines, name); got != text {
				t.Errorf("%s: %s; want %s", name, got, text)
			}
		}
	}
	wants(map[string]string{
		"config": "mdev.conf", "queue": "open", "failures": "0", "gaps": "0",
		"events":    "0 received, 0 done, 0 of them too late",
		"under way": "0, 0 of them waiting for a command's turn",
		"commands":  "0 started, 0 running, 2 at most",
	})
	events := b.Disks(4)
	b.Run(events[1])
	batch := b.Scheduler.Run(scheduler.Events(slices.Concat(events[:1], events[2:], []*uevent.Event{b.Sys.NewEvent("change", "/devices/block/sda")})...))
	b.Sys.Add("/devices/block/sdz", "block", "8:99", "DEVNAME=sdz")
	late := b.Sys.NewEvent("add", "/devices/block/sdz")
	b.Sys.Remove("/devices/block/sdz")
	b.Scheduler.Run(scheduler.Events(late))
	b.Scheduler.SetRunnable(7)
	b.Scheduler.Gap("a test")
	b.Scheduler.Pause()
	wants(map[string]string{
		"queue": "stopped", "gaps": "1",
		"events":    "6 received, 1 done, 0 of them too late",
		"under way": "5, 2 of them waiting for a command's turn, 0 for the queue to be open",
		"commands":  "3 started, 2 running, 2 at most, 7 of them in state R",
	})
	failure := line(t, Status(b.Scheduler, b.Config), "last error")
	if !strings.HasPrefix(failure, "/devices/block/sdb: ") || !strings.HasSuffix(failure, " s ago: add: command ended: mdev.conf:2: exit 3: exit status 3") {
		t.Errorf("the last error is %q", failure)
	}
	var running []string
	for _, l := range Status(b.Scheduler, b.Config) {
		if rest, ok := strings.CutPrefix(l, "running: "); ok {
			running = append(running, rest)
		}
	}
	for _, s := range []int{1, 3} { // lines of the config, the longest running first
		device := map[int]string{1: "sda", 3: "sdc"}[s]
		found := false
		for _, run := range b.Scheduler.Stats().Running {
			found = found || slices.ContainsFunc(running, func(l string) bool {
				return strings.Contains(l, fmt.Sprintf(" s, pid %d: add /devices/block/%s: mdev.conf:%d: until", run.PID, device, s))
			})
		}
		if !found {
			t.Errorf("%s is not among %q", device, running)
		}
	}
	b.Scheduler.Resume()
	hotplugtest.WriteFile(t, filepath.Join(b.Tmp, "go"), "")
	b.Wait(batch)
	b.AtRest()
	wants(map[string]string{
		"events":    "6 received, 6 done, 1 of them too late",
		"under way": "0, 0 of them waiting for a command's turn",
		"commands":  "5 started, 0 running, 2 at most, 7 of them in state R",
		"failures":  "0",
	})
}

// TestStatusPrintable shows that no control byte of a device's name reaches a terminal.
func TestStatusPrintable(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, ".* 0:0 660 @exit 3\n")
	b.Run(hotplugtest.NewEvent(t, "ACTION=add", "DEVPATH=/devices/\x1b[31m\nforged: line", "MAJOR=240", "MINOR=1", "DEVNAME=\x00\x7fx"))
	lines := Status(b.Scheduler, b.Config)
	if !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, "last error: ") && strings.Contains(l, "forged") }) {
		t.Errorf("the device is not in %q", lines)
	}
	for _, l := range lines {
		if strings.ContainsAny(l, "\x1b\n\x00\x7f") || strings.HasPrefix(l, "forged") {
			t.Errorf("a line is %q", l)
		}
	}
}

// TestCtl changes the scheduler and the log by requests.
func TestCtl(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "")
	source := controlled(b)
	for _, c := range []struct {
		words []string
		ok    bool
	}{
		{[]string{"ping"}, true},
		{[]string{"stop"}, true},
		{[]string{"children-max", "7"}, true},
		{[]string{"running-max", "3"}, true},
		{[]string{"log-level", "info"}, true},
		{[]string{"children-max", "0"}, false},
		{[]string{"children-max", "-1"}, false},
		{[]string{"children-max"}, false},
		{[]string{"children-max", "many"}, false},
		{[]string{"children-max", "99999999999999999999"}, false},
		{[]string{"running-max", "-1"}, false},
		{[]string{"running-max", ""}, false},
		{[]string{"log-level", "loud"}, false},
		{[]string{"log-level"}, false},
		{[]string{"nonsense"}, false},
		{[]string{""}, false},
	} {
		if a := askFor(b, c.words...); (a.Err == nil) != c.ok || len(a.Lines) > 0 {
			t.Errorf("%q: %q, %v", c.words, a.Lines, a.Err)
		}
	}
	if st := b.Scheduler.Stats(); st.Jobs != 7 || st.Runnable != 3 || !st.Paused {
		t.Errorf("children-max %d, running-max %d, paused %v", st.Jobs, st.Runnable, st.Paused)
	}
	b.Log.Print(log.Info, "a line at level info")
	b.Log.Want("info: a line at level info")
	a := askFor(b, "status")
	if a.Err != nil || line(t, a.Lines, "queue") != "stopped" || !strings.HasPrefix(line(t, a.Lines, "serving"), b.Dir+", as a test, pid ") {
		t.Errorf("the status is %q, %v", a.Lines, a.Err)
	}
	fd := connect(b)
	hotplugtest.Must(t, unix.Send(fd, []byte("exit"), unix.MSG_NOSIGNAL))
	hotplugtest.Eventually(t, "the end", source.ended.Load) // of the process is the answer
}

// reloads is a board with a config that a test replaces.
type reloads struct {
	*board.Board
	mu   sync.Mutex // the server reads the config in a goroutine of its own
	next *conf.Config
	err  error
}

// newReloads returns a board with one disk, sda, and the config in text.
func newReloads(t *testing.T, text string) *reloads {
	t.Helper()
	r := &reloads{Board: board.New(t, "")}
	r.Disks(1)
	read := func() (*conf.Config, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.next, r.err
	}
	r.Scheduler.SetRules(parseConf(text))
	r.Config = reload.New("/nonexistent", parseConf(text), read, r.Scheduler.SetRules, r.Log.Logger)
	controlled(r.Board)
	return r
}

func parseConf(text string) *conf.Config { return conf.Parse("mdev.conf", text, conf.ParseIDs("", "")) }

// try has the server reload the config in text, or fail to read it with err. It fails the test where
// the answer is not an error with the text refused, or none for "", or where sda has another mode
// afterwards.
func (r *reloads) try(name, text string, err error, refused, mode string) {
	r.T.Helper()
	r.mu.Lock()
	r.next, r.err = parseConf(text), err
	r.mu.Unlock()
	a := askFor(r.Board, "reload")
	if refused == "" != (a.Err == nil) || a.Err != nil && !strings.Contains(a.Err.Error(), refused) {
		r.T.Errorf("%s: error %v, want %q", name, a.Err, refused)
	}
	r.Run(r.Sys.NewEvent("add", "/devices/block/sda"))
	r.WantNode("sda", "b8:0 "+mode)
}

// broken is a config with a problem in its second line.
const broken = "sdb 0:0 660 @true\nsdc nobody:0 6x0\n"

// TestReload shows which configs are used.
func TestReload(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	if len(parseConf(broken).Problems) == 0 {
		t.Fatal("the broken config has no problem")
	}
	r := newReloads(t, "sda 0:0 600\n")
	r.try("good", "sda 0:0 640\n", nil, "", "0640")
	r.try("broken", broken, nil, "mdev.conf:2:", "0640")
	r.Log.Want("error: mdev.conf:2:")
	r.Log.Want("the old config stays")
	r.try("unreadable", "", errUdevSize, errUdevSize.Error(), "0640")
	r.Log.Want("error: " + errUdevSize.Error() + "; the old config stays")
	r.Log.Want("notice: the config was read anew: mdev.conf")
}

// TestReloadBroken begins with a config that has a problem, as a start uses what it can of it. A
// problem that the config in use has is no reason to refuse another config.
func TestReloadBroken(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	r := newReloads(t, broken+"sda 0:0 604\n")
	r.try("with the same problem", "# one line more\n"+broken+"sda 0:0 622\n", nil, "", "0622")
	r.try("with another problem", "sda 0:0 9\n"+broken, nil, "mdev.conf:1:", "0622")
	r.try("mended", "sda 0:0 644\n", nil, "", "0644")
	r.try("with a problem that was mended", broken, nil, "mdev.conf:2:", "0644")
	r.Log.Want("notice: the config was read anew: mdev.conf")
}
