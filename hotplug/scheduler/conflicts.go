package scheduler

import (
	"slices"
	"strconv"

	"devspool/hotplug/log"
	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// rankLocked tells nodes.Dir how good a device's claim is to a path that others want too.
func (s *Scheduler) rankLocked(rec *nodes.Record) nodes.Rank {
	if !s.sys.Mounted() {
		return nodes.Rank{}
	}
	removable, diskseq := s.sys.Plugged(rec.Devpath)
	return nodes.Rank{Removable: removable, Diskseq: diskseq, Gone: !s.dev.presence.Has(rec.Devpath, rec.Dev())}
}

// warnConflictsLocked logs paths that a device does not get, and which lines of the config
// want them.
func (s *Scheduler) warnConflictsLocked(conflicts []nodes.Conflict) {
	for _, c := range conflicts {
		line := s.dev.Path() + "/" + c.Path
		if c.Holder == nil {
			s.log.Print(log.Notice, line+" is left alone: something is mounted there, in the way of "+s.claimantLocked(c.Loser, c.Path))
			continue
		}
		line = "two devices want " + line + ": " + s.claimantLocked(c.Holder, c.Path) + " has it, " + s.claimantLocked(c.Loser, c.Path)
		if slices.Contains(c.Loser.Links, c.Path) {
			line += " goes without"
		} else {
			line += " is at " + s.dev.Path() + "/" + nodes.NameOf(c.Loser)
		}
		s.log.Print(log.Warning, line+" (give them different paths, for example with %0)")
	}
}

// claimantLocked names a device, and the line of the config that gives it path.
func (s *Scheduler) claimantLocked(rec *nodes.Record, path string) string {
	e, err := s.addOfLocked(rec)
	if err != nil {
		return rec.Devpath
	}
	p := s.rules.Plan(e)
	var rule nodes.Origin
	for _, l := range p.Links {
		if l.Path == path {
			rule = l.Rule
		}
	}
	for _, n := range p.Nodes {
		if n.Path == path {
			rule = n.Rule
		}
	}
	return rec.Devpath + " (" + rule.String() + ")"
}

// addOfLocked returns an add of a device on record. Where there is no sysfs to ask, the
// record says which device it is.
func (s *Scheduler) addOfLocked(rec *nodes.Record) (*uevent.Event, error) {
	e, err := s.sys.Event(uevent.Add, rec.Devpath)
	if err != nil && !s.sys.Mounted() {
		e, err = EventOf(uevent.Add, rec)
	}
	return e, err
}

// EventOf makes an event of a device that only the record tells of.
func EventOf(action string, rec *nodes.Record) (*uevent.Event, error) {
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
