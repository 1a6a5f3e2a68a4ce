package broker

import (
	"bytes"
	"math"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
)

// rootMask is what tells that queues came or went.
const rootMask = unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_DELETE

// watchRoots has the kernel tell what changes in the roots from now on.
func (s *Broker) watchRoots() (err error) {
	if s.watch, err = unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK); err != nil {
		s.watch = sys.None
		return err
	}
	for _, r := range s.roots {
		if r.watch, err = addWatch(s.watch, r.fd, r.path, rootMask); err != nil {
			return err
		}
		if !s.o.old.fanotify {
			r.makers = watchMakers(r.fd)
		}
	}
	return nil
}

// addWatch watches the directory that fd is open on; where there is no /proc yet,
// what lies at its path.
func addWatch(inotify, fd int, path string, mask uint32) (int32, error) {
	mask |= unix.IN_ONLYDIR
	watch, err := unix.InotifyAddWatch(inotify, "/proc/self/fd/"+strconv.Itoa(fd), mask)
	if err == unix.ENOENT {
		watch, err = unix.InotifyAddWatch(inotify, path, mask|unix.IN_DONT_FOLLOW)
	}
	return int32(watch), err
}

// maxEvents is how many events are read at once: as many as the kernel keeps. Who
// makes new ones all the time is not to hold up the others.
const maxEvents = 16384

// readInotify calls seen for each event that waits in an inotify descriptor. Lost
// is true where the kernel could not keep them all, more where some may wait still.
func readInotify(fd int, buf []byte, seen func(e *unix.InotifyEvent, name []byte)) (lost, more bool) {
	for count := 0; count < maxEvents; {
		// It does not block, so the runtime need not hear of it.
		size, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)))
		n := int(size)
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 || n < unix.SizeofInotifyEvent {
			return lost, false
		}
		for rest := buf[:n]; len(rest) >= unix.SizeofInotifyEvent; {
			e := (*unix.InotifyEvent)(unsafe.Pointer(&rest[0]))
			end := unix.SizeofInotifyEvent + int(e.Len)
			if end > len(rest) {
				break
			}
			lost = lost || e.Mask&unix.IN_Q_OVERFLOW != 0
			name := rest[unix.SizeofInotifyEvent:end]
			if at := bytes.IndexByte(name, 0); at >= 0 {
				name = name[:at]
			}
			seen(e, name)
			rest = rest[end:]
			count++
		}
	}
	return lost, true
}

// change is a name in a root with which something happened.
type change struct {
	root *root
	name string
}

// hear adds to pending the names that changed since the last call. Where the
// kernel lost count, or nothing is watched, the list is marked stale instead.
func (s *Broker) hear() {
	if s.watch == sys.None {
		s.stale = true
		return
	}
	const left = unix.IN_DELETE | unix.IN_MOVED_FROM
	lost, more := readInotify(s.watch, s.inbox[:], func(e *unix.InotifyEvent, name []byte) {
		for _, r := range s.roots {
			// Most that leaves is what was refused.
			if r.watch == e.Wd && (e.Mask&left == 0 || r.names[string(name)] != nil) {
				s.pending = append(s.pending, change{r, string(name)})
			}
		}
	})
	s.stale = s.stale || lost
	s.again = s.again || more
}

// idle looks whether somebody has a queue now, and reports whether an event would
// go to nobody. It takes one system call.
func (s *Broker) idle() bool {
	if s.watch == sys.None || s.stale || len(s.queues) > 0 || len(s.pending) > 0 {
		return false
	}
	s.hear()
	return !s.stale && len(s.pending) == 0
}

// refresh brings the list of queues up to date. The lock is held.
func (s *Broker) refresh() {
	s.hear()
	s.unheard = makersAtOnce
	if s.tender == nil {
		s.spare = math.MaxInt
	}
	if s.stale {
		s.reload()
		return
	}
	if len(s.pending) == 0 && len(s.gone) == 0 {
		return
	}
	s.foresee()
	s.visitPending()
	s.forgetGone()
	s.relist()
}

// visitPending looks at the names that changed. The same one may have come and gone
// several times; how it ended counts.
func (s *Broker) visitPending() {
	pending := s.pending
	s.pending = nil // some may have to be looked at again
	for _, c := range pending {
		s.visitName(c.root, c.name)
	}
}

// reload reads the whole list anew, and what other publishers noted.
func (s *Broker) reload() {
	s.stale = false
	s.pending = nil
	for _, q := range s.queues {
		q.seen, q.room, q.sizes = false, 0, nil
		s.readState(q)
		sys.CloseAll(&q.state) // its file may have been made anew
	}
	for _, r := range s.roots {
		unix.Seek(r.fd, 0, 0)
		for names := sys.ListSome(r.fd, s.inbox[:]); len(names) > 0; names = sys.ListSome(r.fd, s.inbox[:]) {
			for _, name := range names {
				s.visitName(r, name)
			}
			if s.watch != sys.None {
				s.hear() // lest the kernel lose count again
			}
		}
	}
	s.visitPending()
	s.gone = s.gone[:0]
	for _, q := range s.queues {
		if !q.seen {
			s.gone = append(s.gone, q)
		}
		if q.links {
			s.readOrder(q)
		}
	}
	s.forgetGone()
	s.sweepStates()
	s.readWaiting()
	s.relist()
}

// visitName finds out what the name in a root is now.
func (s *Broker) visitName(r *root, name string) {
	if name == "" || name == "." || name == ".." {
		return
	}
	old := r.names[name]
	var st unix.Stat_t
	err := unix.Fstatat(r.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if old != nil && (err != nil || st.Ino != old.ino) {
		// It may have been renamed: then its new name is looked at too.
		delete(r.names, name)
		if old.name == name && old.root == r {
			old.seen = false
			s.gone = append(s.gone, old)
		}
	}
	switch {
	case err != nil:
		return
	case r.libudev && name == "global" && st.Uid == 0:
		return // the place that libudev-compat gives its producer
	case st.Mode&unix.S_IFMT != unix.S_IFDIR || uint64(st.Dev) != s.dev:
		s.refuse(r, name, &st, "not a directory of this file system")
		return
	}
	q := s.queues[st.Ino]
	if q == nil {
		if s.full(&st) {
			s.refuse(r, name, &st, "too many of user "+strconv.Itoa(int(st.Uid)))
			return
		}
		if q, err = s.newQueue(r, name); err != nil {
			if err != unix.ENOENT { // gone since
				s.log("a queue is not used: " + err.Error())
			}
			if err == unix.EMFILE || err == unix.ENFILE || err == unix.ENOMEM { // which may pass
				s.pending = append(s.pending, change{r, name})
				s.again = true
			}
			return
		}
		s.queues[q.ino] = q
		s.users[q.uid]++
	}
	s.enter(r, name, q)
}

// enter gives q the name under which it was found.
func (s *Broker) enter(r *root, name string, q *queue) {
	if q.name != name || q.root != r {
		if q.root.names[q.name] == q {
			delete(q.root.names, q.name)
		}
		q.root, q.name = r, name
	}
	r.names[name] = q
	q.seen = true
	switch ready := name[0] != '.'; {
	case ready && !q.live:
		s.enliven(q)
		s.identify(q)
	case !ready && q.live:
		s.quiesce(q)
	case !q.owner.known:
		s.identify(q)
	}
}

// forgetGone forgets the queues whose name is gone, but for those that were found
// under another one since, or will be: the kernel tells of the old name before the
// new one.
func (s *Broker) forgetGone() {
	gone := s.gone
	s.gone = nil
	for _, q := range gone {
		switch {
		case q.seen:
		case q.inRoot():
			s.gone = append(s.gone, q)
			s.again = true
		default:
			s.forget(q)
		}
	}
}

// inRoot reports whether the directory of q lies in its root, under whatever name.
func (q *queue) inRoot() bool {
	var root, parent unix.Stat_t
	return !q.isGone() && unix.Fstat(q.root.fd, &root) == nil &&
		unix.Fstatat(q.fd, "..", &parent, 0) == nil && parent.Ino == root.Ino
}

// forget lets go of a queue that is gone from the roots.
func (s *Broker) forget(q *queue) {
	if s.queues[q.ino] != q {
		return
	}
	if q.root.names[q.name] == q {
		delete(q.root.names, q.name)
	}
	delete(s.queues, q.ino)
	if s.users[q.uid]--; s.users[q.uid] <= 0 {
		delete(s.users, q.uid)
	}
	q.live = false
	s.unwatchQueue(q)
	unix.Unlinkat(s.states, q.stateName(), 0)
	q.close()
	s.listed = false
}

// full reports whether the user who made a directory has enough of them, or is kept
// out. Root is not limited: what it makes is wanted.
func (s *Broker) full(st *unix.Stat_t) bool {
	return st.Uid != 0 && (s.users[st.Uid] >= s.o.PerUser || s.denied[st.Uid] != 0)
}

// refuse removes from a root what has no business there.
func (s *Broker) refuse(r *root, name string, st *unix.Stat_t, why string) {
	s.log("refused: " + why)
	if s.spare--; s.spare < 0 {
		r.surplus, s.again = true, true
		return
	}
	s.refused++
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		unix.Unlinkat(r.fd, name, 0)
	case unix.Unlinkat(r.fd, name, unix.AT_REMOVEDIR) != nil:
		s.discard(r.fd, name)
	}
}

// surplusSteps is how much of what was refused is removed in one turn of the tender's: a
// client may wait for an event meanwhile. Who publishes one removes nothing.
const surplusSteps = 256

// removeSurplus removes more of what was refused. Nobody remembers its names, lest
// whoever makes many fill the memory too: the roots are read, a part at a time.
func (s *Broker) removeSurplus() {
	for _, r := range s.roots {
		for s.spare > 0 && (r.surplus || r.reading) {
			if !r.reading {
				unix.Seek(r.fd, 0, 0)
				r.surplus, r.reading = false, true
			}
			names := sys.ListSome(r.fd, s.inbox[:])
			r.reading = len(names) > 0
			s.listed = false // there may be room for some of it by now
			for _, name := range names {
				if r.names[name] == nil {
					s.visitName(r, name)
				}
			}
		}
	}
}

// relist makes the list of those that events go to, after any change.
func (s *Broker) relist() {
	s.live, s.behind = s.live[:0], 0
	for _, q := range s.queues {
		if q.live {
			s.live = append(s.live, q)
			if q.cursor != 0 {
				s.behind++
				s.watchQueue(q)
			} else {
				s.unwatchQueue(q)
			}
		}
	}
	s.listed = true
	s.setShare()
}

// setShare divides half of the file system's files among the windows, since each
// link takes one of them, and who finds none is lost, whoever used them up.
func (s *Broker) setShare() {
	share := s.o.Window
	var fs unix.Statfs_t
	if unix.Fstatfs(s.dir, &fs) == nil {
		if fs.Files > 0 {
			share = min(share, max(1, int(fs.Files/2)/max(1, len(s.live))))
		}
		if fs.Blocks > 0 {
			share = min(share, max(1, int(fs.Blocks/4)))
		}
	}
	if share < s.share {
		for _, q := range s.live {
			q.room = 0
		}
	}
	s.share = share
}

// sweepStates removes what is kept of queues that are no more.
func (s *Broker) sweepStates() {
	for _, name := range sys.List(s.states) {
		ino, err := strconv.ParseUint(name, 10, 64)
		if err == nil && s.queues[ino] == nil {
			unix.Unlinkat(s.states, name, 0)
		}
	}
}
