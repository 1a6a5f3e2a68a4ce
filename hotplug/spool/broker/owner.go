package broker

import (
	"golang.org/x/sys/unix"

	"devspool/hotplug/procfs"
	"devspool/hotplug/spool"
	"devspool/hotplug/sys"
)

// follower is a process whose end is awaited.
type follower struct {
	procfs.Process
	fd int // its pidfd, or none
}

// alive reports whether the process lives. It costs one system call where there is
// a pidfd.
func (f *follower) alive() bool {
	if f.fd == sys.None {
		return f.Process.Alive()
	}
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(f.fd), Events: unix.POLLIN}}, 0)
	return err == nil && n == 0
}

// owner is who keeps a queue from being removed.
type owner struct {
	known  bool
	locker bool     // it holds a lock on the directory, or did
	maker  follower // who made the directory, or who holds the lock
	named  follower // whose number is in its name
	since  int64    // when it was first found without any, by now; 0 where it has one
	next   int64    // when to look again, by now; 0 where a pidfd will tell
}

func nobody() owner { return owner{maker: follower{fd: sys.None}, named: follower{fd: sys.None}} }

func (o *owner) close() { sys.CloseAll(&o.maker.fd, &o.named.fd) }

// identify finds out whose q is, and remembers it: when the owner is dead it could
// not be told any more.
func (s *Broker) identify(q *queue) {
	o := &q.owner
	switch {
	case q.live && locked(q.fd):
		if !o.locker {
			o.close()
			o.locker, o.named = true, follower{fd: sys.None}
			o.maker = s.lockHolder(q)
		}
	case o.known:
	default:
		o.maker = s.makerOf(q)
		o.named = follower{Process: spool.OwnerNamed(q.name, q.uid), fd: sys.None}
	}
	o.known, o.since = true, 0
	s.writeState(q)
	s.follow(q)
}

// alive reports whether q has an owner. The lock is tried last, and not while a
// client may be about to take it.
func (q *queue) alive() bool {
	return q.owner.maker.alive() || q.owner.named.alive() || q.live && locked(q.fd)
}

// locked reports whether a client holds the lock on its queue. It asks for a
// shared one, lest two that ask at once take each other for the client. Where others
// may open the directory the lock says nothing: a stranger that held it could keep
// the queue of a dead client, or by letting go end that of a living one.
func locked(fd int) bool {
	if sys.RetryEINTR(func() error { return unix.Flock(fd, unix.LOCK_SH|unix.LOCK_NB) }) != nil {
		var st unix.Stat_t
		return unix.Fstat(fd, &st) == nil && st.Mode&0o044 == 0
	}
	unix.Flock(fd, unix.LOCK_UN)
	return false
}

// lockHolder returns the process that took the lock on q, as this process's /proc
// numbers it, whatever its own namespace does.
func (s *Broker) lockHolder(q *queue) follower {
	locks, _ := sys.ReadKernelFile("/proc/locks")
	if pid := procfs.FlockHolder(locks, s.dev, q.ino); pid > 0 {
		if p, ok := procfs.Find(pid); ok {
			return follower{p, sys.None}
		}
	}
	return follower{fd: sys.None}
}

// How long a directory may lie there of which no owner was ever seen, in
// nanoseconds. One that is being prepared may be of a process whose number means
// nothing here, and that has not locked it yet.
const (
	graceLive   = 50e6
	graceMaking = 1e9
)

// recheck is how often to look after an owner whose end nothing tells, in nanoseconds.
const recheck = 50e6

// check removes q if its owner is dead, and says when to look again.
func (s *Broker) check(q *queue) {
	o := &q.owner
	switch {
	case q.alive():
		if o.since = 0; o.told() {
			o.next = 0
		} else {
			o.next = now() + recheck
		}
	case q.sticky():
		o.next = 0
	case o.orphaned() || s.waited(q):
		if !q.live && locked(q.fd) { // before it has its name
			o.next = now() + recheck
			return
		}
		s.reap(q)
	}
}

// sticky reports whether q is to outlive its owner, who must have said so, and have
// come to the end of preparing it.
func (q *queue) sticky() bool {
	var st unix.Stat_t
	return q.live && !q.root.libudev &&
		unix.Fstatat(q.fd, spool.StickyFile, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Uid == q.uid
}

// told reports whether a pidfd tells of the owner's end.
func (o *owner) told() bool {
	return o.maker.fd != sys.None && o.maker.alive() || o.named.fd != sys.None && o.named.alive()
}

// orphaned reports whether there was an owner.
func (o *owner) orphaned() bool { return o.locker || o.maker.Pid != 0 || o.named.Pid != 0 }

// waited reports whether q has been without an owner for long enough.
func (s *Broker) waited(q *queue) bool {
	o := &q.owner
	grace := int64(graceLive)
	if !q.live {
		grace = graceMaking
	}
	t := now()
	if o.since == 0 {
		o.since = t
		s.writeState(q)
	}
	o.next = o.since + grace
	if s.unheard <= 0 {
		o.next = t + recheck // its maker may be among those who were not heard yet
	}
	return t >= o.next
}

// reap removes a queue: from its clients' sight at once, and its files in time.
func (s *Broker) reap(q *queue) {
	var st unix.Stat_t
	if unix.Fstatat(q.root.fd, q.name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Ino == q.ino {
		s.discard(q.root.fd, q.name)
	}
	s.forget(q)
}

// discard moves a directory out of a root. What it holds is removed by sweep.
func (s *Broker) discard(dir int, name string) {
	if err := unix.Renameat(dir, name, s.trash, spool.EventName(uint64(now()))); err != nil {
		if err != unix.ENOENT {
			s.log("a directory cannot be removed: " + err.Error())
		}
		return
	}
	s.unswept = true
}

// sweepSteps is how many files are removed in one turn: others wait meanwhile.
const sweepSteps = 512

// sweep removes what lies in trash, a part at a time.
func (s *Broker) sweep() {
	for steps := sweepSteps; s.unswept && steps > 0; {
		unix.Seek(s.trash, 0, 0)
		names := sys.ListSome(s.trash, s.inbox[:])
		s.unswept = len(names) > 0 // and again: directories that lay in these come beside them
		for _, name := range names {
			if steps = s.empty(name, steps); steps <= 0 {
				return
			}
			unix.Unlinkat(s.trash, name, unix.AT_REMOVEDIR)
		}
	}
}

// empty removes the files of a directory in trash, and returns how many steps are
// left of those it may take. Directories in it are moved beside it, so that it
// matters not how deep they go.
func (s *Broker) empty(name string, steps int) int {
	fd, err := s.openDirectory(s.trash, name)
	if err != nil {
		unix.Unlinkat(s.trash, name, 0)
		return steps - 1
	}
	defer unix.Close(fd)
	// Its user may still be in it, and is to make nothing more there.
	unix.Fchown(fd, 0, 0)
	unix.Fchmod(fd, 0o700)
	for steps > 0 {
		names := sys.ListSome(fd, s.inbox[:])
		if len(names) == 0 {
			break
		}
		for _, entry := range names {
			if unix.Unlinkat(fd, entry, 0) == unix.EISDIR {
				s.discard(fd, entry)
			}
		}
		steps -= len(names)
	}
	return steps - 1
}
