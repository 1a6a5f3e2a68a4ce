package nodes

import (
	"slices"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
)

// creation carries out a Plan whose Work is Create.
type creation struct {
	dir    *Dir
	plan   *Plan
	record Record   // what is on record meanwhile: what the device is to have, and still has
	known  bool     // something may stand there already, so a look comes before each attempt
	alone  []string // shared paths of the device that no other wants any more
	yields bool     // where something is in the way of a node for good, it stands at its own name
}

// run makes the nodes and links of the Plan, and removes what else the device had.
func (c *creation) run() (existed bool, err error) {
	d := c.dir
	want, old := recordOf(c.plan), Record{}
	existed = d.journal.Has(want.ID)
	// Without a journal nothing says what stands there.
	c.known = existed || d.journal == nil
	c.record = want
	changed := existed && !d.journal.Holds(&want)
	if changed {
		// Until the old paths are gone both are on record.
		old = *d.journal.Get(want.ID)
		existed = isSameInstance(&want, &old)
		if c.plan.Again {
			want.State = old.State
		}
		c.record = want
		// A link where a node was counts as old too: other links may still lead there.
		c.record.Old = union(union(without(old.Nodes, want.Nodes), without(old.Links, want.Links)), old.Old)
		c.record.Shared = old.Shared
	}
	var errs faults
	if changed || !d.journal.Has(want.ID) {
		errs.add(d.put(&c.record))
	}
	// What is new is made before the old goes: a device whose node moves has one at any time, unless its
	// own old one is in the way.
	making := c.makeAll()
	old.Shared = c.record.Shared // makeAll may have found more of them
	c.removeOld(&want, &old, &errs)
	if making.inTheWay() {
		// What the device had itself was in the way: a node where a directory
		// is to be, or the reverse. It is gone now.
		d.tree.forget()
		making = c.makeAll()
	}
	if making.inTheWay() {
		c.yields = true
		making = c.makeAll()
	}
	for _, err := range making {
		// A name is not worth an error where something stands in its way.
		if e, is := err.(*Error); !is || !isInTheWay(err) || !want.IsName(e.Path) {
			errs.add(err)
		}
	}
	if changed {
		for _, path := range without(c.record.Shared, c.alone) {
			if wants(&want, path) || path == ownPath(&want) || isBelow(path, ownPath(&want)) {
				want.Shared = append(want.Shared, path)
			}
		}
		d.tree.forget() // what nothing on record leads to goes first
		errs.add(d.put(&want))
	}
	return existed, errs.join()
}

// makeAll makes the nodes and links of the Plan, as far as the device may have them.
func (c *creation) makeAll() (errs faults) {
	p := c.plan
	p.Lost = nil
	var missing []string
	for i := range p.Nodes {
		c.makeNode(&p.Nodes[i], &missing, &errs)
	}
	actual := p.Actual()
	for i := range actual.Nodes {
		if n := &actual.Nodes[i]; actual != p && !p.hasNode(n.Path) {
			c.known = true
			c.makeNode(n, &missing, &errs) // at its own name
		}
	}
	for i := range actual.Links {
		l := &actual.Links[i]
		if slices.Contains(missing, l.Target) || p.lost(l.Target) {
			continue // no link without its node
		}
		errs.add(c.make(l.Path, nil, l))
	}
	return errs
}

// makeNode makes a node, and notes in missing where it could not: no link is to lead there.
func (c *creation) makeNode(n *Node, missing *[]string, errs *faults) {
	if err := c.make(n.Path, n, nil); err != nil {
		errs.add(err)
		*missing = append(*missing, n.Path)
	}
}

// removeOld removes what the device had and the Plan does not give it, and the node
// that devtmpfs made under its own name where the Plan puts it elsewhere. A path that the
// device lost is left to the one that has it; but where that is a link, what stands there
// and leads to where the node is no longer goes.
func (c *creation) removeOld(want, old *Record, errs *faults) {
	d, p := c.dir, c.plan
	has := want
	if len(p.Lost) > 0 {
		r := recordOf(p.Actual())
		has = &r
	}
	name := Name(p.Event)
	paths, targets := pathsOf(old), append(union(old.Nodes, old.Old), name)
	if len(has.Nodes) > 0 && CleanPath(name) {
		paths = append(paths, name)
	}
	for _, path := range paths {
		isAbove := p.lost(path) && d.claims.ownerAbove(path, want, nil, false) != nil // and has no other use for it
		if wants(has, path) || p.lost(path) && !isAbove && (p.hasNode(path) || !d.tree.has(path, p.Event.Dev, without(targets, has.Nodes))) {
			continue
		}
		others, removed := d.claims.handOver(old, path)
		if !others {
			var err error
			removed, err = d.tree.remove(path, p.Event.Dev, targets)
			errs.add(err)
		}
		if removed || !others && path != name && !isAbove {
			d.claims.release(old, path)
		}
	}
}

// tries is how often a thing is made anew when the kernel, which changes
// devtmpfs beside us, removed what stood there or the directory above it.
const tries = 10

// make makes the node n at path, or else the link l, unless the path is lost: another
// device has the better claim to it, or something is mounted there.
func (c *creation) make(path string, n *Node, l *Link) (err error) {
	lost, known := false, c.known
	for range tries {
		lost, err = c.try(path, n, l, known)
		// The kept parent may have gone, or be what is in the way though it is empty.
		why := failure(err)
		gone := why == unix.ENOENT || why == unix.ESTALE
		if !gone && !isInTheWay(err) || !c.dir.tree.forget() && !gone {
			break
		}
		// The next try makes it before it looks: what was seen may be gone.
		known = false
	}
	if why := failure(err); why == unix.EXDEV || why == unix.EBUSY {
		lost, err = true, c.leaveAlone(path)
	} else if (l != nil || c.yields && path != Name(c.plan.Event)) && isInTheWay(err) {
		lost = true // and an error
		if n != nil {
			c.alone = without(c.alone, []string{path})
			_ = c.dir.claims.markShared(path, nil, &c.record) // so that a remove looks at its own name
		}
	}
	if lost {
		c.plan.Lost = append(c.plan.Lost, path)
	}
	return err
}

// try makes it once, with its owner and mode, whatever stands there but a directory. A link
// that is not forced takes the place of what is ours, and of nothing else. Where known is set
// something is there already, so a look comes first.
func (c *creation) try(path string, n *Node, l *Link, known bool) (lost bool, err error) {
	t, dev := &c.dir.tree, c.plan.Event.Dev
	careful := l != nil && !l.Forced
	// Else no other device was met who wants one of its paths, or wants this link, or may
	// have a link of the same text.
	shared := c.record.Shared
	asks := len(shared) > 0 && (!careful || slices.Contains(shared, path) || slices.Contains(shared, l.Target))
	if l != nil && known && !asks && t.isRight(path, l.Target) {
		return false, nil
	}
	// First, since a directory that is made for nothing could be in another device's way.
	if asks {
		if lost, err = c.resolve(path); lost || err != nil {
			return lost, err
		}
	}
	dir, err := t.parent(path, true)
	if err != nil {
		err = wrap("open the directory of", path, err)
		if isInTheWay(err) {
			if owner := c.dir.claims.ownerAbove(path, &c.record, nil, true); owner != nil {
				return true, c.dir.claims.share(path, owner, &c.record)
			}
		}
		return false, err
	}
	var in *keptParent // of a link
	if l != nil {
		dir = t.keep(path, dir)
		in = t.keptOf(dir)
	}
	defer dir.close()
	text := ""
	if l != nil {
		if known && in != nil && in.targets[path] == l.Target { // and is right
			return false, nil
		}
		text = Relative(path, l.Target)
	}
	if !known {
		if err := t.create(dir, n, dev, text); err != unix.EEXIST {
			op := "mknod"
			if n == nil {
				op = "symlink"
			}
			return false, wrap(op, path, err)
		}
	}
	is := "" // the text of the link that stands there
	if l != nil {
		if is, err = sys.ReadLinkAt(dir.fd, dir.name); err == nil && is == text {
			in.addRight(path, l.Target)
			return false, nil
		}
	}
	var st unix.Statx_t
	if err := sys.Stat(dir.fd, dir.name, unix.AT_SYMLINK_NOFOLLOW, &st); err != nil {
		return false, wrap("stat", path, err)
	}
	there := nodeDev(&st)
	switch {
	// Where a node of the same device is mounted there, its path is not lost.
	case t.isMountedOver(&st):
		return n == nil || there != dev, c.leaveAlone(path)
	case there != dev:
		if lost, err = c.resolve(path); lost || err != nil {
			return lost, err
		}
		if st.Mode&unix.S_IFMT == unix.S_IFDIR && c.dir.claims.clear(path, &c.record) {
			return true, nil // until those have moved
		}
		if careful {
			ours, leaves := c.dir.claims.isOurs(path, is, there)
			switch {
			case !ours:
				return false, wrap("symlink", path, unix.EEXIST)
			case leaves != nil:
				return true, c.dir.claims.markShared(path, leaves, &c.record)
			}
		}
		c.dir.claims.displace(dir, path, there.String())
	case n != nil:
		return false, wrap("chown or chmod", path, t.fixAttributes(dir, n, dev, &st))
	} // else its own node, of devtmpfs or of other rules, where a link is to be
	return false, wrap("replace", path, t.replace(dir, n, dev, text))
}

// resolve finds out whether the device lost path to another one.
func (c *creation) resolve(path string) (lost bool, err error) {
	other, lost, err := c.dir.claims.resolve(path, &c.record)
	if other == nil {
		c.alone = append(c.alone, path)
	}
	return lost, err
}

// leaveAlone notes that something is mounted on path, which the device does not get.
func (c *creation) leaveAlone(path string) error {
	c.alone = without(c.alone, []string{path})
	return c.dir.claims.share(path, nil, &c.record)
}
