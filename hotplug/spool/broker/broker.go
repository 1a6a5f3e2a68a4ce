package broker

import (
	"errors"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/procfs"
	"devspool/hotplug/spool"
	"devspool/hotplug/sys"
)

// The defaults of Options.
const (
	defaultWindow  = 4096
	defaultHeld    = 16384
	defaultPerUser = 256
)

// Options says what Open is to open. The zero value of a number stands for its default.
type Options struct {
	// Private is the directory, ours alone, below which the spool keeps what no
	// client is to see.
	Private string

	// Events is where clients find their queues, and Libudev where those of
	// libudev-compat do; "" for no such place.
	Events, Libudev string

	// Mount puts all of it on a tmpfs of its own, where mounting is possible.
	// Else the directories lie on the file system of Private, and the roots must too.
	Mount bool

	// Join has the spool taken as it is: nothing is mounted, and no root is made. It
	// is for who has one event to publish.
	Join bool

	// Resident keeps the spool in order between events: a dead owner's queue goes
	// at once, what is held back is fed as the client reads. Without it that is
	// done at each event, as suits a process that does one event and ends.
	Resident bool

	// Zero wakes libudev-zero up to 0.5.2: each link is opened for writing and
	// closed, and the header ends in '='.
	Zero bool

	Window  int // unread files in a queue, at most (4096, and less on a small file system)
	Held    int // events held back, at most (16384, and less on a small file system)
	PerUser int // entries that one user other than root may have in a root (256)

	// Source, where set, is a queue that is given nothing of what is published: what
	// is passed on came out of it.
	Source string

	// Log, where set, is told of what was refused and lost, in short lines.
	Log func(text string)

	old old
}

// old makes a Spool do without what older kernels lack, for tests.
type old struct {
	openat2, tmpfile, emptyPath, fanotify, pidfd, dirSize, acl bool
}

// Broker is the publishing side. Its methods may be called by several goroutines;
// several processes may have the same spool open.
type Broker struct {
	o   Options
	dev uint64 // the file system that all of it lies on

	mounted bool // it lies on a tmpfs of its own

	mu      sync.Mutex
	dir     int // the spool's directory; only root may enter it
	lock    int // the file that is locked
	held    int // events that are held back
	states  int // what is to be known of queues, by inode
	making  int // files and links on their way into queues
	trash   int // queues on their way out
	counter *counter
	self    uint64 // who we are to other publishers

	roots   []*root
	queues  map[uint64]*queue // by inode
	live    []*queue          // those that events go to
	behind  int               // how many of live have a cursor
	waiting []uint64          // the numbers in held, ascending
	from    map[uint64]uint64 // of those, the Source's inode, where there was one
	share   int               // the window that is every native queue's fair one
	heldCap int
	users   map[uint32]int   // entries in the roots, by user
	told    map[string]bool  // what Log was told already
	source  uint64           // the inode of Options.Source
	pending []change         // names in the roots that are to be looked at
	gone    []*queue         // those whose name was not found any more
	listed  bool             // live is right
	refused int              // entries of roots that were no queues, or too many
	denied  map[uint32]int64 // users who are kept out, until when
	spare   int              // how many of such may still be removed in this turn
	unheard int              // how many makers may still be heard in this turn

	watch    int // inotify: the roots; none without Resident
	tender   *tender
	stale    bool // the list of queues is to be read anew
	unswept  bool // there may be something in trash
	noOpen2  bool // openat2 is not there
	noTmp    bool // O_TMPFILE is not there
	byFD     bool // AT_EMPTY_PATH is to be had
	byProc   bool // it is not: link through /proc
	dirSizes bool // a directory's size tells how many entries it has
	again    bool // something is to be done at the next turn that could not be done at this

	under  int  // files that are being made
	modeIs bool // the umask takes nothing from the mode of a file

	// Kept from event to event to save the garbage.
	text          []byte
	inbox         [4096]byte
	targets, late []*queue
}

// root is a place that clients make queues in.
type root struct {
	fd      int
	path    string // where fd was opened
	libudev bool
	watch   int32 // its inotify watch
	names   map[string]*queue
	makers  int                       // fanotify: who makes directories in it; none where there is no such thing
	made    map[string]procfs.Process // whom that told of, until the directory is looked at
	surplus bool                      // what was refused lies in it still
	reading bool                      // fd is being read for that
}

// ErrUnusable is returned where no spool can be had: no private directory that is
// ours alone, or roots on another file system than it.
var ErrUnusable = errors.New("no place for a spool")

// Open opens the spool, and makes what is missing of it.
func Open(o Options) (*Broker, error) {
	if o.Window == 0 {
		o.Window = defaultWindow
	}
	if o.PerUser == 0 {
		o.PerUser = defaultPerUser
	}
	s := &Broker{
		o: o, dir: sys.None, lock: sys.None, held: sys.None, states: sys.None, making: sys.None, trash: sys.None, watch: sys.None,
		queues: map[uint64]*queue{}, users: map[uint32]int{}, told: map[string]bool{},
		denied:  map[uint32]int64{},
		noOpen2: o.old.openat2, noTmp: o.old.tmpfile, byProc: o.old.emptyPath, stale: true, unswept: true,
		self: self(),
	}
	if err := s.open(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Broker) open() error {
	if err := s.place(); err != nil {
		return err
	}
	if err := s.openOwn(); err != nil {
		return err
	}
	if err := s.findSource(); err != nil {
		return err
	}
	s.measure()
	if s.o.Resident {
		return s.settleIn()
	}
	return nil
}

// settleIn makes the spool resident.
func (s *Broker) settleIn() error {
	if err := s.watchRoots(); err != nil {
		return err
	}
	if err := s.openTender(); err != nil {
		return err
	}
	s.writeDenied() // nobody; who was before us may have been killed
	if err := s.Upkeep(); err != nil {
		return err
	}
	s.tender.start(s)
	return nil
}

// Empty reports whether nobody has a queue in the roots, and nothing is left of who
// had, so that a process with one event to publish needs no spool.
func Empty(o Options) bool {
	private := o.Private + "/" + place + "/"
	for _, path := range []string{o.Events, o.Libudev, private + "held", private + "trash"} {
		if path == "" {
			continue
		}
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err == unix.ENOENT {
			continue
		}
		if err != nil {
			return false
		}
		names := sys.ListSome(fd, make([]byte, 4096))
		unix.Close(fd)
		if len(names) > 0 {
			return false
		}
	}
	return true
}

// openOwn opens the directories that are ours, the lock and the counter.
func (s *Broker) openOwn() (err error) {
	for name, fd := range map[string]*int{"held": &s.held, "queues": &s.states, "making": &s.making, "trash": &s.trash} {
		if *fd, err = sys.OwnDirectory(s.dir, name); err != nil {
			return err
		}
	}
	if s.lock, err = sys.OwnFile(s.dir, "lock", unix.O_RDONLY); err != nil {
		return err
	}
	if err := flock(s.lock); err != nil {
		return err
	}
	defer s.end()
	if s.counter, err = openCounter(s.dir); err == nil && s.counter.last() == 0 {
		s.restoreCounter()
	}
	return err
}

func (s *Broker) findSource() error {
	if s.o.Source == "" {
		return nil
	}
	var st unix.Stat_t
	err := unix.Lstat(s.o.Source, &st)
	if err == nil && (st.Mode&unix.S_IFMT != unix.S_IFDIR || uint64(st.Dev) != s.dev) {
		err = unix.EINVAL
	}
	if err != nil {
		return spool.Failed("take from", s.o.Source, err)
	}
	s.source = st.Ino
	return nil
}

// measure sets the limits that follow from the size of the file system.
func (s *Broker) measure() {
	s.heldCap = defaultHeld
	if s.o.Held > 0 {
		s.heldCap = s.o.Held
	}
	var fs unix.Statfs_t
	if unix.Fstatfs(s.dir, &fs) == nil {
		for _, limit := range []uint64{fs.Files, fs.Blocks} {
			if limit > 0 {
				s.heldCap = min(s.heldCap, max(1, int(limit/4)))
			}
		}
	}
	s.dirSizes = !s.o.old.dirSize && tellsEntries(s.dir)
}

// Close lets go of everything. Queues stay, and are served by who opens the spool next.
func (s *Broker) Close() {
	if s.tender != nil {
		s.tender.stop()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.denied) > 0 {
		s.denied = nil
		s.writeDenied()
	}
	for _, q := range s.queues {
		q.close()
	}
	for _, r := range s.roots {
		sys.CloseAll(&r.fd, &r.makers)
	}
	s.queues, s.live, s.roots = map[uint64]*queue{}, nil, nil
	sys.CloseAll(&s.lock, &s.held, &s.states, &s.making, &s.trash, &s.watch, &s.dir)
	s.counter.close()
	s.counter = nil
}

// Held reports whether events are held back for a client that is slow: a process
// that would end otherwise does well to stay a while.
func (s *Broker) Held() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.behind > 0
}

// Counts tells how many queues there are, how many of them are behind, so that events
// are held back for them, and how much was removed from the roots since Open that was
// no queue or too many.
func (s *Broker) Counts() (queues, behind, refused int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range s.queues {
		if q.live {
			queues++
		}
		if q.live && q.cursor != 0 {
			behind++
		}
	}
	return queues, behind, s.refused
}

// begin takes the lock on the spool, and sees to what a publisher left that was
// killed, or that another one did since we were here. s.mu is held.
func (s *Broker) begin() error {
	if s.counter == nil {
		return unix.EBADF // closed
	}
	if err := flock(s.lock); err != nil {
		return err
	}
	if s.counter.writer() != s.self {
		s.stale = true
	}
	s.refresh()
	if s.counter.busy() {
		s.recover()
	}
	s.counter.setWriter(s.self)
	return nil
}

// end lets the next publisher have its turn.
func (s *Broker) end() { unlock(s.lock) }

// log tells of something once.
func (s *Broker) log(text string) {
	if s.o.Log == nil || s.told[text] || len(s.told) > 1000 {
		return
	}
	s.told[text] = true
	s.o.Log("spool: " + text)
}

// now is a clock that nobody steps, in nanoseconds.
func now() int64 {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) != nil {
		return time.Now().UnixNano()
	}
	return t.Nano()
}
