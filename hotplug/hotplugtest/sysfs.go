package hotplugtest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"devspool/hotplug/sysfs"
	"devspool/hotplug/uevent"
)

// Sysfs is a directory in the place of /sys.
type Sysfs struct {
	*testing.T
	sysfs.FS
}

// NewSysfs returns a Sysfs without devices.
func NewSysfs(t *testing.T) *Sysfs {
	t.Helper()
	s := &Sysfs{t, sysfs.FS(filepath.Join(t.TempDir(), "sys"))}
	for _, dir := range []string{"devices", "class", "bus", "dev/block", "dev/char"} {
		Must(t, os.MkdirAll(s.Path("/"+dir), 0o755))
	}
	return s
}

// Path returns the path of a file, given its path below /sys with a leading slash.
func (s *Sysfs) Path(name string) string { return string(s.FS) + name }

// Add adds a device. Numbers are major and minor, such as "8:0", or "" for none; uevent are
// the lines of its uevent file besides those of the numbers.
func (s *Sysfs) Add(devpath, subsystem, numbers string, uevent ...string) {
	s.Helper()
	text := ""
	if major, minor, has := strings.Cut(numbers, ":"); has {
		text = "MAJOR=" + major + "\nMINOR=" + minor + "\n"
		WriteFile(s.T, s.Path(devpath+"/dev"), numbers+"\n")
		s.link(kindDevpath(subsystem, numbers), devpath)
	}
	for _, line := range uevent {
		text += line + "\n"
	}
	WriteFile(s.T, s.Path(devpath+"/uevent"), text)
	if subsystem != "" {
		Must(s.T, os.MkdirAll(s.Path("/class/"+subsystem), 0o755))
		s.link("/class/"+subsystem+"/"+filepath.Base(devpath), devpath)
		Must(s.T, os.Symlink(strings.Repeat("../", strings.Count(devpath, "/"))+"class/"+subsystem, s.Path(devpath+"/subsystem")))
	}
}

// link makes a relative link at a place in sysfs to a device, as the kernel does.
func (s *Sysfs) link(at, devpath string) {
	s.Helper()
	Must(s.T, os.Symlink(strings.Repeat("../", strings.Count(at, "/")-1)+devpath[1:], s.Path(at)))
}

// Remove removes a device.
func (s *Sysfs) Remove(devpath string) {
	s.Helper()
	numbers, _ := s.Numbers(devpath)
	subsystem := s.Subsystem(devpath)
	Must(s.T, os.RemoveAll(s.Path(devpath)))
	os.Remove(s.Path(kindDevpath(subsystem, numbers)))
	os.Remove(s.Path("/class/" + subsystem + "/" + filepath.Base(devpath)))
}

// kindDevpath returns the place of the link from the numbers of a device to it.
func kindDevpath(subsystem, numbers string) string {
	return "/dev/" + sysfs.KindDir(subsystem == "block") + "/" + numbers
}

// NewEvent returns the event that the kernel would send about a device.
func (s *Sysfs) NewEvent(action, devpath string) *uevent.Event {
	s.Helper()
	e, err := s.Event(action, devpath)
	Must(s.T, err)
	return e
}

// NewMachine returns a Sysfs with a disk and its partition, a tty, a network interface, an
// input device whose name forges lines of its uevent file, and a USB interface on a bus.
func NewMachine(t *testing.T) *Sysfs {
	t.Helper()
	s := NewSysfs(t)
	s.Add("/devices/pci0/block/sda", "block", "8:0", "DEVNAME=sda", "DEVTYPE=disk")
	s.Add("/devices/pci0/block/sda/sda1", "block", "8:1", "DEVNAME=sda1", "DEVTYPE=partition")
	s.Add("/devices/virtual/tty/tty0", "tty", "4:0", "DEVNAME=tty0", "DEVMODE=0620")
	s.Add("/devices/pci0/net/eth0", "net", "", "INTERFACE=eth0", "IFINDEX=2")
	s.Add("/devices/usb1/input/input5", "input", "", `NAME="evil`, "MAJOR=1", "MINOR=3", `DEVNAME=null"`, "PRODUCT=3/1/2")
	s.Add("/devices/usb1/1-1/1-1:1.0", "", "", "MODALIAS=usb:v1d6b", "DEVTYPE=usb_interface")
	Must(t, os.MkdirAll(s.Path("/bus/usb/devices"), 0o755))
	Must(t, os.MkdirAll(s.Path("/bus/usb/drivers"), 0o755))
	s.link("/bus/usb/devices/1-1:1.0", "/devices/usb1/1-1/1-1:1.0")
	Must(t, os.Symlink("../../../bus/usb", s.Path("/devices/usb1/1-1/1-1:1.0/subsystem")))
	// These are no devices.
	WriteFile(t, s.Path("/class/net/bonding_masters"), "")
	Must(t, os.Symlink("../../module/x", s.Path("/class/net/odd")))
	Must(t, os.Symlink("../../devices/pci0/block/sda", s.Path("/dev/block/odd")))
	return s
}

// Requested returns the contents of a device's uevent file, which is where a test reads
// what the program wrote to it.
func (s *Sysfs) Requested(devpath string) string {
	s.Helper()
	return Contents(s.T, s.Path(devpath+"/uevent"))
}
