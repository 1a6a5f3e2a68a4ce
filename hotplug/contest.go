package hotplug

import (
	"slices"

	"devspool/hotplug/log"
	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// rank tells nodes.Dir how good a device's claim is to a path that others want too.
func (r *Road) rank(rec *nodes.Record) nodes.Rank {
	if !r.Sys.Mounted() {
		return nodes.Rank{}
	}
	removable, diskseq := r.Sys.Plugged(rec.Devpath)
	return nodes.Rank{Removable: removable, Diskseq: diskseq, Gone: !r.census.Has(rec.Devpath, rec.Dev())}
}

// warn logs paths that a device does not get, and which lines of the config want them.
func (r *Road) warn(conflicts []nodes.Conflict) {
	for _, c := range conflicts {
		line := r.Dev.Path() + "/" + c.Path
		if c.Holder == nil {
			r.Log.Print(log.Notice, line+" is left alone: something is mounted there, in the way of "+r.claim(c.Loser, c.Path))
			continue
		}
		line = "two devices want " + line + ": " + r.claim(c.Holder, c.Path) + " has it, " + r.claim(c.Loser, c.Path)
		if slices.Contains(c.Loser.Links, c.Path) {
			line += " goes without"
		} else {
			line += " is at " + r.Dev.Path() + "/" + c.Loser.Name()
		}
		r.Log.Print(log.Warning, line+" (give them different paths, for example with %0)")
	}
}

// claim names a device, and the line of the config that gives it path.
func (r *Road) claim(rec *nodes.Record, path string) string {
	e, err := r.eventOf(rec)
	if err != nil {
		return rec.Devpath
	}
	p := r.Rules.Plan(e)
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

// eventOf returns an add of a device on record. Where there is no sysfs to ask, the
// record says who it is.
func (r *Road) eventOf(rec *nodes.Record) (*uevent.Event, error) {
	e, err := r.Sys.Event(uevent.Add, rec.Devpath)
	if err != nil && !r.Sys.Mounted() {
		e, err = eventOf(uevent.Add, rec)
	}
	return e, err
}
