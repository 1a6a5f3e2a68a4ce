package hotplug

import (
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"devspool/hotplug/uevent"
)

// Sysfs is the path that sysfs is mounted at. Reading is all that is done there,
// but for firmware.
type Sysfs string

// Mounted reports whether there is a sysfs. In an early boot there may be none.
func (s Sysfs) Mounted() bool {
	var st unix.Stat_t
	return unix.Stat(string(s)+"/devices", &st) == nil
}

// exists reports whether there is a device at devpath.
func (s Sysfs) exists(devpath string) bool {
	var st unix.Stat_t
	return unix.Stat(string(s)+devpath+"/uevent", &st) == nil
}

// lives reports whether the device at devpath has the numbers dev now. Its
// directory may outlive it; the dev attribute goes before the remove event is sent.
func (s Sysfs) lives(devpath string, dev uevent.Dev) bool {
	is, ok := s.numbers(devpath)
	return ok && is == dev.Numbers()
}

// knows reports the same with one system call, where the answer is yes: the
// kernel keeps a link from the numbers to the devpath.
func (s Sysfs) knows(devpath string, dev uevent.Dev) bool {
	path, err := readLink(string(s) + "/dev/" + kindDir(dev.Block) + "/" + dev.Numbers())
	return err == nil && devpathOf(path) == devpath || s.lives(devpath, dev)
}

// numbers reads the dev attribute of devpath.
func (s Sysfs) numbers(devpath string) (string, bool) {
	text, err := readFile(string(s) + devpath + "/dev")
	return strings.TrimSuffix(text, "\n"), err == nil
}

// gone reports whether /sys says that an event comes too late to be acted on: an
// add of a device that left, or a remove of one that came back. Where there is
// no sysfs, the event itself is all there is to know.
func (s Sysfs) gone(e *uevent.Event) bool {
	switch e.Action {
	case uevent.Add, uevent.Move:
		return !e.Dev.IsZero() && !s.knows(e.Devpath, e.Dev) && s.Mounted()
	case uevent.Remove:
		if e.Dev.IsZero() {
			_, lives := s.numbers(e.Devpath)
			return lives
		}
		return s.lives(e.Devpath, e.Dev)
	}
	return false
}

// Complete gives an event that came without numbers what sysfs says of its
// device. Scripts call the helper with no more than ACTION and DEVPATH.
func (s Sysfs) Complete(e *uevent.Event) error {
	if !e.Dev.IsZero() {
		return nil
	}
	full, err := s.Event(e.Action, e.Devpath)
	if err != nil {
		return nil // not there: the event is all there is to know
	}
	for _, kv := range full.Env {
		key, value, _ := strings.Cut(kv, "=")
		if _, said := e.Get(key); !said {
			if err := e.Set(key, value); err != nil {
				return err
			}
		}
	}
	return nil
}

// Event makes the event that stands for the device at devpath.
func (s Sysfs) Event(action, devpath string) (*uevent.Event, error) {
	d := device{devpath: devpath}
	if text, ok := s.numbers(devpath); ok {
		d.dev.Major, d.dev.Minor, _ = uevent.ParseNumbers(text)
	}
	d.subsystem = s.subsystem(devpath)
	d.dev.Block = d.subsystem == "block" && !d.dev.IsZero()
	return s.event(action, d)
}

// Events makes the events that stand for one device, or where it is "" for all.
// The device is named by a devpath, or by a path below /sys or /dev.
func (s Sysfs) Events(action, name string) ([]*uevent.Event, error) {
	if name != "" {
		devpath, err := s.find(name)
		if err != nil {
			return nil, err
		}
		e, err := s.Event(action, devpath)
		return []*uevent.Event{e}, err
	}
	var events []*uevent.Event
	for _, d := range s.scan(everything) {
		if e, err := s.event(action, d); err == nil {
			events = append(events, e)
		}
	}
	return events, nil
}

// find returns the devpath of a device named by its devpath, by a path below
// /sys (/sys/class/net/lo), or by its node.
func (s Sysfs) find(name string) (string, error) {
	devpath, inSys := strings.CutPrefix(name, string(s)+"/")
	if !inSys && strings.HasPrefix(name, "/dev/") {
		var st unix.Stat_t
		if err := unix.Stat(name, &st); err != nil {
			return "", err
		}
		dev := uevent.Dev{Block: st.Mode&unix.S_IFMT == unix.S_IFBLK,
			Major: unix.Major(uint64(st.Rdev)), Minor: unix.Minor(uint64(st.Rdev))}
		devpath = "dev/" + kindDir(dev.Block) + "/" + dev.Numbers()
	}
	devpath = "/" + strings.Trim(devpath, "/")
	if text, err := readLink(string(s) + devpath); err == nil {
		devpath = devpathOf(text)
	}
	return devpath, nil
}

func (s Sysfs) event(action string, d device) (*uevent.Event, error) {
	text, err := readFile(string(s) + d.devpath + "/uevent")
	if err != nil {
		return nil, err
	}
	if d.subsystem == "" {
		d.subsystem = s.subsystem(d.devpath)
	}
	return uevent.FromSysfs(action, d.devpath, d.subsystem, text, d.dev)
}

func (s Sysfs) subsystem(devpath string) string {
	text, _ := readLink(string(s) + devpath + "/subsystem")
	return text[strings.LastIndexByte(text, '/')+1:]
}

// device is one that a scan found.
type device struct {
	devpath   string
	subsystem string // "" where it is still to be read
	dev       uevent.Dev
}

// scan lists the devices in /sys, parents before children: all that have
// numbers, and those of the others whose sysnames wanted approves of.
func (s Sysfs) scan(wanted func(sysname string) bool) []device {
	found := map[string]device{}
	for _, block := range []bool{true, false} {
		s.eachLink("/dev/"+kindDir(block), everything, func(name, devpath string) {
			major, minor, ok := uevent.ParseNumbers(name)
			if !ok {
				return
			}
			d := device{devpath: devpath, dev: uevent.Dev{Block: block, Major: major, Minor: minor}}
			if block {
				d.subsystem = "block"
			}
			found[devpath] = d
		})
	}
	if wanted("") {
		s.scanUnnumbered(found, wanted)
	}
	paths := make([]string, 0, len(found))
	for path := range found {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	devices := make([]device, 0, len(paths))
	for _, path := range paths {
		devices = append(devices, found[path])
	}
	return devices
}

// scanUnnumbered adds the devices of every class and bus, whose links also tell
// the subsystem.
func (s Sysfs) scanUnnumbered(found map[string]device, wanted func(sysname string) bool) {
	add := func(dir, subsystem string) {
		s.eachLink(dir, wanted, func(_, devpath string) {
			d := found[devpath]
			d.devpath, d.subsystem = devpath, subsystem
			found[devpath] = d
		})
	}
	for _, class := range readDir(string(s) + "/class") {
		add("/class/"+class, class)
	}
	for _, bus := range readDir(string(s) + "/bus") {
		add("/bus/"+bus+"/devices", bus)
	}
}

func everything(string) bool { return true }

// eachLink calls f for every link to a device in a directory of sysfs whose name
// is wanted.
func (s Sysfs) eachLink(dir string, wanted func(name string) bool, f func(name, devpath string)) {
	dir = string(s) + dir
	for _, name := range readDir(dir) {
		if !wanted(name) {
			continue
		}
		text, err := readLink(dir + "/" + name)
		if err != nil {
			continue // an attribute, or a device that has just left
		}
		if devpath := devpathOf(text); devpath != "" {
			f(name, devpath)
		}
	}
}

// devpathOf turns the text of a link in sysfs into the devpath it leads to, or "".
func devpathOf(link string) string {
	for strings.HasPrefix(link, "../") {
		link = link[len("../"):]
	}
	if !strings.HasPrefix(link, "devices/") {
		return ""
	}
	return "/" + link
}

func kindDir(block bool) string {
	if block {
		return "block"
	}
	return "char"
}
