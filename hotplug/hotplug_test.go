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
	"devspool/hotplug/procfs"
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

// board is a Scheduler with a /dev, a /sys and a log of its own.
type board struct {
	Scheduler *Scheduler
	config    *Config
	rules     *conf.Config
	dev       *nodes.Dir
	sinks     []Sink // that the Scheduler tells, also those that are added later
	t         *testing.T
	sys       *hotplugtest.Sysfs
	log       *hotplugtest.Log
	text      string // of the config
	dir       string // what stands for /dev
	tmp       string // for whatever the test and its commands keep
}

// newBoard makes a board with a config, in which TMP stands for board.tmp. Options, where
// given, changes how its Scheduler is made.
func newBoard(t *testing.T, config string, options ...func(*Options)) *board {
	t.Helper()
	b := &board{t: t, sys: hotplugtest.NewSysfs(t), log: hotplugtest.NewLog(t), tmp: t.TempDir()}
	b.dir = filepath.Join(t.TempDir(), "dev")
	hotplugtest.Must(t, os.Mkdir(b.dir, 0o755))
	b.start(config, options...)
	return b
}

// another returns a board on the same /dev and /sys.
func (b *board) another(config string) *board {
	b.t.Helper()
	other := *b
	other.sinks = nil
	other.start(config)
	return &other
}

// start makes the Scheduler of a board, in place of the one that it has.
func (b *board) start(config string, options ...func(*Options)) {
	b.t.Helper()
	b.text = config
	dev, err := nodes.Open(b.dir)
	hotplugtest.Must(b.t, err)
	rules := conf.Parse("mdev.conf", strings.ReplaceAll(config, "TMP", b.tmp), conf.ParseIDs("", ""))
	for _, p := range rules.Problems {
		b.t.Error(p)
	}
	o := Options{Rules: rules, Dev: dev, Sys: b.sys.FS, Log: b.log.Logger, Sinks: []Sink{b.forward()},
		Environ: []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}, FirmwareDir: filepath.Join(b.tmp, "firmware")}
	for _, change := range options {
		change(&o)
	}
	s := NewScheduler(o)
	b.t.Cleanup(func() {
		s.Exclusive(func(View) error { return nil }) // a loop's goroutines may still use it
		dev.Close()
	})
	b.Scheduler, b.dev, b.rules = s, o.Dev, rules
	b.config = NewConfig("/nonexistent", rules, func() (*conf.Config, error) { return b.rules, nil }, s.SetRules, b.log.Logger)
}

// forward returns a Sink that tells those of the board.
func (b *board) forward() Sink {
	return Sink{
		Done: func(e *uevent.Event, p *nodes.Plan) {
			for _, s := range b.sinks {
				if s.Done != nil {
					s.Done(e, p)
				}
			}
		},
		TurnEnd: func() {
			for _, s := range b.sinks {
				if s.TurnEnd != nil {
					s.TurnEnd()
				}
			}
		},
		Gap: func(why string) {
			for _, s := range b.sinks {
				if s.Gap != nil {
					s.Gap(why)
				}
			}
		},
		Status: func() string {
			for _, s := range b.sinks {
				if s.Status != nil {
					return s.Status()
				}
			}
			return "queues: none"
		},
	}
}

// use gives the board another /sys. It is to be called before anything else.
func (b *board) use(s sysfs.FS) {
	b.sys.FS = s
	b.start(b.text)
}

// run takes events to their end, and reports whether everything could be done.
func (b *board) run(events ...*uevent.Event) (ok bool) {
	b.t.Helper()
	ok = b.wait(b.Scheduler.Run(Events(events...)))
	b.atRest()
	return ok
}

// wait returns when a batch is at its end.
func (b *board) wait(batch *Batch) (ok bool) {
	b.t.Helper()
	hotplugtest.Within(b.t, "the events", func() { ok = batch.Wait() })
	return ok
}

// done has f told of each event at its end.
func (b *board) done(f func(*uevent.Event, *nodes.Plan)) { b.sinks = append(b.sinks, Sink{Done: f}) }

// atRest fails the test where a Scheduler that has nothing to do holds on to anything.
func (b *board) atRest() {
	b.t.Helper()
	b.noCommands()
	if st := b.Scheduler.Stats(); st.Pending > 0 || st.Queued > 0 || !b.Scheduler.IsIdle() {
		b.t.Errorf("left: %d events, %d queued commands", st.Pending, st.Queued)
	}
	if b.dev != nil && !b.free() {
		b.t.Error("the lock is held")
	}
}

// noCommands waits until no command runs.
func (b *board) noCommands() {
	b.t.Helper()
	hotplugtest.Eventually(b.t, "the end of commands", func() bool { return b.running() == 0 })
}

// free reports whether another process could take the lock on /dev.
func (b *board) free() bool {
	b.t.Helper()
	fd, err := unix.Open(b.dir+"/"+nodes.Private+"/lock", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return true
	}
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

// disks makes n disks and returns the events that add them.
func (b *board) disks(n int) (events []*uevent.Event) {
	b.t.Helper()
	for i := range n {
		name := fmt.Sprintf("sd%c", 'a'+i)
		b.sys.Add("/devices/block/"+name, "block", fmt.Sprint("8:", 16*i), "DEVNAME="+name)
		events = append(events, b.sys.NewEvent("add", "/devices/block/"+name))
	}
	return events
}

// running returns how many commands run.
func (b *board) running() int {
	return b.Scheduler.CommandsRunning()
}

// computing returns how many processes of commands are in state R.
func (b *board) computing() int {
	groups := map[int]bool{}
	for _, run := range b.Scheduler.Stats().Running {
		groups[run.PID] = true
	}
	return procfs.CountRunnable(groups)
}

// has reports whether there is a file of that name in board.tmp.
func (b *board) has(name string) bool {
	_, err := os.Stat(filepath.Join(b.tmp, name))
	return err == nil
}

// other opens the board's /dev as another process would.
func (b *board) other() *nodes.Dir {
	b.t.Helper()
	d, err := nodes.Open(b.dir)
	hotplugtest.Must(b.t, err)
	b.t.Cleanup(d.Close)
	return d
}
