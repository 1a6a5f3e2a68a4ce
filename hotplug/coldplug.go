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
// It returns when the events have begun; the Batch tells of their end.
func Coldplug(r *Road) *Batch {
	b := newBatch()
	r.mu.Lock()
	defer r.mu.Unlock()
	defer b.close()
	if !r.Sys.Mounted() {
		b.failed = true
		r.Log.Print(Err, "no sysfs at "+string(r.Sys)+"; mount it: mount -t sysfs sysfs "+string(r.Sys))
		return b
	}
	r.coming++
	defer func() { r.coming-- }()
	r.ledger.last = now()
	devices := r.Sys.scan(r.Rules.WantsUnnumbered)
	r.lock()
	for _, e := range departed(r, devices) {
		r.enter(newTask(e, b))
	}
	for i, d := range devices {
		if i%turn == 0 {
			r.pass()
		}
		r.lock()
		e, err := r.Sys.event(uevent.Add, d)
		if err != nil {
			continue // it has just left; its remove event says the rest
		}
		t := newTask(e, b)
		t.fresh, t.scan = true, true
		r.enter(t)
	}
	r.leave()
	r.tellDenied()
	r.shed()
	return b
}

// clean takes away what was made for devices that have gone.
func (r *Road) clean() {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := newBatch()
	defer b.close()
	devices := r.Sys.scan(nothing)
	r.lock()
	for _, e := range departed(r, devices) {
		r.enter(newTask(e, b))
	}
	r.leave()
}

// departed returns a remove event for each device on record that is not among
// those that a scan found, children before parents. The lock is held.
func departed(r *Road, found []device) []*uevent.Event {
	if r.Dev == nil {
		return nil
	}
	lives := make(map[string]uevent.Dev, len(found))
	for _, d := range found {
		lives[d.devpath] = d.dev
	}
	left := map[string]nodes.Record{}
	for _, rec := range r.Dev.Records() {
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
		if e, err := eventOf(uevent.Remove, left[key]); err == nil {
			events = append(events, e)
		}
	}
	return events
}

// eventOf makes an event of a device that only the record tells of.
func eventOf(action string, rec nodes.Record) (*uevent.Event, error) {
	env := []string{"ACTION=" + action, "DEVPATH=" + rec.Devpath}
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
