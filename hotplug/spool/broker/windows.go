package broker

import (
	"golang.org/x/sys/unix"

	"devspool/hotplug/spool"
)

// windows says how many unread files a queue may have.
type windows struct {
	limit int // Options.Window
	fair  int // the fair window of every queue on this file system; 0 before the first divide
	space *space
}

// The window of a libudev-compat queue: what that library's socket takes.
const (
	libudevWindow = 24      // events
	libudevBytes  = 100_000 // of their texts
)

// divide divides the file system among so many queues, and reports whether the window
// has become smaller. Each link uses an inode of the tmpfs: the windows together take
// half of them, so that no queue can starve the others.
func (w *windows) divide(queues int) (smaller bool) {
	fair := w.limit
	limits := w.space.limits()
	files, blocks := limits[0], limits[1]
	if files > 0 {
		fair = min(fair, max(1, files/2/max(1, queues)))
	}
	// Not divided by the queues: an event has its blocks once, however many queues it is in.
	if blocks > 0 {
		fair = min(fair, max(1, blocks/4))
	}
	smaller = fair < w.fair
	w.fair = fair
	return smaller
}

// of returns how many unread files q may have.
func (w *windows) of(q *queue) int {
	if q.root.libudev {
		return min(libudevWindow, w.fair)
	}
	return w.fair
}

// hasRoom reports whether another event, of size bytes, fits into q. It counts the files
// only where the room that it found last is used up. All entries of the directory count, so
// dot files, head and tail take of the window too.
func (w *windows) hasRoom(q *queue, size int) bool {
	if q.root.libudev {
		return w.hasRoomLibudev(q, size)
	}
	// The room that was found last is a lower bound, since clients only remove.
	if q.room <= 0 {
		q.room = w.of(q) - w.space.entries(q.fd)
	}
	if q.room <= 0 && q.isRing {
		w.wrap(q)
	}
	return q.room > 0
}

// wrap removes the oldest events of a ring, until half of its window is free. The half makes it
// list the directory once for many events, not for each.
func (w *windows) wrap(q *queue) {
	names, _ := spool.EventNames(q.fd)
	for _, name := range names[:max(0, len(names)-w.of(q)/2)] {
		unix.Unlinkat(q.fd, name, 0)
	}
	q.room = w.of(q) - w.space.entries(q.fd)
}

// hasRoomLibudev counts each time: the window is small, and its bytes are limited too.
// The files that are still there are the last that were put there.
func (w *windows) hasRoomLibudev(q *queue, size int) bool {
	unread := w.space.entries(q.fd)
	bytes := size
	for i := range unread {
		if at := len(q.sizes) - 1 - i; at >= 0 {
			bytes += q.sizes[at]
		} else {
			bytes += 4096 // put there by another process
		}
	}
	// An empty queue takes an event of any size: it would never have more room for it.
	return unread < w.of(q) && (unread == 0 || bytes <= libudevBytes)
}

// fill notes that an event of size bytes was put into q. Only a queue of libudev-compat has a limit
// of bytes, so elsewhere size does not count.
func (q *queue) fill(size int) {
	q.room--
	if q.root.libudev {
		if len(q.sizes) == libudevWindow {
			q.sizes = append(q.sizes[:0], q.sizes[1:]...)
		}
		q.sizes = append(q.sizes, size)
	}
}
