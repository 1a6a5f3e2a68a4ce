package identity

import (
	"bytes"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// loopInfo is struct loop_info64 of linux/loop.h.
type loopInfo struct {
	device, inode, rdevice, offset, sizeLimit uint64
	number, encryptType, keySize, flags       uint32
	fileName, cryptName                       [64]byte
	key                                       [32]byte
	init                                      [2]uint64
}

// loopDisk tells a loop device by the file behind it. A partition of it inherits that.
func (s *subject) loopDisk(*dir, string) {
	fd := s.wholeFd()
	if fd < 0 {
		return
	}
	var info loopInfo
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.LOOP_GET_STATUS64, uintptr(unsafe.Pointer(&info))); errno != 0 {
		return
	}
	s.set("ID_LOOP_BACKING_DEVICE", decimal(uint64(unix.Major(info.device)))+":"+decimal(uint64(unix.Minor(info.device))))
	s.set("ID_LOOP_BACKING_INODE", strconv.FormatUint(info.inode, 10))
	end := bytes.IndexByte(info.fileName[:], 0)
	// A name that fills the field was cut off, and so is none.
	if end <= 0 || end == len(info.fileName)-1 {
		return
	}
	name := string(info.fileName[:end])
	s.set("ID_LOOP_BACKING_FILENAME", name)
	s.set("ID_LOOP_BACKING_FILENAME_ENC", encode(name))
}

func (s *subject) linkLoop(suffix string) {
	device, inode := s.id.Get("ID_LOOP_BACKING_DEVICE"), s.id.Get("ID_LOOP_BACKING_INODE")
	if device == "" {
		return
	}
	s.link("disk/by-loop-inode", device+"-"+inode+suffix)
	if name := s.id.Get("ID_LOOP_BACKING_FILENAME_ENC"); name != "" {
		s.link("disk/by-loop-ref", name+suffix)
	}
}

func parseUint64(text string) uint64 {
	n, _ := strconv.ParseUint(text, 10, 64)
	return n
}
