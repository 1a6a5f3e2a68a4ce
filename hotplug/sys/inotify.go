package sys

import (
	"bytes"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// NewInotify returns an inotify descriptor that does not block and is closed on exec.
func NewInotify() (int, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return None, err
	}
	return fd, nil
}

// WatchDirectory adds a watch of the directory that fd is open on, and returns its watch
// descriptor. Without /proc, as early in a boot, it watches the directory at path instead.
func WatchDirectory(inotify, fd int, path string, mask uint32) (int32, error) {
	mask |= unix.IN_ONLYDIR
	watch, err := unix.InotifyAddWatch(inotify, "/proc/self/fd/"+strconv.Itoa(fd), mask)
	if err == unix.ENOENT {
		watch, err = unix.InotifyAddWatch(inotify, path, mask|unix.IN_DONT_FOLLOW)
	}
	return int32(watch), err
}

// maxInotifyEvents is how many events one call of ReadInotify takes: as many as the kernel
// keeps for one descriptor (/proc/sys/fs/inotify/max_queued_events). So a process that causes
// events all the time cannot hold up the caller.
const maxInotifyEvents = 16384

// ReadInotify calls seen for each event that is queued in a descriptor of NewInotify. The event
// and its name are valid during the call only. overflow reports that the kernel dropped events,
// more that further events may be queued.
func ReadInotify(fd int, buf []byte, seen func(e *unix.InotifyEvent, name []byte)) (overflow, more bool) {
	for count := 0; count < maxInotifyEvents; {
		size, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)))
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 || int(size) < unix.SizeofInotifyEvent {
			return overflow, false
		}
		n, lost := EachInotifyEvent(buf[:size], seen)
		overflow = overflow || lost
		count += n
	}
	return overflow, true
}

// EachInotifyEvent calls seen for each event in buf, as a read of an inotify descriptor returned
// them (inotify(7)). name is empty where the event is about the watched file or directory itself.
// It returns how many events there were, and whether the kernel dropped others.
func EachInotifyEvent(buf []byte, seen func(e *unix.InotifyEvent, name []byte)) (count int, overflow bool) {
	for len(buf) >= unix.SizeofInotifyEvent {
		e := (*unix.InotifyEvent)(unsafe.Pointer(&buf[0]))
		end := unix.SizeofInotifyEvent + int(e.Len)
		if end > len(buf) {
			break
		}
		name := buf[unix.SizeofInotifyEvent:end]
		if at := bytes.IndexByte(name, 0); at >= 0 {
			name = name[:at]
		}
		seen(e, name)
		overflow = overflow || e.Mask&unix.IN_Q_OVERFLOW != 0
		buf = buf[end:]
		count++
	}
	return count, overflow
}
