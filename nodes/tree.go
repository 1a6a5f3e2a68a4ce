package nodes

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
	"devspool/hotplug/uevent"
)

// tree is the directory /dev as files: it makes and removes nodes and links by path,
// through descriptors of directories, follows no link and enters nothing that is mounted
// below /dev. It knows neither records nor rules. Paths are clean, see Refusal.
type tree struct {
	fd      int // /dev itself
	private int // the directory in which things are made before they are put in place, or None
	id      sys.FileID
	mount   uint64 // the ID of the mount that is /dev; of no use before Linux 5.8
	inherit bool   // nodes made in it get its group, not ours
	group   int    // the group that this thread makes files with
	gid     int    // the process's own
	kept    [maxKept]keptParent
	opened  dirState // of the directory that parent opened last

	// walk makes parent go a part at a time, as kernels before 5.6 need. (For those
	// before 4.11 see NoStatx.)
	walk bool
}

// open opens the directory at path. The tree goes on in it, even where something is mounted over it
// later: Dir finds that out by id.
func (t *tree) open(path string) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	var st unix.Statx_t
	if err := sys.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return err
	}
	t.fd, t.id, t.mount = fd, sys.FileIDOfStat(&st), st.Mnt_id
	t.inherit = st.Mode&unix.S_ISGID != 0
	return nil
}

// setGroup makes this thread make files with the group gid, and reports whether
// it does. The process's own groups and capabilities stay as they are. The kernel takes the group of
// a new file from the thread's fsgid: so a node has the right one from its first moment, without a
// chown.
func (t *tree) setGroup(gid int) bool {
	if t.group == gid {
		return true
	}
	unix.Setfsgid(gid)
	t.group, _ = unix.SetfsgidRetGid(-1) // it says what is, not what failed
	return t.group == gid
}

// parent opens the directory of path without following a link, and where create
// is set makes what is missing, root's and 0755. It must be closed, or kept. The error is ENOENT
// where there is none, ENOTDIR or ELOOP where a link or a file is on the way, EXDEV where a mount is.
func (t *tree) parent(path string, create bool) (parent, error) {
	slash := strings.LastIndexByte(path, '/')
	if slash < 0 {
		return parent{fd: t.fd, name: path, inherit: t.inherit}, nil
	}
	dir, name := path[:slash], path[slash+1:]
	// Of a disk with ten names most lie in the same few directories.
	for i := range t.kept {
		if k := &t.kept[i]; k.dir == dir {
			return parent{fd: k.fd, name: name, inherit: k.inherit, kept: int8(i + 1)}, nil
		}
	}
	fd, err := sys.None, error(unix.ENOSYS)
	if !t.walk {
		fd, err = sys.OpenBeneath(t.fd, dir)
		t.walk = err == unix.ENOSYS || err == unix.EPERM // some sandboxes say EPERM for what they do not know
	}
	// openat2 makes no directories. To go a part at a time costs more, and is needed only where one is
	// missing.
	if t.walk || err == unix.ENOENT && create {
		fd, err = t.walkTo(dir, create)
	}
	if err != nil {
		return parent{}, err
	}
	var st unix.Statx_t
	if err := sys.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return parent{}, err
	}
	t.opened = stateOf(&st)
	return parent{fd: fd, name: name, own: true, inherit: st.Mode&unix.S_ISGID != 0}, nil
}

// walkTo opens dir a part at a time, which follows no link on any kernel.
func (t *tree) walkTo(dir string, create bool) (int, error) {
	at := parent{fd: t.fd}
	for part := range strings.SplitSeq(dir, "/") {
		fd, err := t.openPart(at.fd, part, create)
		if err == nil {
			err = t.sameMount(fd)
		}
		at.close()
		if err != nil {
			return sys.None, err
		}
		at = parent{fd: fd, own: true}
	}
	return at.fd, nil
}

// openPart opens one directory of a path, and follows no link. With create it makes one that
// is missing. Another process may have made it meanwhile, which does no harm.
func (t *tree) openPart(at int, part string, create bool) (int, error) {
	const flags = unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(at, part, flags, 0)
	if err != unix.ENOENT || !create {
		return fd, err
	}
	t.setGroup(t.gid)
	if err = unix.Mkdirat(at, part, 0o755); err != nil && err != unix.EEXIST {
		return sys.None, err
	}
	// Opened by its name, not by mkdir's success: it may be another process's by now, or a link.
	return unix.Openat(at, part, flags, 0)
}

// sameMount refuses, and closes, a directory that something is mounted on.
func (t *tree) sameMount(fd int) error {
	var st unix.Statx_t
	err := sys.Fstat(fd, &st)
	if err == nil && t.sameDevice(&st) && !t.isMountedOver(&st) {
		return nil
	}
	unix.Close(fd)
	if err == nil {
		err = unix.EXDEV
	}
	return err
}

// sameDevice reports whether st is of something in the file system that is on /dev.
func (t *tree) sameDevice(st *unix.Statx_t) bool {
	return st.Dev_major == t.id.Major && st.Dev_minor == t.id.Minor
}

// isMountedOver reports whether st is of what is mounted on a path, as far as the
// kernel says so (Linux 5.8); else fixAttributes finds it out, or an EBUSY.
func (t *tree) isMountedOver(st *unix.Statx_t) bool {
	return st.Mask&unix.STATX_MNT_ID != 0 && st.Mnt_id != t.mount
}

// prune removes the directories above path that are empty now. rmdir(2) itself says which are: a
// look before it could be out of date.
func (t *tree) prune(path string) {
	for {
		slash := strings.LastIndexByte(path, '/')
		if slash < 0 {
			return
		}
		path = path[:slash]
		dir, err := t.parent(path, false)
		if err == unix.ENOENT {
			continue // it is gone already; the one above it may be empty
		}
		if err != nil {
			return
		}
		err = unix.Unlinkat(dir.fd, dir.name, unix.AT_REMOVEDIR)
		dir.close()
		if err != nil && err != unix.ENOENT {
			return // not empty, or not a directory of ours to remove
		}
	}
}

// create makes the node n of dev, or else a link with that text, where nothing stands:
// EEXIST otherwise. Root's node is made in place, with the right group from the first
// moment; another's is made where nobody can see it, and linked into place when its owner
// is right, which watchers see as a creation.
func (t *tree) create(dir parent, n *Node, dev uevent.Dev, text string) error {
	switch {
	case n == nil:
		t.setGroup(t.gid)
		t.keptOf(dir).changes()
		return unix.Symlinkat(text, dir.fd, dir.name)
	case n.UID == 0 && !dir.inherit && t.setGroup(int(n.GID)):
		return mknod(dir.fd, dir.name, n, dev)
	}
	return t.viaTemp(dir, false, func(at int, name string) error { return makeComplete(at, name, n, dev) })
}

// replace makes the node, or the link, in the place of what stands there, in one step.
func (t *tree) replace(dir parent, n *Node, dev uevent.Dev, text string) error {
	return t.viaTemp(dir, true, func(at int, name string) error {
		if n == nil {
			return unix.Symlinkat(text, at, name)
		}
		return makeComplete(at, name, n, dev)
	})
}

// mknod makes a node. The umask is 0, and the group that of setGroup.
func mknod(at int, name string, n *Node, dev uevent.Dev) error {
	return sys.Mknodat(at, name, fileType(dev)|n.Mode, unix.Mkdev(dev.Major, dev.Minor))
}

// makeComplete makes a node with owner and mode at a place that nobody sees.
func makeComplete(at int, name string, n *Node, dev uevent.Dev) error {
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

// viaTemp makes something under a temporary name and then puts it into dir in one step:
// in the place of what stands there, or else, where replace is false, with EEXIST if
// something does. The name is in the private directory, or in /dev itself without one.
// What a crash left under it is removed first.
func (t *tree) viaTemp(dir parent, replace bool, make func(at int, name string) error) error {
	t.setGroup(t.gid)
	t.keptOf(dir).changes()
	at, name := t.private, "staged"
	if at == sys.None {
		at, name = t.fd, Private+"-staged"
	}
	err := make(at, name)
	if err == unix.EEXIST {
		unix.Unlinkat(at, name, 0)
		err = make(at, name)
	}
	switch {
	case err != nil:
	case replace:
		err = unix.Renameat(at, name, dir.fd, dir.name) // rename(2) takes the place of what is there
	default:
		err = unix.Linkat(at, name, dir.fd, dir.name, 0) // link(2) does not: EEXIST
	}
	if err != nil || !replace {
		unix.Unlinkat(at, name, 0)
	}
	return err
}

// fixAttributes gives a right node its owner and mode, in an order in which the mode is
// never wider than both the one it had and the one it gets.
func (t *tree) fixAttributes(dir parent, n *Node, dev uevent.Dev, st *unix.Statx_t) error {
	mode := uint32(st.Mode) & 0o7777
	if st.Uid == n.UID && st.Gid == n.GID && mode == n.Mode {
		return nil
	}
	fd, err := unix.Openat(dir.fd, dir.name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	// The node may have been replaced since it was looked at by its name.
	if err := sys.Fstat(fd, st); err != nil || !isNodeOf(st, dev) {
		return unix.ESTALE
	}
	if st.Mask&unix.STATX_MNT_ID == 0 && !t.sameDevice(st) {
		return unix.EBUSY // something is mounted there
	}
	if st.Uid != n.UID || st.Gid != n.GID {
		// The old owner must not get the new mode, nor the new owner the old one.
		if narrow := mode & n.Mode; narrow != mode {
			if err := t.chmod(fd, narrow); err != nil {
				return t.recreate(err, dir, n, dev)
			}
			mode = narrow
		}
		if err := unix.Fchownat(fd, "", int(n.UID), int(n.GID), unix.AT_EMPTY_PATH); err != nil {
			return err
		}
		// chown clears these bits.
		mode &^= unix.S_ISUID | unix.S_ISGID
	}
	if mode == n.Mode {
		return nil
	}
	return t.recreate(t.chmod(fd, n.Mode), dir, n, dev)
}

// chmod changes the mode of an O_PATH descriptor, which no link can lead
// astray: by fchmodat2 where the kernel has it (6.6), else by way of /proc.
func (t *tree) chmod(fd int, mode uint32) error {
	// Package unix says EOPNOTSUPP where the kernel says that it has no fchmodat2 (ENOSYS).
	err := unix.Fchmodat(fd, "", mode, unix.AT_EMPTY_PATH)
	if err == unix.EOPNOTSUPP {
		err = unix.Fchmodat(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(fd), mode, 0)
	}
	return err
}

// recreate makes the node anew where its mode could not be changed for want of
// both fchmodat2 and /proc.
func (t *tree) recreate(err error, dir parent, n *Node, dev uevent.Dev) error {
	if err == unix.ENOENT || err == unix.ENOTDIR {
		return t.replace(dir, n, dev, "")
	}
	return err
}

// linkHome gives the node in dir, which is at path, the name home too, where nothing
// stands there but a link to it.
func (t *tree) linkHome(dir parent, path, home string) error {
	to, err := t.parent(home, true)
	if err != nil {
		return err
	}
	defer to.close()
	target, err := sys.ReadLinkAt(to.fd, to.name)
	if err != unix.ENOENT && (err != nil || target != Relative(home, path)) {
		return err
	}
	return t.viaTemp(to, true, func(at int, name string) error {
		return unix.Linkat(dir.fd, dir.name, at, name, 0)
	})
}

// has reports whether the node at path is dev's, or is a link to one of targets.
func (t *tree) has(path string, dev uevent.Dev, targets []string) bool {
	dir, err := t.parent(path, false)
	if err != nil {
		return false
	}
	defer dir.close()
	var st unix.Statx_t
	return sys.Stat(dir.fd, dir.name, unix.AT_SYMLINK_NOFOLLOW, &st) == nil && (isNodeOf(&st, dev) || isLinkTo(dir, &st, path, targets))
}

// relink has a link at path that leads to one of from lead to one of to, and reports whether
// it does, and whether it did not before. Anything else that stands there stays.
func (t *tree) relink(path string, from, to []string) (done, changed bool) {
	dir, err := t.parent(path, false)
	if err != nil {
		return false, false
	}
	defer dir.close()
	is, err := sys.ReadLinkAt(dir.fd, dir.name)
	switch {
	// What another program has put there stays.
	case err != nil, len(to) == 0, !leads(path, is, from):
		return false, false
	case leads(path, is, to):
		return true, false
	}
	changed = t.replace(dir, nil, uevent.Dev{}, Relative(path, to[0])) == nil
	return changed, changed
}

// remove unlinks path if a node of dev stands there, or a link to one of paths. The directories
// that are empty then go at the next forget.
func (t *tree) remove(path string, dev uevent.Dev, paths []string) (removed bool, err error) {
	dir, err := t.parent(path, false)
	switch failure(err) {
	case 0:
	case unix.ENOENT:
		t.prune(path) // a crash may have come between
		return false, nil
	case unix.ENOTDIR, unix.ELOOP, unix.EXDEV:
		return false, nil // no directory of ours, so nothing of ours in it
	default:
		return false, wrap("open the directory of", path, err)
	}
	dir = t.keep(path, dir)
	var st unix.Statx_t
	err = sys.Stat(dir.fd, dir.name, unix.AT_SYMLINK_NOFOLLOW, &st)
	if err == nil && !t.isMountedOver(&st) && (isNodeOf(&st, dev) || isLinkTo(dir, &st, path, paths)) {
		t.keptOf(dir).changes()
		if err = sys.Unlinkat(dir.fd, dir.name); err == nil {
			removed = true
		}
	}
	switch {
	case removed, err == unix.ENOENT:
		if k := t.keptOf(dir); k != nil {
			k.emptied = path
		}
	case err != nil && err != unix.EBUSY: // something is mounted there
		return false, wrap("unlink", path, err)
	}
	return removed, nil
}

// isLinkTo reports whether st is of a link, at path, to one of paths.
func isLinkTo(dir parent, st *unix.Statx_t, path string, paths []string) bool {
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		return false
	}
	text, err := sys.ReadLinkAt(dir.fd, dir.name)
	return err == nil && leads(path, text, paths)
}

// leads reports whether a link at path with that text leads to one of targets.
func leads(path, text string, targets []string) bool {
	for _, target := range targets {
		if text == Relative(path, target) {
			return true
		}
	}
	return false
}

// fileType returns the S_IFMT bits of dev's node.
func fileType(dev uevent.Dev) uint32 {
	if dev.Block {
		return unix.S_IFBLK
	}
	return unix.S_IFCHR
}

// isNodeOf reports whether st is a node of dev.
func isNodeOf(st *unix.Statx_t, dev uevent.Dev) bool { return nodeDev(st) == dev && !dev.IsZero() }

// nodeDev returns the device that st is a node of, or the zero Dev.
func nodeDev(st *unix.Statx_t) uevent.Dev {
	dev := uevent.Dev{Major: st.Rdev_major, Minor: st.Rdev_minor}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFBLK:
		dev.Block = true
	case unix.S_IFCHR:
	default:
		return uevent.Dev{}
	}
	return dev
}
