package scheduler

import (
	"devspool/conf"
	"devspool/hotplug/log"
	"devspool/hotplug/sysfs"
	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// applier does the node work of tasks: it asks the rules what to do, asks /sys whether the
// event still holds, and changes /dev under its lock. Scheduler.mu guards it.
//
// It has many methods since each step of the node work is one, those for names among them.
type applier struct {
	dev      devLock
	sys      sysfs.FS
	rules    *conf.Config // see SetRules
	names    names
	modules  ModuleLoader // or nil
	byHand   bool         // see Options.ByHand
	log      *log.Logger
	failures *failures
}

// init sets up an applier. (To copy one would be slow, since a Presence has a large buffer.)
func (a *applier) init(o *Options, f *failures) {
	a.dev.Dir, a.dev.log, a.dev.presence = o.Dev, o.Log, sysfs.NewPresence(o.Sys)
	a.sys, a.rules, a.byHand, a.log, a.failures = o.Sys, o.Rules, o.ByHand, o.Log, f
	a.modules = o.Modules
	if conf.HasNames {
		a.names.init(o, o.Rules != nil && o.Rules.WantsNames())
	}
	if o.Dev != nil {
		// Package nodes knows no /sys: it asks here which of two devices is to have a path.
		o.Dev.Rank = a.rank
	}
}

// isDryRun reports whether there is no /dev to change.
func (a *applier) isDryRun() bool { return a.dev.Dir == nil }

// prepare records what tasks are going to make, in one write. It only saves time: without
// it, each would write its own record.
func (a *applier) prepare(tasks []task) {
	if a.isDryRun() || len(tasks) < 2 {
		return
	}
	plans := make([]*nodes.Plan, 0, len(tasks))
	for i := range tasks {
		t := &tasks[i]
		// A disk that is still to be read has no plan yet, and is recorded later.
		if t.event.Action == uevent.Add && !t.event.Dev.IsZero() && (!conf.HasNames || a.identify(t)) {
			t.plan = a.planOf(t.event, t.identity, t.kind)
			plans = append(plans, t.plan)
		}
	}
	if len(plans) > 0 {
		a.dev.lock()
		a.dev.Prepare(plans)
	}
}

// plan sets the plan of a task that starts, by the rules and by what /sys says now. Late says
// that /sys contradicts its event.
func (a *applier) plan(t *task, late bool) {
	t.muted = t.kind == Inherited || t.kind == Missed && a.cameMeanwhile(t.event)
	if late {
		t.event, t.plan = t.event.Late(), nil // rules may ask whether it is late
	}
	if t.plan == nil {
		t.plan = a.planOf(t.event, t.identity, t.kind)
	}
	t.event = t.plan.Event
	if late {
		dropNodeWork(t.plan)
	}
	if t.muted {
		commands := t.plan.Commands
		t.plan.Commands, t.plan.Attributes, t.plan.Firmware = nil, nil, ""
		for i := range commands {
			if t.kind == Inherited && a.loadsModules(t, &commands[i]) {
				t.plan.Commands = append(t.plan.Commands, commands[i])
			}
		}
	}
	for _, fault := range t.plan.Faults {
		a.failures.add(t.batch, t.event, "refused", fault)
	}
}

// isLeftBehind reports whether /sys, which gives the disk of t its names, has gone. The system's
// root was switched then, and this process, a helper's, stayed in the old one: it would find only a
// part of the names, and take the others away. Another process cares for the disk now.
func (a *applier) isLeftBehind(t *task) bool {
	return conf.HasNames && t.event.Dev.Block && a.names.active && !a.sys.Mounted()
}

// isLate reports whether /sys contradicts the event of t: its device has gone, or has come
// back. Such an event must not change any node: it would make one of a device that is not there,
// or remove that of a device that is.
func (a *applier) isLate(t *task) bool {
	if t.kind.isCurrent() {
		return false
	}
	switch e := t.event; e.Action {
	case uevent.Add, uevent.Move:
		// It has no node that could be wrong.
		if e.Dev.IsZero() {
			return false
		}
	case uevent.Remove:
		if a.isByHand(e) {
			return false
		}
	default:
		return false
	}
	a.dev.lock()
	if !a.dev.presence.Stale(t.event) {
		return false
	}
	a.log.Event(log.Info, "too late", t.event, "/sys says otherwise by now")
	return true
}

// dropNodeWork takes the work on nodes and attributes out of the plan of a late event. Its commands
// stay: the event did happen.
func dropNodeWork(p *nodes.Plan) { p.Late, p.Work, p.Attributes = true, nodes.None, nil }

// cameMeanwhile reports whether a Missed event has come by itself since it was missed. A
// remove may be on record though not all of it could be done.
func (a *applier) cameMeanwhile(e *uevent.Event) bool {
	a.dev.lock()
	if e.Action == uevent.Add {
		return a.dev.IsSetUp(e)
	}
	rec := a.dev.Recorded(e)
	return rec == nil || rec.State == nodes.Ended
}

// isByHand reports whether e is a remove that a person or a script sent: it is obeyed
// though the device is there.
func (a *applier) isByHand(e *uevent.Event) bool {
	return a.byHand && e.Action == uevent.Remove && e.Seqnum == 0
}

// begin does the node work that comes before the commands of a task. Existed reports
// whether an add found its device set up.
func (a *applier) begin(t *task) (existed bool) {
	// A command for a remove may still want the node, to unmount it, say: it goes afterwards.
	if !a.removesAfterCommands(t) {
		return a.apply(t)
	}
	a.dev.lock()
	a.dev.Locate(t.plan)
	t.plan = t.plan.Actual() // the nodes that the commands get by MDEV
	return false
}

// relocate tells the commands of t that are left where the device's node is by now: another
// device may have come meanwhile that has the better claim to its path.
// It is called before each command, when its slot is free: that may be long after the node work.
func (a *applier) relocate(t *task) {
	if a.isDryRun() || !a.dev.Shares(t.event) {
		return
	}
	a.dev.lock()
	a.dev.Locate(t.plan)
	if len(t.plan.Lost) > 0 {
		p := *t.plan
		p.Commands = t.commands
		t.plan = p.Actual()
		t.commands = t.plan.Commands
	}
}

// removesAfterCommands reports whether t removes nodes that its commands may still use.
func (a *applier) removesAfterCommands(t *task) bool {
	return t.plan.Work == nodes.Remove && len(t.plan.Commands) > 0
}

// end does the node work that comes after the commands of a task.
// Only a remove has any.
func (a *applier) end(t *task) {
	if t.plan.Work != nodes.Remove {
		return
	}
	a.dev.lock()
	// The commands took time, in which the device may have come back. The node is its own again.
	if !a.isByHand(t.event) && a.dev.presence.Stale(t.event) {
		a.log.Event(log.Info, "node kept", t.event, "the device came back")
		t.event = t.event.Late()
		t.plan.Event = t.event
		dropNodeWork(t.plan)
	}
	a.apply(t)
}

// maxReassigned is how often the plan of one device is applied again for one event. Four
// times are enough where no call fails.
const maxReassigned = 8

// apply does the node work of t.
// Afterwards the plan of t has only those paths that its device got.
func (a *applier) apply(t *task) (existed bool) {
	p := t.plan
	// Other events make and remove nothing, and spare the file lock.
	switch p.Event.Action {
	case uevent.Add, uevent.Remove, uevent.Move:
		a.dev.lock()
		a.evict(t)
	case uevent.Change:
		// Another DISKSEQ: the drive has another medium, which the record is to say.
		if a.dev.OtherDisk(p.Event) {
			a.dev.lock()
		}
	}
	existed = a.carryOut(t, p)
	t.plan = p.Actual()
	return existed
}

// carryOut does what p says for the event of t, and then the node work of the devices that
// get a path back by it.
func (a *applier) carryOut(t *task, p *nodes.Plan) (existed bool) {
	existed, err := a.dev.Apply(p)
	a.failures.addError(t.batch, t.event, err)
	a.warnConflicts()
	var applied map[string]int // how often, by device ID
	// Each application may free further paths, for which others wait, so this goes on until none is
	// freed.
	for claimants := a.dev.Released(); len(claimants) > 0; claimants = a.dev.Released() {
		for _, claimant := range claimants {
			if applied[claimant.ID] == maxReassigned {
				continue // something fails each time
			}
			if applied == nil {
				applied = map[string]int{}
			}
			applied[claimant.ID]++
			again := a.reassign(t.batch, claimant)
			// The claimant is the device of t itself: its plan has to say what it lost by that.
			if again != nil && claimant.ID == p.Event.ID() {
				p.Lost = again.Lost
			}
			a.warnConflicts()
		}
	}
	return existed
}

// evict does the node work for a device that had the devpath of t with other numbers, and
// whose remove event has not come.
func (a *applier) evict(t *task) {
	old := a.dev.Displaced(t.event)
	// A remove does not prove that the device on record has left, and without /sys nothing else
	// does.
	if old == nil || t.event.Action == uevent.Remove && !a.sys.Mounted() || a.dev.presence.Has(old.Devpath, old.Dev()) {
		return
	}
	a.failures.addError(t.batch, t.event, a.dev.Evict(old))
}

// reassign does the node work of a device that gets other paths now. Its failures count for
// the batch of the event that causes this. It returns the plan of the device, or nil where
// the device has gone.
func (a *applier) reassign(b *Batch, claimant *nodes.Record) *nodes.Plan {
	e, err := a.addOf(claimant)
	if err != nil || a.dev.presence.Stale(e) {
		return nil
	}
	p := a.planAgain(e)
	_, err = a.dev.Apply(p)
	a.failures.addError(b, e, err)
	return p
}

// runnable returns the commands of t that are to run, by their if_exists: it concerns an add whose
// device was set up already, as in a second scan.
func (a *applier) runnable(t *task, existed bool) []nodes.Command {
	p := t.plan
	if !existed || p.Event.Action != uevent.Add {
		return p.Commands
	}
	var commands []nodes.Command
	for i := range p.Commands {
		c := &p.Commands[i]
		switch c.Exists {
		case nodes.ExistsRun:
			commands = append(commands, *c)
		case nodes.ExistsReport, nodes.ExistsError:
			a.failures.add(t.batch, t.event, "exists already", c.Rule.String()+": not run: "+c.Text)
		}
		// if_exists=error keeps the commands that follow from running too.
		if c.Exists == nodes.ExistsError {
			break
		}
	}
	return commands
}
