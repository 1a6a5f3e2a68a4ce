package udev

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
	"devspool/hotplug/uevent"
)

// A cookie of libdevmapper's names a System V semaphore on which a program such as
// dmsetup or lvcreate waits: the program adds one for each ioctl, the kernel gives the
// cookie to the ioctl's event as DM_COOKIE, and the device manager subtracts one when the
// event is at its end. The upper 16 bits of DM_COOKIE are flags; the key has a fixed
// value in their place (libdm/libdevmapper.h, libdm-common.c in LVM2's sources). An event
// that is not completed blocks that program for ever.
const (
	cookieKey   = "DM_COOKIE"
	cookieMagic = 0x0d4d << 16 // DM_COOKIE_MAGIC, in the place of the flags
	cookieBase  = 0xffff       // the bits that DM_COOKIE and the key have in common
)

// cookieOf returns the number that an event's cookie has, or 0 for none.
func cookieOf(e *uevent.Event) uint32 {
	// device-mapper's devices are disks. Nothing else may touch semaphores by its event.
	if !e.Dev.Block {
		return 0
	}
	// The kernel prints it in decimal, with the flags (dm_kobject_uevent in drivers/md/dm.c).
	text, _ := e.Get(cookieKey)
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return 0
	}
	return uint32(n)
}

// completeCookie tells the process that waits for the event that it is done. Where the
// semaphore is gone, or is 0 already, no process waits for the cookie.
func completeCookie(cookie uint32) error {
	// The flags concern udev's rules alone, so they are cut off.
	id, err := sys.Semget(int32(cookie&cookieBase | cookieMagic))
	// Semop does not wait: at 0 it fails with EAGAIN.
	if err == nil {
		err = sys.Semop(id, -1)
	}
	switch err {
	// EIDRM and EINVAL: it was removed between the two calls. ENOSYS: the kernel has no semaphores, and so no
	// process waits for one.
	case unix.ENOENT, unix.EIDRM, unix.EINVAL, unix.EAGAIN, unix.ENOSYS:
		return nil
	}
	return err
}

// RecoverCookies completes the cookies of events that were lost: sent while no loop
// listened, or dropped by an overrun. It reports whether all are: call it when the first
// scan is over, and after an overrun, and again every second or so until it returns true. It
// does not while a semaphore counts events for which nobody waits yet.
//
// idle is asked after the semaphores were looked at. It is to report that no event is
// under way, and none waits in the kernel's socket. The event of a cookie is sent before
// anybody waits for the semaphore, so where one waits and idle holds it is lost.
func (u *Udev) RecoverCookies(idle func() bool) (all bool) {
	// The order counts: an event that comes between the two looks makes idle false.
	waited, pending := waitedCookies()
	if !idle() {
		return false
	}
	for _, id := range waited {
		if value, err := sys.Semctl(id, sys.SemValue); err == nil && value > 0 {
			_ = sys.Semop(id, int16(-min(value, 1<<15-1))) // it may be gone by now
		}
	}
	return len(waited) == 0 && !pending
}

// waitedCookies returns the semaphores of cookies that a process waits for, and whether
// there are others with events under way: until somebody waits a cookie counts one more.
func waitedCookies() (ids []int, pending bool) {
	text, _ := sys.ReadFile("/proc/sysvipc/sem")
	for text != "" {
		var line string
		line, text, _ = strings.Cut(text, "\n")
		// Only semaphores of root with one member are looked at. The first line, of headings, has
		// other words.
		words := strings.Fields(line) // key, id, permissions, how many, owner, ...
		if len(words) < 5 || words[3] != "1" || words[4] != "0" {
			continue
		}
		// The kernel prints the key as a signed int of 32 bits.
		key, err := strconv.ParseInt(words[0], 10, 33)
		if err != nil || key&^cookieBase != cookieMagic {
			continue
		}
		id, err := strconv.Atoi(words[1])
		if err != nil {
			continue
		}
		// Programs wait for 0 when all of their ioctls are done: from then on the value only falls.
		if n, err := sys.Semctl(id, sys.SemZeroWaiters); err == nil && n > 0 {
			ids = append(ids, id)
		} else if value, err := sys.Semctl(id, sys.SemValue); err == nil && value > 1 {
			pending = true
		}
	}
	return ids, pending
}
