package broker

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"devspool/hotplug/procfs"
	"devspool/hotplug/spool"
	"devspool/hotplug/sys"
)

// records keeps what the next publisher must know of each queue, in a file that is named
// after the queue's inode. The file holds numbers: the owner, when the queue was first
// seen without one, the cursor, and what head and tail point to. One system call writes
// all of them in place, so no reader sees half of a record.
type records struct {
	dir     int
	notices *notices
}

// recordNumbers is how many numbers a record has.
const recordNumbers = 9

func recordName(q *queue) string { return strconv.FormatUint(q.ino, 10) }

// read reads the record of q. A new queue has none.
func (r *records) read(q *queue) {
	fd, err := unix.Openat(r.dir, recordName(q), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	text, err := sys.ReadAll(fd, 4096)
	words := strings.Fields(text)
	if err != nil || len(words) != recordNumbers {
		return
	}
	var n [recordNumbers]uint64
	for i, word := range words {
		if n[i], err = strconv.ParseUint(word, 10, 64); err != nil {
			return
		}
	}
	o := &q.owner
	o.creator.Process = procfs.Process{Pid: int(n[0]), Start: n[1]}
	o.byName.Process = procfs.Process{Pid: int(n[2]), Start: n[3]}
	o.hasLock, o.ownerless = n[4] != 0, int64(n[5])
	q.cursor, q.head, q.tail = n[6], n[7], n[8]
	o.known = true
}

// write writes the record of q.
func (r *records) write(q *queue) {
	if q.record == sys.None {
		fd, err := sys.OwnFile(r.dir, recordName(q), unix.O_WRONLY)
		if err != nil {
			r.failed(err)
			return
		}
		q.record = fd
	}
	o := &q.owner
	hasLock := uint64(0)
	if o.hasLock {
		hasLock = 1
	}
	var b [recordNumbers * (spool.NameLength + 1)]byte
	text := b[:0]
	for _, n := range [recordNumbers]uint64{uint64(o.creator.Pid), o.creator.Start, uint64(o.byName.Pid), o.byName.Start,
		hasLock, uint64(o.ownerless), q.cursor, q.head, q.tail} {
		text = append(append(text, spool.EventName(n)...), ' ')
	}
	n, err := unix.Pwrite(q.record, text, 0)
	if err == nil && n < len(text) {
		err = unix.ENOSPC
	}
	if err != nil {
		r.failed(err)
	}
	if q.cursor == 0 && !q.hasLinks {
		sys.CloseAll(&q.record) // it is seldom written
	}
}

func (r *records) failed(err error) {
	r.notices.once("cannot record the state of a queue: " + err.Error())
}

func (r *records) remove(q *queue) { unix.Unlinkat(r.dir, recordName(q), 0) }

// sweep removes the records of queues that are gone.
func (r *records) sweep(queues map[uint64]*queue) {
	for _, name := range sys.List(r.dir) {
		ino, err := strconv.ParseUint(name, 10, 64)
		if err == nil && queues[ino] == nil {
			unix.Unlinkat(r.dir, name, 0)
		}
	}
}
