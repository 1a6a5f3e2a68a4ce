package spool

import (
	"slices"

	"golang.org/x/sys/unix"

	"devspool/hotplug/procfs"
	"devspool/hotplug/sys"
)

// Queue is what can be told of a queue from outside.
type Queue struct {
	Name   string
	UID    int
	PID    int  // the process that it lives by; 0 where none can be seen
	Sticky bool // it needs none
	Unread int  // events that wait in it; -1 where it may not be looked into
}

// Queues returns the live queues in a root, by name. It needs no rights but those
// to look, and changes nothing.
func Queues(root string) ([]Queue, error) {
	fd, err := unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, Failed("open", root, err)
	}
	defer unix.Close(fd)
	names := sys.List(fd)
	slices.Sort(names)
	locks, _ := sys.ReadKernelFile("/proc/locks")
	var queues []Queue
	for _, name := range names {
		var st unix.Stat_t
		err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW)
		if err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR || name[0] == '.' {
			continue
		}
		q := Queue{Name: name, UID: int(st.Uid), Unread: -1}
		if q.PID = procfs.FlockHolder(locks, uint64(st.Dev), st.Ino); q.PID == 0 {
			q.PID = OwnerNamed(name, st.Uid).Pid
		}
		q.lookInto(fd)
		queues = append(queues, q)
	}
	return queues, nil
}

func (q *Queue) lookInto(root int) {
	fd, err := unix.Openat(root, q.Name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	q.Sticky = sys.Exists(fd, StickyFile)
	unread, _ := EventNames(fd)
	q.Unread = len(unread)
}
