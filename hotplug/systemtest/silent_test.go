package systemtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"devspool/hotplug/kerneltest"
)

// TestNoNodesAllowed scans where the kernel lets nobody make a node: it says what is
// wrong and what helps once, however many devices there are.
func TestNoNodesAllowed(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "")
	for n := range 20 {
		b.add(disk(n))
	}
	if err := os.Chmod(b.dir, 0o777); err != nil {
		t.Fatal(err)
	}
	at := func(dev, script string, attr *syscall.SysProcAttr) {
		t.Helper()
		cmd := exec.Command("/bin/sh", "-c", script+` exec "$0" "$@"`,
			b.program, "-s", "--dev", dev, "--sys", b.tree.Dir, "--conf", b.conf, "--events", "none")
		cmd.SysProcAttr = attr
		r := b.finish(cmd)
		lines := strings.Split(strings.TrimSuffix(r.stderr, "\n"), "\n")
		if len(lines) > 2 && strings.Contains(lines[0], "no lock and no record") {
			lines = lines[1:]
		}
		if r.code != exitEvent || len(lines) != 2 || !strings.Contains(r.stderr, "user namespace") || !strings.Contains(r.stderr, "20 nodes") {
			t.Errorf("exit code %d, it says\n%s", r.code, r.stderr)
		}
	}
	unprivileged := b.dir + "/dev2"
	at(unprivileged, `mkdir -p `+unprivileged+` && mount -t tmpfs none `+unprivileged+` &&`, &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}},
	})
	// Another user is refused by the directory already.
	if err := os.Chmod(filepath.Dir(b.dir), 0o755); err != nil {
		t.Fatal(err)
	}
	at(b.dev, "", &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}})
}

// TestMountedNoDev scans into a /dev on which no node can be opened.
func TestMountedNoDev(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "")
	b.add(disk(0))
	if err := unix.Mount("none", b.dev, "tmpfs", unix.MS_NODEV, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(b.dev, unix.MNT_DETACH)
	r := b.run("-s")
	if r.code != exitDone || strings.Count(r.stderr, "\n") != 1 || !strings.Contains(r.stderr, "nodev") || !strings.Contains(r.stderr, "mount -o remount,dev") {
		t.Errorf("exit code %d, it says\n%s", r.code, r.stderr)
	}
}

// TestColdplugReadOnly asks a loop to coldplug where /sys cannot be written to.
func TestColdplugReadOnly(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "")
	sys := b.dir + "/readonly"
	if err := os.Mkdir(sys, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("/sys", sys, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(sys, unix.MNT_DETACH)
	if err := unix.Mount("", sys, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	l := b.startLoop("--sys", sys)
	r := b.run("coldplug", "--sys", sys)
	if r.code != exitEvent || !strings.Contains(r.stderr, "read-only") || !strings.Contains(r.stderr, "devspool -s") {
		t.Errorf("exit code %d, it says\n%s", r.code, r.stderr)
	}
	if code := l.stop(); code != exitDone {
		t.Errorf("the loop's exit code is %d", code)
	}
}

// TestConfigIsNoFile gives a running loop a FIFO, a device and a directory for a
// config, and then a good file, which it uses.
func TestConfigIsNoFile(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "sd.* 0:0 640\n")
	b.add(disk(0))
	l := b.startLoop()
	replace := func(what string, put func(path string) error) {
		t.Helper()
		other := b.conf + ".new"
		if err := put(other); err != nil {
			t.Fatal(err)
		}
		os.RemoveAll(b.conf)
		if err := os.Rename(other, b.conf); err != nil {
			t.Fatal(err)
		}
		if r := b.run("ctl", "reload"); r.code == exitDone || !strings.Contains(r.stderr, "not a regular file") {
			t.Errorf("%s: exit code %d, it says %q", what, r.code, r.stderr)
		}
		if r := b.run("--check"); r.code != exitConfig || !strings.Contains(r.stderr, "not a regular file") {
			t.Errorf("%s: --check: exit code %d, it says %q", what, r.code, r.stderr)
		}
	}
	replace("a FIFO", func(path string) error { return unix.Mkfifo(path, 0o644) })
	replace("a device", func(path string) error { return unix.Mknod(path, unix.S_IFCHR|0o644, int(unix.Mkdev(1, 5))) })
	replace("a directory", func(path string) error { return os.Mkdir(path, 0o755) })
	b.has("sda block 0640 0:0 8:0")
	os.RemoveAll(b.conf)
	b.configure("sd.* 0:0 600\n")
	n := 0
	kerneltest.Until(t, patience, "the good config to be used", func() bool {
		n++
		l.send(b.plug(disk(n)))
		b.must(b.run("settle", "10", "--quiet", "0"))
		var st unix.Stat_t
		return unix.Stat(b.dev+"/sd"+letters(n), &st) == nil && st.Mode&0o777 == 0o600
	})
	if code := l.stop(); code != exitDone {
		t.Errorf("exit code %d\n%s", code, l.stderr)
	}
}
