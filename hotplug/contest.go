package hotplug

import (
	"slices"
	"strconv"
	"strings"

	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// rank tells nodes.Dir how good a device's claim is to a path that others want too.
func (r *Road) rank(rec *nodes.Record) nodes.Rank {
	if !r.Sys.Mounted() {
		return nodes.Rank{}
	}
	rank := r.Sys.rank(rec.Devpath)
	rank.Gone = !r.census.lives(rec.Devpath, rec.Dev())
	return rank
}

// rank reads from the device at devpath, and those above it, whether it can be pulled
// out, and since when its disk is there (Linux 5.15).
func (s Sysfs) rank(devpath string) (rank nodes.Rank) {
	for path := devpath; len(path) > len("/devices"); path = path[:max(0, strings.LastIndexByte(path, '/'))] {
		if text, err := readAttribute(string(s) + path + "/removable"); err == nil {
			text = strings.TrimSpace(text) // of a disk 0 or 1, of others fixed, removable or unknown
			rank.Removable = rank.Removable || text != "0" && text != "fixed"
		}
		if rank.Diskseq == 0 {
			text, _ := readAttribute(string(s) + path + "/diskseq")
			rank.Diskseq, _ = strconv.ParseUint(strings.TrimSpace(text), 10, 64)
		}
	}
	return rank
}

// warn logs paths that a device does not get, and which lines of the config want them.
func (r *Road) warn(conflicts []nodes.Conflict) {
	for _, c := range conflicts {
		path := r.Dev.Path() + "/" + c.Path
		loser := c.Loser.Devpath + r.ruleOf(c.Loser, c.Path)
		if c.Mounted {
			r.Log.Print(Notice, path+" is left alone: something is mounted there, which "+loser+" does not get past")
			continue
		}
		does := " goes without it"
		if own := c.Loser.Name(); slices.Contains(c.Loser.Nodes, c.Path) && own != c.Path {
			does = " has its node at " + r.Dev.Path() + "/" + own + " instead"
		}
		r.Log.Print(Warning, "two devices want "+path+": "+c.Holder.Devpath+r.ruleOf(c.Holder, c.Path)+" has it, "+
			loser+does+" (give them different paths, for example with %0)")
	}
}

// ruleOf names the line of the config that gives path to a device, in parentheses.
func (r *Road) ruleOf(rec nodes.Record, path string) string {
	e, err := r.Sys.Event(uevent.Add, rec.Devpath)
	if err != nil || e.Dev != rec.Dev() {
		e, err = eventOf(uevent.Add, rec)
	}
	if err != nil {
		return ""
	}
	p := r.Rules.Plan(e)
	for _, n := range p.Nodes {
		if n.Path == path {
			return " (" + n.Rule.String() + ")"
		}
	}
	for _, l := range p.Links {
		if l.Path == path {
			return " (" + l.Rule.String() + ")"
		}
	}
	return ""
}
