//go:build !noudev

package hotplug

import (
	_ "embed"
	"errors"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/log"
	"devspool/hotplug/loop"
	"devspool/hotplug/scheduler"
	"devspool/hotplug/sink"
	"devspool/hotplug/sys"
	"devspool/hotplug/udev"
	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// UdevConf is a piece of a config, for boards with clients of libudev.
//
//go:embed udev.conf
var UdevConf string

// HasUdev tells that libudev's clients can be served.
const HasUdev = true

// udevSink is what speaks to libudev's clients. It is the udev.Manager of a loop.
type udevSink struct {
	tunables
	udev  atomic.Pointer[udev.Udev] // nil where no clients are served, and in a loop until start
	loop  *loop.Loop                // nil where this is no loop; start sets it before udev
	added bool                      // it is one of the sinks
}

// open adds the sink by which libudev's clients hear of events, where a loop or a board made
// /run/udev. That of a loop is opened by start: until the loop is known to be the only one,
// another may have the socket there. An event before that is told to nobody.
func (u *udevSink) open(r *runner) {
	u.runner = r
	switch {
	case r.DryRun || r.way == RunLoop && !r.Udev:
		return
	// Only a loop has an option for it. Elsewhere the directory says whether clients may be there.
	case r.way != RunLoop:
		if r.Dev != "/dev" || unix.Access(udev.DefaultRun+"/data", unix.F_OK) != nil || u.make(nil) != nil {
			return
		}
	}
	u.added = true
	r.sinks = append(r.sinks, scheduler.Sink{
		// An event comes before start, to nil, where a request to the loop does; the first scan, which is
		// still to come, has all devices told.
		Received:  func(e *uevent.Event) { u.udev.Load().Queued(e) },
		Done:      func(e *uevent.Event, p *nodes.Plan) { u.udev.Load().Done(e, sink.DeviceOf(p)) },
		Withdrawn: func() { u.udev.Load().Withdrawn() },
		Gap:       func(string) { go u.recover() }, // in a goroutine: it asks the scheduler, which is locked here
		SliceEnd:  func() { u.udev.Load().Idle() },
		Remounted: func() { _ = u.udev.Load().Reopen() }, // which logs what is wrong
	})
}

// start serves libudev's clients in a loop that is about to get its first event.
func (u *udevSink) start(l *loop.Loop) error {
	if !u.added {
		return nil
	}
	u.loop = l
	return u.make(u)
}

// endSteps is how many tenths of a second a loop that has handed over may take to its end.
const endSteps = 30

// make opens what speaks to clients. With a manager another loop may still have the socket: one that
// has just handed over gets some time to end.
func (u *udevSink) make(manager udev.Manager) (err error) {
	r := u.runner
	for range endSteps {
		var made *udev.Udev
		if made, err = udev.New(udev.Options{Run: udev.DefaultRun, Sys: r.sys, Log: r.log, Manager: manager}); err == nil {
			u.udev.Store(made)
		}
		if !errors.Is(err, udev.ErrTaken) {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if err != nil {
		r.log.Print(log.Err, "libudev's clients are not served: "+err.Error())
	}
	return err
}

// stored returns the properties that the database holds of a device.
func (u *udevSink) stored(e *uevent.Event) []string {
	if u.udev.Load() == nil {
		return nil
	}
	r, _ := udev.Lookup(udev.DefaultRun, udev.Identify(e))
	return r.Properties
}

// End ends the loop.
func (u *udevSink) End() { u.loop.End() }

// pingLimit is how long a ping waits for the events that the kernel has sent.
const pingLimit = 10 * time.Second

// Ping returns when the scheduler has each event that the kernel sent before the call.
func (u *udevSink) Ping() {
	r := u.runner
	last, since := r.sys.Seqnum(), sys.Now()
	for u.loop.Pending() && !r.scheduler.HasSeen(last) && since.Age() < pingLimit {
		time.Sleep(sys.PollInterval)
	}
}

// scanned is called after the first scan: records of devices that have gone go, and so do
// the cookies of events that nobody listened to.
func (u *udevSink) scanned() {
	u.udev.Load().Sweep()
	u.recover()
}

// recoverLimit is how many seconds a program may take from a change of device-mapper's whose
// event was lost to its wait for the cookie.
const recoverLimit = 600

// recover completes the cookies of events that a loop lost. After a further gap another
// goroutine may do so at the same time.
func (u *udevSink) recover() {
	to := u.udev.Load()
	if to == nil || u.loop == nil {
		return
	}
	idle := func() bool { return !u.loop.Pending() && u.runner.scheduler.IsIdle() }
	for n := 0; n < recoverLimit && !to.RecoverCookies(idle); n++ {
		time.Sleep(time.Second)
	}
}

// close ends the service. Where no other loop goes on, it completes the cookies that processes
// wait for: libdevmapper makes what is missing itself.
func (u *udevSink) close() {
	to := u.udev.Load()
	if to == nil {
		return
	}
	to.Close()
	// The socket is gone, and no event will complete them: so all of them count as lost.
	if u.loop != nil && !u.runner.handedOver {
		to.RecoverCookies(func() bool { return true })
	}
}
