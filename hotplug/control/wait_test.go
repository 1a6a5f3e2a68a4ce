package control

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devspool/conf"
	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/hotplugtest/board"
	"devspool/hotplug/reload"
	"devspool/hotplug/scheduler"
	"devspool/nodes"
)

// fakeSource is a source that has pending events for as long as the test says.
type fakeSource struct {
	pending atomic.Bool
	ended   atomic.Bool // Stop was called
}

func (s *fakeSource) Name() string  { return "a test" }
func (s *fakeSource) Pending() bool { return s.pending.Load() }
func (s *fakeSource) Stop(gone <-chan struct{}) {
	s.ended.Store(true)
	<-gone
}

// controlled has the board's scheduler answer requests, as that of a loop does.
func controlled(b *board.Board) *fakeSource {
	b.T.Helper()
	_, err := b.Dev.LockDev() // which makes the private directory
	hotplugtest.Must(b.T, err)
	hotplugtest.Must(b.T, b.Dev.UnlockDev())
	s := &fakeSource{}
	c, err := listen(b, s)
	hotplugtest.Must(b.T, err)
	b.T.Cleanup(c.Close)
	return s
}

// connect opens a connection to the control socket.
func connect(b *board.Board) (fd int) {
	b.T.Helper()
	addr, private, err := controlAddress(b.Other())
	hotplugtest.Must(b.T, err)
	defer unix.Close(private)
	fd, err = controlSocket(0)
	hotplugtest.Must(b.T, err)
	b.T.Cleanup(func() { unix.Close(fd) })
	hotplugtest.Must(b.T, unix.Connect(fd, addr))
	return fd
}

// askFor makes a request as another process does, and returns its answer.
func askFor(b *board.Board, words ...string) (a hotplugtest.Answer) {
	b.T.Helper()
	hotplugtest.Within(b.T, "the answer to "+strings.Join(words, " "), func() { a = <-asking(b, words...) })
	return a
}

// asking makes a request and does not wait for the answer.
func asking(b *board.Board, words ...string) <-chan hotplugtest.Answer {
	b.T.Helper()
	d := b.Other()
	answers := make(chan hotplugtest.Answer, 1)
	go func() {
		var a hotplugtest.Answer
		a.Err = Ask(d, words, func(line string) { a.Lines = append(a.Lines, line) })
		answers <- a
	}()
	return answers
}

// TestSettle shows what settle waits for: pending events, commands, and the events that wait for the
// end of these.
func TestSettle(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "sda 0:0 660 @until test -e TMP/go; do sleep 0.01; done\nsda1 0:0 660 @until test -e TMP/go1; do sleep 0.01; done; touch TMP/ended\n")
	source := controlled(b)
	if a := askFor(b, "settle", "20", "0"); a.Err != nil {
		t.Errorf("of an idle scheduler: %v", a.Err)
	}
	source.pending.Store(true)
	answers := asking(b, "settle", "20", "0")
	hotplugtest.Still(t, "while events are pending", answers)
	b.Disks(1)
	b.Sys.Add("/devices/block/sda/sda1", "block", "8:1", "DEVNAME=sda1")
	b.Scheduler.Run(scheduler.Events(b.Sys.NewEvent("add", "/devices/block/sda"), b.Sys.NewEvent("add", "/devices/block/sda/sda1")))
	source.pending.Store(false)
	hotplugtest.Still(t, "while a command runs", answers)
	hotplugtest.WriteFile(t, filepath.Join(b.Tmp, "go"), "")
	hotplugtest.Eventually(t, "the other event", func() bool { return b.Node("sda1") != "" })
	hotplugtest.Still(t, "while the command of another event runs", answers)
	hotplugtest.WriteFile(t, filepath.Join(b.Tmp, "go1"), "")
	hotplugtest.Ends(t, "the end", answers)
	if !b.Has("ended") {
		t.Error("it did not wait for the last command")
	}
	b.AtRest()
}

// TestSettlePaused shows that settle waits while the scheduler is paused.
func TestSettlePaused(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "")
	controlled(b)
	if a := askFor(b, "stop"); a.Err != nil {
		t.Fatal(a.Err)
	}
	b.Scheduler.Run(scheduler.Events(b.Disks(1)...))
	answers := asking(b, "settle", "20", "0")
	hotplugtest.Still(t, "while the scheduler is paused", answers)
	b.WantNode("sda", "")
	if a := askFor(b, "start"); a.Err != nil {
		t.Fatal(a.Err)
	}
	hotplugtest.Ends(t, "after start", answers)
	b.WantNode("sda", "b8:0 0660")
}

// TestSettleQuiet shows that settle waits until no event has come for the time given.
func TestSettleQuiet(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "")
	controlled(b)
	events := b.Disks(1)
	b.Run(events...)
	came := time.Now()
	const quiet = 300 * time.Millisecond
	answers := asking(b, "settle", "20", "0.3")
	time.Sleep(quiet / 2)
	b.Run(events...)
	again := time.Now()
	hotplugtest.Ends(t, "the quiet time", answers)
	if time.Since(again) < quiet || again.Sub(came) < quiet/2 {
		t.Errorf("it ended %v after the last event", time.Since(again))
	}
}

// TestSettleTimeout shows that the answer to a settle that times out holds the status.
func TestSettleTimeout(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "sda 0:0 660 @sleep 600\n")
	source := controlled(b)
	b.Scheduler.Run(scheduler.Events(b.Disks(1)...))
	a := askFor(b, "settle", "0.05", "0")
	if _, late := a.Err.(Timeout); !late {
		t.Errorf("error %v", a.Err)
	}
	if i := slices.IndexFunc(a.Lines, func(s string) bool { return strings.HasPrefix(s, "running: ") && strings.Contains(s, "sleep 600") }); i < 0 {
		t.Errorf("the answer is %q", a.Lines)
	}
	hotplugtest.Within(t, "the end", func() { b.Scheduler.Shutdown(0) })
	b.NoCommands()
	hotplugtest.Ends(t, "after that", asking(b, "settle", "20", "0"))
	source.pending.Store(true)
	if a := askFor(b, "settle", "0", "0"); a.Err == nil {
		t.Error("without any time: no error")
	}
}

// TestRefusedArguments shows which arguments are refused.
func TestRefusedArguments(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "")
	controlled(b)
	for _, words := range [][]string{
		{"settle"}, {"settle", "1"}, {"settle", "x", "0"}, {"settle", "1", "-1"}, {"settle", "5m", "0"},
		{"coldplug"}, {"coldplug", "soon"},
		{"wait"}, {"wait", "1", "sda"}, {"wait", "1", ""}, {"wait", "1", "=x"}, {"wait", "x", "/dev/sda"},
	} {
		a := askFor(b, words...)
		if _, late := a.Err.(Timeout); a.Err == nil || late {
			t.Errorf("%q: error %v", words, a.Err)
		}
	}
}

// TestLinkName encodes what is not encoded yet.
func TestLinkName(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ key, value, want string }{
		{"LABEL", "my disk", `my\x20disk`}, {"LABEL", `my\x20disk`, `my\x20disk`}, {"LABEL", `a/b\x20c d`, `a\x2fb\x20c\x20d`},
		{"LABEL", `\x20`, `\x20`}, {"LABEL", `../a\x20`, `..\x2fa\x20`}, {"PARTUUID", "AB-1", "ab-1"}, {"UUID", "AB-1", "AB-1"},
	} {
		if got, err := linkName(c.key, c.value); err != nil || got != c.want {
			t.Errorf("%s=%s: %q (%v), want %q", c.key, c.value, got, err, c.want)
		}
	}
}

// TestParseSeconds shows what is a time in seconds.
func TestParseSeconds(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"0": 0, "2": 2 * time.Second, "0.5": time.Second / 2, ".5": time.Second / 2, "120": 2 * time.Minute,
		"": -1, ".": -1, "-1": -1, "+1": -1, "1s": -1, "5m": -1, "1h30": -1, "1 ": -1, "1e3": -1, "1.2.3": -1, "x": -1,
		"99999999999999999999": -1,
	} {
		got, err := ParseSeconds(text)
		if (err != nil) != (want < 0) || err == nil && got != want {
			t.Errorf("%q is %v, error %v", text, got, err)
		}
	}
}

// TestHangUp shows that nothing is left of clients that do not wait for the answer. It is not parallel:
// it counts goroutines.
func TestHangUp(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := board.New(t, "sda 0:0 660 @"+hotplugtest.UntilGo+"\n")
	controlled(b)
	batch := b.Scheduler.Run(scheduler.Events(b.Disks(1)...))
	hotplugtest.Eventually(t, "the command", func() bool { return b.Running() == 1 })
	before := runtime.NumGoroutine()
	for _, request := range []string{"settle\x00600\x000", "wait\x00600\x00/dev/sdz", "wait\x00600\x00X=Y", "exit", ""} {
		for range 5 {
			fd := connect(b)
			if request != "" {
				hotplugtest.Must(t, unix.Send(fd, []byte(request), unix.MSG_NOSIGNAL))
			}
			if request != "" {
				hotplugtest.Eventually(t, "its goroutines", func() bool { return runtime.NumGoroutine() > before })
			}
			unix.Shutdown(fd, unix.SHUT_RDWR)
		}
	}
	hotplugtest.Eventually(t, "the end of all goroutines", func() bool { return runtime.NumGoroutine() <= before })
	if n := b.Scheduler.Stats().Observers; n > 0 {
		t.Errorf("%d observers are left", n)
	}
	hotplugtest.WriteFile(t, filepath.Join(b.Tmp, "go"), "")
	b.Wait(batch)
}

// asks is a command of a rule: it makes the request in the variable ASKS, and writes the answer into
// the file ASKS_FILE.
func asks() int {
	dev, err := nodes.Open(os.Getenv("ASKS_DEV"))
	if err == nil {
		err = Ask(dev, strings.Split(os.Getenv("ASKS"), " "), func(string) {})
	}
	text := "done\n"
	if err != nil {
		text = err.Error() + "\n"
	}
	if os.WriteFile(os.Getenv("ASKS_FILE"), []byte(text), 0o644) != nil {
		return 1
	}
	return 0
}

// TestAskInCommand shows that a command which a rule runs cannot wait for its own end, but may make
// every other request.
func TestAskInCommand(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	self, err := os.Executable()
	hotplugtest.Must(t, err)
	for request, want := range map[string]string{
		"settle 600 0":   errInCommand.Error(),
		"coldplug 0":     errInCommand.Error(),
		"scan " + "conf": ErrDeclined.Error(),
		"ping":           "done",
		"status":         "done",
	} {
		b := board.New(t, "sda 0:0 660 @"+self+"\n")
		b.Start(b.Text, func(o *scheduler.Options) {
			o.Environ = append(o.Environ, hotplugtest.ChildRole+"=asks", "ASKS="+request, "ASKS_DEV="+b.Dir, "ASKS_FILE="+b.Tmp+"/said")
		})
		b.Config = reload.New("conf", b.Rules, func() (*conf.Config, error) { return b.Rules, nil }, b.Scheduler.SetRules, b.Log.Logger)
		controlled(b)
		if !b.Run(b.Disks(1)...) {
			t.Errorf("%s: it failed: %q", request, b.Log.Lines())
		}
		if got := b.Said("said"); !slices.Equal(got, []string{want}) {
			t.Errorf("%s: the answer is %q, want %q", request, got, want)
		}
	}
}

// TestWait waits for a device that comes later, named in each way.
func TestWait(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	for _, refs := range [][]string{
		{"/dev/sda"}, {"DEV/sda"}, {"/dev/disk/first"}, {"/devices/block/sda"}, {"SYS/class/block/sda"}, {"SYS/devices/block/sda"},
		{"DEVNAME=sda"}, {"ID=a=b"}, {"/dev/sda", "DEVNAME=sda", "/devices/block/sda"},
	} {
		b := board.New(t, "sda 0:0 660 >disk/first @"+hotplugtest.UntilGo+"\n")
		source := controlled(b)
		words := []string{"wait", "20"}
		for _, ref := range refs {
			words = append(words, strings.NewReplacer("DEV/", b.Dir+"/", "SYS/", string(b.Sys.FS)+"/").Replace(ref))
		}
		answers := asking(b, words...)
		hotplugtest.Still(t, "without the device", answers)
		source.pending.Store(true)
		b.Sys.Add("/devices/block/sda", "block", "8:0", "DEVNAME=sda", "ID=a=b")
		batch := b.Scheduler.Run(scheduler.Events(b.Sys.NewEvent("add", "/devices/block/sda")))
		source.pending.Store(false)
		hotplugtest.Still(t, "while its command runs", answers)
		hotplugtest.WriteFile(t, filepath.Join(b.Tmp, "go"), "")
		hotplugtest.Ends(t, strings.Join(refs, " "), answers)
		b.Wait(batch)
		if a := askFor(b, append([]string{"wait", "0"}, words[2:]...)...); a.Err != nil {
			t.Errorf("%q is present, but: %v", refs, a.Err)
		}
	}
}

// TestWaitMeanwhile shows that a wait for a device which is in /sys already lasts until its commands end.
func TestWaitMeanwhile(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	for _, ref := range []string{"/dev/sda", "/devices/block/sda", "DEVNAME=sda"} {
		b := board.New(t, "sda 0:0 660 @"+hotplugtest.UntilGo+"\n")
		controlled(b)
		batch := b.Scheduler.Run(scheduler.Events(b.Disks(1)...))
		answers := asking(b, "wait", "20", ref)
		hotplugtest.Still(t, ref+": while its command runs", answers)
		hotplugtest.WriteFile(t, filepath.Join(b.Tmp, "go"), "")
		hotplugtest.Ends(t, ref, answers)
		b.Wait(batch)
	}
}

// TestWaitEarly is about a device of which the event is still to be sent: it is in /sys, and its node in
// the kernel's devtmpfs, but its rule has not been applied.
func TestWaitEarly(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	for _, ref := range []string{"/dev/sda", "/dev/other", "/devices/block/sda"} {
		b := board.New(t, "sda 0:0 660 >other\n")
		controlled(b)
		disks := b.Disks(1)
		hotplugtest.Must(t, unix.Mknod(filepath.Join(b.Dir, "sda"), unix.S_IFBLK|0o600, int(unix.Mkdev(8, 0))))
		answers := asking(b, "wait", "20", ref)
		hotplugtest.Still(t, ref+": before its event", answers)
		b.Run(disks...)
		hotplugtest.Ends(t, ref, answers)
	}
}

// TestWaitPending shows that events which are pending when the device is present are waited for: one may
// be about it. Later events are not, nor any where the target is a name that only the loop gives.
func TestWaitPending(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "sda 0:0 660 >disk/by-label/x\n")
	source := controlled(b)
	b.Run(b.Disks(1)...)
	source.pending.Store(true)
	hotplugtest.Ends(t, "of a name", asking(b, "wait", "20", "/dev/disk/by-label/x"))
	answers := asking(b, "wait", "20", "/dev/disk/by-label/x", "/dev/sda")
	hotplugtest.Still(t, "while events are pending", answers)
	source.pending.Store(false)
	hotplugtest.Ends(t, "after them", answers)
	source.pending.Store(true)
	hotplugtest.Ends(t, "while later events are pending", asking(b, "wait", "0.05", "/dev/sda"))
}

// TestWaitPropertyLost is about a property of a device that is removed.
func TestWaitPropertyLost(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "")
	controlled(b)
	b.Sys.Add("/devices/block/sda", "block", "8:0", "DEVNAME=sda", "ID=x")
	add, remove := b.Sys.NewEvent("add", "/devices/block/sda"), b.Sys.NewEvent("remove", "/devices/block/sda")
	b.Run(add)
	answers := asking(b, "wait", "20", "ID=x", "/dev/sdb")
	hotplugtest.Still(t, "one of two", answers)
	b.Sys.Remove("/devices/block/sda")
	b.Run(remove)
	b.Sys.Add("/devices/block/sdb", "block", "8:16", "DEVNAME=sdb")
	b.Run(b.Sys.NewEvent("add", "/devices/block/sdb"))
	hotplugtest.Still(t, "the other of two", answers)
	b.Run(hotplugtest.NewEvent(t, "ACTION=change", "DEVPATH=/devices/block/sdb", "SUBSYSTEM=block", "MAJOR=8", "MINOR=16", "DEVNAME=sdb", "ID=x"))
	hotplugtest.Ends(t, "both", answers)
}

// TestWaitNoDevice shows that a directory of /sys which is no device's is not taken for one.
func TestWaitNoDevice(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "")
	controlled(b)
	b.Run(b.Disks(1)...)
	for _, ref := range []string{"/dev", "/devices", "/devices/block", "/class/block", string(b.Sys.FS) + "/class/block", "/"} {
		if a := askFor(b, "wait", "0", ref); a.Err == nil {
			t.Errorf("%s is a device", ref)
		}
	}
}

// TestWaitTimeout shows the answer to a wait that times out.
func TestWaitTimeout(t *testing.T) {
	t.Parallel()
	hotplugtest.NeedRoot(t)
	b := board.New(t, "")
	controlled(b)
	answers := asking(b, "wait", "0.3", "/dev/sda", "/dev/sdz", "X=Y")
	hotplugtest.Eventually(t, "the observer", func() bool { return b.Scheduler.Stats().Observers == 1 })
	b.Run(b.Disks(1)...)
	hotplugtest.Within(t, "the answer", func() {
		a := <-answers
		if a.Err != Timeout("timed out: still missing: /dev/sdz X=Y") {
			t.Errorf("error %v", a.Err)
		}
		if !slices.Equal(a.Lines, []string{"seen meanwhile: add /devices/block/sda sda"}) {
			t.Errorf("the answer is %q", a.Lines)
		}
	})
	if a := askFor(b, "wait", "0", "/dev/sdz"); a.Err == nil {
		t.Error("without any time: no error")
	}
}

// listen opens the board's control socket, for a source.
func listen(b *board.Board, source Source) (*Server, error) {
	return Listen(Options{Scheduler: b.Scheduler, Config: b.Config, Dev: b.Dev, Sys: b.Sys.FS, Log: b.Log.Logger, Source: source})
}
