package identity

import (
	"bytes"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
	"devspool/hotplug/uevent"
)

// readable reports whether the device is an input device that has a size, or a disk that holds
// something which can be read now: not a loop device without a file, a reader without a card, an array that stands
// still. The boot areas of an eMMC chip hold no file system.
func (s *subject) readable() bool {
	name := s.e.Sysname()
	if s.e.Subsystem == "input" {
		return s.hasSize()
	}
	if s.e.Subsystem != "block" || !matchAny("dm-#|md*|"+storage, name) || match("mmcblk*boot#", name) {
		return false
	}
	if size := s.dev.value("size"); size == "" || size == "0" {
		return false
	}
	if !match("dm-#", name) {
		return true
	}
	s.readFlags()
	return !s.hidden()
}

// openDisk opens the device, and for a partition its disk. A partition that has just come is
// read as a part of its disk: the kernel reads no partition table anew while a partition is
// open (EBUSY from BLKRRPART). Others may hold things of it in the kernel's cache that the
// disk does not have yet, so that these are opened themselves.
func (s *subject) openDisk() {
	if s.base != s.dev {
		s.whole = s.openAt(s.base)
	}
	if s.whole < 0 || s.e.Action != uevent.Add {
		if fd, err := s.p.Open(s.e.Dev); err == nil {
			s.fd = fd
		}
	}
	// As in udevd, no lock is taken of devices of device-mapper and md.
	if fd := s.wholeFd(); fd >= 0 && s.e.Dev.Block && !matchAny("dm-#|md*", s.e.Sysname()) && !lock(fd) {
		s.closeDisk()
		// A tool still changes the disk: what its contents gave it before holds.
		s.fd, s.whole, s.id.Keep = -1, -1, true
	}
}

// lockLimit is how long a disk may be locked before it goes unread.
const lockLimit = 8 * time.Second

// lock takes the lock by which tools keep others from a disk while they change it, shared.
// udevd does so too; see systemd's BLOCK_DEVICE_LOCKING. The lock ends when fd is closed.
func lock(fd int) (ok bool) {
	for begun := sys.Now(); ; time.Sleep(sys.PollInterval) {
		// Any other error counts as a lock: what cannot be locked is read all the same.
		if err := sys.Flock(fd, unix.LOCK_SH|unix.LOCK_NB); err != unix.EWOULDBLOCK {
			return true
		}
		if begun.Age() > lockLimit {
			return false
		}
	}
}

// openAt opens the disk of a directory of sysfs, and returns -1 where it cannot.
func (s *subject) openAt(d *dir) int {
	major, minor, ok := uevent.ParseNumbers(d.value("dev"))
	if !ok {
		return -1
	}
	fd, err := s.p.Open(uevent.Dev{Block: true, Major: major, Minor: minor})
	if err != nil {
		return -1
	}
	return fd
}

// closeDisk closes both, and with them ends the lock.
func (s *subject) closeDisk() {
	for _, fd := range [...]int{s.fd, s.whole} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// wholeFd returns the open disk itself, for a partition that it lies on, or -1.
func (s *subject) wholeFd() int {
	if s.base != s.dev {
		return s.whole
	}
	return s.fd
}

// contents adds what an open disk holds.
func (s *subject) contents() {
	if s.fd < 0 && s.whole < 0 {
		return
	}
	d := Disk{Fd: s.fd, Optical: strings.HasPrefix(s.e.Sysname(), "sr"), Whole: s.whole}
	// Without a disc there is nothing to read.
	if d.Optical {
		if !discPresent(s.fd) {
			return
		}
		s.set("ID_CDROM_MEDIA", "1")
	}
	if s.base != s.dev {
		d.Numbers = s.base.value("dev")
		// A partition's name ends in its number: sda1, nvme0n1p1.
		d.Partition, _ = strconv.Atoi(s.id.Get(".N"))
		d.Start, d.Size = parseUint64(s.dev.value("start")), parseUint64(s.dev.value("size"))
	}
	if s.p.Contents != nil {
		for _, kv := range s.p.Contents(d) {
			key, value, _ := strings.Cut(kv, "=")
			s.set(key, value)
		}
	}
}

// parseUint64 reads a decimal number of sysfs. It returns 0 where there is none.
func parseUint64(text string) uint64 {
	n, _ := strconv.ParseUint(text, 10, 64)
	return n
}

// loopInfo is struct loop_info64 of linux/loop.h.
type loopInfo struct {
	device, inode, rdevice, offset, sizeLimit uint64
	number, encryptType, keySize, flags       uint32
	fileName, cryptName                       [64]byte
	key                                       [32]byte
	init                                      [2]uint64
}

// loop tells a loop device by the file behind it. A partition of it inherits that.
func (s *subject) loop() {
	var info loopInfo
	if s.wholeFd() < 0 {
		return
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(s.wholeFd()), unix.LOOP_GET_STATUS64, uintptr(unsafe.Pointer(&info))); errno != 0 {
		return
	}
	name := string(info.fileName[:max(0, bytes.IndexByte(info.fileName[:], 0))])
	if len(name) == len(info.fileName)-1 {
		name = "" // it fills the field: it was cut off
	}
	s.setAll("ID_LOOP_BACKING_", "DEVICE INODE FILENAME FILENAME_ENC", []string{
		decimal(uint64(unix.Major(info.device))) + ":" + decimal(uint64(unix.Minor(info.device))),
		decimal(info.inode), name, encode(name)})
}
