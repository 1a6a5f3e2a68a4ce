package scheduler

import (
	"devspool/hotplug/log"
	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// View is what a Generator, and the function that Exclusive calls, may ask of the Scheduler
// while they hold it. It is of no use after they return.
type View struct {
	s     *Scheduler
	batch *Batch // nil in Exclusive
}

// Lock locks /dev, if it is not locked. An event may be yielded as Scanned only if /sys was
// read since: each yield may unlock /dev.
func (v View) Lock() { v.s.applier.dev.lock() }

// Fail logs why a Generator cannot bring all events. The batch has failed by that.
func (v View) Fail(why string) {
	v.batch.failed = true
	v.s.log.Print(log.Err, why)
}

// Records returns the record of every device that has nodes or links, or nil in a dry run.
// /dev must be locked.
func (v View) Records() []*nodes.Record {
	if v.s.applier.isDryRun() {
		return nil
	}
	return v.s.applier.dev.Records()
}

// IsOtherDisk reports whether e is about another disk than the one on record at its
// devpath, by DISKSEQ. /dev must be locked.
func (v View) IsOtherDisk(e *uevent.Event) bool {
	return !v.s.applier.isDryRun() && v.s.applier.dev.OtherDisk(e)
}

// Plan returns what the rules want done for an event.
func (v View) Plan(e *uevent.Event) *nodes.Plan { return v.s.applier.rules.Plan(e) }

// WantsUnnumbered reports whether a device of that subsystem and name which has no numbers is
// wanted: by a rule that may match it (see conf.Config), or as a network interface by a sink.
// With two empty strings it reports whether any is.
func (v View) WantsUnnumbered(subsystem, sysname string) bool {
	return v.s.interfaces && (subsystem == "net" || sysname == "") || v.s.applier.rules.WantsUnnumbered(sysname)
}

// IsPending reports whether an event of the device at devpath is under way.
func (v View) IsPending(devpath string) bool { return v.s.graph.path[devpath] != nil }

// Moved tells that /dev and /sys were just moved to another root. A disk that was being read may
// have been looked for where they are no more, and is read again.
func (v View) Moved() {
	d := &v.s.disks
	d.mu.Lock()
	d.moves++
	d.mu.Unlock()
}
