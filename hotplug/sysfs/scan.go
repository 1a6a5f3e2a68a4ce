package sysfs

import (
	"slices"
	"strconv"
	"strings"

	"devspool/hotplug/sys"
	"devspool/hotplug/uevent"
)

// Device is one that a scan found.
type Device struct {
	Devpath   string
	Subsystem string // "" where it is still to be read
	Dev       uevent.Dev
}

// head returns what the kernel writes first into the uevent file of a device
// that has numbers.
func (d Device) head() string {
	return "MAJOR=" + strconv.Itoa(int(d.Dev.Major)) + "\nMINOR=" + strconv.Itoa(int(d.Dev.Minor)) + "\n"
}

// Scan lists the devices in /sys, parents before children: all that have
// numbers, and those of the others whose sysnames wanted approves of.
func (s FS) Scan(wanted func(sysname string) bool) []Device {
	found := map[string]Device{}
	for _, block := range []bool{true, false} {
		s.eachLink("/dev/"+KindDir(block), Everything, func(name, devpath string) {
			major, minor, ok := uevent.ParseNumbers(name)
			if !ok {
				return
			}
			d := Device{Devpath: devpath, Dev: uevent.Dev{Block: block, Major: major, Minor: minor}}
			if block {
				d.Subsystem = "block"
			}
			found[devpath] = d
		})
	}
	if wanted("") {
		s.scanUnnumbered(found, wanted)
	}
	// A request for firmware that came before us still waits.
	s.eachLink("/class/firmware", Everything, func(_, devpath string) {
		found[devpath] = Device{Devpath: devpath, Subsystem: "firmware"}
	})
	paths := make([]string, 0, len(found))
	for path := range found {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	devices := make([]Device, 0, len(paths))
	for _, path := range paths {
		devices = append(devices, found[path])
	}
	return devices
}

// scanUnnumbered adds the devices of every class and bus, whose links also tell
// the subsystem.
func (s FS) scanUnnumbered(found map[string]Device, wanted func(sysname string) bool) {
	add := func(dir, subsystem string) {
		s.eachLink(dir, wanted, func(_, devpath string) {
			d := found[devpath]
			d.Devpath, d.Subsystem = devpath, subsystem
			found[devpath] = d
		})
	}
	for _, class := range sys.ReadDir(string(s) + "/class") {
		add("/class/"+class, class)
	}
	for _, bus := range sys.ReadDir(string(s) + "/bus") {
		add("/bus/"+bus+"/devices", bus)
	}
}

func Everything(string) bool { return true }
func Nothing(string) bool    { return false }

// Walk lists every devpath there is, with or without a class or a bus, parents
// before children.
func (s FS) Walk() (devpaths []string) {
	dirs := []string{"/devices"}
	for len(dirs) > 0 {
		dir := dirs[len(dirs)-1]
		dirs = dirs[:len(dirs)-1]
		if s.Exists(dir) {
			devpaths = append(devpaths, dir)
		}
		for _, name := range sys.Subdirs(string(s) + dir) {
			dirs = append(dirs, dir+"/"+name)
		}
	}
	return devpaths
}

// eachLink calls f for every link to a device in a directory of sysfs whose name
// is wanted.
func (s FS) eachLink(dir string, wanted func(name string) bool, f func(name, devpath string)) {
	dir = string(s) + dir
	for _, name := range sys.ReadDir(dir) {
		if !wanted(name) {
			continue
		}
		text, err := sys.ReadLink(dir + "/" + name)
		if err != nil {
			continue // an attribute, or a device that has just left
		}
		if devpath := DevpathOf(text); devpath != "" {
			f(name, devpath)
		}
	}
}

// DevpathOf turns the text of a link in sysfs into the devpath it leads to, or "".
func DevpathOf(link string) string {
	for strings.HasPrefix(link, "../") {
		link = link[len("../"):]
	}
	if !strings.HasPrefix(link, "devices/") {
		return ""
	}
	return "/" + link
}
