package hotplug

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"devspool/conf"
	"devspool/hotplug/hotplugtest"
	"devspool/hotplug/sysfs"
	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// childRole is the variable that makes the test binary one of the processes below.
const childRole = "HOTPLUG_TEST_CHILD"

// children are what the test binary does where it is started anew by a test.
var children = map[string]func() int{
	"ready":  func() int { Ready(BackgroundFD); return 0 },
	"fails":  func() int { return 3 },
	"asks":   asks,
	"killed": func() int { unix.Kill(unix.Getpid(), unix.SIGKILL); return 0 },
}

func TestMain(m *testing.M) {
	unix.Umask(0) // as the program does
	if child := children[os.Getenv(childRole)]; child != nil {
		os.Exit(child())
	}
	os.Exit(m.Run())
}

// board is a Road with a /dev, a /sys and a log of its own.
type board struct {
	*Road
	t   *testing.T
	sys *hotplugtest.Sysfs
	log *hotplugtest.Log
	dir string // what stands for /dev
	tmp string // for whatever the test and its commands keep
}

// newBoard makes a board with a config, in which TMP stands for board.tmp.
func newBoard(t *testing.T, config string) *board {
	t.Helper()
	b := &board{t: t, sys: hotplugtest.NewSysfs(t), log: hotplugtest.NewLog(t), tmp: t.TempDir()}
	b.dir = filepath.Join(t.TempDir(), "dev")
	hotplugtest.Must(t, os.Mkdir(b.dir, 0o755))
	b.Road = b.road(config)
	return b
}

// road returns another Road on the same /dev and /sys.
func (b *board) road(config string) *Road {
	b.t.Helper()
	dev, err := nodes.Open(b.dir)
	hotplugtest.Must(b.t, err)
	rules := conf.Parse("mdev.conf", strings.ReplaceAll(config, "TMP", b.tmp), conf.ParseIDs("", ""))
	for _, p := range rules.Problems {
		b.t.Error(p)
	}
	r := NewRoad(rules, dev, b.sys.FS, b.log.Logger, DefaultJobs)
	b.t.Cleanup(func() {
		r.mu.Lock() // a loop's goroutines may still hold it
		defer r.mu.Unlock()
		dev.Close()
	})
	r.Environ = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	r.Firmware = filepath.Join(b.tmp, "firmware")
	return r
}

// use gives the Road another /sys.
func (b *board) use(s sysfs.FS) { b.Sys, b.census = s, sysfs.NewPresence(s) }

// run takes events to their end, and reports whether everything could be done.
func (b *board) run(events ...*uevent.Event) (ok bool) {
	b.t.Helper()
	ok = b.wait(b.Run(events))
	b.rested()
	return ok
}

// wait returns when a batch is at its end.
func (b *board) wait(batch *Batch) (ok bool) {
	b.t.Helper()
	hotplugtest.Within(b.t, "the events", func() { ok = batch.Wait() })
	return ok
}

// done has f told of each event at its end.
func (b *board) done(f func(*uevent.Event, *nodes.Plan)) {
	b.Listeners = append(b.Listeners, Listener{Done: f})
}

// unlocked reports whether nobody of the Road holds the lock on /dev.
func (b *board) unlocked() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.locked
}

// rested fails the test where a Road that has nothing to do holds on to anything.
func (b *board) rested() {
	b.t.Helper()
	hotplugtest.Within(b.t, "the end of what flies", b.flights.Wait)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.locked {
		b.t.Error("the lock is held")
	}
	if !b.queue.empty() || len(b.active) > 0 {
		b.t.Errorf("left: queued %d, %d commands", b.queue.length(), len(b.active))
	}
	if b.shelf.top != nil {
		b.t.Errorf("left on the shelf: %d texts", b.shelf.top.open)
	}
	checkEmpty(b.t, b.order)
}

// free reports whether another process could take the lock on /dev.
func (b *board) free() bool {
	b.t.Helper()
	fd, err := unix.Open(b.dir+"/"+nodes.Private+"/lock", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	hotplugtest.Must(b.t, err)
	defer unix.Close(fd)
	return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) == nil
}

// node describes what stands at a path below /dev: "c1:3 0666", "-> x", or "".
func (b *board) node(name string) string {
	b.t.Helper()
	var st unix.Stat_t
	err := unix.Lstat(filepath.Join(b.dir, name), &st)
	if errors.Is(err, unix.ENOENT) {
		return ""
	}
	hotplugtest.Must(b.t, err)
	kind := map[uint32]string{unix.S_IFBLK: "b", unix.S_IFCHR: "c"}[st.Mode&unix.S_IFMT]
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		text, err := os.Readlink(filepath.Join(b.dir, name))
		hotplugtest.Must(b.t, err)
		return "-> " + text
	case unix.S_IFDIR:
		return "directory"
	}
	return fmt.Sprintf("%s%d:%d %s", kind, unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev)), nodes.Octal(st.Mode&0o7777))
}

func (b *board) wantNode(name, want string) {
	b.t.Helper()
	if got := b.node(name); got != want {
		b.t.Errorf("%s is %q, want %q", name, got, want)
	}
}

// said returns the lines that commands wrote into a file of board.tmp.
func (b *board) said(name string) []string {
	b.t.Helper()
	text, err := os.ReadFile(filepath.Join(b.tmp, name))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	hotplugtest.Must(b.t, err)
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}
