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

const (
	// auditInterval is the least time between two audits.
	auditInterval = time.Minute

	// auditPause is the time from a request to the first look at /sys, and from that to the
	// second. It has to be longer than an event can be on its way: a disk is in /sys before
	// its partitions are read, which can take seconds, and its event is sent after that. An
	// event that is taken for lost too early runs its commands twice.
	auditPause = 10 * time.Second
)

// Auditor compares /dev with /sys when asked, but at most once in auditInterval, and not in
// the midst of the burst in which it is asked.
type Auditor struct {
	Scheduler *scheduler.Scheduler
	Sys       sysfs.FS
	Pending   func() bool   // whether events have come that the Scheduler does not have yet
	Delay     time.Duration // from a request to the first look; 0 for auditPause
	Pause     time.Duration // from the first look to the second; 0 for auditPause

	requested atomic.Bool // an audit is to begin; while it is set, last is Request's and then the timer's
	last      sys.Time    // when the last audit that Request asked for began, or 0
}

// Request asks for an audit, and does not wait for it. One that is due already is enough.
func (a *Auditor) Request() {
	if a.requested.Swap(true) {
		return
	}
	delay := orElse(a.Delay, auditPause)
	if a.last != 0 {
		delay = max(delay, auditInterval-a.last.Age())
	}
	time.AfterFunc(delay, func() {
		a.last = sys.Now()
		a.requested.Store(false) // a request from now on needs another audit
		a.Audit()
	})
}

// orElse returns d, or usual where d is 0.
func orElse(d, usual time.Duration) time.Duration {
	if d == 0 {
		return usual
	}
	return d
}

// Audit compares /dev with /sys twice, and submits the events that both comparisons miss.
func (a *Auditor) Audit() {
	// A difference alone proves nothing, since an event may be on its way. One that is there
	// twice, with auditPause between, does.
	first := map[string]bool{}
	for _, e := range a.diff() {
		first[key(e)] = true
	}
	if len(first) == 0 {
		return
	}
	time.Sleep(orElse(a.Pause, auditPause))
	for a.Pending() {
		time.Sleep(sys.PollInterval) // the missed event may be among these
	}
	var lost []*uevent.Event
	for _, e := range a.diff() {
		if first[key(e)] {
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

// key names an event that an audit misses: events that are made here have no SEQNUM.
func key(e *uevent.Event) string { return e.Action + e.Devpath + e.ID() }

// diff returns the events that would make /dev what /sys says: a remove for each device on
// record that has gone, an add for each device that should have a node and is not on record.
// Devices with events under way are left out, and so are those for which the rules want no node.
func (a *Auditor) diff() (events []*uevent.Event) {
	if !a.Sys.Mounted() {
		return nil
	}
	devices := a.Sys.Scan(sysfs.Nothing)
	_ = a.Scheduler.Exclusive(func(v scheduler.View) error { // without a lock there is no record to compare with
		all := removed(v, a.Sys, devices)
		live := liveRecords(v)
		for _, d := range devices {
			if d.Dev.IsZero() || live[d.Devpath+d.Dev.String()] {
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
