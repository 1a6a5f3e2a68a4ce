package spool

import (
	"golang.org/x/sys/unix"

	"devspool/hotplug/procfs"
	"devspool/hotplug/sys"
)

// Queue describes a queue as another process sees it.
type Queue struct {
	Name   string
	UID    int  // the user that owns it
	PID    int  // the process that keeps it alive; 0 where none is visible
	Sticky bool // it needs no process; false where it may not be read
	Unread int  // events that wait in it; -1 where it may not be read
}

// Queues returns the live queues in a root, by name. It changes nothing, and needs no
// right but that to read the root.
func Queues(root string) ([]Queue, error) {
	fd, err := unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, pathError("open", root, err)
	}
	defer unix.Close(fd)
	names := sys.List(fd)
	sys.Sort(names)
	locks, _ := sys.ReadFile("/proc/locks")
	var queues []Queue
	for _, name := range names {
		var st unix.Stat_t
		err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW)
		if err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR || name[0] == '.' {
			continue
		}
		q := Queue{Name: name, UID: int(st.Uid), Unread: -1}
		// By /proc/locks: to try the lock would hold it for a moment, and a client that does
		// not wait for it would take it for another's.
		if q.PID = procfs.FlockHolder(locks, uint64(st.Dev), st.Ino); q.PID == 0 {
			q.PID = OwnerNamed(name, st.Uid).Pid
		}
		q.readFiles(fd)
		queues = append(queues, q)
	}
	return queues, nil
}

// readFiles fills in what the files in the queue tell, where they may be read.
func (q *Queue) readFiles(root int) {
	fd, err := unix.Openat(root, q.Name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	q.Sticky = sys.Exists(fd, StickyFile)
	unread, _ := EventNames(fd)
	q.Unread = len(unread)
}
