package broker

import (
	"strconv"

	"golang.org/x/sys/unix"

	"devspool/hotplug/spool"
	"devspool/hotplug/sys"
)

// state is where a queue is in its life:
//
//	         named NAME-PID                 out of room
//	prepared ───────────────▶ current ◀────────────────▶ lags
//	    ▲                        │       has read on       │
//	    └────────────────────────┴─────────────────────────┘
//	                  renamed to .NAME again
//
//	any ──▶ ended: its directory was removed by its client, or was moved to the trash
//	        because its owner died; see ownerIsDead
//
// lifecycle makes all changes but those between current and lags, which delivery makes.
// A queue whose owner is dead loses its name first, so that no client sees it; a round of
// the upkeep removes its files from the trash later.
type state uint8

const (
	prepared state = iota // its name begins with a dot: it gets no events
	current               // it gets each event at once
	lags                  // it gets the events from cursor on when it has room
	ended                 // it is gone, and closed
)

// queue is a client's directory. It has many fields since each part of the Broker keeps
// here what it knows of the queue: they are grouped by the part that writes them.
type queue struct {
	// Of the registry.
	root  *root
	name  string
	found bool // where its name was looked for

	// Of the lifecycle, set once.
	fd  int
	ino uint64
	uid uint32

	// Of the lifecycle.
	state    state
	filter   spool.Filter // nil for every event
	hasLinks bool         // it has head and tail
	isRing   bool         // its client removes nothing: when it is full the oldest go
	owner    owner
	record   int // the file of its record, or none

	// Of delivery and windows.
	cursor uint64 // the event to be delivered next where it lags, else 0; the record holds it
	room   int    // so many more files fit for certain
	sizes  []int  // of libudev's, the bytes of the last files, at most libudevWindow of them

	// Of links.
	head, tail uint64   // the events that the links point to; 0 for no link
	order      []uint64 // the events that may be in it, the oldest first

	watch int32 // of upkeep: the inotify watch for what its client removes
}

// isLive reports whether events go to the queue, now or when it has room.
func (q *queue) isLive() bool { return q.state == current || q.state == lags }

// setLive makes a queue current, or lag where a publisher before left it behind.
func (q *queue) setLive() {
	q.state = current
	if q.cursor != 0 {
		q.state = lags
	}
}

// isGone reports whether the directory was removed.
func (q *queue) isGone() bool {
	var st unix.Stat_t
	return unix.Fstat(q.fd, &st) != nil || st.Nlink == 0
}

// isInRoot reports whether the directory lies in its root, under any name.
func (q *queue) isInRoot() bool {
	var root, parent unix.Stat_t
	return !q.isGone() && unix.Fstat(q.root.fd, &root) == nil &&
		unix.Fstatat(q.fd, "..", &parent, 0) == nil && parent.Ino == root.Ino
}

// close closes the descriptors of a queue that is dropped.
func (q *queue) close() {
	sys.CloseAll(&q.fd, &q.record, &q.owner.creator.fd, &q.owner.byName.fd)
}

// lifecycle takes a queue from its first sight to its end: it opens it, reads the dot
// files of its client, and finds out who owns it.
type lifecycle struct {
	creatorBudget int // how many events of fanotify may still be read in this round
	*base
}

// newQueue opens the directory name in a root, and reads its record if there is one.
func (l *lifecycle) newQueue(r *root, name string) (*queue, error) {
	fd, err := l.space.openDirectory(r.fd, name)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return nil, err
	}
	q := &queue{root: r, name: name, fd: fd, ino: st.Ino, uid: st.Uid, record: sys.None, watch: sys.None, owner: noOwner()}
	l.records.read(q)
	return q, nil
}

// named does what follows from a queue's name: without a leading dot it gets events. Where that
// changes, the caller has relist put the queue on the list of live ones, or take it off.
func (l *lifecycle) named(q *queue) {
	switch ready := q.name[0] != '.'; {
	case ready && !q.isLive():
		l.activate(q)
		l.findOwner(q)
	case !ready && q.isLive():
		l.deactivate(q)
	case q.owner.kind == ownerUnknown:
		l.findOwner(q)
	}
}

// activate reads the dot files of a queue that is ready. From now on events go to it.
func (l *lifecycle) activate(q *queue) {
	q.setLive()
	if q.root.libudev {
		return
	}
	q.isRing = sys.Exists(q.fd, spool.RingFile)
	q.hasLinks = !q.isRing && !sys.Exists(q.fd, spool.NoLinksFile)
	text, err := l.readFilter(q)
	if err == nil {
		q.filter, err = spool.ParseFilter(text)
	}
	if err != nil {
		// It gets every event: a client can skip those that it does not want, and cannot ask
		// for one that it never got.
		q.filter = nil
		l.notice("ignoring a filter of user " + strconv.Itoa(int(q.uid)) + ": " + err.Error())
	}
	if q.hasLinks {
		q.readOrder()
		l.upkeep.watch(q)
	}
}

// deactivate stops events to a queue that its client renamed, to remove it in peace. What was kept
// for the queue is lost to it, also where it is renamed back.
func (l *lifecycle) deactivate(q *queue) {
	q.state, q.hasLinks, q.cursor = prepared, false, 0
	l.upkeep.unwatch(q)
	l.records.write(q)
}

// reload reads again what another publisher may have recorded.
func (l *lifecycle) reload(q *queue) {
	l.records.read(q)
	sys.CloseAll(&q.record) // the file may be another one now
	if q.isLive() {
		q.setLive()
	}
}

// end drops a queue that is gone. Its record goes, since the kernel may give the inode number to
// another queue.
func (l *lifecycle) end(q *queue) {
	q.state = ended
	l.upkeep.unwatch(q)
	unix.Unlinkat(l.records.dir, recordName(q), 0)
	q.close()
}

// readFilter returns the text of .filter, or "" where there is none.
func (l *lifecycle) readFilter(q *queue) (string, error) {
	fd, err := l.space.openBeneath(q.fd, spool.FilterFile, unix.O_RDONLY)
	if err == unix.ENOENT {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return "", err
	}
	// Only a plain file: to read a FIFO or a device may take from another reader.
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size > spool.MaxFilter {
		return "", spool.ErrFilter
	}
	return sys.ReadAll(fd, spool.MaxFilter)
}
