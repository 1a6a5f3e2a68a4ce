package sysfs

import (
	"strconv"
	"strings"

	"devspool/hotplug/sys"
	"devspool/hotplug/uevent"
)

// Device is a device that a scan found.
type Device struct {
	Devpath   string
	Subsystem string     // "" where the scan did not read it
	Dev       uevent.Dev // zero for a device without numbers
}

// head returns the first lines of the uevent file of a device that has numbers (dev_uevent in
// drivers/base/core.c). A file that begins with other numbers is another device's.
func (d Device) head() string {
	return "MAJOR=" + strconv.Itoa(int(d.Dev.Major)) + "\nMINOR=" + strconv.Itoa(int(d.Dev.Minor)) + "\n"
}

// Scan lists the devices in /sys, parents before children: all that have numbers, and those of
// the others for whose subsystem and sysname, the last part of the devpath, wanted returns true.
// It reads the classes and buses only where wanted returns true for two empty strings.
func (s FS) Scan(wanted func(subsystem, sysname string) bool) []Device {
	found, all := map[string]Device{}, func(string) bool { return true }
	for _, block := range []bool{true, false} {
		s.eachLink("/dev/"+KindDir(block), all, func(name, devpath string) {
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
	if wanted("", "") {
		s.scanUnnumbered(found, wanted)
	}
	// A request for firmware from before this process began still waits for its answer.
	s.eachLink("/class/firmware", all, func(_, devpath string) {
		found[devpath] = Device{Devpath: devpath, Subsystem: "firmware"}
	})
	paths := make([]string, 0, len(found))
	for path := range found {
		paths = append(paths, path)
	}
	// A parent's devpath is the begin of its children's, and sorts before them.
	sys.Sort(paths)
	devices := make([]Device, 0, len(paths))
	for _, path := range paths {
		devices = append(devices, found[path])
	}
	return devices
}

// scanUnnumbered adds the devices of every class and bus. Their links also tell the subsystem.
func (s FS) scanUnnumbered(found map[string]Device, wanted func(subsystem, sysname string) bool) {
	add := func(dir, subsystem string) {
		of := func(sysname string) bool { return wanted(subsystem, sysname) }
		s.eachLink(dir, of, func(_, devpath string) {
			d := found[devpath] // which has its numbers, where it was found by them
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

// Everything has Scan list every device of a class or a bus.
func Everything(_, _ string) bool { return true }

// Nothing has Scan list only the devices that have numbers.
func Nothing(_, _ string) bool { return false }

// Walk lists the devpaths of all devices, also of those without a class or a bus, parents before
// children. It keeps a list of its own of what is still to be read, so no depth of the tree is too much.
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

// eachLink calls f for every link to a device in a directory of sysfs for whose name wanted returns
// true.
func (s FS) eachLink(dir string, wanted func(name string) bool, f func(name, devpath string)) {
	dir = string(s) + dir
	for _, name := range sys.ReadDir(dir) {
		if !wanted(name) {
			continue
		}
		text, err := sys.ReadLink(dir + "/" + name)
		if err != nil {
			continue // an attribute, or the link of a device that has just been removed
		}
		if devpath := devpathOf(text); devpath != "" {
			f(name, devpath)
		}
	}
}

// devpathOf returns the devpath that the text of a link in sysfs leads to, or "".
func devpathOf(link string) string {
	for strings.HasPrefix(link, "../") {
		link = link[len("../"):]
	}
	if !strings.HasPrefix(link, "devices/") {
		return ""
	}
	return "/" + link
}
