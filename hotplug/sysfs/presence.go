package sysfs

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
	"devspool/hotplug/uevent"
)

// Presence answers whether a device lives, by the links that sysfs keeps from
// numbers to devpaths (dev/block/8:0), with one short system call. A link is
// there just as long as the device's dev attribute, which may not be said of its
// directory.
type Presence struct {
	sys         FS
	block, char int        // the directories of the links, or -1
	place       sys.FileID // of /sys when they were opened
	link        [unix.PathMax]byte
}

func NewPresence(sys FS) Presence { return Presence{sys: sys, block: -1, char: -1} }

// Refresh notices that a sysfs was mounted, or another one over it.
func (c *Presence) Refresh() {
	place := sys.FileIDOf(string(c.sys))
	if place == c.place && c.block >= 0 && c.char >= 0 {
		return
	}
	c.place = place
	c.block = reopen(c.block, string(c.sys)+"/dev/block")
	c.char = reopen(c.char, string(c.sys)+"/dev/char")
}

func reopen(old int, path string) int {
	if old >= 0 {
		unix.Close(old)
	}
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1
	}
	return fd
}

// Has reports whether the device at devpath has the numbers dev now.
func (c *Presence) Has(devpath string, dev uevent.Dev) bool {
	fd := c.char
	if dev.Block {
		fd = c.block
	}
	if fd < 0 {
		is, ok := c.sys.Numbers(devpath)
		return ok && is == dev.Numbers()
	}
	n, ok := c.read(fd, dev)
	return ok && IsLinkTo(c.link[:n], devpath)
}

// read reads the link of a device. It is asked for most events, and never blocks,
// so it does without the Go scheduler's knowledge.
func (c *Presence) read(dir int, dev uevent.Dev) (length int, ok bool) {
	name := append([]byte(dev.Numbers()), 0)
	n, _, errno := unix.RawSyscall6(unix.SYS_READLINKAT, uintptr(dir), uintptr(unsafe.Pointer(&name[0])),
		uintptr(unsafe.Pointer(&c.link)), uintptr(len(c.link)), 0, 0)
	return int(n), errno == 0
}

// Stale reports whether /sys says that an event comes too late to be acted on: an
// add of a device that left, or a remove of one that came back. Where there is
// no sysfs, the event itself is all there is to know.
func (c *Presence) Stale(e *uevent.Event) bool {
	switch e.Action {
	case uevent.Add, uevent.Move:
		return !e.Dev.IsZero() && !c.Has(e.Devpath, e.Dev) && c.sys.Mounted()
	case uevent.Remove:
		if e.Dev.IsZero() {
			_, lives := c.sys.Numbers(e.Devpath)
			return lives
		}
		return c.Has(e.Devpath, e.Dev)
	}
	return false
}

// IsLinkTo reports whether the text of a link in sysfs leads to devpath.
func IsLinkTo(link []byte, devpath string) bool {
	tail := len(link) - len(devpath)
	if tail < 0 || string(link[tail:]) != devpath {
		return false
	}
	for _, c := range link[:tail] {
		if c != '.' && c != '/' {
			return false
		}
	}
	return true
}
