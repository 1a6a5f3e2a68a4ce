package spool

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"devspool/hotplug/sys"
)

// notifier tells a reader that its queue holds unread events: its descriptor is readable
// for as long as it is set, and when files come.
//
// inotify alone cannot do it: it must be drained before the queue is listed, and then
// would not report the files that the list holds. So an eventfd in the same epoll set
// stands for files that were listed and not read. Which files inotify reports is never
// looked at, so nothing is lost when it overflows.
type notifier struct {
	_       [0]func()   // not comparable, which spares the program a function
	poller  *sys.Poller // of the two below
	inotify int         // reports files that come, and the end of the queue
	listed  int         // an eventfd; readable while isSet
	isSet   bool
	renamed bool // the queue was renamed or removed
}

// newNotifier returns a notifier for the queue at path.
func newNotifier(path string) (*notifier, error) {
	n := &notifier{inotify: sys.None, listed: sys.None}
	if op, err := n.open(path); err != nil {
		n.close()
		return nil, pathError(op, path, err)
	}
	return n, nil
}

// open returns the system call that failed with the error.
func (n *notifier) open(path string) (op string, err error) {
	if n.inotify, err = sys.NewInotify(); err != nil {
		// The kernel returns EMFILE for the user's limit of instances as well as for the limit
		// of descriptors.
		if err == unix.EMFILE {
			err = errInotifyLimit
		}
		return "inotify_init1", err
	}
	// A publisher links each whole file into the queue, which is IN_CREATE; its head and tail links, which
	// are renamed into it, are no events. The end of the queue is IN_MOVE_SELF or IN_IGNORED.
	const mask = unix.IN_CREATE | unix.IN_MOVE_SELF | unix.IN_ONLYDIR | unix.IN_DONT_FOLLOW
	if _, err = unix.InotifyAddWatch(n.inotify, path, mask); err != nil {
		return "inotify_add_watch", err
	}
	if n.listed, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		n.listed = sys.None
		return "eventfd", err
	}
	if n.poller, err = sys.NewPoller(path); err == nil {
		err = n.poller.Add(n.inotify, unix.EPOLLIN, 0)
	}
	if err == nil {
		err = n.poller.Add(n.listed, unix.EPOLLIN, 0)
	}
	return "epoll_ctl", err
}

// set says whether there are events that were listed and not read.
func (n *notifier) set(unread bool) error {
	if unread == n.isSet {
		return nil
	}
	// An eventfd takes and gives 8 bytes: a write of 1 makes it readable, a read takes it back to 0.
	var count [8]byte
	binary.NativeEndian.PutUint64(count[:], 1)
	var err error
	if unread {
		_, err = unix.Write(n.listed, count[:])
	} else {
		_, err = unix.Read(n.listed, count[:])
	}
	if err == nil {
		n.isSet = unread
	}
	return err
}

// drain empties inotify: only what comes from now on makes the descriptor readable.
func (n *notifier) drain() {
	var buf [4096]byte
	for more := true; more; {
		_, more = sys.ReadInotify(n.inotify, buf[:], func(e *unix.InotifyEvent, _ []byte) {
			n.renamed = n.renamed || e.Mask&(unix.IN_MOVE_SELF|unix.IN_IGNORED) != 0
		})
	}
}

// interrupt ends the wait of a goroutine for the notifier.
func (n *notifier) interrupt() {
	if n.poller != nil {
		n.poller.Close()
	}
}

// close may be called where open has failed half way, and again.
func (n *notifier) close() {
	n.interrupt()
	sys.CloseAll(&n.inotify, &n.listed)
}
