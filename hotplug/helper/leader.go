package helper

import (
	"errors"
	"os"
	"runtime/debug"
	"strconv"
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

// leaderLock is the file in the private directory that a leader holds locked. Between leaders its
// text is the SEQNUMs of the events that are done, as intervals.String writes them, of maxState bytes
// at most. While a leader serves, and after one that was killed, its text is stateServing.
const (
	leaderLock   = "server"
	stateServing = "serving\n"
	maxState     = 64 << 10
)

// eventsAtOnce is how many events the leader submits before it reads more.
const eventsAtOnce = 32

// errServed is returned where another helper leads.
var errServed = errors.New("another helper serves")

// Options are what a helper works with.
type Options struct {
	Scheduler *scheduler.Scheduler
	Config    *reload.Config
	Dev       *nodes.Dir // nil for a dry run
	Sys       sysfs.FS
	Log       *log.Logger
	Environ   []string      // of this process
	Linger    time.Duration // how long a leader stays after the last event; 0 for no leader
}

// Serve does the event of a helper that the kernel started. It hands the event over to the leader, or
// leads itself, and returns when no event has come for the time Linger. Where no helper can lead it
// does its own event, as Run does. ok is false where a part of the event failed, unless a leader did
// it; stopped is true where this helper led and was told to end.
func Serve(o Options, e *uevent.Event) (ok, stopped bool) {
	for o.Linger > 0 && o.Dev != nil {
		l, err := newLeader(o)
		if err == nil {
			// The FIFO is there now, so the helpers that wait behind this one can hand over.
			handoff.EndTurn()
			return true, l.lead(e)
		}
		if !errors.Is(err, errServed) {
			o.Log.Print(log.Info, "this helper does its own event only: "+err.Error())
			break
		}
		// The leader takes the event, unless it is about to leave.
		if handoff.TryOffer(o.Environ) {
			return true, false
		}
		time.Sleep(time.Millisecond) // the leader has not made its FIFO yet, or is leaving
	}
	handoff.EndTurn()
	return Run(o, e), false
}

// leader is the first helper, which stays to do the events of the helpers after it. It is a
// control.Source. Its life, by the field phase:
//
//	opening ──────> serving ──────> withdrawn ──────> left
//	   │               ^    canExit     │   no event came,
//	   │               │                │   or no new FIFO can be made
//	   │               └────────────────┘
//	   │              an event came meanwhile
//	   └──> left, where it cannot lead: errServed (another helper leads, and takes the event),
//	        control.ErrRunning (a loop does all events), or /dev has no room
//
//	phase      leaderLock  its text           FIFO                events of other helpers
//	opening    taken       becomes "serving"  is made last        wait
//	serving    held        "serving"          open, has its name  are read
//	withdrawn  held        "serving"          closed, no name     wait
//	left       released    the SEQNUMs done   closed, no name     the next helper leads
//
// A leader that is killed leaves "serving" behind; the next one then rescans /sys. A mount over /dev
// hides the FIFO: such a leader stays in its phase, with no time to linger.
//
// Its fields are those of one goroutine, but for the atomic ones and those behind mu; each group
// belongs to one concern: the phase, the descriptors, the clock, the order, the audit.
type leader struct {
	Options
	phase    phase
	stopping atomic.Int64  // when it was told to leave, a sys.Time, or 0
	done     chan struct{} // closed when the phase is left, for Stop

	private int             // the private directory
	lock    int             // leaderLock
	fifo    int             // see phase
	control *control.Server // nil where /dev has no room for the socket
	dev     sys.FileID      // of /dev, to notice a mount over it
	buffer  []byte          // for reads of the FIFO: some whole records
	text    []byte          // what was read and is not a whole record yet

	elapsed   time.Duration // how long this leader has waited in all: its clock
	lastEvent time.Duration // when the last event came, by that clock

	reorderBuffer
	extensions  int    // how often the wait for a missing SEQNUM was extended
	noWaitUntil uint64 // events up to this SEQNUM do not wait for the end of those before them

	auditor  coldplug.Auditor
	died     bool        // the leader before this one was killed, or left a text that is no intervals
	missed   bool        // a SEQNUM did not come, and no audit began since
	asked    bool        // the kernel was asked for its last SEQNUM
	auditing atomic.Bool // an audit is under way

	unsubmitted atomic.Bool // events were read that the scheduler does not have yet

	mu    sync.Mutex // guards the fields below, for Pending
	sent  uint64     // the SEQNUM of the last event that the kernel sent
	since sys.Time   // when that was seen first
}

// phase is a step in the life of a leader; see there.
type phase uint8

const (
	opening phase = iota
	serving
	withdrawn
	left
)

// leaderGC is the GC percentage that has the collector begin at 1 MiB of heap, not at 4: leaders run
// on boards that want nothing resident, and during a storm of events only.
const leaderGC = 25

// newLeader makes this process the leader. The error is errServed where another helper leads, and
// control.ErrRunning where a loop does all events.
func newLeader(o Options) (*leader, error) {
	l := &leader{Options: o, private: sys.None, lock: sys.None, fifo: sys.None, done: make(chan struct{}),
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

// Name returns the name of this source for the status.
func (l *leader) Name() string { return "first of the kernel's helpers" }

// Pending reports whether there are events that the scheduler does not have yet: read from the FIFO,
// or sent by the kernel so recently that their helpers may still be on the way.
func (l *leader) Pending() bool {
	n := l.Sys.Seqnum()
	l.mu.Lock()
	defer l.mu.Unlock()
	if n != l.sent {
		l.sent, l.since = n, sys.Now()
	}
	return l.unsubmitted.Load() || !l.Scheduler.HasSeen(n) && !arrivedBy(l.since)
}

// handOverTime is how long it takes at most from an event to its helper, which handoff.Waiting then
// reports, while processors are free.
const handOverTime = 200 * time.Millisecond

// arrivedBy reports whether the helpers of events that were sent until then have arrived by now.
func arrivedBy(sent sys.Time) bool {
	return sent.Age() >= waitForCPU || sent.Age() >= handOverTime && !procfs.CPUSaturated()
}

// Stop has the leader leave as soon as no event is under way, or it has waited for that long
// enough. It returns when the leader has left or gone is closed.
func (l *leader) Stop(gone <-chan struct{}) {
	l.stopping.CompareAndSwap(0, int64(sys.Now()))
	select {
	case <-l.done:
	case <-gone:
	}
}

// trimEnviron returns the part of this process's environment that commands inherit: not the variables
// of its own event, since each event brings its own.
func trimEnviron(environ []string) []string {
	return []string{"HOME=" + sys.Getenv(environ, "HOME"), "PATH=" + sys.Getenv(environ, "PATH")}
}

// open takes the lock first, so that only one helper gets further, and makes the FIFO last, since
// helpers write to it as soon as they find it.
func (l *leader) open() (err error) {
	if l.private, err = l.Dev.OpenPrivate(); err != nil {
		return err
	}
	if err := l.acquire(); err != nil {
		return err
	}
	text, err := sys.ReadAll(l.lock, maxState)
	if err != nil {
		return os.NewSyscallError("read", err)
	}
	l.loadState(text)
	if err = l.saveState(stateServing); err == nil {
		err = l.listen()
	}
	if err != nil {
		_ = l.saveState(text) // where this fails the next leader rescans
	}
	return err
}

// acquire takes the lock. The error is errServed where another helper holds it.
func (l *leader) acquire() error {
	fd, err := unix.Openat(l.private, leaderLock, unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return os.NewSyscallError("open", err)
	}
	if err := sys.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		unix.Close(fd)
		if err == unix.EWOULDBLOCK {
			return errServed
		}
		return os.NewSyscallError("flock", err)
	}
	l.lock = fd
	return nil
}

// loadState takes over which events are done from the text that the leader before left.
func (l *leader) loadState(text string) {
	var ok bool
	l.seen, ok = parseIntervals(text)
	l.died = !ok
	if last := l.seen.last(); last > 0 {
		l.next = last + 1
	}
}

// saveState replaces the text of the lock. It writes before it truncates: a kill between the
// two leaves text that is no intervals, and the next leader scans /sys.
func (l *leader) saveState(text string) error {
	if _, err := unix.Pwrite(l.lock, []byte(text), 0); err != nil {
		return os.NewSyscallError("write", err)
	}
	return os.NewSyscallError("truncate", unix.Ftruncate(l.lock, int64(len(text))))
}

// listen opens the ways by which other processes reach this one: the control socket and the FIFO.
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

// leaderExitWait is how long events may still be under way when the leader was told to end,
// and commands after that.
const leaderExitWait = 10 * time.Second

// lead does events, first its own, until canExit. stopped is true where it was told to end.
func (l *leader) lead(first *uevent.Event) (stopped bool) {
	// Its own event gets into the order like any other: helpers of earlier ones may come after it.
	l.add(first, 0)
	if l.died {
		l.rescan("the helper that served was killed")
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
	// The text stays stateServing, which has the next leader scan.
	if !l.isIdle() {
		l.Log.Print(log.Warning, "told to end while events are under way: the next helper scans /sys anew")
	} else if err := l.saveState(l.seen.String()); err != nil {
		l.Log.Print(log.Err, err.Error())
	}
	l.close()
	close(l.done)
	// Behind close: commands that still run do not keep the next helper from leading.
	l.Scheduler.Shutdown(leaderExitWait)
	return l.stopping.Load() != 0
}

// submit gives the scheduler the events that reorderBuffer does not hold back.
func (l *leader) submit() {
	if len(l.waiting) > 0 {
		l.submitWaiting()
	}
	l.unsubmitted.Store(len(l.waiting) > 0)
	l.checkRemount()
}

// submitWaiting submits the events whose turn it is: those that follow the last SEQNUM without a
// gap, and those for which the wait for a missing one is over. Where there is a /dev/mdev.seq it
// says whose turn it is, and is advanced.
func (l *leader) submitWaiting() {
	f, ok := openSeqFile(l.Dev.Path())
	if l.inTurn = ok; ok {
		defer f.close()
		l.next = max(l.next, f.number)
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
	if ok {
		l.submitInTurn(&f, events)
	} else {
		l.Scheduler.Run(scheduler.Events(events...))
	}
}

// isIdle reports whether no event is under way.
func (l *leader) isIdle() bool { return len(l.waiting) == 0 && l.Scheduler.IsIdle() }

// canExit reports whether this leader has nothing to do any more: no event is under way, and
// none has come for the time Linger. Told to end, it does not wait for a stopped queue, nor
// for ever.
func (l *leader) canExit() bool {
	idle, told := l.isIdle(), sys.Time(l.stopping.Load())
	switch {
	case told != 0:
		return idle || l.Scheduler.IsPaused() || told.Age() >= leaderExitWait
	case !idle:
		return false
	}
	// An audit waits for calm. A time Linger that is shorter than that goes before.
	quiet := l.elapsed - l.lastEvent
	if l.Scheduler.CommandsRunning() > 0 || quiet < min(l.Linger, calm) || l.audits(quiet >= l.Linger) {
		return false
	}
	return quiet >= l.Linger && (quiet >= backlogLimit || !l.Scheduler.HasBacklog())
}

// calm is how long no event must have come before an audit: a comparison of /dev with /sys.
const calm = time.Second

// audits reports whether an audit is under way. It begins one where SEQNUMs did not come: a helper may
// have been killed before it handed its event over. A leader that is about to leave asks the kernel
// for its last SEQNUM too, since a missing event at the end leaves no gap.
func (l *leader) audits(leaving bool) bool {
	if l.auditing.Load() {
		return true
	}
	if leaving && !l.asked {
		l.asked = true
		l.missed = l.missed || l.Sys.Seqnum() > l.seen.last()
	}
	if !l.missed {
		return false
	}
	l.missed = false
	// In a goroutine: between its two looks an audit sleeps for seconds, and events go on.
	l.auditing.Store(true)
	go func() {
		l.auditor.Audit()
		l.auditing.Store(false)
	}()
	return true
}

// backlogLimit is how long after the last event the leader still waits for slow clients.
const backlogLimit = time.Minute

// The limits of the wait for a missing SEQNUM, extensions included: while helpers wait to hand their
// events over, and while processors are saturated, so that a helper may not have run yet.
const (
	waitForHelpers = 5 * time.Second
	waitForCPU     = time.Second
)

// extendGap extends the wait for a missing SEQNUM while helpers are queued or the processors are
// saturated: the missing event may be with one of these helpers.
func (l *leader) extendGap() {
	if l.inTurn || !l.wouldSkip(l.elapsed) {
		return // turnWait, by mdev.seq, is long enough
	}
	extended := time.Duration(l.extensions) * gapWait
	if extended < waitForCPU && procfs.CPUSaturated() || extended < waitForHelpers && handoff.Waiting() {
		l.restartTimers(l.elapsed)
		l.extensions++
	}
}

// pause returns how long to wait for another event. It is bounded, so that a request to stop is
// noticed promptly.
func (l *leader) pause() time.Duration {
	const limit = 20 * time.Millisecond
	if wait := l.wait(l.elapsed); wait >= 0 && l.inTurn {
		return min(wait, limit) // other helpers change mdev.seq
	} else if wait >= 0 {
		return wait
	}
	if left := l.lastEvent + l.Linger - l.elapsed; left > 0 && l.Scheduler.IsIdle() {
		return min(left, limit)
	}
	return limit
}

// checkRemount reports whether another file system was mounted on /dev since the last call. If so, the
// leader rescans and leaves as soon as it can: its FIFO is hidden, and the next helper makes one that
// is not.
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

// rescan scans /sys, if it is mounted yet.
func (l *leader) rescan(why string) {
	if l.Sys.Mounted() {
		l.Scheduler.Gap(why + ": scanning /sys anew")
		coldplug.Scan(l.Scheduler, l.Sys)
	}
}

// close removes and closes everything, and releases the lock last: then another helper may lead.
func (l *leader) close() {
	if l.control != nil {
		l.control.Close()
	}
	if l.phase == serving {
		sys.Unlinkat(l.private, fifoName)
	}
	if l.lock != sys.None {
		_ = sys.Flock(l.lock, unix.LOCK_UN) // a process that is being started may have a copy of the descriptor
	}
	sys.CloseAll(&l.fifo, &l.lock, &l.private)
	l.phase = left
}
