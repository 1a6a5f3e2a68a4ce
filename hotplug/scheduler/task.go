package scheduler

import (
	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// task is an event from its arrival until its commands have ended. A long queue holds very
// many tasks, so this is small, and most of it is in work.
type task struct {
	*work         // nil while the task is packed
	packed ref    // the event's text while the task is packed
	batch  *Batch // that is told of its end

	dependents []*task // later tasks that wait for this one
	blockers   int32   // how many earlier tasks this one waits for
	state      state
	kind       Kind
	muted      bool // the event has come by itself meanwhile, or is Inherited: no sink gets it, no command runs
}

// work is the part of a task that a packed task does without.
type work struct {
	event    *uevent.Event
	identity *Identity // what the device deserves; nil until that is known
	lasting  []string  // what earlier events said of the device and still holds
	isRead   bool      // it is a disk whose contents give it names
	plan     *nodes.Plan
	commands []nodes.Command // those that have not ended yet, the running one first
	parts    int             // under way: one for the commands, one for the firmware
}

// state is how far a task is in its life. The package comment shows which state follows
// which.
type state uint8

const (
	// submitted tasks have just arrived. No task keeps this state when Run returns.
	submitted state = iota

	// waiting tasks conflict with earlier ones: blockers > 0. They are packed.
	waiting

	// deferred tasks could start, but the scheduler is paused. They are packed.
	deferred

	// started tasks have done their node work, but for a remove that has commands: its
	// nodes go when the commands have ended.
	started

	// reading tasks wait for what their disk holds. They start again then.
	reading

	// done tasks have gone to sinks, observers and their batch.
	done

	// detached tasks stand in for tasks that are done, but whose commands still run.
	detached
)

// pack moves the event of a task into the arena, where it needs little memory. What the
// rules say of it is forgotten: others may hold when it starts.
func (t *task) pack(a *arena) {
	t.packed = a.put(t.event.Pack())
	*t.work = work{}
	t.work = nil
}

// unpack takes the event of a packed task out of the arena.
// It does nothing for a task that was never packed, or starts a second time.
func (t *task) unpack(a *arena) {
	if t.work == nil {
		t.work = &work{event: a.take(t.packed).Unpack()}
		t.packed = ref{}
	}
}

// clear zeroes a task that is done. It is an element of a slice that longer-lived tasks
// keep in memory, or that the next tasks are put into.
func (t *task) clear() {
	*t.work = work{}
	*t = task{state: done}
}

// Kind says where an event comes from, and so how far /sys has to be asked about it.
type Kind uint8

const (
	// Reported events may be old: /sys says whether they still hold.
	Reported Kind = iota

	// Current events are the newest that the kernel has sent about their device. It
	// exists, or its remove is still to be sent.
	Current

	// Scanned events were made from /sys just now, with /dev locked.
	Scanned

	// Missed events result from a comparison of /dev with /sys. One whose event has come
	// by itself meanwhile is dropped silently.
	Missed

	// Inherited events were made from /sys, of devices that another process has set up, and
	// told of, whose work this one goes on with. Only what this process would do otherwise is
	// done: no sink gets them, and no command runs but what loads modules.
	Inherited

	// scannedBefore events were made from /sys some time ago.
	scannedBefore
)

// stale returns the Kind of an event that has had to wait.
func (k Kind) stale() Kind {
	switch k {
	case Current:
		return Reported
	case Scanned:
		return scannedBefore
	}
	return k
}

// isCurrent reports whether the device exists for certain, so that /sys need not be asked.
func (k Kind) isCurrent() bool { return k == Current || k == Scanned }

// isScan reports whether the event was made from /sys.
func (k Kind) isScan() bool { return k >= Scanned && k != Missed }
