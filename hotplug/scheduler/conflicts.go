package scheduler

import (
	"slices"
	"strconv"
	"strings"

	"devspool/hotplug/log"
	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// rank tells nodes.Dir how strong the claim of a device is to a path that others want too.
func (a *applier) rank(rec *nodes.Record) nodes.Rank {
	// Nothing can be said of devices before /sys is mounted: all claims are equal.
	if !a.sys.Mounted() {
		return nodes.Rank{}
	}
	removable, diskseq := a.sys.Plugged(rec.Devpath)
	return nodes.Rank{Removable: removable, Diskseq: diskseq, Gone: !a.dev.presence.Has(rec.Devpath, rec.Dev())}
}

// warnConflicts logs the paths that devices did not get since the last call, and which lines
// of the config ask for them.
func (a *applier) warnConflicts() {
	for _, c := range a.dev.Conflicts() {
		line := a.dev.Path() + "/" + c.Path
		if c.Holder == nil {
			a.log.Print(log.Notice, line+" is left alone: something is mounted there, in the way of "+a.claimant(c.Loser, c.Path))
			continue
		}
		has, it := c.Path, "it"
		if name := nodes.NameOf(c.Holder); strings.HasPrefix(c.Path, name+"/") { // where a directory would have to be
			has, it = name, a.dev.Path()+"/"+name
		}
		line = "two devices want " + line + ": " + a.claimant(c.Holder, has) + " has " + it + ", " + a.claimant(c.Loser, c.Path)
		// A link can be done without. A node cannot, and gets the kernel's name.
		if slices.Contains(c.Loser.Links, c.Path) {
			line += " goes without"
		} else {
			line += " is at " + a.dev.Path() + "/" + nodes.NameOf(c.Loser)
		}
		a.log.Print(log.Warning, line+" (give them different paths, for example with %0)")
	}
}

// claimant names a device, and the line of the config that gives it path: where both lines are the
// same, the path in it does not tell the devices apart.
func (a *applier) claimant(rec *nodes.Record, path string) string {
	e, err := a.addOf(rec)
	if err != nil {
		return rec.Devpath
	}
	p := a.planAgain(e)
	var rule nodes.Origin
	for i := range p.Links {
		if l := &p.Links[i]; l.Path == path {
			rule = l.Rule
		}
	}
	for i := range p.Nodes {
		if n := &p.Nodes[i]; n.Path == path {
			rule = n.Rule
		}
	}
	return rec.Devpath + " (" + rule.String() + ")"
}

// addOf returns an add event of a device on record, by what /sys says of it. Before sysfs
// is mounted the record has to do.
func (a *applier) addOf(rec *nodes.Record) (*uevent.Event, error) {
	e, err := a.sys.Event(uevent.Add, rec.Devpath)
	if err != nil && !a.sys.Mounted() {
		e, err = EventOf(uevent.Add, rec)
	}
	return e, err
}

// EventOf makes an event of a device from its record alone. It returns an error where the
// record has no devpath that an event can have.
func EventOf(action string, rec *nodes.Record) (*uevent.Event, error) {
	env := []string{"ACTION=" + action, "DEVPATH=" + rec.Devpath}
	add := func(key, value string) {
		if value != "" {
			env = append(env, key+value)
		}
	}
	add("SUBSYSTEM=", rec.Subsystem)
	if dev := rec.Dev(); !dev.IsZero() {
		add("MAJOR=", strconv.Itoa(int(dev.Major)))
		add("MINOR=", strconv.Itoa(int(dev.Minor)))
	}
	add("DEVNAME=", rec.Devname)
	add("DISKSEQ=", rec.Diskseq)
	return uevent.FromEnviron(env)
}
