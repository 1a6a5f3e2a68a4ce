package systemtest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"devspool/hotplug/kerneltest"
)

// charDevice returns a device of a fixed name and numbers.
func charDevice(name string, major, minor uint32, extra ...string) kerneltest.Device {
	return kerneltest.Device{
		Devpath: "/devices/virtual/test/" + strings.ReplaceAll(name, "/", "!"), Subsystem: "test", Devname: name,
		Major: major, Minor: minor, Extra: extra,
	}
}

// bind mounts a file or directory on another until the end of the test.
func bind(t testing.TB, source, place string) {
	t.Helper()
	if err := unix.Mount(source, place, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(place, unix.MNT_DETACH) })
}

// stamps returns what changes where somebody writes below dir: of each file its
// inode, mode, owner and times.
func stamps(t testing.TB, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(name string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(name, &st); err != nil {
			return err
		}
		all = append(all, fmt.Sprint(name, st.Ino, st.Mode, st.Uid, st.Gid, st.Ctim, st.Mtim))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestContainersNodes works on a /dev as a container has it: nodes and a directory of
// the host are mounted over some of its places. Nothing of the host's is changed, the
// rest is done, nothing fails, and each place is told once.
func TestContainersNodes(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	const conf = "null 0:0 600\nconsole 0:5 600 =tty\nsnd/.* 0:29 660\nsda 0:6 640 =snd/sda\nsdb 0:6 640 >null\n"
	devices := []kerneltest.Device{
		charDevice("null", 1, 3), charDevice("tty", 5, 0), charDevice("console", 5, 1), charDevice("zero", 1, 5, "DEVMODE=0666"),
		charDevice("snd/timer", 116, 33), charDevice("snd/seq", 116, 1), disk(0), disk(1),
	}
	for _, same := range []bool{false, true} { // whether the host's nodes lie in the same file system
		t.Run(fmt.Sprint(same), func(t *testing.T) {
			inEachMode(t, conf, func(b *board, tell func(kerneltest.Event)) {
				host := filepath.Join(b.dir, "host")
				if same {
					host = filepath.Join(b.dev, "host")
				}
				for _, dir := range []string{host + "/snd", b.dev + "/snd"} {
					if err := os.MkdirAll(dir, 0o755); err != nil {
						b.Fatal(err)
					}
				}
				if err := kerneltest.MakeBaseNodes(host); err != nil {
					b.Fatal(err)
				}
				if err := unix.Mknod(host+"/snd/timer", unix.S_IFCHR|0o600, int(unix.Mkdev(116, 33))); err != nil {
					b.Fatal(err)
				}
				for _, name := range []string{"null", "tty"} {
					b.write(filepath.Join(b.dev, name), "")
					bind(b, filepath.Join(host, name), filepath.Join(b.dev, name))
				}
				bind(b, host+"/snd", b.dev+"/snd")
				before := stamps(b, host)
				for _, d := range devices {
					tell(b.plug(d))
				}
				r := b.run("-s")
				b.must(r)
				var st unix.Stat_t
				for name, want := range map[string]uint64{"zero": unix.Mkdev(1, 5), "console": unix.Mkdev(5, 1), "sda": unix.Mkdev(8, 0),
					"sdb": unix.Mkdev(8, 16), "null": unix.Mkdev(1, 3), "tty": unix.Mkdev(5, 0)} {
					if err := unix.Lstat(filepath.Join(b.dev, name), &st); err != nil || st.Rdev != want {
						b.Errorf("%s: %v, numbers %d:%d", name, err, unix.Major(st.Rdev), unix.Minor(st.Rdev))
					}
				}
				for range 2 {
					if r := b.run("-s"); r.code != exitDone || r.stderr != "" {
						b.Errorf("another scan: exit code %d, said:\n%s", r.code, r.stderr)
					}
				}
				for _, d := range slices.Backward(devices) {
					tell(b.unplug(d))
				}
				b.must(b.run("-s"))
				if after := stamps(b, host); !slices.Equal(before, after) {
					b.Errorf("the host's nodes were\n\t%s\nand are\n\t%s", strings.Join(before, "\n\t"), strings.Join(after, "\n\t"))
				}
			})
		})
	}
}

// TestMountedOverIsSaidOnce looks for the words about it, and that what is mounted is
// used no longer when it has gone.
func TestMountedOverIsSaidOnce(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "sda 0:6 640 >shm/sda\nsdb 0:6 640 =shm/sdb\nttyS0 0:20 660 =console\n")
	b.add(disk(0), disk(1), terminal(0))
	host := filepath.Join(b.dir, "console")
	if err := unix.Mknod(host, unix.S_IFCHR|0o600, int(unix.Mkdev(5, 1))); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(b.dev+"/shm", 0o755); err != nil {
		t.Fatal(err)
	}
	kerneltest.MountTmpfs(t, b.dev+"/shm")
	b.write(b.dev+"/console", "")
	bind(t, host, b.dev+"/console")
	r := b.run("-s")
	b.must(r)
	for _, place := range []string{"shm/sda", "shm/sdb", "console"} {
		if n := strings.Count(r.stderr, b.dev+"/"+place+" is left alone: something is mounted there"); n != 1 {
			t.Errorf("%s is told %d times:\n%s", place, n, r.stderr)
		}
	}
	if n := strings.Count(r.stderr, "\n"); n != 3 {
		t.Errorf("%d lines, want 3:\n%s", n, r.stderr)
	}
	for range 2 {
		if r := b.run("-s"); r.code != exitDone || r.stderr != "" {
			t.Errorf("another scan: exit code %d, said:\n%s", r.code, r.stderr)
		}
	}
	if entries, err := os.ReadDir(b.dev + "/shm"); err != nil || len(entries) > 0 {
		t.Errorf("what is mounted there holds %v, %v", entries, err)
	}
	for _, place := range []string{"shm", "console"} {
		if err := unix.Unmount(filepath.Join(b.dev, place), 0); err != nil {
			t.Fatal(err)
		}
	}
	b.scan()
	b.has("console char 0660 0:20 204:0", "sda link -> shm/sda", "shm dir 0755 0:0", "shm/sda block 0640 0:6 8:0", "shm/sdb block 0640 0:6 8:16")
	b.likeFresh("all is unmounted")
}
