package udev

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/kerneltest"
	"devspool/hotplug/uevent"
)

func TestMain(m *testing.M) { os.Exit(kerneltest.Main(m)) }

// desk is a Udev in a directory of the test's own.
type desk struct {
	*testing.T
	*Udev
	run string
	log *hotplugtest.Log
	sys *hotplugtest.Sysfs
}

// newDesk opens a Udev without a control socket, with a tree that stands for /sys.
func newDesk(t *testing.T) *desk {
	t.Helper()
	hotplugtest.NeedRoot(t)
	d := &desk{T: t, run: filepath.Join(t.TempDir(), "udev"), log: hotplugtest.NewLog(t), sys: hotplugtest.NewSysfs(t)}
	d.restart(nil)
	return d
}

// restart opens the directory anew, as after the end of the process.
func (d *desk) restart(m Manager) {
	d.Helper()
	if d.Udev != nil {
		d.Udev.Close()
	}
	u, err := New(Options{Run: d.run, Sys: d.sys.FS, Log: d.log.Logger, Manager: m})
	hotplugtest.Must(d.T, err)
	d.Udev = u
	d.Cleanup(func() { u.sender.Close() })
}

// file returns what is in a file of the directory, or "absent".
func (d *desk) file(name string) string {
	d.Helper()
	text, err := os.ReadFile(filepath.Join(d.run, name))
	if os.IsNotExist(err) {
		return "absent"
	}
	hotplugtest.Must(d.T, err)
	return string(text)
}

// want fails the test where a file does not hold text, in which TIME stands for a number.
func (d *desk) want(name, text string) {
	d.Helper()
	got := d.file(name)
	for line := range strings.Lines(got) {
		if strings.HasPrefix(line, "I:") {
			got = strings.Replace(got, line, "I:TIME\n", 1)
		}
	}
	if got != text {
		d.Errorf("%s holds\n%q, want\n%q", name, got, text)
	}
}

// quiet fails the test where anything was logged.
func (d *desk) quiet() {
	d.Helper()
	if lines := d.log.Lines(); len(lines) > 0 {
		d.Errorf("logged: %q", lines)
	}
}

// disk is an event of a disk.
func disk(t testing.TB, action string, more ...string) *uevent.Event {
	t.Helper()
	return hotplugtest.NewEvent(t, append([]string{"ACTION=" + action, "DEVPATH=/devices/virtual/block/x", "SUBSYSTEM=block",
		"MAJOR=8", "MINOR=0", "DEVNAME=x", "DEVTYPE=disk", "SEQNUM=7"}, more...)...)
}

// tmpfs gives the test, which is in a mount namespace of its own, an empty directory.
func tmpfs(t *testing.T, dir string) {
	t.Helper()
	hotplugtest.Must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0755"))
}

// compile builds a program of testdata and returns its path.
func compile(t *testing.T, source string, flags ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), strings.TrimSuffix(source, ".c"))
	args := append([]string{"-Wall", "-o", path, "testdata/" + source}, flags...)
	if out, err := exec.Command(kerneltest.Need(t, "gcc"), args...).CombinedOutput(); err != nil {
		if strings.Contains(string(out), "libudev.h: No such file") {
			kerneltest.Cannot(t, "needs libudev-dev")
		}
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	return path
}

// output runs a program and returns what it printed on both of its outputs.
func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}
