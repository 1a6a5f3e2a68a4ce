package broker

import (
	"golang.org/x/sys/unix"

	"devspool/hotplug/spool"
	"devspool/hotplug/sys"
)

// backlog keeps events for the queues that lag, by one link each, however many queues
// wait for it. While any queue lags it keeps every event, also those that such a queue
// does not want: so a number that is missing was lost.
type backlog struct {
	dir     int
	events  []uint64          // the numbers of the events, ascending
	sources map[uint64]uint64 // of those that came out of a queue, its inode
	limit   int               // of events

	*base
}

// add keeps event n, which came out of the queue with the inode source, or 0. Past the
// limit it drops the oldest; a queue that waits for that gets a gap instead.
func (bl *backlog) add(f *eventFile, n, source uint64) {
	if source != 0 {
		bl.sources[n] = source
	}
	if err := bl.files.link(f, bl.dir, bl.name(n)); err != nil {
		delete(bl.sources, n)
		bl.notice("cannot keep an event for slow queues: " + err.Error())
		return
	}
	f.kept = true
	bl.events = append(bl.events, n)
	for len(bl.events) > bl.limit {
		bl.dropOldest()
	}
}

// dropOldest drops the first event. Its file goes with its last link, so queues that
// have it keep it.
func (bl *backlog) dropOldest() {
	n := bl.events[0]
	unix.Unlinkat(bl.dir, bl.name(n), 0)
	delete(bl.sources, n)
	bl.events = bl.events[1:]
}

// dropBelow drops the events with numbers below first, for which no queue waits.
func (bl *backlog) dropBelow(first uint64) {
	for len(bl.events) > 0 && bl.events[0] < first {
		bl.dropOldest()
	}
}

// name returns the name of event n in the backlog. The queue that it came out of, if
// any, is a part of the name, because the event must not return there.
func (bl *backlog) name(n uint64) string {
	if ino := bl.sources[n]; ino != 0 {
		return spool.EventName(n) + spool.EventName(ino)
	}
	return spool.EventName(n)
}

// load lists what is kept, as other publishers left it. No text is read.
func (bl *backlog) load() {
	bl.events, bl.sources = nil, map[uint64]uint64{}
	names := sys.List(bl.dir)
	sys.Sort(names) // and so by number, as they begin with it
	for _, name := range names {
		if n, ok := spool.EventNumber(name[:min(spool.NameLength, len(name))]); ok {
			bl.events = append(bl.events, n)
			if ino, ok := spool.EventNumber(name[spool.NameLength:]); ok {
				bl.sources[n] = ino
			}
		}
	}
}

// read returns the text of event n.
func (bl *backlog) read(n uint64) (string, error) {
	fd, err := unix.Openat(bl.dir, bl.name(n), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	text, err := sys.ReadAll(fd, spool.MaxEvent)
	unix.Close(fd)
	return text, err
}

// link links event n into a directory.
func (bl *backlog) link(n uint64, dir int) error {
	return unix.Linkat(bl.dir, bl.name(n), dir, spool.EventName(n), 0)
}
