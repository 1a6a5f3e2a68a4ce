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
	"devspool/hotplug/sysfs"
	"devspool/hotplug/uevent"
	"devspool/nodes"

	"golang.org/x/sys/unix"
)

// exitWait is how long commands may still run when the loop is told to end.
const exitWait = 10 * time.Second

// When no more than few events have come for quiet, memory is given back to the
// system, unless so few came since the last time that they cannot have used much.
const (
	quiet = time.Second
	few   = 256
)

// Options are what a Loop works with.
type Options struct {
	Scheduler *scheduler.Scheduler
	Config    *reload.Config
	Dev       *nodes.Dir // nil for a dry run
	Sys       sysfs.FS
	Log       *log.Logger
}

// Loop follows the kernel's events.
type Loop struct {
	Options
	sock    *netlink.Socket
	batch   *scheduler.Batch // of all events, for whose end nobody waits
	ended   atomic.Bool
	trim    func()      // begins anew to wait for a quiet time, to release memory
	used    int         // events since that was called
	seqnum  uint64      // the highest that came
	real    atomic.Bool // /sys is the kernel's own: it has the devices that the kernel's events are about
	auditor coldplug.Auditor
	unwatch func() // ends the watch over the config

	mu      sync.Mutex
	control *control.Server // nil where /dev has no room for it
}

// New opens what a loop needs: first of all the socket, so that no event that comes from
// now on is missed. ErrRunning tells that there is a loop already.
func New(o Options) (*Loop, error) {
	sock, err := netlink.Listen(o.Log)
	if err != nil {
		return nil, err
	}
	// Before anything tells others that there is a loop: they may signal it.
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1)
	l := &Loop{Options: o, sock: sock, batch: scheduler.NewBatch()}
	l.auditor = coldplug.Auditor{Scheduler: o.Scheduler, Sys: o.Sys, Pending: l.Pending}
	l.real.Store(o.Sys.IsKernels())
	timer := time.AfterFunc(quiet, daemon.ReleaseMemory)
	l.trim = func() { timer.Reset(quiet) }
	o.Scheduler.OnRemount(l.remounted)
	o.Scheduler.OnRelease(l.trim)
	o.Scheduler.Stay(nil)
	err = l.openControl()
	for errors.Is(err, control.ErrRunning) && stopLeader(o.Dev) {
		err = l.openControl()
	}
	if err != nil {
		sock.Close()
		return nil, err
	}
	o.Scheduler.TellStarted(o.Sys.Seqnum())
	l.unwatch = o.Config.Watch()
	if daemon.IsSubreaper() {
		go daemon.Reap(o.Scheduler.IsCommand)
	}
	go l.handleSignals(signals)
	return l, nil
}

// handleSignals does what signals say: TERM and INT end the loop, HUP has it read the config
// anew, USR1 has it log its status.
func (l *Loop) handleSignals(signals <-chan os.Signal) {
	for {
		switch <-signals {
		case syscall.SIGHUP:
			go l.Config.Reload() // which may have to wait for a file
		case syscall.SIGUSR1:
			go func() {
				for _, line := range control.Status(l.Scheduler, l.Config) {
					l.Log.Print(log.Notice, line)
				}
			}()
		default:
			signal.Reset(syscall.SIGTERM, syscall.SIGINT) // a second one kills us at once
			time.AfterFunc(2*exitWait, func() { os.Exit(1) })
			l.End()
		}
	}
}

// Name says what this is, for the status.
func (l *Loop) Name() string { return "loop" }

// Pending reports whether there are events that the kernel sent and that the scheduler does
// not have yet. The reader is busy from before it takes them until it finds no more.
func (l *Loop) Pending() bool { return l.sock.Pending() || l.sock.Busy.Load() }

// openControl opens the control socket, by which other processes know that there is a loop.
// Where /dev has no room for it the loop does without.
func (l *Loop) openControl() error {
	err := l.Scheduler.Exclusive(func(scheduler.View) error {
		control, err := control.Listen(control.Options{Scheduler: l.Scheduler, Config: l.Config, Dev: l.Dev, Sys: l.Sys, Log: l.Log, Source: l})
		if err != nil {
			return err
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.control = control
		return nil
	})
	if err == nil || err == scheduler.ErrNoLock || errors.Is(err, control.ErrRunning) {
		if err == scheduler.ErrNoLock {
			return nil // which is logged
		}
		return err
	}
	l.Log.Print(log.Warning, "no control socket: "+err.Error())
	return nil
}

func (l *Loop) closeControl() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.control != nil {
		l.control.Close()
		l.control = nil
	}
}

// remounted makes all anew on another /dev.
func (l *Loop) remounted() {
	l.Log.Print(log.Warning, "another file system is mounted on "+l.Dev.Path()+": scanning /sys anew")
	l.closeControl()
	if err := l.openControl(); err != nil { // ErrRunning: another loop was faster there
		l.Log.Print(log.Err, err.Error())
		l.End()
		return
	}
	l.Scheduler.TellRemounted()
	coldplug.Scan(l.Scheduler, l.Sys)
}

// Serve follows events until it is told to end by SIGTERM or SIGINT. It lets commands that
// run come to their end, for a while.
func (l *Loop) Serve() error {
	defer l.closeControl()
	defer l.Scheduler.Shutdown(exitWait)
	defer l.unwatch()
	defer sysfs.WatchMounts(func() {
		l.real.Store(l.Sys.IsKernels())
		l.Scheduler.CheckRemount()
	})()
	return l.sock.Follow(l.submit)
}

// submit gives the scheduler what was read, and reports whether more is wanted.
func (l *Loop) submit(read *netlink.Batch) (more bool) {
	if l.ended.Load() {
		return false
	}
	if len(read.Events) > 0 {
		l.checkSequence(read.Events)
		var current []bool
		if l.real.Load() {
			current = read.Current()
		}
		l.Scheduler.RunIn(l.batch, func(_ scheduler.View, yield func(*uevent.Event, scheduler.Kind)) {
			for i, e := range read.Events {
				kind := scheduler.Reported
				if current != nil && current[i] {
					kind = scheduler.Current
				}
				yield(e, kind)
			}
		})
	}
	if read.Lost {
		l.Scheduler.Gap("the kernel dropped events: scanning /sys anew")
		coldplug.Scan(l.Scheduler, l.Sys)
	}
	if l.used += len(read.Events); l.used > few {
		l.used = 0 // or a trickle after many would put it off for ever
		l.trim()
	}
	return true
}

// checkSequence follows the sequence numbers. Some that do not come prove nothing: a new
// network namespace alone uses up three. So /dev is compared with /sys, some time.
func (l *Loop) checkSequence(events []*uevent.Event) {
	for _, e := range events {
		if l.seqnum != 0 && e.Seqnum > l.seqnum+1 {
			l.Log.Print(log.Info, "sequence numbers "+strconv.FormatUint(l.seqnum+1, 10)+" to "+
				strconv.FormatUint(e.Seqnum-1, 10)+" did not come: comparing with /sys")
			l.auditor.Request()
		}
		l.seqnum = max(l.seqnum, e.Seqnum)
	}
}

// End makes Serve return, as SIGTERM does.
func (l *Loop) End() {
	l.ended.Store(true)
	l.sock.Wake()
}

// Stop ends the loop. Another may take its place when its process has ended.
func (l *Loop) Stop(gone <-chan struct{}) {
	l.End()
	<-gone
}

// stopLeader has a leader of helpers leave, and reports whether there was one: a loop does
// itself what a leader does.
func stopLeader(dev *nodes.Dir) bool {
	if path.Dir(path.Dir(handoff.Path)) != dev.Path() {
		return false
	}
	fd, err := unix.Open(handoff.Path, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return false // there is none to read it
	}
	unix.Close(fd)
	return control.Ask(dev, []string{"exit"}, func(string) {}) == nil
}
