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

// afterLast is how long after the last of its events a coldplug waits for those
// that did not come.
const afterLast = 200 * time.Millisecond

// trigger has the kernel send an add for each device that it has, and waits until all of
// these have come. Unlike the events of a scan, every other listener gets them too. It fails
// where gone was closed before the end, or devices did not take the request.
func (c *Server) trigger(gone <-chan struct{}) error {
	if !c.Sys.IsKernels() {
		if !coldplug.Scan(c.Scheduler, c.Sys).Wait() { // a tree that only looks like sysfs takes no requests
			return ErrLogged
		}
		return nil
	}
	coldplug.Prune(c.Scheduler, c.Sys)
	run := syntheticRun{sys: c.Sys, uuid: newUUID(), open: map[string]bool{}}
	return c.follow(&run, c.Sys.Walk(), gone)
}

// follow requests the event of each device and waits until they have come.
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
			return ErrLogged
		}
		for _, e := range observer.Take() {
			run.record(e)
		}
	}
	for devpath := range run.open {
		c.Log.Print(log.Info, "took the request for an event and sent none: "+devpath)
	}
	return run.refusal()
}

// shownRefusals is how many devices are named that did not take the request.
const shownRefusals = 5

// refusal returns what is to be said of the devices that did not take the request.
func (run *syntheticRun) refusal() error {
	if len(run.refused) == 0 {
		return nil
	}
	if !run.accepted {
		return errors.New("no device could be asked for its event: write " + run.refused[0] +
			"; have /sys mounted for writing (mount -o remount,rw " + string(run.sys) +
			"), or use devspool -s, which only reads it and makes the nodes, though only the loop hears of that")
	}
	more := ""
	if n := len(run.refused) - shownRefusals; n > 0 {
		more = ", and " + strconv.Itoa(n) + " more"
	}
	return errors.New("could not be asked for its event: " +
		strings.Join(run.refused[:min(len(run.refused), shownRefusals)], ", ") + more)
}

// syntheticRun counts the events of one coldplug. Each carries an identifier (SYNTH_UUID,
// since Linux 4.13). Some devices accept the request and send nothing. When only those
// remain, one more request is made to a device that did answer; once its event has come, the
// others are given up.
type syntheticRun struct {
	sys       sysfs.FS
	uuid      string          // "" on a kernel that knows none: any add counts
	open      map[string]bool // the devices whose event has not come
	responder string          // a device whose event has
	probeSent bool            // the last request is made
	accepted  bool            // a device took the request
	refused   []string        // the files of those that did not, and why
	last      sys.Time        // of the last request or event
}

// Request asks for the event of a device.
func (run *syntheticRun) request(devpath string) {
	err := run.sys.Write(devpath+"/uevent", run.text())
	if err == unix.EINVAL && run.uuid != "" {
		run.uuid = ""
		err = run.sys.Write(devpath+"/uevent", run.text())
	}
	switch err {
	case nil:
		run.open[devpath], run.accepted = true, true
	case unix.ENOENT, unix.ENODEV: // it has just left
	default:
		run.refused = append(run.refused, string(run.sys)+devpath+"/uevent: "+err.Error())
	}
	run.last = sys.Now()
}

func (run *syntheticRun) text() string {
	if run.uuid == "" {
		return "add"
	}
	return "add " + run.uuid
}

// record counts an event, if it is one of ours.
func (run *syntheticRun) record(e *uevent.Event) {
	if uuid, _ := e.Get("SYNTH_UUID"); e.Action != uevent.Add || run.uuid != "" && uuid != run.uuid {
		return
	}
	delete(run.open, e.Devpath)
	run.responder = e.Devpath
	run.last = sys.Now()
}

// done reports whether all events have come that will. Pending tells that some are on
// their way.
func (run *syntheticRun) done(pending bool) bool {
	if len(run.open) == 0 {
		return true
	}
	if !run.probeSent && run.responder != "" {
		run.probeSent = true
		run.request(run.responder)
		delete(run.open, run.responder) // it answers, as we know
	}
	return !pending && run.last.Age() >= afterLast
}

// newUUID returns a random identifier in the form that the kernel takes.
func newUUID() string {
	var b [16]byte
	unix.Getrandom(b[:], 0)
	const digits = "0123456789abcdef"
	text := make([]byte, 0, 36)
	for i, c := range b {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			text = append(text, '-')
		}
		text = append(text, digits[c>>4], digits[c&15])
	}
	return string(text)
}
