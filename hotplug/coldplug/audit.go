package coldplug

import (
	"sync/atomic"
	"time"

	"devspool/hotplug/scheduler"
	"devspool/hotplug/sys"
	"devspool/hotplug/sysfs"
	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// auditEvery is how much time lies between two comparisons with /sys at least.
// A comparison looks twice, auditPause apart, so that events which are on their
// way are not taken for lost: a disk is in /sys before its partitions are read, and
// its event is sent after that, which can take seconds. The commands of one that was
// taken for lost would run twice.
const (
	auditEvery = time.Minute
	auditPause = 10 * time.Second
)

// Auditor compares /dev with /sys on request, but not too often, and not in the midst of
// the burst that it was asked in.
type Auditor struct {
	Scheduler *scheduler.Scheduler
	Sys       sysfs.FS
	Pending   func() bool   // events have come that the Scheduler does not have yet
	Delay     time.Duration // from the request to the first look; 0 for the usual one
	Pause     time.Duration // between the two looks; 0 for the usual one

	requested atomic.Bool
	last      sys.Time // of the last comparison
}

// Request asks for a comparison, and does not wait for it.
func (a *Auditor) Request() {
	if a.requested.Swap(true) {
		return // one is to come
	}
	delay := orElse(a.Delay, auditPause)
	if a.last != 0 {
		delay = max(delay, auditEvery-a.last.Age())
	}
	time.AfterFunc(delay, func() {
		a.last = sys.Now()
		a.requested.Store(false) // a request from now on means another comparison
		a.Audit()
	})
}

func orElse(d, usual time.Duration) time.Duration {
	if d == 0 {
		return usual
	}
	return d
}

// Audit makes up for events that were lost: it does what two looks at /sys, with a pause
// between them, agree on.
func (a *Auditor) Audit() {
	first := map[string]bool{}
	for _, e := range a.diff() {
		first[e.Action+e.Devpath+e.ID()] = true
	}
	if len(first) == 0 {
		return
	}
	time.Sleep(orElse(a.Pause, auditPause))
	for a.Pending() {
		time.Sleep(sys.PollInterval) // what was missed may be among these
	}
	var lost []*uevent.Event
	for _, e := range a.diff() {
		if first[e.Action+e.Devpath+e.ID()] {
			lost = append(lost, e)
		}
	}
	if len(lost) == 0 {
		return
	}
	a.Scheduler.Gap("events were lost, by what /sys says: making up for them")
	a.Scheduler.Run(func(_ scheduler.View, yield func(*uevent.Event, scheduler.Kind)) {
		for _, e := range lost {
			yield(e, scheduler.Missed)
		}
	})
}

// diff returns the events that would make /dev what /sys says: a remove for each device on
// record that has gone, an add for each that should have a node and is not on record.
// Devices with events under way are left alone.
func (a *Auditor) diff() (events []*uevent.Event) {
	if !a.Sys.Mounted() {
		return nil
	}
	devices := a.Sys.Scan(sysfs.Nothing)
	a.Scheduler.Exclusive(func(v scheduler.View) error { // without a lock there is no record to compare with
		all := removed(v, a.Sys, devices)
		known := map[sysfs.Device]bool{}
		for _, rec := range v.Records() {
			known[sysfs.Device{Devpath: rec.Devpath, Dev: rec.Dev()}] = rec.State == nodes.Live
		}
		for _, d := range devices {
			if d.Dev.IsZero() || known[sysfs.Device{Devpath: d.Devpath, Dev: d.Dev}] {
				continue
			}
			if e, err := a.Sys.EventOf(uevent.Add, d); err == nil && v.Plan(e).Work == nodes.Create {
				all = append(all, e)
			}
		}
		for _, e := range all {
			if !v.IsPending(e.Devpath) {
				events = append(events, e)
			}
		}
		return nil
	})
	return events
}
