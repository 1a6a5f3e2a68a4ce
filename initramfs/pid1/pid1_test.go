package pid1

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/hotplugtest"
)

// TestParse reads command lines.
func TestParse(t *testing.T) {
	t.Parallel()
	plain := func(change func(s *settings)) settings {
		s := settings{timeout: usualTimeout, onlyFirst: true}
		change(&s)
		return s
	}
	for line, want := range map[string]settings{
		"": plain(func(*settings) {}),
		"quiet root=UUID=a-b ro rw rootwait rootdelay=1.5\n": plain(func(s *settings) {
			s.root, s.writable, s.rootwait, s.timeout = "UUID=a-b", true, true, usualTimeout+1500*time.Millisecond
		}),
		`"root=LABEL=a b" rootfstype=ext4,xfs rootflags=noatime,commit=9 init=/x -- root=/dev/sda`: plain(func(s *settings) {
			s.root, s.fstype, s.flags, s.init = "LABEL=a b", "ext4,xfs", "noatime,commit=9", "/x"
		}),
		"panic=5 rd.devspool.timeout=2 rd.devspool.log=info rd.devspool.first=no rd.devspool.break=mount,switch": plain(func(s *settings) {
			s.panics, s.timeout, s.verbose, s.loopVerbose, s.onlyFirst, s.breaks = true, 2*time.Second, true, true, false, "mount,switch"
		}),
		`root="UUID=a-b" rootfstype="ext4" rootflags="noatime,x=1 2" init="/x y"`: plain(func(s *settings) {
			s.root, s.fstype, s.flags, s.init = "UUID=a-b", "ext4", "noatime,x=1 2", "/x y"
		}),
		`root=LABEL="a b" rootfstype=ext4 rootfstype=auto`: plain(func(s *settings) { s.root = "LABEL=a b" }),
		"rootdelay=1 rd.devspool.timeout=2 -- rootdelay=5": plain(func(s *settings) { s.timeout = 3 * time.Second }),
		"rootwait=5":          plain(func(s *settings) { s.timeout = 5 * time.Second }),
		"rootwait=5 rootwait": plain(func(s *settings) { s.timeout, s.rootwait = 5*time.Second, true }),
		"rd.luks.uuid=luks-1 rd.luks.name=2=home rd.luks.key=/k rd.luks.uuid=3": plain(func(s *settings) {
			s.luks = []volume{{uuid: "1", name: "luks-1", key: "/k"}, {uuid: "2", name: "home", key: "/k"}, {uuid: "3", name: "luks-3"}}
		}),
	} {
		var s settings
		if s.parse(line); !reflect.DeepEqual(s, want) {
			t.Errorf("%q is\n%+v, want\n%+v", line, s, want)
		}
	}
}

// TestFirst shows what the loop is to have first.
func TestFirst(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"root=/dev/vg/root rd.luks.uuid=1 rd.luks.uuid=2": " UUID=1 UUID=2",
		"root=98:16":                       "/dev/block/98:16",
		"root=0801":                        "/dev/block/8:1",
		"root=0x10210312":                  "/dev/block/259:66066",
		"root=PARTUUID=X-01/PARTNROFF=1":   "PARTUUID=X-01",
		"root=ubi0:rootfs":                 "/dev/ubi0",
		"root=ubi:rootfs":                  "/dev/ubi0",
		"root=ubi1_2":                      "/dev/ubi1_2",
		"root=mtd3":                        "/dev/mtd3",
		"root=/dev/v-g/lv":                 "/dev/mapper/v--g-lv",
		"root=/dev/mapper/x":               "/dev/mapper/x",
		"root=/dev/disk/by-id/x":           "/dev/disk/by-id/x",
		"root=LABEL=a:b":                   "LABEL=a:b",
		`"root=LABEL=a b"`:                 `LABEL=a\x20b`,
		"root=/dev/a rd.devspool.first=no": "",
	} {
		var s settings
		if s.parse(line); s.first() != want {
			t.Errorf("%q: %q, want %q", line, s.first(), want)
		}
	}
}

// TestMountOptions parts flags from what the file system is told.
func TestMountOptions(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		s     settings
		flags uintptr
		data  string
	}{
		{settings{}, unix.MS_RDONLY, ""},
		{settings{writable: true, flags: "noatime,subvol=@,,errors=panic,nodev,"}, unix.MS_NOATIME | unix.MS_NODEV, "subvol=@,errors=panic"},
		{settings{writable: true, flags: "ro,defaults"}, unix.MS_RDONLY, ""},
		{settings{flags: "rw,noatime,noexec,exec,nofail,x-systemd.growfs"}, unix.MS_NOATIME, ""},
	} {
		if flags, data := c.s.mountOptions(); flags != c.flags || data != c.data {
			t.Errorf("%+v: %x, %q", c.s, flags, data)
		}
	}
}

// TestIsBlock tells disks from all else.
func TestIsBlock(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/dev/null", "/", "98:16"} {
		if isBlock(path) {
			t.Errorf("%s is no disk", path)
		}
	}
	hotplugtest.NeedRoot(t)
	dir := t.TempDir()
	hotplugtest.Must(t, unix.Mknod(dir+"/disk", unix.S_IFBLK|0o600, int(unix.Mkdev(7, 0))))
	hotplugtest.Must(t, os.Symlink("disk", dir+"/link"))
	if !isBlock(dir + "/link") {
		t.Error("a link to a disk is none")
	}
}

// TestDecimal writes times as the loop reads them.
func TestDecimal(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{0: "0.000", 50 * time.Millisecond: "0.050", 5 * time.Second: "5.000", 12345 * time.Millisecond: "12.345"} {
		if got := decimal(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
}

// TestClean removes a tree in memory, leaves what is mounted in it alone, and does not
// follow links; a directory on another kind of file system is not touched at all.
func TestClean(t *testing.T) {
	hotplugtest.NeedRoot(t)
	dir := t.TempDir()
	mount := func(at string) {
		hotplugtest.Must(t, os.MkdirAll(at, 0o755))
		hotplugtest.Must(t, unix.Mount("tmpfs", at, "tmpfs", 0, ""))
		t.Cleanup(func() { _ = unix.Unmount(at, unix.MNT_DETACH) })
	}
	outside := filepath.Join(t.TempDir(), "kept")
	hotplugtest.WriteFile(t, outside, "")
	memory := filepath.Join(dir, "memory")
	mount(memory)
	hotplugtest.Must(t, os.MkdirAll(memory+"/a/b", 0o755))
	hotplugtest.WriteFile(t, memory+"/a/b/file", "x")
	hotplugtest.Must(t, os.Symlink(filepath.Dir(outside), memory+"/a/link"))
	mount(memory + "/a/other")
	hotplugtest.WriteFile(t, memory+"/a/other/kept", "")
	fd, err := unix.Open(memory, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	hotplugtest.Must(t, err)
	defer unix.Close(fd)
	clean(fd)
	for path, want := range map[string]bool{outside: true, memory + "/a/other/kept": true, memory + "/a/b": false, memory + "/a/link": false} {
		if _, err := os.Lstat(path); (err == nil) != want {
			t.Errorf("%s: %v", path, err)
		}
	}
	here, err := unix.Open(filepath.Dir(outside), unix.O_RDONLY|unix.O_DIRECTORY, 0)
	hotplugtest.Must(t, err)
	defer unix.Close(here)
	var fs unix.Statfs_t
	hotplugtest.Must(t, unix.Fstatfs(here, &fs))
	if uint32(fs.Type) == unix.TMPFS_MAGIC {
		t.Skip("the temporary directory is in memory itself")
	}
	clean(here)
	if _, err := os.Lstat(outside); err != nil {
		t.Error(err)
	}
}

// TestLeadsSomewhere tells the standard descriptors that the kernel opened from those that stand for
// closed ones.
func TestLeadsSomewhere(t *testing.T) {
	t.Parallel()
	reader, writer, err := os.Pipe()
	hotplugtest.Must(t, err)
	defer reader.Close()
	defer writer.Close()
	open := func(path string) int {
		file, err := os.Open(path)
		hotplugtest.Must(t, err)
		t.Cleanup(func() { file.Close() })
		return int(file.Fd())
	}
	for name, c := range map[string]struct {
		fd   int
		want bool
	}{"a pipe": {int(writer.Fd()), true}, "a device": {open("/dev/zero"), true}, "/": {open("/"), false}, "/dev/null": {open("/dev/null"), false}, "closed": {9999, false}} {
		if leadsSomewhere(c.fd) != c.want {
			t.Errorf("%s: not %v", name, c.want)
		}
	}
}

// TestRunElsewhere shows that nothing is mounted by what is no first process.
func TestRunElsewhere(t *testing.T) {
	if code := Run([]string{"init"}, nil); code != 100 {
		t.Errorf("code %d", code)
	}
}
