package systemtest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"devspool/hotplug/kerneltest"
)

// TestOddNames makes nodes of names that need care in a record, a log or a path,
// and removes them again, by helper and by scan.
func TestOddNames(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	for _, name := range []string{
		"a b", "a\tb", "a\nb", "a\\b", "a\\x20b", "a=b", "node=x", "ü", "\xff\xfe", "%0", "%s", "-rf", "a'b\"c", "*", ".hidden", "a..b", "...",
		"x/" + strings.Repeat("n", 255), strings.Repeat("d/", 100) + "x", "root", "mdev.log",
	} {
		b := newBoard(t, ".* 1:1 600 >moved/%0\n")
		d := kerneltest.Device{Devpath: "/devices/odd/dev", Subsystem: "odd", Devname: name, Major: 8, Minor: 1}
		node := filepath.Join(b.dev, "moved", name)
		e := b.plug(d)
		for _, way := range []string{"helper", "scan"} {
			if way == "helper" {
				b.must(b.finish(b.helper(e)))
			} else if !strings.Contains(name, "\n") { // such a name sysfs does not bear out
				b.scan()
			}
			var st unix.Stat_t
			if err := unix.Lstat(node, &st); err != nil || st.Rdev != unix.Mkdev(8, 1) {
				t.Errorf("%s: %q: %v", way, name, err)
			}
			if target, err := filepath.EvalSymlinks(filepath.Join(b.dev, name)); err != nil || target != node {
				t.Errorf("%s: the link %q leads to %q, %v", way, name, target, err)
			}
		}
		b.tell(b.unplug(d))
		if left := b.snapshot(); len(left) != 0 {
			t.Errorf("%q left %q", name, left)
		}
	}
}

// TestLongDevpath has a devpath about as long as an event can hold.
func TestLongDevpath(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "")
	d := kerneltest.Device{Devpath: "/devices" + strings.Repeat("/"+strings.Repeat("p", 60), 14) + "/sda", Subsystem: "block", Devname: "sda", Block: true, Major: 8}
	l := b.startLoop()
	l.send(b.plug(d))
	b.has("sda block 0660 0:0 8:0")
	b.scan()
	l.send(b.unplug(d))
	b.has()
}

// TestFullDev has no room on /dev for all, of which a few lines tell; when there is, a scan
// makes the rest.
func TestFullDev(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, stormConf)
	for n := range 50 {
		b.add(disk(n), terminal(n), input(n))
	}
	want := b.fresh()
	if err := unix.Mount("tmpfs", b.dev, "tmpfs", 0, "mode=0755,nr_inodes=60"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(b.dev, unix.MNT_DETACH)
	if r := b.run("-s"); r.code != exitEvent || !strings.Contains(r.stderr, "no space") || strings.Count(r.stderr, "\n") > 5 {
		t.Errorf("exit code %d\n%s", r.code, head(r.stderr, 5))
	}
	if err := unix.Mount("tmpfs", b.dev, "tmpfs", unix.MS_REMOUNT, "nr_inodes=10000"); err != nil {
		t.Fatal(err)
	}
	b.scan()
	if diff := kerneltest.Diff(want, b.snapshot()); diff != "" {
		t.Errorf("/dev differs:\n%s", head(diff, 20))
	}
}

// TestReadOnlyDev can make nothing, and says once what to do about it.
func TestReadOnlyDev(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "")
	for n := range 20 {
		b.add(disk(n))
	}
	if err := unix.Mount("tmpfs", b.dev, "tmpfs", unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(b.dev, unix.MNT_DETACH)
	if r := b.run("-s"); r.code != exitEvent && r.code != exitSystem || !strings.Contains(r.stderr, "mount") ||
		!strings.Contains(r.stderr, "20 nodes") || strings.Count(r.stderr, "\n") > 3 {
		t.Errorf("exit code %d\n%s", r.code, r.stderr)
	}
}

// TestDryRun changes nothing and runs nothing.
func TestDryRun(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "-.* 0:0 600 *echo >>../ran\n"+stormConf)
	b.add(disk(0), terminal(0))
	e := b.plug(disk(1))
	b.must(b.run("-s", "-n"))
	b.must(b.run("-n", "-s", "-v"))
	helper := b.helper(e)
	helper.Args = append(helper.Args, "-n")
	b.must(b.finish(helper))
	b.has()
	if _, err := os.Stat(b.dir + "/ran"); err == nil {
		t.Error("a dry run ran a command")
	}
	if entries, _ := os.ReadDir(b.dev); len(entries) != 0 {
		t.Errorf("a dry run made %v", entries)
	}
}

// TestOnDevtmpfs has the kernel's nodes there already, as devtmpfs has.
func TestOnDevtmpfs(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	for _, c := range []struct {
		name, conf string
		want       []string
	}{
		{"no rule", "", []string{"sda block 0660 0:0 8:0"}},
		{"moved", "sda 0:6 640 =disk/x\n", []string{"disk dir 0755 0:0", "disk/x block 0640 0:6 8:0"}},
		{"linked", "sda 0:6 640 >disk/x\n", []string{"disk dir 0755 0:0", "disk/x block 0640 0:6 8:0", "sda link -> disk/x"}},
		{"left alone", "sda 0:6 640 !\n", []string{"sda block 0600 0:0 8:0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			bothWays(t, c.conf, disk(0), func(b *board, act func() result) {
				node := filepath.Join(b.dev, "sda")
				if err := unix.Mknod(node, unix.S_IFBLK|0o600, int(unix.Mkdev(8, 0))); err != nil {
					b.Fatal(err)
				}
				b.must(act())
				b.has(c.want...)
				// The kernel takes its own node away before it sends the event.
				e := b.unplug(disk(0))
				if info, err := os.Lstat(node); err == nil && info.Mode()&os.ModeSymlink == 0 {
					if err := os.Remove(node); err != nil {
						b.Fatal(err)
					}
				}
				b.tell(e)
				b.has()
			})
		})
	}
}
