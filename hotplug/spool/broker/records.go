package broker

import (
	"strconv"

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
	dir    int
	notice func(text string)
}

// A record has so many numbers, each of twenty digits and a space.
const (
	recordNumbers = 9
	recordField   = spool.NameLength + 1
	recordSize    = recordNumbers * recordField
)

// recordName is the inode: a queue keeps it when it is renamed, and no name of a client's
// choice gets into a path.
func recordName(q *queue) string { return strconv.FormatUint(q.ino, 10) }

// read reads the record of q. A new queue has none.
func (r *records) read(q *queue) {
	fd, err := unix.Openat(r.dir, recordName(q), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	// One byte more than a record has, so that a longer file is noticed and left alone.
	text, err := sys.ReadAll(fd, recordSize+1)
	unix.Close(fd)
	if err != nil || len(text) != recordSize {
		return
	}
	var n [recordNumbers]uint64
	for i := range n {
		var ok bool
		if n[i], ok = spool.EventNumber(text[i*recordField:][:spool.NameLength]); !ok {
			return
		}
	}
	o := &q.owner
	o.creator.become(procfs.Process{Pid: int(n[0]), Start: n[1]})
	o.byName.become(procfs.Process{Pid: int(n[2]), Start: n[3]})
	o.kind, o.ownerless = ownerCreator, int64(n[5])
	if n[4] != 0 {
		o.kind = ownerLock
	}
	q.cursor, q.head, q.tail = n[6], n[7], n[8]
}

// write writes the record of q.
func (r *records) write(q *queue) {
	var err error
	if q.record == sys.None {
		q.record, err = sys.OwnFile(r.dir, recordName(q), unix.O_WRONLY)
	}
	o := &q.owner
	hasLock := uint64(0)
	if o.kind == ownerLock {
		hasLock = 1
	}
	var b [recordSize]byte
	text := b[:0]
	for _, n := range [recordNumbers]uint64{uint64(o.creator.Pid), o.creator.Start, uint64(o.byName.Pid), o.byName.Start,
		hasLock, uint64(o.ownerless), q.cursor, q.head, q.tail} {
		text = append(append(text, spool.EventName(n)...), ' ')
	}
	if err == nil {
		var n int
		if n, err = unix.Pwrite(q.record, text, 0); err == nil && n < len(text) {
			err = unix.ENOSPC
		}
	}
	if err != nil {
		r.notice("cannot record the state of a queue: " + err.Error())
	}
	// A queue that lags or has links is recorded again and again, so its file stays open.
	if q.cursor == 0 && !q.hasLinks {
		sys.CloseAll(&q.record) // it is seldom written
	}
}

// sweep removes the records of queues that are gone.
func (r *records) sweep(queues map[uint64]*queue) {
	for _, name := range sys.List(r.dir) {
		ino, err := strconv.ParseUint(name, 10, 64)
		if err == nil && queues[ino] == nil {
			unix.Unlinkat(r.dir, name, 0)
		}
	}
}
