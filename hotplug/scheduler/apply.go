package scheduler

import (
	"strconv"

	"golang.org/x/sys/unix"

	"devspool/hotplug/log"
	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// startLocked does what can be done of t at once, and reports whether that was all.
func (s *Scheduler) startLocked(t *task) (done bool) {
	t.unpack(&s.arena)
	late := !t.kind.isCurrent() && s.isLateLocked(t.event)
	if !late && !s.identifyLocked(t) {
		return false
	}
	t.muted = t.kind == Missed && s.cameMeanwhileLocked(t.event)
	if late {
		t.event, t.plan = t.event.Late(), nil // its rules may ask for that
	}
	if t.plan == nil {
		t.plan = s.planLocked(t.event, t.identity, t.kind)
	}
	if !late && s.startRenameLocked(t) {
		return false
	}
	e, p := t.event, t.plan
	if late {
		demote(p)
	}
	if t.muted {
		p.Commands, p.Firmware = nil, ""
	}
	for _, fault := range p.Faults {
		s.failLocked(t, "refused", fault)
	}
	if s.dev.Dir == nil {
		s.completeLocked(t)
		return true
	}
	existed := false
	if p.Work != nodes.Remove || len(p.Commands) == 0 {
		existed = s.applyLocked(t)
	} else {
		s.dev.lock()
		s.dev.Locate(p)
		t.plan = p.Actual() // what its commands are to be told
	}
	s.renameLocked(t)
	s.watchLocked(t)
	t.commands = s.runnableLocked(t, existed)
	if s.queueNextLocked(t) {
		t.open++
	}
	if p.Firmware != "" {
		t.open++
		ok := false
		s.runAsync(func() { ok = s.firmware.Load(e, p.Firmware) }, func() {
			t.batch.failed = t.batch.failed || !ok
			s.partDoneYield(t)
		})
	}
	if t.open > 0 {
		return false
	}
	if p.Work == nodes.Remove && len(p.Commands) > 0 {
		s.removeNodesLocked(t) // what stood before it was only to be sent
	}
	s.completeLocked(t)
	return true
}

// isLateLocked reports whether /sys says that e is about a device that has gone or come
// back since, and so is not to change any node.
func (s *Scheduler) isLateLocked(e *uevent.Event) bool {
	switch e.Action {
	case uevent.Add, uevent.Move:
		if e.Dev.IsZero() {
			return false
		}
	case uevent.Remove:
		if s.isOrdered(e) {
			return false
		}
	default:
		return false
	}
	s.dev.lock()
	if !s.dev.presence.Stale(e) {
		return false
	}
	s.log.Event(log.Info, "too late", e, "/sys says otherwise by now")
	return true
}

// demote takes the node work out of the plan of an event that comes too late. Its
// commands stay: what happened did happen.
func demote(p *nodes.Plan) { p.Late, p.Work = true, nodes.None }

// cameMeanwhileLocked reports whether an event that a comparison with /sys missed has come
// by itself since. Of a remove the record may know already, though not all could be done.
func (s *Scheduler) cameMeanwhileLocked(e *uevent.Event) bool {
	s.dev.lock()
	if e.Action == uevent.Add {
		return s.dev.IsSetUp(e)
	}
	rec := s.dev.Recorded(e)
	return rec == nil || rec.State == nodes.Ended
}

// isOrdered reports whether e is a remove by hand.
func (s *Scheduler) isOrdered(e *uevent.Event) bool {
	return s.byHand && e.Action == uevent.Remove && e.Seqnum == 0
}

// applyLocked does the node work of t.
func (s *Scheduler) applyLocked(t *task) (existed bool) {
	p := t.plan
	switch p.Event.Action {
	case uevent.Add, uevent.Remove, uevent.Move:
		s.dev.lock()
		s.evictLocked(t)
	case uevent.Change:
		if s.dev.OtherDisk(p.Event) {
			s.dev.lock()
		}
	}
	existed = s.carryOutLocked(t, p)
	t.plan = p.Actual()
	return existed
}

// carryOutLocked does what p says, and then the node work of the devices to which a path
// comes back by it.
func (s *Scheduler) carryOutLocked(t *task, p *nodes.Plan) (existed bool) {
	existed, err := s.dev.Apply(p)
	s.logErrorsLocked(t, err)
	s.warnConflictsLocked(s.dev.Conflicts())
	var served map[string]int // by ID: how often
	for freed := s.dev.Released(); len(freed) > 0; freed = s.dev.Released() {
		for _, claimant := range freed {
			if served[claimant.ID] == maxReassigned {
				continue // something fails each time
			}
			if served == nil {
				served = map[string]int{}
			}
			served[claimant.ID]++
			again := s.reassignLocked(t, claimant)
			if again != nil && claimant.ID == p.Event.ID() {
				p.Lost = again.Lost
			}
			s.warnConflictsLocked(s.dev.Conflicts())
		}
	}
	return existed
}

// maxReassigned is how often the plan of one device is applied again for one event.
// Four times are enough where no call fails.
const maxReassigned = 8

// evictLocked does the node work for a device that had the devpath of t with other
// numbers, and of whose remove nobody has told.
func (s *Scheduler) evictLocked(t *task) {
	old := s.dev.Displaced(t.event)
	if old == nil || t.event.Action == uevent.Remove && !s.sys.Mounted() || s.dev.presence.Has(old.Devpath, old.Dev()) {
		return
	}
	s.logErrorsLocked(t, s.dev.Evict(old))
}

// reassignLocked does the node work of a device that is to have other paths since that
// of t was done. It returns its plan, or nil where the device has gone.
func (s *Scheduler) reassignLocked(t *task, claimant *nodes.Record) *nodes.Plan {
	e, err := s.addOfLocked(claimant)
	if err != nil || s.dev.presence.Stale(e) {
		return nil // it leaves too
	}
	p := s.replanLocked(e)
	_, err = s.dev.Apply(p)
	s.logErrorsLocked(&task{work: &work{event: e}, batch: t.batch}, err)
	return p
}

// removeNodesLocked does the node work of a remove, after its commands.
func (s *Scheduler) removeNodesLocked(t *task) {
	s.dev.lock()
	if !s.isOrdered(t.event) && s.dev.presence.Stale(t.event) {
		s.log.Event(log.Info, "node kept", t.event, "the device came back")
		t.event = t.event.Late()
		t.plan.Event = t.event
		demote(t.plan)
	}
	s.applyLocked(t)
}

// runnableLocked returns the commands of t that are to run, by their if_exists.
func (s *Scheduler) runnableLocked(t *task, existed bool) []nodes.Command {
	p := t.plan
	if !existed || p.Event.Action != uevent.Add {
		return p.Commands
	}
	var commands []nodes.Command
	for _, c := range p.Commands {
		switch c.Exists {
		case nodes.ExistsRun:
			commands = append(commands, c)
		case nodes.ExistsReport, nodes.ExistsError:
			s.failLocked(t, "exists already", c.Rule.String()+": not run: "+c.Text)
		}
		if c.Exists == nodes.ExistsError {
			break
		}
	}
	return commands
}

// logErrorsLocked logs each of the errors that are joined in err.
func (s *Scheduler) logErrorsLocked(t *task, err error) {
	if err == nil {
		return
	}
	if joined, is := err.(interface{ Unwrap() []error }); is {
		for _, err := range joined.Unwrap() {
			s.logErrorsLocked(t, err)
		}
		return
	}
	if e, is := err.(*nodes.Error); is && e.Op == "mknod" && e.Err == unix.EPERM { // errors.As would cost the program 10 kB
		s.denyLocked(t, err.Error())
		return
	}
	s.failLocked(t, "failed", err.Error())
}

// denyLocked notes that the kernel let no node be made. It does so for every device alike
// where this process is not the real root, so the first is logged and the rest are counted.
func (s *Scheduler) denyLocked(t *task, text string) {
	if s.stats.denied++; s.stats.denied == 1 {
		s.failLocked(t, "failed", text+"; in a user namespace (unshare -U, a rootless container) nobody may make them:"+
			" have the host's nodes mounted there. Further ones are counted")
		return
	}
	t.batch.failed = true
	s.stats.failed++
}

// LogDenied says how many nodes a scan was not let make.
func (s *Scheduler) LogDenied() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.stats.denied; n > 1 {
		s.log.Print(log.Err, strconv.FormatUint(n, 10)+" nodes could not be made: "+unix.EPERM.Error())
	}
}
