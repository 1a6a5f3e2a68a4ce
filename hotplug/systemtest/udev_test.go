package systemtest

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/kerneltest"
	"devspool/hotplug/sys"
)

// runUdev is where the clients of libudev look.
const runUdev = "/run/udev"

// newUdevBoard makes a board at the machine's own /sys, with a /dev, a /run and semaphores of
// the test's own, where programs that were written for udevd find all in the usual places.
func newUdevBoard(t *testing.T, conf string) *board {
	t.Helper()
	runtime.LockOSThread() // for ever: the process ends with the test
	if err := unix.Unshare(unix.CLONE_NEWIPC); err != nil {
		kerneltest.Cannot(t, "unshare: %v", err)
	}
	kerneltest.MountTmpfs(t, "/run")
	b := newBoard(t, conf)
	b.tree.Dir, b.dev = "/sys", "/dev"
	return b
}

// compiled builds a program of package udev's tests.
func compiled(t *testing.T, source string, flags ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), strings.TrimSuffix(source, ".c"))
	args := append([]string{"-Wall", "-o", path, "../udev/testdata/" + source}, flags...)
	if out, err := exec.Command(kerneltest.Need(t, "gcc"), args...).CombinedOutput(); err != nil {
		if strings.Contains(string(out), "libudev.h: No such file") {
			kerneltest.Cannot(t, "needs libudev-dev")
		}
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	return path
}

// tool runs another program, which must end well, and returns its output.
func (b *board) tool(name string, args ...string) string {
	b.Helper()
	r := b.finish(exec.Command(name, args...))
	if r.code != 0 {
		b.Errorf("%s %q ends with %d: %s", name, args, r.code, r.stderr)
	}
	return r.stdout
}

// devicesWithNumbers returns what the database calls the devices of this machine that have nodes.
func devicesWithNumbers() (ids []string) {
	for _, kind := range []string{"char", "block"} {
		for _, name := range sys.ReadDir("/sys/dev/" + kind) {
			if _, err := os.Stat("/sys/dev/" + kind + "/" + name); err == nil { // else it belongs to another namespace
				ids = append(ids, kind[:1]+name)
			}
		}
	}
	return ids
}

// TestUdevClients has systemd's udevadm and programs of stock libudev at work with the loop.
func TestUdevClients(t *testing.T) {
	udevadm := kerneltest.Need(t, "udevadm")
	if !jailed(t) {
		return
	}
	monitor, enumerate := compiled(t, "monitor.c", "-ludev"), compiled(t, "enumerate.c", "-ludev")
	b := newUdevBoard(t, "-tag=seat;SUBSYSTEM=mem;null 0:0 666\n-persist=yes;property=X:a\\x20b;SUBSYSTEM=mem;zero 0:0 666\n-tag=odd;if_attr=address:.;$INTERFACE=lo 0:0 660\n")
	before := devicesWithNumbers()
	l := b.startLoop("--udev")

	for _, client := range [][]string{{udevadm}, {b.program, "udevadm"}} {
		// On a busy machine it takes many tries until the processor is free for one.
		hotplugtest.Eventually(t, client[0]+" settle of an idle loop that takes 30 ms at most", func() bool {
			begun := time.Now()
			b.tool(client[0], append(client[1:], "settle")...)
			return time.Since(begun) <= 30*time.Millisecond
		})
	}

	// What the first scan told the database.
	after := devicesWithNumbers() // other tests add and remove some
	for _, id := range before {
		if _, err := os.Stat(runUdev + "/data/" + id); err != nil && slices.Contains(after, id) {
			t.Errorf("%s is not initialized", id)
		}
	}
	if got := b.tool(udevadm, "trigger", "-n", "-v", "--initialized-match", "--subsystem-match=net", "--sysname-match=lo"); got != "/sys/devices/virtual/net/lo\n" {
		t.Errorf("of lo trigger says %q", got)
	}
	all := b.tool(udevadm, "info", "-e")
	for _, want := range []string{"E: TAGS=:seat:\n", "E: TAGS=:odd:\n", "E: X=a b\n"} {
		if !strings.Contains(all, want) {
			t.Errorf("info -e has no %q", want)
		}
	}
	if strings.Contains(all, "\nS: char/") || strings.Contains(all, "\nS: block/") {
		t.Error("info -e shows links such as char/1:3, of which udevd tells nobody")
	}
	if got := b.tool(enumerate, "seat"); strings.Count(got, "\n") != 1 || !strings.HasPrefix(got, "/sys/devices/virtual/mem/null links tags seat ") {
		t.Errorf("with the tag libudev finds\n%s", got)
	}
	if got := b.tool(enumerate); !strings.Contains(got, "/sys/devices/virtual/net/lo links tags odd ") || !strings.Contains(got, " X a b\n") {
		t.Errorf("libudev finds\n%s", head(got, 30))
	}

	// Events, and filters of theirs, which are the kernel's work.
	const events = 5000
	filters := []struct {
		args []string
		want func(n int) bool
	}{
		{nil, func(int) bool { return true }},
		{[]string{"mem"}, func(n int) bool { return n%3 < 2 }},
		{[]string{"mem/even", "tty"}, func(n int) bool { return n%3 == 0 && n%2 == 0 || n%3 == 1 && n%2 == 0 || n%3 == 2 }},
		{[]string{"tag=seat"}, func(n int) bool { return n%3 == 0 }},
	}
	listeners, outputs := make([]*exec.Cmd, len(filters)), make([]*bufio.Reader, len(filters))
	wants := make([][]string, len(filters))
	for i, f := range filters {
		for n := range events {
			if f.want(n) {
				wants[i] = append(wants[i], strconv.Itoa(n))
			}
		}
		listeners[i] = exec.Command(monitor, append([]string{strconv.Itoa(len(wants[i]))}, f.args...)...)
		out, err := listeners[i].StdoutPipe()
		if err != nil || listeners[i].Start() != nil {
			t.Fatal(err)
		}
		outputs[i] = bufio.NewReader(out)
		if line, err := outputs[i].ReadString('\n'); line != "ready\n" {
			t.Fatalf("the client says %q: %v", line, err)
		}
	}
	devices := [...][]string{{"mem/null", "SUBSYSTEM=mem", "MAJOR=1", "MINOR=3", "DEVNAME=null"}, {"mem/zero", "SUBSYSTEM=mem", "MAJOR=1", "MINOR=5", "DEVNAME=zero"},
		{"tty/tty", "SUBSYSTEM=tty", "MAJOR=5", "MINOR=0", "DEVNAME=tty"}}
	for n := range events {
		d := devices[n%3]
		l.send(kerneltest.Event{Action: "change", Devpath: "/devices/virtual/" + d[0],
			Vars: append(slices.Clone(d[1:]), "N="+strconv.Itoa(n), "DEVTYPE="+[...]string{"even", "uneven"}[n%2])})
	}
	for i := range filters {
		text, err := io.ReadAll(outputs[i])
		if err := listeners[i].Wait(); err != nil {
			t.Errorf("the client of %q: %v", filters[i].args, err)
		}
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for line := range strings.Lines(string(text)) {
			if words := strings.Fields(line); len(words) > 5 && words[3] == "1" { // is initialized
				got = append(got, words[5])
			}
		}
		if !slices.Equal(got, wants[i]) {
			t.Errorf("of %q come %d events of %d, in order or not", filters[i].args, len(got), len(wants[i]))
		}
	}

	printed := new(transcript)
	listener := exec.Command(udevadm, "monitor", "-u", "-p")
	listener.Stdout = printed
	if err := listener.Start(); err != nil {
		t.Fatal(err)
	}
	kerneltest.Until(t, patience, "udevadm monitor", func() bool { return kerneltest.HasListener(2) })
	b.tool(udevadm, "trigger", "--settle") // all that there is, and each is waited for
	b.tool(b.program, "udevadm", "trigger", "--settle", "--subsystem-match=mem")
	b.tool(udevadm, "trigger", "--subsystem-match=mem", "--action=add")
	b.tool(udevadm, "settle")
	if _, err := os.Stat(runUdev + "/queue"); err == nil {
		t.Error("the queue file is there when settle returns")
	}
	kerneltest.Until(t, patience, "udevadm monitor to read all", func() bool { return kerneltest.HasRead(2) })
	_ = listener.Process.Signal(unix.SIGINT)
	_ = listener.Wait()
	if text := printed.String(); strings.Count(text, "DEVPATH=/devices/virtual/mem/null\n") != 3 || !strings.Contains(text, "\nCURRENT_TAGS=:seat:\n") {
		t.Errorf("udevadm monitor prints\n%s", head(text, 40))
	}

	var st unix.Stat_t
	if err := unix.Stat(runUdev+"/data/c1:5", &st); err != nil || st.Mode&0o7777 != 0o1644 {
		t.Errorf("the record of zero has mode %o, %v", st.Mode, err)
	}
	b.tool(udevadm, "info", "--cleanup-db")
	if got := sys.ReadDir(runUdev + "/data"); !slices.Equal(got, []string{"c1:5"}) {
		t.Errorf("info --cleanup-db leaves %q", got)
	}

	b.tool(udevadm, "control", "--ping")
	b.configure("-property=X:new;SUBSYSTEM=mem;zero 0:0 666\n")
	b.tool(udevadm, "control", "--reload", "--property=Y=z")
	b.tool(udevadm, "trigger", "--settle", "--sysname-match=zero")
	if got := b.tool(udevadm, "info", "-q", "property", "-n", "zero", "--property=X", "--value"); got != "new\n" {
		t.Errorf("after control --reload X is %q", got)
	}
	b.tool(udevadm, "control", "--log-level=info", "--children-max=2", "--stop-exec-queue")
	b.tool(udevadm, "trigger", "--sysname-match=null")
	if r := b.finish(exec.Command(udevadm, "settle", "--timeout=1")); r.code == 0 {
		t.Error("settle does not wait for a queue that is stopped")
	}
	b.tool(udevadm, "control", "--start-exec-queue")
	b.tool(udevadm, "settle")
	b.tool(udevadm, "control", "--exit")
	kerneltest.Until(t, patience, "the end of the loop", func() bool { _, err := os.Stat(runUdev + "/control"); return err != nil })
	_ = l.cmd.Wait()
	if code := l.cmd.ProcessState.ExitCode(); code != exitDone {
		t.Errorf("after control --exit the loop ends with %d:\n%s", code, l.stderr)
	}
}

// mapper is libdevmapper at work on a kernel that need not have device-mapper.
type mapper struct {
	*board
	disk    kerneltest.Event // a change of a disk of this machine
	dmsetup string
	shim    string
}

func newMapper(t *testing.T, conf string) *mapper {
	t.Helper()
	m := &mapper{dmsetup: kerneltest.Need(t, "dmsetup"), shim: compiled(t, "device-mapper.c", "-shared", "-fPIC", "-ldl"), board: newUdevBoard(t, conf)}
	if err := os.Mkdir("/dev/mapper", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mknod("/dev/mapper/control", unix.S_IFCHR|0o600, int(unix.Mkdev(10, 236))); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"devices": "Character devices:\n 10 misc\n\nBlock devices:\n253 device-mapper\n", "misc": "236 device-mapper\n"} {
		m.write("/run/"+name, text)
		if err := unix.Mount("/run/"+name, "/proc/"+name, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
	}
	disks := sys.ReadDir("/sys/dev/block")
	if len(disks) == 0 {
		kerneltest.Cannot(t, "needs a disk")
	}
	devpath, err := filepath.EvalSymlinks("/sys/dev/block/" + disks[0])
	if err != nil {
		t.Fatal(err)
	}
	m.disk = kerneltest.Event{Action: "change", Devpath: strings.TrimPrefix(devpath, "/sys"),
		Vars: append([]string{"SUBSYSTEM=block"}, strings.Fields(m.read(devpath+"/uevent"))...)}
	return m
}

// cookie makes a cookie that waits for one event, and returns its name and DM_COOKIE.
func (m *mapper) cookie() (name, variable string) {
	m.Helper()
	kerneltest.Until(m, patience, "a cookie", func() bool { // a loop that starts has no control socket for a moment
		cmd := exec.Command(m.dmsetup, "udevcreatecookie")
		cmd.Env = append(os.Environ(), "LD_PRELOAD="+m.shim)
		out, err := cmd.Output()
		if err != nil {
			m.Fatal(err)
		}
		name = strings.TrimSpace(string(out))
		return name != ""
	})
	n, err := strconv.ParseUint(name, 0, 32)
	if err != nil {
		m.Fatalf("dmsetup made the cookie %q: %v", name, err)
	}
	m.semop(n, 1) // as before an ioctl
	return name, "DM_COOKIE=" + strconv.FormatUint(n&0xffff|0x0060_0000, 10)
}

func (m *mapper) semop(key uint64, by int16) {
	m.Helper()
	id, err := sys.Semget(int32(key))
	if err == nil {
		err = sys.Semop(id, by)
	}
	if err != nil {
		m.Fatal(err)
	}
}

// waiting returns a dmsetup that waits for the cookie's event, not yet started.
func (m *mapper) waiting(name string) *exec.Cmd {
	cmd := exec.Command(m.dmsetup, "udevreleasecookie", name)
	cmd.Env = append(os.Environ(), "LD_PRELOAD="+m.shim)
	return cmd
}

// TestMapper: what waits for a cookie finds the links of its device when it goes on, and
// waits hardly longer than for a manager that does nothing.
func TestMapper(t *testing.T) {
	if !jailed(t) {
		return
	}
	m := newMapper(t, "-link=mapper/$DM_NAME;DM_NAME=.+;SUBSYSTEM=block;.* 0:6 660\n")
	l := m.startLoop("--udev")
	var managed, alone []time.Duration
	for n := range 50 {
		name, variable := m.cookie()
		begun := time.Now()
		label := "vg-lv" + strconv.Itoa(n)
		l.send(m.disk.With(variable, "DM_NAME="+label))
		m.must(m.finish(m.waiting(name)))
		managed = append(managed, time.Since(begun))
		if _, err := os.Lstat("/dev/mapper/" + label); err != nil {
			t.Error(err)
		}
		name, _ = m.cookie()
		begun = time.Now()
		l.send(m.disk)
		key, _ := strconv.ParseUint(name, 0, 32)
		m.semop(key, -1)
		m.must(m.finish(m.waiting(name)))
		alone = append(alone, time.Since(begun))
	}
	slices.Sort(managed)
	slices.Sort(alone)
	ratio := float64(managed[10]) / float64(alone[10]) // of the quick ones: the machine may be busy
	t.Logf("dmsetup under the loop: %v, %.2f of a semaphore that the test itself releases", managed[10], ratio)
	if ratio > 1.5 {
		t.Error("who waits for a cookie waits too long")
	}
	name, _ := m.cookie()
	last := m.waiting(name)
	if err := last.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(1500 * time.Millisecond)
	if code := l.stop(); code != exitDone {
		t.Errorf("the loop ends with %d:\n%s", code, l.stderr)
	}
	var none bytes.Buffer
	m.must(await(t, last, &none, &none))
	if left := m.cookies(); left > 0 {
		t.Errorf("%d cookies are left", left)
	}
}

// cookies counts libdevmapper's semaphores.
func (m *mapper) cookies() (count int) {
	for line := range strings.Lines(m.read("/proc/sysvipc/sem")) {
		words := strings.Fields(line)
		if key, err := strconv.ParseInt(words[0], 10, 64); err == nil && key>>16 == 0x0d4d {
			count++
		}
	}
	return count
}

// database returns what is below /run/udev, without times.
func (b *board) database() (lines []string) {
	b.Helper()
	for _, dir := range []string{"data", "tags"} {
		err := filepath.WalkDir(filepath.Join(runUdev, dir), func(path string, e os.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			text := path + ":"
			for line := range strings.Lines(b.read(path)) {
				if !strings.HasPrefix(line, "I:") {
					text += " " + strings.TrimSpace(line)
				}
			}
			lines = append(lines, text)
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	slices.Sort(lines)
	return lines
}

// TestUdevKilled kills the loop at moments of chance. After a restart nobody waits, no cookie
// is left, and the database is what a fresh one is.
func TestUdevKilled(t *testing.T) {
	if !jailed(t) {
		return
	}
	m := newMapper(t, "-tag=seat;tag=systemd;SUBSYSTEM=^(mem|block|tty)$;.* 0:6 660\n-property=X:y;SUBSYSTEM=tty;.* 0:6 660\n")
	chance := newRand(seed(t))
	in, err := kerneltest.NewInjector()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	waits := func(done chan error) { // for a cookie that waits already when its event comes, or not yet
		name, variable := m.cookie()
		cmd := m.waiting(name)
		early := chance.IntN(2) == 0
		if early {
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
		}
		if err := in.Inject(m.disk.With(variable)); err != nil {
			t.Fatal(err)
		}
		if !early {
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
		}
		go func() { done <- cmd.Wait() }()
	}
	const rounds, each = 16, 3
	done := make(chan error, rounds*each+1)
	for round := range rounds {
		cmd := m.command("-df", "--udev")
		cmd.Stderr = new(transcript)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if round%2 == 0 {
			kerneltest.Until(t, patience, "the control socket", func() bool { _, err := os.Stat(runUdev + "/control"); return err == nil })
		}
		time.AfterFunc(time.Duration(chance.IntN(40_000))*time.Microsecond, func() { _ = cmd.Process.Kill() })
		for range each {
			waits(done)
			for n := range 20 {
				if err := in.Send("change", "/devices/virtual/tty/tty"+strconv.Itoa(n), "SUBSYSTEM=tty", "MAJOR=4", "MINOR="+strconv.Itoa(n), "DEVNAME=tty"+strconv.Itoa(n)); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = cmd.Wait()
	}
	// What a device has left behind that went while nobody looked, and half a file.
	for _, name := range []string{"/data/b250:77", "/data/+usb:99-99", "/data/.#devspool-99999999", "/tags/seat/b250:77"} {
		m.write(runUdev+name, "G:seat\n")
	}
	tardy, variable := m.cookie() // its event comes to nobody, and it is waited for when all else is over
	if err := in.Inject(m.disk.With(variable)); err != nil {
		t.Fatal(err)
	}
	l := m.startLoop("--udev")
	time.AfterFunc(2500*time.Millisecond, func() { done <- nil })
	for range rounds*each + 1 {
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("who waits for a cookie: %v", err)
			}
		case <-time.After(patience):
			t.Fatalf("somebody still waits for a cookie; the loop says\n%s", l.stderr)
		}
	}
	m.must(m.finish(m.waiting(tardy)))
	if left := m.cookies(); left > 0 {
		t.Errorf("%d cookies are left", left)
	}
	settled := func() []string {
		m.tool(m.program, "udevadm", "settle")
		return m.database()
	}
	_ = kerneltest.Eventually(patience, func() bool { return !slices.Contains(sys.ReadDir(runUdev+"/data"), "b250:77") })
	got := settled()
	if code := l.stop(); code != exitDone {
		t.Errorf("the loop ends with %d:\n%s", code, l.stderr)
	}
	if err := os.RemoveAll(runUdev); err != nil {
		t.Fatal(err)
	}
	m.startLoop("--udev")
	if diff := kerneltest.Diff(settled(), got); diff != "" {
		t.Errorf("after the kills the database differs (-fresh +found):\n%s", head(diff, 40))
	}
}

// TestUdevPiece shows which devices of a desktop the printed piece of a config gives which tags.
func TestUdevPiece(t *testing.T) {
	if !jailed(t) {
		return
	}
	kerneltest.MountTmpfs(t, "/run")
	b := newJailedBoard(t, call(t, "--print-udev-conf").stdout+"SUBSYSTEM=drm;.* 0:6 640\n")
	device := func(devpath, subsystem, devname string, minor uint32, extra ...string) kerneltest.Device {
		d := kerneltest.Device{Devpath: "/devices/" + devpath, Subsystem: subsystem, Devname: devname, Block: subsystem == "block", Extra: extra}
		if devname != "" {
			d.Major, d.Minor = 240, minor
		}
		return d
	}
	interfaces := []kerneltest.Device{device("pci0/net/wlan0", "net", "", 0, "INTERFACE=wlan0", "IFINDEX=7"), device("virtual/net/lo", "net", "", 0, "INTERFACE=lo", "IFINDEX=1")}
	interfaces[0].Attrs, interfaces[1].Attrs = map[string]string{"ifindex": "7\n"}, map[string]string{"ifindex": "1\n"}
	b.add(interfaces...)
	b.add(
		device("pci0/drm/card0", "drm", "dri/card0", 1), device("pci0/drm/card0/card0-HDMI-A-1", "drm", "", 0),
		device("pci0/drm/renderD128", "drm", "dri/renderD128", 2),
		device("pci0/input/input3", "input", "", 0), device("pci0/input/input3/event3", "input", "input/event3", 3, "ID_INPUT_KEY=1"),
		device("pci0/input/input4", "input", "", 0), device("pci0/input/input4/event4", "input", "input/event4", 4, "ID_INPUT_MOUSE=1"),
		device("pci0/sound/card0", "sound", "", 0), device("pci0/sound/card0/controlC0", "sound", "snd/controlC0", 5),
		device("pci0/leds/l", "leds", "", 0), device("pci0/soundwire/card1", "soundwire", "", 0), device("pci0/video4linux/video0", "video4linux", "video0", 6),
		device("virtual/misc/kvm", "misc", "kvm", 7), device("virtual/misc/fuse", "misc", "fuse", 8),
		device("pci0/block/sda", "block", "sda", 9), device("pci0/block/sr0", "block", "sr0", 10, "ID_CDROM=1"),
		device("virtual/tty/tty1", "tty", "tty1", 11), device("pci0/tty/ttyS0", "tty", "ttyS0", 12))
	b.startLoop("--udev")
	for tag, want := range map[string]string{
		"seat":           "+drm:card0-HDMI-A-1 +input:input3 +input:input4 +leds:l +sound:card0 b240:10 c240:1 c240:2 c240:6 c240:7",
		"master-of-seat": "+drm:card0-HDMI-A-1 c240:1",
		"uaccess":        "b240:10 c240:1 c240:2 c240:5 c240:6 c240:7",
		"power-switch":   "c240:3",
		"systemd":        "b240:10 b240:9 c240:12 c240:5 n7",
	} {
		got := sys.ReadDir(runUdev + "/tags/" + tag)
		slices.Sort(got)
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %q, want %q", tag, strings.Join(got, " "), want)
		}
	}
	if _, err := os.Stat(runUdev + "/data/n1"); err != nil {
		t.Error(err)
	}
	if got := b.read(b.tree.Dir + "/devices/pci0/sound/card0/uevent"); got != "change\n" {
		t.Errorf("the card is asked for %q", got)
	}
	kerneltest.Until(t, patience, "the config's own mode", func() bool { return slices.Contains(b.snapshot(), "dri/card0 char 0640 0:6 240:1") })
}

// TestUdevStarting asks the loop for a scan while its socket for udevadm is still
// another's: it goes on, and tells libudev's clients of all devices once that socket is its own.
func TestUdevStarting(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newUdevBoard(t, "")
	hotplugtest.Must(t, os.MkdirAll(runUdev, 0o755))
	other, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: runUdev + "/control", Net: "unixpacket"})
	hotplugtest.Must(t, err)
	scanned := make(chan result, 1)
	go func() {
		defer other.Close()
		if kerneltest.Eventually(patience, func() bool { return b.run("status").code == exitDone }) {
			go func() { scanned <- b.run("-s") }()
			time.Sleep(500 * time.Millisecond) // for the request to be there
		}
	}()
	b.startLoop("--udev")
	if r := <-scanned; r.code != exitDone {
		t.Errorf("the scan: %+v", r)
	}
	if _, err := os.Stat(runUdev + "/data/c1:3"); err != nil {
		t.Error(err)
	}
}
