package scheduler

import (
	"errors"

	"devspool/hotplug/log"
	"devspool/hotplug/sysfs"
	"devspool/nodes"
)

// ErrNoLock is returned where /dev cannot be locked, and so has no record either.
var ErrNoLock = errors.New("no lock on the device directory")

// devLock is /dev and the file lock on it, by which processes exclude each other. It is
// taken when it is first needed, and released at the end of a slice. Scheduler.mu guards
// it.
type devLock struct {
	*nodes.Dir // nil for a dry run
	presence   sysfs.Presence
	log        *log.Logger
	held       bool   // the lock, by this process
	lockless   bool   // /dev has no room for a lock; logged once
	onRemount  func() // see OnRemount; may be nil
}

// lock takes the lock, unless it is held or this is a dry run. Where there is no lock to be
// had, work goes on without one.
func (d *devLock) lock() {
	if d.held || d.Dir == nil {
		return
	}
	remounted, err := d.Dir.LockDev()
	// Also after an error: the lock is tried again in the next slice only.
	d.held = true
	// A sysfs may have been mounted while this process waited.
	d.presence.Refresh()
	// In a goroutine, since f takes mu, which is held here.
	if remounted && d.onRemount != nil {
		go d.onRemount()
	}
	if err != nil && !d.lockless {
		d.log.Print(log.Warning, "no lock and no record on "+d.Path()+": "+err.Error())
	}
	d.lockless = err != nil
}

// unlock releases the lock, if it is held.
func (d *devLock) unlock() {
	if !d.held {
		return
	}
	d.held = false
	if err := d.Dir.UnlockDev(); err != nil {
		d.log.Print(log.Err, err.Error())
	}
}

// OnRemount makes the scheduler call f, in a goroutine of its own, when it finds another
// file system mounted over /dev: everything has to be made anew then.
func (s *Scheduler) OnRemount(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.applier.dev.onRemount = f
}

// CheckRemount looks whether another file system is mounted over /dev or /sys now.
func (s *Scheduler) CheckRemount() {
	s.mu.Lock()
	defer s.mu.Unlock()
	// Taking the lock finds another /dev; another /sys decides whether devices get names.
	s.applier.names.refresh()
	s.applier.dev.lock()
	s.applier.dev.unlock()
}

// Exclusive calls f with /dev locked, and returns its error. It returns ErrNoLock, without
// calling f, where there is no lock to be had.
func (s *Scheduler) Exclusive(f func(View) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.applier.dev.lock()
	defer s.applier.dev.unlock()
	if s.applier.dev.lockless || s.applier.dev.Dir == nil {
		return ErrNoLock
	}
	return f(View{s, nil})
}
