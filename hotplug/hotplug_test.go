package hotplug

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"devspool/conf"
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

// patience is how long a test waits for what should take no time at all, on a
// machine that is busy with other things.
const patience = 20 * time.Second

// eventually fails the test where is does not come true.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not after %v", what, patience)
		}
	}
}

// within fails the test where f does not return in time.
func within(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatalf("%s: not after %v", what, patience)
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	line := "NOT TESTED: " + t.Name() + ": needs root, to make device nodes"
	if os.Getenv("DEVSPOOL_TEST_ALL") == "1" {
		t.Fatal(line)
	}
	t.Skip(line)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, []byte(text), 0o644))
}

func contents(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	must(t, err)
	return string(text)
}

// logged is a Log whose lines a test can read. It is safe for several goroutines.
type logged struct {
	*Log
	t    *testing.T
	path string
}

func newLog(t *testing.T) *logged {
	t.Helper()
	path := filepath.Join(t.TempDir(), "log")
	writeFile(t, path, "")
	log := File(path, 7)
	if log == nil {
		t.Fatal("no log")
	}
	return &logged{log, t, path}
}

// lines returns what was logged, without what each line begins with.
func (l *logged) lines() []string {
	l.t.Helper()
	var lines []string
	for line := range strings.Lines(contents(l.t, l.path)) {
		_, line, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " devspool: ")
		if !ok {
			l.t.Errorf("a line that is none of the log's: %q", line)
		}
		lines = append(lines, line)
	}
	return lines
}

// has reports whether a line holds all the words.
func (l *logged) has(words ...string) bool {
	l.t.Helper()
	for _, line := range l.lines() {
		all := true
		for _, word := range words {
			all = all && strings.Contains(line, word)
		}
		if all {
			return true
		}
	}
	return false
}

// want fails the test where no line holds all the words.
func (l *logged) want(words ...string) {
	l.t.Helper()
	if !l.has(words...) {
		l.t.Errorf("no line of the log holds %q:\n%s", words, strings.Join(l.lines(), "\n"))
	}
}

// sysfs is a tree that stands for /sys.
type sysfs struct {
	*testing.T
	Sysfs
}

func newSysfs(t *testing.T) *sysfs {
	t.Helper()
	s := &sysfs{t, Sysfs(filepath.Join(t.TempDir(), "sys"))}
	for _, dir := range []string{"devices", "class", "bus", "dev/block", "dev/char"} {
		must(t, os.MkdirAll(s.path("/"+dir), 0o755))
	}
	return s
}

func (s *sysfs) path(name string) string { return string(s.Sysfs) + name }

// add makes a device below /devices: its subsystem, its numbers ("8:0") or "",
// and the lines of its uevent file beside those of the numbers.
func (s *sysfs) add(devpath, subsystem, numbers string, uevent ...string) {
	s.Helper()
	text := ""
	if major, minor, has := strings.Cut(numbers, ":"); has {
		text = "MAJOR=" + major + "\nMINOR=" + minor + "\n"
		writeFile(s.T, s.path(devpath+"/dev"), numbers+"\n")
		s.link(kindDevpath(subsystem, numbers), devpath)
	}
	for _, line := range uevent {
		text += line + "\n"
	}
	writeFile(s.T, s.path(devpath+"/uevent"), text)
	if subsystem != "" {
		must(s.T, os.MkdirAll(s.path("/class/"+subsystem), 0o755))
		s.link("/class/"+subsystem+"/"+filepath.Base(devpath), devpath)
		must(s.T, os.Symlink(strings.Repeat("../", strings.Count(devpath, "/"))+"class/"+subsystem, s.path(devpath+"/subsystem")))
	}
}

// link makes a link at a place in sysfs to a device, as the kernel does: relative.
func (s *sysfs) link(at, devpath string) {
	s.Helper()
	must(s.T, os.Symlink(strings.Repeat("../", strings.Count(at, "/")-1)+devpath[1:], s.path(at)))
}

// remove takes a device away.
func (s *sysfs) remove(devpath string) {
	s.Helper()
	numbers, _ := s.numbers(devpath)
	subsystem := s.subsystem(devpath)
	must(s.T, os.RemoveAll(s.path(devpath)))
	os.Remove(s.path(kindDevpath(subsystem, numbers)))
	os.Remove(s.path("/class/" + subsystem + "/" + filepath.Base(devpath)))
}

func kindDevpath(subsystem, numbers string) string {
	return "/dev/" + kindDir(subsystem == "block") + "/" + numbers
}

// event makes the event that the kernel would send.
func (s *sysfs) event(action, devpath string) *uevent.Event {
	s.Helper()
	e, err := s.Event(action, devpath)
	must(s.T, err)
	return e
}

// newEvent makes an event of variables alone.
func newEvent(t testing.TB, env ...string) *uevent.Event {
	t.Helper()
	e, err := uevent.FromEnviron(env)
	if err != nil {
		t.Fatalf("%q: %v", env, err)
	}
	return e
}

// board is a Road with a /dev, a /sys and a log of its own.
type board struct {
	*Road
	t   *testing.T
	sys *sysfs
	log *logged
	dir string // what stands for /dev
	tmp string // for whatever the test and its commands keep
}

// newBoard makes a board with a config, in which TMP stands for board.tmp.
func newBoard(t *testing.T, config string) *board {
	t.Helper()
	b := &board{t: t, sys: newSysfs(t), log: newLog(t), tmp: t.TempDir()}
	b.dir = filepath.Join(t.TempDir(), "dev")
	must(t, os.Mkdir(b.dir, 0o755))
	b.Road = b.road(config)
	return b
}

// road returns another Road on the same /dev and /sys.
func (b *board) road(config string) *Road {
	b.t.Helper()
	dev, err := nodes.Open(b.dir)
	must(b.t, err)
	rules := conf.Parse("mdev.conf", strings.ReplaceAll(config, "TMP", b.tmp), conf.ParseIDs("", ""))
	for _, p := range rules.Problems {
		b.t.Error(p)
	}
	r := NewRoad(rules, dev, b.sys.Sysfs, b.log.Log, DefaultJobs)
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
func (b *board) use(s Sysfs) { b.Sys, b.census = s, newCensus(s) }

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
	within(b.t, "the events", func() { ok = batch.Wait() })
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
	within(b.t, "the end of what flies", b.flights.Wait)
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
	must(b.t, err)
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
	must(b.t, err)
	kind := map[uint32]string{unix.S_IFBLK: "b", unix.S_IFCHR: "c"}[st.Mode&unix.S_IFMT]
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		text, err := os.Readlink(filepath.Join(b.dir, name))
		must(b.t, err)
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
	must(b.t, err)
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}

// alive reports whether a process runs. A zombie does not.
func alive(pid int) bool {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	return !strings.HasPrefix(rest, "Z")
}

// locker is for what several goroutines of a test collect.
type locker[T any] struct {
	mu  sync.Mutex
	all []T
}

func (l *locker[T]) add(one T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, one)
}

func (l *locker[T]) list() []T {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]T(nil), l.all...)
}
