package udevadm

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
	"devspool/hotplug/sysfs"
	"devspool/hotplug/udev"
	"devspool/hotplug/uevent"
)

// device is what /sys and the database say of one.
type device struct {
	_             sys.NotComparable
	*uevent.Event              // its action says nothing
	driver        string       // "" for none
	record        *udev.Record // never nil
	initialized   bool         // the database holds something of it
}

// load reads what there is to be known of the device at devpath. The error is that of reading its
// uevent file; a device that the database does not know is no error.
func (t *tool) load(devpath string) (*device, error) {
	at := sysfs.Device{Devpath: devpath, Subsystem: t.subsystem(devpath)}
	if text, ok := t.sys.Numbers(devpath); ok {
		at.Dev.Major, at.Dev.Minor, _ = uevent.ParseNumbers(text)
		// The numbers alone do not say which kind a device is.
		at.Dev.Block = at.Subsystem == "block" && !at.Dev.IsZero()
	}
	e, err := t.sys.EventOf(uevent.Change, at)
	if err != nil && t.exists(devpath) && !strings.HasPrefix(devpath, devices) { // a bus's uevent file is for writing
		e, err = uevent.FromSysfs(uevent.Change, devpath, at.Subsystem, "", uevent.Dev{})
	}
	if err != nil {
		return nil, err
	}
	d := &device{Event: e}
	// A device without a driver has no link, and an empty name.
	link, _ := sys.ReadLink(string(t.sys) + devpath + "/driver")
	d.driver = link[strings.LastIndexByte(link, '/')+1:]
	// Record is never nil: without a file it is empty.
	d.record, d.initialized = udev.Lookup(t.run, udev.Identify(e))
	return d, nil
}

// devices begins the devpath of what is a device, and not another part of the kernel.
const devices = "/devices"

// exists reports whether there is a device at devpath. Modules, buses and drivers, which
// count as devices too, may have no uevent file.
func (t *tool) exists(devpath string) bool {
	if strings.HasPrefix(devpath, devices) {
		return t.sys.Exists(devpath)
	}
	return sys.Exists(unix.AT_FDCWD, string(t.sys)+devpath)
}

// subsystem returns a device's subsystem, by its link in /sys. What has none of its own stands for a
// part of the kernel, and is named as udev does.
func (t *tool) subsystem(devpath string) string {
	if name := t.sys.Subsystem(devpath); name != "" {
		return name
	}
	switch {
	case strings.HasPrefix(devpath, "/module/"):
		return "module"
	case strings.Contains(devpath+"/", "/drivers/"):
		return "drivers"
	case strings.HasPrefix(devpath, "/bus/"), strings.HasPrefix(devpath, "/class/"):
		return "subsystem"
	}
	return ""
}

// get returns the value of a property of the kernel's, or "".
func (d *device) get(key string) string {
	value, _ := d.Get(key)
	return value
}

// sysname returns the kernel's name of a device, in which it writes '!' for a slash.
func sysname(devpath string) string {
	return strings.Join(strings.Split(devpath[strings.LastIndexByte(devpath, '/')+1:], "!"), "/")
}

// properties returns them as KEY=VALUE: what the kernel says, then what the database adds.
func (d *device) properties() []string {
	all := []string{"DEVPATH=" + d.Devpath}
	add := func(key, value string) {
		if value != "" {
			udev.Add(&all, key+"="+value)
		}
	}
	add("SUBSYSTEM", d.Subsystem)
	for _, kv := range variables(d.Event) {
		switch key, _, _ := strings.Cut(kv, "="); key {
		// What stands before or after the others, in udevadm's order.
		case "ACTION", "DEVPATH", "SUBSYSTEM", "MAJOR", "MINOR":
		default:
			if !udev.HasKey(d.record.Properties, kv) {
				udev.Add(&all, kv)
			}
		}
	}
	add("MAJOR", d.get("MAJOR"))
	add("MINOR", d.get("MINOR"))
	if d.record.Initialized != 0 {
		add("USEC_INITIALIZED", strconv.FormatUint(d.record.Initialized, 10))
	}
	udev.Add(&all, d.record.Properties...)
	add("DEVLINKS", d.links("/dev/"))
	add("TAGS", udev.TagList(d.record.Tags))
	add("CURRENT_TAGS", udev.TagList(d.record.Current))
	return all
}

// variables returns those of an event, with the path of its node in place of the name. (A loop over
// Event.Env takes more of the program.)
func variables(e *uevent.Event) []string {
	all := strings.Split(strings.TrimSuffix(string(e.Pack()), "\x00"), "\x00")
	for i, kv := range all {
		if name, is := strings.CutPrefix(kv, "DEVNAME="); is {
			all[i] = "DEVNAME=/dev/" + name
		}
	}
	return all
}

// links returns the device's links, a blank between two, each with before in front of it.
func (d *device) links(before string) string {
	if len(d.record.Links) == 0 {
		return ""
	}
	return before + strings.Join(d.record.Links, " "+before)
}

// all returns what info --query=all prints: a letter, a colon and a blank before each
// value. The letters are not the database's, where I, Q and V mean other things.
func (d *device) all() string {
	text := ""
	line := func(letter byte, value string) {
		if value != "" {
			text += string(rune(letter)) + ": " + value + "\n"
		}
	}
	line('P', d.Devpath)
	name := sysname(d.Devpath)
	line('M', name)
	// The number that the name ends in, which is not all number.
	if stem := strings.TrimRight(name, "0123456789"); stem != "" {
		line('R', name[len(stem):])
	}
	line('U', d.Subsystem)
	line('T', d.get("DEVTYPE"))
	if !d.Dev.IsZero() {
		line('D', d.Dev.String()[:1]+" "+d.Dev.Numbers())
	}
	line('I', d.get("IFINDEX"))
	if d.Devname != "" {
		line('N', d.Devname)
		line('L', strconv.Itoa(d.record.Priority))
		for _, link := range d.record.Links {
			line('S', link)
		}
	}
	line('Q', d.get("DISKSEQ"))
	line('V', d.driver)
	for _, kv := range d.properties() {
		line('E', kv)
	}
	return text
}

// isSetUp reports whether the database holds something of the device, by which clients tell that the
// device manager has handled its add.
func (t *tool) isSetUp(devpath string) bool {
	d, err := t.load(devpath)
	return err == nil && d.initialized
}

// above returns the devpath of the next device above one, or "". Directories without a uevent file are
// no devices: they only group some.
func (t *tool) above(devpath string) string {
	for {
		devpath = devpath[:strings.LastIndexByte(devpath, '/')]
		// What is left is a directory such as /devices, which is no device.
		if strings.Count(devpath, "/") < 2 {
			return ""
		}
		if t.sys.Exists(devpath) {
			return devpath
		}
	}
}
