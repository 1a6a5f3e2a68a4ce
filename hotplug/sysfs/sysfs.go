// Package sysfs reads devices as /sys has them: which are there, what their uevents
// say, and where links lead. It writes nothing but what Write is asked to: an action
// into a device's uevent file.
package sysfs

import (
	"errors"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
	"devspool/hotplug/uevent"
)

// Helper returns the program that the kernel starts for each event, or "".
func (s FS) Helper() string {
	text, _ := sys.ReadAttribute(string(s) + "/kernel/uevent_helper")
	return strings.TrimSuffix(text, "\n")
}

// FS is the path that sysfs is mounted at. Reading is all that is done there,
// but for firmware.
type FS string

// Mounted reports whether there is a sysfs. In an early boot there may be none.
func (s FS) Mounted() bool {
	var st unix.Stat_t
	return unix.Stat(string(s)+"/devices", &st) == nil
}

// Seqnum returns the number of the last event that the kernel sent, or 0 where it
// does not say.
func (s FS) Seqnum() uint64 {
	text, _ := sys.ReadAttribute(string(s) + "/kernel/uevent_seqnum")
	n, _ := strconv.ParseUint(strings.TrimSuffix(text, "\n"), 10, 64)
	return n
}

// Exists reports whether there is a device at devpath.
func (s FS) Exists(devpath string) bool {
	var st unix.Stat_t
	return unix.Stat(string(s)+devpath+"/uevent", &st) == nil
}

// Numbers reads the dev attribute of devpath.
func (s FS) Numbers(devpath string) (string, bool) {
	text, err := sys.ReadAttribute(string(s) + devpath + "/dev")
	return strings.TrimSuffix(text, "\n"), err == nil
}

// Complete gives an event that came without numbers or DEVNAME what sysfs says of
// its device. Scripts call the helper with no more than ACTION and DEVPATH, and
// that may be a link such as /class/mem/null.
func (s FS) Complete(e *uevent.Event) {
	if !e.Dev.IsZero() && e.Devname != "" {
		return
	}
	if text, err := sys.ReadLink(string(s) + e.Devpath); err == nil && DevpathOf(text) != "" {
		e.Relocate(DevpathOf(text))
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
func (s FS) number(e *uevent.Event) {
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

// Event makes the event that stands for the device at devpath.
func (s FS) Event(action, devpath string) (*uevent.Event, error) {
	d := Device{Devpath: devpath}
	if text, ok := s.Numbers(devpath); ok {
		d.Dev.Major, d.Dev.Minor, _ = uevent.ParseNumbers(text)
	}
	d.Subsystem = s.Subsystem(devpath)
	d.Dev.Block = d.Subsystem == "block" && !d.Dev.IsZero()
	return s.EventOf(action, d)
}

// Events makes the events that stand for one device, or where its name is "" for
// all. A device is named by its devpath, by a path below /sys, or by its node,
// which lies below dev or /dev.
func (s FS) Events(action, name, dev string) ([]*uevent.Event, error) {
	if name != "" {
		devpath, err := s.Find(name, dev)
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
	for _, d := range s.Scan(Everything) {
		if e, err := s.EventOf(action, d); err == nil {
			events = append(events, e)
		}
	}
	return events, nil
}

// Find returns the devpath of the device of that name.
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
			return "", &os.PathError{Op: "stat", Path: name, Err: err}
		}
		if kind := st.Mode & unix.S_IFMT; kind != unix.S_IFBLK && kind != unix.S_IFCHR {
			return "", errors.New(name + " is no device node")
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
		return "", &os.PathError{Op: "find", Path: name, Err: os.ErrNotExist}
	}
	return devpath, nil
}

func (s FS) EventOf(action string, d Device) (*uevent.Event, error) {
	text, err := sys.ReadAttribute(string(s) + d.Devpath + "/uevent")
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(text, "MAJOR=") && !strings.HasPrefix(text, d.head()) {
		return nil, unix.ESTALE // another device took the place since its numbers were read
	}
	if d.Subsystem == "" {
		d.Subsystem = s.Subsystem(d.Devpath)
	}
	return uevent.FromSysfs(action, d.Devpath, d.Subsystem, text, d.Dev)
}

func (s FS) Subsystem(devpath string) string {
	text, _ := sys.ReadLink(string(s) + devpath + "/subsystem")
	return text[strings.LastIndexByte(text, '/')+1:]
}

// IsKernels reports whether this is the kernel's sysfs, and no tree that looks like it.
func (s FS) IsKernels() bool {
	var st unix.Statfs_t
	return unix.Statfs(string(s)+"/devices", &st) == nil && uint32(st.Type) == unix.SYSFS_MAGIC
}

// Write writes an attribute.
func (s FS) Write(path, text string) error {
	fd, err := unix.Open(string(s)+path, unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte(text))
	return err
}

// NodeDev returns the numbers that a node has.
func NodeDev(st *unix.Stat_t) uevent.Dev {
	return uevent.Dev{Block: st.Mode&unix.S_IFMT == unix.S_IFBLK,
		Major: unix.Major(uint64(st.Rdev)), Minor: unix.Minor(uint64(st.Rdev))}
}

func KindDir(block bool) string {
	if block {
		return "block"
	}
	return "char"
}

// Plugged tells whether the device at devpath, or one above it, can be pulled out, and
// the number that the kernel gave to its disk when it came (Linux 5.15; 0 where none is).
func (s FS) Plugged(devpath string) (removable bool, diskseq uint64) {
	for path := devpath; len(path) > len("/devices"); path = path[:max(0, strings.LastIndexByte(path, '/'))] {
		if text, err := sys.ReadAttribute(string(s) + path + "/removable"); err == nil {
			text = strings.TrimSpace(text) // of a disk 0 or 1, of others fixed, removable or unknown
			removable = removable || text != "0" && text != "fixed"
		}
		if diskseq == 0 {
			text, _ := sys.ReadAttribute(string(s) + path + "/diskseq")
			diskseq, _ = strconv.ParseUint(strings.TrimSpace(text), 10, 64)
		}
	}
	return removable, diskseq
}
