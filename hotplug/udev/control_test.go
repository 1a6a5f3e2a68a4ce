package udev

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/kerneltest"
)

// raw is a message of any type and value.
func raw(kind uint32, value string) []byte {
	msg := make([]byte, controlSize)
	copy(msg, "udev-3.2.14") // as eudev's says
	binary.NativeEndian.PutUint32(msg[atMagicWord:], controlMagic)
	binary.NativeEndian.PutUint32(msg[atKind:], kind)
	copy(msg[atValue:], value)
	return msg
}

func number(n int32) string { return string(binary.NativeEndian.AppendUint32(nil, uint32(n))) }

func TestObey(t *testing.T) {
	for _, c := range []struct {
		name  string
		msg   []byte
		want  string // "" for nothing
		wrong string
	}{
		{"end", raw(0, ""), "", ""},
		{"log", raw(1, number(7)), "log info", ""},
		{"stop", raw(2, number(-1)), "stop", ""},
		{"start", raw(3, ""), "start", ""},
		{"reload", raw(4, ""), "reload", ""},
		{"property", raw(5, "A=b=c"), "property A=b=c", ""},
		{"property taken back", raw(5, "A="), "property A=", ""},
		{"children", raw(6, number(3)), "children 3", ""},
		{"ping", raw(7, ""), "ping", ""},
		{"exit", raw(8, ""), "exit", ""},
		{"log -1", raw(1, number(-1)), "", wrongValue},
		{"log 8", raw(1, number(8)), "", wrongValue},
		{"no children", raw(6, number(0)), "", wrongValue},
		{"negative children", raw(6, number(-5)), "", wrongValue},
		{"no property", raw(5, "A"), "", wrongValue},
		{"no key", raw(5, "=b"), "", wrongValue},
		{"unended property", raw(5, "A="+strings.Repeat("x", 254)), "", wrongValue},
		{"type 9", raw(9, ""), "", wrongKind},
		{"type -1", raw(1<<32-1, ""), "", wrongKind},
		{"empty", nil, "", wrongForm},
		{"short", raw(7, "")[:279], "", wrongForm},
		{"long", append(raw(7, ""), 0), "", wrongForm},
		{"another magic", make([]byte, controlSize), "", wrongForm},
	} {
		var a hotplugtest.Manager
		last, wrong := obey(c.msg, &a)
		var want []string
		if c.want != "" {
			want = []string{c.want}
		}
		if wrong != c.wrong || last != (c.want == "") || !slices.Equal(a.List(), want) {
			t.Errorf("%s: %q, %v; want %q, %v", c.name, a.List(), wrong, want, c.wrong)
		}
	}
}

// FuzzObey: a message asks the manager for one thing within its range, or is refused.
func FuzzObey(f *testing.F) {
	for kind := range uint32(10) {
		f.Add(raw(kind, "A=b"))
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, msg []byte) {
		var a hotplugtest.Manager
		last, wrong := obey(msg, &a)
		if last {
			return
		}
		if got := a.List(); wrong != "" || len(got) != 1 || strings.HasPrefix(got[0], "children -") || strings.HasPrefix(got[0], "property =") {
			t.Errorf("%q asked for %q, %v", msg, got, wrong)
		}
	})
}

// TestOwnMessage: what Message makes is what the server takes.
func TestOwnMessage(t *testing.T) {
	var a hotplugtest.Manager
	for kind := LogLevel; kind <= Exit; kind++ {
		msg, err := Message(kind, 4, "A=b")
		hotplugtest.Must(t, err)
		if _, wrong := obey(msg, &a); wrong != "" {
			t.Error(wrong)
		}
	}
	if got := strings.Join(a.List(), ", "); got != "log warning, stop, start, reload, property A=b, children 4, ping, exit" {
		t.Errorf("asked for %s", got)
	}
	if _, err := Message(Property, 0, strings.Repeat("x", 256)); err == nil {
		t.Error("too long a property is taken")
	}
}

// TestEudevsClient speaks as eudev's udevadm 3.2.14 does: all messages on one connection, none of
// them End, and after each it waits for something to read, be that the connection's end. It
// takes POLLERR for a failure, and dies of a signal where it sends to a socket that was closed.
func TestEudevsClient(t *testing.T) {
	d, a := newDesk(t), &hotplugtest.Manager{}
	d.restart(a)
	text := func(kind Kind, value string) []byte { return raw(uint32(kind), value) }
	for _, c := range []struct {
		line     string // that makes it speak so
		messages [][]byte
		want     string
	}{
		{"settle", [][]byte{text(Ping, number(0))}, "ping"},
		{"control --reload", [][]byte{text(Reload, number(0))}, "reload"},
		{"control --exit", [][]byte{text(Exit, number(0))}, "exit"},
		{"control --log-priority=debug", [][]byte{text(LogLevel, number(7))}, "log info"},
		{"control --property=A=b", [][]byte{text(Property, "A=b")}, "property A=b"},
		{"control --children-max=3", [][]byte{text(ChildrenMax, number(3))}, "children 3"},
		{"control -s -R -p A= -S -m 2 -e", [][]byte{text(StopQueue, number(0)), text(Reload, number(0)), text(Property, "A="),
			text(StartQueue, number(0)), text(ChildrenMax, number(2)), text(Exit, number(0))}, "stop reload property A= start children 2 exit"},
	} {
		before := len(a.List())
		fd := connect(t, d.run)
		for i, msg := range c.messages {
			start := time.Now()
			hotplugtest.Must(t, unix.Send(fd, msg, 0))
			ready := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			n, err := unix.Poll(ready, 60_000)
			if took := time.Since(start); err != nil || n != 1 || ready[0].Revents&unix.POLLERR != 0 || took > 2*time.Second {
				t.Errorf("%s: message %d is answered %d, %#x, %v after %v", c.line, i, n, ready[0].Revents, err, took)
			}
		}
		unix.Close(fd)
		hotplugtest.Eventually(t, c.line, func() bool { return len(a.List())-before >= len(c.messages) })
		if got := strings.Join(a.List()[before:], " "); got != c.want {
			t.Errorf("%s asks for %q, want %q", c.line, got, c.want)
		}
	}
}

// TestEudevsSettle: what eudev's settle waits for after its ping is the ping's work.
func TestEudevsSettle(t *testing.T) {
	d := newDesk(t)
	var worked atomic.Bool
	d.restart(&hotplugtest.Manager{Pinged: func() { time.Sleep(200 * time.Millisecond); worked.Store(true) }})
	fd := connect(t, d.run)
	defer unix.Close(fd)
	hotplugtest.Must(t, unix.Send(fd, raw(uint32(Ping), ""), 0))
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 60_000); n != 1 || err != nil || !worked.Load() {
		t.Errorf("answered %d, %v; the ping's work is done: %v", n, err, worked.Load())
	}
}

// pathOfEudev names eudev's udevadm, which Debian does not have.
const pathOfEudev = "DEVSPOOL_TEST_EUDEV"

// TestEudevsUdevadm has the program itself steer, settle and read the database.
func TestEudevsUdevadm(t *testing.T) {
	udevadm := os.Getenv(pathOfEudev)
	if udevadm == "" { // no failure even where all has to be there: no package brings it
		t.Skip("NOT TESTED: eudev's udevadm, which Debian has neither as a package nor as source; name one by " + pathOfEudev)
	}
	if !kerneltest.InNamespaces(t, kerneltest.Net) {
		return
	}
	tmpfs(t, "/run")
	var a hotplugtest.Manager
	u, err := New(Options{Run: DefaultRun, Sys: "/sys", Log: hotplugtest.NewLog(t).Logger, Manager: &a})
	hotplugtest.Must(t, err)
	defer u.Close()
	for _, c := range []struct{ args, want string }{
		{"control --reload", "reload"}, {"control --log-priority=debug", "log info"}, {"control --property=A=b", "property A=b"},
		{"control --children-max=3", "children 3"}, {"control --stop-exec-queue", "stop"}, {"control --start-exec-queue", "start"},
		{"settle", "ping"}, {"settle --timeout=5", "ping"}, {"control --exit", "exit"},
	} {
		before := len(a.List())
		hotplugtest.Within(t, c.args, func() { output(t, udevadm, strings.Fields(c.args)...) })
		hotplugtest.Eventually(t, c.args, func() bool { return len(a.List()) > before })
		if got := strings.Join(a.List()[before:], " "); got != c.want {
			t.Errorf("%s asks for %q", c.args, got)
		}
	}
	null := []string{"ACTION=add", "DEVPATH=/devices/virtual/mem/null", "SUBSYSTEM=mem", "MAJOR=1", "MINOR=3", "DEVNAME=null"}
	u.Done(hotplugtest.NewEvent(t, null...), Device{Links: []string{"a"}, Properties: []string{"X=1 2"}, Tags: []string{"seat"}})
	for args, want := range map[string]string{
		"info -q property -n null":                   "\nX=1 2\n",
		"info --query=symlink --name=null":           "a\n",
		"info --export-db":                           "E: TAGS=:seat:\n",
		"trigger -n -v --tag-match=seat":             "/sys/devices/virtual/mem/null\n",
		"trigger --dry-run -v --subsystem-match=mem": "/sys/devices/virtual/mem/null\n",
	} {
		if got := "\n" + output(t, udevadm, strings.Fields(args)...); !strings.Contains(got, want) {
			t.Errorf("%s prints %q without %q", args, got, want)
		}
	}
}

func connect(t *testing.T, run string) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	hotplugtest.Must(t, err)
	hotplugtest.Must(t, unix.Connect(fd, &unix.SockaddrUnix{Name: filepath.Join(run, ControlName)}))
	return fd
}

// TestControlOfOthers connects as nobody.
func TestControlOfOthers(t *testing.T) {
	if !kerneltest.InNamespaces(t, 0) {
		return
	}
	tmpfs(t, "/run")
	var a hotplugtest.Manager
	l := hotplugtest.NewLog(t)
	u, err := New(Options{Run: "/run/udev", Sys: "/sys", Log: l.Logger, Manager: &a})
	hotplugtest.Must(t, err)
	defer u.Close()
	if st, err := os.Stat("/run/udev/control"); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the socket has mode %v, %v", st.Mode(), err)
	}
	hotplugtest.Must(t, os.Chmod("/run/udev/control", 0o666))
	// Of this thread alone.
	runtime.LockOSThread()
	become := func(uid int) {
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), uintptr(uid), ^uintptr(0)); errno != 0 {
			t.Fatal(errno)
		}
	}
	become(65534)
	fd := connect(t, "/run/udev")
	become(0)
	unix.Send(fd, raw(7, ""), unix.MSG_NOSIGNAL)
	var buf [1]byte
	if n, err := unix.Read(fd, buf[:]); n > 0 {
		t.Errorf("read %d, %v", n, err)
	}
	if got := a.List(); len(got) > 0 {
		t.Errorf("asked for %q", got)
	}
	l.Want("refused", wrongSender)
}

// TestControlAtOnce has several loops begin at once where one was killed: one of them gets the socket.
func TestControlAtOnce(t *testing.T) {
	d := newDesk(t)
	for range 50 {
		got := make(chan int)
		const loops = 4
		for range loops {
			go func() {
				fd, err := bindControl(d.db.root, &unix.SockaddrUnix{Name: d.run + "/" + ControlName})
				if err != nil && err != ErrTaken {
					t.Error(err)
				}
				got <- fd
			}()
		}
		var fds []int
		for range loops {
			if fd := <-got; fd >= 0 {
				fds = append(fds, fd)
			}
		}
		for _, fd := range fds {
			unix.Close(fd)
		}
		if len(fds) != 1 {
			t.Fatalf("%d loops have the socket", len(fds))
		}
	}
}

// TestControlTaken: a socket that somebody serves is left alone, one of a killed process
// and its queue file are not.
func TestControlTaken(t *testing.T) {
	d := newDesk(t)
	d.restart(&hotplugtest.Manager{})
	if _, err := New(Options{Run: d.run, Sys: d.sys.FS, Log: d.log.Logger, Manager: &hotplugtest.Manager{}}); err == nil || !strings.Contains(err.Error(), "stop it first") {
		t.Errorf("opened a second time: %v", err)
	}
	d.Queued(disk(t, "add"))
	d.want("queue", "")
	d.control.file.Close() // as at a kill
	hotplugtest.Eventually(t, "the end of the socket", func() bool {
		u, err := New(Options{Run: d.run, Sys: d.sys.FS, Log: d.log.Logger, Manager: &hotplugtest.Manager{}})
		if err == nil {
			d.want("queue", "absent")
			u.Close()
			d.want(ControlName, "absent")
		}
		return err == nil
	})
}

// TestQueueFile is there exactly while events are under way.
func TestQueueFile(t *testing.T) {
	d := newDesk(t)
	d.Queued(disk(t, "add")) // in a process that serves nobody
	d.want("queue", "absent")
	d.Done(disk(t, "add"), Device{})
	d.restart(&hotplugtest.Manager{})
	d.Idle()
	d.want("queue", "absent")
	d.Queued(disk(t, "add"))
	d.Queued(disk(t, "change"))
	d.Done(disk(t, "add"), Device{})
	d.Idle()
	d.want("queue", "")
	d.Done(disk(t, "change"), Device{})
	d.want("queue", "")
	d.Idle()
	d.want("queue", "absent")
	d.Queued(disk(t, "add"))
	d.want("queue", "")
	d.Close()
	d.want("queue", "absent")
	d.Udev = nil
}

// TestUdevadmControl has systemd's udevadm steer it, and settle.
func TestUdevadmControl(t *testing.T) {
	udevadm := kerneltest.Need(t, "udevadm")
	if !kerneltest.InNamespaces(t, 0) {
		return
	}
	tmpfs(t, "/run")
	var a hotplugtest.Manager
	u, err := New(Options{Run: "/run/udev", Sys: "/sys", Log: hotplugtest.NewLog(t).Logger, Manager: &a})
	hotplugtest.Must(t, err)
	for _, c := range []struct{ args, want string }{
		{"--ping", "ping"},
		{"--reload", "reload"},
		{"--stop-exec-queue", "stop"},
		{"--start-exec-queue", "start"},
		{"--log-level=debug --reload", "log info reload"},
		{"--children-max=7", "children 7"},
		{"--property=A=b", "property A=b"},
		{"--exit", "exit"},
		{"-l err -s -m 3 -R", ""}, // in an order of its own
	} {
		before := len(a.List())
		start := time.Now()
		output(t, udevadm, append([]string{"control"}, strings.Fields(c.args)...)...)
		if took := time.Since(start); took > time.Second {
			t.Errorf("control %s took %v", c.args, took)
		}
		hotplugtest.Eventually(t, c.args, func() bool { return len(a.List()) > before }) // of --exit udevadm awaits no answer
		got := a.List()[before:]
		if c.want != "" && strings.Join(got, " ") != c.want || c.want == "" && len(got) != 4 {
			t.Errorf("control %s asked for %q", c.args, got)
		}
	}

	// On a busy machine it takes many tries until the processor is free for one.
	hotplugtest.Eventually(t, "a settle with nothing to wait for that takes 30 ms at most", func() bool {
		start := time.Now()
		output(t, udevadm, "settle")
		return time.Since(start) <= 30*time.Millisecond
	})

	u.Queued(disk(t, "add"))
	if out, err := exec.Command(udevadm, "settle", "--timeout=1").CombinedOutput(); err == nil {
		t.Errorf("settle did not wait: %s", out)
	}
	waiting := exec.Command(udevadm, "settle", "--timeout=20")
	hotplugtest.Must(t, waiting.Start())
	time.Sleep(300 * time.Millisecond)
	u.Done(disk(t, "add"), Device{})
	start := time.Now()
	u.Idle()
	if err := waiting.Wait(); err != nil || time.Since(start) > 2*time.Second {
		t.Errorf("settle ended with %v, %v after the queue", err, time.Since(start))
	}
	u.Close()
	output(t, udevadm, "settle")
}
