package helper

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

	"devspool/hotplug/coldplug"
	"devspool/hotplug/control"
	"devspool/hotplug/handoff"
	"devspool/hotplug/log"
	"devspool/hotplug/procfs"
	"devspool/hotplug/reload"
	"devspool/hotplug/scheduler"
	"devspool/hotplug/sys"
	"devspool/hotplug/sysfs"
	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// leaderLock is the file in the private directory that the leader holds locked as long as
// it serves. Between leaders it holds the numbers of the events that are done; while one
// serves, and after one that died, serving.
const (
	leaderLock = "server"
	serving    = "serving\n"
)

// pipeSize is what the FIFO shall hold: some thousand events. A helper that finds it full
// waits.
const pipeSize = 1 << 20

// eventsAtOnce is how many events the leader submits until it looks for more.
const eventsAtOnce = 32

// errServed is returned where there is a leader already.
var errServed = errors.New("another helper serves")

// Options are what a helper works with.
type Options struct {
	Scheduler *scheduler.Scheduler
	Config    *reload.Config
	Dev       *nodes.Dir // nil for a dry run
	Sys       sysfs.FS
	Log       *log.Logger
	Environ   []string // of this process
	Linger    time.Duration
}

// Serve does the event of a helper that the kernel started: it hands it over to the leader,
// or becomes that, and returns when no event came for the time Linger. Where nobody can lead
// it does no more than its own event. Stopped tells that the leader was told to end.
func Serve(o Options, e *uevent.Event) (ok, stopped bool) {
	for o.Linger > 0 && o.Dev != nil {
		l, err := newLeader(o)
		if err == nil {
			handoff.Pass()
			return true, l.lead(e)
		}
		if err != errServed {
			o.Log.Print(log.Info, "this helper does no event but its own: "+err.Error())
			break
		}
		if handoff.Give(o.Environ) {
			return true, false
		}
		time.Sleep(time.Millisecond) // the leader comes, or leaves
	}
	handoff.Pass()
	return Run(o, e), false
}

// leader is the helper that came first, and stays to do the events of those that come after
// it. Its life:
//
//	acquire ──> serve ──> (canExit) withdraw ──> saved: the process ends
//	   │          ^              │
//	   │          └── an event came meanwhile
//	   └── errServed: another leads; this helper hands its event over
//
// It serves while lock and fifo are open. Withdraw takes the FIFO's name away first and then
// looks once more, so that no event is lost between the two; fifo is sys.None after it.
type leader struct {
	Options
	private int             // the private directory
	lock    int             // leaderLock
	fifo    int             // or sys.None
	control *control.Server // or nil
	dev     sys.FileID
	auditor coldplug.Auditor

	stopping    atomic.Int64  // when it was told to leave, a sys.Time, or 0
	left        chan struct{} // closed when another may take its place
	unsubmitted atomic.Bool   // events were read that the scheduler does not have yet

	mu    sync.Mutex
	sent  uint64   // the SEQNUM of the last event that the kernel sent
	since sys.Time // when that was seen first

	reorderBuffer
	noWaitUntil uint64        // events up to this SEQNUM do not wait for the end of others
	missed      bool          // a number did not come, and /dev was not compared with /sys since
	asked       bool          // the kernel was asked which number was its last
	comparing   atomic.Bool   // a comparison is under way
	died        bool          // the leader before this one did not leave, but died
	elapsed     time.Duration // how long this leader has waited in all: its clock
	extensions  int           // how often the wait for a missing number began anew
	lastEvent   time.Duration // when by that clock the last event came
	text        []byte        // read, and not yet parsed
	buffer      []byte
}

// leaderGC makes the collector begin at 1 MiB of heap, not at 4: the leader is there on
// boards that want nothing resident, and for a storm only.
const leaderGC = 25

// newLeader makes this process the leader, or returns errServed. ErrRunning tells that a
// loop does all that is to be done.
func newLeader(o Options) (*leader, error) {
	l := &leader{Options: o, private: sys.None, lock: sys.None, fifo: sys.None, left: make(chan struct{}),
		dev: sys.FileIDOf(o.Dev.Path()), buffer: make([]byte, 16*handoff.MaxRecord)}
	l.auditor = coldplug.Auditor{Scheduler: o.Scheduler, Sys: o.Sys, Pending: l.Pending}
	if err := o.Scheduler.Exclusive(func(scheduler.View) error { return l.open() }); err != nil {
		l.close()
		return nil, err
	}
	o.Scheduler.Stay(trimEnviron(o.Environ))
	debug.SetGCPercent(leaderGC)
	return l, nil
}

// Name says what this is, for the status.
func (l *leader) Name() string { return "first of the kernel's helpers" }

// Pending reports whether there are events that the scheduler does not have yet: handed
// over, or sent by the kernel so lately that their helpers may still come.
func (l *leader) Pending() bool {
	n := l.Sys.Seqnum()
	l.mu.Lock()
	defer l.mu.Unlock()
	if n != l.sent {
		l.sent, l.since = n, sys.Now()
	}
	return l.unsubmitted.Load() || !l.Scheduler.HasSeen(n) && !arrivedBy(l.since)
}

// handOverTime is how long a helper takes at most until others can see it.
const handOverTime = 200 * time.Millisecond

// arrivedBy reports whether the helpers of the events until then have come by now.
func arrivedBy(sent sys.Time) bool {
	return sent.Age() >= waitForCPU || sent.Age() >= handOverTime && !procfs.CPUSaturated()
}

// Stop has the leader leave as soon as no event is under way, or it has waited for that
// long enough.
func (l *leader) Stop(gone <-chan struct{}) {
	l.stopping.CompareAndSwap(0, int64(sys.Now()))
	select {
	case <-l.left:
	case <-gone:
	}
}

// trimEnviron returns what commands inherit of this process's environment: not what is said
// of its own event, since each event comes with all that is said of it.
func trimEnviron(environ []string) []string {
	return []string{"HOME=" + sys.Getenv(environ, "HOME"), "PATH=" + sys.Getenv(environ, "PATH")}
}

// open acquires the lock first, and makes the FIFO last: a helper that finds that is served.
func (l *leader) open() (err error) {
	if l.private, err = l.Dev.OpenPrivate(); err != nil {
		return err
	}
	if err := l.acquire(); err != nil {
		return err
	}
	text := make([]byte, 64<<10)
	n, err := unix.Pread(l.lock, text, 0)
	if err != nil {
		return os.NewSyscallError("read", err)
	}
	l.loadState(string(text[:n]))
	if err = l.saveState(serving); err == nil {
		err = l.listen()
	}
	if err != nil {
		l.saveState(string(text[:n]))
	}
	return err
}

// acquire takes the lock, unless it is held.
func (l *leader) acquire() error {
	fd, err := unix.Openat(l.private, leaderLock, unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
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
	l.lock = fd
	return nil
}

// loadState reads which events are done.
func (l *leader) loadState(text string) {
	var ok bool
	l.seen, ok = parseIntervals(text)
	l.died = !ok
	if last := l.seen.last(); last > 0 {
		l.next = last + 1
	}
}

// saveState writes text into the lock, over what it holds.
func (l *leader) saveState(text string) error {
	if _, err := unix.Pwrite(l.lock, []byte(text), 0); err != nil {
		return os.NewSyscallError("write", err)
	}
	return os.NewSyscallError("truncate", unix.Ftruncate(l.lock, int64(len(text))))
}

// listen opens what others reach this process by.
func (l *leader) listen() (err error) {
	l.control, err = control.Listen(control.Options{Scheduler: l.Scheduler, Config: l.Config, Dev: l.Dev, Sys: l.Sys, Log: l.Log, Source: l})
	if errors.Is(err, control.ErrRunning) {
		return err
	}
	if err != nil {
		l.Log.Print(log.Warning, "no control socket: "+err.Error())
	}
	return l.openFIFO()
}

// fifoName is the FIFO's name in the private directory.
var fifoName = path.Base(handoff.Path)

// openFIFO makes the FIFO, in place of one that a dead leader left. This process is a writer
// of it too, so that it has no end.
func (l *leader) openFIFO() error {
	unix.Unlinkat(l.private, fifoName, 0)
	if err := unix.Mkfifoat(l.private, fifoName, 0o600); err != nil {
		return os.NewSyscallError("mkfifo", err)
	}
	fd, err := unix.Openat(l.private, fifoName, unix.O_RDWR|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		unix.Unlinkat(l.private, fifoName, 0)
		return os.NewSyscallError("open", err)
	}
	unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, pipeSize)
	l.fifo = fd
	return nil
}

// leaderExitWait is how long events may still be under way when the leader was told to end,
// and commands after that.
const leaderExitWait = 10 * time.Second

// lead serves until no event has come for a while, and nothing is under way. Stopped tells
// that it was told to end.
func (l *leader) lead(first *uevent.Event) (stopped bool) {
	l.add(first, 0)
	if l.died {
		l.rescan("the helper that served died")
	}
	for {
		l.submit()
		if l.read(l.pause()) || !l.canExit() || l.checkRemount() {
			continue
		}
		if l.withdraw() {
			break
		}
	}
	if !l.isIdle() {
		l.Log.Print(log.Warning, "told to end while events are under way: the next helper scans /sys anew")
	} else if err := l.saveState(l.seen.String()); err != nil {
		l.Log.Print(log.Err, err.Error())
	}
	l.close()
	close(l.left)
	l.Scheduler.Shutdown(leaderExitWait)
	return l.stopping.Load() != 0
}

// submit gives the scheduler the events whose turn it is.
func (l *leader) submit() {
	if len(l.waiting) > 0 {
		l.submitWaiting()
	}
	l.unsubmitted.Store(len(l.waiting) > 0)
	l.checkRemount()
}

func (l *leader) submitWaiting() {
	t, isThere := openSeqFile(l.Dev.Path())
	if l.inTurn = isThere; isThere {
		defer t.close()
		l.next = max(l.next, t.holds)
	}
	l.extendGap()
	events, waited := l.pop(l.elapsed, eventsAtOnce)
	if waited > 0 {
		l.Log.Print(log.Info, "gave up waiting for the events before SEQNUM "+strconv.FormatUint(waited, 10))
		l.missed = true
	}
	if len(events) == 0 {
		return
	}
	l.extensions = 0
	if isThere {
		l.submitInTurn(&t, events)
	} else {
		l.Scheduler.Run(scheduler.Events(events...))
	}
}

// isIdle reports whether no event is under way.
func (l *leader) isIdle() bool { return len(l.waiting) == 0 && l.Scheduler.IsIdle() }

// canExit reports whether nothing is left to do, and has not been for long enough. Told to
// end, the leader does not wait for a stopped queue, nor for ever.
func (l *leader) canExit() bool {
	idle, told := l.isIdle(), sys.Time(l.stopping.Load())
	switch {
	case told != 0:
		return idle || l.Scheduler.IsPaused() || told.Age() >= leaderExitWait
	case !idle:
		return false
	}
	quiet := l.elapsed - l.lastEvent
	if l.Scheduler.CommandsRunning() > 0 || quiet < min(l.Linger, calm) || l.compares(quiet >= l.Linger) {
		return false
	}
	return quiet >= l.Linger && (quiet >= backlogLimit || !l.Scheduler.HasBacklog())
}

// calm is how long no event has come when /dev is compared with /sys.
const calm = time.Second

// compares reports whether /dev is being compared with /sys, and begins that where numbers
// did not come: a helper may have been killed before it handed its event over. A leader that
// is about to leave asks the kernel too, since nobody came after the last one.
func (l *leader) compares(leaves bool) bool {
	if l.comparing.Load() {
		return true
	}
	if leaves && !l.asked {
		l.asked = true
		l.missed = l.missed || l.Sys.Seqnum() > l.seen.last()
	}
	if !l.missed {
		return false
	}
	l.missed = false
	l.comparing.Store(true)
	go func() {
		l.auditor.Audit()
		l.comparing.Store(false)
	}()
	return true
}

// backlogLimit is how long after the last event the leader still feeds slow clients.
const backlogLimit = time.Minute

// How long in all a missing number is waited for that may be on its way: while helpers wait
// to hand over, and while one may not have got a processor yet.
const (
	waitForHelpers = 5 * time.Second
	waitForCPU     = time.Second
)

// extendGap extends the wait for a missing number while helpers are still queued or the CPUs
// are saturated: the missing event may be with one of them.
func (l *leader) extendGap() {
	if l.inTurn || !l.wouldSkip(l.elapsed) {
		return // by mdev.seq it has waited long enough
	}
	extended := time.Duration(l.extensions) * gapWait
	if extended < waitForCPU && procfs.CPUSaturated() || extended < waitForHelpers && handoff.Waiting() {
		l.restartTimers(l.elapsed)
		l.extensions++
	}
}

// pause returns how long to wait for another event: bounded, so that a request to stop is
// noticed promptly.
func (l *leader) pause() time.Duration {
	const look = 20 * time.Millisecond
	if wait := l.wait(l.elapsed); wait >= 0 && l.inTurn {
		return min(wait, look) // others write their number into mdev.seq
	} else if wait >= 0 {
		return wait
	}
	if left := l.lastEvent + l.Linger - l.elapsed; left > 0 && l.Scheduler.IsIdle() {
		return min(left, look)
	}
	return look
}

// checkRemount reports whether another file system was mounted on /dev since it was called
// last. If so the leader rescans, and leaves as soon as it can: its FIFO is hidden, and the
// next helper makes one that is not.
func (l *leader) checkRemount() bool {
	now := sys.FileIDOf(l.Dev.Path())
	if now == l.dev {
		return false
	}
	l.dev, l.Linger = now, 0
	l.Scheduler.TellRemounted()
	l.rescan("another file system is mounted on " + l.Dev.Path())
	return true
}

// rescan scans /sys, where there is one already.
func (l *leader) rescan(why string) {
	if l.Sys.Mounted() {
		l.Scheduler.Gap(why + ": scanning /sys anew")
		coldplug.Scan(l.Scheduler, l.Sys)
	}
}

// read waits up to limit until there are events, takes all there are, and reports
// whether there were any.
func (l *leader) read(limit time.Duration) (any bool) {
	if l.fifo == sys.None {
		time.Sleep(limit)
		l.elapsed += limit
		return false
	}
	start := time.Now()
	timeout := unix.NsecToTimespec(limit.Nanoseconds())
	unix.Ppoll([]unix.PollFd{{Fd: int32(l.fifo), Events: unix.POLLIN}}, &timeout, nil)
	l.elapsed += time.Since(start)
	for {
		n, err := unix.Read(l.fifo, l.buffer)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			break
		}
		l.unsubmitted.Store(true)
		l.text = append(l.text, l.buffer[:n]...)
		l.parse()
		any = true
	}
	if any {
		l.lastEvent = l.elapsed
	}
	return any
}

// parse takes the whole records out of what was read.
func (l *leader) parse() {
	for {
		block, size := record(l.text)
		if size == 0 {
			return
		}
		if e, err := uevent.FromEnviron(strings.Split(block, "\x00")); err != nil {
			l.Log.Print(log.Err, "handed over: "+err.Error())
		} else {
			l.add(e, l.elapsed)
		}
		l.text = l.text[:copy(l.text, l.text[size:])]
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

// withdraw takes the FIFO's name away and reports whether nothing had come in the meantime;
// otherwise this process goes on to serve. See handoff for why no event can be lost between
// the two.
func (l *leader) withdraw() bool {
	if l.fifo == sys.None {
		return true
	}
	unix.Unlinkat(l.private, fifoName, 0)
	came := l.read(0)
	sys.CloseAll(&l.fifo)
	if !came {
		return true
	}
	if err := l.openFIFO(); err != nil {
		l.Log.Print(log.Warning, "no more events are taken: "+err.Error())
	}
	return false
}

// close lets go of all, of the lock last.
func (l *leader) close() {
	if l.control != nil {
		l.control.Close()
	}
	if l.fifo != sys.None {
		unix.Unlinkat(l.private, fifoName, 0)
	}
	sys.CloseAll(&l.fifo)
	if l.lock != sys.None {
		unix.Flock(l.lock, unix.LOCK_UN)
	}
	sys.CloseAll(&l.lock, &l.private)
}
