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

// udevSink is what speaks to libudev's clients.
type udevSink struct {
	udev  atomic.Pointer[udev.Udev] // nil where no clients are served, and in a loop until start
	loop  *loop.Loop                // nil where this is no loop; start sets it before udev
	added bool                      // it is one of the sinks
}

// open adds the sink by which libudev's clients hear of events, where a loop or a board made
// /run/udev. That of a loop is opened by start: until the loop is known to be the only one,
// another may have the socket there. An event before that is told to nobody.
func (u *udevSink) open(r *runner) {
	switch {
	case r.DryRun || r.way == RunLoop && !r.Udev:
		return
	// Only a loop has an option for it. Elsewhere the directory says whether clients may be there.
	case r.way != RunLoop:
		if r.Dev != "/dev" || unix.Access(udev.DefaultRun+"/data", unix.F_OK) != nil || u.make(r, nil) != nil {
			return
		}
	}
	u.added = true
	r.sinks = append(r.sinks, scheduler.Sink{
		Received:  func(e *uevent.Event) { u.served(func(to *udev.Udev) { to.Queued(e) }) },
		Done:      func(e *uevent.Event, p *nodes.Plan) { u.served(func(to *udev.Udev) { to.Done(e, sink.DeviceOf(p)) }) },
		Withdrawn: func() { u.served((*udev.Udev).Withdrawn) },
		Gap: func(string) {
			u.served(func(*udev.Udev) {
				if u.loop != nil {
					// In a goroutine, since it waits, and asks the scheduler, which is locked here.
					go u.recover(r)
				}
			})
		},
		SliceEnd:  func() { u.served((*udev.Udev).Idle) },
		Remounted: func() { u.served(func(to *udev.Udev) { _ = to.Reopen() }) }, // which logs what is wrong
	})
}

// served calls f with what speaks to clients, if that is made. An event comes before start where a
// request to the loop does; the first scan, which is still to come, has all devices told.
func (u *udevSink) served(f func(*udev.Udev)) {
	if to := u.udev.Load(); to != nil {
		f(to)
	}
}

// start serves libudev's clients in a loop that is about to get its first event.
func (u *udevSink) start(r *runner, l *loop.Loop) error {
	if !r.Udev || r.DryRun {
		return nil
	}
	u.loop = l
	return u.make(r, u.handlers(r))
}

// endSteps is how many tenths of a second a loop that has handed over may take to its end.
const endSteps = 30

// make opens what speaks to clients. With handlers another loop may still have the socket: one that
// has just handed over gets some time to end.
func (u *udevSink) make(r *runner, handlers *udev.Handlers) (err error) {
	for range endSteps {
		var made *udev.Udev
		if made, err = udev.New(udev.Options{Run: udev.DefaultRun, Sys: r.sys, Log: r.log, Handlers: handlers}); err == nil {
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

// handlers are what udevadm control may ask a loop for.
func (u *udevSink) handlers(r *runner) *udev.Handlers {
	return &udev.Handlers{
		Ping:        func() { u.catchUp(r) },
		Reload:      func() { r.config.Reload() },
		StopQueue:   func() { r.scheduler.Pause() },
		StartQueue:  func() { r.scheduler.Resume() },
		LogLevel:    func(level log.Level) { r.log.SetLevel(level) },
		ChildrenMax: func(n int) { r.scheduler.SetJobs(n) },
		Property:    func(key, value string) { r.scheduler.SetProperty(key, value) },
		Exit:        func() { u.loop.End() },
	}
}

// pingLimit is how long a ping waits for the events that the kernel has sent.
const pingLimit = 10 * time.Second

// catchUp returns when the scheduler has each event that the kernel sent before the call.
func (u *udevSink) catchUp(r *runner) {
	last, since := r.sys.Seqnum(), sys.Now()
	for u.loop.Pending() && !r.scheduler.HasSeen(last) && since.Age() < pingLimit {
		time.Sleep(sys.PollInterval)
	}
}

// scanned is called after the first scan: records of devices that have gone go, and so do
// the cookies of events that nobody listened to.
func (u *udevSink) scanned(r *runner) {
	u.served(func(to *udev.Udev) {
		if u.loop != nil {
			to.Sweep()
			u.recover(r)
		}
	})
}

// recoverLimit is how many seconds a program may take from a change of device-mapper's whose
// event was lost to its wait for the cookie.
const recoverLimit = 600

// recover completes the cookies of events that were lost. After a further gap another
// goroutine may do so at the same time.
func (u *udevSink) recover(r *runner) {
	idle := func() bool { return !u.loop.Pending() && r.scheduler.IsIdle() }
	for n := 0; n < recoverLimit && !u.udev.Load().RecoverCookies(idle); n++ {
		time.Sleep(time.Second)
	}
}

// close ends the service. Where no other loop goes on, it completes the cookies that processes
// wait for: libdevmapper makes what is missing itself.
func (u *udevSink) close(r *runner) {
	u.served(func(to *udev.Udev) {
		to.Close()
		// The socket is gone, and no event will complete them: so all of them count as lost.
		if u.loop != nil && !r.handedOver {
			to.RecoverCookies(func() bool { return true })
		}
	})
}
