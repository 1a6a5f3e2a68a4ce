// Package board provides a Scheduler with a /dev, a /sys and a log of its own, for tests of
// the packages above it.
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

// Board is a Scheduler and what it works with. Its fields are for the test to read, but for
// Rules and Sinks.
type Board struct {
	Scheduler *scheduler.Scheduler
	Config    *reload.Config
	Rules     *conf.Config     // what Config reads when it is reloaded
	Dev       *nodes.Dir       // nil for a dry run
	Sinks     []scheduler.Sink // those of the Scheduler; the test may append some at any time
	T         *testing.T
	Sys       *hotplugtest.Sysfs
	Log       *hotplugtest.Log
	Text      string // of the config
	Dir       string // the directory in place of /dev
	Tmp       string // a directory for files of the test and its commands
}

// New returns a Board with a config, in which TMP stands for the path of Board.Tmp. Options
// change the options of its Scheduler.
func New(t *testing.T, config string, options ...func(*scheduler.Options)) *Board {
	t.Helper()
	b := &Board{T: t, Sys: hotplugtest.NewSysfs(t), Log: hotplugtest.NewLog(t), Tmp: t.TempDir()}
	b.Dir = filepath.Join(t.TempDir(), "dev")
	hotplugtest.Must(t, os.Mkdir(b.Dir, 0o755))
	b.Start(config, options...)
	return b
}

// Another returns a Board with another config on the same /dev and /sys, as another process
// would be.
func (b *Board) Another(config string) *Board {
	b.T.Helper()
	other := *b
	other.Sinks = nil
	other.Start(config)
	return &other
}

// Start makes a Scheduler, in place of the one that the board has.
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
		_ = s.Exclusive(func(scheduler.View) error { return nil }) // waits for goroutines that still use Dev
		dev.Close()
	})
	b.Scheduler, b.Dev, b.Rules = s, o.Dev, rules
	b.Config = reload.New("/nonexistent", rules, func() (*conf.Config, error) { return b.Rules, nil }, s.SetRules, b.Log.Logger)
}

// forward returns a Sink that passes everything on to those of the board.
func (b *Board) forward() scheduler.Sink {
	return scheduler.Sink{
		Done: func(e *uevent.Event, p *nodes.Plan) {
			for _, s := range b.Sinks {
				if s.Done != nil {
					s.Done(e, p)
				}
			}
		},
		SliceEnd: func() {
			for _, s := range b.Sinks {
				if s.SliceEnd != nil {
					s.SliceEnd()
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

// Use gives the board another /sys. It is to be called before any event is run.
func (b *Board) Use(s sysfs.FS) {
	b.Sys.FS = s
	b.Start(b.Text)
}

// Run runs events, waits for their end, checks AtRest, and reports whether everything
// succeeded.
func (b *Board) Run(events ...*uevent.Event) (ok bool) {
	b.T.Helper()
	ok = b.Wait(b.Scheduler.Run(scheduler.Events(events...)))
	b.AtRest()
	return ok
}

// Wait waits for the end of a batch, and reports whether everything succeeded.
func (b *Board) Wait(batch *scheduler.Batch) (ok bool) {
	b.T.Helper()
	hotplugtest.Within(b.T, "the events", func() { ok = batch.Wait() })
	return ok
}

// Done adds a Sink that calls f for each event at its end.
func (b *Board) Done(f func(*uevent.Event, *nodes.Plan)) {
	b.Sinks = append(b.Sinks, scheduler.Sink{Done: f})
}

// AtRest waits until no command runs, and fails the test where events are left or /dev is
// locked.
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

// Free reports whether another process could lock /dev.
func (b *Board) Free() bool {
	b.T.Helper()
	fd, err := unix.Open(b.Dir+"/"+nodes.Private+"/lock", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return true
	}
	hotplugtest.Must(b.T, err)
	defer unix.Close(fd)
	// A process that another test starts may have a copy of the descriptor, so closing it is not enough.
	defer func() { _ = unix.Flock(fd, unix.LOCK_UN) }()
	return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) == nil
}

// Node describes the file at a path below /dev: "c1:3 0666", "-> target", "directory", or ""
// for none.
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

// WantNode fails the test where Node returns something else than want.
func (b *Board) WantNode(name, want string) {
	b.T.Helper()
	if got := b.Node(name); got != want {
		b.T.Errorf("%s is %q, want %q", name, got, want)
	}
}

// Said returns the lines of a file in Board.Tmp, which commands write, or nil where there is
// no such file.
func (b *Board) Said(name string) []string {
	b.T.Helper()
	text, err := os.ReadFile(filepath.Join(b.Tmp, name))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	hotplugtest.Must(b.T, err)
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}

// Go ends the commands that hotplugtest.UntilGo is.
func (b *Board) Go() {
	b.T.Helper()
	hotplugtest.WriteFile(b.T, filepath.Join(b.Tmp, "go"), "")
}

// Disk adds a disk to /sys, with the numbers 8 and minor, and returns its add event.
func (b *Board) Disk(name string, minor int) *uevent.Event {
	b.T.Helper()
	devpath := "/devices/block/" + name
	b.Sys.Add(devpath, "block", fmt.Sprint("8:", minor), "DEVNAME="+name)
	return b.Sys.NewEvent("add", devpath)
}

// Unplug removes a device from /sys and returns its remove event.
func (b *Board) Unplug(devpath string) *uevent.Event {
	b.T.Helper()
	remove := b.Sys.NewEvent("remove", devpath)
	b.Sys.Remove(devpath)
	return remove
}

// Disks adds n disks to /sys, sda and so on, and returns their add events.
func (b *Board) Disks(n int) (events []*uevent.Event) {
	b.T.Helper()
	for i := range n {
		events = append(events, b.Disk(fmt.Sprintf("sd%c", 'a'+i), 16*i))
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

// Has reports whether there is a file of that name in Board.Tmp.
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
