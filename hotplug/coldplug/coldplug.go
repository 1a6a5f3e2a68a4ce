// Package coldplug makes /dev what /sys says, by events that stand for those of the kernel:
// for all devices at once (Scan), and for those whose events were lost (Auditor).
//
// It never changes /dev itself, and holds no lock but by what the scheduler calls.
package coldplug

import (
	"strings"

	"devspool/hotplug/scheduler"
	"devspool/hotplug/sys"
	"devspool/hotplug/sysfs"
	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// Scan submits a remove for each device on record that has gone, and an add for each device
// in /sys, parents before children. Devices without numbers are left out where no rule can
// match them. The batch fails where no sysfs is mounted.
//
// Scan returns when the events are submitted; the end of all is that of the Batch.
func Scan(s *scheduler.Scheduler, fs sysfs.FS) *scheduler.Batch {
	b := s.Run(func(v scheduler.View, yield func(*uevent.Event, scheduler.Kind)) {
		if !fs.Mounted() {
			v.Fail("no sysfs at " + string(fs) + "; mount it: mount -t sysfs sysfs " + string(fs))
			return
		}
		// Read without the lock on /dev, which other processes may have meanwhile.
		devices := fs.Scan(v.WantsUnnumbered)
		v.Lock()
		for _, e := range departed(v, fs, devices) {
			yield(e, scheduler.Missed)
		}
		for _, d := range devices {
			v.Lock()
			e, err := fs.EventOf(uevent.Add, d)
			if err != nil {
				continue // the device has just left, and its remove event will come
			}
			replaced := replacedBy(v, e)
			for _, old := range replaced {
				yield(old, scheduler.Missed)
			}
			if len(replaced) > 0 { // each yield may unlock /dev, so /sys is read again
				v.Lock()
				if e, err = fs.EventOf(uevent.Add, d); err != nil {
					continue
				}
			}
			yield(e, scheduler.Scanned)
		}
	})
	// Both end the scan: the log sums up failures, and a loop hears that much memory may be free.
	s.LogDenied()
	s.Released()
	return b
}

// Inherit submits an add for each device that another process has set up, which this one goes
// on for: by the record, or without numbers. See scheduler.Inherited. Devices that come or go
// meanwhile are left to their events.
func Inherit(s *scheduler.Scheduler, fs sysfs.FS) *scheduler.Batch {
	return s.Run(func(v scheduler.View, yield func(*uevent.Event, scheduler.Kind)) {
		devices := fs.Scan(v.WantsUnnumbered)
		v.Lock()
		live := liveRecords(v)
		for _, d := range devices {
			if e, err := fs.EventOf(uevent.Add, d); err == nil && (d.Dev.IsZero() || live[d.Devpath+d.Dev.String()]) {
				yield(e, scheduler.Inherited)
			}
		}
	})
}

// liveRecords has the devpath and the numbers of each device on record that is there.
func liveRecords(v scheduler.View) map[string]bool {
	live := map[string]bool{}
	for _, rec := range v.Records() {
		if rec.State == nodes.Live {
			live[rec.Devpath+rec.Dev().String()] = true
		}
	}
	return live
}

// Prune submits a remove for each device on record that has gone.
func Prune(s *scheduler.Scheduler, fs sysfs.FS) {
	s.Run(func(v scheduler.View, yield func(*uevent.Event, scheduler.Kind)) {
		devices := fs.Scan(sysfs.Nothing)
		v.Lock()
		for _, e := range removed(v, fs, devices) {
			yield(e, scheduler.Missed)
		}
	})
}

// removed returns a remove event for each device on record that /sys does not have any more:
// it is not among those that a scan found, or another disk is in its place. /dev must be
// locked.
func removed(v scheduler.View, fs sysfs.FS, found []sysfs.Device) []*uevent.Event {
	events := departed(v, fs, found)
	for _, d := range found {
		if !d.Dev.Block {
			continue
		}
		if e, err := fs.EventOf(uevent.Add, d); err == nil {
			events = append(events, replacedBy(v, e)...)
		}
	}
	return events
}

// departed returns a remove event for each device on record that is not among those that a
// scan found, children before parents.
func departed(v scheduler.View, fs sysfs.FS, found []sysfs.Device) []*uevent.Event {
	present := make(map[string]uevent.Dev, len(found)) // the numbers by devpath; zero for none
	for _, d := range found {
		present[d.Devpath] = d.Dev
	}
	return removes(v, func(rec *nodes.Record) bool {
		if dev, is := present[rec.Devpath]; is && dev == rec.Dev() {
			return rec.State == nodes.Left
		}
		// A scan leaves out devices without numbers which no rule matches.
		return !rec.Dev().IsZero() || !fs.Exists(rec.Devpath)
	})
}

// replacedBy returns remove events for the disk on record whose place the disk of e has
// taken, by DISKSEQ, and for the devices below it.
func replacedBy(v scheduler.View, e *uevent.Event) []*uevent.Event {
	if !v.IsOtherDisk(e) {
		return nil
	}
	below := e.Devpath + "/" // the slash keeps sda from matching sdaa
	return removes(v, func(rec *nodes.Record) bool {
		return rec.State == nodes.Live && strings.HasPrefix(rec.Devpath+"/", below)
	})
}

// removes returns a remove event for each device on record of which hasGone says so, children before
// parents.
func removes(v scheduler.View, hasGone func(*nodes.Record) bool) (events []*uevent.Event) {
	gone := map[string]*nodes.Record{}
	var keys []string
	for _, rec := range v.Records() {
		if hasGone(rec) {
			key := rec.Devpath + " " + rec.ID
			gone[key] = rec
			keys = append(keys, key)
		}
	}
	sys.Sort(keys)
	// The devpath of a child begins with its parent's, and so sorts behind it: from the end on,
	// children come first.
	for i := len(keys) - 1; i >= 0; i-- {
		if e, err := scheduler.EventOf(uevent.Remove, gone[keys[i]]); err == nil {
			events = append(events, e)
		}
	}
	return events
}
