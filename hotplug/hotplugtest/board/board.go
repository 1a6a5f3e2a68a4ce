// Package board is a Scheduler with a /dev, a /sys and a log of its own, for tests of what
// stands on it.
package board

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
	"devspool/hotplug/reload"
	"devspool/hotplug/scheduler"
	"devspool/hotplug/sysfs"
	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// Board is a Scheduler with a /dev, a /sys and a log of its own.
type Board struct {
	Scheduler *scheduler.Scheduler
	Config    *reload.Config
	Rules     *conf.Config
	Dev       *nodes.Dir
	Sinks     []scheduler.Sink // that the Scheduler tells, also those that are added later
	T         *testing.T
	Sys       *hotplugtest.Sysfs
	Log       *hotplugtest.Log
	Text      string // of the config
	Dir       string // what stands for /dev
	Tmp       string // for whatever the test and its commands keep
}

// New makes a board with a config, in which TMP stands for board.tmp. Options, where
// given, changes how its Scheduler is made.
func New(t *testing.T, config string, options ...func(*scheduler.Options)) *Board {
	t.Helper()
	b := &Board{T: t, Sys: hotplugtest.NewSysfs(t), Log: hotplugtest.NewLog(t), Tmp: t.TempDir()}
	b.Dir = filepath.Join(t.TempDir(), "dev")
	hotplugtest.Must(t, os.Mkdir(b.Dir, 0o755))
	b.Start(config, options...)
	return b
}

// Another returns a board on the same /dev and /sys.
func (b *Board) Another(config string) *Board {
	b.T.Helper()
	other := *b
	other.Sinks = nil
	other.Start(config)
	return &other
}

// Start makes the Scheduler of a board, in place of the one that it has.
func (b *Board) Start(config string, options ...func(*scheduler.Options)) {
	b.T.Helper()
	b.Text = config
	dev, err := nodes.Open(b.Dir)
	hotplugtest.Must(b.T, err)
	rules := conf.Parse("mdev.conf", strings.ReplaceAll(config, "TMP", b.Tmp), conf.ParseIDs("", ""))
	for _, p := range rules.Problems {
		b.T.Error(p)
	}
	o := scheduler.Options{Rules: rules, Dev: dev, Sys: b.Sys.FS, Log: b.Log.Logger, Sinks: []scheduler.Sink{b.forward()},
		Environ: []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}, FirmwareDir: filepath.Join(b.Tmp, "firmware")}
	for _, change := range options {
		change(&o)
	}
	s := scheduler.New(o)
	b.T.Cleanup(func() {
		s.Exclusive(func(scheduler.View) error { return nil }) // a loop's goroutines may still use it
		dev.Close()
	})
	b.Scheduler, b.Dev, b.Rules = s, o.Dev, rules
	b.Config = reload.New("/nonexistent", rules, func() (*conf.Config, error) { return b.Rules, nil }, s.SetRules, b.Log.Logger)
}

// forward returns a Sink that tells those of the board.
func (b *Board) forward() scheduler.Sink {
	return scheduler.Sink{
		Done: func(e *uevent.Event, p *nodes.Plan) {
			for _, s := range b.Sinks {
				if s.Done != nil {
					s.Done(e, p)
				}
			}
		},
		TurnEnd: func() {
			for _, s := range b.Sinks {
				if s.TurnEnd != nil {
					s.TurnEnd()
				}
			}
		},
		Gap: func(why string) {
			for _, s := range b.Sinks {
				if s.Gap != nil {
					s.Gap(why)
				}
			}
		},
		Status: func() string {
			for _, s := range b.Sinks {
				if s.Status != nil {
					return s.Status()
				}
			}
			return "queues: none"
		},
	}
}

// Use gives the board another /sys. It is to be called before anything else.
func (b *Board) Use(s sysfs.FS) {
	b.Sys.FS = s
	b.Start(b.Text)
}

// Run takes events to their end, and reports whether everything could be done.
func (b *Board) Run(events ...*uevent.Event) (ok bool) {
	b.T.Helper()
	ok = b.Wait(b.Scheduler.Run(scheduler.Events(events...)))
	b.AtRest()
	return ok
}

// Wait returns when a batch is at its end.
func (b *Board) Wait(batch *scheduler.Batch) (ok bool) {
	b.T.Helper()
	hotplugtest.Within(b.T, "the events", func() { ok = batch.Wait() })
	return ok
}

// Done has f told of each event at its end.
func (b *Board) Done(f func(*uevent.Event, *nodes.Plan)) {
	b.Sinks = append(b.Sinks, scheduler.Sink{Done: f})
}

// AtRest fails the test where a Scheduler that has nothing to do holds on to anything.
func (b *Board) AtRest() {
	b.T.Helper()
	b.NoCommands()
	if st := b.Scheduler.Stats(); st.Pending > 0 || st.Queued > 0 || !b.Scheduler.IsIdle() {
		b.T.Errorf("left: %d events, %d queued commands", st.Pending, st.Queued)
	}
	if b.Dev != nil && !b.Free() {
		b.T.Error("the lock is held")
	}
}

// NoCommands waits until no command runs.
func (b *Board) NoCommands() {
	b.T.Helper()
	hotplugtest.Eventually(b.T, "the end of commands", func() bool { return b.Running() == 0 })
}

// Free reports whether another process could take the lock on /dev.
func (b *Board) Free() bool {
	b.T.Helper()
	fd, err := unix.Open(b.Dir+"/"+nodes.Private+"/lock", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return true
	}
	hotplugtest.Must(b.T, err)
	defer unix.Close(fd)
	return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) == nil
}

// Node describes what stands at a path below /dev: "c1:3 0666", "-> x", or "".
func (b *Board) Node(name string) string {
	b.T.Helper()
	var st unix.Stat_t
	err := unix.Lstat(filepath.Join(b.Dir, name), &st)
	if errors.Is(err, unix.ENOENT) {
		return ""
	}
	hotplugtest.Must(b.T, err)
	kind := map[uint32]string{unix.S_IFBLK: "b", unix.S_IFCHR: "c"}[st.Mode&unix.S_IFMT]
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		text, err := os.Readlink(filepath.Join(b.Dir, name))
		hotplugtest.Must(b.T, err)
		return "-> " + text
	case unix.S_IFDIR:
		return "directory"
	}
	return fmt.Sprintf("%s%d:%d %s", kind, unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev)), nodes.Octal(st.Mode&0o7777))
}

func (b *Board) WantNode(name, want string) {
	b.T.Helper()
	if got := b.Node(name); got != want {
		b.T.Errorf("%s is %q, want %q", name, got, want)
	}
}

// Said returns the lines that commands wrote into a file of board.tmp.
func (b *Board) Said(name string) []string {
	b.T.Helper()
	text, err := os.ReadFile(filepath.Join(b.Tmp, name))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	hotplugtest.Must(b.T, err)
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}

// Disks makes n disks and returns the events that add them.
func (b *Board) Disks(n int) (events []*uevent.Event) {
	b.T.Helper()
	for i := range n {
		name := fmt.Sprintf("sd%c", 'a'+i)
		b.Sys.Add("/devices/block/"+name, "block", fmt.Sprint("8:", 16*i), "DEVNAME="+name)
		events = append(events, b.Sys.NewEvent("add", "/devices/block/"+name))
	}
	return events
}

// Running returns how many commands run.
func (b *Board) Running() int {
	return b.Scheduler.CommandsRunning()
}

// Computing returns how many processes of commands are in state R.
func (b *Board) Computing() int {
	groups := map[int]bool{}
	for _, run := range b.Scheduler.Stats().Running {
		groups[run.PID] = true
	}
	return procfs.CountRunnable(groups)
}

// Has reports whether there is a file of that name in board.tmp.
func (b *Board) Has(name string) bool {
	_, err := os.Stat(filepath.Join(b.Tmp, name))
	return err == nil
}

// Other opens the board's /dev as another process would.
func (b *Board) Other() *nodes.Dir {
	b.T.Helper()
	d, err := nodes.Open(b.Dir)
	hotplugtest.Must(b.T, err)
	b.T.Cleanup(d.Close)
	return d
}
