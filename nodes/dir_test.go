package nodes

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
)

func TestOpenMissing(t *testing.T) {
	d, err := Open(filepath.Join(t.TempDir(), "missing"))
	if !errors.Is(err, unix.ENOENT) {
		t.Errorf("error %v, want ENOENT", err)
	}
	for name, fd := range map[string]int{"fd": d.tree.fd, "private": d.tree.private, "lock": d.lockFile} {
		if fd != sys.None {
			t.Errorf("%s is %d, which Close would close", name, fd)
		}
	}
}

// TestLockProcesses has processes add to a number in a file, which only comes out
// right where one at a time does it.
func TestLockProcesses(t *testing.T) {
	needRoot(t)
	const processes, rounds = 3, 300
	dir := t.TempDir()
	counter := filepath.Join(t.TempDir(), "counter")
	if err := os.WriteFile(counter, []byte("0"), 0o600); err != nil {
		t.Fatal(err)
	}
	var running []*exec.Cmd
	for range processes {
		cmd := child(t, "count", dir, counter, strconv.Itoa(rounds))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		running = append(running, cmd)
	}
	for _, cmd := range running {
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
	text, err := os.ReadFile(counter)
	if err != nil || string(text) != strconv.Itoa(processes*rounds) {
		t.Errorf("the counter holds %s (%v), want %d", text, err, processes*rounds)
	}
}

// countUnderLock adds 1 to the number in a file, again and again.
func countUnderLock(args []string) error {
	d, err := Open(args[0])
	if err != nil {
		return err
	}
	rounds, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	for range rounds {
		if _, err := d.LockDev(); err != nil {
			return err
		}
		text, err := os.ReadFile(args[1])
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(string(text))
		if err != nil {
			return err
		}
		if err := os.WriteFile(args[1], []byte(strconv.Itoa(n+1)), 0o600); err != nil {
			return err
		}
		d.UnlockDev()
	}
	return nil
}

// TestLockDirs shows that the lock is one of open files, not of processes: two
// Dirs in one process exclude each other too, and Close lets go of it.
func TestLockDirs(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	a, b := newBoard(t, dir), newBoard(t, dir)
	for _, lock := range []*board{a, b} {
		if _, err := lock.d.LockDev(); err != nil {
			t.Fatal(err)
		}
		lock.d.UnlockDev()
	}
	free := func() bool {
		err := unix.Flock(b.d.lockFile, unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			unix.Flock(b.d.lockFile, unix.LOCK_UN)
		}
		return err == nil
	}
	if _, err := a.d.LockDev(); err != nil {
		t.Fatal(err)
	}
	if free() {
		t.Error("two hold the lock")
	}
	a.d.UnlockDev()
	if !free() {
		t.Error("after Unlock the lock is held")
	}
	if _, err := a.d.LockDev(); err != nil {
		t.Fatal(err)
	}
	a.d.Close()
	if !free() {
		t.Error("after Close the lock is held")
	}
}

// TestRenewed is about a /dev that was replaced by another directory.
func TestRenewed(t *testing.T) {
	eachWay(t, func(b *board) {
		plan := makes("c1:3", "null", "null 0666 0:0")
		b.apply(plan)
		away := b.dir + ".away"
		b.must(os.Rename(b.dir, away))
		b.must(os.Mkdir(b.dir, 0o755))
		renewed, err := b.d.LockDev()
		if !renewed || err != nil {
			b.Errorf("LockDev says remounted %v, error %v", renewed, err)
		}
		if renewed, err := b.d.LockDev(); renewed || err != nil {
			b.Errorf("the second LockDev says remounted %v, error %v", renewed, err)
		}
		old := newBoard(b.T, away)
		old.unchanged(func() {
			if b.apply(plan) {
				b.Error("on the new /dev the device is said to have existed")
			}
		})
		b.check("null c1:3 0666 0:0")
	})
}

// TestRenewedMount is the same with a file system that is mounted over /dev.
func TestRenewedMount(t *testing.T) {
	if !inOwnMounts(t) {
		return
	}
	b := newBoard(t, t.TempDir())
	plan := makes("c1:3", "null", "null 0666 0:0")
	b.apply(plan)
	for range 2 {
		b.must(unix.Mount("none", b.dir, "tmpfs", 0, "size=64k"))
		b.Cleanup(func() { unix.Unmount(b.dir, unix.MNT_DETACH) })
		renewed, err := b.d.LockDev()
		if !renewed || err != nil {
			b.Errorf("LockDev says remounted %v, error %v", renewed, err)
		}
		b.apply(plan)
		b.check("null c1:3 0666 0:0")
	}
	for range 2 {
		b.must(unix.Unmount(b.dir, unix.MNT_DETACH)) // the Dir's descriptor keeps it busy
	}
	if renewed, err := b.d.LockDev(); !renewed || err != nil {
		b.Errorf("after an unmount LockDev says remounted %v, error %v", renewed, err)
	}
	b.unchanged(func() {
		if !b.apply(plan) {
			b.Error("the record below has gone")
		}
	})
}

// TestRenewedGone is about a /dev that is missing for a while, and comes back.
func TestRenewedGone(t *testing.T) {
	eachWay(t, func(b *board) {
		plan := makes("c1:3", "null", "null 0666 0:0")
		b.apply(plan)
		away := b.dir + ".away"
		b.must(os.Rename(b.dir, away))
		b.must(os.WriteFile(b.dir, nil, 0o600))
		if _, err := b.d.LockDev(); err == nil {
			b.Error("a file is taken for a /dev")
		}
		b.must(os.Remove(b.dir))
		b.must(os.Rename(away, b.dir))
		if _, err := b.d.LockDev(); err != nil {
			b.Fatalf("the directory is back, and Lock says: %v", err)
		}
		b.apply(plan)
		b.check("null c1:3 0666 0:0")
	})
}

// TestPrivateGone is about a private directory that somebody took away: the lock
// that is held on it then excludes nobody, so it has to be made anew.
func TestPrivateGone(t *testing.T) {
	eachWay(t, func(b *board) {
		b.apply(makes("c1:3", "null", "null 0666 0:0"))
		b.must(os.RemoveAll(b.path(Private)))
		b.apply(makes("c1:5", "zero", "zero 0666 0:0"))
		b.check("null c1:3 0666 0:0", "zero c1:5 0666 0:0")
		b.checkRecord("c1:5 devpath=/devices/test/zero subsystem=test devname=zero node=zero")
	})
}

// TestPrivate is about what may stand at the private directory's place: what is
// not root's alone is refused, and all but the record works without it.
func TestPrivate(t *testing.T) {
	const stranger = 65534
	for _, c := range []struct {
		name   string
		before func(b *board)
		fails  bool
	}{
		{"nothing", func(b *board) {}, false},
		{"our own", func(b *board) { b.must(os.Mkdir(b.path(Private), 0o700)) }, false},
		{"without a lock", func(b *board) {
			b.must(os.Mkdir(b.path(Private), 0o700))
			b.must(os.WriteFile(b.path(Private+"/record"), nil, 0o600))
		}, false},
		{"a stranger's", func(b *board) {
			b.must(os.Mkdir(b.path(Private), 0o700))
			b.must(os.Chown(b.path(Private), stranger, stranger))
		}, true},
		{"open to all", func(b *board) { b.must(os.Mkdir(b.path(Private), 0o755)) }, true},
		{"open to its group", func(b *board) { b.must(os.Mkdir(b.path(Private), 0o710)) }, true},
		{"a link", func(b *board) { b.symlink(b.TempDir(), Private) }, true},
		{"a file", func(b *board) { b.file(Private, "") }, true},
		{"a link for the record", func(b *board) {
			b.must(os.Mkdir(b.path(Private), 0o700))
			b.symlink(b.TempDir(), Private+"/record")
		}, true},
		{"a link for the lock", func(b *board) {
			b.must(os.Mkdir(b.path(Private), 0o700))
			b.symlink(b.path("victim"), Private+"/lock")
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachWay(t, func(b *board) {
				c.before(b)
				renewed, err := b.d.LockDev()
				if (err != nil) != c.fails || renewed {
					b.Errorf("LockDev says remounted %v, error %v; want an error: %v", renewed, err, c.fails)
				}
				checkLockless(b, !c.fails)
			})
		})
	}
}

// checkLockless shows that nodes are made and cleared with or without a record.
func checkLockless(b *board, recorded bool) {
	b.Helper()
	words := []string{"null 0666 0:0", "snd/timer 0660 7:6", "zero -> null"}
	plan := makes("c1:3", "null", words...)
	want := []string{"null c1:3 0666 0:0", "snd/ 0755 0:0", "snd/timer c1:3 0660 7:6", "zero -> null"}
	ours := func() (lines []string) {
		b.d.tree.forget()
		for _, line := range b.tree("") {
			if !strings.HasPrefix(line, Private+" ") { // a file or link at its place
				lines = append(lines, line)
			}
		}
		return lines
	}
	equal := func(want []string) {
		b.Helper()
		if got := ours(); strings.Join(got, "\n") != strings.Join(want, "\n") {
			b.Errorf("/dev holds %q, want %q", got, want)
		}
	}
	if existed, err := b.d.Apply(plan); existed || err != nil {
		b.Errorf("Apply says existed %v, error %v", existed, err)
	}
	equal(want)
	b.unchanged(func() {
		if existed, err := b.d.Apply(plan); existed != recorded || err != nil {
			b.Errorf("the second Apply says existed %v, error %v", existed, err)
		}
	})
	if existed, err := b.d.Apply(clears("c1:3", "null", words...)); existed != recorded || err != nil {
		b.Errorf("the remove says existed %v, error %v", existed, err)
	}
	equal(nil)
}

// TestOpenPrivate shows that other rooms get a descriptor of their own.
func TestOpenPrivate(t *testing.T) {
	eachWay(t, func(b *board) {
		for range 2 {
			fd, err := b.d.OpenPrivate()
			b.must(err)
			if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
				b.Errorf("descriptor %d: flags %#x, error %v", fd, flags, err)
			}
			b.must(unix.Close(fd))
		}
		b.apply(makes("c1:3", "null", "null 0666 0:0"))
		var st unix.Stat_t
		b.must(unix.Stat(b.path(Private), &st))
		if st.Mode&0o7777 != 0o700 {
			b.Errorf("its mode is %o", st.Mode)
		}
	})
}

// TestOtherFileSystem shows that Apply does not go into what is mounted in /dev: the
// device keeps its own name.
func TestOtherFileSystem(t *testing.T) {
	if !inOwnMounts(t) {
		return
	}
	eachWay(t, func(b *board) {
		b.mkdir("shm")
		b.must(unix.Mount("none", b.path("shm"), "tmpfs", 0, "size=64k"))
		defer unix.Unmount(b.path("shm"), unix.MNT_DETACH)
		for _, node := range []string{"shm/null 0666 0:0", "shm/by/id/null 0666 0:0"} {
			b.apply(makes("c1:3", "null", node))
			if got := b.tree("shm"); len(got) > 0 || b.describe("null") != "null c1:3 0666 0:0" {
				b.Errorf("%s: what is mounted there holds %q, /dev %q", node, got, b.tree(""))
			}
		}
		b.mknod("shm/null", "c1:3", 0o666)
		b.apply(clears("c1:3", "null", "shm/null 0666 0:0"))
		if got := b.tree("shm"); len(got) != 1 {
			b.Errorf("what is mounted there holds %q, want the node that is not ours", got)
		}
	})
}

// TestDescriptors shows that Apply closes what it opens.
func TestDescriptors(t *testing.T) {
	eachWay(t, func(b *board) {
		round := func() {
			b.apply(makes("b8:0", "sda", "disk/by/sda 0660 7:6", "a/b/c -> disk/by/sda"))
			b.apply(makes("b8:0", "sda", "sda 0600 0:0", "a/d -> sda"))
			b.mkdir("wrong")
			b.try(makes("b8:16", "sdb", "wrong 0600 0:0", "sda/x 0600 0:0"))
			b.apply(clears("b8:16", "sdb"))
			b.apply(clears("b8:0", "sda"))
		}
		round()
		before := openDescriptors(b.T)
		for range 10 {
			round()
		}
		if after := openDescriptors(b.T); after > before {
			b.Errorf("%d descriptors are open, %d were", after, before)
		}
	})
}

func openDescriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		notTested(t, "leaks of descriptors", "/proc")
	}
	return len(entries)
}

func TestCleanPath(t *testing.T) {
	long := strings.Repeat("x", unix.NAME_MAX)
	for _, c := range []struct {
		path string
		want bool
	}{
		{"null", true},
		{"bus/usb/001/002", true},
		{"...", true},
		{"a b\n", true},
		{".devspool2", true},
		{"x/.devspool", true},
		{long, true},
		{long + "/" + long, true},
		{"", false},
		{"/", false},
		{"/null", false},
		{"null/", false},
		{"a//b", false},
		{".", false},
		{"..", false},
		{"./a", false},
		{"a/../b", false},
		{"a/..", false},
		{"a/.", false},
		{".devspool", false},
		{".devspool/record", false},
		{"a\x00b", false},
		{long + "x", false},
		{"a/" + long + "x/b", false},
		{strings.Repeat("abcdefg/", 512) + "x", false},
	} {
		if got := CleanPath(c.path); got != c.want {
			t.Errorf("CleanPath(%.80q) is %v", c.path, got)
		}
	}
}

func TestName(t *testing.T) {
	for _, c := range []struct{ devname, want string }{
		{"null", "null"},
		{"cciss!c0d0", "cciss/c0d0"},
		{"bus/usb/001/002", "bus/usb/001/002"},
	} {
		e := event("add", "c1:3", c.devname)
		if got := Name(e); got != c.want {
			t.Errorf("Name with DEVNAME=%s is %q", c.devname, got)
		}
		if e.Devname = ""; Name(e) != c.want {
			t.Errorf("Name of %s is %q", e.Devpath, Name(e))
		}
	}
}

// TestRemedies shows that an error which a board meets says what to do about it.
func TestRemedies(t *testing.T) {
	for _, errno := range []unix.Errno{unix.EROFS, unix.EPERM, unix.EACCES, unix.ELOOP, unix.ENOTDIR, unix.EISDIR} {
		err := wrap("mknod", "null", errno)
		if text := err.Error(); !strings.HasPrefix(text, "mknod null: "+errno.Error()+" (") {
			t.Errorf("%v: %q", errno, text)
		}
		if !errors.Is(err, errno) {
			t.Errorf("%v is not in the chain", errno)
		}
	}
	if got := fmt.Sprint(wrap("mknod", "null", unix.EIO)); got != "mknod null: input/output error" {
		t.Errorf("%q", got)
	}
	if wrap("mknod", "null", nil) != nil {
		t.Error("wrap of nil is an error")
	}
}
