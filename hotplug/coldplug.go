package hotplug

import (
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
	r.Run(departed(r))
	const batch = 64 // so that others have their turn between
	var events []*uevent.Event
	for _, d := range r.Sys.scan(r.Rules.WantsUnnumbered()) {
		e, err := r.Sys.event(uevent.Add, d)
		if err != nil {
			continue // it has just left; its remove event says the rest
		}
		if events = append(events, e); len(events) == batch {
			r.Run(events)
			events = nil
		}
	}
	r.Run(events)
}

// departed returns a remove event for each device on record that has gone.
func departed(r *Road) []*uevent.Event {
	if r.Dev == nil {
		return nil
	}
	r.lock()
	records, err := r.Dev.Records()
	r.unlock()
	if err != nil {
		r.failed = true
		r.Log.Print(Err, err.Error())
	}
	var events []*uevent.Event
	for _, rec := range records {
		if gone(r.Sys, rec) {
			if e, err := removal(rec); err == nil {
				events = append(events, e)
			}
		}
	}
	return events
}

func gone(sys Sysfs, rec nodes.Record) bool {
	if dev := rec.Dev(); !dev.IsZero() {
		return !sys.knows(rec.Devpath, dev)
	}
	_, err := readFile(string(sys) + rec.Devpath + "/uevent")
	return err != nil
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
