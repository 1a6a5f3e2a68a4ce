package identity

import (
	"strings"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
	"devspool/hotplug/uevent"
)

// dir is a directory of sysfs on the way up from a device, with what was read of it. Each
// thing is read once.
type dir struct {
	s         *subject
	path      string // below /sys
	up        *dir   // or nil at /devices
	subsystem string // "" where there is none
	known     bool   // subsystem was read
	attrs     []attr
}

// noNodes is where sysfs.FS.Find looks for the nodes of devices: it is given none.
const noNodes = "/dev"

// attr is an attribute that was read, or was found not to be there: it is not looked for again.
type attr struct {
	name, value string
	there       bool // false where the read found nothing
}

// dirs makes the directories from devpath up to the one right below /devices. It reads nothing.
func (s *subject) dirs(devpath string) *dir {
	// One piece of memory for all of them.
	all := make([]dir, strings.Count(devpath, "/"))
	n := 0
	for path := devpath; n < len(all); n++ {
		end := strings.LastIndexByte(path, '/')
		if end <= 0 {
			break
		}
		all[n] = dir{s: s, path: path}
		if n > 0 {
			all[n-1].up = &all[n]
		}
		path = path[:end]
	}
	if n == 0 {
		return &dir{s: s, path: devpath}
	}
	return &all[0]
}

// name returns the last part of the path: the kernel's name of a device.
func (d *dir) name() string { return d.path[strings.LastIndexByte(d.path, '/')+1:] }

// readSubsystem returns the subsystem, or "" for a directory that is no device's.
func (d *dir) readSubsystem() string {
	if !d.known {
		d.s.reads++
		d.subsystem, d.known = d.s.p.Sys.Subsystem(d.path), true
	}
	return d.subsystem
}

// attr reads an attribute without the newlines at its end. As in C, a NUL ends it.
func (d *dir) attr(name string) (value string, there bool) {
	for i := range d.attrs {
		if d.attrs[i].name == name {
			return d.attrs[i].value, d.attrs[i].there
		}
	}
	d.s.reads++
	value, err := sys.ReadAttribute(string(d.s.p.Sys) + d.path + "/" + name)
	value, _, _ = strings.Cut(value, "\x00")
	value = strings.TrimRight(value, "\n\r")
	d.attrs = append(d.attrs, attr{name, value, err == nil})
	return value, err == nil
}

// value is attr where it does not matter whether the attribute is there.
func (d *dir) value(name string) string {
	value, _ := d.attr(name)
	return value
}

// bytes reads what a file begins with, up to max bytes.
// They may hold NULs, and are not kept. The text is "" where the file cannot be read.
func (d *dir) bytes(name string, max int) string {
	d.s.reads++
	fd, err := unix.Open(string(d.s.p.Sys)+d.path+"/"+name, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	text, _ := sys.ReadAll(fd, max)
	return text
}

// linked returns the last part of where a link leads: for driver its name.
// It returns "" where there is no link.
func (d *dir) linked(name string) string {
	d.s.reads++
	text, _ := sys.ReadLink(string(d.s.p.Sys) + d.path + "/" + name)
	return text[strings.LastIndexByte(text, '/')+1:]
}

// has reports whether the directory has an entry of that name. It does not open it, and keeps no answer.
func (d *dir) has(name string) bool {
	d.s.reads++
	return sys.Exists(unix.AT_FDCWD, string(d.s.p.Sys)+d.path+"/"+name)
}

// list returns the names in the directory, none where it cannot be read.
func (d *dir) list() []string {
	d.s.reads++
	return sys.ReadDir(string(d.s.p.Sys) + d.path)
}

// near returns the next directory from d up whose name is prefix and a number.
func (d *dir) near(prefix string) *dir {
	for ; d != nil; d = d.up {
		if name := d.name(); len(name) > len(prefix) && name[:len(prefix)] == prefix && isDigit(name[len(prefix)]) {
			return d
		}
	}
	return nil
}

// isDevice reports whether the directory is a device's, and not only one in which the
// kernel gathers those of a class.
func (d *dir) isDevice() bool { return d.readSubsystem() != "" || d.has("uevent") }

// parent returns the next device above, or nil.
func (d *dir) parent() *dir {
	for d = d.up; d != nil && !d.isDevice(); d = d.up {
	}
	return d
}

// within returns the device itself or the next one above that is of a subsystem, or nil.
func (d *dir) within(subsystem string) *dir {
	for ; d != nil && d.readSubsystem() != subsystem; d = d.up {
	}
	return d
}

// top returns the highest of the devices of one subsystem that lie above each other without
// another between them, beginning with d.
func (d *dir) top() *dir {
	for up := d.parent(); up != nil && up.readSubsystem() == d.readSubsystem(); up = up.parent() {
		d = up
	}
	return d
}

// isVirtual reports whether the device has no hardware of its own: the kernel puts such devices
// below /devices/virtual.
func isVirtual(e *uevent.Event) bool { return strings.Contains(e.Devpath, "/virtual/") }
