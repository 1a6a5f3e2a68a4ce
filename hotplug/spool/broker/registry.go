package broker

import (
	"strconv"

	"golang.org/x/sys/unix"

	"devspool/hotplug/procfs"
	"devspool/hotplug/sys"
)

// registry knows which queues there are. It learns it from inotify, and where that is
// not to be had, or another publisher had the lock, by reading the roots.
type registry struct {
	roots   []*root
	queues  map[uint64]*queue // all queues, by inode
	live    []*queue          // those that events go to
	lagging int               // how many of live lag
	listed  bool              // live and lagging are right; else relist makes them so
	stale   bool              // all must be read anew

	inotify int      // watches the roots; none without Options.Resident
	pending []change // names in the roots that may have changed
	gone    []*queue // queues whose name was not found any more

	quota     quota
	lifecycle *lifecycle
	windows   *windows
	*base
}

// root is a directory that clients make queues in.
type root struct {
	fd      int
	path    string // where fd was opened
	libudev bool   // it is libudev-compat's
	watch   int32  // of the registry's inotify; none without Options.Resident

	names    map[string]*queue         // the queues in it, by name
	fanotify int                       // reports the directories that are made; or none
	creators map[string]procfs.Process // what made the directories that were not visited yet

	excess   bool // it still holds entries that were refused
	scanning bool // fd is being read to remove them
}

// change is a name in a root that was made, removed or renamed.
type change struct {
	root *root
	name string
}

// watchRoots makes the kernel report changes in the roots from now on.
func (r *registry) watchRoots() (err error) {
	if r.inotify, err = sys.NewInotify(); err != nil {
		return err
	}
	const mask = unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_DELETE
	for _, root := range r.roots {
		if root.watch, err = sys.WatchDirectory(r.inotify, root.fd, root.path, mask); err != nil {
			return err
		}
	}
	return nil
}

// close closes all queues and roots.
func (r *registry) close() {
	// No process would end the denial when its time is over.
	if len(r.quota.denied) > 0 {
		r.quota.denied = nil
		r.quota.writeDenied()
	}
	for _, q := range r.queues {
		q.close()
	}
	for _, root := range r.roots {
		sys.CloseAll(&root.fd, &root.fanotify)
	}
	// Counts and the like may still be called after Close. They find nothing then.
	r.queues, r.live, r.roots = map[uint64]*queue{}, nil, nil
	r.lagging = 0
	sys.CloseAll(&r.inotify)
}

// readChanges adds to pending the names that changed since the last call. Where nothing
// is watched, or the kernel dropped events, it marks the list stale instead.
func (r *registry) readChanges() {
	if r.inotify == sys.None {
		r.stale = true
		return
	}
	const removed = unix.IN_DELETE | unix.IN_MOVED_FROM
	lost, more := sys.ReadInotify(r.inotify, r.space.buffer[:], func(e *unix.InotifyEvent, name []byte) {
		for _, root := range r.roots {
			// Most names that are removed were refused, and are no queues.
			if root.watch == e.Wd && (e.Mask&removed == 0 || root.names[string(name)] != nil) {
				r.pending = append(r.pending, change{root, string(name)})
			}
		}
	})
	r.stale = r.stale || lost
	r.upkeep.retry = r.upkeep.retry || more
}

// idle reports whether there is no queue, so that an event need not be published. It
// takes one system call.
func (r *registry) idle() bool {
	if r.inotify == sys.None || r.stale || len(r.queues) > 0 || len(r.pending) > 0 {
		return false
	}
	r.readChanges()
	return !r.stale && len(r.pending) == 0
}

// update looks at the names that changed.
func (r *registry) update() {
	if len(r.pending) == 0 && len(r.gone) == 0 {
		return
	}
	// A process with one event does not stay to let a denied user in again.
	if r.upkeep.poller != nil {
		r.quota.throttle(r.pending, r.queues)
	}
	r.visitPending()
	r.forgetGone()
	r.relist()
}

// visitPending looks at the pending names. One that came and went several times counts
// as it is now.
func (r *registry) visitPending() {
	pending := r.pending
	r.pending = nil // visit may add some again
	for _, c := range pending {
		r.visit(c.root, c.name)
	}
}

// reload reads the whole list, and what other publishers recorded of the queues.
func (r *registry) reload() {
	// First, since what inotify drops while the roots are read makes the list stale again.
	r.stale = false
	r.pending = nil
	for _, q := range r.queues {
		q.found, q.room, q.sizes = false, 0, nil
		r.lifecycle.reload(q)
	}
	for _, root := range r.roots {
		unix.Seek(root.fd, 0, 0)
		for names := sys.ListSome(root.fd, r.space.buffer[:]); len(names) > 0; names = sys.ListSome(root.fd, r.space.buffer[:]) {
			for _, name := range names {
				r.visit(root, name)
			}
			if r.inotify != sys.None {
				r.readChanges() // before inotify's own queue overflows
			}
		}
	}
	r.visitPending()
	r.gone = r.gone[:0]
	for _, q := range r.queues {
		if !q.found {
			r.gone = append(r.gone, q)
		}
		if q.hasLinks {
			q.readOrder()
		}
	}
	r.forgetGone()
	r.records.sweep(r.queues)
	r.relist()
}

// visit finds out what the name in a root is now.
func (r *registry) visit(root *root, name string) {
	// An event of inotify about the root itself, such as IN_IGNORED, has no name.
	if name == "" || name == "." || name == ".." {
		return
	}
	known := root.names[name]
	var st unix.Stat_t
	err := unix.Fstatat(root.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if known != nil && (err != nil || st.Ino != known.ino) {
		// Where it was renamed, its new name is visited too.
		delete(root.names, name)
		if known.name == name && known.root == root {
			known.found = false
			r.gone = append(r.gone, known)
		}
	}
	switch {
	case err != nil:
	case root.libudev && name == "global" && st.Uid == 0: // libudev-compat gives it to its producer
	case st.Mode&unix.S_IFMT != unix.S_IFDIR || uint64(st.Dev) != r.space.dev:
		r.refuse(root, name, &st, "an entry that is not a directory of the spool's file system")
	default:
		if q := r.queueAt(root, name, &st); q != nil {
			r.found(root, name, q)
		}
	}
}

// queueAt returns the queue that is the directory name, or nil where it cannot be one. Unless the
// error is one that passes, a name that failed is not looked at again before it changes or the whole
// list is read.
func (r *registry) queueAt(root *root, name string, st *unix.Stat_t) *queue {
	if q := r.queues[st.Ino]; q != nil {
		return q
	}
	if r.quota.isFull(st.Uid) {
		r.refuse(root, name, st, "a queue: too many of user "+strconv.Itoa(int(st.Uid)))
		return nil
	}
	q, err := r.lifecycle.newQueue(root, name)
	switch err {
	case nil:
		r.queues[q.ino] = q
		r.quota.entries[q.uid]++
		return q
	case unix.ENOENT: // removed since
		return nil
	case unix.EMFILE, unix.ENFILE, unix.ENOMEM: // try again later
		r.pending = append(r.pending, change{root, name})
		r.upkeep.retry = true
	}
	r.notice("cannot open a queue: " + err.Error())
	return nil
}

// found notes the name under which q was found, and does what follows from it.
func (r *registry) found(root *root, name string, q *queue) {
	if q.name != name || q.root != root {
		if q.root.names[q.name] == q {
			delete(q.root.names, q.name)
		}
		q.root, q.name = root, name
	}
	root.names[name] = q
	q.found = true
	r.lifecycle.named(q)
}

// forgetGone forgets the queues whose name is gone, but for those that were found under
// another name, or will be: the kernel reports the old name of a rename first.
func (r *registry) forgetGone() {
	gone := r.gone
	r.gone = nil
	for _, q := range gone {
		switch {
		case q.found:
		case q.isInRoot():
			r.gone = append(r.gone, q)
			r.upkeep.retry = true
		default:
			r.forget(q)
		}
	}
}

// remove removes a queue: from its clients' sight at once, and its files in time.
func (r *registry) remove(q *queue) {
	var st unix.Stat_t
	// Its client may have renamed it, and made another directory of that name.
	if unix.Fstatat(q.root.fd, q.name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Ino == q.ino {
		r.trash.add(q.root.fd, q.name)
	}
	r.forget(q)
}

// forget drops a queue that is gone from the roots. It may be called again. The queue stays in live
// until relist, but has ended.
func (r *registry) forget(q *queue) {
	if r.queues[q.ino] != q {
		return
	}
	if q.root.names[q.name] == q {
		delete(q.root.names, q.name)
	}
	delete(r.queues, q.ino)
	if r.quota.entries[q.uid]--; r.quota.entries[q.uid] <= 0 {
		delete(r.quota.entries, q.uid)
	}
	r.lifecycle.end(q)
	r.listed = false
}

// relist lists the queues that events go to, after any change.
func (r *registry) relist() {
	r.live, r.lagging = r.live[:0], 0
	for _, q := range r.queues {
		if !q.isLive() {
			continue
		}
		r.live = append(r.live, q)
		if q.state == lags {
			r.lagging++
			r.upkeep.watch(q)
		} else {
			r.upkeep.unwatch(q)
		}
	}
	r.listed = true
	if r.windows.divide(len(r.live)) {
		for _, q := range r.live {
			q.room = 0 // it may have more files than it now may
		}
	}
}
