package spool

import (
	"encoding/binary"
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
)

// bell tells a reader that its queue holds unread events: a descriptor that is
// readable for as long as it rings.
//
// inotify alone could not do it: it has to be emptied before the queue is listed,
// and for what is found then it would be silent. So an eventfd in the same epoll
// set stands for events that were seen and not read. Which files inotify tells of
// is never looked at, so nothing is lost when it overflows.
type bell struct {
	epoll, inotify, seen int

	file    *os.File // epoll, for Go's poller
	ringing bool     // what seen says
	moved   bool     // the queue is no longer where it was
}

// newBell returns a bell for the queue at path.
func newBell(path string) (*bell, error) {
	b := &bell{epoll: sys.None, inotify: sys.None, seen: sys.None}
	if err := b.open(path); err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

// errInstances is returned where the user has as many instances of inotify as the
// kernel allows, or this process as many descriptors.
var errInstances = errors.New("too many open files, or more clients of this user than fs.inotify.max_user_instances")

func (b *bell) open(path string) (err error) {
	b.inotify, err = unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err == unix.EMFILE {
		return errInstances
	}
	if err != nil {
		return err
	}
	const mask = unix.IN_CREATE | unix.IN_MOVE_SELF | unix.IN_ONLYDIR | unix.IN_DONT_FOLLOW
	if _, err = unix.InotifyAddWatch(b.inotify, path, mask); err != nil {
		return err
	}
	if b.seen, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return err
	}
	if b.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return err
	}
	if err = unix.SetNonblock(b.epoll, true); err != nil { // or Go's poller would not have it
		return err
	}
	b.file = os.NewFile(uintptr(b.epoll), path)
	for _, fd := range []int{b.inotify, b.seen} {
		if err = unix.EpollCtl(b.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN}); err != nil {
			return err
		}
	}
	return nil
}

// ring sets whether there are events that were seen and not read.
func (b *bell) ring(on bool) {
	if on == b.ringing {
		return
	}
	var count [8]byte
	binary.NativeEndian.PutUint64(count[:], 1)
	if b.ringing = on; on {
		unix.Write(b.seen, count[:])
	} else {
		unix.Read(b.seen, count[:])
	}
}

// hush empties inotify; what comes from now on rings anew.
func (b *bell) hush() {
	const maskAt, lenAt = 4, 12 // of an inotify_event's fields
	var buf [4096]byte
	for {
		n, err := unix.Read(b.inotify, buf[:])
		if n <= 0 && err != unix.EINTR {
			return
		}
		for event := buf[:max(n, 0)]; len(event) >= unix.SizeofInotifyEvent; {
			mask := binary.NativeEndian.Uint32(event[maskAt:])
			b.moved = b.moved || mask&(unix.IN_MOVE_SELF|unix.IN_IGNORED) != 0
			event = event[unix.SizeofInotifyEvent+binary.NativeEndian.Uint32(event[lenAt:]):]
		}
	}
}

// wake ends the waiting of whoever waits for the bell by its file.
func (b *bell) wake() { b.file.Close() }

func (b *bell) close() {
	b.wake()
	for _, fd := range []int{b.inotify, b.seen} {
		if fd != sys.None {
			unix.Close(fd)
		}
	}
}
