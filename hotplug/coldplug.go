package hotplug

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"devspool/hotplug/log"
	"devspool/hotplug/sys"
	"devspool/hotplug/sysfs"
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
		r.Log.Print(log.Err, "no sysfs at "+string(r.Sys)+"; mount it: mount -t sysfs sysfs "+string(r.Sys))
		return b
	}
	r.coming++
	defer func() { r.coming-- }()
	r.ledger.last = sys.Now()
	devices := r.Sys.Scan(r.Rules.WantsUnnumbered)
	r.lock()
	r.enterMade(departed(r, devices), b)
	for i, d := range devices {
		if i%turn == 0 {
			r.pass()
		}
		r.lock()
		e, err := r.Sys.EventOf(uevent.Add, d)
		if err != nil {
			continue // it has just left; its remove event says the rest
		}
		r.enterMade(r.replacedBy(e), b)
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
	devices := r.Sys.Scan(sysfs.Nothing)
	r.lock()
	r.enterMade(append(departed(r, devices), r.replaced(devices)...), b)
	r.leave()
}

// departed returns a remove event for each device on record that is not among
// those that a scan found, children before parents. The lock is held.
func departed(r *Road, found []sysfs.Device) []*uevent.Event {
	lives := make(map[string]uevent.Dev, len(found))
	for _, d := range found {
		lives[d.Devpath] = d.Dev
	}
	return r.removes(func(rec *nodes.Record) bool {
		if dev, is := lives[rec.Devpath]; is && dev == rec.Dev() {
			return rec.State == nodes.Left
		}
		// No scan looks for those that no rule cares for.
		return !rec.Dev().IsZero() || !r.Sys.Exists(rec.Devpath)
	})
}

// replaced returns the same for each disk on record in whose place is another one by
// now, as its DISKSEQ shows, and for what lay below it.
func (r *Road) replaced(found []sysfs.Device) (events []*uevent.Event) {
	for _, d := range found {
		if !d.Dev.Block {
			continue
		}
		if e, err := r.Sys.EventOf(uevent.Add, d); err == nil {
			events = append(events, r.replacedBy(e)...)
		}
	}
	return events
}

// replacedBy is replaced for one disk, of which e is the add.
func (r *Road) replacedBy(e *uevent.Event) []*uevent.Event {
	if r.Dev == nil || !r.Dev.OtherDisk(e) {
		return nil
	}
	below := e.Devpath + "/"
	return r.removes(func(rec *nodes.Record) bool {
		return rec.State == nodes.Live && strings.HasPrefix(rec.Devpath+"/", below)
	})
}

// removes returns a remove event for each device on record that has gone, children
// before parents.
func (r *Road) removes(gone func(*nodes.Record) bool) (events []*uevent.Event) {
	if r.Dev == nil {
		return nil
	}
	left := map[string]*nodes.Record{}
	for _, rec := range r.Dev.Records() {
		if gone(&rec) {
			left[rec.Devpath+" "+rec.ID] = &rec
		}
	}
	for _, key := range slices.Backward(slices.Sorted(maps.Keys(left))) {
		if e, err := eventOf(uevent.Remove, left[key]); err == nil {
			events = append(events, e)
		}
	}
	return events
}

// eventOf makes an event of a device that only the record tells of.
func eventOf(action string, rec *nodes.Record) (*uevent.Event, error) {
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
	if rec.Diskseq != "" {
		env = append(env, "DISKSEQ="+rec.Diskseq)
	}
	return uevent.FromEnviron(env)
}
