package systemtest

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"devspool/hotplug/kerneltest"
)

// outside makes a directory beside /dev that nothing may touch, with a file in
// it, and returns its path and a check that it is as it was.
func (b *board) outside() (dir string, untouched func()) {
	b.Helper()
	dir = filepath.Join(b.dir, "outside")
	if err := os.Mkdir(dir, 0o755); err != nil {
		b.Fatal(err)
	}
	b.write(filepath.Join(dir, "file"), "precious")
	look := func() []string {
		lines, err := kerneltest.Snapshot(dir)
		if err != nil {
			b.Fatal(err)
		}
		return lines
	}
	before := look()
	return dir, func() {
		b.Helper()
		if diff := kerneltest.Diff(before, look()); diff != "" {
			b.Errorf("outside of /dev:\n%s", diff)
		}
	}
}

func (b *board) symlink(text, name string) {
	b.Helper()
	if err := os.Symlink(text, filepath.Join(b.dev, name)); err != nil {
		b.Fatal(err)
	}
}

// bothWays plays a test for a scan and for a helper, each on a board of its own.
func bothWays(t *testing.T, conf string, d kerneltest.Device, play func(b *board, act func() result)) {
	t.Run("scan", func(t *testing.T) {
		b := newBoard(t, conf)
		b.add(d)
		play(b, func() result { return b.run("-s") })
	})
	t.Run("helper", func(t *testing.T) {
		b := newBoard(t, conf)
		e := b.plug(d)
		play(b, func() result { return b.finish(b.helper(e)) })
	})
}

func TestLinkAtNodesPlace(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	bothWays(t, "sda 7:7 666\n", disk(0), func(b *board, act func() result) {
		dir, untouched := b.outside()
		b.symlink(dir+"/file", "sda")
		b.must(act())
		untouched()
		b.has("sda block 0666 7:7 8:0")
		b.tell(b.unplug(disk(0)))
		untouched()
		b.has()
	})
}

// TestLinkedDirectory has a link to a directory outside where a nested name's
// directory should be.
func TestLinkedDirectory(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	for _, conf := range []string{"", "event0 0:0 600 >other/%0\n", ".* 0:0 600 =input/x\n", ".* 0:0 600 =a/b/input/x\n"} {
		bothWays(t, conf, input(0), func(b *board, act func() result) {
			dir, untouched := b.outside()
			b.symlink(dir, "input")
			b.symlink(dir, "a")
			if r := act(); r.code != exitEvent && r.code != exitDone {
				b.Errorf("exit code %d\n%s", r.code, r.stderr)
			}
			untouched()
			b.finish(b.helper(b.unplug(input(0))))
			untouched()
		})
	}
}

func TestFileAtNodesPlace(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	for _, stand := range []uint32{unix.S_IFREG, unix.S_IFIFO, unix.S_IFSOCK, unix.S_IFCHR, unix.S_IFBLK} {
		bothWays(t, "sda 0:6 640\n", disk(0), func(b *board, act func() result) {
			if err := unix.Mknod(filepath.Join(b.dev, "sda"), stand|0o666, int(unix.Mkdev(1, 3))); err != nil {
				b.Fatal(err)
			}
			b.must(act())
			b.has("sda block 0640 0:6 8:0")
		})
	}
}

func TestDirectoryAtNodesPlace(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	bothWays(t, "", disk(0), func(b *board, act func() result) {
		if err := os.Mkdir(filepath.Join(b.dev, "sda"), 0o700); err != nil {
			b.Fatal(err)
		}
		if r := act(); r.code != exitEvent || !strings.Contains(r.stderr, "sda") {
			b.Errorf("exit code %d\n%s", r.code, r.stderr)
		}
		b.has("sda dir 0700 0:0")
		b.finish(b.helper(b.unplug(disk(0))))
		b.has("sda dir 0700 0:0")
	})
}

// TestTargetInTheWay has what stands in /dev keep a device from the path that its rule
// gives it: it has its node at its own name, of which its commands hear, until it leaves,
// or the path is free.
func TestTargetInTheWay(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	for _, target := range []string{"=dir", ">dir", "=file/x", ">file/x", "=link/x"} {
		t.Run(target, func(t *testing.T) {
			b := newBoard(t, "sda 0:6 640 "+target+" *echo $ACTION $MDEV >>../log\n")
			if err := os.MkdirAll(b.dev+"/dir/full", 0o755); err != nil {
				t.Fatal(err)
			}
			b.write(b.dev+"/file", "")
			b.symlink(t.TempDir(), "link")
			before := b.snapshot()
			with := append(slices.Clone(before), "sda block 0640 0:6 8:0")
			slices.Sort(with)
			if r := b.finish(b.helper(b.plug(disk(0)))); r.code != exitEvent || strings.Count(r.stderr, "\n") != 1 || !strings.Contains(r.stderr, "remove it") {
				t.Errorf("exit code %d\n%s", r.code, r.stderr)
			}
			b.has(with...)
			b.run("-s")
			b.has(with...)
			b.tell(b.unplug(disk(0)))
			b.has(before...)
			b.logs("at its own name", "log", "add sda", "add sda", "remove sda")
			b.finish(b.helper(b.plug(disk(0))))
			for _, name := range []string{"dir", "file", "link"} {
				os.RemoveAll(b.dev + "/" + name)
			}
			b.scan()
			path := target[1:]
			if found := strings.Join(b.snapshot(), "\n"); !strings.Contains(found, path+" block 0640 0:6 8:0") || strings.Contains(found, "sda block") {
				t.Errorf("when the path is free /dev holds\n%s", found)
			}
		})
	}
}

// TestForeignNameOnRemove removes a device whose name is that of a node which is
// not its own: a network interface named null, a module named tty.
func TestForeignNameOnRemove(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "")
	if err := kerneltest.MakeBaseNodes(b.dev); err != nil {
		t.Fatal(err)
	}
	before := b.snapshot()
	for _, d := range []kerneltest.Device{
		{Devpath: "/devices/virtual/net/null", Subsystem: "net"},
		{Devpath: "/devices/virtual/module/tty", Subsystem: "module"},
		{Devpath: "/devices/virtual/x/zero", Subsystem: "x", Devname: "zero", Major: 99, Minor: 1},
	} {
		b.tell(d.Event("remove"))
	}
	if diff := kerneltest.Diff(before, b.snapshot()); diff != "" {
		t.Errorf("/dev differs:\n%s", diff)
	}
}

// TestNamesThatLeaveDev sends device names and targets that would lead out of /dev.
func TestNamesThatLeaveDev(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	for _, conf := range []string{"", ".* 0:0 600 =../outside/x\n", ".* 0:0 600 =x/%0\n", "$EVIL=(.*) 0:0 600 =%1\n", "$EVIL=(.*) 0:0 600 >%1/\n"} {
		for i, name := range []string{"../outside/file", "..", "a/../../outside/file", "/etc/passwd", "input//x", "./sda", ".devspool/lock", ".devspool"} {
			b := newBoard(t, conf)
			_, untouched := b.outside()
			d := kerneltest.Device{Devpath: "/devices/evil" + strconv.Itoa(i), Subsystem: "evil", Devname: name, Major: 8, Minor: 0, Extra: []string{"EVIL=" + name}}
			for _, e := range []kerneltest.Event{b.plug(d), b.unplug(d)} {
				b.finish(b.helper(e))
				untouched()
				for _, line := range b.snapshot() {
					if strings.Contains(line, "..") {
						t.Errorf("%q made %s", name, line)
					}
				}
			}
			if info, err := os.Lstat(filepath.Join(b.dev, ".devspool")); err == nil && !info.IsDir() {
				t.Errorf("%q: the private directory is now %v", name, info.Mode())
			}
		}
	}
}

// watchModes looks at a path as fast as it can until the returned function is
// called, which returns every mode and owner that was seen there.
func watchModes(path string) (seen func() []string) {
	var stop atomic.Bool
	done := make(chan map[string]bool)
	go func() {
		all := map[string]bool{}
		for !stop.Load() {
			var st unix.Stat_t
			if unix.Lstat(path, &st) != nil || st.Mode&unix.S_IFMT == unix.S_IFLNK {
				continue
			}
			all[strconv.FormatUint(uint64(st.Mode&0o7777), 8)+" "+strconv.Itoa(int(st.Uid))+":"+strconv.Itoa(int(st.Gid))] = true
		}
		done <- all
	}()
	return func() []string {
		stop.Store(true)
		all := []string{}
		for s := range <-done {
			all = append(all, s)
		}
		slices.Sort(all)
		return all
	}
}

// TestNoMomentIsTooWide watches a node while it is made, given to others, narrowed
// and widened, many times. A mode never comes with an owner that it was not meant for.
func TestNoMomentIsTooWide(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "sda 7:8 660\n")
	e := b.plug(disk(0))
	seen := watchModes(filepath.Join(b.dev, "sda"))
	for range 30 {
		b.configure("sda 7:8 660\n")
		b.tell(e)
		b.configure("sda 9:9 606\n")
		b.tell(e)
		b.configure("sda 0:0 600\n")
		b.tell(e)
		if err := os.Remove(filepath.Join(b.dev, "sda")); err != nil {
			t.Fatal(err)
		}
	}
	// Between two settings the mode may be what both allow, under either owner: or
	// under the one's user and the other's group, since stat(2) reads these one after
	// the other.
	for _, s := range seen() {
		if !strings.HasPrefix(s, "600 ") && s != "606 9:9" && s != "660 7:8" {
			t.Errorf("seen: %s", s)
		}
	}
}

// TestNodeIsNeverAway watches a node that is set up again and again, and is right already.
func TestNodeIsNeverAway(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	b := newBoard(t, "sda 7:8 660 >disk/%0\nsdb 7:8 640\n")
	b.add(disk(0), disk(1))
	b.scan()
	var stop atomic.Bool
	missing := make(chan string, 1)
	go func() {
		defer close(missing)
		for !stop.Load() {
			for _, name := range []string{"sda", "disk/sda", "sdb"} {
				if _, err := os.Stat(filepath.Join(b.dev, name)); err != nil {
					missing <- err.Error()
					return
				}
			}
		}
	}()
	for n := range 20 {
		b.configure("sda 7:8 660 >disk/%0\nsdb 7:8 64" + strconv.Itoa(n%2*4) + "\n")
		b.scan()
		b.tell(disk(0).Event("add"))
	}
	stop.Store(true)
	for err := range missing {
		t.Error(err)
	}
}

// TestUmask starts the program under umasks that must not matter.
func TestUmask(t *testing.T) {
	t.Parallel()
	if !jailed(t) {
		return
	}
	for _, umask := range []int{0, 0o77, 0o777} {
		b := newBoard(t, "input/.* 0:0 666\nsda 5:5 606 =a/b/sda\n")
		b.add(input(0), disk(0))
		old := syscall.Umask(umask)
		r := b.run("-s")
		syscall.Umask(old)
		b.must(r)
		b.has("a dir 0755 0:0", "a/b dir 0755 0:0", "a/b/sda block 0606 5:5 8:0",
			"input dir 0755 0:0", "input/event0 char 0666 0:0 13:64")
		info, err := os.Stat(filepath.Join(b.dev, ".devspool"))
		if err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("umask %o: private directory %v %v", umask, info, err)
		}
	}
}
