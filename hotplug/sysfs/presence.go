package sysfs

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
	"devspool/hotplug/uevent"
)

// Presence answers whether a device is present, by the links that sysfs keeps from numbers
// to devpaths (dev/block/8:0), with one short system call. The kernel makes and removes a
// link together with the device's dev attribute; the device's directory may exist longer.
// One goroutine may use a Presence at a time.
type Presence struct {
	_           sys.NotComparable
	fs          FS
	block, char int                // the directories of the links, or sys.None
	id          sys.FileID         // of the sysfs that they were opened in; zero where there was none
	link        [unix.PathMax]byte // what readLink read last
}

// NewPresence returns a Presence for a sysfs, which may be mounted later. Refresh opens it.
func NewPresence(fs FS) Presence { return Presence{fs: fs, block: sys.None, char: sys.None} }

// Refresh opens the directories of links anew where a sysfs was mounted, or another one over it.
func (p *Presence) Refresh() {
	id := sys.FileIDOf(string(p.fs))
	if id == p.id && p.block != sys.None && p.char != sys.None {
		return
	}
	p.id = id
	p.reopen(&p.block, true)
	p.reopen(&p.char, false)
}

// reopen opens the directory of the links of one kind. It stays None where there is none yet,
// and Has reads attributes then.
func (p *Presence) reopen(dir *int, block bool) {
	sys.CloseAll(dir)
	path := string(p.fs) + "/dev/" + KindDir(block)
	if fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err == nil {
		*dir = fd
	}
}

// Has reports whether the device at devpath has the numbers dev now.
func (p *Presence) Has(devpath string, dev uevent.Dev) bool {
	dir := p.char
	if dev.Block {
		dir = p.block
	}
	if dir == sys.None {
		numbers, ok := p.fs.Numbers(devpath)
		return ok && numbers == dev.Numbers()
	}
	n, ok := p.readLink(dir, dev)
	return ok && isLinkTo(p.link[:n], devpath)
}

// readLink reads the link of a device into p.link. Nearly every event needs it, and it never
// waits, so it is a raw system call; see package sys.
func (p *Presence) readLink(dir int, dev uevent.Dev) (length int, ok bool) {
	name := append([]byte(dev.Numbers()), 0)
	n, _, errno := unix.RawSyscall6(unix.SYS_READLINKAT, uintptr(dir), uintptr(unsafe.Pointer(&name[0])),
		uintptr(unsafe.Pointer(&p.link)), uintptr(len(p.link)), 0, 0)
	return int(n), errno == 0
}

// Stale reports whether /sys shows that an event comes too late to be acted on: an add of a
// device that is not present any more, or a remove of one that is present again. Where there
// is no sysfs no event is stale, and no other action ever is.
func (p *Presence) Stale(e *uevent.Event) bool {
	switch e.Action {
	case uevent.Add, uevent.Move:
		return !e.Dev.IsZero() && !p.Has(e.Devpath, e.Dev) && p.fs.Mounted()
	case uevent.Remove:
		if e.Dev.IsZero() {
			_, present := p.fs.Numbers(e.Devpath)
			return present
		}
		return p.Has(e.Devpath, e.Dev)
	}
	return false
}

// isLinkTo reports whether the text of a link in sysfs leads to devpath: "../" any number of
// times, then the devpath.
func isLinkTo(link []byte, devpath string) bool {
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
