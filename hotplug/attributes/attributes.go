// Package attributes sets the sysfs attributes that rules name. It never leaves the directory of
// the device that the event is about, follows no link, and touches no other device that has taken
// its place. It never decides which attribute gets which value.
package attributes

import (
	"strings"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
	"devspool/hotplug/sysfs"
	"devspool/hotplug/uevent"
	"devspool/nodes"
)

// slots are how many writes may be under way at once: a driver can take its time for one, and each
// keeps a thread meanwhile.
var slots = make(chan struct{}, 4)

// Set sets the attributes of a plan in their order, and returns why each could not be set, or nil
// where the device is not there any more, which is no failure. It may block for as long as a driver
// takes.
func Set(fs sysfs.FS, p *nodes.Plan) []error {
	dir, err := openDevice(fs, p.Event)
	if err != nil {
		return nil
	}
	// After openDevice: a device that has gone must not wait for slow ones.
	slots <- struct{}{}
	failures := make([]error, len(p.Attributes))
	for i, a := range p.Attributes {
		err := set(dir, a)
		// An attribute says ENODEV when its device has gone, or that the device cannot do this, such as
		// being polled. Without a uevent file the directory is dead.
		hasGone := (err == unix.ENODEV || err == unix.ENOENT) && !sys.Exists(dir, "uevent")
		if !hasGone && (err != unix.ENOENT || !isUnbound(p.Event)) {
			failures[i] = err
		}
	}
	<-slots
	unix.Close(dir)
	return failures
}

// isUnbound reports whether e is the add of a device that has no driver yet: a bind follows when it
// gets one, which may bring the attribute.
func isUnbound(e *uevent.Event) bool {
	_, wants := e.Get("MODALIAS")
	_, has := e.Get("DRIVER")
	return e.Action == uevent.Add && wants && !has
}

// openDevice opens the directory of the device that e is about. The error is ESTALE where it is
// another one's by now. Without a uevent file, as of a dead directory, nothing is compared.
func openDevice(fs sysfs.FS, e *uevent.Event) (dir int, err error) {
	root, err := unix.Open(string(fs), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return sys.None, err
	}
	dir, err = open(root, e.Devpath[1:], unix.O_PATH|unix.O_DIRECTORY)
	unix.Close(root)
	if err != nil {
		return sys.None, err
	}
	// The directory is open, so what is compared here stays the device that is written to.
	for text := read(dir, "uevent"); text != ""; {
		var line string
		line, text, _ = strings.Cut(text, "\n")
		key, value, _ := strings.Cut(line, "=")
		said, is := e.Get(key)
		if is && said != value && strings.Contains(identity, " "+key+" ") {
			unix.Close(dir)
			return sys.None, unix.ESTALE
		}
	}
	return dir, nil
}

// identity are the variables of a uevent file by which one device differs from the next at its
// devpath. Others, such as a battery's, change while a device is there.
const identity = " MAJOR MINOR DISKSEQ IFINDEX BUSNUM DEVNUM PRODUCT MODALIAS DEVTYPE HID_ID HID_UNIQ PCI_ID PCI_SUBSYS_ID "

// set sets one attribute: its value, unless it reads so already, or its mode and owner. A value
// goes in one write, since a driver takes each write as a whole value. Some drivers reset their
// device even where the value is the same.
func set(dir int, a *nodes.Attribute) error {
	if a.Value != "" && strings.TrimSuffix(read(dir, a.Path), "\n") == strings.TrimSuffix(a.Value, "\n") {
		return nil
	}
	fd, err := open(dir, a.Path, unix.O_WRONLY)
	if err == unix.EACCES && a.Value == "" { // sysfs does not even let root write what cannot be written
		fd, err = open(dir, a.Path, unix.O_RDONLY)
	}
	if err != nil {
		return err
	}
	if a.Value != "" {
		_, err = unix.Write(fd, []byte(a.Value))
	} else if err = unix.Fchown(fd, int(a.UID), int(a.GID)); err == nil {
		err = unix.Fchmod(fd, a.Mode)
	}
	unix.Close(fd)
	return err
}

// read returns the text of the attribute at a path below dir, up to a page, or "".
func read(dir int, path string) string {
	fd, err := open(dir, path, unix.O_RDONLY)
	if err != nil {
		return ""
	}
	// The kernel gives an attribute a page (sysfs_emit).
	var buf [4096]byte
	n, _ := unix.Read(fd, buf[:])
	unix.Close(fd)
	return string(buf[:max(n, 0)])
}

// open opens the file at a clean path, without "..", below a directory. It goes a part at a time,
// which follows no link on any kernel, and never waits for a file to be ready.
func open(at int, path string, flags int) (int, error) {
	for dir := at; ; {
		part, rest, more := strings.Cut(path, "/")
		how := flags | unix.O_NONBLOCK | unix.O_NOCTTY
		if more {
			how = unix.O_PATH | unix.O_DIRECTORY
		}
		fd, err := unix.Openat(dir, part, how|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if dir != at {
			unix.Close(dir)
		}
		if err != nil || !more {
			return fd, err
		}
		dir, path = fd, rest
	}
}
