package hotplug

import (
	"maps"
	"slices"
	"strconv"

	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// Coldplug makes /dev what /sys says: it takes away what was made for devices
// that have gone, then sends an add for each device there is, parents before
// children. Devices without numbers are left out where no rule can care for them.
//
// It returns when the events have begun; Road.Drain waits for their end.
func Coldplug(r *Road) {
	if !r.Sys.Mounted() {
		r.failed = true
		r.Log.Print(Err, "no sysfs at "+string(r.Sys)+"; mount it: mount -t sysfs sysfs "+string(r.Sys))
		return
	}
	devices := r.Sys.scan(r.Rules.WantsUnnumbered)
	r.Run(departed(r, devices))
	const turn = 64 // devices; then others may have theirs
	for i, d := range devices {
		r.lock()
		e, err := r.Sys.event(uevent.Add, d)
		if err != nil {
			continue // it has just left; its remove event says the rest
		}
		r.enter(&task{event: e, fresh: true})
		if i%turn == turn-1 {
			r.leave()
		}
	}
	r.leave()
}

// departed returns a remove event for each device on record that is not among
// those that a scan found, children before parents.
func departed(r *Road, found []device) []*uevent.Event {
	if r.Dev == nil {
		return nil
	}
	r.lock()
	records := r.Dev.Records()
	r.unlock()
	lives := make(map[string]uevent.Dev, len(found))
	for _, d := range found {
		lives[d.devpath] = d.dev
	}
	left := map[string]nodes.Record{}
	for _, rec := range records {
		if dev, is := lives[rec.Devpath]; is && dev == rec.Dev() {
			continue
		}
		if rec.Dev().IsZero() && r.Sys.exists(rec.Devpath) {
			continue // no scan looks for those that no rule cares for
		}
		left[rec.Devpath+" "+rec.ID] = rec
	}
	var events []*uevent.Event
	for _, key := range slices.Backward(slices.Sorted(maps.Keys(left))) {
		if e, err := removal(left[key]); err == nil {
			events = append(events, e)
		}
	}
	return events
}

// removal makes the remove event that nobody heard.
func removal(rec nodes.Record) (*uevent.Event, error) {
	env := []string{"ACTION=" + uevent.Remove, "DEVPATH=" + rec.Devpath}
	if rec.Subsystem != "" {
		env = append(env, "SUBSYSTEM="+rec.Subsystem)
	}
	if dev := rec.Dev(); !dev.IsZero() {
		env = append(env, "MAJOR="+strconv.Itoa(int(dev.Major)), "MINOR="+strconv.Itoa(int(dev.Minor)))
	}
	if rec.Devname != "" {
		env = append(env, "DEVNAME="+rec.Devname)
	}
	return uevent.FromEnviron(env)
}
