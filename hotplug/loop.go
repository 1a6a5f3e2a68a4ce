package hotplug

import (
	"errors"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"devspool/hotplug/log"
	"devspool/hotplug/netlink"
	"devspool/hotplug/uevent"
)

// exitWait is how long commands may still run when the loop is told to end.
const exitWait = 10 * time.Second

// When no more than few events have come for quiet, memory is given back to the
// system, unless so few came since the last time that they cannot have used much.
const (
	quiet = time.Second
	few   = 256
)

// Loop follows the kernel's events.
type Loop struct {
	road  *Road
	sock  *netlink.Socket
	batch *Batch // of all events, for whose end nobody waits
	ended atomic.Bool
	rest  func() // begins anew to wait for a quiet time, to give back memory
	used  int    // events since that was called

	last    uint64 // the highest sequence number that came
	auditor auditor
	real    atomic.Bool // /sys is the kernel's own, of whose devices it tells

	unwatch func() // ends the watch over the config

	mu      sync.Mutex
	control *control // nil where /dev has no room for it
}

// NewLoop opens what a loop needs: first of all the socket, so that no event
// that comes from now on is missed. ErrRunning tells that there is a loop already.
func NewLoop(r *Road) (*Loop, error) {
	sock, err := netlink.Listen(r.Log)
	if err != nil {
		return nil, err
	}
	// Before anything tells others that there is a loop: they may signal it.
	told := make(chan os.Signal, 4)
	signal.Notify(told, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1)
	l := &Loop{road: r, sock: sock, batch: newBatch(), auditor: auditor{calm: auditPause}}
	l.real.Store(r.Sys.IsKernels())
	rest := time.AfterFunc(quiet, giveBack)
	l.rest = func() { rest.Reset(quiet) }
	r.Renewed = l.renew
	r.Patience = defaultPatience
	r.shed = l.rest
	err = l.claim()
	for errors.Is(err, ErrRunning) && relieve(r) {
		err = l.claim()
	}
	if err != nil {
		sock.Close()
		return nil, err
	}
	for _, listener := range r.Listeners {
		if listener.Begun != nil {
			listener.Begun(r.Sys.Seqnum())
		}
	}
	l.unwatch = r.watchConf()
	if adopts() {
		go r.reap()
	}
	go l.heed(told)
	return l, nil
}

// heed does what signals say: TERM and INT end the loop, HUP has it read the
// config anew, USR1 has it log its status.
func (l *Loop) heed(told <-chan os.Signal) {
	for {
		switch <-told {
		case syscall.SIGHUP:
			go l.road.Renew() // which may have to wait for a file
		case syscall.SIGUSR1:
			go func() {
				for _, line := range l.road.Status() {
					l.road.Log.Print(log.Notice, line)
				}
			}()
		default:
			signal.Reset(syscall.SIGTERM, syscall.SIGINT) // a second one is not to be argued with
			time.AfterFunc(2*exitWait, func() { os.Exit(1) })
			l.End()
		}
	}
}

func (l *Loop) name() string { return "loop" }

// pending reports whether there are events that the kernel sent and that are not
// on the road yet. The reader is busy from before it takes them until it finds no more.
func (l *Loop) pending() bool { return l.sock.Pending() || l.sock.Busy.Load() }

// claim opens the control socket, by which other processes know that there is a
// loop. Where /dev has no room for it the loop does without.
func (l *Loop) claim() error {
	r := l.road
	if r.Dev == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lock()
	defer r.unlock()
	if r.lockless {
		return nil
	}
	control, err := openControl(r, l)
	if errors.Is(err, ErrRunning) {
		return err
	}
	if err != nil {
		r.Log.Print(log.Warning, "no control socket: "+err.Error())
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.control = control
	return nil
}

// unclaim closes the control socket.
func (l *Loop) unclaim() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.control != nil {
		l.control.close()
		l.control = nil
	}
}

// renew makes all anew on another /dev.
func (l *Loop) renew() {
	l.road.Log.Print(log.Warning, "another file system is mounted on "+l.road.Dev.Path()+": scanning /sys anew")
	l.unclaim()
	if err := l.claim(); err != nil { // ErrRunning: another loop was faster there
		l.road.Log.Print(log.Err, err.Error())
		l.End()
		return
	}
	l.road.tellRenewed()
	Coldplug(l.road)
}

// Serve follows events until it is told to end by SIGTERM or SIGINT. It lets
// commands that run come to their end, for a while.
func (l *Loop) Serve() error {
	defer l.unclaim()
	defer l.road.End(exitWait)
	defer l.unwatch()
	defer watchMounts(func() {
		l.real.Store(l.road.Sys.IsKernels())
		l.road.look()
	})()
	return l.sock.Follow(l.work)
}

// work puts on the road what was read, and reports whether more is wanted.
func (l *Loop) work(read *netlink.Batch) (more bool) {
	if l.ended.Load() {
		return false
	}
	if len(read.Events) > 0 {
		l.count(read.Events)
		var fresh []bool
		if l.real.Load() {
			fresh = read.Current()
		}
		l.road.runIn(l.batch, read.Events, fresh)
	}
	if read.Lost {
		l.road.Gap("the kernel dropped events: scanning /sys anew")
		Coldplug(l.road)
	}
	if l.used += len(read.Events); l.used > few {
		l.used = 0 // or a trickle after many would put it off for ever
		l.rest()
	}
	return true
}

// count follows the sequence numbers. Some that do not come prove nothing: a new
// network namespace alone uses up three. So /dev is compared with /sys, some time.
func (l *Loop) count(events []*uevent.Event) {
	for _, e := range events {
		if l.last != 0 && e.Seqnum > l.last+1 {
			l.road.Log.Print(log.Info, "sequence numbers "+strconv.FormatUint(l.last+1, 10)+" to "+
				strconv.FormatUint(e.Seqnum-1, 10)+" did not come: comparing with /sys")
			l.auditor.call(l.road, l.pending)
		}
		l.last = max(l.last, e.Seqnum)
	}
}

// End makes Serve return, as SIGTERM does.
func (l *Loop) End() {
	l.ended.Store(true)
	l.sock.Wake()
}
