package hotplug

import (
	"errors"
	"os"
	"slices"
	"strconv"
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

// seqnum returns the number of the last event that the kernel sent, or 0 where it
// does not say.
func (s Sysfs) seqnum() uint64 {
	text, _ := readAttribute(string(s) + "/kernel/uevent_seqnum")
	n, _ := strconv.ParseUint(strings.TrimSuffix(text, "\n"), 10, 64)
	return n
}

// exists reports whether there is a device at devpath.
func (s Sysfs) exists(devpath string) bool {
	var st unix.Stat_t
	return unix.Stat(string(s)+devpath+"/uevent", &st) == nil
}

// numbers reads the dev attribute of devpath.
func (s Sysfs) numbers(devpath string) (string, bool) {
	text, err := readAttribute(string(s) + devpath + "/dev")
	return strings.TrimSuffix(text, "\n"), err == nil
}

// Complete gives an event that came without numbers or DEVNAME what sysfs says of
// its device. Scripts call the helper with no more than ACTION and DEVPATH, and
// that may be a link such as /class/mem/null.
func (s Sysfs) Complete(e *uevent.Event) {
	if !e.Dev.IsZero() && e.Devname != "" {
		return
	}
	if text, err := readLink(string(s) + e.Devpath); err == nil && devpathOf(text) != "" {
		e.Relocate(devpathOf(text))
	}
	full, err := s.Event(e.Action, e.Devpath)
	if err != nil {
		s.number(e)
		return // else the event is all there is to know
	}
	e.SetDefaults(full)
}

// number gives an event the numbers of a device which has a dev attribute and no
// uevent file. Who made that tree may have put it below the subsystem's name alone.
func (s Sysfs) number(e *uevent.Event) {
	text, _ := s.numbers(e.Devpath)
	if !e.Dev.IsZero() || text == "" {
		return
	}
	if e.Subsystem == "" && strings.Contains(e.Devpath, "/block/") {
		e.SetDefault("SUBSYSTEM", "block")
	}
	major, minor, _ := strings.Cut(text, ":")
	e.SetDefault("MAJOR", major)
	e.SetDefault("MINOR", minor)
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

// Events makes the events that stand for one device, or where its name is "" for
// all. A device is named by its devpath, by a path below /sys, or by its node,
// which lies below dev or /dev.
func (s Sysfs) Events(action, name, dev string) ([]*uevent.Event, error) {
	if name != "" {
		devpath, err := s.find(name, dev)
		if err != nil {
			return nil, err
		}
		e, err := s.Event(action, devpath)
		if err != nil {
			return nil, &os.PathError{Op: "no device at", Path: string(s) + devpath, Err: err}
		}
		return []*uevent.Event{e}, nil
	}
	var events []*uevent.Event
	for _, d := range s.scan(everything) {
		if e, err := s.event(action, d); err == nil {
			events = append(events, e)
		}
	}
	return events, nil
}

// find returns the devpath of the device of that name.
func (s Sysfs) find(name, dev string) (string, error) {
	path := name
	if !strings.Contains(name, "/") {
		name = dev + "/" + name
	}
	switch {
	case strings.HasPrefix(name, string(s)+"/"):
	case strings.HasPrefix(name, "/dev/"), strings.HasPrefix(name, dev+"/"):
		var st unix.Stat_t
		if err := unix.Stat(name, &st); err != nil {
			return "", &os.PathError{Op: "stat", Path: name, Err: err}
		}
		if kind := st.Mode & unix.S_IFMT; kind != unix.S_IFBLK && kind != unix.S_IFCHR {
			return "", errors.New(name + " is no device node")
		}
		d := nodeDev(&st)
		path = string(s) + "/dev/" + kindDir(d.Block) + "/" + d.Numbers()
	default:
		path = string(s) + "/" + strings.TrimPrefix(name, "/")
	}
	path, err := realpath(path)
	if err != nil {
		return "", err
	}
	root, err := realpath(string(s))
	if err != nil {
		return "", err
	}
	devpath, below := strings.CutPrefix(path, root)
	if !below || devpath == "" {
		return "", &os.PathError{Op: "find", Path: name, Err: os.ErrNotExist}
	}
	return devpath, nil
}

func (s Sysfs) event(action string, d device) (*uevent.Event, error) {
	text, err := readAttribute(string(s) + d.devpath + "/uevent")
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(text, "MAJOR=") && !strings.HasPrefix(text, d.head()) {
		return nil, unix.ESTALE // another device took the place since its numbers were read
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

// head returns what the kernel writes first into the uevent file of a device
// that has numbers.
func (d device) head() string {
	return "MAJOR=" + strconv.Itoa(int(d.dev.Major)) + "\nMINOR=" + strconv.Itoa(int(d.dev.Minor)) + "\n"
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
	// A request for firmware that came before us still waits.
	s.eachLink("/class/firmware", everything, func(_, devpath string) {
		found[devpath] = device{devpath: devpath, subsystem: "firmware"}
	})
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
func nothing(string) bool    { return false }

// real reports whether this is the kernel's sysfs, and no tree that looks like it.
func (s Sysfs) real() bool {
	var st unix.Statfs_t
	return unix.Statfs(string(s)+"/devices", &st) == nil && uint32(st.Type) == unix.SYSFS_MAGIC
}

// walk lists every devpath there is, with or without a class or a bus, parents
// before children.
func (s Sysfs) walk() (devpaths []string) {
	dirs := []string{"/devices"}
	for len(dirs) > 0 {
		dir := dirs[len(dirs)-1]
		dirs = dirs[:len(dirs)-1]
		if s.exists(dir) {
			devpaths = append(devpaths, dir)
		}
		for _, name := range subdirs(string(s) + dir) {
			dirs = append(dirs, dir+"/"+name)
		}
	}
	return devpaths
}

// write writes an attribute.
func (s Sysfs) write(path, text string) error {
	fd, err := unix.Open(string(s)+path, unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte(text))
	return err
}

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

// nodeDev returns the numbers that a node has.
func nodeDev(st *unix.Stat_t) uevent.Dev {
	return uevent.Dev{Block: st.Mode&unix.S_IFMT == unix.S_IFBLK,
		Major: unix.Major(uint64(st.Rdev)), Minor: unix.Minor(uint64(st.Rdev))}
}

func kindDir(block bool) string {
	if block {
		return "block"
	}
	return "char"
}
