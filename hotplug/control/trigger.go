package control

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/coldplug"
	"devspool/hotplug/log"
	"devspool/hotplug/sys"
	"devspool/hotplug/sysfs"
	"devspool/hotplug/uevent"
)

// afterLast is how long after the last of its events a coldplug waits for missing ones.
const afterLast = 200 * time.Millisecond

// trigger has the kernel send an add for each of its devices, and waits until these have come.
// Unlike the events of a scan, they reach every listener on the machine. The error says which
// devices refused the request, or is errLogged where gone is closed first.
func (c *Server) trigger(gone <-chan struct{}) error {
	if !c.Sys.IsKernels() {
		// A tree that only looks like sysfs has no kernel to ask.
		if !coldplug.Scan(c.Scheduler, c.Sys).Wait() {
			return errLogged
		}
		return nil
	}
	coldplug.Prune(c.Scheduler, c.Sys)
	run := syntheticRun{sys: c.Sys, uuid: sysfs.NewUUID(), unanswered: map[string]bool{}}
	return c.follow(&run, c.Sys.Walk(), gone)
}

// follow requests an event of each device and waits until they have come. It looks at events as they
// are received, not when they are done: an event that waits for a command has come too.
func (c *Server) follow(run *syntheticRun, devpaths []string, gone <-chan struct{}) error {
	observer := c.Scheduler.Observe(true)
	defer observer.Stop()
	for _, devpath := range devpaths {
		run.request(devpath)
	}
	for !run.done(c.Source.Pending()) {
		select {
		case <-observer.Wake:
		case <-sys.After(sys.PollInterval):
		case <-gone:
			return errLogged
		}
		for _, e := range observer.Take() {
			run.record(e)
		}
	}
	for devpath := range run.unanswered {
		c.Log.Print(log.Info, "accepted the request for an event and sent none: "+devpath)
	}
	return run.refusal()
}

// shownRefusals is how many of the devices that refused the request are named.
const shownRefusals = 5

// refusal returns an error that names the devices which refused the request, or nil.
func (run *syntheticRun) refusal() error {
	if len(run.refused) == 0 {
		return nil
	}
	// Where all refuse, the cause is most likely one, such as /sys mounted read-only, and one name is enough.
	if !run.accepted {
		return errors.New("no device accepts the request for its event: write " + run.refused[0] +
			"; have /sys mounted for writing (mount -o remount,rw " + string(run.sys) +
			"), or use devspool -s, which only reads it and makes the nodes, but sends no events to other listeners")
	}
	more := ""
	if n := len(run.refused) - shownRefusals; n > 0 {
		more = ", and " + strconv.Itoa(n) + " more"
	}
	return errors.New("refused the request for an event: " +
		strings.Join(run.refused[:min(len(run.refused), shownRefusals)], ", ") + more)
}

// syntheticRun follows the events that one coldplug has the kernel send. Each carries the run's
// identifier (SYNTH_UUID, Linux 4.13; see Documentation/ABI/testing/sysfs-uevent). Some devices
// accept the request and send nothing. So once a device has answered, one more request goes to it:
// the wait for the others lasts until afterLast past the last request or event.
type syntheticRun struct {
	sys        sysfs.FS
	uuid       string          // "" on an older kernel: any add counts
	unanswered map[string]bool // devices that accepted the request and have not answered, by devpath
	responder  string          // the device that answered last
	probeSent  bool            // the extra request was made
	accepted   bool            // a device accepted the request
	refused    []string        // the files of those that did not, and why
	last       sys.Time        // of the last request or event
}

// request requests an event of a device. A refusal is noted, and no event of the device expected.
func (run *syntheticRun) request(devpath string) {
	switch err := run.sys.Write(devpath+"/uevent", run.text()); err {
	case nil:
		run.unanswered[devpath], run.accepted = true, true
	case unix.ENOENT, unix.ENODEV: // it was just removed
	default:
		run.refused = append(run.refused, string(run.sys)+devpath+"/uevent: "+err.Error())
	}
	run.last = sys.Now()
}

// text returns what to write into a uevent file.
func (run *syntheticRun) text() string {
	if run.uuid == "" {
		return "add"
	}
	return "add " + run.uuid
}

// record takes note of an event, if it is one of this run.
func (run *syntheticRun) record(e *uevent.Event) {
	if uuid, _ := e.Get("SYNTH_UUID"); e.Action != uevent.Add || run.uuid != "" && uuid != run.uuid {
		return
	}
	delete(run.unanswered, e.Devpath)
	run.responder = e.Devpath
	run.last = sys.Now()
}

// done reports whether every event of the run has come, or no more are expected. pending tells that
// the source has events.
func (run *syntheticRun) done(pending bool) bool {
	if len(run.unanswered) == 0 {
		return true
	}
	if !run.probeSent && run.responder != "" {
		run.probeSent = true
		run.request(run.responder)
		delete(run.unanswered, run.responder) // its first answer is enough
	}
	return !pending && run.last.Age() >= afterLast
}
