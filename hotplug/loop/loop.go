// Package loop follows the kernel's uevents by a netlink socket until it is told to end. It hands
// every event to the scheduler, rescans /sys where events were lost, and never decides what an
// event means.
package loop

import (
	"errors"
	"os"
	"os/signal"
	"path"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"devspool/hotplug/coldplug"
	"devspool/hotplug/control"
	"devspool/hotplug/daemon"
	"devspool/hotplug/handoff"
	"devspool/hotplug/log"
	"devspool/hotplug/netlink"
	"devspool/hotplug/reload"
	"devspool/hotplug/scheduler"
	"devspool/hotplug/sys"
	"devspool/hotplug/sysfs"
	"devspool/hotplug/uevent"
	"devspool/nodes"

	"golang.org/x/sys/unix"
)

// exitWait is how long commands may still run when the loop is told to end.
const exitWait = 10 * time.Second

// The loop releases memory when no more than fewEvents have come for quietTime, unless so few came
// since it last did that they cannot have used much.
const (
	quietTime = time.Second
	fewEvents = 256
)

// Options are what a Loop works with.
type Options struct {
	_         sys.NotComparable
	Scheduler *scheduler.Scheduler
	Config    *reload.Config
	Dev       *nodes.Dir // nil for a dry run
	Sys       sysfs.FS
	Log       *log.Logger
}

// Loop follows the kernel's events. It is a control.Source.
type Loop struct {
	Options
	sock       *netlink.Socket
	batch      *scheduler.Batch // of all events; nothing waits for its end
	stopped    atomic.Bool      // Serve is to return, whatever still waits in the socket
	isKernels  atomic.Bool      // Sys is the kernel's own sysfs, so it has the devices of the kernel's events
	auditor    coldplug.Auditor
	closeWatch func()      // ends the watch of the config
	delayTrim  func()      // puts off the release of memory until quietTime from now
	sinceTrim  int         // events since submit called delayTrim; of Serve's goroutine
	lastSeqnum uint64      // the highest SEQNUM that came, 0 before the first; of Serve's goroutine
	leaving    atomic.Bool // Serve is to return when what was read is submitted
	inherited  bool        // the socket is that of a loop before; set in New only
	boot
	controlLock sync.Mutex
	control     *control.Server // guarded by controlLock; nil where /dev has no room for the socket
}

// New opens what a loop needs, the netlink socket first, so that it misses no event from then on.
// The error is control.ErrRunning where another loop serves the same /dev.
func New(o Options) (*Loop, error) {
	sock, err := netlink.Listen(o.Log)
	if err != nil {
		return nil, err
	}
	// Before the control socket: a process that sees it may send a signal.
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1)
	l := &Loop{Options: o, sock: sock, batch: scheduler.NewBatch()}
	l.auditor = coldplug.Auditor{Scheduler: o.Scheduler, Sys: o.Sys, Pending: l.Pending}
	l.isKernels.Store(o.Sys.IsKernels())
	timer := time.AfterFunc(quietTime, daemon.ReleaseMemory)
	l.delayTrim = func() { timer.Reset(quietTime) }
	o.Scheduler.OnRemount(l.remounted)
	o.Scheduler.OnRelease(l.delayTrim)
	o.Scheduler.Stay(nil)
	l.closeWatch = once(o.Config.Watch()) // before the control socket: a request to switch the root ends it
	err = l.openControl()
	// A leader of helpers gives way, and so does the loop that an early boot left behind. Any
	// other loop stays, and this one does not start.
	// Another helper may become the leader after stopLeader, so this is tried until neither gives way.
	for errors.Is(err, control.ErrRunning) && (stopLeader(o.Dev) || l.takeOver()) {
		err = l.openControl()
	}
	if err != nil {
		l.closeWatch()
		l.sock.Close()
		return nil, err
	}
	// The loop before has told what came until its end, and no event is missing since.
	if !l.inherited {
		o.Scheduler.TellStarted(o.Sys.Seqnum())
	}
	if daemon.IsSubreaper() {
		go daemon.Reap(o.Scheduler.IsCommand)
	}
	go l.handleSignals(signals)
	return l, nil
}

// handleSignals obeys signals: TERM and INT end the loop, HUP has it reload the config, USR1 has it
// log its status.
func (l *Loop) handleSignals(signals <-chan os.Signal) {
	for {
		switch <-signals {
		case syscall.SIGHUP:
			go l.Config.Reload() // in a goroutine, since it may wait for a file; it logs its error
		case syscall.SIGUSR1:
			go func() {
				for _, line := range control.Status(l.Scheduler, l.Config) {
					l.Log.Print(log.Notice, line)
				}
			}()
		default:
			signal.Reset(syscall.SIGTERM, syscall.SIGINT) // a second signal kills the process
			// Serve kills commands after exitWait; this is for a process that hangs elsewhere.
			time.AfterFunc(2*exitWait, func() { os.Exit(1) })
			l.End()
		}
	}
}

// Name returns the name of this source for the status.
func (l *Loop) Name() string { return "loop" }

// Pending reports whether the kernel sent events that the scheduler does not have yet.
func (l *Loop) Pending() bool { return l.sock.Pending() }

// openControl opens the control socket, by which other processes know that there is a loop. Where
// /dev has no room for it, or no lock, the loop works without.
func (l *Loop) openControl() error {
	err := l.Scheduler.Exclusive(func(scheduler.View) error {
		server, err := control.Listen(control.Options{Scheduler: l.Scheduler, Config: l.Config, Dev: l.Dev, Sys: l.Sys, Log: l.Log, Source: l, Boot: l.bootSide()})
		if err != nil {
			return err
		}
		l.controlLock.Lock()
		defer l.controlLock.Unlock()
		l.control = server
		return nil
	})
	switch {
	case err == nil, errors.Is(err, scheduler.ErrNoLock): // the scheduler logged why
		return nil
	case errors.Is(err, control.ErrRunning):
		return err
	}
	l.Log.Print(log.Warning, "no control socket: "+err.Error())
	return nil
}

// closeControl closes the control socket, if it is open. It may be called again, and by several
// goroutines: a request to hand over closes it before Serve does.
func (l *Loop) closeControl() {
	l.controlLock.Lock()
	defer l.controlLock.Unlock()
	if l.control != nil {
		l.control.Close()
		l.control = nil
	}
}

// remounted moves the loop to the file system that was mounted over /dev: the control socket, the
// sinks, and by a scan the nodes.
func (l *Loop) remounted() {
	l.Log.Print(log.Warning, "another file system is mounted on "+l.Dev.Path()+": scanning /sys anew")
	l.closeControl()
	if err := l.openControl(); err != nil { // another loop serves it already
		l.Log.Print(log.Err, err.Error())
		l.End()
		return
	}
	l.Scheduler.TellRemounted()
	coldplug.Scan(l.Scheduler, l.Sys)
}

// Serve follows events until the loop is told to end. It waits for running commands, up to exitWait,
// and for a client's request that is under way.
func (l *Loop) Serve() error {
	// The last to run: clients that wait are answered while commands end.
	defer l.closeControl()
	defer func() {
		if !l.leaving.Load() { // else commands that still run are to go on
			l.Scheduler.Shutdown(exitWait)
		}
	}()
	defer l.closeWatch()
	defer sysfs.WatchMounts(func() {
		l.follow()
		l.isKernels.Store(l.Sys.IsKernels())
		l.Scheduler.CheckRemount()
	})()
	err := l.sock.Follow(l.submit)
	if err == nil && l.leaving.Load() {
		err = l.waitHandedOver()
	}
	return err
}

// submit gives the scheduler a batch of events, and reports whether the loop goes on.
func (l *Loop) submit(b *netlink.Batch) (more bool) {
	if l.stopped.Load() {
		return false
	}
	if len(b.Events) > 0 {
		l.checkSequence(b.Events)
		var current []bool
		// Over a tree that only looks like /sys the kernel's events are about other devices
		// than it shows, so each is compared with it.
		if l.isKernels.Load() {
			current = b.Current()
		}
		l.Scheduler.RunIn(l.batch, func(_ scheduler.View, yield func(*uevent.Event, scheduler.Kind)) {
			for i, e := range b.Events {
				kind := scheduler.Reported
				if current != nil && current[i] {
					kind = scheduler.Current
				}
				yield(e, kind)
			}
		})
	}
	if b.Lost {
		l.Scheduler.Gap("the kernel dropped events: scanning /sys anew")
		coldplug.Scan(l.Scheduler, l.Sys)
	}
	if l.sinceTrim += len(b.Events); l.sinceTrim > fewEvents {
		l.sinceTrim = 0 // or single events after many would put off the release for ever
		l.delayTrim()
	}
	return !l.leaving.Load()
}

// checkSequence requests a comparison of /dev with /sys where sequence numbers are missing. A gap
// proves no loss: a new network namespace alone uses three numbers.
func (l *Loop) checkSequence(events []*uevent.Event) {
	for _, e := range events {
		if l.lastSeqnum != 0 && e.Seqnum > l.lastSeqnum+1 {
			l.Log.Print(log.Info, "sequence numbers "+strconv.FormatUint(l.lastSeqnum+1, 10)+" to "+
				strconv.FormatUint(e.Seqnum-1, 10)+" did not come: comparing with /sys")
			l.auditor.Request()
		}
		l.lastSeqnum = max(l.lastSeqnum, e.Seqnum)
	}
}

// IsHandedOver reports whether another loop goes on with the work of this one.
func (l *Loop) IsHandedOver() bool { return l.leaving.Load() }

// End has Serve return, as SIGTERM does.
func (l *Loop) End() {
	l.stopped.Store(true)
	l.sock.Wake()
}

// Stop ends the loop, and returns when gone is closed: another loop can take its place only when
// this process has ended, and then nothing waits for Stop any more.
func (l *Loop) Stop(gone <-chan struct{}) {
	l.End()
	<-gone
}

// stopLeader has the leader of the kernel's helpers leave, and reports whether there was one. The
// loop does its work.
func stopLeader(dev *nodes.Dir) bool {
	// Helpers have no options, so their FIFO is below /dev, and a loop for another directory
	// leaves them alone.
	if path.Dir(path.Dir(handoff.Path)) != dev.Path() {
		return false
	}
	fd, err := unix.Open(handoff.Path, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return false // ENXIO: no leader reads the FIFO
	}
	unix.Close(fd)
	return control.Ask(dev, []string{"exit"}, func(string) {}) == nil
}
