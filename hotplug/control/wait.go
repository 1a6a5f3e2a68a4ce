package control

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
	"devspool/hotplug/sysfs"
	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// maxSeen is how many of the last events are shown by a wait that times out.
const maxSeen = 100

// wait waits for devices: TIMEOUT TARGET... While events are pending that are older than
// what is there, they may be about it: the kernel's devtmpfs has a node before its event
// comes.
func (c *Server) wait(q *request) error {
	observer := c.Scheduler.Observe(false)
	defer observer.Stop()
	targets, timeout, err := ParseWait(q.args, c.Dev, c.Sys)
	if err != nil {
		return err
	}
	asker, _ := c.Scheduler.Owner(q.pid) // it waits for devices, and its event for it
	targets.isPending = func(devpath string, dev uevent.Dev) bool { return c.Scheduler.IsPending(devpath, dev, asker) }
	targets.isReady, targets.Complete = c.Scheduler.IsReady, c.Scheduler.Complete
	over := sys.After(timeout)
	var mark uint64 // the last event's number when all was there first
	var seen []string
	targets.ScanProperties()
	for {
		for _, e := range observer.Take() {
			targets.update(e)
			seen = append(seen[max(0, len(seen)-maxSeen):], strings.TrimSpace(e.Action+" "+e.Devpath+" "+e.Devname))
		}
		pending := c.Source.Pending() // first: what leaves the source is in the scheduler before
		unmet := targets.Unmet()
		if unmet == "" && (!pending || mark > 0 && c.Scheduler.HasSeen(mark)) {
			return nil
		}
		if unmet == "" && mark == 0 {
			mark = c.Sys.Seqnum()
		}
		select {
		case <-observer.Wake:
			continue
		case <-sys.After(10 * sys.PollInterval): // others make nodes too
			continue
		case <-over:
			if unmet == "" {
				return nil
			}
		case <-q.gone:
		}
		for _, line := range seen {
			q.say("seen meanwhile: " + line)
		}
		return errors.New("timed out: not there:" + unmet)
	}
}

// Targets are the devices that somebody waits for.
type Targets struct {
	dev  *nodes.Dir
	fs   sysfs.FS
	list []*target

	// Complete gives an event those properties of its device that the kernel does not tell;
	// nil where nobody knows of any.
	Complete func(*uevent.Event) *uevent.Event

	// What is known of events that are under way; nil where that is nothing.
	isPending func(devpath string, dev uevent.Dev) bool
	isReady   func(add *uevent.Event) bool
}

// target says what is waited for: a path below /dev (which UUID=X stands for too), a
// device's place in /sys, or a property of an event.
type target struct {
	text string

	node       string // a path, or ""
	devpath    string // or a devpath
	key, value string // or a property
	devices    map[string]bool
}

// ParseWait reads TIMEOUT TARGET...
func ParseWait(args []string, dev *nodes.Dir, fs sysfs.FS) (t *Targets, timeout time.Duration, err error) {
	if len(args) == 0 {
		return nil, 0, errors.New("nothing to wait for")
	}
	if timeout, err = ParseSeconds(args[0]); err != nil {
		return nil, 0, err
	}
	t = &Targets{dev: dev, fs: fs}
	for _, text := range args[1:] {
		target, err := t.parse(text)
		if err != nil {
			return nil, 0, err
		}
		t.list = append(t.list, target)
	}
	return t, timeout, nil
}

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

// linkName returns the last part of the link that a disk has by what is said of it.
func linkName(key, value string) (string, error) {
	switch {
	case !hasNames:
		return "", errors.New("this program gives devices no names (it is built with -tags nonames), so it cannot wait for " + key + "=")
	case value == "":
		return "", errors.New("nothing is said behind " + key + "=")
	case key == "PARTUUID": // which some tools write in capitals
		value = lower(value)
	}
	if strings.Contains(value, `\x`) {
		return value, nil // it is encoded already, as udev's links and properties are
	}
	return encode(value), nil
}

// lower returns text of ASCII in small letters. (strings.ToLower would cost the program 3 kB.)
func lower(text string) string {
	small := []byte(text)
	for i, c := range small {
		if c >= 'A' && c <= 'Z' {
			small[i] = c + 'a' - 'A'
		}
	}
	return string(small)
}

// Unmet names the targets that are not there.
func (t *Targets) Unmet() (names string) {
	for _, f := range t.list {
		if !t.isMet(f) {
			names += " " + f.text
		}
	}
	return names
}

// ScanProperties looks which of the devices that are there have the properties that are
// waited for.
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

// update notes which properties the device of e has.
func (t *Targets) update(e *uevent.Event) {
	for _, f := range t.list {
		f.update(e)
	}
}

func (f *target) update(e *uevent.Event) {
	if f.key == "" {
		return
	}
	delete(f.devices, e.Devpath)
	if _, late := e.Get(uevent.LateKey); late || e.Action == uevent.Remove {
		return
	}
	values := e.Values(f.key)
	for value, said := values.Next(); said; value, said = values.Next() {
		if f.key == "DEVNAME" {
			value = strings.TrimPrefix(value, "/dev/")
		}
		if value == f.value {
			f.devices[e.Devpath] = true
		}
	}
}

// isMet reports whether what f says is there, and no event about it is under way.
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
	if f.node != "" && unix.Stat(f.node, &st) != nil {
		return false
	}
	devpath, err := t.fs.Find(f.node+f.devpath, t.dev.Path())
	if err != nil {
		return f.node != "" && !t.pending("", sysfs.NodeDev(&st)) // no node of a device
	}
	e, err := t.fs.Event(uevent.Add, devpath)
	if err != nil || t.pending(devpath, e.Dev) {
		return false
	}
	return t.isReady == nil || t.isReady(e)
}

func (t *Targets) pending(devpath string, dev uevent.Dev) bool {
	return t.isPending != nil && t.isPending(devpath, dev)
}
