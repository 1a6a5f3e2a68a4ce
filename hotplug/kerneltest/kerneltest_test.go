package kerneltest_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/kerneltest"
)

func TestMain(m *testing.M) { os.Exit(kerneltest.Main(m)) }

// disk is a block device with every kind of file and variable.
var disk = kerneltest.Device{
	Devpath: "/devices/pci0/host0/block/sda", Subsystem: "block", Devname: "sda", Devtype: "disk",
	Block: true, Major: 8, Minor: 0,
	Extra: []string{"DISKSEQ=7", "DEVMODE=0640"},
	Attrs: map[string]string{"device/model": "x\n"},
}

// TestTreeLooksLikeSysfs reads the files of a device by every path that sysfs has.
func TestTreeLooksLikeSysfs(t *testing.T) {
	t.Parallel()
	tree, err := kerneltest.NewTree(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tree.Add(disk); err != nil {
		t.Fatal(err)
	}
	read := func(name string) string {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(tree.Dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	const lines = "MAJOR=8\nMINOR=0\nDEVNAME=sda\nDEVMODE=0640\nDEVTYPE=disk\nDISKSEQ=7\n"
	for _, name := range []string{
		"devices/pci0/host0/block/sda/uevent", "class/block/sda/uevent", "block/sda/uevent", "dev/block/8:0/uevent",
	} {
		if got := read(name); got != lines {
			t.Errorf("%s holds %q, want %q", name, got, lines)
		}
	}
	if got := read("dev/block/8:0/dev"); got != "8:0\n" {
		t.Errorf("dev holds %q", got)
	}
	if got, _ := filepath.EvalSymlinks(filepath.Join(tree.Dir, "dev/block/8:0/subsystem")); got != filepath.Join(tree.Dir, "class/block") {
		t.Errorf("subsystem leads to %q", got)
	}
	if _, err := tree.Add(disk); !errors.Is(err, os.ErrExist) {
		t.Errorf("a second Add: %v", err)
	}
}

// TestTreeRemoveLeavesNothing removes devices, children first.
func TestTreeRemoveLeavesNothing(t *testing.T) {
	t.Parallel()
	tree, err := kerneltest.NewTree(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	part := kerneltest.Device{Devpath: disk.Devpath + "/sda1", Subsystem: "block", Devname: "sda1", Devtype: "partition", Block: true, Major: 8, Minor: 1}
	usb := kerneltest.Device{Devpath: "/devices/pci0/usb1", Subsystem: "usb", Bus: true, Extra: []string{"MODALIAS=usb:x"}}
	for _, d := range []kerneltest.Device{disk, part, usb} {
		if _, err := tree.Add(d); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := tree.Remove(disk.Devpath); err == nil {
		t.Error("removed a disk that has a partition")
	}
	for _, d := range []kerneltest.Device{part, disk, usb} {
		e, err := tree.Remove(d.Devpath)
		if err != nil {
			t.Fatal(err)
		}
		if e.Action != "remove" {
			t.Errorf("event %s", e)
		}
	}
	err = filepath.Walk(tree.Dir, func(name string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() {
			t.Errorf("left: %s", name)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if left, _ := os.ReadDir(filepath.Join(tree.Dir, "devices")); len(left) != 0 {
		t.Errorf("left in devices: %v", left)
	}
}

// TestInjectorReachesListeners shows the message that the kernel makes of an injected event.
func TestInjectorReachesListeners(t *testing.T) {
	if !kerneltest.InNamespaces(t, kerneltest.Net) {
		return
	}
	listener, err := kerneltest.NewListener()
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	injector, err := kerneltest.NewInjector()
	if err != nil {
		t.Fatal(err)
	}
	defer injector.Close()
	if err := injector.Inject(disk.Event("add")); err != nil {
		kerneltest.Cannot(t, "inject: %v", err)
	}
	if err := injector.Write(kerneltest.Message(disk.Event("remove"))); err != nil {
		t.Fatal(err)
	}
	if err := injector.Refused(); err != nil {
		t.Errorf("refused: %v", err)
	}
	var last uint64
	for _, action := range []string{"add", "remove"} {
		msg, err := listener.Next(time.Second)
		if err != nil {
			t.Fatal(err)
		}
		want := action + "@" + disk.Devpath + "\x00ACTION=" + action + "\x00DEVPATH=" + disk.Devpath + "\x00SUBSYSTEM=block\x00MAJOR=8\x00"
		if !strings.HasPrefix(string(msg), want) {
			t.Errorf("message %q, want it to begin with %q", msg, want)
		}
		if n := kerneltest.Seqnum(msg); n <= last {
			t.Errorf("SEQNUM %d after %d", n, last)
		} else {
			last = n
		}
	}
}

// TestInjectorReportsRefusal injects an event that is too long.
func TestInjectorReportsRefusal(t *testing.T) {
	if !kerneltest.InNamespaces(t, kerneltest.Net) {
		return
	}
	injector, err := kerneltest.NewInjector()
	if err != nil {
		t.Fatal(err)
	}
	defer injector.Close()
	long := kerneltest.Event{Action: "add", Devpath: "/devices/x", Vars: []string{"X=" + strings.Repeat("x", 4096)}}
	if err := injector.Inject(long); !errors.Is(err, unix.EINVAL) {
		t.Errorf("Inject of an event that is too long: %v", err)
	}
	if err := injector.Write(kerneltest.Message(long)); err != nil {
		t.Errorf("Write: %v", err)
	}
	if err := injector.Refused(); !errors.Is(err, unix.EINVAL) {
		t.Errorf("Refused: %v", err)
	}
}

// TestInNamespacesHasOwnDev shows what a test in namespaces finds in /dev and /sys.
func TestInNamespacesHasOwnDev(t *testing.T) {
	if !kerneltest.InNamespaces(t, kerneltest.Net|kerneltest.PID) {
		return
	}
	if os.Getpid() != 1 {
		t.Errorf("pid %d", os.Getpid())
	}
	got, err := kerneltest.Snapshot("/dev", "random", "urandom", "full", "zero", "tty")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"console char 0600 0:0 5:1", "null char 0666 0:0 1:3"}
	if diff := kerneltest.Diff(want, got); diff != "" {
		t.Errorf("/dev differs:\n%s", diff)
	}
	if net, _ := os.ReadDir("/sys/class/net"); len(net) != 1 {
		t.Errorf("network interfaces: %v", net)
	}
	t.Run("sub", func(*testing.T) {})
}

// TestJailsAreApart shows that a file which a program makes in a jail is in no other.
func TestJailsAreApart(t *testing.T) {
	if !kerneltest.InNamespaces(t, kerneltest.PID) {
		return
	}
	sys := t.TempDir()
	if err := os.WriteFile(filepath.Join(sys, "mark"), []byte("fake"), 0o644); err != nil {
		t.Fatal(err)
	}
	a := kerneltest.NewJail(t, map[string]string{"/sys": sys})
	b := kerneltest.NewJail(t, nil)
	for _, j := range []*kerneltest.Jail{a, b} {
		if err := kerneltest.MakeBaseNodes(j.Dev); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Run(exec.Command("/bin/sh", "-c", "cp /sys/mark /dev/mark")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(a.Dev, "mark")); err != nil {
		t.Error(err)
	}
	for _, dev := range []string{b.Dev, "/dev"} {
		if _, err := os.Stat(filepath.Join(dev, "mark")); err == nil {
			t.Errorf("%s has the file too", dev)
		}
	}
}
