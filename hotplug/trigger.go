package hotplug

import (
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/uevent"
)

// afterLast is how long after the last of its events a coldplug waits for those
// that did not come.
const afterLast = 200 * time.Millisecond

// trigger has the kernel send an add for each device that it has, and waits until
// all of these have come. Unlike the events of Coldplug, every other listener gets
// them too. It reports false where stop was closed before the end.
func (c *control) trigger(stop <-chan struct{}) bool {
	r := c.road
	if !r.Sys.real() {
		return Coldplug(r).Wait() // a tree that only looks like sysfs takes no requests
	}
	r.clean()
	run := roll{sys: r.Sys, uuid: newUUID(), open: map[string]bool{}}
	return c.count(&run, r.Sys.walk(), stop)
}

// count asks for the event of each device and waits until they have come.
func (c *control) count(run *roll, devpaths []string, stop <-chan struct{}) bool {
	w := c.road.watch(true)
	defer c.road.unwatch(w)
	for _, devpath := range devpaths {
		run.call(devpath)
	}
	for !run.over(c.source.pending()) {
		select {
		case <-w.poke:
		case <-after(glance):
		case <-stop:
			return false
		}
		for _, e := range c.road.take(w) {
			run.note(e)
		}
	}
	for devpath := range run.open {
		c.road.Log.Print(Info, "took the request for an event and sent none: "+devpath)
	}
	return true
}

// roll counts the events of one coldplug. Each carries an identifier (SYNTH_UUID,
// since Linux 4.13). Some devices take the request and send nothing, so a last
// request is made to one that has answered: who has not by then stays silent.
type roll struct {
	sys      Sysfs
	uuid     string          // "" on a kernel that knows none: any add counts
	open     map[string]bool // the devices whose event has not come
	answered string          // a device whose event has
	closing  bool            // the last request is made
	last     moment          // of the last request or event
}

// call asks for the event of a device.
func (run *roll) call(devpath string) {
	err := run.sys.write(devpath+"/uevent", run.request())
	if err == unix.EINVAL && run.uuid != "" {
		run.uuid = ""
		err = run.sys.write(devpath+"/uevent", run.request())
	}
	if err == nil {
		run.open[devpath] = true
	}
	run.last = now()
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
	run.last = now()
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
	return !pending && run.last.age() >= afterLast
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
