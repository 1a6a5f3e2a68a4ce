package broker

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"devspool/hotplug/procfs"
	"devspool/hotplug/spool"
	"devspool/hotplug/sys"
)

// queue is a client's directory.
type queue struct {
	root *root
	name string
	fd   int
	ino  uint64
	uid  uint32

	live   bool // it is not being prepared any more
	filter spool.Filter
	links  bool // it has head and tail
	ring   bool // its client removes nothing: when it is full the oldest go
	room   int  // so many events fit in it for certain
	sizes  []int

	owner  owner
	cursor uint64 // the event to be given to it next; 0 where it is given all at once
	state  int    // the file in which that is kept

	// Of a queue with links: what they point to, and which events may be in it.
	head, tail uint64
	order      []uint64

	watch int32 // inotify: what is removed from it
	seen  bool  // where its name was looked for
}

func (q *queue) close() {
	sys.CloseAll(&q.fd, &q.state)
	q.owner.close()
}

// newQueue makes what is to be known of the directory name, and opens it.
func (s *Broker) newQueue(r *root, name string) (*queue, error) {
	fd, err := s.openDirectory(r.fd, name)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return nil, err
	}
	q := &queue{root: r, name: name, fd: fd, ino: st.Ino, uid: st.Uid, state: sys.None, watch: sys.None, owner: nobody()}
	s.readState(q)
	return q, nil
}

// enliven reads the dot files of a queue that is ready: events go to it from now on.
func (s *Broker) enliven(q *queue) {
	q.live = true
	if q.root.libudev {
		return
	}
	q.ring = sys.Exists(q.fd, spool.RingFile)
	q.links = !q.ring && !sys.Exists(q.fd, spool.NoLinksFile)
	text, err := s.readFilter(q)
	if err == nil {
		q.filter, err = spool.ParseFilter(text)
	}
	if err != nil {
		q.filter = nil
		s.log("a filter of user " + strconv.Itoa(int(q.uid)) + " is not used: " + err.Error())
	}
	if q.links {
		s.readOrder(q)
		s.watchQueue(q)
	}
}

// quiesce stops giving events to a queue whose client renamed it, to remove it in peace.
func (s *Broker) quiesce(q *queue) {
	q.live, q.links, q.cursor = false, false, 0
	s.unwatchQueue(q)
	s.writeState(q)
}

// readFilter returns the text of .filter, or "" where there is none.
func (s *Broker) readFilter(q *queue) (string, error) {
	fd, err := s.openBeneath(q.fd, spool.FilterFile, unix.O_RDONLY)
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
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size > spool.MaxFilter {
		return "", spool.ErrFilter
	}
	return sys.ReadAll(fd, spool.MaxFilter)
}

// The window of a libudev-compat queue: what its socket takes.
const (
	libudevWindow = 24
	libudevBytes  = 100_000
)

// window returns how many unread files q may have.
func (s *Broker) window(q *queue) int {
	if q.root.libudev {
		return min(libudevWindow, s.share)
	}
	return s.share
}

// fits reports whether another event, of size bytes, has room in q. Only where
// the room that was found last is used up does it look.
func (s *Broker) fits(q *queue, size int) bool {
	if q.root.libudev {
		return s.fitsLibudev(q, size)
	}
	if q.room <= 0 {
		q.room = s.window(q) - s.entries(q.fd)
	}
	if q.room <= 0 && q.ring {
		s.wrap(q)
	}
	return q.room > 0
}

// wrap removes the oldest events of a queue whose client removes none, until half of
// its window is free.
func (s *Broker) wrap(q *queue) {
	names, _ := spool.EventNames(q.fd)
	for _, name := range names[:max(0, len(names)-s.window(q)/2)] {
		unix.Unlinkat(q.fd, name, 0)
	}
	q.room = s.window(q) - s.entries(q.fd)
}

// fitsLibudev looks each time: the window is small, and its bytes count too. The
// files that are there are the last that were put there.
func (s *Broker) fitsLibudev(q *queue, size int) bool {
	unread := s.entries(q.fd)
	bytes := size
	for i := range unread {
		if at := len(q.sizes) - 1 - i; at >= 0 {
			bytes += q.sizes[at]
		} else {
			bytes += 4096 // put there by another process
		}
	}
	return unread < s.window(q) && (unread == 0 || bytes <= libudevBytes)
}

// took notes that an event of size bytes was put into q.
func (q *queue) took(size int) {
	q.room--
	if q.root.libudev {
		if len(q.sizes) == libudevWindow {
			q.sizes = append(q.sizes[:0], q.sizes[1:]...)
		}
		q.sizes = append(q.sizes, size)
	}
}

// The state of a queue is a file of numbers: its owners, when it was first seen,
// the cursor, what head and tail point to. Written in place in one system call, it
// is never half old.
const stateNumbers = 9

func (q *queue) stateName() string { return strconv.FormatUint(q.ino, 10) }

// readState reads what is known of q; nothing is, of a new one.
func (s *Broker) readState(q *queue) {
	fd, err := unix.Openat(s.states, q.stateName(), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	text, err := sys.ReadAll(fd, 4096)
	words := strings.Fields(text)
	if err != nil || len(words) != stateNumbers {
		return
	}
	var n [stateNumbers]uint64
	for i, word := range words {
		if n[i], err = strconv.ParseUint(word, 10, 64); err != nil {
			return
		}
	}
	o := &q.owner
	o.maker.Process = procfs.Process{Pid: int(n[0]), Start: n[1]}
	o.named.Process = procfs.Process{Pid: int(n[2]), Start: n[3]}
	o.locker, o.since = n[4] != 0, int64(n[5])
	q.cursor, q.head, q.tail = n[6], n[7], n[8]
	o.known = true
}

// writeState keeps what is known of q for the next publisher.
func (s *Broker) writeState(q *queue) {
	if q.state == sys.None {
		fd, err := sys.OwnFile(s.states, q.stateName(), unix.O_WRONLY)
		if err != nil {
			s.log("no record of queues: " + err.Error())
			return
		}
		q.state = fd
	}
	o := &q.owner
	locker := uint64(0)
	if o.locker {
		locker = 1
	}
	var b [stateNumbers * (spool.NameLength + 1)]byte
	text := b[:0]
	for _, n := range [stateNumbers]uint64{uint64(o.maker.Pid), o.maker.Start, uint64(o.named.Pid), o.named.Start,
		locker, uint64(o.since), q.cursor, q.head, q.tail} {
		text = append(append(text, spool.EventName(n)...), ' ')
	}
	if _, err := unix.Pwrite(q.state, text, 0); err != nil {
		s.log("no record of queues: " + err.Error())
	}
	if q.cursor == 0 && !q.links {
		sys.CloseAll(&q.state) // it is not written often
	}
}
