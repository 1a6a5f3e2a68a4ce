// Package sysfs reads devices as /sys has them: which are present, what their uevent files
// say, and where links lead. It writes only by Write, and never looks at /dev but to read the
// numbers of a node.
package sysfs

import (
	"errors"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
	"devspool/hotplug/uevent"
)

// FS is the absolute path that sysfs is mounted at, or of a tree that looks like it. A devpath is a
// device's path below it, as in a uevent: /devices/…. Errors are bare errnos where a method does
// not say otherwise.
type FS string

// attribute returns the text of an attribute without its newline.
func (s FS) attribute(path string) (string, error) {
	text, err := sys.ReadAttribute(string(s) + path)
	return strings.TrimSuffix(text, "\n"), err
}

// Helper returns the program that the kernel starts for each event, or "".
func (s FS) Helper() string {
	text, _ := s.attribute("/kernel/uevent_helper")
	return text
}

// Mounted reports whether there is a sysfs. Early in a boot there may be none. It looks for
// /devices, as an empty directory /sys may be there before.
func (s FS) Mounted() bool {
	var st unix.Stat_t
	return unix.Stat(string(s)+"/devices", &st) == nil
}

// Seqnum returns the SEQNUM of the last event that the kernel sent, or 0 where that is not known.
func (s FS) Seqnum() uint64 {
	text, _ := s.attribute("/kernel/uevent_seqnum")
	n, _ := strconv.ParseUint(text, 10, 64)
	return n
}

// Exists reports whether there is a device at devpath. A directory of sysfs alone need not be
// one: groups of attributes, such as power, are directories too, without a uevent file.
func (s FS) Exists(devpath string) bool {
	var st unix.Stat_t
	return unix.Stat(string(s)+devpath+"/uevent", &st) == nil
}

// Numbers returns the device numbers of the device at devpath, as in "8:0". ok is false where it
// has none.
func (s FS) Numbers(devpath string) (numbers string, ok bool) {
	numbers, err := s.attribute(devpath + "/dev")
	return numbers, err == nil
}

// Complete adds to an event without numbers or DEVNAME the variables that sysfs has for its
// device. Scripts call the helper with ACTION and DEVPATH alone, and the DEVPATH may be a link
// such as /class/mem/null, in place of which Complete puts the device's own.
func (s FS) Complete(e *uevent.Event) {
	if !e.Dev.IsZero() && e.Devname != "" {
		return
	}
	text, _ := sys.ReadLink(string(s) + e.Devpath)
	if devpath := devpathOf(text); devpath != "" {
		e.Relocate(devpath)
	}
	full, err := s.Event(e.Action, e.Devpath)
	if err != nil {
		s.completeNumbers(e)
		return
	}
	e.SetDefaults(full)
}

// completeNumbers adds the numbers of a device that has a dev attribute and no uevent file: a tree
// made by hand, in which a directory's name may be all that tells the subsystem.
func (s FS) completeNumbers(e *uevent.Event) {
	text, _ := s.Numbers(e.Devpath)
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

// Event makes the event that the kernel would send about the device at devpath. The error is ENOENT
// where there is no device, or says what is wrong with its uevent file.
func (s FS) Event(action, devpath string) (*uevent.Event, error) {
	d := Device{Devpath: devpath}
	if text, ok := s.Numbers(devpath); ok {
		d.Dev.Major, d.Dev.Minor, _ = uevent.ParseNumbers(text)
	}
	d.Subsystem = s.Subsystem(devpath)
	d.Dev.Block = d.Subsystem == "block" && !d.Dev.IsZero()
	return s.EventOf(action, d)
}

// Events makes the events of one device, or with the name "" of all devices. Find says how a
// device is named.
func (s FS) Events(action, name, dev string) ([]*uevent.Event, error) {
	if name != "" {
		devpath, err := s.Find(name, dev)
		if err != nil {
			return nil, err
		}
		e, err := s.Event(action, devpath)
		if err != nil {
			return nil, errors.New("no device at " + string(s) + devpath + ": " + err.Error())
		}
		return []*uevent.Event{e}, nil
	}
	var events []*uevent.Event
	for _, d := range s.Scan(Everything) {
		if e, err := s.EventOf(action, d); err == nil {
			events = append(events, e)
		}
	}
	return events, nil
}

// Find returns the devpath of a device, which name gives as a devpath, as a path below the sysfs,
// also one through links, or as a node: a path below /dev or dev, or a name in dev.
func (s FS) Find(name, dev string) (string, error) {
	path := name
	if !strings.Contains(name, "/") {
		name = dev + "/" + name
	}
	switch {
	case strings.HasPrefix(name, string(s)+"/"):
	case strings.HasPrefix(name, "/dev/"), strings.HasPrefix(name, dev+"/"):
		var st unix.Stat_t
		if err := unix.Stat(name, &st); err != nil {
			return "", sys.PathError("stat", name, err)
		}
		if kind := st.Mode & unix.S_IFMT; kind != unix.S_IFBLK && kind != unix.S_IFCHR {
			return "", errors.New(name + " is not a device node")
		}
		d := NodeDev(&st)
		path = string(s) + "/dev/" + KindDir(d.Block) + "/" + d.Numbers()
	default:
		path = string(s) + "/" + strings.TrimPrefix(name, "/")
	}
	path, err := sys.Realpath(path)
	if err != nil {
		return "", err
	}
	root, err := sys.Realpath(string(s))
	if err != nil {
		return "", err
	}
	devpath, below := strings.CutPrefix(path, root)
	if !below || devpath == "" {
		return "", errors.New(name + " is not a path below " + string(s))
	}
	return devpath, nil
}

// EventOf makes the event of a device that Scan found. The error is ESTALE where another device has
// its devpath now.
func (s FS) EventOf(action string, d Device) (*uevent.Event, error) {
	text, err := sys.ReadAttribute(string(s) + d.Devpath + "/uevent")
	if err != nil {
		return nil, err
	}
	// The numbers were read before this file: another device may have come to the devpath in
	// between.
	if strings.HasPrefix(text, "MAJOR=") && !strings.HasPrefix(text, d.head()) {
		return nil, unix.ESTALE
	}
	if d.Subsystem == "" {
		d.Subsystem = s.Subsystem(d.Devpath)
	}
	return uevent.FromSysfs(action, d.Devpath, d.Subsystem, text, d.Dev)
}

// Subsystem returns the name of the class or bus of the device at devpath, or "".
func (s FS) Subsystem(devpath string) string {
	text, _ := sys.ReadLink(string(s) + devpath + "/subsystem")
	return text[strings.LastIndexByte(text, '/')+1:]
}

// IsKernels reports whether this is the kernel's sysfs, not a tree that looks like it.
func (s FS) IsKernels() bool {
	var st unix.Statfs_t
	return unix.Statfs(string(s)+"/devices", &st) == nil && uint32(st.Type) == unix.SYSFS_MAGIC
}

// Write writes text to the attribute at path, by one call of write(2): the kernel takes each as a whole
// value.
func (s FS) Write(path, text string) error {
	fd, err := unix.Open(string(s)+path, unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte(text))
	return err
}

// NodeDev returns the device numbers of a node.
// For a file that is no node they mean nothing.
func NodeDev(st *unix.Stat_t) uevent.Dev {
	return uevent.Dev{Block: st.Mode&unix.S_IFMT == unix.S_IFBLK,
		Major: unix.Major(uint64(st.Rdev)), Minor: unix.Minor(uint64(st.Rdev))}
}

// KindDir returns the directory below /sys/dev that has links to block or to character devices.
func KindDir(block bool) string {
	if block {
		return "block"
	}
	return "char"
}

// Plugged reports whether the device at devpath, or one above it, is removable, and the number that
// the kernel gave its disk when that appeared (diskseq, Linux 5.15), or 0.
func (s FS) Plugged(devpath string) (removable bool, diskseq uint64) {
	for path := devpath; len(path) > len("/devices"); path = path[:max(0, strings.LastIndexByte(path, '/'))] {
		if text, err := s.attribute(path + "/removable"); err == nil {
			// A disk has 0 or 1, another device fixed, removable or unknown.
			removable = removable || text != "0" && text != "fixed"
		}
		if diskseq == 0 {
			text, _ := s.attribute(path + "/diskseq")
			diskseq, _ = strconv.ParseUint(text, 10, 64)
		}
	}
	return removable, diskseq
}
