package hotplug

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/log"
	"devspool/hotplug/sys"
	"devspool/hotplug/sysfs"
	"devspool/hotplug/uevent"
)

// afterLast is how long after the last of its events a coldplug waits for those
// that did not come.
const afterLast = 200 * time.Millisecond

// trigger has the kernel send an add for each device that it has, and waits until
// all of these have come. Unlike the events of Coldplug, every other listener gets
// them too. It fails where stop was closed before the end, or devices did not take
// the request.
func (c *control) trigger(stop <-chan struct{}) error {
	r := c.road
	if !r.Sys.IsKernels() {
		if !Coldplug(r).Wait() { // a tree that only looks like sysfs takes no requests
			return errLogged
		}
		return nil
	}
	r.clean()
	run := roll{sys: r.Sys, uuid: newUUID(), open: map[string]bool{}}
	return c.count(&run, r.Sys.Walk(), stop)
}

// count asks for the event of each device and waits until they have come.
func (c *control) count(run *roll, devpaths []string, stop <-chan struct{}) error {
	w := c.road.watch(true)
	defer c.road.unwatch(w)
	for _, devpath := range devpaths {
		run.call(devpath)
	}
	for !run.over(c.source.pending()) {
		select {
		case <-w.poke:
		case <-sys.After(sys.PollInterval):
		case <-stop:
			return errLogged
		}
		for _, e := range c.road.take(w) {
			run.note(e)
		}
	}
	for devpath := range run.open {
		c.road.Log.Print(log.Info, "took the request for an event and sent none: "+devpath)
	}
	return run.refusal()
}

// shownRefusals is how many devices are named that did not take the request.
const shownRefusals = 5

// refusal returns what is to be said of the devices that did not take the request.
func (run *roll) refusal() error {
	if len(run.refused) == 0 {
		return nil
	}
	if !run.asked {
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

// roll counts the events of one coldplug. Each carries an identifier (SYNTH_UUID,
// since Linux 4.13). Some devices take the request and send nothing, so a last
// request is made to one that has answered: who has not by then stays silent.
type roll struct {
	sys      sysfs.FS
	uuid     string          // "" on a kernel that knows none: any add counts
	open     map[string]bool // the devices whose event has not come
	answered string          // a device whose event has
	closing  bool            // the last request is made
	asked    bool            // a device took the request
	refused  []string        // the files of those that did not, and why
	last     sys.Time        // of the last request or event
}

// call asks for the event of a device.
func (run *roll) call(devpath string) {
	err := run.sys.Write(devpath+"/uevent", run.request())
	if err == unix.EINVAL && run.uuid != "" {
		run.uuid = ""
		err = run.sys.Write(devpath+"/uevent", run.request())
	}
	switch err {
	case nil:
		run.open[devpath], run.asked = true, true
	case unix.ENOENT, unix.ENODEV: // it has just left
	default:
		run.refused = append(run.refused, string(run.sys)+devpath+"/uevent: "+err.Error())
	}
	run.last = sys.Now()
}

func (run *roll) request() string {
	if run.uuid == "" {
		return "add"
	}
	return "add " + run.uuid
}

// note counts an event, if it is one of ours.
func (run *roll) note(e *uevent.Event) {
	if uuid, _ := e.Get("SYNTH_UUID"); e.Action != uevent.Add || run.uuid != "" && uuid != run.uuid {
		return
	}
	delete(run.open, e.Devpath)
	run.answered = e.Devpath
	run.last = sys.Now()
}

// over reports whether all events have come that will. Pending tells that some
// are on their way.
func (run *roll) over(pending bool) bool {
	if len(run.open) == 0 {
		return true
	}
	if !run.closing && run.answered != "" {
		run.closing = true
		run.call(run.answered)
		delete(run.open, run.answered) // it is known to speak
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
