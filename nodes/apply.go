package nodes

import (
	"errors"
	"slices"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
	"devspool/hotplug/uevent"
)

// journalPath is the journal's file, for messages.
const journalPath = Private + "/record"

// put writes a record before what it tells of is made.
func (d *Dir) put(r *Record) error { return wrap("write", journalPath, d.journal.Put(r)) }

// recordOf returns the record that p leads to.
func recordOf(p *Plan) Record {
	e := p.Event
	r := Record{ID: e.ID(), Devpath: e.Devpath, Subsystem: e.Subsystem, Devname: e.Devname}
	if e.Dev.Block {
		r.Diskseq, _ = e.Get(diskseq)
	}
	for i := range p.Nodes {
		r.Nodes = append(r.Nodes, p.Nodes[i].Path)
	}
	for i := range p.Links {
		r.Links = append(r.Links, p.Links[i].Path)
	}
	return r
}

// Records returns all records, in no order. /dev must be locked.
func (d *Dir) Records() []Record { return d.journal.All() }

// Prepare puts on record what Plans are about to make for devices that have nothing
// yet, all at once: carrying out the Plans then takes no writing for that. What was
// prepared and is not made until UnlockDev is taken back. /dev must be locked.
func (d *Dir) Prepare(plans []*Plan) {
	var records []Record
	for _, p := range plans {
		if p.Work == Create {
			records = append(records, recordOf(p))
		}
	}
	d.journal.Prepare(records)
}

// Apply carries out what p says of nodes and links. Existed is true where the
// record says that the device was set up before. /dev must be locked.
//
// What cannot be done does not keep the rest from being done; the errors are
// joined, each an *Error. Paths that the device does not get, since another one
// has the better claim or something is mounted there, are no errors: see p.Lost.
func (d *Dir) Apply(p *Plan) (existed bool, err error) {
	switch {
	case p.Late:
		return d.late(p), nil
	case p.Work == Create:
		return d.create(p)
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

// faults gathers errors.
type faults []error

func (f *faults) add(err error) {
	if err != nil {
		*f = append(*f, err)
	}
}

// inTheWay reports whether something of another kind stood in a place.
func (f faults) inTheWay() bool {
	return slices.ContainsFunc(f, func(err error) bool {
		return errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.EISDIR) ||
			errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENOTEMPTY)
	})
}

// create makes the nodes and links of p, and removes what else the device had.
func (d *Dir) create(p *Plan) (existed bool, err error) {
	want := recordOf(p)
	was := d.journal.Get(want.ID)
	existed = was != nil
	known := existed || d.journal == nil // without a journal a look comes first too
	now, old := want, Record{}
	changed := existed && !d.journal.Holds(&want)
	if changed {
		// Until the old paths are gone both are on record.
		old = *was
		existed = isSameInstance(&want, &old)
		if p.Again {
			want.State = old.State
		}
		now = want
		now.Old = union(union(without(old.Nodes, want.Nodes), without(old.Links, want.Links)), old.Old)
		now.Shared = old.Shared
	}
	d.claims.uncontest = nil
	var errs faults
	if was == nil || changed {
		errs.add(d.put(&now))
	}
	making := d.makeAll(p, &now, known)
	d.removeOld(p, &want, &old, &errs)
	if making.inTheWay() {
		// What the device had itself was in the way: a node where a directory
		// is to be, or the reverse. It is gone now.
		making = d.makeAll(p, &now, known)
	}
	errs = append(errs, making...)
	if changed {
		for _, path := range without(now.Shared, d.claims.uncontest) {
			if wants(&want, path) || path == ownPath(&want) {
				want.Shared = append(want.Shared, path)
			}
		}
		errs.add(d.put(&want))
	}
	return existed, errors.Join(errs...)
}

// makeAll makes the nodes and links of p, as far as the device may have them.
func (d *Dir) makeAll(p *Plan, r *Record, known bool) (errs faults) {
	p.Lost = nil
	var missing []string
	makeNode := func(n *Node, known bool) {
		lost, err := d.makeNode(n, r, known)
		if lost {
			p.Lost = append(p.Lost, n.Path)
		}
		if err != nil {
			errs = append(errs, err)
			missing = append(missing, n.Path)
		}
	}
	for i := range p.Nodes {
		makeNode(&p.Nodes[i], known)
	}
	actual := p.Actual()
	for i := range actual.Nodes {
		if n := &actual.Nodes[i]; actual != p && !p.hasNode(n.Path) {
			makeNode(n, true) // at its own name
		}
	}
	for i := range actual.Links {
		l := &actual.Links[i]
		if slices.Contains(missing, l.Target) || slices.Contains(p.Lost, l.Target) {
			continue // no link without its node
		}
		lost, err := d.makeLink(l, r, known)
		if lost {
			p.Lost = append(p.Lost, l.Path)
		}
		errs.add(err)
	}
	return errs
}

// removeOld removes what the device had and p does not give it, and the node
// that devtmpfs made under its own name where p puts it elsewhere. A path that the
// device lost is left to the one that has it.
func (d *Dir) removeOld(p *Plan, want, old *Record, errs *faults) {
	has := *want
	if len(p.Lost) > 0 {
		has = recordOf(p.Actual())
	}
	keeps := func(path string) bool { return wants(&has, path) || p.lost(path) }
	name := Name(p.Event)
	paths := union(old.Nodes, old.Old)
	for _, path := range union(old.Links, old.Old) {
		if !keeps(path) {
			errs.add(d.tree.removeLink(path, append(slices.Clip(paths), name)))
			d.release(old, path)
		}
	}
	for _, path := range paths {
		if !keeps(path) {
			_, err := d.tree.removeNode(path, p.Event.Dev)
			errs.add(err)
			d.release(old, path)
		}
	}
	if len(has.Nodes) > 0 && CleanPath(name) && !keeps(name) {
		removed, err := d.tree.removeNode(name, p.Event.Dev)
		errs.add(err)
		if removed {
			d.release(old, name)
		}
	}
}

// remove removes the nodes and links of the device.
func (d *Dir) remove(p *Plan) (existed bool, err error) {
	e := p.Event
	want := recordOf(p)
	r := &want
	var was *Record
	if e.Dev.IsZero() {
		was = d.journal.At(e.Devpath)
	} else {
		was = d.journal.Get(want.ID)
	}
	if existed = was != nil; existed {
		r = was
	}
	if r.Devpath != e.Devpath {
		return false, nil // these numbers are another device's by now, and so is the node
	}
	dev := e.Dev
	if dev.IsZero() {
		dev = r.Dev()
	}
	if dev.IsZero() {
		d.journal.Delete(r.ID)
		return existed, nil
	}
	nodes := union(r.Nodes, want.Nodes)
	if len(r.Shared) > 0 {
		d.Locate(p)
		if own := ownPath(r); own != "" {
			nodes = union(nodes, []string{own}) // where it was if it lost another path
		}
	}
	return existed, d.wipe(r, dev, nodes, union(r.Links, want.Links))
}

// wipe removes nodes of dev and links to them, what r says it is to have no longer,
// and then its record r.
func (d *Dir) wipe(r *Record, dev uevent.Dev, nodes, links []string) error {
	nodes = union(nodes, r.Old)
	var errs faults
	for _, path := range union(links, r.Old) {
		errs.add(d.tree.removeLink(path, nodes))
		d.release(r, path)
	}
	for _, path := range nodes {
		_, err := d.tree.removeNode(path, dev)
		errs.add(err)
		d.release(r, path)
	}
	if len(errs) == 0 {
		d.journal.Delete(r.ID)
	} else if d.journal.Has(r.ID) { // the next scan tries again
		r.State = Ended
		d.journal.PutLater(r)
	}
	return errors.Join(errs...)
}

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

// tries is how often a thing is made anew when the kernel, which changes
// devtmpfs beside us, removed what stood there or the directory above it.
const tries = 10

// attempt makes what is to be at path by try, unless the path is lost: another device
// has the better claim to it, or something is mounted there. Known says that it was made
// before, so that a look comes before the attempt.
func (d *Dir) attempt(path string, r *Record, known bool, try func(dir parent, known bool) (lost bool, err error)) (lost bool, err error) {
	for range tries {
		var dir parent
		if dir, err = d.tree.parent(path, true); err != nil {
			err = wrap("open the directory of", path, err)
		} else {
			if len(r.Shared) > 0 { // else nobody was met who wants one of its paths
				lost, err = d.resolveConflict(path, r)
			}
			if !lost && err == nil {
				lost, err = try(dir, known)
			}
			dir.close()
		}
		if !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ESTALE) {
			break
		}
		known = false
	}
	if errors.Is(err, unix.EXDEV) || errors.Is(err, unix.EBUSY) {
		return true, d.leaveAlone(path, r)
	}
	return lost, err
}

// makeNode makes n a node of the device of r with its owner and mode, whatever stood there.
func (d *Dir) makeNode(n *Node, r *Record, known bool) (lost bool, err error) {
	dev := r.Dev()
	return d.attempt(n.Path, r, known, func(dir parent, known bool) (lost bool, err error) {
		if !known {
			if err := d.tree.create(dir, n, dev); err != unix.EEXIST {
				return false, wrap("mknod", n.Path, err)
			}
		}
		var st unix.Statx_t
		if err := sys.Stat(dir.fd, dir.name, unix.AT_SYMLINK_NOFOLLOW, &st); err != nil {
			return false, wrap("stat", n.Path, err)
		}
		is := isNodeOf(&st, dev)
		switch {
		case d.tree.isMountedOver(&st):
			return !is, d.leaveAlone(n.Path, r)
		case is:
			return false, wrap("chown or chmod", n.Path, d.tree.fixAttributes(dir, n, dev, &st))
		}
		lost, err = d.takeOver(dir, n.Path, r, &st)
		if !lost && err == nil {
			err = wrap("replace", n.Path, d.tree.makeNode(dir, n, dev, true))
		}
		return lost, err
	})
}

// makeLink makes l, whatever stood there, unless it is a directory.
func (d *Dir) makeLink(l *Link, r *Record, known bool) (lost bool, err error) {
	return d.attempt(l.Path, r, known, func(dir parent, known bool) (lost bool, err error) {
		text := Relative(l.Path, l.Target)
		d.tree.setGroup(d.tree.gid)
		if !known {
			if err := unix.Symlinkat(text, dir.fd, dir.name); err != unix.EEXIST {
				return false, wrap("symlink", l.Path, err)
			}
		}
		if is, err := sys.ReadLinkAt(dir.fd, dir.name); err == nil && is == text {
			return false, nil
		}
		var st unix.Statx_t
		if err := sys.Stat(dir.fd, dir.name, unix.AT_SYMLINK_NOFOLLOW, &st); err != nil {
			return false, wrap("stat", l.Path, err)
		}
		if d.tree.isMountedOver(&st) {
			return true, d.leaveAlone(l.Path, r)
		}
		lost, err = d.takeOver(dir, l.Path, r, &st)
		if !lost && err == nil {
			err = wrap("replace", l.Path, d.tree.replaceLink(dir, text))
		}
		return lost, err
	})
}

// takeOver makes ready to put something in the place of what st is of, if the device
// of r may have path.
func (d *Dir) takeOver(dir parent, path string, r *Record, st *unix.Statx_t) (lost bool, err error) {
	if isNodeOf(st, r.Dev()) {
		return false, nil // its own, of devtmpfs or of other rules
	}
	if lost, err = d.resolveConflict(path, r); !lost && err == nil {
		d.displace(dir, path, nodeDev(st).String())
	}
	return lost, err
}

// leaveAlone notes that something is mounted on a path of the device of r.
func (d *Dir) leaveAlone(path string, r *Record) error {
	d.claims.uncontest = without(d.claims.uncontest, []string{path})
	return d.share(path, nil, r)
}
