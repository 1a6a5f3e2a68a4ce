package control

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"devspool/conf"
	"devspool/hotplug/sys"
	"devspool/hotplug/sysfs"
	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// maxSeen is how many events, the last ones, a wait shows that times out.
const maxSeen = 100

// wait waits for devices: TIMEOUT TARGET... When all targets are met first, it goes on until the
// events that are pending then are done. They may be about the targets: the kernel's devtmpfs has a
// node before its event comes. The names of disks by their contents are made here alone, so that
// a wait for nothing else is over when they are: in a boot there are always pending events.
func (c *Server) wait(q *request) error {
	// Before the first look at /sys, so that no event falls between the two.
	observer := c.Scheduler.Observe(false)
	defer observer.Stop()
	targets, timeout, err := ParseWait(q.args, c.Dev, c.Sys)
	if err != nil {
		return err
	}
	own, _ := c.Scheduler.Owner(q.pid) // the event of a command that waits cannot end before the wait
	targets.isPending = func(devpath string, dev uevent.Dev) bool { return c.Scheduler.IsPending(devpath, dev, own) }
	targets.isReady, targets.Complete = c.Scheduler.IsReady, c.Scheduler.Complete
	over := sys.After(timeout)
	var mark uint64 // SEQNUM of the last event when all targets were met first
	var seen []string
	targets.ScanProperties()
	for {
		for _, e := range observer.Take() {
			targets.update(e)
			seen = append(seen[max(0, len(seen)-maxSeen):], strings.TrimSpace(e.Action+" "+e.Devpath+" "+e.Devname))
		}
		pending := c.Source.Pending() // first: an event is in the scheduler before the source has it no more
		unmet := targets.Unmet()
		if unmet == "" && (!pending || targets.areOurs || mark > 0 && c.Scheduler.HasSeen(mark)) {
			return nil
		}
		// The mark stays where a target goes away again: later events are not waited for.
		if unmet == "" && mark == 0 {
			mark = c.Sys.Seqnum()
		}
		select {
		case <-observer.Wake:
			continue
		case <-sys.After(10 * sys.PollInterval): // other processes make nodes too
			continue
		case <-over:
			// The targets are there; only events that may be about them are not done in time.
			if unmet == "" {
				return nil
			}
		case <-q.gone:
		}
		for _, line := range seen {
			q.say("seen meanwhile: " + line)
		}
		return Timeout("timed out: still missing:" + unmet)
	}
}

// Targets are the devices that a wait waits for. One goroutine may use them at a time.
type Targets struct {
	dev  *nodes.Dir
	fs   sysfs.FS
	list []*target

	areOurs bool // all of them are links that the kernel's devtmpfs cannot have

	// Complete gives an event the properties of its device that the kernel does not tell; nil
	// where nothing knows them.
	Complete func(*uevent.Event) *uevent.Event

	// The scheduler's functions, or nil where no process serves /dev.
	isPending func(devpath string, dev uevent.Dev) bool // an event about the device is under way
	isReady   func(add *uevent.Event) bool              // the device's nodes are made
}

// target is one of node, devpath and key with value.
type target struct {
	text string // as the user wrote it

	node       string          // a path below /dev, or ""
	devpath    string          // a path below /sys, or ""
	key, value string          // a property of an event, or ""
	devices    map[string]bool // the devpaths of devices that have the property; nil before ScanProperties
}

// ParseWait parses the arguments of a wait: TIMEOUT TARGET... A target is a path below /dev, a devpath
// or path below /sys, KEY=VALUE of an event, or UUID=X and the like, which stands for a link.
func ParseWait(args []string, dev *nodes.Dir, fs sysfs.FS) (t *Targets, timeout time.Duration, err error) {
	if len(args) == 0 {
		return nil, 0, errors.New("nothing to wait for")
	}
	if timeout, err = ParseSeconds(args[0]); err != nil {
		return nil, 0, err
	}
	t = &Targets{dev: dev, fs: fs, areOurs: true}
	for _, text := range args[1:] {
		target, err := t.parse(text)
		if err != nil {
			return nil, 0, err
		}
		t.list = append(t.list, target)
		t.areOurs = t.areOurs && strings.Contains(target.node, "/disk/by-")
	}
	return t, timeout, nil
}

// parse returns the target that text names.
func (t *Targets) parse(text string) (*target, error) {
	f := &target{text: text}
	key, value, property := strings.Cut(text, "=")
	switch key {
	case "UUID", "LABEL", "PARTUUID", "PARTLABEL":
		if property {
			name, err := linkName(key, value)
			f.node = t.dev.Path() + "/disk/by-" + lower(key) + "/" + name
			return f, err
		}
	}
	// The /dev that is served goes first. Users write /dev also where --dev names another one.
	below := func(dir string) (string, bool) { return strings.CutPrefix(text, strings.TrimSuffix(dir, "/")+"/") }
	if name, is := below(t.dev.Path()); is {
		f.node = t.dev.Path() + "/" + name
	} else if name, is := below("/dev"); is {
		f.node = t.dev.Path() + "/" + name
	} else if path, is := below(string(t.fs)); is {
		f.devpath = "/" + path
	} else if strings.HasPrefix(text, "/") {
		f.devpath = text
	} else if property && key != "" {
		f.key, f.value = key, value
		if key == "DEVNAME" {
			f.value = strings.TrimPrefix(value, "/dev/")
		}
	} else {
		return nil, errors.New("cannot wait for " + strconv.Quote(text) +
			"; name a path below /dev, a devpath, or KEY=VALUE of an event")
	}
	return f, nil
}

// Node returns the path of the node, or of the link to it, that a target of a wait is about,
// which is a disk's; it need not be there.
func Node(dev *nodes.Dir, text string) (string, error) {
	t, err := (&Targets{dev: dev}).parse(text)
	// What cannot be waited for is no disk either.
	if t == nil || err == nil && t.node == "" {
		err = errors.New("no disk's name: " + strconv.Quote(text) + "; name a path below /dev, or UUID=, LABEL=, PARTUUID= or PARTLABEL=")
	}
	if err != nil {
		return "", err
	}
	return t.node, nil
}

// linkName returns the last part of the link that a disk has by KEY=VALUE, in the encoding of udev:
// a byte that cannot be in a name is \x and two digits.
func linkName(key, value string) (string, error) {
	switch {
	case !conf.HasNames:
		return "", errors.New("this program gives devices no names (it is built with -tags nonames), so it cannot wait for " + key + "=")
	case value == "":
		return "", errors.New("nothing stands behind " + key + "=")
	case key == "PARTUUID": // some tools write it in capitals
		value = lower(value)
	}
	// What is encoded already stays, as it stands in udev's links and properties.
	name, rest, more := strings.Cut(value, `\x`)
	for name = encode(name); more; {
		value, rest, more = strings.Cut(rest, `\x`)
		name += `\x` + encode(value)
	}
	return name, nil
}

// lower returns text with the letters of ASCII in lower case. (strings.ToLower would cost the
// program 3 kB.)
func lower(text string) string {
	small := []byte(text)
	for i, c := range small {
		if c >= 'A' && c <= 'Z' {
			small[i] = c + 'a' - 'A'
		}
	}
	return string(small)
}

// Unmet returns the targets that are not met, each after a blank, or "".
func (t *Targets) Unmet() (names string) {
	for _, f := range t.list {
		if !t.isMet(f) {
			names += " " + f.text
		}
	}
	return names
}

// ScanProperties finds the devices in /sys that have the properties of the targets. Devices that come
// later are not found before the next call.
func (t *Targets) ScanProperties() {
	if !slices.ContainsFunc(t.list, func(f *target) bool { return f.key != "" }) {
		return
	}
	events, _ := t.fs.Events(uevent.Add, "", t.dev.Path())
	for _, f := range t.list {
		f.devices = map[string]bool{}
	}
	for _, e := range events {
		if t.Complete != nil {
			e = t.Complete(e)
		}
		t.update(e)
	}
}

// update takes note of the properties that the device of e has.
func (t *Targets) update(e *uevent.Event) {
	for _, f := range t.list {
		f.update(e)
	}
}

// update takes note whether the device of e has the property.
func (f *target) update(e *uevent.Event) {
	if f.key == "" {
		return
	}
	// A change may have taken the property away, so the device has to show it anew.
	delete(f.devices, e.Devpath)
	// A late event tells what /sys says no more.
	if _, late := e.Get(uevent.LateKey); late || e.Action == uevent.Remove {
		return
	}
	values := e.Values(f.key)
	for value, ok := values.Next(); ok; value, ok = values.Next() {
		if f.key == "DEVNAME" {
			value = strings.TrimPrefix(value, "/dev/")
		}
		if value == f.value {
			f.devices[e.Devpath] = true
		}
	}
}

// isMet reports whether the device of f is present, and no event about it is under way. For a
// property one such device is enough.
func (t *Targets) isMet(f *target) bool {
	if f.key != "" {
		for devpath := range f.devices {
			if !t.pending(devpath, uevent.Dev{}) {
				return true
			}
		}
		return false
	}
	var st unix.Stat_t
	// Links are followed: one whose node is not there does not count.
	if f.node != "" && unix.Stat(f.node, &st) != nil {
		return false
	}
	// One of the two is "".
	devpath, err := t.fs.Find(f.node+f.devpath, t.dev.Path())
	if err != nil {
		return f.node != "" && !t.pending("", sysfs.NodeDev(&st)) // a file that is no device's node will do
	}
	e, err := t.fs.Event(uevent.Add, devpath)
	if err != nil || t.pending(devpath, e.Dev) {
		return false
	}
	return t.isReady == nil || t.isReady(e)
}

// pending reports whether an event about a device is under way. Where no process serves /dev
// nobody knows, and then the node alone decides.
func (t *Targets) pending(devpath string, dev uevent.Dev) bool {
	return t.isPending != nil && t.isPending(devpath, dev)
}
