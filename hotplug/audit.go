package hotplug

import (
	"sync/atomic"
	"time"

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

// auditor compares /dev with /sys when it is called, but not too often, and not in
// the midst of the burst that it was called in.
type auditor struct {
	calm   time.Duration // how long after the call it looks
	called atomic.Bool
	last   sys.Time // of the last comparison
}

// call asks for a comparison. It does not wait for it. Pending is as that of a source.
func (a *auditor) call(r *Road, pending func() bool) {
	if a.called.Swap(true) {
		return // one is to come
	}
	pause := a.calm
	if a.last != 0 {
		pause = max(pause, auditEvery-a.last.Age())
	}
	time.AfterFunc(pause, func() {
		a.last = sys.Now()
		a.called.Store(false) // whoever calls from now on is heard
		audit(r, auditPause, pending)
	})
}

// audit makes up for events that were lost: it does what two looks at /sys agree on.
func audit(r *Road, pause time.Duration, pending func() bool) {
	first := map[string]bool{}
	for _, e := range r.differences() {
		first[e.Action+e.Devpath+e.ID()] = true
	}
	if len(first) == 0 {
		return
	}
	time.Sleep(pause)
	for pending() {
		time.Sleep(sys.PollInterval) // what was missed may be among these
	}
	var lost []*uevent.Event
	for _, e := range r.differences() {
		if first[e.Action+e.Devpath+e.ID()] {
			lost = append(lost, e)
		}
	}
	if len(lost) > 0 {
		r.Gap("events were lost, by what /sys says: making up for them")
		r.makeUp(lost)
	}
}

// makeUp has events take the road that a comparison with /sys misses, but for those
// that come by themselves before.
func (r *Road) makeUp(lost []*uevent.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := newBatch()
	defer b.close()
	r.enterMade(lost, b)
	r.leave()
}

// enterMade starts events on their way that a comparison with /sys misses.
func (r *Road) enterMade(lost []*uevent.Event, b *Batch) {
	for _, e := range lost {
		t := newTask(e, b)
		t.made = true
		r.enter(t)
	}
}

// differences returns the events that would make /dev what /sys says: a remove
// for each device on record that has gone, an add for each that should have a
// node and is not on record. Devices with events under way are left alone.
func (r *Road) differences() []*uevent.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.Dev == nil || !r.Sys.Mounted() {
		return nil
	}
	defer r.unlock()
	devices := r.Sys.Scan(sysfs.Nothing)
	if r.lock(); r.lockless {
		return nil // and so no record to compare with
	}
	events := append(departed(r, devices), r.replaced(devices)...)
	known := map[sysfs.Device]bool{}
	for _, rec := range r.Dev.Records() {
		known[sysfs.Device{Devpath: rec.Devpath, Dev: rec.Dev()}] = rec.State == nodes.Live
	}
	for _, d := range devices {
		if d.Dev.IsZero() || known[sysfs.Device{Devpath: d.Devpath, Dev: d.Dev}] {
			continue
		}
		if e, err := r.Sys.EventOf(uevent.Add, d); err == nil && r.Rules.Plan(e).Work == nodes.Make {
			events = append(events, e)
		}
	}
	rest := events[:0]
	for _, e := range events {
		if r.order.path[e.Devpath] == nil {
			rest = append(rest, e)
		}
	}
	return rest
}
