package coldplug

import (
	"maps"
	"slices"
	"strings"

	"devspool/hotplug/scheduler"
	"devspool/hotplug/sysfs"
	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// Scan makes /dev what /sys says: it takes away what was made for devices that have gone,
// then sends an add for each device there is, parents before children. Devices without
// numbers are left out where no rule can care for them.
//
// It returns when the events were submitted; the Batch tells of their end.
func Scan(s *scheduler.Scheduler, fs sysfs.FS) *scheduler.Batch {
	b := s.Run(func(v scheduler.View, yield func(*uevent.Event, scheduler.Kind)) {
		if !fs.Mounted() {
			v.Fail("no sysfs at " + string(fs) + "; mount it: mount -t sysfs sysfs " + string(fs))
			return
		}
		devices := fs.Scan(v.WantsUnnumbered)
		v.Lock()
		for _, e := range departed(v, fs, devices) {
			yield(e, scheduler.Missed)
		}
		for _, d := range devices {
			v.Lock()
			e, err := fs.EventOf(uevent.Add, d)
			if err != nil {
				continue // it has just left; its remove event says the rest
			}
			gone := replacedBy(v, e)
			for _, old := range gone {
				yield(old, scheduler.Missed)
			}
			if len(gone) > 0 { // the lock may have been given to others
				v.Lock()
				if e, err = fs.EventOf(uevent.Add, d); err != nil {
					continue
				}
			}
			yield(e, scheduler.Scanned)
		}
	})
	s.LogDenied()
	s.Released()
	return b
}

// Prune takes away what was made for devices that have gone.
func Prune(s *scheduler.Scheduler, fs sysfs.FS) {
	s.Run(func(v scheduler.View, yield func(*uevent.Event, scheduler.Kind)) {
		devices := fs.Scan(sysfs.Nothing)
		v.Lock()
		for _, e := range removed(v, fs, devices) {
			yield(e, scheduler.Missed)
		}
	})
}

// removed returns a remove event for each device on record that /sys does not have any
// more, given what a scan found. /dev is locked.
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
	present := make(map[string]uevent.Dev, len(found))
	for _, d := range found {
		present[d.Devpath] = d.Dev
	}
	return removes(v, func(rec *nodes.Record) bool {
		if dev, is := present[rec.Devpath]; is && dev == rec.Dev() {
			return rec.State == nodes.Left
		}
		// No scan looks for those that no rule cares for.
		return !rec.Dev().IsZero() || !fs.Exists(rec.Devpath)
	})
}

// replacedBy returns remove events for the disk on record in whose place the one of e is by
// now, as its DISKSEQ shows, and for what lay below it.
func replacedBy(v scheduler.View, e *uevent.Event) []*uevent.Event {
	if !v.IsOtherDisk(e) {
		return nil
	}
	below := e.Devpath + "/"
	return removes(v, func(rec *nodes.Record) bool {
		return rec.State == nodes.Live && strings.HasPrefix(rec.Devpath+"/", below)
	})
}

// removes returns a remove event for each device on record that has gone, children before
// parents.
func removes(v scheduler.View, gone func(*nodes.Record) bool) (events []*uevent.Event) {
	left := map[string]*nodes.Record{}
	for _, rec := range v.Records() {
		if gone(rec) {
			left[rec.Devpath+" "+rec.ID] = rec
		}
	}
	for _, key := range slices.Backward(slices.Sorted(maps.Keys(left))) {
		if e, err := scheduler.EventOf(uevent.Remove, left[key]); err == nil {
			events = append(events, e)
		}
	}
	return events
}
