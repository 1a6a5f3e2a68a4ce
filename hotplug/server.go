package hotplug

import (
	"errors"
	"os"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/handoff"
	"devspool/hotplug/log"
	"devspool/hotplug/netlink"
	"devspool/hotplug/procfs"
	"devspool/hotplug/sys"
	"devspool/hotplug/uevent"
)

// serverLock is the file in the private directory that a server holds locked as
// long as it serves. Between servers it holds the numbers of the events that are
// done; while one serves, and after one that died, serving.
const (
	serverLock = "server"
	serving    = "serving\n"
)

// pipeSize is what the FIFO shall hold: some thousand events. A helper that finds
// it full waits.
const pipeSize = 1 << 20

// errServed is returned where there is a server already.
var errServed = errors.New("another helper serves")

// Serve does the event of a helper that the kernel started: it hands it over to a
// server, or becomes that, and returns when no event came for the time stay. Where
// nobody can serve it does no more than its own event.
func Serve(r *Road, e *uevent.Event, stay time.Duration) (ok bool) {
	for stay > 0 && r.Dev != nil {
		s, err := newServer(r, stay)
		if err == nil {
			handoff.Pass()
			return s.run(e)
		}
		if err != errServed {
			r.Log.Print(log.Info, "this helper does no event but its own: "+err.Error())
			break
		}
		if handoff.Give(r.Environ) {
			return true
		}
		time.Sleep(time.Millisecond) // the server comes, or leaves
	}
	handoff.Pass()
	return Helper(r, e)
}

// relieve has a server leave, and reports whether there was one: a loop does
// itself what a server does.
func relieve(r *Road) bool {
	if path.Dir(path.Dir(handoff.Path)) != r.Dev.Path() {
		return false
	}
	fd, err := unix.Open(handoff.Path, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return false // there is none to read it
	}
	unix.Close(fd)
	return Ask(r.Dev, []string{"exit"}, func(string) {}) == nil
}

// server is a helper that came first, and stays to do the events of those that
// come after it.
type server struct {
	road    *Road
	stay    time.Duration
	private int      // the private directory
	lock    int      // serverLock
	fifo    int      // or none
	control *control // or nil
	dev     sys.FileID

	told   atomic.Bool // to leave
	behind atomic.Bool // events have been read that are not on the road yet

	mu    sync.Mutex
	sent  uint64   // the number of the last event that the kernel sent
	since sys.Time // when that was seen first

	sequence
	hurried   uint64        // events up to this number do not wait for the end of others
	missed    bool          // a number did not come, and /dev was not compared with /sys since
	asked     bool          // the kernel was asked which number was its last
	comparing atomic.Bool   // a comparison is under way
	died      bool          // the server before this one did not leave, but died
	idle      time.Duration // how long this server has waited in all: its clock
	borne     int           // how often the wait for a number began anew
	heard     time.Duration // when by that clock the last event came
	text      []byte        // read, and not yet taken for an event
	buffer    []byte
}

// newServer makes this process the server, or returns errServed. ErrRunning tells
// that a loop does all that is to be done.
func newServer(r *Road, stay time.Duration) (*server, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lock()
	defer r.unlock()
	if r.lockless {
		return nil, errors.New("no lock on " + r.Dev.Path())
	}
	s := &server{road: r, stay: stay, private: sys.None, lock: sys.None, fifo: sys.None,
		dev: sys.FileIDOf(r.Dev.Path()), buffer: make([]byte, 16*handoff.MaxRecord)}
	if err := s.open(); err != nil {
		s.close()
		return nil, err
	}
	r.Environ = kept(r.Environ)
	r.Patience = defaultPatience
	debug.SetGCPercent(serverGC)
	return s, nil
}

func (s *server) name() string { return "first of the kernel's helpers" }

// pending reports whether there are events that are not on the road yet: handed over,
// or sent by the kernel so lately that their helpers may still come.
func (s *server) pending() bool {
	n := s.road.Sys.Seqnum()
	s.mu.Lock()
	defer s.mu.Unlock()
	if n != s.sent {
		s.sent, s.since = n, sys.Now()
	}
	return s.behind.Load() || !s.road.reached(n) && !cameBy(s.since)
}

// handOverTime is how long a helper takes at most until others can see it.
const handOverTime = 200 * time.Millisecond

// cameBy reports whether the helpers of the events until then have come by now.
func cameBy(sent sys.Time) bool {
	return sent.Age() >= waitForCrowd || sent.Age() >= handOverTime && !procfs.CPUSaturated()
}

// End has the server leave as soon as nothing is under way.
func (s *server) End() {
	s.told.Store(true)
	s.road.told.Store(true)
}

// serverGC makes the collector begin at 1 MiB of heap, not at 4: the server is there
// on boards that want nothing resident, and for a storm only.
const serverGC = 25

// kept returns what commands inherit of this process's environment: not what is
// said of its own event, since each event comes with all that is said of it.
func kept(environ []string) []string {
	return []string{"HOME=" + sys.Getenv(environ, "HOME"), "PATH=" + sys.Getenv(environ, "PATH")}
}

// open takes the lock first, and makes the FIFO last: whoever finds that is served.
func (s *server) open() (err error) {
	if s.private, err = s.road.Dev.OpenPrivate(); err != nil {
		return err
	}
	if err := s.take(); err != nil {
		return err
	}
	text := make([]byte, 64<<10)
	n, err := unix.Pread(s.lock, text, 0)
	if err != nil {
		return os.NewSyscallError("read", err)
	}
	s.inherit(string(text[:n]))
	if err = s.note(serving); err == nil {
		err = s.offer()
	}
	if err != nil {
		s.note(string(text[:n]))
	}
	return err
}

// take takes the lock, unless it is held.
func (s *server) take() error {
	fd, err := unix.Openat(s.private, serverLock, unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return os.NewSyscallError("open", err)
	}
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		unix.Close(fd)
		if err == unix.EWOULDBLOCK {
			return errServed
		}
		return os.NewSyscallError("flock", err)
	}
	s.lock = fd
	return nil
}

// inherit reads which events are done.
func (s *server) inherit(text string) {
	var ok bool
	s.taken, ok = parseSpans(text)
	s.died = !ok
	if last := s.taken.last(); last > 0 {
		s.next = last + 1
	}
}

// offer opens what others reach this process by.
func (s *server) offer() (err error) {
	s.control, err = openControl(s.road, s)
	if errors.Is(err, ErrRunning) {
		return err
	}
	if err != nil {
		s.road.Log.Print(log.Warning, "no control socket: "+err.Error())
	}
	return s.openFIFO()
}

// note writes text into the lock, over what it holds.
func (s *server) note(text string) error {
	if _, err := unix.Pwrite(s.lock, []byte(text), 0); err != nil {
		return os.NewSyscallError("write", err)
	}
	return os.NewSyscallError("truncate", unix.Ftruncate(s.lock, int64(len(text))))
}

// fifoName is the FIFO's name in the private directory.
var fifoName = path.Base(handoff.Path)

// openFIFO makes the FIFO, in place of one that a dead server left. This process
// is a writer of it too, so that it has no end.
func (s *server) openFIFO() error {
	unix.Unlinkat(s.private, fifoName, 0)
	if err := unix.Mkfifoat(s.private, fifoName, 0o600); err != nil {
		return os.NewSyscallError("mkfifo", err)
	}
	fd, err := unix.Openat(s.private, fifoName, unix.O_RDWR|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		unix.Unlinkat(s.private, fifoName, 0)
		return os.NewSyscallError("open", err)
	}
	unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, pipeSize)
	s.fifo = fd
	return nil
}

// run serves until no event has come for a while, and nothing is under way.
func (s *server) run(first *uevent.Event) (ok bool) {
	defer s.close()
	s.add(first, 0)
	if s.died {
		s.rescan("the helper that served died")
	}
	for {
		s.work()
		if s.read(s.pause()) || !s.rests() || s.notice() {
			continue
		}
		if s.leave() {
			if err := s.note(s.taken.String()); err != nil {
				s.road.Log.Print(log.Err, err.Error())
			}
			return true
		}
	}
}

// work does the events whose turn it is.
func (s *server) work() {
	if len(s.waiting) > 0 {
		s.advance()
	}
	s.behind.Store(len(s.waiting) > 0)
	s.notice()
}

func (s *server) advance() {
	t, orderly := openTurns(s.road.Dev.Path())
	if s.turns = orderly; orderly {
		defer t.close()
		s.next = max(s.next, t.holds)
	}
	s.bear()
	events, waited := s.due(s.idle, netlink.RecvBatch)
	if waited > 0 {
		s.road.Log.Print(log.Info, "waited in vain for the events before number "+strconv.FormatUint(waited, 10))
		s.missed = true
	}
	if len(events) == 0 {
		return
	}
	s.borne = 0
	if orderly {
		s.inTurn(&t, events)
	} else {
		s.road.Run(events)
	}
}

// rests reports whether nothing is left to do, and has not been for long enough.
func (s *server) rests() bool {
	if len(s.waiting) > 0 || !s.road.idle() || s.road.commandsRun() && !s.told.Load() {
		return false
	}
	if s.told.Load() {
		return true
	}
	quiet := s.idle - s.heard
	if quiet < min(s.stay, calm) || s.compares(quiet >= s.stay) {
		return false
	}
	return quiet >= s.stay && (quiet >= heldLimit || !s.road.holds())
}

// calm is how long no event has come when /dev is compared with /sys.
const calm = time.Second

// compares reports whether /dev is being compared with /sys, and begins that where
// numbers did not come: a helper may have been killed before it handed its event over.
// A server that is about to leave asks the kernel too, since nobody came after the
// last one.
func (s *server) compares(leaves bool) bool {
	if s.comparing.Load() {
		return true
	}
	if leaves && !s.asked {
		s.asked = true
		s.missed = s.missed || s.road.Sys.Seqnum() > s.taken.last()
	}
	if !s.missed {
		return false
	}
	s.missed = false
	s.comparing.Store(true)
	go func() {
		audit(s.road, auditPause, s.pending)
		s.comparing.Store(false)
	}()
	return true
}

// heldLimit is how long after the last event the server still feeds slow clients.
const heldLimit = time.Minute

// How long in all a missing number is waited for that may be on its way: while
// helpers wait to hand over, and while one may not have got a processor yet.
const (
	waitForHelpers = 5 * time.Second
	waitForCrowd   = time.Second
)

// bear begins the wait for a missing number anew, if it is over while helpers wait
// for their turn to hand over, or while more tasks want a processor than there are,
// since a helper may be among them that has not run yet.
func (s *server) bear() {
	if s.turns || !s.gives(s.idle) {
		return // by mdev.seq it has waited long enough
	}
	borne := time.Duration(s.borne) * gapWait
	if borne < waitForCrowd && procfs.CPUSaturated() || borne < waitForHelpers && handoff.Waiting() {
		s.again(s.idle)
		s.borne++
	}
}

// pause returns how long to wait for another event: not so long that who tells the
// server to leave would have to wait.
func (s *server) pause() time.Duration {
	const look = 20 * time.Millisecond
	if wait := s.wait(s.idle); wait >= 0 && s.turns {
		return min(wait, look) // others write their number into mdev.seq
	} else if wait >= 0 {
		return wait
	}
	if left := s.heard + s.stay - s.idle; left > 0 && s.road.idle() {
		return min(left, look)
	}
	return look
}

// notice reports whether another file system was mounted on /dev since it was
// called last. If so the server rescans, and leaves as soon as it can: its FIFO is
// hidden, and the next helper makes one that is not.
func (s *server) notice() bool {
	now := sys.FileIDOf(s.road.Dev.Path())
	if now == s.dev {
		return false
	}
	s.dev, s.stay = now, 0
	s.road.tellRenewed()
	s.rescan("another file system is mounted on " + s.road.Dev.Path())
	return true
}

// rescan coldplugs, where there is a sysfs already.
func (s *server) rescan(why string) {
	if s.road.Sys.Mounted() {
		s.road.Gap(why + ": scanning /sys anew")
		Coldplug(s.road)
	}
}

// read waits up to limit until there are events, takes all there are, and reports
// whether there were any.
func (s *server) read(limit time.Duration) (heard bool) {
	if s.fifo == sys.None {
		time.Sleep(limit)
		s.idle += limit
		return false
	}
	start := time.Now()
	timeout := unix.NsecToTimespec(limit.Nanoseconds())
	unix.Ppoll([]unix.PollFd{{Fd: int32(s.fifo), Events: unix.POLLIN}}, &timeout, nil)
	s.idle += time.Since(start)
	for {
		n, err := unix.Read(s.fifo, s.buffer)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			break
		}
		s.behind.Store(true)
		s.text = append(s.text, s.buffer[:n]...)
		s.parse()
		heard = true
	}
	if heard {
		s.heard = s.idle
	}
	return heard
}

// parse takes the whole records out of what was read.
func (s *server) parse() {
	for {
		block, size := record(s.text)
		if size == 0 {
			return
		}
		if e, err := uevent.FromEnviron(strings.Split(block, "\x00")); err != nil {
			s.road.Log.Print(log.Err, "handed over: "+err.Error())
		} else {
			s.add(e, s.idle)
		}
		s.text = s.text[:copy(s.text, s.text[size:])]
	}
}

// record returns the first record of text, and how many bytes of text it takes: 0
// where it is not whole yet. What is no record is skipped.
func record(text []byte) (block string, size int) {
	if len(text) < handoff.HeaderSize {
		return "", 0
	}
	length, ok := handoff.Length([handoff.HeaderSize]byte(text))
	if !ok {
		return "", len(text) // a stranger's
	}
	if size = handoff.HeaderSize + length; size > len(text) {
		return "", 0
	}
	return string(text[handoff.HeaderSize:size]), size
}

// leave takes the FIFO's name away and reports whether nothing had come in the
// meantime; otherwise this process goes on to serve. See handoff for why no event
// can be lost between the two.
func (s *server) leave() bool {
	if s.fifo == sys.None {
		return true
	}
	unix.Unlinkat(s.private, fifoName, 0)
	heard := s.read(0)
	unix.Close(s.fifo)
	s.fifo = sys.None
	if !heard {
		return true
	}
	if err := s.openFIFO(); err != nil {
		s.road.Log.Print(log.Warning, "no more events are taken: "+err.Error())
	}
	return false
}

// close lets go of all, of the lock last.
func (s *server) close() {
	if s.control != nil {
		s.control.close()
	}
	if s.fifo != sys.None {
		unix.Unlinkat(s.private, fifoName, 0)
		unix.Close(s.fifo)
	}
	if s.lock != sys.None {
		unix.Flock(s.lock, unix.LOCK_UN)
		unix.Close(s.lock)
	}
	if s.private != sys.None {
		unix.Close(s.private)
	}
}
