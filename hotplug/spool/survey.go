package spool

import (
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Queue is what can be told of a queue from outside.
type Queue struct {
	Name   string
	UID    int
	PID    int  // the process that it lives by; 0 where none can be seen
	Sticky bool // it needs none
	Unread int  // events that wait in it; -1 where it may not be looked into
}

// Survey returns the live queues in a root, by name. It needs no rights but those
// to look, and changes nothing.
func Survey(root string) ([]Queue, error) {
	fd, err := unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, failed("open", root, err)
	}
	defer unix.Close(fd)
	names := list(fd)
	slices.Sort(names)
	locks, _ := readFile("/proc/locks")
	var queues []Queue
	for _, name := range names {
		var st unix.Stat_t
		err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW)
		if err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR || name[0] == '.' {
			continue
		}
		q := Queue{Name: name, UID: int(st.Uid), Unread: -1}
		if q.PID = flockHolder(locks, uint64(st.Dev), st.Ino); q.PID == 0 {
			q.PID = namedBy(name, st.Uid).pid
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
	q.Sticky = exists(fd, fileSticky)
	unread, _ := eventNames(fd)
	q.Unread = len(unread)
}

// flockHolder returns the process that holds a flock on a file, by what /proc/locks
// says, or 0. The lock itself is not tried: others would see it held.
func flockHolder(locks string, dev, ino uint64) int {
	for line := range strings.Lines(locks) {
		// 1: FLOCK ADVISORY WRITE PID MAJOR:MINOR:INODE START END
		f := strings.Fields(line)
		if len(f) < 6 || f[1] != "FLOCK" {
			continue
		}
		file := strings.Split(f[5], ":")
		if len(file) != 3 || file[2] != strconv.FormatUint(ino, 10) {
			continue
		}
		major, err1 := strconv.ParseUint(file[0], 16, 32)
		minor, err2 := strconv.ParseUint(file[1], 16, 32)
		pid, err3 := strconv.Atoi(f[4])
		if err1 == nil && err2 == nil && err3 == nil && unix.Mkdev(uint32(major), uint32(minor)) == dev {
			return max(0, pid)
		}
	}
	return 0
}
