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
}

// run makes the nodes and links of the Plan, and removes what else the device had.
func (c *creation) run() (existed bool, err error) {
	d := c.dir
	want, old := recordOf(c.plan), Record{}
	existed = d.journal.Has(want.ID)
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
		c.record.Old = union(union(without(old.Nodes, want.Nodes), without(old.Links, want.Links)), old.Old)
		c.record.Shared = old.Shared
	}
	var errs faults
	if changed || !d.journal.Has(want.ID) {
		errs.add(d.put(&c.record))
	}
	making := c.makeAll()
	c.removeOld(&want, &old, &errs)
	if making.inTheWay() {
		// What the device had itself was in the way: a node where a directory
		// is to be, or the reverse. It is gone now.
		making = c.makeAll()
	}
	errs = append(errs, making...)
	if changed {
		for _, path := range without(c.record.Shared, c.alone) {
			if wants(&want, path) || path == ownPath(&want) {
				want.Shared = append(want.Shared, path)
			}
		}
		errs.add(d.put(&want))
	}
	return existed, errs.join()
}

// makeAll makes the nodes and links of the Plan, as far as the device may have them.
func (c *creation) makeAll() (errs faults) {
	p := c.plan
	p.Lost = nil
	var missing []string
	makeNode := func(n *Node) {
		lost, err := c.makeNode(n)
		if lost {
			p.Lost = append(p.Lost, n.Path)
		}
		if err != nil {
			errs = append(errs, err)
			missing = append(missing, n.Path)
		}
	}
	for i := range p.Nodes {
		makeNode(&p.Nodes[i])
	}
	actual := p.Actual()
	for i := range actual.Nodes {
		if n := &actual.Nodes[i]; actual != p && !p.hasNode(n.Path) {
			c.known = true
			makeNode(n) // at its own name
		}
	}
	for i := range actual.Links {
		l := &actual.Links[i]
		if slices.Contains(missing, l.Target) || slices.Contains(p.Lost, l.Target) {
			continue // no link without its node
		}
		lost, err := c.makeLink(l)
		if lost {
			p.Lost = append(p.Lost, l.Path)
		}
		errs.add(err)
	}
	return errs
}

// removeOld removes what the device had and the Plan does not give it, and the node
// that devtmpfs made under its own name where the Plan puts it elsewhere. A path that the
// device lost is left to the one that has it.
func (c *creation) removeOld(want, old *Record, errs *faults) {
	d, p := c.dir, c.plan
	has := *want
	if len(p.Lost) > 0 {
		has = recordOf(p.Actual())
	}
	keeps := func(path string) bool { return wants(&has, path) || p.lost(path) }
	name := Name(p.Event)
	nodes := union(old.Nodes, old.Old)
	for _, path := range union(old.Links, old.Old) {
		if !keeps(path) {
			errs.add(d.tree.removeLink(path, append(slices.Clip(nodes), name)))
			d.claims.release(old, path)
		}
	}
	for _, path := range nodes {
		if !keeps(path) {
			_, err := d.tree.removeNode(path, p.Event.Dev)
			errs.add(err)
			d.claims.release(old, path)
		}
	}
	if len(has.Nodes) > 0 && CleanPath(name) && !keeps(name) {
		removed, err := d.tree.removeNode(name, p.Event.Dev)
		errs.add(err)
		if removed {
			d.claims.release(old, name)
		}
	}
}

// tries is how often a thing is made anew when the kernel, which changes
// devtmpfs beside us, removed what stood there or the directory above it.
const tries = 10

// attempt makes what is to be at path by try, unless the path is lost: another device
// has the better claim to it, or something is mounted there.
func (c *creation) attempt(path string, try func(dir parent, known bool) (lost bool, err error)) (lost bool, err error) {
	known := c.known
	for range tries {
		var dir parent
		if dir, err = c.dir.tree.parent(path, true); err != nil {
			err = wrap("open the directory of", path, err)
		} else {
			if len(c.record.Shared) > 0 { // else no other device was met who wants one of its paths
				lost, err = c.resolve(path)
			}
			if !lost && err == nil {
				lost, err = try(dir, known)
			}
			dir.close()
		}
		if why := failure(err); why != unix.ENOENT && why != unix.ESTALE {
			break
		}
		known = false
	}
	if why := failure(err); why == unix.EXDEV || why == unix.EBUSY {
		return true, c.leaveAlone(path)
	}
	return lost, err
}

// resolve finds out whether the device may have path.
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

// makeNode makes n a node of the device with its owner and mode, whatever stood there.
func (c *creation) makeNode(n *Node) (lost bool, err error) {
	t, dev := &c.dir.tree, c.plan.Event.Dev
	return c.attempt(n.Path, func(dir parent, known bool) (lost bool, err error) {
		if !known {
			if err := t.create(dir, n, dev); err != unix.EEXIST {
				return false, wrap("mknod", n.Path, err)
			}
		}
		var st unix.Statx_t
		if err := sys.Stat(dir.fd, dir.name, unix.AT_SYMLINK_NOFOLLOW, &st); err != nil {
			return false, wrap("stat", n.Path, err)
		}
		is := isNodeOf(&st, dev)
		switch {
		case t.isMountedOver(&st):
			return !is, c.leaveAlone(n.Path)
		case is:
			return false, wrap("chown or chmod", n.Path, t.fixAttributes(dir, n, dev, &st))
		}
		lost, err = c.takeOver(dir, n.Path, &st)
		if !lost && err == nil {
			err = wrap("replace", n.Path, t.makeNode(dir, n, dev, true))
		}
		return lost, err
	})
}

// makeLink makes l, whatever stood there, unless it is a directory.
func (c *creation) makeLink(l *Link) (lost bool, err error) {
	t := &c.dir.tree
	return c.attempt(l.Path, func(dir parent, known bool) (lost bool, err error) {
		text := Relative(l.Path, l.Target)
		t.setGroup(t.gid)
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
		if t.isMountedOver(&st) {
			return true, c.leaveAlone(l.Path)
		}
		lost, err = c.takeOver(dir, l.Path, &st)
		if !lost && err == nil {
			err = wrap("replace", l.Path, t.replaceLink(dir, text))
		}
		return lost, err
	})
}

// takeOver makes ready to put something in the place of what st is of, if the device
// may have path.
func (c *creation) takeOver(dir parent, path string, st *unix.Statx_t) (lost bool, err error) {
	if isNodeOf(st, c.plan.Event.Dev) {
		return false, nil // its own, of devtmpfs or of other rules
	}
	if lost, err = c.resolve(path); !lost && err == nil {
		c.dir.claims.displace(dir, path, nodeDev(st).String())
	}
	return lost, err
}
