package hotplug

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
	"devspool/hotplug/sys"
	"devspool/nodes"
)

// fakeSource is a source of events that are on their way for as long as the test says.
type fakeSource struct {
	coming atomic.Bool
	ended  atomic.Bool
	server *Server
}

func (s *fakeSource) Name() string  { return "a test" }
func (s *fakeSource) Pending() bool { return s.coming.Load() }
func (s *fakeSource) Stop(gone <-chan struct{}) {
	s.ended.Store(true)
	<-gone
}

// controlled has the board's Road answer requests, as that of a loop does.
func controlled(b *board) *fakeSource {
	b.t.Helper()
	_, err := b.dev.Lock() // which makes the private directory
	hotplugtest.Must(b.t, err)
	hotplugtest.Must(b.t, b.dev.Unlock())
	s := &fakeSource{}
	c, err := listen(b, s)
	hotplugtest.Must(b.t, err)
	s.server = c
	b.t.Cleanup(c.Close)
	return s
}

// connect opens a connection to the control socket.
func connect(b *board) (fd int) {
	b.t.Helper()
	addr, dir, err := controlAddress(b.other())
	hotplugtest.Must(b.t, err)
	defer unix.Close(dir)
	fd, err = controlSocket(0)
	hotplugtest.Must(b.t, err)
	b.t.Cleanup(func() { unix.Close(fd) })
	hotplugtest.Must(b.t, unix.Connect(fd, addr))
	return fd
}

// answer is what a request led to.
type answer struct {
	lines []string
	err   error
}

// ask makes a request as another process would, and returns its answer.
func ask(b *board, words ...string) (a answer) {
	b.t.Helper()
	hotplugtest.Within(b.t, "the answer to "+strings.Join(words, " "), func() { a = <-asking(b, words...) })
	return a
}

// asking makes a request and does not wait for the answer.
func asking(b *board, words ...string) <-chan answer {
	b.t.Helper()
	d := b.other()
	answers := make(chan answer, 1)
	go func() {
		var a answer
		a.err = Ask(d, words, func(line string) { a.lines = append(a.lines, line) })
		answers <- a
	}()
	return answers
}

// still fails the test where a request has an answer.
func still(t *testing.T, what string, answers <-chan answer) {
	t.Helper()
	select {
	case a := <-answers:
		t.Errorf("%s: there is an answer: %q, %v", what, a.lines, a.err)
	case <-time.After(20 * sys.PollInterval):
	}
}

// ends fails the test where a request does not end well.
func ends(t *testing.T, what string, answers <-chan answer) {
	t.Helper()
	hotplugtest.Within(t, what, func() {
		if a := <-answers; a.err != nil {
			t.Errorf("%s: %q, %v", what, a.lines, a.err)
		}
	})
}

// TestSettle shows what settle waits for: events that are to come, commands, and
// the events that wait for the end of these.
func TestSettle(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := newBoard(t, "sda 0:0 660 @until test -e TMP/go; do sleep 0.01; done\nsda1 0:0 660 @until test -e TMP/go1; do sleep 0.01; done; touch TMP/ended\n")
	source := controlled(b)
	if a := ask(b, "settle", "20", "0"); a.err != nil {
		t.Errorf("on a road at rest: %v", a.err)
	}
	source.coming.Store(true)
	answers := asking(b, "settle", "20", "0")
	still(t, "while events come", answers)
	b.disks(1)
	b.sys.Add("/devices/block/sda/sda1", "block", "8:1", "DEVNAME=sda1")
	b.Scheduler.Run(Events(b.sys.NewEvent("add", "/devices/block/sda"), b.sys.NewEvent("add", "/devices/block/sda/sda1")))
	source.coming.Store(false)
	still(t, "while a command runs", answers)
	hotplugtest.WriteFile(t, filepath.Join(b.tmp, "go"), "")
	hotplugtest.Eventually(t, "the other event", func() bool { return b.node("sda1") != "" })
	still(t, "while the command of another event runs", answers)
	hotplugtest.WriteFile(t, filepath.Join(b.tmp, "go1"), "")
	ends(t, "the end", answers)
	if !b.has("ended") {
		t.Error("it did not wait for the last command")
	}
	b.atRest()
}

// TestSettleHalted shows that settle waits where the road is halted.
func TestSettleHalted(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := newBoard(t, "")
	controlled(b)
	if a := ask(b, "stop"); a.err != nil {
		t.Fatal(a.err)
	}
	b.Scheduler.Run(Events(b.disks(1)...))
	answers := asking(b, "settle", "20", "0")
	still(t, "on a road that is halted", answers)
	b.wantNode("sda", "")
	if a := ask(b, "start"); a.err != nil {
		t.Fatal(a.err)
	}
	ends(t, "after start", answers)
	b.wantNode("sda", "b8:0 0660")
}

// TestSettleQuiet shows that settle waits until no event has come for so long.
func TestSettleQuiet(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := newBoard(t, "")
	controlled(b)
	events := b.disks(1)
	b.run(events...)
	came := time.Now()
	const quiet = 300 * time.Millisecond
	answers := asking(b, "settle", "20", "0.3")
	time.Sleep(quiet / 2)
	b.run(events...)
	again := time.Now()
	ends(t, "silence", answers)
	if time.Since(again) < quiet || again.Sub(came) < quiet/2 {
		t.Errorf("it ended %v after the last event", time.Since(again))
	}
}

// TestSettleInVain shows that who waits in vain is told how things stand.
func TestSettleInVain(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := newBoard(t, "sda 0:0 660 @sleep 600\n")
	source := controlled(b)
	b.Scheduler.Run(Events(b.disks(1)...))
	a := ask(b, "settle", "0.05", "0")
	if a.err == nil || !strings.Contains(a.err.Error(), "timed out") {
		t.Errorf("error %v", a.err)
	}
	if i := slices.IndexFunc(a.lines, func(s string) bool { return strings.HasPrefix(s, "running: ") && strings.Contains(s, "sleep 600") }); i < 0 {
		t.Errorf("told %q", a.lines)
	}
	hotplugtest.Within(t, "the end", func() { b.Scheduler.Shutdown(0) })
	b.noCommands()
	ends(t, "after that", asking(b, "settle", "20", "0"))
	source.coming.Store(true)
	if a := ask(b, "settle", "0", "0"); a.err == nil {
		t.Error("without any time: no error")
	}
}

// TestSettleRefused shows which requests make no sense.
func TestSettleRefused(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := newBoard(t, "")
	controlled(b)
	for _, words := range [][]string{
		{"settle"}, {"settle", "1"}, {"settle", "x", "0"}, {"settle", "1", "-1"}, {"settle", "5m", "0"},
		{"coldplug"}, {"coldplug", "soon"},
		{"wait"}, {"wait", "1", "sda"}, {"wait", "1", ""}, {"wait", "1", "=x"}, {"wait", "x", "/dev/sda"},
	} {
		if a := ask(b, words...); a.err == nil || strings.Contains(a.err.Error(), "timed out") {
			t.Errorf("%q: error %v", words, a.err)
		}
	}
}

func TestParseSeconds(t *testing.T) {
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

// TestHangUp shows that nothing is left of those who ask and do not wait for the answer.
func TestHangUp(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := newBoard(t, "sda 0:0 660 @"+untilGo+"\n")
	controlled(b)
	batch := b.Scheduler.Run(Events(b.disks(1)...))
	hotplugtest.Eventually(t, "the command", func() bool { return b.running() == 1 })
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
	hotplugtest.WriteFile(t, filepath.Join(b.tmp, "go"), "")
	b.wait(batch)
}

// asks is a command of a rule that asks the loop for what ASKS says, and says
// what the answer was.
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

// TestAskInCommand shows that a command which a rule runs cannot wait for its own
// end, but may ask for all else.
func TestAskInCommand(t *testing.T) {
	hotplugtest.NeedRoot(t)
	self, err := os.Executable()
	hotplugtest.Must(t, err)
	for request, want := range map[string]string{
		"settle 600 0":   errInCommand.Error(),
		"coldplug 0":     errInCommand.Error(),
		"scan " + "conf": errDeclined.Error(),
		"ping":           "done",
		"status":         "done",
	} {
		b := newBoard(t, "sda 0:0 660 @"+self+"\n")
		b.start(b.text, func(o *Options) {
			o.Environ = append(o.Environ, childRole+"=asks", "ASKS="+request, "ASKS_DEV="+b.dir, "ASKS_FILE="+b.tmp+"/said")
		})
		b.config = NewConfig("conf", b.rules, func() (*conf.Config, error) { return b.rules, nil }, b.Scheduler.SetRules, b.log.Logger)
		controlled(b)
		if !b.run(b.disks(1)...) {
			t.Errorf("%s: it failed: %q", request, b.log.Lines())
		}
		if got := b.said("said"); !slices.Equal(got, []string{want}) {
			t.Errorf("%s: the answer is %q, want %q", request, got, want)
		}
	}
}

// TestWait waits for a device, named in each way, that comes later.
func TestWait(t *testing.T) {
	hotplugtest.NeedRoot(t)
	for _, refs := range [][]string{
		{"/dev/sda"}, {"DEV/sda"}, {"/dev/disk/first"}, {"/devices/block/sda"}, {"SYS/class/block/sda"}, {"SYS/devices/block/sda"},
		{"DEVNAME=sda"}, {"ID=a=b"}, {"/dev/sda", "DEVNAME=sda", "/devices/block/sda"},
	} {
		b := newBoard(t, "sda 0:0 660 >disk/first @"+untilGo+"\n")
		source := controlled(b)
		words := []string{"wait", "20"}
		for _, ref := range refs {
			words = append(words, strings.NewReplacer("DEV/", b.dir+"/", "SYS/", string(b.sys.FS)+"/").Replace(ref))
		}
		answers := asking(b, words...)
		still(t, "without the device", answers)
		source.coming.Store(true)
		b.sys.Add("/devices/block/sda", "block", "8:0", "DEVNAME=sda", "ID=a=b")
		batch := b.Scheduler.Run(Events(b.sys.NewEvent("add", "/devices/block/sda")))
		source.coming.Store(false)
		still(t, "while its command runs", answers)
		hotplugtest.WriteFile(t, filepath.Join(b.tmp, "go"), "")
		ends(t, strings.Join(refs, " "), answers)
		b.wait(batch)
		if a := ask(b, append([]string{"wait", "0"}, words[2:]...)...); a.err != nil {
			t.Errorf("%q is there, but: %v", refs, a.err)
		}
	}
}

// TestWaitMeanwhile shows that a device which is in /sys already is waited for
// while its commands run.
func TestWaitMeanwhile(t *testing.T) {
	hotplugtest.NeedRoot(t)
	for _, ref := range []string{"/dev/sda", "/devices/block/sda", "DEVNAME=sda"} {
		b := newBoard(t, "sda 0:0 660 @"+untilGo+"\n")
		controlled(b)
		batch := b.Scheduler.Run(Events(b.disks(1)...))
		answers := asking(b, "wait", "20", ref)
		still(t, ref+": while its command runs", answers)
		hotplugtest.WriteFile(t, filepath.Join(b.tmp, "go"), "")
		ends(t, ref, answers)
		b.wait(batch)
	}
}

// TestWaitEarly is about a device whose event is still to be sent: it is in /sys, and
// its node in the kernel's devtmpfs, but its rule was not seen to.
func TestWaitEarly(t *testing.T) {
	hotplugtest.NeedRoot(t)
	for _, ref := range []string{"/dev/sda", "/dev/other", "/devices/block/sda"} {
		b := newBoard(t, "sda 0:0 660 >other\n")
		controlled(b)
		disks := b.disks(1)
		hotplugtest.Must(t, unix.Mknod(filepath.Join(b.dir, "sda"), unix.S_IFBLK|0o600, int(unix.Mkdev(8, 0))))
		answers := asking(b, "wait", "20", ref)
		still(t, ref+": before its event", answers)
		b.run(disks...)
		ends(t, ref, answers)
	}
}

// TestWaitUnsure is about a node that the kernel made and whose event is still to
// come: its rule is to be seen to first.
func TestWaitUnsure(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := newBoard(t, "")
	source := controlled(b)
	b.run(b.disks(1)...)
	source.coming.Store(true)
	answers := asking(b, "wait", "20", "/dev/sda")
	still(t, "while events come", answers)
	source.coming.Store(false)
	ends(t, "after them", answers)
	source.coming.Store(true)
	ends(t, "whatever else comes", asking(b, "wait", "0.05", "/dev/sda"))
}

// TestWaitTakenBack is about a property that a device had which has gone.
func TestWaitTakenBack(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := newBoard(t, "")
	controlled(b)
	b.sys.Add("/devices/block/sda", "block", "8:0", "DEVNAME=sda", "ID=x")
	add, remove := b.sys.NewEvent("add", "/devices/block/sda"), b.sys.NewEvent("remove", "/devices/block/sda")
	b.run(add)
	answers := asking(b, "wait", "20", "ID=x", "/dev/sdb")
	still(t, "one of two", answers)
	b.sys.Remove("/devices/block/sda")
	b.run(remove)
	b.sys.Add("/devices/block/sdb", "block", "8:16", "DEVNAME=sdb")
	b.run(b.sys.NewEvent("add", "/devices/block/sdb"))
	still(t, "the other of two", answers)
	b.run(hotplugtest.NewEvent(t, "ACTION=change", "DEVPATH=/devices/block/sdb", "SUBSYSTEM=block", "MAJOR=8", "MINOR=16", "DEVNAME=sdb", "ID=x"))
	ends(t, "both", answers)
}

// TestWaitNoDevice shows that no directory of /sys is taken for a device.
func TestWaitNoDevice(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := newBoard(t, "")
	controlled(b)
	b.run(b.disks(1)...)
	for _, ref := range []string{"/dev", "/devices", "/devices/block", "/class/block", string(b.sys.FS) + "/class/block", "/"} {
		if a := ask(b, "wait", "0", ref); a.err == nil {
			t.Errorf("%s is a device", ref)
		}
	}
}

// TestWaitInVain shows what is told to who waited in vain.
func TestWaitInVain(t *testing.T) {
	hotplugtest.NeedRoot(t)
	b := newBoard(t, "")
	controlled(b)
	answers := asking(b, "wait", "0.3", "/dev/sda", "/dev/sdz", "X=Y")
	hotplugtest.Eventually(t, "the watch", func() bool { return b.Scheduler.Stats().Observers == 1 })
	b.run(b.disks(1)...)
	hotplugtest.Within(t, "the answer", func() {
		a := <-answers
		if a.err == nil || a.err.Error() != "timed out: not there: /dev/sdz X=Y" {
			t.Errorf("error %v", a.err)
		}
		if !slices.Equal(a.lines, []string{"seen meanwhile: add /devices/block/sda sda"}) {
			t.Errorf("told %q", a.lines)
		}
	})
	if a := ask(b, "wait", "0", "/dev/sdz"); a.err == nil {
		t.Error("without any time: no error")
	}
}
