package nodes

import (
	"errors"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
	"devspool/hotplug/uevent"
)

// Apply carries out what p says of nodes and links. Existed tells whether the
// record says that the device was set up before. The lock must be held.
//
// What cannot be done does not keep the rest from being done; the errors come
// back joined, each an *Error. Paths that the device does not get, since another one
// has the better claim or something is mounted there, are no errors: see p.Lost.
func (d *Dir) Apply(p *Plan) (existed bool, err error) {
	switch {
	case p.Late:
		return d.late(p), nil
	case p.Work == Make:
		return d.make(p)
	case p.Work == Clear:
		return d.clear(p)
	case p.Event.Action == uevent.Add && guarded(p):
		return d.note(p)
	case p.Event.Action == uevent.Move:
		return false, d.rename(p.Event)
	case p.Event.Action == uevent.Remove:
		d.forget(p.Event.ID()) // it has no numbers
	case p.Event.Action == uevent.Change:
		d.follow(p.Event)
	}
	return false, nil
}

// guarded reports whether a command of p asks if its device was set up before.
func guarded(p *Plan) bool {
	return slices.ContainsFunc(p.Commands, func(c Command) bool { return c.Exists != ExistsRun })
}

// note records a device that has no node, for its guarded commands.
func (d *Dir) note(p *Plan) (existed bool, err error) {
	r := recordOf(p)
	if old := d.Recorded(p.Event); old != nil {
		if existed = r.follows(old); old.ID != r.ID {
			return existed, nil // it has numbers, which the event does not tell
		}
	}
	return existed, d.remember(&r)
}

// rename moves the record of a device that has no node, or whose move comes too late
// for that, to its new name.
func (d *Dir) rename(e *uevent.Event) error {
	old, moved := e.Get("DEVPATH_OLD")
	if !moved {
		return nil
	}
	r := d.find(old)
	if r == nil || r.Dev() != e.Dev {
		return nil
	}
	if e.Dev.IsZero() {
		d.forget(r.ID)
		r.ID = e.ID()
	}
	r.Devpath = e.Devpath
	return d.remember(r)
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

func (d *Dir) make(p *Plan) (existed bool, err error) {
	want := recordOf(p)
	was := d.recall(want.ID)
	known := was != "" || d.record.fd == sys.None // without a record a look comes first too
	now, old := want, Record{}
	existed = was != ""
	changed := existed && !want.says(was)
	if changed {
		// Until the old paths are gone both are on record.
		old = *parseRecord(want.ID, was)
		existed = want.follows(&old)
		if p.Again {
			want.State = old.State
		}
		now = want
		now.Old = union(union(without(old.Nodes, want.Nodes), without(old.Links, want.Links)), old.Old)
		now.Shared = old.Shared
	}
	var errs faults
	if was == "" || changed {
		errs.add(d.remember(&now))
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
		for _, path := range without(now.Shared, now.free) {
			if want.wants(path) || path == want.own() {
				want.Shared = append(want.Shared, path)
			}
		}
		errs.add(d.remember(&want))
	}
	return existed, errors.Join(errs...)
}

// makeAll makes the nodes and links of p, as far as the device may have them.
func (d *Dir) makeAll(p *Plan, r *Record, known bool) (errs faults) {
	p.Lost = nil
	var missing []string
	makeNode := func(n *Node, known bool) {
		lost, err := d.makeNode(n, p.Event.Dev, r, known)
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
	for _, l := range actual.Links {
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
	keeps := func(path string) bool { return has.wants(path) || p.lost(path) }
	name := Name(p.Event)
	paths := union(old.Nodes, old.Old)
	for _, path := range union(old.Links, old.Old) {
		if !keeps(path) {
			errs.add(d.removeLink(path, append(slices.Clip(paths), name)))
			d.release(old, path)
		}
	}
	for _, path := range paths {
		if !keeps(path) {
			_, err := d.removeNode(path, p.Event.Dev)
			errs.add(err)
			d.release(old, path)
		}
	}
	if len(has.Nodes) > 0 && CleanPath(name) && !keeps(name) {
		removed, err := d.removeNode(name, p.Event.Dev)
		errs.add(err)
		if removed {
			d.release(old, name)
		}
	}
}

func (d *Dir) clear(p *Plan) (existed bool, err error) {
	e := p.Event
	want := recordOf(p)
	r := want
	if e.Dev.IsZero() {
		if found := d.find(e.Devpath); found != nil {
			r, existed = *found, true
		}
	} else if was := d.recall(want.ID); was != "" {
		existed = true
		if !want.says(was) {
			r = *parseRecord(want.ID, was)
		}
	}
	if existed && r.Devpath != e.Devpath {
		return false, nil // these numbers are another device's by now, and so is the node
	}
	dev := e.Dev
	if dev.IsZero() {
		dev = r.Dev()
	}
	if dev.IsZero() {
		d.forget(r.ID)
		return existed, nil
	}
	if len(r.Shared) > 0 {
		d.Locate(p)
	}
	nodes := union(r.Nodes, want.Nodes)
	if own := r.own(); len(r.Shared) > 0 && own != "" {
		nodes = union(nodes, []string{own}) // where it was if it lost another path
	}
	return existed, d.wipe(&r, dev, nodes, union(r.Links, want.Links))
}

// wipe removes nodes of dev and links to them, what r says it is to have no longer,
// and then its record r.
func (d *Dir) wipe(r *Record, dev uevent.Dev, nodes, links []string) error {
	nodes = union(nodes, r.Old)
	var errs faults
	for _, path := range union(links, r.Old) {
		errs.add(d.removeLink(path, nodes))
		d.release(r, path)
	}
	for _, path := range nodes {
		_, err := d.removeNode(path, dev)
		errs.add(err)
		d.release(r, path)
	}
	if len(errs) == 0 {
		d.forget(r.ID)
	} else if d.recall(r.ID) != "" { // the next scan tries again
		r.State = Ended
		d.jot(r)
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
		if dir, err = d.parent(path, true); err != nil {
			err = wrap("open the directory of", path, err)
		} else {
			if len(r.Shared) > 0 {
				lost, err = d.contest(path, r)
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

// makeNode makes n a node of dev with its owner and mode, whatever stood there.
func (d *Dir) makeNode(n *Node, dev uevent.Dev, r *Record, known bool) (lost bool, err error) {
	return d.attempt(n.Path, r, known, func(dir parent, known bool) (lost bool, err error) {
		if !known {
			if err := d.create(dir, n, dev); err != unix.EEXIST {
				return false, wrap("mknod", n.Path, err)
			}
		}
		var st unix.Statx_t
		if err := sys.Stat(dir.fd, dir.name, unix.AT_SYMLINK_NOFOLLOW, &st); err != nil {
			return false, wrap("stat", n.Path, err)
		}
		is := isNodeOf(&st, dev)
		switch {
		case d.isMountedOver(&st):
			return !is, d.leaveAlone(n.Path, r)
		case is:
			return false, wrap("chown or chmod", n.Path, d.adjust(dir, n, dev, &st))
		}
		return d.takeOver(dir, n.Path, r, &st, func() error { return d.replace(dir, n, dev) })
	})
}

// takeOver puts something in the place of what st is of, if the device may have path.
func (d *Dir) takeOver(dir parent, path string, r *Record, st *unix.Statx_t, replace func() error) (lost bool, err error) {
	if !isNodeOf(st, r.Dev()) { // else it is its own, of devtmpfs or of other rules
		lost, err = d.contest(path, r)
	}
	if lost || err != nil {
		return lost, err
	}
	if err = d.displace(dir, path, nodeDev(st)); err == nil {
		err = replace()
	}
	return false, wrap("replace", path, err)
}

// create makes the node where nothing stands: EEXIST otherwise. Root's is made
// in place, with the right group from the first moment; another's is made where
// nobody can see it, and linked into place when its owner is right, which
// watchers see as a creation.
func (d *Dir) create(dir parent, n *Node, dev uevent.Dev) error {
	if n.UID == 0 && !dir.inherit && d.setGroup(int(n.GID)) {
		return mknod(dir.fd, dir.name, n, dev)
	}
	return d.staged(func(at int, name string) error {
		return finished(at, name, n, dev)
	}, func(at int, name string) error {
		err := unix.Linkat(at, name, dir.fd, dir.name, 0)
		unix.Unlinkat(at, name, 0)
		return err
	})
}

// replace puts the node in the place of what stands there, in one step.
func (d *Dir) replace(dir parent, n *Node, dev uevent.Dev) error {
	return d.staged(func(at int, name string) error {
		return finished(at, name, n, dev)
	}, func(at int, name string) error {
		return unix.Renameat(at, name, dir.fd, dir.name)
	})
}

func mknod(at int, name string, n *Node, dev uevent.Dev) error {
	return sys.Mknodat(at, name, fileType(dev)|n.Mode, unix.Mkdev(dev.Major, dev.Minor))
}

// finished makes a node with owner and mode at a place that nobody sees.
func finished(at int, name string, n *Node, dev uevent.Dev) error {
	if err := mknod(at, name, n, dev); err != nil {
		return err
	}
	if err := unix.Fchownat(at, name, int(n.UID), int(n.GID), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if n.Mode&(unix.S_ISUID|unix.S_ISGID) == 0 {
		return nil
	}
	return unix.Fchmodat(at, name, n.Mode, 0) // chown took these bits away
}

// staged makes something under a name in the private directory, then puts it in
// its place. What a crash left under that name is removed first. Without a
// private directory the name lies in /dev itself.
func (d *Dir) staged(prepare, place func(at int, name string) error) error {
	d.setGroup(d.gid)
	at, name := d.private, "staged"
	if at == sys.None {
		at, name = d.fd, Private+"-staged"
	}
	err := prepare(at, name)
	if err == unix.EEXIST {
		unix.Unlinkat(at, name, 0)
		err = prepare(at, name)
	}
	if err == nil {
		err = place(at, name)
	}
	if err != nil {
		unix.Unlinkat(at, name, 0)
	}
	return err
}

// adjust gives a right node its owner and mode, in an order in which the mode is
// never wider than both the one it had and the one it gets.
func (d *Dir) adjust(dir parent, n *Node, dev uevent.Dev, st *unix.Statx_t) error {
	mode := uint32(st.Mode) & 0o7777
	if st.Uid == n.UID && st.Gid == n.GID && mode == n.Mode {
		return nil
	}
	fd, err := unix.Openat(dir.fd, dir.name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := sys.Fstat(fd, st); err != nil || !isNodeOf(st, dev) {
		return unix.ESTALE
	}
	if st.Mask&unix.STATX_MNT_ID == 0 && !d.sameDevice(st) {
		return unix.EBUSY // something is mounted there
	}
	if st.Uid != n.UID || st.Gid != n.GID {
		if narrow := mode & n.Mode; narrow != mode {
			if err := d.chmod(fd, narrow); err != nil {
				return d.renewed(err, dir, n, dev)
			}
			mode = narrow
		}
		if err := unix.Fchownat(fd, "", int(n.UID), int(n.GID), unix.AT_EMPTY_PATH); err != nil {
			return err
		}
		mode &^= unix.S_ISUID | unix.S_ISGID
	}
	if mode == n.Mode {
		return nil
	}
	return d.renewed(d.chmod(fd, n.Mode), dir, n, dev)
}

// chmod changes the mode of an O_PATH descriptor, which no link can lead
// astray: by fchmodat2 where the kernel has it (6.6), else by way of /proc.
func (d *Dir) chmod(fd int, mode uint32) error {
	err := unix.Fchmodat(fd, "", mode, unix.AT_EMPTY_PATH)
	if err == unix.EOPNOTSUPP {
		err = unix.Fchmodat(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(fd), mode, 0)
	}
	return err
}

// renewed makes the node anew where its mode could not be changed for want of
// both fchmodat2 and /proc.
func (d *Dir) renewed(err error, dir parent, n *Node, dev uevent.Dev) error {
	if err == unix.ENOENT || err == unix.ENOTDIR {
		return d.replace(dir, n, dev)
	}
	return err
}

// makeLink makes l, whatever stood there, unless it is a directory.
func (d *Dir) makeLink(l Link, r *Record, known bool) (lost bool, err error) {
	return d.attempt(l.Path, r, known, func(dir parent, known bool) (lost bool, err error) {
		text := Relative(l.Path, l.Target)
		d.setGroup(d.gid)
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
		if d.isMountedOver(&st) {
			return true, d.leaveAlone(l.Path, r)
		}
		return d.takeOver(dir, l.Path, r, &st, func() error { return d.replaceLink(dir, text) })
	})
}

// replaceLink puts a link in the place of what stands there, in one step.
func (d *Dir) replaceLink(dir parent, text string) error {
	d.setGroup(d.gid)
	return d.staged(func(at int, name string) error {
		return unix.Symlinkat(text, at, name)
	}, func(at int, name string) error {
		return unix.Renameat(at, name, dir.fd, dir.name)
	})
}

// removeNode removes the node at path if it is dev's own.
func (d *Dir) removeNode(path string, dev uevent.Dev) (removed bool, err error) {
	return d.remove(path, func(at int, name string) (owned, gone bool) {
		var st unix.Statx_t
		err := sys.Stat(at, name, unix.AT_SYMLINK_NOFOLLOW, &st)
		owned = err == nil && isNodeOf(&st, dev) && !d.isMountedOver(&st)
		return owned, err == unix.ENOENT
	})
}

// removeLink removes the link at path if it leads to one of nodes.
func (d *Dir) removeLink(path string, nodes []string) error {
	_, err := d.remove(path, func(at int, name string) (owned, gone bool) {
		text, err := sys.ReadLinkAt(at, name)
		owned = err == nil && slices.ContainsFunc(nodes, func(n string) bool { return text == Relative(path, n) })
		return owned, err == unix.ENOENT
	})
	return err
}

// remove unlinks path if own says so, and the directories that are empty then.
func (d *Dir) remove(path string, own func(at int, name string) (owned, gone bool)) (removed bool, err error) {
	dir, err := d.parent(path, false)
	switch err {
	case nil:
	case unix.ENOENT:
		d.prune(path) // a crash may have come between
		return false, nil
	case unix.ENOTDIR, unix.ELOOP, unix.EXDEV:
		return false, nil // no directory of ours, so nothing of ours in it
	default:
		return false, wrap("open the directory of", path, err)
	}
	defer dir.close()
	owned, gone := own(dir.fd, dir.name)
	if owned {
		switch err := sys.Unlinkat(dir.fd, dir.name); err {
		case nil, unix.ENOENT:
		case unix.EBUSY:
			return false, nil // something is mounted there
		default:
			return false, wrap("unlink", path, err)
		}
	}
	if owned || gone {
		d.prune(path)
	}
	return owned, nil
}
