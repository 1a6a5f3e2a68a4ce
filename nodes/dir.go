package nodes

import (
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
	"devspool/nodes/journal"
)

// Private is the directory below /dev that holds the lock file and the journal. Only
// root may look into it, and no rule may name a place in it.
const Private = ".devspool"

// Dir is an open /dev. It is not for use by several goroutines at once; several
// processes take turns by LockDev. The process's umask must be 0.
//
// Its parts: tree does the work in the file system, journal says what was made, claims
// says which device has a path that several want. A method of Dir is what the scheduler may
// ask of /dev, or a step of Apply; most only bring the parts together.
type Dir struct {
	path     string
	tree     tree
	lockFile int              // the open file in Private that flock locks
	journal  *journal.Journal // nil without a private directory
	claims   claims

	// Rank, where set, is asked for the Rank of devices that want one path.
	Rank func(r *Record) Rank
}

// Open opens the directory at path as /dev. It must exist.
func Open(path string) (*Dir, error) {
	d := &Dir{path: path, lockFile: sys.None}
	d.tree = tree{fd: sys.None, private: sys.None, gid: unix.Getegid()}
	d.tree.group, d.claims.dir = d.tree.gid, d
	return d, wrap("open", path, d.tree.open(path))
}

// Close lets go of all descriptors, and with them of the lock.
func (d *Dir) Close() {
	d.closePrivate()
	d.tree.forget()
	sys.CloseAll(&d.tree.fd)
}

// Path returns the path that d was opened at.
func (d *Dir) Path() string { return d.path }

// ID returns which directory is held.
func (d *Dir) ID() sys.FileID { return d.tree.id }

// LockDev waits until this process is the one that may change /dev. (It locks a file,
// against other processes; no mutex is meant.) Remounted is true where another file
// system was mounted on /dev since the last call: what was made before is hidden then,
// and a scan is due.
//
// An error means that there is no private directory to be had (a read-only or
// foreign /dev): Apply works all the same, but alone, without lock and journal.
// UnlockDev is to be called in either case. The calling goroutine keeps its thread
// until then.
func (d *Dir) LockDev() (remounted bool, err error) {
	// The group by which files are made is a thread's own (setfsgid(2)), and not the process's.
	runtime.LockOSThread()
	if now := sys.FileIDOf(d.path); d.tree.fd == sys.None || now != d.tree.id && now != (sys.FileID{}) && !d.isLeft(now) {
		d.Close()
		if err := d.tree.open(d.path); err != nil {
			return false, wrap("open", d.path, err)
		}
		remounted = true
	}
	if err = d.lockPrivate(); err == unix.ENOENT {
		// The private directory was removed, so the lock that we hold excludes no other process.
		d.closePrivate()
		err = d.lockPrivate()
	}
	return remounted, wrap("lock", Private, err)
}

// isLeft reports whether what stands at our path now is no file system of its own, while
// what we hold is: that was moved away, to the root that the system goes on in. It is still
// the /dev that this process works on.
func (d *Dir) isLeft(now sys.FileID) bool {
	// By its name: another root may cover this one, and ".." would lead there.
	above := sys.FileIDOf(d.path[:max(1, strings.LastIndexByte(d.path, '/'))])
	if !now.OnSameFileSystem(above) || now.OnSameFileSystem(d.tree.id) {
		return false
	}
	// What was unmounted, though we hold it, has no path but its own root.
	at, err := sys.ReadLink("/proc/self/fd/" + strconv.Itoa(d.tree.fd))
	return err != nil || at != "/"
}

// lockPrivate locks the private directory and reads the journal.
func (d *Dir) lockPrivate() error {
	err := d.openPrivate()
	if err == nil {
		err = sys.Flock(d.lockFile, unix.LOCK_EX)
	}
	if err != nil {
		return err
	}
	if d.journal == nil {
		d.journal, err = journal.Open(d.tree.private)
	} else if err = d.journal.Refresh(); err != nil {
		d.journal.Close()
		d.journal = nil
	}
	return err
}

// openPrivate opens the private directory and the file to lock, and makes what is
// missing. It makes no writing system call where nothing is.
func (d *Dir) openPrivate() (err error) {
	if d.tree.private == sys.None {
		if d.tree.private, err = sys.OwnDirectory(d.tree.fd, Private); err != nil {
			return err
		}
	}
	if d.lockFile == sys.None {
		d.lockFile, err = sys.OwnFile(d.tree.private, "lock", unix.O_RDONLY)
	}
	return err
}

// closePrivate closes the private directory and what is open in it, with which the lock ends.
func (d *Dir) closePrivate() {
	d.journal.Close()
	d.journal = nil
	sys.CloseAll(&d.lockFile, &d.tree.private)
}

// UnlockDev writes what the journal still lacks and lets the next process have its turn.
func (d *Dir) UnlockDev() error {
	d.tree.forget()
	// The thread is to make files with the usual group when other goroutines run on it.
	d.tree.setGroup(d.tree.gid)
	err := d.journal.Flush()
	d.claims.ranks = nil // they hold for as long as /dev is locked
	if d.lockFile != sys.None {
		_ = sys.Flock(d.lockFile, unix.LOCK_UN)
	}
	runtime.UnlockOSThread()
	return wrap("write", journalPath, err)
}

// OpenPrivate returns a new descriptor of the private directory, for what other
// packages keep there (a socket, a FIFO).
func (d *Dir) OpenPrivate() (int, error) {
	if err := d.openPrivate(); err != nil {
		return sys.None, wrap("open", Private, err)
	}
	// No number below 3: commands take these for their standard descriptors.
	return unix.FcntlInt(uintptr(d.tree.private), unix.F_DUPFD_CLOEXEC, 3)
}
