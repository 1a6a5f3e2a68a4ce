package scheduler

import (
	"errors"

	"devspool/hotplug/log"
	"devspool/hotplug/sysfs"
	"devspool/nodes"
)

// ErrNoLock is returned where a lock on /dev cannot be had, and so no record.
var ErrNoLock = errors.New("no lock on the device directory")

// devLock is the device directory and the file lock on it, by which processes keep out of
// each other's way. Scheduler.mu guards it.
type devLock struct {
	*nodes.Dir // nil for a dry run
	presence   sysfs.Presence
	log        *log.Logger
	held       bool
	lockless   bool   // there is no lock to be had; logged once
	remounted  func() // see OnRemount
}

// lock takes the lock, unless it is held.
func (d *devLock) lock() {
	if d.held || d.Dir == nil {
		return
	}
	remounted, err := d.Dir.LockDev()
	d.held = true
	d.presence.Refresh()
	if remounted && d.remounted != nil {
		go d.remounted()
	}
	if err != nil && !d.lockless {
		d.log.Print(log.Warning, "no lock and no record on "+d.Path()+": "+err.Error())
	}
	d.lockless = err != nil
}

// unlock lets go of the lock, if it is held.
func (d *devLock) unlock() {
	if !d.held {
		return
	}
	d.held = false
	if err := d.Dir.UnlockDev(); err != nil {
		d.log.Print(log.Err, err.Error())
	}
}
