package nodes

import (
	"errors"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
)

// Private is the directory below /dev that holds the lock and the record. Only
// root may look into it, and no rule may name a place in it.
const Private = ".devspool"

// Dir is an open /dev. It is not for use by several goroutines at once; several
// processes take turns with Lock. The process's umask must be 0.
type Dir struct {
	path    string
	fd      int // /dev itself
	private int // Private
	lock    int // the file that is locked
	record  record
	place   sys.FileID
	mount   uint64 // the ID of the mount that is /dev; of no use before Linux 5.8
	inherit bool   // nodes made in it get its group, not ours
	group   int    // the group that this thread makes files with
	gid     int    // the process's own

	// Rank, where set, is asked for the Rank of devices that want one path.
	Rank func(r *Record) Rank

	ranks     map[string]Rank // by ID: what Rank said in this turn
	freed     []string        // see Freed
	conflicts []Conflict      // see Conflicts

	// walk makes parent go a part at a time, as kernels before 5.6 need. (For those
	// before 4.11 see NoStatx.)
	walk bool
}

// Open opens the directory at path as /dev. It must exist.
func Open(path string) (*Dir, error) {
	d := &Dir{path: path, fd: sys.None, private: sys.None, lock: sys.None, record: record{fd: sys.None, out: sys.None}}
	d.gid = unix.Getegid()
	d.group = d.gid
	return d, d.open()
}

func (d *Dir) open() error {
	fd, err := unix.Open(d.path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return wrap("open", d.path, err)
	}
	var st unix.Statx_t
	if err := sys.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return wrap("stat", d.path, err)
	}
	d.fd, d.place, d.mount = fd, sys.FileIDOfStat(&st), st.Mnt_id
	d.inherit = st.Mode&unix.S_ISGID != 0
	return nil
}

// Close lets go of all descriptors, and with them of the lock.
func (d *Dir) Close() {
	d.closePrivate()
	if d.fd != sys.None {
		unix.Close(d.fd)
		d.fd = sys.None
	}
}

// Path returns the path that d was opened at.
func (d *Dir) Path() string { return d.path }

// Lock waits until this process is the one that may change /dev. Renewed is true
// where another file system was mounted on /dev since the last call: what was
// made before is hidden then, and a scan is due.
//
// An error means that there is no private directory to be had (a read-only or
// foreign /dev): Apply works all the same, but alone, without lock and record.
// Unlock is to be called in either case. The calling goroutine keeps its thread
// until then.
func (d *Dir) Lock() (renewed bool, err error) {
	runtime.LockOSThread()
	if now := sys.FileIDOf(d.path); d.fd == sys.None || now != d.place && now != (sys.FileID{}) {
		d.Close()
		if err := d.open(); err != nil {
			return false, err
		}
		renewed = true
	}
	err = d.lockPrivate()
	if errors.Is(err, unix.ENOENT) {
		// Somebody removed the private directory, so what we hold excludes nobody.
		d.closePrivate()
		err = d.lockPrivate()
	}
	return renewed, err
}

func (d *Dir) lockPrivate() error {
	if d.lock == sys.None {
		if err := d.openPrivate(); err != nil {
			return err
		}
	}
	if err := sys.Flock(d.lock, unix.LOCK_EX); err != nil {
		return wrap("flock", Private+"/lock", err)
	}
	if err := d.refresh(); err != nil {
		d.record.close()
		return wrap("read", Private+"/record", err)
	}
	return nil
}

func (d *Dir) closePrivate() {
	d.record.close()
	for _, fd := range []*int{&d.lock, &d.private} {
		if *fd != sys.None {
			unix.Close(*fd)
			*fd = sys.None
		}
	}
}

// Unlock writes what the record still lacks and lets the next process have its turn.
func (d *Dir) Unlock() error {
	err := d.flush()
	d.ranks = nil
	d.setGroup(d.gid)
	if d.lock != sys.None {
		sys.Flock(d.lock, unix.LOCK_UN)
	}
	runtime.UnlockOSThread()
	return err
}

// setGroup makes this thread make files with the group gid, and reports whether
// it does. The process's own groups and capabilities stay as they are.
func (d *Dir) setGroup(gid int) bool {
	if d.group == gid {
		return true
	}
	unix.Setfsgid(gid)
	d.group, _ = unix.SetfsgidRetGid(-1) // it says what is, not what failed
	return d.group == gid
}

// openPrivate opens the private directory and the lock, and makes what is
// missing. It makes no writing system call where nothing is.
func (d *Dir) openPrivate() error {
	var err error
	if d.private == sys.None {
		if d.private, err = sys.OwnDirectory(d.fd, Private); err != nil {
			return wrap("make", Private, err)
		}
	}
	d.lock, err = sys.OwnFile(d.private, "lock", unix.O_RDONLY)
	return wrap("open", Private+"/lock", err)
}

// OpenPrivate returns a new descriptor of the private directory, for what other
// rooms keep there (a socket, a FIFO).
func (d *Dir) OpenPrivate() (int, error) {
	if d.private == sys.None {
		if err := d.openPrivate(); err != nil {
			return sys.None, err
		}
	}
	return unix.FcntlInt(uintptr(d.private), unix.F_DUPFD_CLOEXEC, 3)
}

// parent is the open directory that a path's last part lies in.
type parent struct {
	fd      int
	name    string // the last part
	own     bool   // fd is to be closed
	inherit bool   // files made in it get its group, not ours
}

func (p parent) close() {
	if p.own {
		sys.Close(p.fd)
	}
}

// parent opens the directory of path without following a link, and where create
// is set makes what is missing, root's and 0755.
func (d *Dir) parent(path string, create bool) (parent, error) {
	slash := strings.LastIndexByte(path, '/')
	if slash < 0 {
		return parent{fd: d.fd, name: path, inherit: d.inherit}, nil
	}
	dir, name := path[:slash], path[slash+1:]
	fd, err := sys.None, error(unix.ENOSYS)
	if !d.walk {
		fd, err = sys.OpenBeneath(d.fd, dir)
		d.walk = err == unix.ENOSYS || err == unix.EPERM // some sandboxes say EPERM for what they do not know
	}
	if d.walk || err == unix.ENOENT && create {
		fd, err = d.walkTo(dir, create)
	}
	if err != nil {
		return parent{}, err
	}
	var st unix.Statx_t
	if err := sys.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return parent{}, err
	}
	return parent{fd: fd, name: name, own: true, inherit: st.Mode&unix.S_ISGID != 0}, nil
}

// walkTo opens dir a part at a time, which follows no link on any kernel.
func (d *Dir) walkTo(dir string, create bool) (int, error) {
	at := parent{fd: d.fd}
	for part := range strings.SplitSeq(dir, "/") {
		fd, err := d.openPart(at.fd, part, create)
		if err == nil {
			err = d.sameMount(fd)
		}
		at.close()
		if err != nil {
			return sys.None, err
		}
		at = parent{fd: fd, own: true}
	}
	return at.fd, nil
}

func (d *Dir) openPart(at int, part string, create bool) (int, error) {
	const flags = unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(at, part, flags, 0)
	if err != unix.ENOENT || !create {
		return fd, err
	}
	d.setGroup(d.gid)
	if err = unix.Mkdirat(at, part, 0o755); err != nil && err != unix.EEXIST {
		return sys.None, err
	}
	return unix.Openat(at, part, flags, 0)
}

// sameMount refuses a directory that something is mounted on.
func (d *Dir) sameMount(fd int) error {
	var st unix.Statx_t
	if err := sys.Fstat(fd, &st); err != nil || d.sameDevice(&st) && !d.isMountedOver(&st) {
		return err
	}
	unix.Close(fd)
	return unix.EXDEV
}

// sameDevice reports whether st is of something in the file system that is on /dev.
func (d *Dir) sameDevice(st *unix.Statx_t) bool {
	return st.Dev_major == d.place.Major && st.Dev_minor == d.place.Minor
}

// isMountedOver reports whether st is of what is mounted on a path, as far as the
// kernel says so (Linux 5.8); else adjust finds it out, or an EBUSY.
func (d *Dir) isMountedOver(st *unix.Statx_t) bool {
	return st.Mask&unix.STATX_MNT_ID != 0 && st.Mnt_id != d.mount
}

// prune removes the directories above path that are empty now.
func (d *Dir) prune(path string) {
	for {
		slash := strings.LastIndexByte(path, '/')
		if slash < 0 {
			return
		}
		path = path[:slash]
		dir, err := d.parent(path, false)
		if err == unix.ENOENT {
			continue
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
