package broker

import (
	"golang.org/x/sys/unix"

	"devspool/hotplug/procfs"
	"devspool/hotplug/spool"
	"devspool/hotplug/sys"
)

// processRef is a process, with a descriptor of it where there is one.
type processRef struct {
	procfs.Process
	fd int // its pidfd, or none
}

// become makes p refer to a process. The pidfd of another one would tell of that one's end.
func (p *processRef) become(process procfs.Process) {
	if p.Process != process {
		sys.CloseAll(&p.fd)
		p.Process = process
	}
}

// isAlive reports whether the process lives. With a pidfd it takes one system call.
func (p *processRef) isAlive() bool {
	if p.fd == sys.None {
		return p.Process.Alive()
	}
	// A signal to this process interrupts even a poll that does not wait, where nothing was ready.
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}, 0)
	return err == nil && n == 0 || err == unix.EINTR
}

// owner is what keeps a queue from being removed. A queue has one of two owners: the
// process that holds a lock on its directory; or else the process that made it, beside
// the one whose number is in its name.
type owner struct {
	kind      ownerKind
	creator   processRef // what made the directory, or holds the lock
	byName    processRef // the process whose number is in the name
	ownerless int64      // when it was first seen without an owner, by now; 0 where it has one
	nextCheck int64      // when to check again, by now; 0 where a pidfd reports the end
}

// ownerKind says what an owner is. It is an int, as a smaller one would leave a gap in
// owner, and that costs the program a function.
type ownerKind int

const (
	ownerUnknown ownerKind = iota // nothing was found out yet
	ownerCreator                  // the process that made the directory, and the one in its name
	ownerLock                     // creator is the process that holds the lock, or held it
)

// noOwner returns the owner of a queue before anything is known. The zero value would not do, since
// 0 is a descriptor too.
func noOwner() owner {
	return owner{creator: processRef{fd: sys.None}, byName: processRef{fd: sys.None}}
}

// hasPidfd reports whether the end of the owner will be reported.
func (o *owner) hasPidfd() bool {
	return o.creator.fd != sys.None && o.creator.isAlive() || o.byName.fd != sys.None && o.byName.isAlive()
}

// findOwner finds out who owns q, and records it: once the owner is dead nothing tells
// who it was.
func (l *lifecycle) findOwner(q *queue) {
	o := &q.owner
	switch {
	case q.isLive() && isLocked(q.fd):
		if o.kind != ownerLock {
			sys.CloseAll(&o.creator.fd, &o.byName.fd)
			o.kind, o.byName = ownerLock, processRef{fd: sys.None}
			o.creator = l.lockHolder(q)
		}
	case o.kind == ownerUnknown:
		o.creator = l.creatorOf(q)
		o.byName = processRef{Process: spool.OwnerNamed(q.name, q.uid), fd: sys.None}
		o.kind = ownerCreator // not before: what creatorOf reads of q is for itself until then
	}
	o.ownerless = 0
	l.records.write(q)
	l.upkeep.follow(q)
}

// hasOwner reports whether q has an owner that lives. It tries the lock last, and not
// while a client may be about to take it.
func (q *queue) hasOwner() bool {
	return q.owner.creator.isAlive() || q.owner.byName.isAlive() || q.isLive() && isLocked(q.fd)
}

// isLocked reports whether a client holds the lock on its queue. It tries a shared lock,
// so that two publishers that try at once do not take each other for the client. Where
// other users may open the directory the lock says nothing: a stranger that holds it
// could keep the queue of a dead client, or by releasing it end that of a living one.
func isLocked(fd int) bool {
	if sys.Flock(fd, unix.LOCK_SH|unix.LOCK_NB) != nil {
		var st unix.Stat_t
		return unix.Fstat(fd, &st) == nil && st.Mode&0o044 == 0
	}
	_ = sys.Flock(fd, unix.LOCK_UN)
	return false
}

// lockHolder returns the process that took the lock on q, by its number in this
// process's /proc, whatever namespace it is in. Where it returns none, the lock alone tells
// whether the owner lives.
func (l *lifecycle) lockHolder(q *queue) processRef {
	locks, _ := sys.ReadFile("/proc/locks")
	if pid := procfs.FlockHolder(locks, l.space.dev, q.ino); pid > 0 {
		if p, ok := procfs.Find(pid); ok {
			return processRef{p, sys.None}
		}
	}
	return processRef{fd: sys.None}
}

// How long a directory may exist of which no owner was ever seen, in nanoseconds. One
// that is being prepared gets more: its process may be in another namespace, where its
// number in the name means nothing here, and may not have locked it yet.
const (
	graceLive     = 50e6
	gracePrepared = 1e9
)

// pollOwner is how often an owner without a pidfd is checked, in nanoseconds.
const pollOwner = 50e6

// ownerIsDead reports whether q is to be removed because its owner is dead, and sets
// when to check again.
func (l *lifecycle) ownerIsDead(q *queue) bool {
	o := &q.owner
	switch {
	case q.hasOwner():
		if o.ownerless = 0; o.hasPidfd() {
			o.nextCheck = 0
		} else {
			o.nextCheck = now() + pollOwner
		}
	case q.isSticky():
		o.nextCheck = 0
	// An owner that is known is dead. One that was never seen has time to show itself.
	case o.kind == ownerLock || o.creator.Pid != 0 || o.byName.Pid != 0 || l.graceIsOver(q):
		// hasOwner does not try the lock of a queue that is being prepared.
		if q.isLive() || !isLocked(q.fd) {
			return true
		}
		o.nextCheck = now() + pollOwner // a client has locked it and will rename it
	}
	return false
}

// isSticky reports whether q outlives its owner: its own user must have said so, and
// have finished preparing it.
func (q *queue) isSticky() bool {
	var st unix.Stat_t
	return q.isLive() && !q.root.libudev &&
		unix.Fstatat(q.fd, spool.StickyFile, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Uid == q.uid
}

// graceIsOver reports whether q has been without an owner for long enough.
func (l *lifecycle) graceIsOver(q *queue) bool {
	o := &q.owner
	grace := int64(graceLive)
	if !q.isLive() {
		grace = gracePrepared
	}
	t := now()
	if o.ownerless == 0 {
		o.ownerless = t
		l.records.write(q)
	}
	o.nextCheck = o.ownerless + grace
	if l.creatorBudget <= 0 {
		o.nextCheck = t + pollOwner // its creator may be among those not read yet
	}
	return t >= o.nextCheck
}
