package scheduler

import (
	"devspool/hotplug/uevent"
	"devspool/nodes"
	"devspool/nodes/identity"
)

// task is an event from its arrival until its commands have ended. Very many may have
// to wait, so this is small.
type task struct {
	*work      // nil while it is packed
	packed ref // then the event's text
	batch  *Batch

	dependents []*task // later tasks that wait for this one
	blockers   int32   // earlier tasks that it conflicts with and that are not done
	kind       Kind
	muted      bool // nobody hears of it: it came by itself meanwhile
	detached   bool // the event is done, and its commands go on
}

// work is what a task holds once it is not packed.
type work struct {
	event    *uevent.Event
	plan     *nodes.Plan
	identity *identity.Identity // what the device deserves; nil until that is known
	isRead   bool               // it is a disk, and what it holds gives it names
	commands []nodes.Command    // that have not ended yet, the running one first
	open     int                // parts that are under way: the commands, the firmware
}

// stale returns what is known of an event that had to wait.
func (k Kind) stale() Kind {
	switch k {
	case Current:
		return Reported
	case Scanned:
		return scannedBefore
	}
	return k
}

// scannedBefore is what a scan said some time ago.
const scannedBefore Kind = Missed + 1

// isCurrent reports whether the device is there, so that /sys need not be asked.
func (k Kind) isCurrent() bool { return k == Current || k == Scanned }

// isScan reports whether a scan of /sys made the event.
func (k Kind) isScan() bool { return k == Scanned || k == scannedBefore }

// pack keeps t in little memory until unpack is called. Other rules may hold then.
func (t *task) pack(a *arena) {
	t.packed = a.put(t.event.Pack())
	*t.work = work{}
	t.work = nil
}

func (t *task) unpack(a *arena) {
	if t.work == nil {
		t.work = &work{event: a.take(t.packed).Unpack()}
		t.packed = ref{}
	}
}

// clear zeroes a task that is done: it is an element of a slice that other tasks, which
// live long, keep in memory.
func (t *task) clear() {
	*t.work = work{}
	*t = task{}
}
