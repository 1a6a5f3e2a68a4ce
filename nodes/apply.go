package nodes

import (
	"slices"

	"devspool/hotplug/uevent"
)

// journalPath is the journal's file, for messages.
const journalPath = Private + "/record"

// put writes a record before what it tells of is made: after a crash in between, what stands there may
// be less than the records say, and never more.
func (d *Dir) put(r *Record) error { return wrap("write", journalPath, d.journal.Put(r)) }

// recordOf returns the record that p leads to.
func recordOf(p *Plan) Record {
	e := p.Event
	r := Record{ID: e.ID(), Devpath: e.Devpath, Subsystem: e.Subsystem, Devname: e.Devname}
	if e.Dev.Block {
		r.Diskseq, _ = e.Get(diskseq)
	}
	all := make([]string, len(p.Nodes)+2*len(p.Links)) // one piece of memory: each event has some
	r.Nodes, all = all[:len(p.Nodes):len(p.Nodes)], all[len(p.Nodes):]
	r.Links, r.Names = all[:0:len(p.Links)], all[len(p.Links):len(p.Links)]
	for i := range p.Nodes {
		r.Nodes[i] = p.Nodes[i].Path
	}
	for i := range p.Links {
		l := &p.Links[i]
		r.AddLink(l.Path, l.Name, l.Priority)
	}
	return r
}

// Records returns all records, in no order. /dev must be locked.
func (d *Dir) Records() []*Record { return d.journal.All() }

// Prepare notes what Plans are about to make for devices that have nothing yet: the first
// Apply puts all of that on record at once, and the others need no writing for it. What
// is not made until UnlockDev is taken back. /dev must be locked.
func (d *Dir) Prepare(plans []*Plan) {
	for _, p := range plans {
		if p.Work == Create && !d.journal.Has(p.Event.ID()) {
			r := recordOf(p)
			d.journal.Prepare(&r)
		}
	}
}

// Apply carries out what p says of nodes and links. Existed is true where the
// record says that the device was set up before. /dev must be locked; directories that are
// empty by it go at UnlockDev.
//
// What cannot be done does not keep the rest from being done; the errors are
// joined, each an *Error. Paths that the device does not get, since another one
// has the better claim or something is mounted there, are no errors: see p.Lost.
func (d *Dir) Apply(p *Plan) (existed bool, err error) {
	switch {
	case p.Late:
		return d.late(p), nil
	case p.Work == Create:
		return (&creation{dir: d, plan: p}).run()
	case p.Work == Remove:
		return d.remove(p)
	case p.Event.Action == uevent.Add && asksExists(p):
		return d.note(p)
	case p.Event.Action == uevent.Move:
		return false, d.rename(p.Event)
	case p.Event.Action == uevent.Remove:
		d.journal.Delete(p.Event.ID()) // it has no numbers
	case p.Event.Action == uevent.Change:
		d.changeDisk(p.Event)
	}
	return false, nil
}

// asksExists reports whether a command of p asks if its device was set up before.
func asksExists(p *Plan) bool {
	for i := range p.Commands {
		if p.Commands[i].Exists != ExistsRun {
			return true
		}
	}
	return false
}

// note records a device that has no node, for commands that ask if it was set up before.
func (d *Dir) note(p *Plan) (existed bool, err error) {
	r := recordOf(p)
	if old := d.Recorded(p.Event); old != nil {
		if existed = isSameInstance(&r, old); old.ID != r.ID {
			return existed, nil // it has numbers, which the event does not tell
		}
	}
	return existed, d.put(&r)
}

// rename moves the record of a device that has no node, or whose move comes too late
// for that, to its new name.
func (d *Dir) rename(e *uevent.Event) error {
	old, moved := e.Get("DEVPATH_OLD")
	if !moved {
		return nil
	}
	r := d.journal.At(old)
	if r == nil || r.Dev() != e.Dev {
		return nil
	}
	if e.Dev.IsZero() {
		d.journal.Delete(r.ID)
		r.ID = e.ID()
	}
	r.Devpath = e.Devpath
	return d.put(r)
}

// remove removes the nodes and links of the device.
func (d *Dir) remove(p *Plan) (existed bool, err error) {
	e := p.Event
	want := recordOf(p)
	r := &want
	if e.Dev.IsZero() {
		if found := d.journal.At(e.Devpath); found != nil {
			r, existed = found, true
		}
	} else if existed = d.journal.Has(want.ID); existed && !d.journal.Holds(&want) {
		// The record says what was made. What rules say now may be another thing, by another config
		// or by what the event leaves out.
		r = d.journal.Get(want.ID)
	}
	if r.Devpath != e.Devpath {
		return false, nil // these numbers are another device's by now, and so is the node
	}
	// A remove without numbers, as a script may send it, is about what the record says.
	dev := e.Dev
	if dev.IsZero() {
		dev = r.Dev()
	}
	if dev.IsZero() {
		d.journal.Delete(r.ID)
		return existed, nil
	}
	all := *r
	all.Nodes, all.Links = union(r.Nodes, want.Nodes), union(r.Links, want.Links)
	unknown := want.Links // which by their texts may be another's
	if existed {
		unknown = without(want.Links, r.Links)
	}
	all.Shared = union(r.Shared, unknown)
	if len(r.Shared) > 0 {
		d.Locate(p)
		if own := ownPath(r); own != "" {
			all.Nodes = union(all.Nodes, []string{own}) // where it was if it lost another path
		}
	}
	return existed, d.wipe(&all, dev)
}

// wipe removes nodes of dev and links to them from all paths of the record r, and then r.
func (d *Dir) wipe(r *Record, dev uevent.Dev) error {
	var errs faults
	for _, path := range pathsOf(r) {
		if others, _ := d.claims.handOver(r, path); !others {
			_, err := d.tree.remove(path, dev, targetsOf(r))
			errs.add(err)
		}
		d.claims.release(r, path)
	}
	if len(errs) == 0 {
		d.journal.Delete(r.ID)
	} else if d.journal.Has(r.ID) { // the next scan tries again
		r.State = Ended
		d.journal.PutLater(r)
	}
	return errs.join()
}

// pathsOf returns all paths at which something of the device of r may be, links first: when they are
// removed in this order no link is left without its node.
func pathsOf(r *Record) []string { return union(union(r.Links, r.Nodes), r.Old) }

// union returns a and what of b is not in a.
func union(a, b []string) []string {
	all := slices.Clip(a)
	for _, s := range b {
		if !slices.Contains(a, s) {
			all = append(all, s)
		}
	}
	return all
}

// without returns what of a is not in b.
func without(a, b []string) (rest []string) {
	for _, s := range a {
		if !slices.Contains(b, s) {
			rest = append(rest, s)
		}
	}
	return rest
}
